"""What is around an object: a room, a table or a floor, a light, and other things that nobody would name first."""

from collections.abc import Callable

import numpy as np

from cka_probe.lab.scenes import object_goods as goods
from cka_probe.lab.scenes import object_toys as toys
from cka_probe.lab.scenes import street_things
from cka_probe.lab.scenes.palette import Palette, colour, draw_palette, shade
from cka_probe.lab.scenes.room import look
from cka_probe.lab.scenes.scene import Camera, Lamps, Piece, Scene, Shell, Sun
from cka_probe.lab.scenes.solids import BOX, CYLINDER, ELLIPSOID, Material, Solid, bounds, box, moved
from cka_probe.lab.scenes.street_site import Boxes, Floats, Space

ROOM = (4.6, 2.9)
"""Metres from the object to the walls and up to the ceiling."""

_HALF = 1.5  # of a table


class Table:
    """A table's top, or a floor.

    Args:
        rng: What draws it.
        palette: Its materials.

    Attributes:
        top: Height at which things stand.
        pieces: The table; none if it is the floor.
    """

    def __init__(self, rng: np.random.Generator, palette: Palette):
        self.top = 0.0
        self.pieces: tuple[Piece, ...] = ()
        if rng.uniform() < 0.75:
            self.top = rng.uniform(0.5, 0.9)
            cloth = goods.draw_look(rng, "checks", "stripes", "fabric", "tiles", size=rng.uniform(0.06, 0.2))
            boards = Material("planks", palette.wood.first, palette.wood.second, rng.uniform(0.1, 0.2))
            face = (palette.wood, palette.light_wood, boards, cloth)[rng.integers(4)]
            x, y = _HALF * rng.uniform(0.75, 1.1), _HALF * rng.uniform(0.75, 1.1)
            top = box((-x, -y, self.top - 0.06), (x, y, self.top), face)
            leg = box((-0.4 * x, -0.4 * y, 0.0), (0.4 * x, 0.4 * y, self.top - 0.06), palette.dark)
            self.pieces = (Piece(moved([top, leg], (0.0, 0.0, 0.0), rng.uniform(0, 2 * np.pi)), ""),)


def draw_shell(rng: np.random.Generator) -> Shell:
    """Return a room: four walls of a kind, a floor, a ceiling."""
    reach, high = ROOM
    wide, deep = reach * rng.uniform(0.8, 1.2, 2)
    wall = goods.draw_look(rng, "plain", "stucco", "brick", "stripes", "boards", "tiles", size=rng.uniform(0.2, 0.45))
    pale = colour(rng.uniform(), rng.uniform(0.03, 0.3), rng.uniform(0.6, 0.92))
    if rng.uniform() < 0.5:
        wall = Material("plain" if rng.uniform() < 0.5 else "stucco", pale, shade(pale, 0.75))
    tone = colour(rng.uniform(0.04, 0.12), rng.uniform(0.1, 0.6), rng.uniform(0.35, 0.8))
    pattern = str(rng.choice(["planks", "tiles", "fabric", "checks", "paving", "meadow", "soil"]))
    if pattern == "meadow":
        tone = colour(0.27, 0.6, 0.3)
    floor = Material(pattern, tone, shade(tone, rng.choice([0.5, 1.6])), rng.uniform(0.15, 0.4))
    white = colour(0.12, 0.03, 0.95)
    surfaces = (*(wall,) * 4, floor, Material("plain", white, shade(white, 0.88)))
    return Shell((-wide, -deep, 0.0), (wide, deep, high), surfaces, ("",) * 6)


def draw_light(rng: np.random.Generator, camera: Camera) -> Lamps | Sun:
    """Return a lamp with or without a window, or a sun; from before the object or from its side."""
    back = camera.poses[0, :2, 3] / np.linalg.norm(camera.poses[0, :2, 3])
    turn = rng.uniform(-1.5, 1.5)
    way = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ back
    if rng.uniform() < 0.4:
        high = rng.uniform(0.5, 1.1)
        across, ahead = way * np.cos(high)
        towards = (float(across), float(ahead), float(np.sin(high)))
        strength, around = rng.uniform(0.7, 1.3), rng.uniform(0.35, 0.6)
        return Sun(towards, (strength, 0.94 * strength, 0.86 * strength), (0.94 * around, 0.98 * around, around))
    x, y = way * rng.uniform(0.2, 1.4)
    window = way * ROOM[0] * 0.7
    inward = (float(-way[0]), float(-way[1]), 0.0)
    windows = (((float(window[0]), float(window[1]), 1.6), inward),) if rng.uniform() < 0.5 else ()
    return Lamps((float(x), float(y), ROOM[1] - 0.3), windows)


