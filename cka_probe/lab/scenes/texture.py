"""Colours that are painted on surfaces in three dimensions, so that every camera sees the same ones.

A pattern is a function of where a point lies on its surface and of the material's two colours. What an image
shows then moves with the surface and not with the pixel grid: this is what photometric losses need, and why no
surface is quite plain. The functions stand in a file each for what is found indoors, out of doors, on buildings,
and on things; here they are by name.
"""

from collections.abc import Callable

from cka_probe.lab.scenes import patterns_buildings as buildings
from cka_probe.lab.scenes import patterns_indoors as indoors
from cka_probe.lab.scenes import patterns_outdoors as outdoors
from cka_probe.lab.scenes import patterns_things as things
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
    "brick": buildings.brick,
    "stucco": buildings.stucco,
    "windows": buildings.windows,
    "brick_windows": buildings.brick_windows,
    "offices": buildings.offices,
    "shopfront": buildings.shopfront,
    "roof": buildings.roof,
    "boards": buildings.boards,
    "stone": buildings.stone,
    "writing": buildings.writing,
    "bodywork": things.bodywork,
    "cabin": things.cabin,
    "paint": things.paint,
    "coach": things.coach,
    "wheel": things.wheel,
    "roundel": things.roundel,
    "signal": things.signal,
    "football": things.football,
    "segments": things.segments,
    "ribs": things.ribs,
    "dial": things.dial,
    "spots": things.spots,
    "blush": things.blush,
    "glaze": things.glaze,
    "icing": things.icing,
    "planking": things.planking,
    "metal": things.metal,
    "night": indoors.night,
}
"""Patterns by the name that `solids.Material` says."""

__all__ = ["PATTERNS", "Surface", "noise"]
