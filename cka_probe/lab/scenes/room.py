"""Draw furnished rooms from a seed, in one of several styles.

A style is a set of parameters. A network trained on one style and tested on another meets different colours,
wallpapers and light, more furniture, larger rooms and another camera height, while the procedure that draws a room is
the same. `day` is the default style.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cka_probe import registry
from cka_probe.images.classes import NYU13
from cka_probe.lab.scenes.furniture import AT_WALLS, IN_THE_MIDDLE, LABELS, panels
from cka_probe.lab.scenes.palette import DUSKY, PALE, Palette, Tones, colour, draw_palette, draw_tone, shade
from cka_probe.lab.scenes.scene import Camera, Lamps, Piece, Scene, Shell
from cka_probe.lab.scenes.solids import RGB, Material, Point, Solid, bounds, box, cylinder, moved

Range = tuple[float, float]


@dataclass(frozen=True)
class Walls:
    """Paint, wallpaper and floors; shares add up to 1, in the order in which the options are named.

    Attributes:
        value: Of the paint, sRGB.
        saturations: Of the paint.
        saturation_shares: How often each occurs.
        papered: Cumulative shares: first of `papers` on all walls, second of `papers` on all walls, one accent wall.
        papers: Patterns of papered walls.
        loud: Saturation and value of the accent wall.
        floor_value: Of floor boards.
        floor_shares: Of planks, tiles, carpet, checks.
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
    """The light of a room.

    Attributes:
        day: Whether light enters through the windows; at night they show a dark sky.
        panes: Pattern of the windows.
        sky: The two colours of the sky behind them, each (hue, saturation, value).
        glow: Brightness of the sky.
        curtains: Share of windows with curtains.
        drop: Metres from the ceiling to the lamp.
        lamp: Colour of the lamp, linear RGB.
        ambient: Ambient light, relative to that of the style `day`.
    """

    day: bool = True
    panes: str = "panes"
    sky: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.58, 0.35, 0.95), (0.6, 0.08, 1.0))
    glow: Range = (0.5, 1.0)
    curtains: float = 0.6
    drop: float = 0.22
    lamp: RGB = (1.0, 0.9, 0.76)
    ambient: float = 1.0


