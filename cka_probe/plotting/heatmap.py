"""The matrix of a comparison: layer 0 top left, lighter = more similar, undefined cells hatched."""

from dataclasses import dataclass

from matplotlib import figure as mpl
from matplotlib.axes import Axes

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.plotting import labels, matrix, style


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
        (across, _), columns = self._cell, len(self.result.columns)
        return max(style.COLUMN, matrix.names_width(self.result.rows, self._cell) + across * columns + 0.8)

    narrowest = width

    @property
    def _cell(self) -> tuple[float, float]:
        return matrix.cell_size(self.result.values.shape, ["1.00", *matrix.numbers(self.result.values).ravel()])

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        self.draw_on(figure.add_subplot())

    def draw_on(self, ax: Axes) -> Axes:
        """Draw on axes of any figure and return them."""
        result, cell = self.result, self._cell
        ends = matrix.bounds(result.settings, result.values)
        mesh = matrix.draw_cells(
            ax, result.values, matrix.numbers(result.values), style.COLOURS, ends, aspect=cell[1] / cell[0]
        )
        matrix.name_layers(ax, result.rows, result.columns, cell)
        matrix.mark_stages(ax, result.rows, result.columns, cell)
        height = len(result.rows) * cell[1]
        matrix.colour_bar(ax, mesh, labels.measure_name(result), height)
        x, y = labels.model_names(result, room=min(18.0, (height + 0.35) * 72 / style.TEXT))
        ax.set(ylabel=x, xlabel=y)
        matrix.title(ax, labels.images_line(result), result.columns)
        matrix.legend_above(ax, matrix.undefined_key(result.values), result.columns)
        return ax
