"""Figures: each is a frozen dataclass of what is drawn; `save` writes one, `show` shows it in a notebook.

A new figure is one file with a dataclass that has the `Figure` protocol: `width`, `narrowest` and `draw`. One that is
drawn of a result alone has a line in `FIGURES`, too.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from matplotlib.axes import Axes

from cka_probe import registry
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting.figure import Figure, check_format, save, show
from cka_probe.plotting.heatmap import Heatmap
from cka_probe.plotting.profile import Profile
