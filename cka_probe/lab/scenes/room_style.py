"""Styles of rooms: the numbers a room is drawn with, so that rooms of one style are strange to who knows another.

A network that has learnt on rooms of one style and is tried on those of another meets other colours, papers and
light, more furniture, larger rooms and another height of the eye; what a room is, and how it is drawn, stays the
same. `day` is how rooms were before there were styles, to the bit.
"""

from dataclasses import dataclass, field

from cka_probe.lab.scenes.palette import DUSKY, PALE, Tones
from cka_probe.lab.scenes.solids import RGB

Range = tuple[float, float]


@dataclass(frozen=True)
class Walls:
    """Paint, paper and floors; shares add up to 1, each of a choice in the order it is named.

    Attributes:
        value: Of the paint, as a screen shows it.
        saturations: Of the paint, and `saturation_shares` how often each.
        papered: How often all walls have the first of `papers`, the first or the second, and one loud wall or these.
        papers: Patterns of papered walls.
        loud: Saturation and value of the one loud wall.
        floor_value: Of floor boards.
        floor_shares: How often planks, tiles, carpet, checks.
        ceiling: Value of the ceiling's white.
    """

    value: Range = (0.62, 0.92)
    saturations: tuple[float, ...] = (0.06, 0.15, 0.35)
    saturation_shares: tuple[float, ...] = (0.45, 0.35, 0.2)
    papered: tuple[float, float, float] = (0.18, 0.42, 0.75)
    papers: tuple[str, str] = ("stripes", "wallpaper")
    loud: tuple[Range, Range] = ((0.3, 0.6), (0.4, 0.8))
    floor_value: Range = (0.45, 0.8)
    floor_shares: tuple[float, ...] = (0.55, 0.2, 0.17, 0.08)
    ceiling: float = 0.95


@dataclass(frozen=True)
class Light:
    """What a room is lit by.

    Attributes:
        day: Whether light comes in by the windows; at night they show a dark sky.
        panes: Pattern of the windows.
        sky: (hue, saturation, value) of the sky they show, its two colours.
        glow: How bright that is.
        curtains: How often a window has some.
        drop: Metres from the ceiling to the lamp.
        lamp: Its colour, linear RGB.
        around: Light from all around, in shares of a day's.
    """

    day: bool = True
    panes: str = "panes"
    sky: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.58, 0.35, 0.95), (0.6, 0.08, 1.0))
    glow: Range = (0.5, 1.0)
    curtains: float = 0.6
    drop: float = 0.22
    lamp: RGB = (1.0, 0.9, 0.76)
    around: float = 1.0


@dataclass(frozen=True)
class Style:
    """How rooms of one kind are drawn.

    Attributes:
        seed: Put behind the seed and the number of a room, so that no two styles have the same rooms.
        width: Metres, from the left to the right of who enters.
        length: Metres.
        height: Metres.
        eye: Height of the camera at first, metres.
        walk: Heights that it stays within.
        tries: How often each wall, and the middle, is tried for a further piece of furniture.
        tones: Of the furniture.
        walls: Paint, paper and floors.
        light: Lamp and windows.
    """

    seed: tuple[int, ...] = ()
    width: Range = (3.2, 5.6)
    length: Range = (4.0, 7.2)
    height: Range = (2.35, 2.9)
    eye: Range = (1.05, 1.75)
    walk: Range = (0.9, 1.9)
    tries: int = 6
    tones: Tones = field(default_factory=Tones)
    walls: Walls = field(default_factory=Walls)
    light: Light = field(default_factory=Light)


USUAL_STYLE = "day"

STYLES: dict[str, Style] = {
    USUAL_STYLE: Style(),
    "evening": Style(
        seed=(1,),
        width=(3.8, 7.6),
        length=(4.6, 9.0),
        height=(2.5, 3.4),
        eye=(0.75, 1.2),
        walk=(0.65, 1.35),
        tries=11,
        tones=DUSKY,
        walls=Walls(
            value=(0.34, 0.7),
            saturations=(0.18, 0.4, 0.62),
            saturation_shares=(0.3, 0.4, 0.3),
            papered=(0.3, 0.6, 0.9),
            papers=("boards", "checks"),
            loud=((0.45, 0.8), (0.25, 0.6)),
            floor_value=(0.25, 0.5),
            floor_shares=(0.2, 0.15, 0.45, 0.2),
            ceiling=0.78,
        ),
        light=Light(
            day=False,
            panes="night",
            sky=((0.64, 0.7, 0.26), (0.06, 0.45, 0.42)),
            glow=(0.3, 0.6),
            curtains=0.9,
            drop=0.75,
            lamp=(1.0, 0.74, 0.46),
            around=0.45,
        ),
    ),
    "hall": Style(
        seed=(2,),
        width=(4.6, 8.2),
        length=(5.5, 9.0),
        height=(3.0, 4.0),
        eye=(1.45, 1.85),
        walk=(1.25, 2.05),
        tries=4,
        tones=PALE,
        walls=Walls(
            value=(0.78, 0.97),
            saturations=(0.03, 0.08, 0.2),
            saturation_shares=(0.5, 0.35, 0.15),
            papered=(0.1, 0.2, 0.6),
            papers=("brick", "boards"),
            loud=((0.15, 0.45), (0.6, 0.9)),
            floor_value=(0.6, 0.9),
            floor_shares=(0.2, 0.5, 0.1, 0.2),
            ceiling=1.0,
        ),
        light=Light(glow=(0.8, 1.0), curtains=0.15, drop=0.5, lamp=(1.0, 0.97, 0.93), around=1.4),
    ),
}
"""Styles by name."""
