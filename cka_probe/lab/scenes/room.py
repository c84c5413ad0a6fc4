"""Draw a furnished room and a camera's walk in it from a seed.

A room is a box of three to eight metres with a door, windows and images on its walls, furniture of its kind
along them and in the middle, and a lamp below the ceiling. The camera stands near one wall and looks across,
as somebody does who takes an image of a room; from frame to frame a hand carries it 6 to 14 cm and turns it by a
degree or so, to and fro, about all three axes.
"""

import numpy as np
from numpy.typing import NDArray

from cka_probe import registry
from cka_probe.lab.datasets.classes import NYU13
from cka_probe.lab.scenes.furnishing import AT_WALLS, IN_THE_MIDDLE, LABELS
from cka_probe.lab.scenes.palette import Palette, colour, draw_palette, shade
from cka_probe.lab.scenes.plan import YAWS, Plan, area_of
from cka_probe.lab.scenes.room_style import STYLES, USUAL_STYLE, Light, Style, Walls
from cka_probe.lab.scenes.solids import Material, Point, box, cylinder, moved
from cka_probe.lab.scenes.world import Camera, Lamps, Piece, Shell, World

CATEGORIES = tuple(AT_WALLS)
SWAY = np.deg2rad((0.5, 0.3, 0.2))  # how far a hand turns the camera in a frame: yaw, pitch, roll
RATE = 10.0  # frames a second


def draw_room(seed: int, index: int, frames: int, style: str = USUAL_STYLE) -> World:
    """Return room `index` of those of `seed`, furnished so that a walk of `frames` images is free.

    Raises:
        UnknownNameError: There is no such style in `STYLES`.
    """
    drawn = registry.get(STYLES, style, "style of rooms")
    rng = np.random.default_rng([seed, index, *drawn.seed])
    category = CATEGORIES[rng.integers(len(CATEGORIES))]
    size = tuple(rng.uniform(*limits) for limits in (drawn.width, drawn.length, drawn.height))
    palette = draw_palette(rng, drawn.tones)
    surfaces = _surfaces(rng, drawn.walls)
    poses = _walk(rng, size, frames, drawn)
    plan = Plan(size, poses)
    openings, windows = _openings(rng, palette, plan, drawn.light)
    furniture = _furniture(rng, category, palette, plan, drawn.tries)
    pieces = [*openings, *furniture, *_images(rng, palette, plan)]
    lamp = (size[0] * rng.uniform(0.35, 0.65), size[1] * rng.uniform(0.35, 0.65), size[2] - drawn.light.drop)
    return World(
        kind="rooms",
        category=category,
        classes=NYU13.names,
        shell=Shell((0.0, 0.0, 0.0), size, surfaces, (*["wall"] * 4, "floor", "ceiling")),
        pieces=(*pieces, _ceiling_lamp(lamp, size[2])),
        light=Lamps(lamp, windows if drawn.light.day else (), drawn.light.lamp, drawn.light.around),
        camera=Camera(poses, np.arange(frames) / RATE),
    )


def _surfaces(rng: np.random.Generator, style: Walls) -> tuple[Material, ...]:
    """Return the materials of four walls, floor and ceiling."""
    hue, value = rng.uniform(), rng.uniform(*style.value)
    paint = colour(hue, rng.choice(style.saturations, p=style.saturation_shares), value)
    painted = "plaster" if rng.uniform() < 0.6 else "plain"
    walls = [Material(painted, paint, shade(paint, 0.78))] * 4
    chance = rng.uniform()
    if chance < style.papered[1]:  # paper on all walls
        motif = style.papers[0] if chance < style.papered[0] else style.papers[1]
        walls = [Material(motif, paint, shade(paint, rng.uniform(0.6, 0.82)), rng.uniform(0.18, 0.4))] * 4
    elif chance < style.papered[2]:  # one wall of another kind
        loud = colour(hue + rng.uniform(-0.2, 0.2), *(rng.uniform(*limits) for limits in style.loud))
        other = str(rng.choice([painted, "wallpaper", "boards", "brick"], p=[0.3, 0.35, 0.15, 0.2]))
        walls[rng.integers(4)] = Material(other, loud, shade(loud, 0.72), rng.uniform(0.2, 0.35))
    tone = colour(rng.uniform(0.05, 0.1), rng.uniform(0.3, 0.6), rng.uniform(*style.floor_value))
    grey = colour(rng.uniform(), rng.uniform(0.03, 0.2), rng.uniform(0.4, 0.75))
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
    """Return (frames, 4, 4) poses of a camera near the wall y = 0 that looks across the room."""
    x, y = size[0] * rng.uniform(0.2, 0.8), rng.uniform(0.35, 0.8)
    z = rng.uniform(*style.eye)
    across = size[0] * rng.uniform(0.3, 0.7) - x
    yaw = np.arctan2(across, size[1] * rng.uniform(0.5, 0.8)) + rng.normal(0, 0.12)
    pitch, roll = rng.uniform(0.08, 0.34) + 0.12 * (z - 1.4), rng.normal(0, 0.02)
    place, heading = np.array([x, y, z]), rng.uniform(-0.5 * np.pi, 0.5 * np.pi) + yaw
    aim, turned = np.array([yaw, pitch, roll]), np.zeros(3)
    poses, (low, high) = [], style.walk
    for _ in range(frames):
        poses.append(look(place, *(aim + turned)))
        step = rng.uniform(0.06, 0.14)
        heading += rng.normal(0, 0.15)
        ahead = place + step * np.array([np.sin(heading), np.cos(heading), rng.normal(0, 0.08)])
        if not (0.3 < ahead[0] < size[0] - 0.3 and 0.3 < ahead[1] < 0.35 * size[1] and low < ahead[2] < high):
            heading += np.pi  # walk back rather than through the wall
            ahead = place - (ahead - place)
        place = ahead
        turned = 0.97 * turned + rng.normal(0, SWAY)  # to and fro about where it was aimed at
    return np.stack(poses)


