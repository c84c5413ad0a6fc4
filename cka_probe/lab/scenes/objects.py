"""Scenes of a single object on a table or a floor, in a room with a light, clutter and furniture behind it."""

from collections.abc import Callable

import numpy as np

from cka_probe.lab.scenes import object_goods as goods
from cka_probe.lab.scenes import object_toys as toys
from cka_probe.lab.scenes import street_things
from cka_probe.lab.scenes.palette import Palette, colour, draw_palette, draw_tone, shade
from cka_probe.lab.scenes.room import camera_pose
from cka_probe.lab.scenes.scene import Camera, Lamps, Piece, Scene, Shell, Sun
from cka_probe.lab.scenes.solids import BOX, CYLINDER, ELLIPSOID, Material, Solid, bounds, box, moved
from cka_probe.lab.scenes.street_site import Boxes, Floats, Space

ROOM = (4.6, 2.9)
"""Metres from the object to the walls, and height of the ceiling."""

_HALF = 1.5  # metres: half the side of a table


class Table:
    """The table that the object stands on, or the floor.

    Args:
        rng: Random generator.
        palette: Materials.

    Attributes:
        top: Height of the surface.
        pieces: The table; none for the floor.
    """

    def __init__(self, rng: np.random.Generator, palette: Palette):
        self.top = 0.0
        self.pieces: tuple[Piece, ...] = ()
        if rng.uniform() < 0.75:
            self.top = rng.uniform(0.5, 0.9)
            cloth = goods.draw_material(rng, "checks", "stripes", "fabric", "tiles", size=rng.uniform(0.06, 0.2))
            boards = Material("planks", palette.wood.first, palette.wood.second, rng.uniform(0.1, 0.2))
            face = (palette.wood, palette.light_wood, boards, cloth)[rng.integers(4)]
            x, y = _HALF * rng.uniform(0.75, 1.1), _HALF * rng.uniform(0.75, 1.1)
            top = box((-x, -y, self.top - 0.06), (x, y, self.top), face)
            leg = box((-0.4 * x, -0.4 * y, 0.0), (0.4 * x, 0.4 * y, self.top - 0.06), palette.dark)
            self.pieces = (Piece(moved([top, leg], (0.0, 0.0, 0.0), rng.uniform(0, 2 * np.pi)), ""),)


def draw_shell(rng: np.random.Generator) -> Shell:
    """Return a room: four equal walls, a floor and a ceiling."""
    reach, height = ROOM
    width, depth = reach * rng.uniform(0.8, 1.2, 2)
    wall = goods.draw_material(
        rng, "plain", "stucco", "brick", "stripes", "boards", "tiles", size=rng.uniform(0.2, 0.45)
    )
    pale = draw_tone(rng, (0, 1), (0.03, 0.3), (0.6, 0.92))
    if rng.uniform() < 0.5:
        wall = Material("plain" if rng.uniform() < 0.5 else "stucco", pale, shade(pale, 0.75))
    tone = draw_tone(rng, (0.04, 0.12), (0.1, 0.6), (0.35, 0.8))
    pattern = str(rng.choice(["planks", "tiles", "fabric", "checks", "paving", "meadow", "soil"]))
    if pattern == "meadow":
        tone = colour(0.27, 0.6, 0.3)
    floor = Material(pattern, tone, shade(tone, rng.choice([0.5, 1.6])), rng.uniform(0.15, 0.4))
    white = colour(0.12, 0.03, 0.95)
    surfaces = (*(wall,) * 4, floor, Material("plain", white, shade(white, 0.88)))
    return Shell((-width, -depth, 0.0), (width, depth, height), surfaces, ("",) * 6)


def draw_light(rng: np.random.Generator, camera: Camera) -> Lamps | Sun:
    """Return a lamp, with or without a window, or the sun, in front of the object or at its side."""
    back = camera.poses[0, :2, 3] / np.linalg.norm(camera.poses[0, :2, 3])
    turn = rng.uniform(-1.5, 1.5)
    direction = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ back
    if rng.uniform() < 0.4:
        elevation = rng.uniform(0.5, 1.1)
        across, ahead = direction * np.cos(elevation)
        to_sun = (float(across), float(ahead), float(np.sin(elevation)))
        strength, ambient = rng.uniform(0.7, 1.3), rng.uniform(0.35, 0.6)
        return Sun(to_sun, (strength, 0.94 * strength, 0.86 * strength), (0.94 * ambient, 0.98 * ambient, ambient))
    x, y = direction * rng.uniform(0.2, 1.4)
    window = direction * ROOM[0] * 0.7
    inward = (float(-direction[0]), float(-direction[1]), 0.0)
    windows = (((float(window[0]), float(window[1]), 1.6), inward),) if rng.uniform() < 0.5 else ()
    return Lamps((float(x), float(y), ROOM[1] - 0.3), windows)


