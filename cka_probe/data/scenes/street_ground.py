"""What a street lies on: its style, the road with its lanes, pavements, a side road."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cka_probe.data.scenes.palette import colour, shade
from cka_probe.data.scenes.solids import Material, Solid, box
from cka_probe.data.scenes.world import Piece

if TYPE_CHECKING:
    from cka_probe.data.scenes.street_sides import Site

ROAD, KERB = 0.03, 0.16
"""Metres of the tops of road and pavement above the ground."""

_STEP = 22.5  # metres of a piece of a bent road: three periods of its dashes
_BEYOND = 330.0  # metres of road behind the last bend


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


def ground(site: "Site") -> list[Piece]:
    """Return the road, its pavements and the road that crosses it, as pieces."""
    rng, style = site.rng, site.style
    grey = colour(rng.uniform(0.55, 0.65), rng.uniform(0, 0.06), rng.uniform(0.24, 0.4))
    worn = shade(grey, rng.uniform(2.0, 3.0))
    pattern = (
        "avenue" if style.lanes == 2 else ("lanes" if style.kind != "suburb" or rng.uniform() < 0.6 else "asphalt")
    )
    top = Material(pattern, grey, worn, style.lane)
    slab = colour(rng.uniform(0.06, 0.12), rng.uniform(0.02, 0.15), rng.uniform(0.55, 0.75))
    stones = Material("paving", slab, shade(slab, 0.55), rng.uniform(0.6, 1.2))
    left, right = -style.edge(-1), style.edge(1)
    pieces = [_strip(site, start, end, left, right, ROAD, top, "road") for start, end in _lengths(site)]
    if style.walk:
        for start, end in _lengths(site, site.gap):
            pieces.append(_strip(site, start, end, left - style.walk, left, KERB, stones, "sidewalk"))
            pieces.append(_strip(site, start, end, right, right + style.walk, KERB, stones, "sidewalk"))
    if site.gap:
        middle, half = sum(site.gap) / 2, (site.gap[1] - site.gap[0]) / 2
        # a box of its own length along x would show its wear across: it is laid along y and turned
        across = box((-half, -250.0, -0.2), (half, 250.0, ROAD - 0.006), Material("asphalt", grey, worn))
        pieces.append(Piece(site.road.put([across], middle, 0.0, turn=np.pi / 2), "road"))
        if site.zebra:
            bars = Material("zebra", grey, worn, 1.0)
            for s in (site.gap[0] - 2.2, site.gap[1] + 2.2):
                cross = box((left + 0.3, -1.5, 0.0), (right - 0.3, 1.5, ROAD + 0.006), bars, shadow=False)
                pieces.append(Piece(site.road.put([cross], s, 0.0), "road"))
    return pieces


def _lengths(site: "Site", gap: tuple[float, float] | None = None) -> list[tuple[float, float]]:
    """Return from where to where each straight piece of road or pavement goes, leaving out a gap."""
    end = site.road.length
    if site.road.curvature == 0:
        return [(-_STEP, end + _BEYOND)] if gap is None else [(-_STEP, gap[0]), (gap[1], end + _BEYOND)]
    count = int(np.ceil((end + _STEP) / _STEP))
    bends = [(-_STEP + _STEP * k, _STEP * k) for k in range(count)]
    return [*bends, (bends[-1][1], end + _BEYOND)]


def _strip(
    site: "Site", start: float, end: float, left: float, right: float, top: float, look: Material, label: str
) -> Piece:
    """Return a straight piece of ground; where bent ones overlap every second one is lower, by less than one sees."""
    bent = site.road.curvature != 0
    over = 0.5 * _STEP * abs(site.road.curvature) * max(abs(left), abs(right)) + 0.1 if bent else 0.0
    low = 0.006 * (round(start / _STEP) % 2) if bent else 0.0
    half, middle = (end - start) / 2, (start + end) / 2
    x = (left + right) / 2
    # ground is built about its own middle, from which patterns count
    slab: Solid = box((left - x, -half - over, -0.2), (right - x, half + over, top - low), look, shadow=False)
    at = site.road.put([slab], middle, x)
    if bent and start >= site.road.length - _STEP:
        at = site.road.put([slab], middle, x)
    return Piece(at, label)
