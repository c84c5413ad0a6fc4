"""Colours that are painted on surfaces in three dimensions, so that every camera sees the same ones.

A pattern is a function of where a point lies on its surface and of the material's two colours. What an image
shows then moves with the surface and not with the pixel grid: this is what photometric losses need, and why no
surface is quite plain. The functions stand in a file each for what is found indoors, out of doors, on buildings,
and on things; here they are by name.
"""

from collections.abc import Callable

from cka_probe.lab.scenes import patterns_indoors as indoors
from cka_probe.lab.scenes import patterns_outdoors as outdoors
from cka_probe.lab.scenes.surface import Array, Surface, noise

PATTERNS: dict[str, Callable[[Surface], Array]] = {
    "plain": indoors.plain,
    "fabric": indoors.fabric,
    "plaster": indoors.plaster,
    "wallpaper": indoors.wallpaper,
    "stripes": indoors.stripes,
    "checks": indoors.checks,
    "tiles": indoors.tiles,
    "planks": indoors.planks,
    "wood": indoors.wood,
    "panels": indoors.panels,
    "books": indoors.books,
    "painting": indoors.painting,
    "panes": indoors.panes,
    "rug": indoors.rug,
    "leaves": indoors.leaves,
    "asphalt": outdoors.asphalt,
    "lanes": outdoors.lanes,
    "avenue": outdoors.avenue,
    "zebra": outdoors.zebra,
    "paving": outdoors.paving,
    "meadow": outdoors.meadow,
    "soil": outdoors.soil,
    "foliage": outdoors.foliage,
    "bark": outdoors.bark,
    "sky": outdoors.sky,
    "zenith": outdoors.zenith,
    "brick": outdoors.brick,
    "stucco": outdoors.stucco,
    "windows": outdoors.windows,
    "brick_windows": outdoors.brick_windows,
    "offices": outdoors.offices,
    "shopfront": outdoors.shopfront,
    "roof": outdoors.roof,
    "boards": outdoors.boards,
    "stone": outdoors.stone,
    "writing": outdoors.writing,
    "bodywork": indoors.bodywork,
    "cabin": indoors.cabin,
    "paint": indoors.paint,
    "coach": indoors.coach,
    "wheel": indoors.wheel,
    "roundel": indoors.roundel,
    "signal": indoors.signal,
    "football": indoors.football,
    "segments": indoors.segments,
    "ribs": indoors.ribs,
    "dial": indoors.dial,
    "spots": indoors.spots,
    "blush": indoors.blush,
    "glaze": indoors.glaze,
    "icing": indoors.icing,
    "planking": indoors.planking,
    "metal": indoors.metal,
    "night": indoors.night,
}
"""Patterns by the name that `solids.Material` says."""

__all__ = ["PATTERNS", "Surface", "noise"]
