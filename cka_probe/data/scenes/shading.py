"""How light a point in a room is, and in which colour.

Light comes from the lamp (from four points of it, one for each of a pixel's four rays, so that shadows have
soft edges), from the windows, and from all around, of which less reaches corners:

    light = colour (ambient corner + sum_i I_i max(0, n . l_i) / (d_i^2 + 1) seen_i) + glow

Nothing depends on where the camera is: the same point has the same colour in every frame.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cka_probe.data.scenes.plan import bounds
from cka_probe.data.scenes.rays import Floats, solids_of, span, to_local
from cka_probe.data.scenes.room import Room
from cka_probe.data.scenes.solids import BOX, CYLINDER, Solid
from cka_probe.data.scenes.texture import PATTERNS, Surface

Numbers = NDArray[np.int64]

LAMP, SKY, AROUND = (np.array(rgb, np.float32) for rgb in ((1.0, 0.9, 0.76), (0.85, 0.95, 1.1), (0.97, 0.98, 1.0)))
LAMP_POINTS = np.array([(-0.25, -0.15, 0), (0.15, -0.25, 0), (-0.15, 0.25, 0), (0.25, 0.15, 0)], np.float32)
CORNER = 0.3  # metres over which a corner is darker


@dataclass(frozen=True)
class _Table:
    """The solids of a room as arrays with the shell last, so that its number is -1; S solids, M materials."""

    shape: Numbers  # (S,)
    centre: Floats  # (3, S)
    half: Floats  # (3, S)
    turn: Floats  # (2, S): cosine and sine of yaw
    material: Numbers  # (6, S) by face: -x, +x, -y, +y, -z, +z
    first: Floats  # (M, 3)
    second: Floats  # (M, 3)
    period: Floats  # (M,)
    glow: Floats  # (M,)
    pattern: Numbers  # (M,)


def _tabulate(room: Room) -> _Table:
    """Return a room's solids and materials as arrays."""

    def column(values: list) -> Floats:
        return np.array(values, np.float32)

    solids, middle = solids_of(room), np.array(room.size) / 2
    materials = [solid.material for solid in solids] + list(room.surfaces)
    own, shell = np.tile(np.arange(len(solids)), (6, 1)), len(solids) + np.arange(6)[:, None]
    return _Table(
        shape=np.array([solid.shape for solid in solids] + [BOX]),
        centre=column([*(solid.centre for solid in solids), middle]).T,
        half=column([*(solid.half for solid in solids), middle]).T,
        turn=column([*((np.cos(solid.yaw), np.sin(solid.yaw)) for solid in solids), (1, 0)]).T,
        material=np.concatenate([own, shell], axis=1),
        first=column([m.first for m in materials]),
        second=column([m.second for m in materials]),
        period=column([m.size for m in materials]),
        glow=column([m.glow for m in materials]),
        pattern=np.array([list(PATTERNS).index(m.pattern) for m in materials]),
    )


def light_from(room: Room, points: Floats, solid: Numbers, lamp_point: Numbers) -> Floats:
    """Return the light that points on surfaces send out.

    Args:
        room: The room.
        points: (3, n) float32 in the world, on surfaces.
        solid: (n,) number of the solid in `solids_of(room)`, -1 for the shell.
        lamp_point: (n,) 0 to 3, the point of the lamp that shines on each.

    Returns:
        (n, 3) linear RGB.
    """
    table = _tabulate(room)
    c, s = table.turn[:, solid]
    local = points - table.centre[:, solid]
    local = np.stack([c * local[0] + s * local[1], c * local[1] - s * local[0], local[2]])
    unit = local / table.half[:, solid]
    normal, face = _normals(table, unit, solid)
    material = table.material[face, solid]
    albedo = _paint(table, local, unit, face, solid, material)
    normal = np.stack([c * normal[0] - s * normal[1], s * normal[0] + c * normal[1], normal[2]])
    received = _received(room, points, normal, lamp_point)
    return albedo * (received + table.glow[material][:, None])


def _normals(table: _Table, unit: Floats, solid: Numbers) -> tuple[Floats, Numbers]:
    """Return outward normals (3, n) in the solids' axes, and the number of the face each point is on."""
    shape, n = table.shape[solid], np.arange(unit.shape[1])
    round_ = unit.copy()
    round_[2, shape == CYLINDER] = 0
    cap = (shape == CYLINDER) & (np.abs(unit[2]) > np.hypot(unit[0], unit[1]))
    flat = (shape == BOX) | cap
    axis = np.where(cap, 2, np.abs(unit).argmax(axis=0))
    positive = unit[axis, n] > 0
    normal = round_ / table.half[:, solid]
    normal[:, flat] = 0
    normal[axis[flat], n[flat]] = np.where(positive[flat], 1, -1)
    normal /= np.sqrt(_dot(normal, normal))
    normal[:, solid == -1] *= -1  # the shell is seen from inside
    face = np.where(flat, 2 * axis + positive, 1)  # a round side is no box's face: any but the two of z
    return normal, face


