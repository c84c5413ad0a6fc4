"""What a street lies on: the road with its lanes, pavements, a side road."""

import numpy as np

from cka_probe.lab.scenes.palette import colour, shade
from cka_probe.lab.scenes.solids import Material, box
from cka_probe.lab.scenes.street_site import KERB, ROAD, Site
from cka_probe.lab.scenes.world import Piece

_STEP = 22.5  # metres of a piece of a bent road: three periods of its dashes
_BEYOND = 330.0  # metres of road behind the last bend


def ground(site: Site) -> list[Piece]:
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
    pieces = [_strip(site, along, (left, right), top, ROAD) for along in _lengths(site)]
    if style.walk:
        for along in _lengths(site, site.gap):
            pieces.append(_strip(site, along, (left - style.walk, left), stones, KERB))
            pieces.append(_strip(site, along, (right, right + style.walk), stones, KERB))
    if site.gap:
        middle, half = sum(site.gap) / 2, (site.gap[1] - site.gap[0]) / 2
        # a box of its own length along x would show its wear across: it is laid along y and turned
        across = box((-half, -250.0, -0.2), (half, 250.0, ROAD - 0.006), Material("asphalt", grey, worn))
        pieces.append(Piece(site.road.put([across], (middle, 0.0, 0.0), turn=np.pi / 2), "road"))
        if site.zebra:
            bars = Material("zebra", grey, worn, 1.0)
            for s in (site.gap[0] - 2.2, site.gap[1] + 2.2):
                cross = box((left + 0.3, -1.5, 0.0), (right - 0.3, 1.5, ROAD + 0.006), bars, shadow=False)
                pieces.append(Piece(site.road.put([cross], (s, 0.0, 0.0)), "road"))
    return pieces


def _lengths(site: Site, gap: tuple[float, float] | None = None) -> list[tuple[float, float]]:
    """Return from where to where each straight piece of road or pavement goes, leaving out a gap."""
    end = site.road.length
    if site.road.curvature == 0:
        return [(-_STEP, end + _BEYOND)] if gap is None else [(-_STEP, gap[0]), (gap[1], end + _BEYOND)]
    count = int(np.ceil((end + _STEP) / _STEP))
    bends = [(-_STEP + _STEP * k, _STEP * k) for k in range(count)]
    return [*bends, (bends[-1][1], end + _BEYOND)]


def _strip(site: Site, along: tuple[float, float], across: tuple[float, float], look: Material, top: float) -> Piece:
    """Return a straight piece of road or pavement.

    Where pieces of a bend overlap every second one is lower, by less than one sees, so that one of them is above.
    """
    bent = site.road.curvature != 0
    over = 0.5 * _STEP * abs(site.road.curvature) * max(map(abs, across)) + 0.1 if bent else 0.0
    odd = round(along[0] / _STEP) % 2 if bent else 0
    low, narrow = 0.006 * odd, 0.003 * odd  # where two overlap one is seen
    half, middle = (along[1] - along[0]) / 2, sum(along) / 2
    x = sum(across) / 2
    # ground is built about its own middle, from which patterns count
    slab = box(
        (across[0] - x + narrow, -half - over, -0.2),
        (across[1] - x - narrow, half + over, top - low),
        look,
        shadow=False,
    )
    return Piece(site.road.put([slab], (middle, x, 0.0)), "road" if top == ROAD else "sidewalk")