def clutter(rng: np.random.Generator, table: Table, subject: Piece, camera: Camera) -> list[Piece]:
    """Return items at the sides of an object and behind it, and furniture farther back; none in front of it."""
    space = Space(Boxes.of(subject.solids) + _lines_of_sight(camera, table), 1.0)
    if table.pieces:
        space.occupy(table.pieces[0].solids)
    to_camera = -camera.poses[0, :2, 2] / np.linalg.norm(camera.poses[0, :2, 2])
    pieces = []
    for _ in range(int(rng.integers(3, 9))):
        item = _item(rng)
        turn = rng.uniform(0.75, 2 * np.pi - 0.75)
        c, s, r = np.cos(turn), np.sin(turn), rng.uniform(0.35, 1.1)
        x, y = r * (c * to_camera[0] - s * to_camera[1]), r * (s * to_camera[0] + c * to_camera[1])
        moved_item = moved(item, (x, y, table.top), rng.uniform(0, 2 * np.pi))
        if _is_supported(moved_item, table) and space.occupy(moved_item, clearance=0.01 if table.top == 0 else 0.0):
            pieces.append(Piece(moved_item, ""))
    for _ in range(int(rng.integers(1, 4))):
        turn, r = np.pi + rng.normal(0, 0.45), rng.uniform(2.5, 3.2)
        c, s = np.cos(turn), np.sin(turn)
        x, y = r * (c * to_camera[0] - s * to_camera[1]), r * (s * to_camera[0] + c * to_camera[1])
        facing = float(np.arctan2(-x, y)) + np.pi
        moved_item = moved(_background_piece(rng), (x, y, 0.0), facing)
        if space.occupy(moved_item):
            pieces.append(Piece(moved_item, ""))
    return pieces


def _lines_of_sight(camera: Camera, table: Table) -> Boxes:
    """Return boxes along the lines of sight of all cameras, which must stay free."""
    boxes = []
    for pose in camera.poses:
        x, y, z = pose[:3, 3]
        length, yaw = float(np.hypot(x, y)), float(np.arctan2(y, x))
        half = (length / 2 + 0.25, 0.28, (z + 1.0) / 2)
        middle = (length / 2 * np.cos(yaw) + 0.25 * np.cos(yaw), length / 2 * np.sin(yaw) + 0.25 * np.sin(yaw))
        boxes.append(Solid(BOX, (*middle, table.top + 0.02 + half[2]), half, goods.DARK, yaw))
    return Boxes.of(boxes)


def _is_supported(item: tuple[Solid, ...], table: Table) -> bool:
    """Return whether an item stands entirely on the table; on the floor it always does."""
    if not table.pieces:
        return True
    top = table.pieces[0].solids[0]
    low, high = bounds(moved(item, (0.0, 0.0, 0.0), -top.yaw))
    reach = np.array(top.half[:2])
    return bool((low[:2] > -reach).all() and (high[:2] < reach).all())


def _item(rng: np.random.Generator) -> list[Solid]:
    """Return a small item: a box, a tin, a bead, a card, a slab, or two blocks."""
    material = goods.draw_material(
        rng, "plain", "fabric", "checks", "writing", "metal", "wood", "spots", size=rng.uniform(0.03, 0.06)
    )
    a, b, c = rng.uniform(0.04, 0.13, 3)
    choice = rng.integers(6)
    if choice == 5:
        other = goods.draw_material(rng, "plain", "wood", "checks", size=0.04)
        near, far = (0.05, 0.05, 0.05), (0.05, 0.04, 0.04)
        return [goods.block(0, 0, 0.05, near, material), goods.block(0.11, 0.02, 0.04, far, other)]
    paper = Material("writing", (0.8, 0.79, 0.74), (0.08, 0.08, 0.1), 0.014)
    items = (
        goods.block(0, 0, c, (a, b, c), material),
        goods.disc(0, 2 * c, 0.6 * a + 0.01, material),
        goods.ball(0, 0, 0.4 * a + 0.015, 0.4 * a + 0.015, material),
        goods.block(0, 0, 0.003, (a + 0.05, b + 0.05, 0.003), paper),
        goods.block(0, 0, 0.02, (a + 0.06, b + 0.05, 0.02), material),
    )
    return [items[choice]]


