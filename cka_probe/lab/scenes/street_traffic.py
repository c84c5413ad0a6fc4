"""What drives and parks on a street."""

import numpy as np

from cka_probe.lab.scenes import street_vehicles as vehicles
from cka_probe.lab.scenes.solids import Solid
from cka_probe.lab.scenes.street_site import ROAD, Site

_LABELS = {"car": "car", "van": "car", "truck": "truck", "bus": "bus"}


def traffic(site: Site, speed: float) -> None:
    """Put vehicles on a street: ahead of the camera, beside it, towards it, across its way, and parked.

    Args:
        site: The street, still empty.
        speed: Of the camera, m/s.
    """
    rng, style = site.rng, site.style
    lanes = [style.lane * (k + 0.5) for k in range(style.lanes)]
    for lane in lanes:
        if rng.uniform() < 0.6:
            pace = speed * rng.uniform(0.93, 1.07)
            _drive(site, rng.uniform(9, 26), lane, pace)
            if rng.uniform() < 0.4:
                _drive(site, rng.uniform(28, 50), lane, pace)
        for s in (rng.uniform(14, 32), rng.uniform(38, 75)):
            if rng.uniform() < 0.55:
                _drive(site, s + 2 * site.way * rng.uniform(), -lane, -rng.uniform(0.8, 1.2) * max(speed, 5.0))
    if site.gap:
        _cross(site)
    if rng.uniform() < 0.3:
        motor = bool(rng.uniform() < 0.35)
        label, pace = ("motorcycle", 0.95 * speed) if motor else ("bicycle", rng.uniform(2.5, 5.0))
        edge = style.lane * style.lanes - 0.35
        way, side = (1.0, 1) if rng.uniform() < 0.6 else (-1.0, -1)
        site.drive(vehicles.cyclist(rng, motor), label, (rng.uniform(8, 26), side * edge, ROAD), way * pace)
    for side in (-1, 1):
        if style.parking[side > 0]:
            _park(site, side)


def _draw(site: Site, far: bool) -> tuple[list[Solid], str]:
    """Return a vehicle and its label; most are cars."""
    name = str(site.rng.choice(list(_LABELS), p=[0.78, 0.1, 0.07, 0.05]))
    return getattr(vehicles, name)(site.rng, far), _LABELS[name]


def _drive(site: Site, s: float, d: float, speed: float) -> None:
    solids, label = _draw(site, far=s > 32)
    site.drive(solids, label, (s, d, ROAD), speed)


def _cross(site: Site) -> None:
    """Put cars on the road that crosses: some drive on, others wait at its edges."""
    rng, middle = site.rng, sum(site.gap) / 2
    for side in (-1, 1):
        reach = site.style.edge(side) + site.style.walk
        lane = middle - side * (site.gap[1] - site.gap[0]) / 4  # who comes from the right drives on the far side
        if rng.uniform() < 0.5:
            solids, label = _draw(site, far=False)
            pace, far = rng.uniform(4, 9), rng.uniform(4, 25)
            site.add(solids, label, (lane, side * far, ROAD), side * np.pi / 2, (-side * pace, 0.0, 0.0))
        if rng.uniform() < 0.5:
            solids, label = _draw(site, far=False)
            length = solids[0].half[1]
            place = (lane, side * (reach + length + rng.uniform(0.3, 2)), ROAD)
            site.add(solids, label, place, side * np.pi / 2)


def _park(site: Site, side: int) -> None:
    """Park cars along one side."""
    rng, style = site.rng, site.style
    d, s, share = side * (style.lane * style.lanes + 1.25), rng.uniform(3, 8), rng.uniform(0.25, 0.8)
    parked = 0
    while s < site.end - 30 and parked < 4:
        if rng.uniform() < share:
            far = s > site.near
            make = vehicles.car if rng.uniform() < 0.88 else vehicles.van
            turn = (0.0 if side > 0 else np.pi) + rng.normal(0, 0.015)
            if not site.in_gap(s, 6.0):
                parked += site.add(make(rng, far), "car", (s, d + rng.normal(0, 0.05), ROAD), turn)
        s += rng.uniform(5.3, 8.5)