def look(place: NDArray[np.float64], yaw: float, pitch: float, roll: float = 0.0) -> NDArray[np.float64]:
    """Return the (4, 4) camera-to-world pose of a camera.

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
    pose[:3, 2], pose[:3, 3] = forward, place
    return pose


def _openings(
    rng: np.random.Generator, p: Palette, plan: Plan, style: Light
) -> tuple[list[Piece], tuple[tuple[Point, Point], ...]]:
    """Return windows with curtains and a door, and where light would come in by day."""
    pieces, lights = [], []
    sky = Material(style.panes, *(colour(*hsv) for hsv in style.sky), glow=rng.uniform(*style.glow))
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
            plan.taken.append((*area_of(depth)[:4], 0.0))
            normal = (-np.sin(YAWS[wall]), np.cos(YAWS[wall]), 0.0)
            lights.append((piece[0].centre, normal))
    door = Material(
        "panels", *((p.white.first, p.white.second) if rng.uniform() < 0.6 else (p.wood.first, p.wood.second)), 0.9
    )
    leaf = [box((-0.45, 0, 0), (0.45, 0.03, 2.03), door), box((-0.52, 0, 0), (0.52, 0.02, 2.1), p.white)]
    for wall in rng.permutation(["far", "left", "right"])[:2]:
        piece = plan.at_wall(leaf, wall, rng.uniform(0.15, 0.85))
        if plan.fits(area_of(piece), above=-1.0):
            pieces.append(Piece(tuple(piece), "wall"))  # NYU's 13 classes count doors as walls
            x0, x1, y0, y1, _ = area_of(piece)
            plan.taken.append(
                (x0 - 0.3 * (wall == "right"), x1 + 0.3 * (wall == "left"), y0 - 0.3 * (wall == "far"), y1, 2.1)
            )
            break
    return pieces, tuple(lights)


def _furniture(rng: np.random.Generator, category: str, p: Palette, plan: Plan, tries: int) -> list[Piece]:
    """Return the pieces along the walls and in the middle."""
    pieces: list[Piece] = []
    w, d, _ = plan.size
    makers = AT_WALLS[category]
    turns = [wall for wall in ("far", "left", "right", "far", "left", "right", "near") for _ in range(tries)]
    patience = 400
    while turns and patience:
        # what makes the room what it is comes first, and has many tries to find its place
        patience -= not pieces
        wall = turns.pop(0) if pieces else str(rng.choice(["far", "left", "right"]))
        make = makers[rng.integers(len(makers))] if pieces else makers[0]
        piece = plan.at_wall(make(rng, p), wall, rng.uniform(0.05, 0.95))
        if plan.put(piece):
            pieces.append(Piece(tuple(piece), LABELS[make]))
    for _ in range(tries):
        make = IN_THE_MIDDLE[category][rng.integers(len(IN_THE_MIDDLE[category]))]
        yaw = rng.choice([0.0, np.pi / 2, np.pi, -np.pi / 2]) + rng.normal(0, 0.12)
        piece = list(moved(make(rng, p), (w * rng.uniform(0.3, 0.7), d * rng.uniform(0.35, 0.75), 0), yaw))
        if plan.put(piece):
            pieces.append(Piece(tuple(piece), LABELS[make]))
    if rng.uniform() < 0.6:
        x, y, a, b = (
            w * rng.uniform(0.4, 0.6),
            d * rng.uniform(0.45, 0.65),
            rng.uniform(0.7, 1.3),
            rng.uniform(0.6, 1.0),
        )
        field = Material("rug", p.accent.first, p.cloth.first)
        pieces.append(Piece((box((x - a, y - b, 0.001), (x + a, y + b, 0.012), field, shadow=False),), "floor"))
    return pieces


def _images(rng: np.random.Generator, p: Palette, plan: Plan) -> list[Piece]:
    """Return images on the walls where nothing high stands before them."""
    pieces = []
    for wall in ("far", "far", "left", "right"):
        a, b, z = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.4), rng.uniform(1.45, 1.7)
        view = Material("painting", colour(rng.uniform(), rng.uniform(0.1, 0.6), 0.75), colour(rng.uniform(), 0.4, 0.4))
        if rng.uniform() < 0.25:  # a notice or a poster
            view = Material(
                "writing", colour(0.12, 0.08, 0.92), colour(rng.uniform(), 0.5, 0.3), rng.uniform(0.03, 0.07)
            )
        piece = plan.at_wall([box((-a, 0, z - b), (a, 0.03, z + b), view)], wall, rng.uniform(0.15, 0.85))
        area = area_of(piece)
        windows = [taken for taken in plan.taken if taken[4] == 0.0]
        clear = all(area[1] <= o[0] or area[0] >= o[1] or area[3] <= o[2] or area[2] >= o[3] for o in windows)
        if clear and plan.fits(area, above=z - b):
            pieces.append(Piece(tuple(piece), "image"))
            plan.taken.append(area)
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
