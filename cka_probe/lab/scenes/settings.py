"""Kinds of scenes by name, their styles, and the settings of a set of scenes."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.lab.scenes.layouts import LAYOUTS, USUAL
from cka_probe.lab.scenes.objects import draw_object
from cka_probe.lab.scenes.room import STYLES, USUAL_STYLE, draw_room
from cka_probe.lab.scenes.scene import Scene
from cka_probe.lab.scenes.sensor import Sensor
from cka_probe.lab.scenes.street import draw_street

SCENES: dict[str, Callable[[int, int, int], Scene]] = {
    "rooms": draw_room,
    "streets": draw_street,
    "objects": draw_object,
}
"""Functions that draw a scene from (seed, index, frames)."""


def draw_scene(kind: str, seed: int, index: int, frames: int, style: str = USUAL_STYLE) -> Scene:
    """Draw scene `index` of a seed, in a style.

    Raises:
        UnknownNameError: The kind, or the style of rooms, is unknown.
        DataError: The kind has only the usual style.
    """
    draw = registry.get(SCENES, kind, "kind of scene")
    check_style(kind, style)
    return draw(seed, index, frames) if style == USUAL_STYLE else draw_room(seed, index, frames, style)


def check_style(kind: str, style: str) -> None:
    """Check that a kind of scenes has a style.

    Raises:
        UnknownNameError: Rooms do not have it.
        DataError: Another kind does not have it.
    """
    if kind == "rooms":
        registry.get(STYLES, style, "style of rooms")
    elif style != USUAL_STYLE:
        raise DataError(f"{kind} have only the style {USUAL_STYLE!r}, found {style!r}; omit it, or choose rooms")


VERSION = 2
"""Incremented when the same settings give other bytes than before."""


@dataclass(frozen=True)
class Settings:
    """Settings of a set of scenes; equal settings give equal bytes.

    Attributes:
        kind: "rooms", "streets" or "objects".
        num: Number of scenes.
        frames: Number of images of each scene.
        size: (height, width) in pixels.
        seed: Seed of the scenes.
        test: Share of the scenes, the last ones, that is held out from training.
        layout: A name in `LAYOUTS`; "" is the default of the kind.
        sensor: Simulated sensor of the images.
        style: Style of rooms, a name in `STYLES`; other kinds have only the usual one.

    Raises:
        UnknownNameError: The kind, layout or style is unknown.
        DataError: The settings contradict each other.
    """

    kind: str
    num: int = 240
    frames: int = 2
    size: tuple[int, int] = (96, 128)
    seed: int = 0
    test: float = 0.25
    layout: str = ""
    sensor: Sensor = field(default_factory=Sensor)
    style: str = USUAL_STYLE

    def __post_init__(self) -> None:
        registry.get(SCENES, self.kind, "kind of scene")
        check_style(self.kind, self.style)
        object.__setattr__(self, "layout", self.layout or USUAL[self.kind])
        object.__setattr__(self, "size", tuple(self.size))
        layout = registry.get(LAYOUTS, self.layout, "layout")
        if self.kind not in layout.kinds:
            names = ", ".join(name for name, other in LAYOUTS.items() if self.kind in other.kinds)
            raise DataError(f"the layout {self.layout!r} has no place for {self.kind}; choose one of: {names}")
        if self.num < 1 or self.frames < 1 or min(self.size) < 8 or self.seed < 0:
            raise DataError(
                f"expected at least 1 scene, 1 frame, 8x8 pixels and a seed from 0 on, found {self.num} scenes, "
                f"{self.frames} frames, {self.size[1]}x{self.size[0]} pixels and the seed {self.seed}; ask for more"
            )
        limits = (("frames a scene", self.frames, layout.most), ("scenes", self.num, layout.most_scenes))
        for what, count, most in limits:
            if most and count > most:
                raise DataError(f"the layout {self.layout!r} has room for {most} {what}, found {count}; ask for fewer")
        if not 0 <= self.test < 1:
            raise DataError(f"expected a share of test scenes from 0 to below 1, found {self.test}; try 0.25")

    def is_test(self, index: int) -> bool:
        """Return whether a scene is held out from training."""
        return index >= self.num - round(self.num * self.test)

    def note(self) -> str:
        """Return the settings as JSON, as written next to the set; the usual style is omitted."""
        note = asdict(self) | {"version": VERSION}
        if self.style == USUAL_STYLE:
            del note["style"]
        return json.dumps(note, indent=1, sort_keys=True) + "\n"


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of "WIDTHxHEIGHT".

    Raises:
        DataError: The text has another form.

    >>> parse_size("128x96")
    (96, 128)
    """
    width, _, height = text.lower().partition("x")
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise DataError(f"size {text}: expected WIDTHxHEIGHT in pixels, as in 128x96")
    return int(height), int(width)
