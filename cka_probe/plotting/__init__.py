"""Figures: each is a frozen dataclass of what it draws; `save` writes one, and `show` shows one in a notebook.

    from cka_probe.plotting import Heatmap, save

    save(Heatmap(result), ["heatmap.pdf"], venue="cvpr")

A new figure is one file with a dataclass of the protocol `Figure`. One that is drawn of a result alone has a line in
`FIGURES` as well, so that `ckaprobe draw` knows it.
"""

from collections.abc import Callable

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


def figures_of(result: SimilarityMatrix) -> dict[str, Figure]:
    """Return the figures that can be drawn of a result, by name."""
    figures = {}
    for name, figure in FIGURES.items():
        try:
            figures[name] = figure(result)
        except DataError:  # such as a matrix without intervals
            continue
    return figures