@dataclass(frozen=True)
class Style:
    """Parameters of the rooms of one style.

    Attributes:
        seed: Appended to the seed and the index of a room, so that no two styles share a room.
        width: Metres, across the view from the entrance.
        length: Metres.
        height: Metres.
        eye: Initial height of the camera, metres.
        walk: Range of heights during the walk, metres.
        attempts: How often a further piece of furniture is tried at each wall and in the middle.
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
    attempts: int = 6
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
        attempts=11,
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
            ambient=0.45,
        ),
    ),
    "hall": Style(
        seed=(2,),
        width=(4.6, 8.2),
        length=(5.5, 9.0),
        height=(3.0, 4.0),
        eye=(1.45, 1.85),
        walk=(1.25, 2.05),
        attempts=4,
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
        light=Light(glow=(0.8, 1.0), curtains=0.15, drop=0.5, lamp=(1.0, 0.97, 0.93), ambient=1.4),
    ),
}
"""Styles by name."""

YAWS = {"far": np.pi, "left": -np.pi / 2, "right": np.pi / 2, "near": 0.0}
TALL = 0.95

Area = tuple[float, float, float, float, float]


def apart(a: Area, b: Area) -> bool:
    """Return whether two areas do not overlap."""
    return a[1] <= b[0] or a[0] >= b[1] or a[3] <= b[2] or a[2] >= b[3]


def area_of(solids: Sequence[Solid]) -> Area:
    """Return the footprint of some solids on the floor and their height: (x0, x1, y0, y1, height)."""
    low, high = bounds(solids)
    return (low[0], high[0], low[1], high[1], high[2])


class FloorPlan:
    """The occupied areas (x0, x1, y0, y1, height) of a floor.

    An area of height 0 lies in front of a window: only low furniture may stand there.

    Args:
        size: Size of the room.
        poses: (frames, 4, 4) poses of the camera; the areas around and in front of it stay free.
    """

    def __init__(self, size: Point, poses: Iterable[NDArray[np.float64]]):
        self.size = size
        self.occupied: list[Area] = []
        for pose in poses:
            for ahead, margin in ((0.0, 0.4), (0.7, 0.45)):
                x, y = pose[:2, 3] + ahead * pose[:2, 2]
                self.occupied.append((x - margin, x + margin, y - margin, y + margin, size[2]))

    def fits(self, area: Area, above: float = 0.0) -> bool:
        """Return whether an area is inside the room and overlaps no area higher than `above`."""
        x0, x1, y0, y1, _ = area
        inside = x0 > -0.01 and y0 > -0.01 and x1 < self.size[0] + 0.01 and y1 < self.size[1] + 0.01
        return inside and all(apart(area, other) for other in self.occupied if other[4] > above)

    def place(self, piece: Sequence[Solid]) -> bool:
        """Occupy the area of a piece of furniture if it is free; return whether it was."""
        area = area_of(piece)
        fits = self.fits(area, above=-1.0 if area[4] > TALL else 0.0)
        if fits:
            self.occupied.append(area)
        return fits

    def at_wall(self, piece: Sequence[Solid], wall: str, along: float) -> list[Solid]:
        """Return a piece moved to a wall of `YAWS`, centred at a fraction `along` of the wall."""
        w, d, _ = self.size
        origins = {"far": (along * w, d), "near": (along * w, 0.0), "left": (0.0, along * d), "right": (w, along * d)}
        return list(moved(piece, (*origins[wall], 0.0), YAWS[wall]))


CATEGORIES = tuple(AT_WALLS)
SWAY = np.deg2rad((0.5, 0.3, 0.2))  # random rotation of a hand-held camera per frame: yaw, pitch, roll
RATE = 10.0  # frames a second


def draw_room(seed: int, index: int, frames: int, style: str = USUAL_STYLE) -> Scene:
    """Return room `index` of a seed, furnished so that a walk of `frames` poses is free of obstacles.

    Raises:
        UnknownNameError: There is no such style in `STYLES`.
    """
    parameters = registry.get(STYLES, style, "style of rooms")
    rng = np.random.default_rng([seed, index, *parameters.seed])
    category = CATEGORIES[rng.integers(len(CATEGORIES))]
    size = tuple(rng.uniform(*limits) for limits in (parameters.width, parameters.length, parameters.height))
    palette = draw_palette(rng, parameters.tones)
    surfaces = _surfaces(rng, parameters.walls)
    poses = _walk(rng, size, frames, parameters)
    plan = FloorPlan(size, poses)
    openings, windows = _openings(rng, palette, plan, parameters.light)
    furniture = _furniture(rng, category, palette, plan, parameters.attempts)
    pieces = [*openings, *furniture, *_wall_pictures(rng, palette, plan)]
    lamp = (size[0] * rng.uniform(0.35, 0.65), size[1] * rng.uniform(0.35, 0.65), size[2] - parameters.light.drop)
    return Scene(
        kind="rooms",
        category=category,
        classes=NYU13.names,
        shell=Shell((0.0, 0.0, 0.0), size, surfaces, (*["wall"] * 4, "floor", "ceiling")),
        pieces=(*pieces, _ceiling_lamp(lamp, size[2])),
        light=Lamps(lamp, windows if parameters.light.day else (), parameters.light.lamp, parameters.light.ambient),
        camera=Camera(poses, np.arange(frames) / RATE),
    )


def _surfaces(rng: np.random.Generator, style: Walls) -> tuple[Material, ...]:
    """Return the materials of four walls, floor and ceiling."""
    hue, value = rng.uniform(), rng.uniform(*style.value)
    paint = colour(hue, rng.choice(style.saturations, p=style.saturation_shares), value)
    painted = "plaster" if rng.uniform() < 0.6 else "plain"
    walls = [Material(painted, paint, shade(paint, 0.78))] * 4
    chance = rng.uniform()
    if chance < style.papered[1]:  # wallpaper on all walls
        motif = style.papers[0] if chance < style.papered[0] else style.papers[1]
        walls = [Material(motif, paint, shade(paint, rng.uniform(0.6, 0.82)), rng.uniform(0.18, 0.4))] * 4
    elif chance < style.papered[2]:  # an accent wall
        loud = colour(hue + rng.uniform(-0.2, 0.2), *(rng.uniform(*limits) for limits in style.loud))
        other = str(rng.choice([painted, "wallpaper", "boards", "brick"], p=[0.3, 0.35, 0.15, 0.2]))
        walls[rng.integers(4)] = Material(other, loud, shade(loud, 0.72), rng.uniform(0.2, 0.35))
    tone = colour(rng.uniform(0.05, 0.1), rng.uniform(0.3, 0.6), rng.uniform(*style.floor_value))
    grey = draw_tone(rng, (0, 1), (0.03, 0.2), (0.4, 0.75))
    floors = (
        Material("planks", tone, shade(tone, 0.55), rng.uniform(0.12, 0.2)),
        Material("tiles", grey, shade(grey, 0.45), rng.uniform(0.3, 0.5)),
        Material("fabric", grey, shade(grey, 0.55), 0.1),
        Material("checks", shade(grey, 1.3), shade(grey, 0.3), rng.uniform(0.3, 0.45)),
    )
    floor = floors[rng.choice(4, p=style.floor_shares)]
    white = colour(0.12, 0.03, style.ceiling)
    return (*walls, floor, Material("plaster", white, shade(white, 0.86)))


def _walk(rng: np.random.Generator, size: Point, frames: int, style: Style) -> NDArray[np.float64]:
    """Return (frames, 4, 4) poses of a hand-held camera near the wall y = 0 that looks across the room."""
    x, y = size[0] * rng.uniform(0.2, 0.8), rng.uniform(0.35, 0.8)
    z = rng.uniform(*style.eye)
    across = size[0] * rng.uniform(0.3, 0.7) - x
    yaw = np.arctan2(across, size[1] * rng.uniform(0.5, 0.8)) + rng.normal(0, 0.12)
    pitch, roll = rng.uniform(0.08, 0.34) + 0.12 * (z - 1.4), rng.normal(0, 0.02)
    position, heading = np.array([x, y, z]), rng.uniform(-0.5 * np.pi, 0.5 * np.pi) + yaw
    aim, shake = np.array([yaw, pitch, roll]), np.zeros(3)
    poses, (low, high) = [], style.walk
    for _ in range(frames):
        poses.append(camera_pose(position, *(aim + shake)))
        step = rng.uniform(0.06, 0.14)
        heading += rng.normal(0, 0.15)
        ahead = position + step * np.array([np.sin(heading), np.cos(heading), rng.normal(0, 0.08)])
        if not (0.3 < ahead[0] < size[0] - 0.3 and 0.3 < ahead[1] < 0.35 * size[1] and low < ahead[2] < high):
            heading += np.pi  # turn back at a wall
            ahead = position - (ahead - position)
        position = ahead
        shake = 0.97 * shake + rng.normal(0, SWAY)  # fluctuates around the initial aim
    return np.stack(poses)


def camera_pose(position: NDArray[np.float64], yaw: float, pitch: float, roll: float = 0.0) -> NDArray[np.float64]:
    """Return the (4, 4) camera-to-scene pose of a camera.

    Args:
        place: (3,) metres.
        yaw: Radians; 0 looks along y, more turns to the right.
        pitch: Radians downwards.
        roll: Radians about the viewing direction.
    """
    forward = np.array([np.cos(pitch) * np.sin(yaw), np.cos(pitch) * np.cos(yaw), -np.sin(pitch)])
    right = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
    down = np.cross(forward, right)
    pose = np.eye(4)
    pose[:3, 0] = np.cos(roll) * right + np.sin(roll) * down
    pose[:3, 1] = np.cos(roll) * down - np.sin(roll) * right
    pose[:3, 2], pose[:3, 3] = forward, position
    return pose


def _openings(
    rng: np.random.Generator, p: Palette, plan: FloorPlan, style: Light
) -> tuple[list[Piece], tuple[tuple[Point, Point], ...]]:
    """Return windows with curtains and a door, and (position, inward normal) of each window."""
    pieces, lights = [], []
    above, below = (colour(*hsv) for hsv in style.sky)
    sky = Material(style.panes, above, below, glow=rng.uniform(*style.glow))
    for wall in rng.permutation(["far", "left", "right"])[: rng.integers(1, 3)]:
        half, along = rng.uniform(0.45, 0.9), rng.uniform(0.3, 0.75)
        low, high = rng.uniform(0.75, 1.0), rng.uniform(1.95, 2.2)
        piece = [box((-half, 0, low), (half, 0.02, high), sky, shadow=False)]
        piece.append(box((-half - 0.05, 0, low - 0.04), (half + 0.05, 0.12, low), p.white))
        if rng.uniform() < style.curtains:
            folds = Material("stripes", p.cloth.first, shade(p.cloth.first, 0.6), 0.12)
            for x in (-half - 0.18, half - 0.1):
                piece.append(box((x, 0.05, 0.08), (x + 0.28, 0.125, high + 0.1), folds))
        piece = plan.at_wall(piece, wall, along)
        if plan.fits(area_of(piece)):
            pieces.append(Piece(tuple(piece), "window"))
            depth = plan.at_wall([box((-half, 0, 0), (half, 0.7, 0.7), p.white)], wall, along)
            plan.occupied.append((*area_of(depth)[:4], 0.0))
            normal = (-np.sin(YAWS[wall]), np.cos(YAWS[wall]), 0.0)
            lights.append((piece[0].centre, normal))
    door = panels(p.white if rng.uniform() < 0.6 else p.wood, 0.9)
    leaf = [box((-0.45, 0, 0), (0.45, 0.03, 2.03), door), box((-0.52, 0, 0), (0.52, 0.02, 2.1), p.white)]
    for wall in rng.permutation(["far", "left", "right"])[:2]:
        piece = plan.at_wall(leaf, wall, rng.uniform(0.15, 0.85))
        if plan.fits(area_of(piece), above=-1.0):
            pieces.append(Piece(tuple(piece), "wall"))  # NYU's 13 classes count doors as walls
            x0, x1, y0, y1, _ = area_of(piece)
            left, right, near = x0 - 0.3 * (wall == "right"), x1 + 0.3 * (wall == "left"), y0 - 0.3 * (wall == "far")
            plan.occupied.append((left, right, near, y1, 2.1))
            break
    return pieces, tuple(lights)


def _furniture(rng: np.random.Generator, category: str, p: Palette, plan: FloorPlan, attempts: int) -> list[Piece]:
    """Return the furniture along the walls and in the middle."""
    pieces: list[Piece] = []
    w, d, _ = plan.size
    makers = AT_WALLS[category]
    turns = [wall for wall in ("far", "left", "right", "far", "left", "right", "near") for _ in range(attempts)]
    attempts_left = 400
    while turns and attempts_left:
        # the piece that defines the category comes first and has many attempts
        attempts_left -= not pieces
        wall = turns.pop(0) if pieces else str(rng.choice(["far", "left", "right"]))
        make = makers[rng.integers(len(makers))] if pieces else makers[0]
        piece = plan.at_wall(make(rng, p), wall, rng.uniform(0.05, 0.95))
        if plan.place(piece):
            pieces.append(Piece(tuple(piece), LABELS[make]))
    for _ in range(attempts):
        make = IN_THE_MIDDLE[category][rng.integers(len(IN_THE_MIDDLE[category]))]
        yaw = rng.choice([0.0, np.pi / 2, np.pi, -np.pi / 2]) + rng.normal(0, 0.12)
        piece = list(moved(make(rng, p), (w * rng.uniform(0.3, 0.7), d * rng.uniform(0.35, 0.75), 0), yaw))
        if plan.place(piece):
            pieces.append(Piece(tuple(piece), LABELS[make]))
    if rng.uniform() < 0.6:
        x, y = w * rng.uniform(0.4, 0.6), d * rng.uniform(0.45, 0.65)
        a, b = rng.uniform(0.7, 1.3), rng.uniform(0.6, 1.0)
        wool = Material("rug", p.accent.first, p.cloth.first)
        pieces.append(Piece((box((x - a, y - b, 0.001), (x + a, y + b, 0.012), wool, shadow=False),), "floor"))
    return pieces


def _wall_pictures(rng: np.random.Generator, p: Palette, plan: FloorPlan) -> list[Piece]:
    """Return framed paintings for the walls, where no high furniture stands in front of them."""
    pieces = []
    for wall in ("far", "far", "left", "right"):
        a, b, z = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.4), rng.uniform(1.45, 1.7)
        view = Material("painting", colour(rng.uniform(), rng.uniform(0.1, 0.6), 0.75), colour(rng.uniform(), 0.4, 0.4))
        if rng.uniform() < 0.25:  # a notice or a poster
            paper, ink = colour(0.12, 0.08, 0.92), colour(rng.uniform(), 0.5, 0.3)
            view = Material("writing", paper, ink, rng.uniform(0.03, 0.07))
        piece = plan.at_wall([box((-a, 0, z - b), (a, 0.03, z + b), view)], wall, rng.uniform(0.15, 0.85))
        area = area_of(piece)
        clear = all(apart(area, other) for other in plan.occupied if other[4] == 0.0)  # of windows
        if clear and plan.fits(area, above=z - b):
            pieces.append(Piece(tuple(piece), "picture"))
            plan.occupied.append(area)
    return pieces


def _ceiling_lamp(lamp: Point, ceiling: float) -> Piece:
    """Return the lamp below the ceiling, on a cord if it hangs low."""
    x, y, z = lamp
    glass = Material("plain", (1.0, 0.93, 0.8), (0.95, 0.85, 0.7), glow=1.5)
    solids = [cylinder((x - 0.2, y - 0.2, z + 0.08), (x + 0.2, y + 0.2, z + 0.215), glass, shadow=False)]
    if ceiling - z > 0.3:
        dark = Material("plain", (0.03, 0.03, 0.03), (0.02, 0.02, 0.02))
        solids.append(cylinder((x - 0.01, y - 0.01, z + 0.22), (x + 0.01, y + 0.01, ceiling), dark, shadow=False))
    return Piece(tuple(solids), "objects")