def _paint(table: _Table, local: Floats, unit: Floats, face: Numbers, solid: Numbers, material: Numbers) -> Floats:
    """Return each point's colour, (n, 3), by its material's pattern."""
    axis, angle = face // 2, np.arctan2(unit[1], unit[0])
    curved = table.shape[solid] != BOX
    around = curved & (axis == 0)
    u = np.where(around, angle * table.half[:2, solid].mean(axis=0), np.where(axis == 0, local[1], local[0]))
    v = np.where(axis == 2, local[1], local[2])
    edge = np.stack([np.where(axis == 0, unit[1], unit[0]), np.where(axis == 2, unit[1], unit[2])])
    apart = local + np.float32(7.3) * (solid % 61).astype(np.float32)
    colours, pattern = np.empty((len(solid), 3), np.float32), table.pattern[material]
    for number, paint in enumerate(PATTERNS.values()):
        here = np.flatnonzero(pattern == number)
        if len(here):
            m = material[here]
            parts = (table.first[m], table.second[m], table.period[m])
            colours[here] = paint(Surface(u[here], v[here], edge[:, here], apart[:, here], *parts))
    return np.clip(colours, 0.005, 1)


def _received(room: Room, points: Floats, normal: Floats, lamp_point: Numbers) -> Floats:
    """Return the light that falls on points, (n, 3)."""
    area = room.size[0] * room.size[1]
    corner = np.ones(points.shape[1], np.float32)
    for axis, extent in enumerate(room.size):
        for distance in (points[axis], np.float32(extent) - points[axis]):
            facing = 1 - np.abs(normal[axis])  # a wall is not in a corner with itself
            corner *= 1 - 0.38 * facing * np.exp(-distance / CORNER)
    received = 0.36 * (0.82 + 0.18 * normal[2])[:, None] * corner[:, None] * AROUND
    lamp = np.array(room.lamp, np.float32) + LAMP_POINTS
    to_lamp = lamp[lamp_point].T - points
    strength = _lambert(normal, to_lamp) * (1.2 + 0.055 * area) * 2.1
    lit = np.flatnonzero(strength > 0.004)
    strength[lit[_hidden(room, points[:, lit] + 0.002 * normal[:, lit], to_lamp[:, lit])]] = 0
    received += strength[:, None] * corner[:, None] * LAMP
    for place, inward in room.windows:
        to_window = np.array(place, np.float32)[:, None] - points
        towards = np.maximum(-(np.array(inward, np.float32) @ to_window), 0)
        towards /= np.sqrt(_dot(to_window, to_window)) + 1e-3
        received += (2.2 * _lambert(normal, to_window) * towards * corner)[:, None] * SKY
    return received


def _lambert(normal: Floats, to_light: Floats) -> Floats:
    """Return max(0, n . l) / (d^2 + 1), (n,)."""
    squared = _dot(to_light, to_light)
    return np.maximum(_dot(normal, to_light), 0) / (np.sqrt(squared) * (squared + 1) + 1e-6)


def _hidden(room: Room, points: Floats, to_light: Floats) -> NDArray[np.bool_]:
    """Return whether a solid stands between each point and its light, (n,)."""
    hidden = np.zeros(points.shape[1], bool)
    pieces = [solids for piece in room.pieces if (solids := [solid for solid in piece if solid.shadow])]
    for solids, near in zip(pieces, _passing(pieces, points, to_light), strict=True):
        near = np.flatnonzero(near & ~hidden)
        for solid in solids:
            if len(near):
                origin, direction = to_local(solid, points[:, near], True), to_local(solid, to_light[:, near], False)
                enter, leave = span(solid, origin, direction)
                meets = (enter < leave) & (leave > 0) & (enter < 1)
                hidden[near[meets]] = True
                near = near[~meets]
    return hidden


def _passing(pieces: list[list[Solid]], points: Floats, to_light: Floats) -> NDArray[np.bool_]:
    """Return which segments pass through the ball around each piece, (pieces, n).

    With o = centre - point and d the way to the light, |o - s d|^2 = o.o - s (2 o.d - s d.d) is least at
    s = o.d / d.d; written with products of centres and points it is two matrix products for all pieces.
    """
    corners = np.array([bounds(solids) for solids in pieces], np.float32).reshape(-1, 2, 3)
    centre, squared = corners.mean(axis=1), ((corners[:, 1] - corners[:, 0]) ** 2).sum(axis=1) / 4
    length = _dot(to_light, to_light)
    along = centre @ to_light - _dot(points, to_light)
    apart = (centre**2).sum(axis=1)[:, None] - 2 * (centre @ points) + _dot(points, points)
    share = np.clip(along / length, 0, 1)
    return apart - share * (2 * along - share * length) < squared[:, None] + 1e-3


def _dot(a: Floats, b: Floats) -> Floats:
    """Return the inner products of (3, n) vectors, (n,); numpy sums a short first axis slowly."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
