"""Procedural scenes: images with complete ground truth, for experiments that need no download.

A scene is drawn from a seed and an index (`SCENES`), `see` renders a view of it with its ground truth, and
`make_scenes` writes a whole set in the layout of a real dataset, whose reader then opens it. Scenes replace real
images for demonstrations and tests; results on them do not carry over to real images.
"""

from cka_probe.lab.scenes.make import make_scenes
from cka_probe.lab.scenes.room import STYLES, USUAL_STYLE
from cka_probe.lab.scenes.scene import Scene, View
from cka_probe.lab.scenes.sensor import Sensor
from cka_probe.lab.scenes.settings import SCENES, Settings, check_style, draw_scene, parse_size
from cka_probe.lab.scenes.view import see

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
]