def _background_piece(rng: np.random.Generator) -> list[Solid]:
    """Return a large piece for the back of the room: shelves, a cupboard, a painting on a stand, a plant."""
    w, high = rng.uniform(0.4, 0.9), rng.uniform(0.9, 2.0)
    names = ("books", "panels", "painting", "foliage", "fabric", "panes")
    pattern = names[rng.integers(len(names))]
    first, second = goods.draw_colour(rng), goods.draw_colour(rng)
    if pattern == "foliage":
        green = Material("foliage", (0.02, 0.07, 0.02), (0.15, 0.3, 0.06), 0.15)
        crown = goods.oval(0, 0, 0.4 + high / 2, (0.4, 0.4, high / 2), green)
        return [goods.disc(0, 0.4, 0.2, goods.draw_ceramic(rng)), crown]
    size = {"books": 0.06, "panels": w, "fabric": 0.1}.get(pattern, 0.2)
    face = Material(pattern, first, second if pattern != "panels" else shade(first, 0.5), size)
    if pattern in ("books", "panels", "fabric"):
        return [box((-w, -0.2, 0.0), (w, 0.2, high), face)]
    foot = box((-0.7 * w, -0.18, 0.0), (0.7 * w, 0.18, 0.5), Material("wood", shade(first, 0.5), shade(first, 0.3)))
    return [box((-w, -0.2, 0.5), (w, 0.2, 0.5 + high), face), foot]


OBJECTS: dict[str, Callable[[np.random.Generator], list[Solid]]] = {
    "apple": goods.apple,
    "armchair": goods.armchair,
    "barrel": toys.barrel,
    "beach ball": toys.beach_ball,
    "books": goods.books,
    "bottle": toys.bottle,
    "burger": goods.burger,
    "bus": street_things.bus,
    "cactus": goods.cactus,
    "cake": goods.cake,
    "candle": toys.candle,
    "car": street_things.car,
    "castle": toys.castle,
    "chair": goods.chair,
    "clock": goods.clock,
    "crate": goods.crate,
    "drum": toys.drum,
    "duck": toys.duck,
    "dumbbell": goods.dumbbell,
    "football": toys.football,
    "hat": goods.hat,
    "hourglass": toys.hourglass,
    "house": lambda rng: street_things.cottage(rng, int(rng.integers(3, 5)), storeys=1),
    "lamp": toys.lamp,
    "lighthouse": toys.lighthouse,
    "mug": toys.mug,
    "mushroom": goods.mushroom,
    "penguin": toys.penguin,
    "robot": toys.robot,
    "rocket": toys.rocket,
    "snowman": toys.snowman,
    "stool": goods.stool,
    "teapot": toys.teapot,
    "teddy": toys.teddy,
    "train": toys.train,
    "tree": street_things.tree,
    "vase": toys.vase,
}
"""Functions that build an object of each class, by name: around the origin, on z = 0, facing +y."""

FRONT_VIEWS = {"armchair", "castle", "clock", "duck", "house", "penguin", "robot", "snowman", "teddy"}
"""Classes that are hard to recognise from behind: seen from the front or obliquely."""

SIDE_VIEWS = {"books", "bus", "car", "castle", "crate", "dumbbell", "house", "train"}
"""Long classes that are hard to recognise from their ends: seen from the side or obliquely."""

HANDLE_VIEWS = {"mug", "teapot"}
"""Classes recognised by their handle, which is seen from its side."""

FOCAL = 0.95


def draw_object(seed: int, index: int, frames: int) -> Scene:
    """Return the scene of object `index` of a seed, seen from `frames` poses along a short arc around it.

    Every class occurs once in indices `k * len(OBJECTS)` to `(k + 1) * len(OBJECTS) - 1`.
    """
    lap, turn = divmod(index, len(OBJECTS))
    name = list(OBJECTS)[np.random.default_rng([seed, lap, 1]).permutation(len(OBJECTS))[turn]]
    rng = np.random.default_rng([seed, index])
    parts = OBJECTS[name](rng)
    low, high = bounds(parts)
    parts = goods.scaled(parts, rng.uniform(0.4, 0.7) / float(max(high - low)))
    table = Table(rng, draw_palette(rng))
    low, high = bounds(parts)
    centre = (low + high) / 2
    subject = moved(parts, (-centre[0], -centre[1], table.top - low[2]))
    subject = moved(subject, (0.0, 0.0, 0.0), rng.uniform(0, 2 * np.pi))
    camera = _orbit(rng, subject, _direction(rng, name, subject), frames)
    piece = Piece(subject, name)
    return Scene(
        kind="objects",
        category=name,
        classes=tuple(OBJECTS),
        shell=draw_shell(rng),
        pieces=(piece, *table.pieces, *clutter(rng, table, piece, camera)),
        light=draw_light(rng, camera),
        camera=camera,
    )


