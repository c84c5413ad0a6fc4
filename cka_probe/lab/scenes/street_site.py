"""Positions along a street, and collision tests of what stands and moves there.

A road is an arc of a circle (or a straight line). A position is (s, d): metres along its centre line and metres to
the right of it. With curvature k the direction of the centre line has turned to the left by k s, so that

    x = (cos(k s) - 1) / k + d cos(k s),    y = sin(k s) / k + d sin(k s),    straight on for s beyond `length`

Collisions are decided exactly. Each object is a box rotated about z that moves at a constant velocity while it is
present. Two boxes overlap at a time t if their projections on each of the four directions of their sides, and on z,
overlap (separating axes). The projections on one direction overlap during one interval of t, so two boxes collide if
all these intervals have a t in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cka_probe.lab.scenes.scene import Piece
from cka_probe.lab.scenes.solids import Point, Solid, moved

Floats = NDArray[np.float64]

Position = tuple[float, float, float]
"""s and d along a road, and z."""

ALWAYS = (-1e9, 1e9)
_STILL = 1e-9


@dataclass(frozen=True)
class Road:
    """The course of a road; `curvature` (1/m, to the left) holds from s = 0 to `length`."""

    curvature: float
    length: float

    def at(self, s: float, d: float) -> tuple[float, float, float]:
        """Return x, y and the direction (radians to the left of y) at a position along the road."""
        k = self.curvature
        bent = min(max(s, 0.0), self.length)
        turn, rest = k * bent, s - bent
        c, sine = np.cos(turn), np.sin(turn)
        x, y = ((c - 1) / k, sine / k) if k else (0.0, bent)
        return float(x + d * c - rest * sine), float(y + d * sine + rest * c), float(turn)

    def put(self, solids: Sequence[Solid], position: Position, turn: float = 0.0) -> tuple[Solid, ...]:
        """Return solids built at the origin and facing y, moved to a position and turned to the left by `turn`."""
        s, d, z = position
        x, y, along = self.at(s, d)
        return moved(solids, (x, y, z), along + turn)

    def ahead(self, s: float, speed: float) -> Point:
        """Return the velocity of a vehicle that drives along the road at s."""
        turn = self.at(s, 0.0)[2]
        return (-speed * float(np.sin(turn)), speed * float(np.cos(turn)), 0.0)


@dataclass(frozen=True)
class Boxes:
    """n moving boxes.

    Attributes:
        centre: (n, 3) at time 0.
        half: (n, 3) in their own axes.
        yaw: (n,) radians.
        velocity: (n, 3).
        span: (n, 2) the first and the last second in which each is present.
    """

    centre: Floats
    half: Floats
    yaw: Floats
    velocity: Floats
    span: Floats

    @classmethod
    def of(cls, solids: Sequence[Solid], velocity: Point = (0.0, 0.0, 0.0)) -> "Boxes":
        """Return the boxes of solids that move together."""
        n = len(solids)
        return cls(
            np.array([solid.centre for solid in solids]),
            np.array([solid.half for solid in solids]),
            np.array([solid.yaw for solid in solids]),
            np.tile(np.array(velocity, float), (n, 1)),
            np.tile(np.array(ALWAYS), (n, 1)),
        )

    def __add__(self, other: "Boxes") -> "Boxes":
        fields = ("centre", "half", "yaw", "velocity", "span")
        return Boxes(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in fields))

    def __len__(self) -> int:
        return len(self.yaw)


def collide(a: Boxes, b: Boxes, seconds: float, clearance: float = 0.0) -> NDArray[np.bool_]:
    """Return which pairs of boxes collide at any time from 0 to `seconds`, (n_a, n_b).

    Args:
        a: Boxes.
        b: Others.
        seconds: Duration.
        clearance: Required distance in each direction, metres; a negative one allows contact.
    """
    first = np.maximum(np.maximum.outer(a.span[:, 0], b.span[:, 0]), 0.0)
    last = np.minimum(np.minimum.outer(a.span[:, 1], b.span[:, 1]), seconds)
    between = b.centre[None, :, :2] - a.centre[:, None, :2]
    drift = b.velocity[None, :, :2] - a.velocity[:, None, :2]
    lift = np.abs(b.centre[None, :, 2] - a.centre[:, None, 2]) < a.half[:, None, 2] + b.half[None, :, 2] + clearance
    for yaw in (a.yaw[:, None], b.yaw[None, :]):
        for turn in (0.0, np.pi / 2):
            directions = np.stack(np.broadcast_arrays(np.cos(yaw + turn), np.sin(yaw + turn)), axis=-1)
            reach = _reach(a, directions, 0) + _reach(b, directions, 1) + clearance
            position, speed = (between * directions).sum(axis=-1), (drift * directions).sum(axis=-1)
            still = np.abs(speed) < _STILL
            rate = np.where(still, 1.0, speed)
            enter = np.where(
                still, np.where(np.abs(position) < reach, -np.inf, np.inf), (-np.sign(rate) * reach - position) / rate
            )
            leave = np.where(still, np.inf, (np.sign(rate) * reach - position) / rate)
            first, last = np.maximum(first, enter), np.minimum(last, leave)
    return lift & (first < last)


def _reach(boxes: Boxes, directions: Floats, axis: int) -> Floats:
    """Return half the length of the boxes' projections on directions (n_a, n_b, 2); boxes are along `axis`."""
    shape = [1, 1]
    shape[axis] = len(boxes)
    c, s, x, y = (field.reshape(shape) for field in (np.cos(boxes.yaw), np.sin(boxes.yaw), *boxes.half.T[:2]))
    u, v = directions[..., 0], directions[..., 1]
    return x * np.abs(c * u + s * v) + y * np.abs(c * v - s * u)


