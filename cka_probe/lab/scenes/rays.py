"""Ray casting: the first solid that a ray meets, and where.

A ray is `origin + t direction`. The direction of a camera ray has z = 1 in camera axes, so that t **is** the depth
along the optical axis (not the length of the ray), exactly and without a division.

Most solids are parallel to the axes of the scene. They share the coordinates of the rays, and the divisions that boxes
need are done once for all of them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cka_probe.lab.scenes.solids import BOX, CYLINDER, ELLIPSOID
from cka_probe.lab.scenes.table import Floats, Numbers, Table

Where = tuple[slice, ...] | Numbers
Span = tuple[Floats, Floats]

_CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_AT_ONCE = 30000  # numbers that fit into the cache of a processor
_NEAR = 0.05  # metres in front of the camera within which nothing is rendered


@dataclass(frozen=True)
class Rays:
    """Rays from one origin, or each from its own.

    Attributes:
        origin: (3,), or (3, n) with a direction of (3, n).
        direction: (3, ...).
    """

    origin: Floats
    direction: Floats

    @cached_property
    def inverse(self) -> Floats:
        """The reciprocal of each coordinate of the direction, finite."""
        tiny = self.direction.dtype.type(1e-12)
        return 1 / np.where(np.abs(self.direction) < tiny, tiny, self.direction)

    def of(self, where: Where) -> "Rays":
        """Return some of the rays."""
        if isinstance(where, tuple):
            where = (slice(None), *where)
            return _with_inverse(self.origin, self.direction[where], self.inverse[where])
        origin = self.origin if self.origin.ndim == 1 else self.origin.take(where, axis=1)
        return _with_inverse(origin, self.direction.take(where, axis=1), self.inverse.take(where, axis=1))

    def seen_by(self, table: Table, solid: int) -> "Rays":
        """Return the rays in the axes of a solid."""
        centre = table.centre[:, solid].astype(self.direction.dtype)
        origin = self.origin - centre.reshape(3, *[1] * (self.origin.ndim - 1))
        if table.square[solid]:
            return _with_inverse(origin, self.direction, self.inverse)
        return Rays(origin, self.direction).turned(table.turn[:, solid])

    def turned(self, turn: Floats) -> "Rays":
        """Return the rays in axes rotated about z by an angle of this (cosine, sine)."""
        return Rays(rotated(turn, self.origin), rotated(turn, self.direction))


def _with_inverse(origin: Floats, direction: Floats, inverse: Floats) -> Rays:
    rays = Rays(origin, direction)
    rays.__dict__["inverse"] = inverse  # what cached_property would put there
    return rays


def rotated(turn: Floats, vectors: Floats) -> Floats:
    """Return (3, ...) vectors of the scene in axes rotated about z."""
    c, s = turn.astype(vectors.dtype)
    turned = np.empty_like(vectors)
    turned[0], turned[1], turned[2] = c * vectors[0] + s * vectors[1], c * vectors[1] - s * vectors[0], vectors[2]
    return turned


def span(table: Table, solid: int, rays: Rays) -> Span:
    """Return t where rays enter and leave a solid; for a ray that misses it, the entry is after the exit."""
    local, half = rays.seen_by(table, solid), table.reach[:, solid].astype(rays.direction.dtype)
    shape = table.shape[solid]
    if shape == ELLIPSOID:
        return _round(local, half, 3)
    enter, leave = _slab(local, half, 2)
    if shape == BOX:
        for axis in (0, 1):
            first, last = _slab(local, half, axis)
            np.maximum(enter, first, out=enter)
            np.minimum(leave, last, out=leave)
        return enter, leave
    first, last = _round(local, half, 2)
    return np.maximum(enter, first), np.minimum(leave, last)


def blocked(low: Floats, high: Floats, rays: Rays) -> NDArray[np.bool_]:
    """Return which segments, from t = 0 to 1, meet any of some boxes, (n,).

    Args:
        low: (3, b) lowest corners in the axes of the rays.
        high: (3, b) highest corners.
        rays: n rays, each with its own origin.
    """
    met = np.empty(rays.origin.shape[1], bool)
    many = max(1, _AT_ONCE // low.shape[1])
    for first in range(0, len(met), many):
        block = slice(first, first + many)
        enter, leave = np.float32(0), np.float32(1)
        for axis in range(3):
            o, inverse = rays.origin[axis, block], rays.inverse[axis, block]
            one, other = (low[axis, :, None] - o) * inverse, (high[axis, :, None] - o) * inverse
            enter = np.maximum(enter, np.minimum(one, other))
            leave = np.minimum(leave, np.maximum(one, other, out=other))
        met[block] = (enter < leave).any(axis=0)
    return met


def _slab(rays: Rays, half: Floats, axis: int) -> Span:
    """Return t where rays enter and leave |x| <= half."""
    inverse = rays.inverse[axis]
    enter, leave = (-half[axis] - rays.origin[axis]) * inverse, (half[axis] - rays.origin[axis]) * inverse
    return np.minimum(enter, leave), np.maximum(enter, leave, out=leave)


def _round(rays: Rays, half: Floats, axes: int) -> Span:
    """Return t where rays enter and leave an ellipsoid (or an endless cylinder, of two axes)."""
    a, b, under = _quadratic(rays, half, axes)
    root, miss = np.sqrt(np.maximum(under, 0)), under <= 0
    return np.where(miss, np.inf, (-b - root) / a), np.where(miss, -np.inf, (-b + root) / a)


def _quadratic(rays: Rays, half: Floats, axes: int) -> tuple[Floats, Floats, Floats]:
    """Return a, b and b^2 - a c of `a t^2 + 2 b t + c = 0`, where a ray meets an ellipsoid."""
    a: Any = 0.0
    b: Any = 0.0
    c: Any = 0.0
    for axis in range(axes):
        o, d = rays.origin[axis] / half[axis], rays.direction[axis] / half[axis]
        a, b, c = a + d * d, b + o * d, c + o * o
    return np.maximum(a, 1e-30), b, b * b - a * (c - 1)  # a ray along a cylinder has no a


@dataclass(frozen=True)
class Hits:
    """The first intersection of each ray.

    Attributes:
        t: Position along each ray; for camera rays metres along the optical axis.
        solid: Index of the solid in the table; -1 is the shell.
    """

    t: Floats
    solid: Numbers


def camera_rays(pose: Floats, K: Floats, size: tuple[int, int], offsets: Floats, dtype: type = np.float32) -> Rays:
    """Return rays through every pixel.

    Args:
        pose: (4, 4) camera to world.
        K: (3, 3) intrinsics of the image.
        size: (H, W).
        offsets: (o, 2) offsets of rays from the centre of each pixel, (right, down).
        dtype: dtype of the rays.

    Returns:
        Rays of (3, o, H, W).
    """
    h, w = size
    across, down = np.asarray(offsets, float).reshape(-1, 2).T
    x = (np.arange(w) + across[:, None] - K[0, 2]) / K[0, 0]
    y = (np.arange(h) + down[:, None] - K[1, 2]) / K[1, 1]
    right, below, ahead = (pose[:3, axis, None, None, None] for axis in range(3))
    ways = right * x[:, None, :] + below * y[:, :, None] + ahead
    return Rays(pose[:3, 3].astype(dtype), ways.astype(dtype))


def cast(table: Table, pose: Floats, K: Floats, rays: Rays, pixels: Floats | None = None) -> Hits:
    """Return the first intersections of camera rays.

    Args:
        table: The scene; the camera is inside its shell and outside every solid.
        pose: (4, 4) camera to world.
        K: (3, 3) of the image.
        rays: Rays from the camera, within half a pixel of each pixel centre: (3, o, H, W), or (3, n).
        pixels: (2, n) position in the image of each of n rays.
    """
    low, high = (
        (table.centre[:, -1] + sign * table.half[:, -1] - rays.origin).astype(rays.direction.dtype) for sign in (-1, 1)
    )
    t = np.full(rays.direction.shape[1:], np.inf, rays.direction.dtype)
    for axis in range(3):
        ahead = np.where(rays.direction[axis] > 0, high[axis], low[axis])
        np.minimum(t, ahead * rays.inverse[axis], out=t)
    index = np.full(t.shape, -1)
    for number, (top, bottom, left, right) in _windows(table, pose, K, t.shape[-2:] if pixels is None else None):
        if pixels is None:
            where: Where = (slice(None), slice(top, bottom), slice(left, right))
        else:
            u, v = pixels
            where = np.flatnonzero((u >= left) & (u < right) & (v >= top) & (v < bottom))
        enter, leave = span(table, number, rays.of(where))
        first = (enter < leave) & (enter > 0) & (enter < t[where])
        if pixels is None:
            np.copyto(t[where], enter, where=first)
            np.copyto(index[where], number, where=first)
        else:
            t[where[first]], index[where[first]] = enter[first], number
    return Hits(t, index)


def meet(table: Table, solid: Numbers, rays: Rays) -> Floats:
    """Return t where each ray enters a solid that it meets, (n,), or leaves the shell.

    `cast` finds the solid in float32; this computes the position in the precision of `rays`.

    Args:
        table: The scene.
        solid: (n,) indices of solids.
        rays: n rays from one origin.
    """
    half, turn, centre = (field.take(solid, axis=1) for field in (table.half, table.turn, table.centre))
    origin = rotated(turn, rays.origin[:, None] - centre)
    local = Rays(origin, rotated(turn, rays.direction))
    slabs = [_slab(local, half, axis) for axis in range(3)]
    enter: Floats = np.maximum.reduce([slab[0] for slab in slabs])
    leave: Floats = np.minimum.reduce([slab[1] for slab in slabs])
    # a grazing ray may miss by rounding; then take the exit
    t: Floats = np.where((solid >= 0) & (enter < leave), enter, leave)
    for shape, axes in ((CYLINDER, 2), (ELLIPSOID, 3)):
        here = np.flatnonzero(table.shape[solid] == shape)
        if len(here):
            a, b, under = _quadratic(local.of(here), half[:, here], axes)
            enter = (-b - np.sqrt(np.maximum(under, 0))) / a
            t[here] = np.maximum(enter, slabs[2][0][here]) if shape == CYLINDER else enter
    return t


def _windows(table: Table, pose: Floats, K: Floats, shape: tuple[int, ...] | None) -> list[tuple[int, tuple]]:
    """Return (solid, (top, bottom, left, right)) of each solid that can be seen, in pixels.

    Without the shape (H, W) of the image, windows are not clipped to it.
    """
    c, s = table.turn[:, :-1]
    zero = np.zeros_like(c)
    axes = np.array([(c, s, zero), (-s, c, zero), (zero, zero, zero + 1)]) * table.half[:, None, :-1]
    corners = table.centre[:, None, :-1] + np.einsum("ka,aws->wks", _CORNERS, axes)
    x, y, z = np.einsum("wc,wks->cks", pose[:3, :3], corners - pose[:3, 3, None, None])
    behind = z < _NEAR
    safe = np.where(behind, 1.0, z)
    u, v = K[0, 0] * x / safe + K[0, 2], K[1, 1] * y / safe + K[1, 2]
    # a corner behind the camera has no image: such a solid may be anywhere
    partly = behind.any(axis=0)
    limits = (np.inf, np.inf) if shape is None else shape
    first = 0 if shape is not None else -np.inf
    top, left = (np.maximum(np.where(partly, -np.inf, np.floor(a.min(axis=0)) - 1), first) for a in (v, u))
    bottom, right = (
        np.minimum(np.where(partly, np.inf, np.floor(a.max(axis=0)) + 3), limit)
        for a, limit in zip((v, u), limits, strict=True)
    )
    visible = (top < bottom) & (left < right) & ~behind.all(axis=0)
    window = np.stack([top, bottom, left, right], axis=1)[visible]
    if shape is not None:
        window = window.astype(int)
    return list(zip(np.flatnonzero(visible).tolist(), map(tuple, window.tolist()), strict=True))
