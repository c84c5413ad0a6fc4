"""Procedural indoor rooms: pictures with exact depth, camera and poses, for trials that need no download.

`draw_room` makes a room of a seed, `render` what a camera sees of it, `write_scenes` a whole set in the folders
of NYU Depth v2, which the reader of that dataset then opens. They stand in for real rooms where something is to
be tried or tested; no number made from them says anything about real ones.
"""

from cka_probe.data.scenes.layout import write_scenes
from cka_probe.data.scenes.render import intrinsics, render
from cka_probe.data.scenes.room import Room, draw_room

__all__ = ["Room", "draw_room", "intrinsics", "render", "write_scenes"]
