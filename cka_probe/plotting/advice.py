"""How the intervals of a comparison shrink with the number of images."""

from dataclasses import dataclass

import numpy as np
from matplotlib import figure as mpl
from matplotlib.lines import Line2D

from cka_probe.comparison.advice import TARGETS, Advice
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import add_legend, single_panel


@dataclass(frozen=True)
class HalfWidths:
    """Half-widths of the intervals over some and over all images, and the root law up to the smallest target.

    Attributes:
        advice: What to draw.
    """

    advice: Advice

    width = style.COLUMN
    narrowest = style.COLUMN

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        advice, handles = self.advice, []
        ax = single_panel(figure, "Interval and number of images", "images", "half-width of the 95 % interval")
        last = max(2 * advice.sizes[-1], min(advice.needed(TARGETS[-1]), 64 * advice.sizes[-1]))
        law = np.geomspace(advice.sizes[0], last, 50)
        for number, (name, halves) in enumerate({"widest cell": advice.widest, "median cell": advice.median}.items()):
            look = style.arm(number)
            ax.plot(advice.sizes, halves, **look | {"linestyle": ""})
            expected = halves[-1] * np.sqrt(advice.sizes[-1] / law)
            ax.plot(law, expected, color=look["color"], linewidth=style.points(0.8))
            handles.append(Line2D([], [], **look, label=name))
        for target in TARGETS:
            ax.axhline(target, color=style.GREY, linewidth=style.points(0.4), zorder=0)
        ax.set_xscale("log", base=2)
        ax.set_xticks(advice.sizes, list(map(str, advice.sizes)))
        low = min(advice.median[-1] * np.sqrt(advice.sizes[-1] / last), TARGETS[-1])
        labels.logarithmic(ax, low, max(advice.widest))
        add_legend(figure, handles, title="points: over some or all of the images; lines: the root law")