def _direction(rng: np.random.Generator, name: str, subject: tuple[Solid, ...]) -> float:
    """Return the direction from an object to the camera, radians to the left of y; the front is at its yaw."""
    front = subject[0].yaw
    if name in SIDE_VIEWS:
        long_x = subject[0].half[0] > subject[0].half[1] or name in ("castle", "house")
        aside = rng.uniform(0.45, 1.15) * rng.choice([-1, 1]) * (0.6 if long_x else 1.0)
        return front + aside + (0.0 if name in FRONT_VIEWS else rng.choice([0.0, np.pi]))
    if name in HANDLE_VIEWS:
        return front + rng.uniform(-0.55, 0.55) + rng.choice([0.0, np.pi])
    if name in FRONT_VIEWS:
        return front + rng.uniform(-0.9, 0.9)
    return rng.uniform(0, 2 * np.pi)


def _orbit(rng: np.random.Generator, subject: tuple[Solid, ...], direction: float, frames: int) -> Camera:
    """Return a camera on an arc around an object, at the distance at which the object fills the image."""
    low, high = bounds(subject)
    middle = (low + high) / 2 + rng.normal(0, 0.02, 3)
    pitch, roll, fill = rng.uniform(0.08, 0.6), rng.normal(0, 0.04), rng.uniform(0.8, 0.98)
    speed, poses = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05), []
    distance = _distance(subject, middle, direction, pitch, fill)
    for frame in range(frames):
        # back and forth, because clutter surrounds the object
        swing = 0.35 * np.sin(speed * frame / 0.35)
        at = direction + swing
        tilt = pitch + 0.04 * np.sin(0.2 * frame)
        poses.append(_pose_towards(middle, at, tilt, distance, roll))
    return Camera(np.stack(poses), np.arange(frames) / 10, FOCAL, 0.06)


def _pose_towards(middle: Floats, direction: float, pitch: float, distance: float, roll: float) -> Floats:
    """Return the pose of a camera that looks at a point from a direction and an elevation."""
    back = np.array([-np.sin(direction) * np.cos(pitch), np.cos(direction) * np.cos(pitch), np.sin(pitch)])
    return camera_pose(middle + distance * back, np.arctan2(-back[0], -back[1]), pitch, roll)


def _distance(subject: tuple[Solid, ...], middle: Floats, direction: float, pitch: float, fill: float) -> float:
    """Return the distance at which an object fills a share of an image of 4 : 3, in its height or its width."""
    rim = np.concatenate([_rim(solid) for solid in subject])
    near, far = 0.5, 6.0
    for _ in range(24):
        distance = (near + far) / 2
        pose = _pose_towards(middle, direction, pitch, distance, 0.0)
        x, y, z = pose[:3, :3].T @ (rim - pose[:3, 3]).T
        outside = (z < 0.1).any() or max(np.abs(x / z).max(), np.abs(y / z).max() / 0.75) * 2 * FOCAL > fill
        near, far = (distance, far) if outside else (near, distance)
    return far


def _rim(solid: Solid) -> Floats:
    """Return (n, 3) points on the surface of a solid: its corners, or points around its curved side."""
    azimuth, z = np.arange(8) * (np.pi / 4), np.array([-1.0, -0.7, 0.0, 0.7, 1.0])
    if solid.shape == ELLIPSOID:
        level = np.sqrt(1 - z * z)
    elif solid.shape == CYLINDER:
        level = np.ones(5)
    else:
        azimuth, level = azimuth[1::2], np.full(5, 2**0.5)
    x, y = (level[:, None] * wave(azimuth) for wave in (np.cos, np.sin))
    unit = np.stack([x, y, np.broadcast_to(z[:, None], x.shape)], axis=-1).reshape(-1, 3) * solid.half
    c, s = np.cos(solid.yaw), np.sin(solid.yaw)
    turned = np.stack([c * unit[:, 0] - s * unit[:, 1], s * unit[:, 0] + c * unit[:, 1], unit[:, 2]], axis=1)
    return turned + solid.centre
