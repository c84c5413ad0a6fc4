"""The matrix of a comparison: layer 0 top left, lighter = more similar, undefined cells hatched."""

from dataclasses import dataclass

from matplotlib import figure as mpl
from matplotlib.axes import Axes

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.plotting import labels, style
from cka_probe.plotting.matrix import similarity_map


@dataclass(frozen=True)
class Heatmap:
    """A similarity matrix as colours, up to 12 layers with its numbers.

    Attributes:
        result: What to draw.
    """

    result: SimilarityMatrix

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return similarity_map(self.result).width

    narrowest = width

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        self.draw_on(figure.add_subplot())

    def draw_on(self, ax: Axes) -> Axes:
        """Draw on axes of any figure and return them."""
        cells = similarity_map(self.result)
        cells.draw(ax)
        x, y = labels.model_names(self.result, room=min(18.0, (cells.size[1] + 0.35) * 72 / style.TEXT))
        ax.set(ylabel=x, xlabel=y)
        cells.title(ax, labels.images_line(self.result))
        cells.legend(ax)
        return ax
