"""Which solid a ray meets first, and where.

A ray is `origin + t direction`. A camera's rays are written with a z of 1 in its own axes, so that t **is** the
depth along the optical axis (not the length of the ray), exactly and with no division afterwards.

Most solids stand parallel to the world's axes. Theirs are the rays' own coordinates, and the divisions that a
box asks for are done once for all of them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cka_probe.data.scenes.solids import BOX, ELLIPSOID
from cka_probe.data.scenes.table import Floats, Numbers, Table

Where = tuple[slice, slice] | Numbers
Span = tuple[Floats, Floats]

_CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_NEAR = 0.05  # metres before the camera, and no picture of what is nearer


@dataclass(frozen=True)
class Rays:
    """Rays from one place, or each from its own.

    Attributes:
        origin: (3,), or (3, n) beside a direction of (3, n).
        direction: (3, ...).
    """

    origin: Floats
    direction: Floats

    @cached_property
    def inverse(self) -> Floats:
        """One over each coordinate of the direction, finite."""
        tiny = self.direction.dtype.type(1e-12)
        return 1 / np.where(np.abs(self.direction) < tiny, tiny, self.direction)

    def of(self, where: Where) -> "Rays":
        """Return some of the rays."""
        if isinstance(where, tuple):
            where = (slice(None), *where)
            return _with_inverse(self.origin, self.direction[where], self.inverse[where])
        origin = self.origin if self.origin.ndim == 1 else self.origin[:, where]
        return _with_inverse(origin, self.direction[:, where], self.inverse[:, where])

    def seen_by(self, table: Table, solid: int) -> "Rays":
        """Return the rays in a solid's own axes."""
        centre = table.centre[:, solid].astype(self.direction.dtype)
        origin = self.origin - centre.reshape(3, *[1] * (self.origin.ndim - 1))
        if table.square[solid]:
            return _with_inverse(origin, self.direction, self.inverse)
        return Rays(_turned(table.turn[:, solid], origin), _turned(table.turn[:, solid], self.direction))


def _with_inverse(origin: Floats, direction: Floats, inverse: Floats) -> Rays:
    rays = Rays(origin, direction)
    rays.__dict__["inverse"] = inverse  # what cached_property would put there
    return rays


def _turned(turn: Floats, vectors: Floats) -> Floats:
    """Return (3, ...) vectors of the world in axes turned about z."""
    c, s = turn.astype(vectors.dtype)
    turned = np.empty_like(vectors)
    turned[0], turned[1], turned[2] = c * vectors[0] + s * vectors[1], c * vectors[1] - s * vectors[0], vectors[2]
    return turned


def span(table: Table, solid: int, rays: Rays) -> Span:
    """Return t where rays enter and leave a solid; one that misses enters after it leaves."""
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


def _slab(rays: Rays, half: Floats, axis: int) -> Span:
    """Return t where rays enter and leave |x| <= half."""
    inverse = rays.inverse[axis]
    enter, leave = (-half[axis] - rays.origin[axis]) * inverse, (half[axis] - rays.origin[axis]) * inverse
    return np.minimum(enter, leave), np.maximum(enter, leave, out=leave)


def _round(rays: Rays, half: Floats, axes: int) -> Span:
    """Return t where rays enter and leave an ellipsoid (or an endless cylinder, of two axes)."""
    a = b = c = 0.0
    for axis in range(axes):
        o, d = rays.origin[axis] / half[axis], rays.direction[axis] / half[axis]
        a, b, c = a + d * d, b + o * d, c + o * o
    under = b * b - a * (c - 1)
    root, miss = np.sqrt(np.maximum(under, 0)), under <= 0
    return np.where(miss, np.inf, (-b - root) / a), np.where(miss, -np.inf, (-b + root) / a)


@dataclass(frozen=True)
class Hits:
    """Where rays end.

    Attributes:
        t: Of each ray; for a camera's rays metres along the optical axis.
        solid: The number of the solid in the table; -1 is the shell.
    """

    t: Floats
    solid: Numbers


def camera_rays(pose: Floats, K: Floats, size: tuple[int, int], fine: int, dtype: type) -> Rays:
    """Return rays of a grid of (H fine, W fine), `fine` a pixel each way, spread about its centre."""
    v, u = ((np.arange(length * fine) + 0.5) / fine - 0.5 for length in size)
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    ways = pose[:3, 0, None, None] * x + pose[:3, 1, None, None] * y[:, None] + pose[:3, 2, None, None]
    return Rays(pose[:3, 3].astype(dtype), ways.astype(dtype))


def cast(table: Table, pose: Floats, K: Floats, rays: Rays, pixels: Floats | None = None) -> Hits:
    """Return what a camera's rays meet first.

    Args:
        table: The world, with the camera inside its shell and outside every solid.
        pose: (4, 4) camera to world.
        K: (3, 3) in units of the grid of rays, or of `pixels`.
        rays: From the camera: an (h, w) grid of them, or a list of n.
        pixels: (2, n) where each ray of a list meets the picture.
    """
    low, high = (
        (table.centre[:, -1] + sign * table.half[:, -1] - rays.origin).astype(rays.direction.dtype) for sign in (-1, 1)
    )
    t = np.full(rays.direction.shape[1:], np.inf, rays.direction.dtype)
    for axis in range(3):
        ahead = np.where(rays.direction[axis] > 0, high[axis], low[axis])
        np.minimum(t, ahead * rays.inverse[axis], out=t)
    index = np.full(t.shape, -1)
    for number, (top, bottom, left, right) in _windows(table, pose, K, t.shape if pixels is None else None):
        if pixels is None:
            where: Where = (slice(top, bottom), slice(left, right))
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


def _windows(table: Table, pose: Floats, K: Floats, shape: tuple[int, ...] | None) -> list[tuple[int, tuple]]:
    """Return (solid, (top, bottom, left, right)) of each solid that can be seen.

    Without a shape, of the grid or list of rays, a window has no limits but the solid's own.
    """
    c, s = table.turn[:, :-1]
    zero = np.zeros_like(c)
    axes = np.array([(c, s, zero), (-s, c, zero), (zero, zero, zero + 1)]) * table.half[:, None, :-1]
    corners = table.centre[:, None, :-1] + np.einsum("ka,aws->wks", _CORNERS, axes)
    x, y, z = np.einsum("wc,wks->cks", pose[:3, :3], corners - pose[:3, 3, None, None])
    behind = z < _NEAR
    safe = np.where(behind, 1.0, z)
    u, v = K[0, 0] * x / safe + K[0, 2], K[1, 1] * y / safe + K[1, 2]
    # the picture of a corner behind the camera says nothing: such a solid may be anywhere
    partly = behind.any(axis=0)
    limits = (np.inf, np.inf) if shape is None else shape
    first = 0 if shape is not None else -np.inf
    top, left = (np.maximum(np.where(partly, -np.inf, np.floor(a.min(axis=0)) - 1), first) for a in (v, u))
    bottom, right = (
        np.minimum(np.where(partly, np.inf, np.floor(a.max(axis=0)) + 3), limit)
        for a, limit in zip((v, u), limits, strict=True)
    )
    there = (top < bottom) & (left < right) & ~behind.all(axis=0)
    window = np.stack([top, bottom, left, right], axis=1)[there]
    if shape is not None:
        window = window.astype(int)
    return list(zip(np.flatnonzero(there).tolist(), map(tuple, window.tolist()), strict=True))