def clutter(rng: np.random.Generator, table: Table, thing: Piece, camera: Camera) -> list[Piece]:
    """Return things beside and behind an object, and furniture farther behind it, none before it."""
    space = Space(Boxes.around(thing.solids) + _sight(camera, table), 1.0)
    if table.pieces:
        space.take(table.pieces[0].solids)
    view = -camera.poses[0, :2, 2] / np.linalg.norm(camera.poses[0, :2, 2])  # to the camera
    pieces = []
    for _ in range(int(rng.integers(3, 9))):
        item = _item(rng)
        turn = rng.uniform(0.75, 2 * np.pi - 0.75)
        c, s, r = np.cos(turn), np.sin(turn), rng.uniform(0.35, 1.1)
        x, y = r * (c * view[0] - s * view[1]), r * (s * view[0] + c * view[1])
        placed = moved(item, (x, y, table.top), rng.uniform(0, 2 * np.pi))
        if _carried(placed, table) and space.take(placed, apart=0.01 if table.top == 0 else 0.0):
            pieces.append(Piece(placed, ""))
    for _ in range(int(rng.integers(1, 4))):
        turn, r = np.pi + rng.normal(0, 0.45), rng.uniform(2.5, 3.2)
        c, s = np.cos(turn), np.sin(turn)
        x, y = r * (c * view[0] - s * view[1]), r * (s * view[0] + c * view[1])
        facing = float(np.arctan2(-x, y)) + np.pi
        placed = moved(_behind(rng), (x, y, 0.0), facing)
        if space.take(placed):
            pieces.append(Piece(placed, ""))
    return pieces


def _sight(camera: Camera, table: Table) -> Boxes:
    """Return boxes along the way from each camera to the middle, which nothing may stand in."""
    boxes = []
    for pose in camera.poses:
        x, y, z = pose[:3, 3]
        length, yaw = float(np.hypot(x, y)), float(np.arctan2(y, x))
        half = (length / 2 + 0.25, 0.28, (z + 1.0) / 2)
        middle = (length / 2 * np.cos(yaw) + 0.25 * np.cos(yaw), length / 2 * np.sin(yaw) + 0.25 * np.sin(yaw))
        boxes.append(Solid(BOX, (*middle, table.top + 0.02 + half[2]), half, goods.DARK, yaw))
    return Boxes.around(boxes)


def _carried(item: tuple[Solid, ...], table: Table) -> bool:
    """Return whether something stands on the table with all of its foot, or on the floor inside the room."""
    if not table.pieces:
        return True
    top = table.pieces[0].solids[0]
    low, high = bounds(moved(item, (0.0, 0.0, 0.0), -top.yaw))
    reach = np.array(top.half[:2])
    return bool((low[:2] > -reach).all() and (high[:2] < reach).all())


def _item(rng: np.random.Generator) -> list[Solid]:
    """Return something small: a box, a tin, a bead, a card, a slab, some blocks."""
    look = goods.draw_look(
        rng, "plain", "fabric", "checks", "writing", "metal", "wood", "spots", size=rng.uniform(0.03, 0.06)
    )
    a, b, c = rng.uniform(0.04, 0.13, 3)
    choice = rng.integers(6)
    if choice == 0:
        return [goods.block(0, 0, c, (a, b, c), look)]
    if choice == 1:
        return [goods.disc(0, 2 * c, 0.6 * a + 0.01, look)]
    if choice == 2:
        return [goods.ball(0, 0, 0.4 * a + 0.015, 0.4 * a + 0.015, look)]
    if choice == 3:
        paper = Material("writing", (0.8, 0.79, 0.74), (0.08, 0.08, 0.1), 0.014)
        return [goods.block(0, 0, 0.003, (a + 0.05, b + 0.05, 0.003), paper)]
    if choice == 4:
        return [goods.block(0, 0, 0.02, (a + 0.06, b + 0.05, 0.02), look)]
    other = goods.draw_look(rng, "plain", "wood", "checks", size=0.04)
    return [
        goods.block(0, 0, 0.05, (0.05, 0.05, 0.05), look),
        goods.block(0.11, 0.02, 0.04, (0.05, 0.04, 0.04), other),
    ]


def _behind(rng: np.random.Generator) -> list[Solid]:
    """Return something large against the back of the room: shelves, a cupboard, an image on a stand, a plant."""
    w, high = rng.uniform(0.4, 0.9), rng.uniform(0.9, 2.0)
    names = ("books", "panels", "painting", "foliage", "fabric", "panes")
    pattern = names[rng.integers(len(names))]
    first, second = goods.draw_colour(rng), goods.draw_colour(rng)
    if pattern == "foliage":
        green = Material("foliage", (0.02, 0.07, 0.02), (0.15, 0.3, 0.06), 0.15)
        return [
            goods.disc(0, 0.4, 0.2, goods.draw_ware(rng)),
            goods.oval(0, 0, 0.4 + high / 2, (0.4, 0.4, high / 2), green),
        ]
    size = {"books": 0.06, "panels": w, "fabric": 0.1}.get(pattern, 0.2)
    face = Material(pattern, first, second if pattern != "panels" else shade(first, 0.5), size)
    low = 0.0 if pattern in ("books", "panels", "fabric") else 0.5
    parts = [box((-w, -0.2, low), (w, 0.2, low + high), face)]
    if low:
        parts.append(
            box((-0.7 * w, -0.18, 0.0), (0.7 * w, 0.18, low), Material("wood", shade(first, 0.5), shade(first, 0.3)))
        )
    return parts


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
"""Classes of objects by name; each makes one about the origin, standing on z = 0, its front to +y."""

