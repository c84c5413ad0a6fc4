"""Draw one object in the middle of an image, on a table or a floor with other things about it, from a seed.

The worlds of object-centric data: an image is of one thing, which stands out by its size and its place and not by
what surrounds it. A class is a shape in its materials; colours, patterns, proportions, pose, light, view and
surroundings are drawn anew for each image, so that none of them tells the class. Every object is shown at the
size of a large toy (its longest side is 0.4 to 0.7 m), which is what the grain of materials and the light of a
room are made for.

More than one frame is a short way around the object.
"""

from collections.abc import Callable

import numpy as np

from cka_probe.lab.scenes import object_goods as goods
from cka_probe.lab.scenes import object_toys as toys
from cka_probe.lab.scenes import object_vessels as vessels
from cka_probe.lab.scenes.object_place import Table, clutter, draw_light, draw_shell
from cka_probe.lab.scenes.object_shapes import scaled
from cka_probe.lab.scenes.palette import draw_palette
from cka_probe.lab.scenes.room import look
from cka_probe.lab.scenes.solids import CYLINDER, ELLIPSOID, Solid, bounds, moved
from cka_probe.lab.scenes.street_plan import Floats
from cka_probe.lab.scenes.world import Camera, Piece, World

OBJECTS: dict[str, Callable[[np.random.Generator], list[Solid]]] = {
    "apple": goods.apple,
    "armchair": goods.armchair,
    "barrel": vessels.barrel,
    "beach ball": toys.beach_ball,
    "books": goods.books,
    "bottle": vessels.bottle,
    "burger": goods.burger,
    "bus": toys.toy_bus,
    "cactus": goods.cactus,
    "cake": goods.cake,
    "candle": vessels.candle,
    "car": toys.toy_car,
    "castle": toys.castle,
    "chair": goods.chair,
    "clock": goods.clock,
    "crate": goods.crate,
    "drum": vessels.drum,
    "duck": toys.duck,
    "dumbbell": goods.dumbbell,
    "football": toys.football,
    "hat": goods.hat,
    "hourglass": vessels.hourglass,
    "house": toys.toy_house,
    "lamp": vessels.lamp,
    "lighthouse": toys.lighthouse,
    "mug": vessels.mug,
    "mushroom": goods.mushroom,
    "penguin": toys.penguin,
    "robot": toys.robot,
    "rocket": toys.rocket,
    "snowman": toys.snowman,
    "stool": goods.stool,
    "teapot": vessels.teapot,
    "teddy": toys.teddy,
    "train": toys.train,
    "tree": toys.tree,
    "vase": vessels.vase,
}
"""Classes of objects by name; each makes one about the origin, standing on z = 0, its front to +y."""

FACED = {"armchair", "castle", "clock", "duck", "house", "penguin", "robot", "snowman", "teddy"}
"""Those that are hard to tell from behind: they are seen from the front or half from the side."""

BROAD = {"books", "bus", "car", "castle", "crate", "dumbbell", "house", "train"}
"""Those whose longest side lies: seen from their ends they would be too short to tell."""

SIDED = {"mug", "teapot"}
"""Those whose handle tells them: it is seen from its side, before or behind."""

FOCAL = 0.95


def draw_object(seed: int, index: int, frames: int) -> World:
    """Return object `index` of those of `seed`, seen in `frames` images on a short way around it.

    Of any `len(OBJECTS)` images that begin at a multiple of it each class is one.
    """
    lap, turn = divmod(index, len(OBJECTS))
    name = list(OBJECTS)[np.random.default_rng([seed, lap, 1]).permutation(len(OBJECTS))[turn]]
    rng = np.random.default_rng([seed, index])
    thing = OBJECTS[name](rng)
    low, high = bounds(thing)
    thing = scaled(thing, rng.uniform(0.4, 0.7) / float(max(high - low)))
    table = Table(rng, draw_palette(rng))
    low, high = bounds(thing)
    centre = (low + high) / 2
    thing = moved(thing, (-centre[0], -centre[1], table.top - low[2]))
    thing = moved(thing, (0.0, 0.0, 0.0), rng.uniform(0, 2 * np.pi))
    camera = _around(rng, thing, _direction(rng, name, thing), frames)
    piece = Piece(thing, name)
    return World(
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