class Space:
    """The occupied space of a street over time.

    Args:
        way: Boxes of the camera, which nothing may touch.
        seconds: Duration of the clip.
    """

    def __init__(self, way: Boxes, seconds: float):
        self.occupied, self.seconds = way, seconds

    def occupy(self, solids: Sequence[Solid], velocity: Point = (0.0, 0.0, 0.0), clearance: float = 0.05) -> bool:
        """Occupy the space of some solids if it is free for the whole clip; return whether it was."""
        boxes = Boxes.of(solids, velocity)
        if collide(boxes, self.occupied, self.seconds, clearance).any():
            return False
        self.occupied = self.occupied + boxes
        return True


ROAD, KERB = 0.03, 0.16
"""Heights of the road and of the pavement above the ground, metres."""

_MANY = 110  # solids; more are slow to render


@dataclass(frozen=True)
class Style:
    """Parameters of a street; lengths in metres.

    Attributes:
        kind: "town", "suburb" or "country".
        lane: Width of a lane.
        lanes: In each direction.
        parking: Whether cars park (on the left, on the right).
        walk: Width of the pavements; 0 = none.
        setback: Distance from the street to the houses.
        bent: Whether the road bends.
        crossing: Whether another road crosses it.
        ego: Offset of the camera's lane to the right of the centre line.
    """

    kind: str
    lane: float
    lanes: int
    parking: tuple[bool, bool]
    walk: float
    setback: float
    bent: bool
    crossing: bool
    ego: float

    def edge(self, side: int) -> float:
        """Return the distance from the centre line to the kerb on the left (-1) or right (1)."""
        return self.lane * self.lanes + 2.2 * self.parking[side > 0] + 0.4


def draw_style(rng: np.random.Generator) -> Style:
    """Draw the parameters of a street."""
    kind = str(rng.choice(["town", "suburb", "country"], p=[0.42, 0.36, 0.22]))
    lanes = 2 if kind == "town" and rng.uniform() < 0.3 else 1
    lane = rng.uniform(3.0, 3.6)
    parking = (False, False)
    if kind != "country":
        parking = bool(rng.uniform() < 0.7), bool(rng.uniform() < 0.7)
    walk = {"town": rng.uniform(2.6, 4.5), "suburb": rng.uniform(1.6, 2.4), "country": 0.0}[kind]
    setback = {"town": 0.25, "suburb": rng.uniform(3.5, 7.0), "country": rng.uniform(7.0, 16.0)}[kind]
    bent = rng.uniform() < (0.25 if kind == "town" else 0.45)
    crossing = not bent and kind != "country" and rng.uniform() < 0.6
    ego = lane * (rng.integers(lanes) + 0.5)
    return Style(kind, lane, lanes, parking, walk, setback, bent, crossing, ego)


class Site:
    """A street under construction.

    Args:
        rng: Random generator.
        style: Parameters of the street.
        road: Its course.
        space: Its occupied space.
        way: Metres that the camera drives.

    Attributes:
        pieces: The pieces so far.
        gap: (start, end) along the road of a crossing road, or `None`.
        zebra: Whether there are zebra crossings.
        near: Metres along the road up to which pieces are detailed.
        end: Metres along the road up to which there are pieces.
    """

    def __init__(self, rng: np.random.Generator, style: Style, road: Road, space: Space, way: float):
        self.rng, self.style, self.road, self.space, self.way = rng, style, road, space, way
        self.pieces: list[Piece] = []
        half, middle = rng.uniform(3.2, 4.5), way * rng.uniform(0.3, 1.0) + rng.uniform(18, 34)
        self.gap = (middle - half, middle + half) if style.crossing else None
        self.zebra = bool(rng.uniform() < 0.7)
        self.near, self.end = 16.0 + way, 66.0 + way

    def in_gap(self, s: float, margin: float) -> bool:
        """Return whether a position along the road is on the crossing road, or within a margin of it."""
        return self.gap is not None and self.gap[0] - margin < s < self.gap[1] + margin

    @property
    def full(self) -> bool:
        """Whether there are so many solids that decoration is omitted."""
        return sum(len(piece.solids) for piece in self.pieces) > _MANY

    def is_out_of_view(self, s: float, d: float) -> bool:
        """Return whether a position is next to or behind the camera at the start."""
        return s < 0.75 * abs(d - self.style.ego) - 1.0

    def add(
        self,
        solids: list[Solid],
        label: str,
        position: Position,
        turn: float = 0.0,
        velocity: Point = (0.0, 0.0, 0.0),
    ) -> bool:
        """Add a piece if it collides with nothing during the clip; return whether it was added."""
        placed = self.road.put(solids, position, turn)
        fits = self.space.occupy(placed, velocity, clearance=0.03 if not any(velocity) else 0.3)
        if fits:
            self.pieces.append(Piece(placed, label, velocity))
        return fits

    def drive(self, solids: list[Solid], label: str, position: Position, speed: float) -> bool:
        """Add a piece that moves along the road at a speed (negative: towards the camera), if it stays in its lane.

        It moves in a straight line that is tangent to the road half way.
        """
        (s, d, z), seconds = position, self.space.seconds
        if (speed * seconds) ** 2 * abs(self.road.curvature) / 8 > 0.4:
            return False
        velocity = self.road.ahead(s + speed * seconds / 2, speed)
        x, y, turn = self.road.at(s + speed * seconds / 2, d)
        start = (x - velocity[0] * seconds / 2, y - velocity[1] * seconds / 2, z)
        placed = moved(solids, start, turn + (np.pi if speed < 0 else 0.0))
        fits = self.space.occupy(placed, velocity, clearance=0.3)
        if fits:
            self.pieces.append(Piece(placed, label, velocity))
        return fits