FACED = {"armchair", "castle", "clock", "duck", "house", "penguin", "robot", "snowman", "teddy"}
"""Those that are hard to tell from behind: they are seen from the front or half from the side."""

BROAD = {"books", "bus", "car", "castle", "crate", "dumbbell", "house", "train"}
"""Those whose longest side lies: seen from their ends they would be too short to tell."""

SIDED = {"mug", "teapot"}
"""Those whose handle tells them: it is seen from its side, before or behind."""

FOCAL = 0.95


def draw_object(seed: int, index: int, frames: int) -> Scene:
    """Return object `index` of those of `seed`, seen in `frames` images on a short way around it.

    Of any `len(OBJECTS)` images that begin at a multiple of it each class is one.
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
    thing = moved(parts, (-centre[0], -centre[1], table.top - low[2]))
    thing = moved(thing, (0.0, 0.0, 0.0), rng.uniform(0, 2 * np.pi))
    camera = _around(rng, thing, _direction(rng, name, thing), frames)
    piece = Piece(thing, name)
    return Scene(
        kind="objects",
        category=name,
        classes=tuple(OBJECTS),
        shell=draw_shell(rng),
        pieces=(piece, *table.pieces, *clutter(rng, table, piece, camera)),
        light=draw_light(rng, camera),
        camera=camera,
    )


def _direction(rng: np.random.Generator, name: str, thing: tuple[Solid, ...]) -> float:
    """Return from which side a thing is seen, radians to the left of y; a thing's front is +y turned by its yaw."""
    front = thing[0].yaw
    if name in BROAD:
        long_x = thing[0].half[0] > thing[0].half[1] or name in ("castle", "house")
        aside = rng.uniform(0.45, 1.15) * rng.choice([-1, 1]) * (0.6 if long_x else 1.0)
        return front + aside + (0.0 if name in FACED else rng.choice([0.0, np.pi]))
    if name in SIDED:
        return front + rng.uniform(-0.55, 0.55) + rng.choice([0.0, np.pi])
    if name in FACED:
        return front + rng.uniform(-0.9, 0.9)
    return rng.uniform(0, 2 * np.pi)


def _around(rng: np.random.Generator, thing: tuple[Solid, ...], direction: float, frames: int) -> Camera:
    """Return a way around a thing, at the distance at which it fills the image as asked for."""
    low, high = bounds(thing)
    middle = (low + high) / 2 + rng.normal(0, 0.02, 3)
    pitch, roll, fill = rng.uniform(0.08, 0.6), rng.normal(0, 0.04), rng.uniform(0.8, 0.98)
    speed, poses = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05), []
    distance = _distance(thing, middle, direction, pitch, fill)
    for frame in range(frames):
        # to and fro, since all the way around there is clutter
        swing = 0.35 * np.sin(speed * frame / 0.35)
        at = direction + swing
        tilt = pitch + 0.04 * np.sin(0.2 * frame)
        poses.append(_towards(middle, at, tilt, distance, roll))
    return Camera(np.stack(poses), np.arange(frames) / 10, FOCAL, 0.06)


def _towards(middle: Floats, direction: float, pitch: float, distance: float, roll: float) -> Floats:
    """Return the pose of a camera that looks at a middle from a direction and a pitch above it."""
    back = np.array([-np.sin(direction) * np.cos(pitch), np.cos(direction) * np.cos(pitch), np.sin(pitch)])
    return look(middle + distance * back, np.arctan2(-back[0], -back[1]), pitch, roll)


def _distance(thing: tuple[Solid, ...], middle: Floats, direction: float, pitch: float, fill: float) -> float:
    """Return from how far a thing fills that share of an image of 4 : 3, or of its width."""
    rim = np.concatenate([_rim(solid) for solid in thing])
    near, far = 0.5, 6.0
    for _ in range(24):
        distance = (near + far) / 2
        pose = _towards(middle, direction, pitch, distance, 0.0)
        x, y, z = pose[:3, :3].T @ (rim - pose[:3, 3]).T
        outside = (z < 0.1).any() or max(np.abs(x / z).max(), np.abs(y / z).max() / 0.75) * 2 * FOCAL > fill
        near, far = (distance, far) if outside else (near, distance)
    return far


def _rim(solid: Solid) -> Floats:
    """Return (n, 3) points on the outside of a solid: its corners, or some of its round side."""
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
