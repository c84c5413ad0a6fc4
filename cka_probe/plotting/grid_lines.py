"""What stands under a matrix of a grid: its emphasised values as a line, and the spread of its layers.

Layer stands under layer, so that an index on the map is one here. A layer without a value is hatched, the line has a
gap there, and nothing is drawn of a spread of 0 on a logarithmic axis but the same hatching.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cka_probe.plotting import labels, style
from cka_probe.plotting.pen import Pen

NULL = {"color": "#555555", "linestyle": (0, (3, 1.5))}
SIDES = {"x": style.LINE, "y": style.ARMS[4]}
"""Colours of the spread of the rows' model and of the columns'."""


@dataclass(frozen=True)
class Emphasised:
    """The emphasised cells of one matrix, one for each column.

    Attributes:
        values: (layers,) similarity; NaN where undefined.
        low: (layers,) lower ends of their 95 % intervals.
        high: (layers,) upper ends.
        null: (layers,) 95 % quantiles of chance; NaN where it was not asked for.
        spreads: (layers,) root mean squares of the layers of "x" and, where it is another model, "y".
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    null: np.ndarray
    spreads: Mapping[str, np.ndarray]


def limits(all_read: Sequence[Emphasised]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return bottom and top of all lines, and of all spreads, whole powers of ten."""
    shown = np.concatenate([np.concatenate([r.values, r.low, r.high, r.null]) for r in all_read] or [np.empty(0)])
    spreads = np.concatenate([spread for r in all_read for spread in r.spreads.values()] or [np.empty(0)])
    shown, spreads = shown[np.isfinite(shown)], spreads[np.isfinite(spreads) & (spreads > 0)]
    bottom = np.floor(shown.min() * 5 - 1e-9) / 5 if shown.size and shown.min() < -0.05 else -0.05
    powers = (np.floor(np.log10(spreads.min()) - 1e-9), np.ceil(np.log10(spreads.max()))) if spreads.size else (-1, 0)
    return (float(bottom), max(1.05, float(shown.max(initial=0)))), (10.0 ** powers[0], 10.0 ** powers[1])


def draw_line(panel: Axes, read: Emphasised, between: tuple[float, float], pen: Pen) -> None:
    """Draw the values with the band of their intervals and the dashes of chance."""
    index = np.arange(len(read.values))
    panel.fill_between(index, read.low, read.high, color=style.LINE, alpha=0.22, linewidth=0)
    panel.vlines(index, read.low, read.high, color=style.LINE, linewidth=1.0 * pen.scale, alpha=0.6)
    if np.isfinite(read.null).any():
        panel.stairs(read.null, np.arange(len(index) + 1) - 0.5, baseline=None, linewidth=0.7 * pen.scale, **NULL)
    size = (2.2 if len(index) <= 25 else 1.2) * pen.scale
    panel.plot(index, read.values, "o-", color=style.LINE, linewidth=0.8 * pen.scale, markersize=size)
    _hatch(panel, ~np.isfinite(read.values))
    panel.set_ylim(*between)
    panel.set_yticks([tick for tick in (-1, -0.5, 0, 0.5, 1) if between[0] <= tick <= between[1]])
    _same_layers(panel, len(index))


def draw_spread(panel: Axes, read: Emphasised, between: tuple[float, float], pen: Pen) -> None:
    """Draw the spread of each layer as bars on a logarithmic axis, those of two models beside each other."""
    count = len(read.spreads)
    panel.set_yscale("log")
    panel.set_ylim(*between)
    for place, (side, spread) in enumerate(read.spreads.items()):
        seen = np.isfinite(spread) & (spread > 0)
        middle = np.flatnonzero(seen) + (place - (count - 1) / 2) * 0.8 / count
        panel.bar(middle, spread[seen] - between[0], 0.7 / count, between[0], color=SIDES[side], linewidth=0)
        _hatch(panel, ~seen)
    powers = np.log10(between).round().astype(int)
    panel.set_yticks([10.0**power for power in (powers if powers[1] - powers[0] > 1 else powers[:1])])
    panel.minorticks_off()
    _same_layers(panel, len(read.values))


def name_sides(panel: Axes, name: str, pen: Pen) -> None:
    """Name the axis of the first panel of a row; the others have the same, unnamed."""
    panel.set_ylabel(name, fontsize=pen.sizes.small, labelpad=2 * pen.scale)
    if not name:
        panel.set_yticklabels([])


def key(emphasis: str | None, *, line: bool, spread: bool, chance: bool, undefined: bool) -> list[Artist]:
    """Return what the legend explains, of what is drawn."""
    handles: list[Artist] = []
    if emphasis and line:
        look = {"color": style.LINE, "marker": "o", "markersize": 2.2, "linewidth": 0.8}
        words = {"row": "first row", "diagonal": "diagonal"}[emphasis]
        handles.append(Line2D([], [], **look, label=f"{words} (outlined)"))
        handles.append(Patch(color=style.LINE, alpha=0.22, linewidth=0, label="95 % interval"))
        if chance:
            handles.append(Line2D([], [], linewidth=0.7, **NULL, label="chance, 95 % quantile"))
    if emphasis and spread:
        sides = {"x": "spread (RMS)"} if emphasis == "row" else {"x": "spread (RMS) of rows", "y": "of columns"}
        handles += [Patch(color=SIDES[side], linewidth=0, label=name) for side, name in sides.items()]
    return [*handles, *([style.undefined_key()] if undefined else [])]


def _hatch(panel: Axes, layers: np.ndarray) -> None:
    for layer in np.flatnonzero(layers):
        panel.axvspan(layer - 0.5, layer + 0.5, zorder=0.5, **style.UNDEFINED)


def _same_layers(panel: Axes, count: int) -> None:
    """Give a panel the layers of the map above it."""
    panel.set_xlim(-0.5, count - 0.5)
    step = labels.step_for(1.84 / count, needed=0.13)
    panel.set_xticks(range(0, count, step), [])
    panel.spines[["top", "right"]].set_visible(False)
