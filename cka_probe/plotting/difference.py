"""How much more alike each two layers are in one comparison than in another: first less second, around 0.

Blue is less and brown is more, equally dark; the scale is as long below 0 as above, and ends at a round number. Cells
that differ significantly are dotted, and the lines below say how that was decided and how many of how many cells they
are. A cell that either comparison leaves undefined is hatched.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib import figure as mpl
from matplotlib.axes import Axes

from cka_probe.comparison.results import DifferenceMatrix
from cka_probe.plotting import labels, style
from cka_probe.plotting.matrix import Map, layer_names, mark, rounded_up, ticks_to


@dataclass(frozen=True)
class Difference:
    """The difference of two similarity matrices.

    Attributes:
        result: What to draw.
    """

    result: DifferenceMatrix

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return self._map.width

    narrowest = width

    @cached_property
    def _map(self) -> Map:
        result = self.result
        end = rounded_up(np.abs(result.values[np.isfinite(result.values)]).max(initial=0.0))
        words, ticks = f"difference of {labels.measure_name(result)}", ticks_to(end, below=True)
        return Map(result.values, *layer_names(result), style.DIVERGING, (-end, end), words, ticks)

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        self.draw_on(figure.add_subplot())

    def draw_on(self, ax: Axes) -> Axes:
        """Draw on axes of any figure and return them."""
        cells = self._map
        mesh = cells.draw(ax)
        mark(ax, mesh, self.result.significant, cells.cell)
        x, y = ("layer", "layer") if cells.same_layers else ("layer of x", "layer of y")
        ax.set_ylabel(x, fontsize=style.small())
        ax.set_xlabel("\n".join([y, *self._method()]), fontsize=style.small())
        cells.title(ax, "\n".join(self._names()))
        return ax

    def _names(self) -> list[str]:
        """Return what is subtracted from what, and the number of images, in lines."""
        result, room = self.result, (self._map.size[0] + 0.2) * 72 / style.SMALL
        first, second = labels.short_pair(result.first), labels.short_pair(result.second)
        if first == second and result.first != result.second:
            first, second = result.first, result.second
        names = f"{first} \N{MINUS SIGN} {second}"
        if labels.width(names) <= room:
            return [names, labels.images_line(result)]
        lines = [labels.cut(first, room), f"\N{MINUS SIGN} {labels.cut(second, room - 1.2)}"]
        return [*lines, labels.images_line(result)]

    def _method(self) -> list[str]:
        """Return which cells are dotted and how they were chosen, in lines."""
        result, room = self.result, (self._map.size[0] + 0.8) * 72 / style.SMALL
        level, correction = result.settings.get("level"), result.settings.get("correction")
        test = ", ".join(str(part) for part in (f"{level:.0%}" if level else "", correction or "") if part)
        counts = f"{int(result.significant.sum())} of {int(np.isfinite(result.values).sum())}"
        words = f"dotted: {counts} cells differ" + (f" ({test});" if test else ";") + f" {result.how}"
        hatched = "" if np.isfinite(result.values).all() else "; hatched: undefined"
        return labels.filled(f"{words}{hatched}".split(" "), room)
