"""Procedural worlds: images with every ground truth, for trials that need no download.

A world is drawn from a seed and an index (`WORLDS`), `see` is what its camera sees and the truth about it, and
`make_worlds` lays a whole set out as a real dataset lies on disks, which the reader of that dataset then opens.
They stand in for real images where something is to be tried or tested; no number made from them says anything
about real ones.
"""

from cka_probe.lab.scenes.make import make_worlds
from cka_probe.lab.scenes.room import STYLES, USUAL_STYLE
from cka_probe.lab.scenes.sensor import Sensor
from cka_probe.lab.scenes.settings import WORLDS, Settings, check_style, draw_world, parse_size
from cka_probe.lab.scenes.view import see, views
from cka_probe.lab.scenes.world import View, World

__all__ = [
    "STYLES",
    "USUAL_STYLE",
    "WORLDS",
    "Sensor",
    "Settings",
    "View",
    "World",
    "check_style",
    "draw_world",
    "make_worlds",
    "parse_size",
    "see",
    "views",
]
