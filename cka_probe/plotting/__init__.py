"""Figures: each is a frozen dataclass of what it draws; `save` writes one, and `show` shows one in a notebook.

    from cka_probe.plotting import Heatmap, save

    save(Heatmap(result), ["heatmap.pdf"], venue="cvpr")

A new figure is one file with a dataclass of the protocol `Figure`. One that is drawn of a result alone has a line in
`FIGURES` as well, so that `ckaprobe draw` knows it.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting.figure import Figure, check_format, save, show
from cka_probe.plotting.heatmap import Heatmap, Uncertainty
from cka_probe.plotting.profile import Profile

FIGURES: dict[str, Callable[[SimilarityMatrix], Figure]] = {
    "heatmap": Heatmap,
    "profile": Profile,
    "uncertainty": Uncertainty,
}
"""The figures of a result, by the names of their files."""

__all__ = ["FIGURES", "Figure", "Heatmap", "Profile", "Uncertainty", "check_format", "figures_of", "save", "show"]


def figures_of(result: Any, figures: Mapping[str, Callable[[Any], Figure]] = FIGURES) -> dict[str, Figure]:
    """Return the figures that can be drawn of a result, or with `ATLAS_FIGURES` of an atlas, by name."""
    drawable = {}
    for name, figure in figures.items():
        with suppress(DataError):  # such as a matrix without intervals
            drawable[name] = figure(result)
    return drawable
