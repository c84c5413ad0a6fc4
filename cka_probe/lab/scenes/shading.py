"""Shading: the light that points of a scene emit towards the camera.

Rooms have a lamp (four points of it, one for each ray of a pixel, which makes shadows soft), windows, and ambient light
that is weaker in corners; outdoors there are the sun and the sky:

    light = colour (ambient + sum_i I_i max(0, n . l_i) visible_i) + glow,    I_i = 1 / (d_i^2 + 1) in a room

Nothing depends on the camera: a point has the same colour in every frame.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cka_probe.lab.scenes.rays import Rays, blocked, rotated, span
from cka_probe.lab.scenes.scene import Lamps, Sun
from cka_probe.lab.scenes.solids import BOX, CYLINDER
from cka_probe.lab.scenes.surface import Surface
from cka_probe.lab.scenes.table import PATTERNS, Floats, Numbers, Table

SKYLIGHT, AMBIENT = (np.array(rgb, np.float32) for rgb in ((0.85, 0.95, 1.1), (0.97, 0.98, 1.0)))
LAMP_POINTS = np.array([(-0.25, -0.15, 0), (0.15, -0.25, 0), (-0.15, 0.25, 0), (0.25, 0.15, 0)], np.float32)
CORNER_DISTANCE = 0.3  # metres from a corner within which ambient light is weaker
SUN_DISTANCE = 150.0  # metres beyond which nothing occludes the sun
_BLOCK = 1024
SURFACE_OFFSET = 2e-3  # metres between a surface and the start of its shadow rays


@dataclass(frozen=True)
class Points:
    """Points on surfaces.

    Attributes:
        position: (3, n) float32 in the world.
        solid: (n,) index in the table; -1 is the shell.
        unit: (3, n) in the axes of the solid, divided by its half extents.
        normal: (3, n) in the world, outward, and inward for the shell.
        face: (n,) 0 to 5: -x, +x, -y, +y, -z, +z; 1 for a curved side.
        flat: (n,) bool, False on a curved side.
    """

    position: Floats
    solid: Numbers
    unit: Floats
    normal: Floats
    face: Numbers
    flat: NDArray[np.bool_]


def on_surfaces(table: Table, position: Floats, solid: Numbers) -> Points:
    """Return normals and faces of (3, n) points that lie on given solids."""
    kind, dtype = table.shape.take(solid), position.dtype
    # negative numbers count from the end, where the shell is
    centre, half, turn = (field.astype(dtype).take(solid, axis=1) for field in (table.centre, table.half, table.turn))
    unit = rotated(turn, position - centre) / half
    size = np.abs(unit)
    axis = np.where(size[1] > size[0], 1, 0)
    axis[size[2] > np.maximum(size[0], size[1])] = 2
    cylinder = kind == CYLINDER
    if cylinder.any():
        cap = cylinder & (size[2] * size[2] > size[0] * size[0] + size[1] * size[1])
        axis[cap] = 2
        flat = (kind == BOX) | cap
    else:
        flat = kind == BOX
    positive = np.where(axis == 0, unit[0], np.where(axis == 1, unit[1], unit[2])) > 0
    sign = np.where(positive != (solid == -1), dtype.type(1), dtype.type(-1))  # the shell is seen from inside
    normal = np.stack([np.where(axis == k, sign, dtype.type(0)) for k in range(3)])
    bent = np.flatnonzero(~flat)
    if len(bent):
        slope = unit[:, bent] / half[:, bent]
        slope[2, cylinder[bent]] = 0
        normal[:, bent] = slope / np.sqrt(_dot(slope, slope))
    face = np.where(flat, 2 * axis + positive, 1)
    return Points(position, solid, unit, rotated(turn * np.array([[1], [-1]], dtype), normal), face, flat)


def light_from(table: Table, light: Lamps | Sun, points: Points, fine: int) -> Floats:
    """Return the light that points on surfaces emit and reflect.

    Args:
        table: The solids of the scene.
        light: The light.
        points: float32, pixel by pixel.
        fine: Number of rays per pixel.

    Returns:
        (n, 3) linear RGB.
    """
    solids = len(table.shape)
    material = table.material.ravel().take(points.face * solids + points.solid % solids)
    albedo = _paint(table, points, material)
    if isinstance(light, Lamps):
        received = _of_lamps(table, light, points, fine)
    else:
        received = _of_sun(table, light, points, fine)
    received += table.glow.take(material)[:, None]
    return np.multiply(albedo, received, out=received)


def _paint(table: Table, points: Points, material: Numbers) -> Floats:
    """Return the colour of each point, (n, 3), by the pattern of its material."""
    colours = np.empty((len(material), 3), np.float32)
    pattern = table.pattern.take(material)
    order = np.argsort(pattern, kind="stable")  # numpy sorts bytes by counting
    ends = np.cumsum(np.bincount(pattern, minlength=len(PATTERNS)))
    for paint, first, last in zip(PATTERNS.values(), [0, *ends[:-1]], ends, strict=True):
        if last > first:
            here = order[first:last]
            colours[here] = paint(_surface(table, points, material.take(here), here))
    return np.clip(colours, 0.005, 1, out=colours)


def _surface(table: Table, points: Points, material: Numbers, here: Numbers) -> Surface:
    """Return some points as the surface that a pattern is a function of."""
    solid, unit = points.solid.take(here), points.unit.take(here, axis=1)
    half = table.half.astype(np.float32).take(solid, axis=1)
    local, axis = unit * half, points.face.take(here) // 2
    u = np.where(axis == 0, local[1], local[0])
    around = np.flatnonzero((table.shape.take(solid) != BOX) & (axis == 0))
    if len(around):
        u[around] = np.arctan2(unit[1, around], unit[0, around]) * half[:2, around].mean(axis=0)
    return Surface(
        u=u,
        v=np.where(axis == 2, local[1], local[2]),
        edge=np.stack([np.where(axis == 0, unit[1], unit[0]), np.where(axis == 2, unit[1], unit[2])]),
        xyz=local + np.float32(7.3) * (solid % 61).astype(np.float32),
        first=table.first.take(material, axis=0),
        second=table.second.take(material, axis=0),
        size=table.period.take(material),
    )


def _of_sun(table: Table, sun: Sun, points: Points, fine: int) -> Floats:
    """Return the light of sun and sky on points, (n, 3)."""
    towards = np.array(sun.direction, np.float32)
    received = (0.62 + 0.38 * points.normal[2])[:, None] * np.array(sun.ambient, np.float32)
    strength = np.maximum(towards @ points.normal, 0)
    shining = SUN_DISTANCE * np.broadcast_to(towards[:, None], points.position.shape)
    sky = (points.solid == -1) & table.sky.take(points.face)  # nothing shades the sky
    strength[_shaded(table, points, shining, (strength > 0.01) & ~sky, fine)] = 0
    received += strength[:, None] * np.array(sun.strength, np.float32)
    return received


def _of_lamps(table: Table, lamps: Lamps, points: Points, fine: int) -> Floats:
    """Return the light of lamp and windows on points in a room, (n, 3)."""
    low, high = ((table.centre[:, -1] + sign * table.half[:, -1]).astype(np.float32) for sign in (-1, 1))
    corner = np.ones(points.position.shape[1], np.float32)
    for axis in range(3):
        facing = 0.38 * (1 - np.abs(points.normal[axis]))  # a wall is no corner of itself
        for distance in (points.position[axis] - low[axis], high[axis] - points.position[axis]):
            corner *= 1 - facing * np.exp(distance * (-1 / CORNER_DISTANCE))
    received = (0.36 * lamps.ambient * (0.82 + 0.18 * points.normal[2]) * corner)[:, None] * AMBIENT
    lamp = np.array(lamps.lamp, np.float32) + LAMP_POINTS
    to_lamp = lamp.T.take(_place_in_pixel(len(corner), fine) % len(lamp), axis=1) - points.position
    area = float((high[0] - low[0]) * (high[1] - low[1]))
    strength = _lambert(points.normal, to_lamp) * (1.2 + 0.055 * area) * 2.1
    strength[_shaded(table, points, to_lamp, strength > 0.004, fine)] = 0
    received += (strength * corner)[:, None] * np.array(lamps.colour, np.float32)
    for position, inward in lamps.windows:
        to_window = np.array(position, np.float32)[:, None] - points.position
        towards = np.maximum(-(np.array(inward, np.float32) @ to_window), 0)
        towards /= np.sqrt(_dot(to_window, to_window)) + 1e-3
        received += (2.2 * _lambert(points.normal, to_window) * towards * corner)[:, None] * SKYLIGHT
    return received


def _place_in_pixel(n: int, fine: int) -> Numbers:
    """Return the index of the ray of each point within its pixel."""
    return np.arange(n) % fine


def _lambert(normal: Floats, to_light: Floats) -> Floats:
    """Return max(0, n . l) / (d^2 + 1), (n,)."""
    squared = _dot(to_light, to_light)
    return np.maximum(_dot(normal, to_light), 0) / (np.sqrt(squared) * (squared + 1) + 1e-6)


def _shaded(table: Table, points: Points, to_light: Floats, lit: NDArray[np.bool_], fine: int) -> NDArray[np.bool_]:
    """Return which points are in shadow, (n,).

    The first and the last ray of each pixel are traced to the light. The others are traced only if these two differ or
    the rays of the pixel meet different solids: then the edge of a shadow or of a solid runs through the pixel.
    """
    if fine < 3:
        return _hidden(table, points, to_light, np.flatnonzero(lit))
    position = _place_in_pixel(len(lit), fine)
    outer = (position == 0) | (position == fine - 1)
    shaded = _hidden(table, points, to_light, np.flatnonzero(lit & outer))
    first, last = shaded[0::fine], shaded[fine - 1 :: fine]
    solid, on = points.solid.reshape(-1, fine), lit.reshape(-1, fine)
    mixed = (first != last) | (solid != solid[:, :1]).any(axis=1) | (on != on[:, :1]).any(axis=1)
    rest = np.repeat(first, fine)
    inner = np.repeat(mixed, fine) & ~outer
    traced = _hidden(table, points, to_light, np.flatnonzero(lit & inner))
    return np.where(outer, shaded, np.where(inner, traced, rest))


def _hidden(table: Table, points: Points, to_light: Floats, some: Numbers) -> NDArray[np.bool_]:
    """Return whether a solid is between each of some points and its light, (n,); False for all others."""
    hidden = np.zeros(points.position.shape[1], bool)
    if not len(some):
        return hidden
    position, normal, way = (field.take(some, axis=1) for field in (points.position, points.normal, to_light))
    position += np.float32(SURFACE_OFFSET) * normal
    rays = Rays(position, way)
    here = np.zeros(len(some), bool)
    for passing, shadows in zip(_passing(table.balls, position, way), table.shadows, strict=True):
        near = np.flatnonzero(passing & ~here)
        if not len(near):
            continue
        close = rays.of(near)
        for boxes in shadows.boxes:
            turned = close.turned(boxes.turn) if boxes.turn[1] else close
            middle = rotated(boxes.turn, table.centre[:, boxes.numbers])
            low, high = ((middle + sign * boxes.reach).astype(np.float32) for sign in (-1, 1))
            here[near[blocked(low, high, turned)]] = True
        for number in shadows.others:
            enter, leave = span(table, number, close)
            here[near[(enter < leave) & (leave > 0) & (enter < 1)]] = True
    hidden[some[here]] = True
    return hidden


def _passing(balls: Floats, position: Floats, way: Floats) -> NDArray[np.bool_]:
    """Return which segments pass through the ball around each piece, (pieces, n).

    With o = centre - point and d the vector to the light, |o - s d|^2 = o.o - s (2 o.d - s d.d) is smallest at
    s = o.d / d.d. In products of centres and points these are two matrix products for all pieces.
    """
    # products of large coordinates lose precision; the median, because distant points would dominate a mean
    middle = np.median(position[:, ::64], axis=1, keepdims=True)
    position, centre = position - middle, balls[:, :3].astype(np.float32) - middle.T
    passing = np.empty((len(balls), position.shape[1]), bool)
    reach = (balls[:, 3:].astype(np.float32) * 1.001 + 1e-3) - (centre**2).sum(axis=1)[:, None]
    for first in range(0, position.shape[1], _BLOCK):  # fits into the cache of a processor
        block = slice(first, first + _BLOCK)
        o, d = position[:, block], way[:, block]
        length, far = _dot(d, d), _dot(o, o)
        along = centre @ d - _dot(o, d)
        share = np.clip(along / length, 0, 1)
        apart = far - 2 * (centre @ o)
        along *= 2
        along -= share * length
        along *= share
        passing[:, block] = apart - along < reach
    return passing


def _dot(a: Floats, b: Floats) -> Floats:
    """Return the inner products of (3, n) vectors, (n,), written out because numpy sums a short first axis slowly."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
