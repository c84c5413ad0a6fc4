"""Procedural scenes: images with every ground truth, for trials that need no download.

A scene is drawn from a seed and an index (`SCENES`), `see` is what its camera sees and the truth about it, and
`make_scenes` lays a whole set out as a real dataset lies on disks, which the reader of that dataset then opens.
They stand in for real images where something is to be tried or tested; no number made from them says anything
about real ones.
"""

from cka_probe.lab.scenes.make import make_scenes
from cka_probe.lab.scenes.room import STYLES, USUAL_STYLE
from cka_probe.lab.scenes.scene import Scene, View
from cka_probe.lab.scenes.sensor import Sensor
from cka_probe.lab.scenes.settings import SCENES, Settings, check_style, draw_scene, parse_size
from cka_probe.lab.scenes.view import see, views

__all__ = [
    "SCENES",
    "STYLES",
    "USUAL_STYLE",
    "Scene",
    "Sensor",
    "Settings",
    "View",
    "check_style",
    "draw_scene",
    "make_scenes",
    "parse_size",
    "see",
    "views",
]
