"""Patterns that are painted on surfaces in three dimensions, so that every camera sees the same ones.

A pattern is a function of the position of a point on its surface and of the two colours of its material. What an image
shows then moves with the surface and not with the pixel grid, as photometric losses require. For the same reason no
surface is perfectly plain.
"""

from collections.abc import Callable
from types import ModuleType

from cka_probe.lab.scenes import patterns_indoors, patterns_outdoors
from cka_probe.lab.scenes.surface import Array, Surface, noise


def _patterns(module: ModuleType) -> dict[str, Callable[[Surface], Array]]:
    """Return the public functions of a module by name."""
    return {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}


PATTERNS = {
    name: pattern
    for name, pattern in (_patterns(patterns_indoors) | _patterns(patterns_outdoors)).items()
    if not name.startswith("_")
}
"""Patterns by the name in `solids.Material`: every public function of the two modules."""

__all__ = ["PATTERNS", "Surface", "noise"]
