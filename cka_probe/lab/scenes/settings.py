"""The kinds of scenes by name, and the styles that a kind may come in."""

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
"""Each is drawn from (seed, index, frames)."""


def draw_scene(kind: str, seed: int, index: int, frames: int, style: str = USUAL_STYLE) -> Scene:
    """Return scene `index` of those of a seed, in a style.

    Raises:
        UnknownNameError: There is no such kind, or no such style of rooms.
        DataError: The kind has no other style than the usual one.
    """
    draw = registry.get(SCENES, kind, "kind of scene")
    check_style(kind, style)
    return draw(seed, index, frames) if style == USUAL_STYLE else draw_room(seed, index, frames, style)


def check_style(kind: str, style: str) -> None:
    """Check that scenes of a kind come in a style.

    Raises:
        UnknownNameError: Rooms do not.
        DataError: Another kind does not.
    """
    if kind == "rooms":
        registry.get(STYLES, style, "style of rooms")
    elif style != USUAL_STYLE:
        raise DataError(f"{kind} come in the style {USUAL_STYLE!r} alone, found {style!r}; leave it out, or take rooms")


VERSION = 2
"""Raised when the same settings give other bytes than before."""


@dataclass(frozen=True)
class Settings:
    """What a set is made of: equal settings, equal bytes.

    Attributes:
        kind: "rooms", "streets" or "objects".
        num: Number of scenes.
        frames: Images of each.
        size: (height, width) in pixels.
        seed: Another seed, other scenes.
        test: Share of the scenes, the last ones, that are held out from training.
        layout: A name in `LAYOUTS`; "" is the usual one of the kind.
        sensor: What it is seen with.
        style: How rooms look, a name in `STYLES`; the other kinds have the usual one.

    Raises:
        UnknownNameError: There is no such kind, layout or style.
        DataError: No set can be made of it.
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
            able = ", ".join(name for name, other in LAYOUTS.items() if self.kind in other.kinds)
            raise DataError(f"the layout {self.layout!r} has no place for {self.kind}; choose one of: {able}")
        if self.num < 1 or self.frames < 1 or min(self.size) < 8 or self.seed < 0:
            raise DataError(
                f"expected at least 1 scene, 1 frame, 8x8 pixels and a seed from 0 on, found {self.num} scenes, "
                f"{self.frames} frames, {self.size[1]}x{self.size[0]} pixels and the seed {self.seed}; ask for more"
            )
        limits = (("frames a scene", self.frames, layout.most), ("scenes", self.num, layout.most_scenes))
        for what, said, most in limits:
            if most and said > most:
                raise DataError(f"the layout {self.layout!r} has room for {most} {what}, found {said}; ask for fewer")
        if not 0 <= self.test < 1:
            raise DataError(f"expected a share of test scenes from 0 to below 1, found {self.test}; try 0.25")

    def is_test(self, index: int) -> bool:
        """Return whether a scene is held out."""
        return index >= self.num - round(self.num * self.test)

    def note(self) -> str:
        """Return the settings as they lie beside the set; without the usual style, as before there were others."""
        said = asdict(self) | {"version": VERSION}
        if self.style == USUAL_STYLE:
            del said["style"]
        return json.dumps(said, indent=1, sort_keys=True) + "\n"


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) of "WIDTHxHEIGHT".

    Raises:
        DataError: It says something else.

    >>> parse_size("128x96")
    (96, 128)
    """
    width, _, height = text.lower().partition("x")
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise DataError(f"size {text}: expected WIDTHxHEIGHT in pixels, as in 128x96")
    return int(height), int(width)
