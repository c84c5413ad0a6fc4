"""Procedural worlds: pictures with every ground truth, for trials that need no download.

A world is drawn from a seed and an index (`WORLDS`), `see` is what its camera sees and the truth about it, and
`write_scenes` lays a whole set out as a real dataset lies on disks, which the reader of that dataset then opens.
They stand in for real pictures where something is to be tried or tested; no number made from them says anything
about real ones.
"""

from collections.abc import Callable

from cka_probe.data.scenes.layout import write_scenes
from cka_probe.data.scenes.room import draw_room
from cka_probe.data.scenes.view import see, views
from cka_probe.data.scenes.world import View, World

WORLDS: dict[str, Callable[[int, int, int], World]] = {
    "rooms": draw_room,
}
"""Kinds of worlds: each is drawn from (seed, index, frames)."""

__all__ = ["WORLDS", "View", "World", "draw_room", "see", "views", "write_scenes"]
