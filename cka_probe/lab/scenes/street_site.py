"""A street while it is filled: its style, its course, what is taken of it, and what stands there so far."""

from dataclasses import dataclass

import numpy as np

from cka_probe.lab.scenes.solids import Point, Solid, moved
from cka_probe.lab.scenes.street_plan import Place, Road, Space
from cka_probe.lab.scenes.world import Piece

ROAD, KERB = 0.03, 0.16
"""Metres of the tops of road and pavement above the ground."""

_MANY = 110  # solids; more are too slow to look at


@dataclass(frozen=True)
class Style:
    """What kind of street it is; lengths in metres.

    Attributes:
        kind: "town", "suburb" or "country".
        lane: Width of a lane.
        lanes: In each direction.
        parking: Whether cars park on the left, on the right.
        walk: Width of the pavements; 0 = none.
        setback: From the street to the houses.
        bent: Whether the road bends.
        crossing: Whether another road crosses it.
        ego: Where the camera's lane is, to the right of the road's middle.
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
        """Return how far the kerb is from the middle of the road on the left (-1) or right (1)."""
        return self.lane * self.lanes + 2.2 * self.parking[side > 0] + 0.4


def draw_style(rng: np.random.Generator) -> Style:
    """Return a kind of street."""
    kind = str(rng.choice(["town", "suburb", "country"], p=[0.42, 0.36, 0.22]))
    lanes = 2 if kind == "town" and rng.uniform() < 0.3 else 1
    lane = rng.uniform(3.0, 3.6)
    parking = tuple(bool(rng.uniform() < 0.7) for _ in range(2)) if kind != "country" else (False, False)
    walk = {"town": rng.uniform(2.6, 4.5), "suburb": rng.uniform(1.6, 2.4), "country": 0.0}[kind]
    setback = {"town": 0.25, "suburb": rng.uniform(3.5, 7.0), "country": rng.uniform(7.0, 16.0)}[kind]
    bent = rng.uniform() < (0.25 if kind == "town" else 0.45)
    crossing = not bent and kind != "country" and rng.uniform() < 0.6
    ego = lane * (rng.integers(lanes) + 0.5)
    return Style(kind, lane, lanes, parking, walk, setback, bent, crossing, ego)


class Site:
    """A street while it is filled.

    Args:
        rng: What draws it.
        style: What kind of street it is.
        road: Its course.
        space: What is taken of it.
        way: Metres that the camera drives.

    Attributes:
        pieces: What stands there so far.
        gap: From where to where along it another road crosses, if one does.
        zebra: Whether people may cross there on zebra crossings.
        near: Metres along it up to which things have their details.
        end: Metres along it up to which there are things.
    """

    def __init__(self, rng: np.random.Generator, style: Style, road: Road, space: Space, way: float):
        self.rng, self.style, self.road, self.space, self.way = rng, style, road, space, way
        self.pieces: list[Piece] = []
        half, middle = rng.uniform(3.2, 4.5), way * rng.uniform(0.3, 1.0) + rng.uniform(18, 34)
        self.gap = (middle - half, middle + half) if style.crossing else None
        self.zebra = bool(rng.uniform() < 0.7)
        self.near, self.end = 16.0 + way, 66.0 + way

    def in_gap(self, s: float, margin: float) -> bool:
        """Return whether a place along the road is on the road that crosses, or nearer to it than a margin."""
        return self.gap is not None and self.gap[0] - margin < s < self.gap[1] + margin

    @property
    def full(self) -> bool:
        """Whether there are so many solids that what only adorns is left out."""
        return sum(len(piece.solids) for piece in self.pieces) > _MANY

    def unseen(self, s: float, d: float) -> bool:
        """Return whether a place is beside or behind the camera from the start."""
        return s < 0.75 * abs(d - self.style.ego) - 1.0

    def add(
        self,
        solids: list[Solid],
        label: str,
        place: Place,
        turn: float = 0.0,
        velocity: Point = (0.0, 0.0, 0.0),
    ) -> bool:
        """Put a piece somewhere if it meets nothing there all the time, and return whether it was put."""
        placed = self.road.put(solids, place, turn)
        there = self.space.take(placed, velocity, apart=0.03 if not any(velocity) else 0.3)
        if there:
            self.pieces.append(Piece(placed, label, velocity))
        return there

    def drive(self, solids: list[Solid], label: str, place: Place, speed: float) -> bool:
        """Put what moves along the road at a speed (less than 0: towards the camera), if it can keep to its lane.

        It moves straight on; its course touches that of the road half way.
        """
        (s, d, z), seconds = place, self.space.seconds
        if (speed * seconds) ** 2 * abs(self.road.curvature) / 8 > 0.4:
            return False
        velocity = self.road.ahead(s + speed * seconds / 2, speed)
        x, y, turn = self.road.at(s + speed * seconds / 2, d)
        start = (x - velocity[0] * seconds / 2, y - velocity[1] * seconds / 2, z)
        placed = moved(solids, start, turn + (np.pi if speed < 0 else 0.0))
        there = self.space.take(placed, velocity, apart=0.3)
        if there:
            self.pieces.append(Piece(placed, label, velocity))
        return there
