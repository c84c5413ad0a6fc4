"""Which solid a ray meets first, and where.

A ray is `origin + t direction`. A camera's rays are written with a z of 1 in its own axes, so that t **is** the
depth along the optical axis (not the length of the ray), exactly and with no division afterwards.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from cka_probe.data.scenes.room import Room
from cka_probe.data.scenes.solids import CYLINDER, ELLIPSOID, Solid

Floats = NDArray[np.floating]
Window = tuple[slice, slice]

_CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)


@dataclass(frozen=True)
class Hits:
    """Where the rays of an (h, w) grid end.

    Attributes:
        depth: (h, w) t of the ray; metres along the optical axis for a camera's rays.
        solid: (h, w) int, a number in `solids_of(room)`; -1 is the room's own shell.
    """

    depth: Floats
    solid: NDArray[np.int64]


def solids_of(room: Room) -> list[Solid]:
    """Return all solids of a room, piece by piece."""
    return [solid for piece in room.pieces for solid in piece]


def to_local(solid: Solid, vectors: Floats, place: bool) -> Floats:
    """Return (3, ...) vectors in a solid's own axes; `place` also moves its centre to the origin."""
    c, s = np.cos(solid.yaw), np.sin(solid.yaw)
    x, y, z = vectors
    if place:
        x, y, z = x - solid.centre[0], y - solid.centre[1], z - solid.centre[2]
    c, s = vectors.dtype.type(c), vectors.dtype.type(s)
    return np.stack([c * x + s * y, c * y - s * x, z])


def span(solid: Solid, origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """Return t where rays enter and leave a solid; a ray that misses enters after it leaves.

    Args:
        solid: The solid.
        origin: (3, ...) in the solid's own axes, of a shape that broadcasts with `direction`.
        direction: (3, ...) in the solid's own axes.
    """
    half = np.asarray(solid.half, direction.dtype).reshape(3, *[1] * (direction.ndim - 1))
    origin, direction = origin / half, direction / half
    if solid.shape == ELLIPSOID:
        return _round(origin, direction)
    sides = [_slab(origin[2], direction[2])]
    if solid.shape == CYLINDER:
        sides.append(_round(origin[:2], direction[:2]))
    else:
        sides += [_slab(origin[axis], direction[axis]) for axis in (0, 1)]
    return reduce(np.maximum, (enter for enter, _ in sides)), reduce(np.minimum, (leave for _, leave in sides))


def _slab(origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """Return t where rays enter and leave -1 <= x <= 1."""
    slow = np.where(np.abs(direction) < 1e-9, direction.dtype.type(1e-9), direction)
    inverse = 1 / slow
    middle, reach = -origin * inverse, np.abs(inverse)
    return middle - reach, middle + reach


def _round(origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """Return t where rays enter and leave the unit ball (or the unit circle, with two coordinates)."""
    a, b, c = (
        sum(d * d for d in direction),
        sum(o * d for o, d in zip(origin, direction, strict=True)),
        sum(o * o for o in origin),
    )
    under = b * b - a * (c - 1)
    root, miss = np.sqrt(np.maximum(under, 0)), under <= 0
    return np.where(miss, np.inf, (-b - root) / a), np.where(miss, -np.inf, (-b + root) / a)


def camera_rays(pose: Floats, K: Floats, size: tuple[int, int], fine: int, dtype: type) -> Floats:
    """Return (3, H fine, W fine) directions in the world, z = 1 in the camera, `fine` rays a pixel each way."""
    v, u = ((np.arange(length * fine) + 0.5) / fine - 0.5 for length in size)
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    rays = pose[:3, 0, None, None] * x + pose[:3, 1, None, None] * y[:, None] + pose[:3, 2, None, None]
    return rays.astype(dtype)


def cast(room: Room, pose: Floats, K: Floats, rays: Floats) -> Hits:
    """Return what the camera's rays meet first.

    Args:
        room: The room, with the camera inside it and outside every solid.
        pose: (4, 4) camera to world.
        K: (3, 3) in units of the grid of rays.
        rays: (3, h, w) from `camera_rays`.
    """
    origin = pose[:3, 3].astype(rays.dtype)
    w, d, h = room.size
    walls = np.where(rays > 0, np.array([w, d, h], rays.dtype)[:, None, None], 0) - origin[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.nanmin(np.where(rays == 0, np.inf, walls / rays), axis=0)
    index = np.full(depth.shape, -1)
    solids = solids_of(room)
    for number, (solid, window) in enumerate(zip(solids, _windows(solids, pose, K, depth.shape), strict=True)):
        if window is None:
            continue
        near = to_local(solid, origin, place=True)[:, None, None]
        enter, leave = span(solid, near, to_local(solid, rays[(slice(None), *window)], place=False))
        first = (enter < leave) & (enter > 0) & (enter < depth[window])
        depth[window][first] = enter[first]
        index[window][first] = number
    return Hits(depth, index)


def _windows(solids: list[Solid], pose: Floats, K: Floats, shape: tuple[int, ...]) -> list[Window | None]:
    """Return the rows and columns of the grid each solid can be seen in; None where it is behind or beside."""
    centre, half, yaw = (np.array([getattr(solid, name) for solid in solids]) for name in ("centre", "half", "yaw"))
    across = np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], axis=1)
    along = np.stack([-np.sin(yaw), np.cos(yaw), 0 * yaw], axis=1)
    axes = np.stack([across, along, np.tile([0.0, 0.0, 1.0], (len(solids), 1))], axis=1) * half[:, :, None]
    corners = centre[:, None] + np.einsum("ca,sad->scd", _CORNERS, axes)
    u, v, z = np.einsum("ij,scj->isc", K @ pose[:3, :3].T, corners - pose[:3, 3])
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = np.nan_to_num(u / z, posinf=0, neginf=0), np.nan_to_num(v / z, posinf=0, neginf=0)
    # the picture of a corner behind the camera says nothing: such a solid may be anywhere in the grid
    partly = (z < 0.05).any(axis=1)[:, None]
    low = np.maximum(np.where(partly, 0, np.stack([v.min(axis=1), u.min(axis=1)], axis=1) - 1), 0).astype(int)
    high = np.minimum(np.where(partly, shape, np.stack([v.max(axis=1), u.max(axis=1)], axis=1) + 3), shape).astype(int)
    seen = (low < high).all(axis=1) & (z >= 0.05).any(axis=1)
    return [
        (slice(top, bottom), slice(left, right)) if there else None
        for there, (top, left), (bottom, right) in zip(seen, low, high, strict=True)
    ]
