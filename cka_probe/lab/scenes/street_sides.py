"""What stands and walks along a street: houses, gardens, trees, lamps, signs, people; and what is far away."""

import numpy as np

from cka_probe.lab.scenes import street_houses as houses
from cka_probe.lab.scenes import street_parts as parts
from cka_probe.lab.scenes import street_vehicles as vehicles
from cka_probe.lab.scenes.palette import colour
from cka_probe.lab.scenes.solids import Material, box, ellipsoid
from cka_probe.lab.scenes.street_site import KERB, Site


def sides(site: Site) -> None:
    """Fill both sides of a street."""
    _distance(site)
    _crossing_signs(site)
    for side in (-1, 1):
        _signs(site, side)
    _people(site)
    for side in (-1, 1):
        _houses(site, side)
    for side in (-1, 1):
        _lamps(site, side)
        if site.style.kind != "town":
            _boundary(site, side)
    for side in (-1, 1):
        _trees(site, side)


def _houses(site: Site, side: int) -> None:
    """Put a row of houses along one side."""
    rng, style = site.rng, site.style
    front = style.edge(side) + style.walk + style.setback
    gaps = {"town": (0.08, 0.1), "suburb": (3.0, 8.0), "country": (22.0, 60.0)}[style.kind]
    s = 0.55 * front + rng.uniform(-4, 4)
    while s < site.end:
        bays = int(rng.integers(4, 8)) if style.kind == "town" else int(rng.integers(3, 6))
        make = houses.town_house if style.kind == "town" else houses.cottage
        if style.kind == "country" and rng.uniform() < 0.4:
            make = houses.barn
        house = make(rng, bays, s > site.near + 4)
        half, back = house[0].half[0] + 0.05, 0.0 if style.kind == "town" else rng.uniform(0, 2)
        if site.gap and s < site.gap[1] + 1.5 and s + 2 * half > site.gap[0] - 1.5:
            s = site.gap[1] + 1.5
            continue
        site.add(house, "building", (s + half, side * (front + back), 0.0), side * np.pi / 2)
        s += 2 * half + rng.uniform(*gaps) * (1 if rng.uniform() < 0.9 else 3)


def _boundary(site: Site, side: int) -> None:
    """Put hedges, fences and walls between the street and what is behind."""
    rng, style = site.rng, site.style
    d = style.edge(side) + style.walk + (0.6 if style.walk else rng.uniform(2.5, 4.0))
    s = max(0.8 * d, 2.0)
    while s < site.end - 20:
        length = rng.uniform(7, 13) if style.kind == "suburb" else rng.uniform(12, 24)
        name = str(rng.choice(["hedge", "fence", "wall", "none"], p=[0.35, 0.25, 0.2, 0.2]))
        middle = s + length / 2
        if name != "none" and not site.in_gap(middle, length / 2 + 1.0):
            label = {"hedge": "vegetation", "fence": "fence", "wall": "wall"}[name]
            site.add(getattr(parts, name)(rng, length), label, (middle, side * d, 0.0))
        s += length + rng.uniform(0.8, 4.0)


def _lamps(site: Site, side: int) -> None:
    """Put lamp posts, masts or marker posts along one side."""
    rng, style = site.rng, site.style
    if style.kind == "country":
        for s in np.arange(rng.uniform(4, 12), site.end - 20, 26.0):
            if side > 0:
                site.add(parts.mast(rng), "pole", (s, style.edge(1) + 2.0, 0.0))
            white = Material("checks", (0.8, 0.8, 0.78), (0.05, 0.05, 0.05), 1.2)
            post = box((-0.05, -0.06, 0), (0.05, 0.06, 0.95), white)
            site.add([post], "pole", (s + 9.0, side * (style.edge(side) + 0.6), 0.0))
        return
    for s in np.arange(rng.uniform(6, 14) + 11 * (side > 0), site.end - 20, 30.0):
        if not site.in_gap(s, 1.0):
            turn = np.pi if side > 0 else 0.0
            site.add(parts.street_lamp(rng, 1.5), "pole", (s, side * (style.edge(side) + 0.4), KERB), turn)


def _crossing_signs(site: Site) -> None:
    """Put traffic lights or signs where a road crosses."""
    if site.gap is None:
        return
    rng, lights = site.rng, site.rng.uniform() < 0.6
    for side in (-1, 1):
        make = parts.traffic_light if lights else parts.sign
        for s, turn in ((site.gap[0] - 0.6, np.pi), (site.gap[1] + 0.6, np.pi if lights else 0.0)):
            site.add(make(rng), "pole", (s, side * (site.style.edge(side) + 0.5), KERB), turn)


def _signs(site: Site, side: int) -> None:
    """Put a few signs along one side; those on the right are turned to the camera."""
    rng, style = site.rng, site.style
    z = KERB if style.walk else 0.0
    for _ in range(int(rng.integers(1, 3))):
        s = rng.uniform(8, site.near + 15)
        if not site.in_gap(s, 1.0):
            turn = np.pi if side > 0 or rng.uniform() < 0.4 else 0.0
            place = (s, side * (style.edge(side) + 0.55), z)
            site.add(parts.sign(rng), "pole", place, turn + rng.normal(0, 0.06))


def _people(site: Site) -> None:
    """Put people on the pavements, who stand or walk, alone or in pairs."""
    rng, style = site.rng, site.style
    if not style.walk:
        return
    for _ in range(int(rng.integers(3, 6)) if style.kind == "town" else int(rng.integers(1, 5))):
        side, s = int(rng.choice([-1, 1])), rng.uniform(6, site.near + 12)
        d = side * (style.edge(side) + rng.uniform(0.45, style.walk - 0.4))
        if site.in_gap(s, 3.0) or site.unseen(s, d):
            continue
        for apart in (0.0, 0.75)[: 1 + (rng.uniform() < 0.3)]:
            someone = vehicles.person(rng, s > site.near - 5)
            if rng.uniform() < 0.7:
                pace = rng.uniform(0.7, 1.7) * rng.choice([-1, 1])
                site.drive(someone, "person", (s + apart, d, KERB), pace)
            else:
                site.add(someone, "person", (s + apart, d, KERB), rng.uniform(0, 6))


def _trees(site: Site, side: int) -> None:
    """Put trees and bushes where there is room."""
    rng, style = site.rng, site.style
    town = style.kind == "town"
    if town and rng.uniform() < 0.4:
        return
    d0 = style.edge(side) + (0.55 if town else style.walk + 1.3)
    step = rng.uniform(10, 15) if style.kind != "country" else rng.uniform(7, 11)
    s = rng.uniform(2, 8)
    while s < site.end - 10 and not site.full:
        d = side * (d0 if town else d0 + rng.uniform(0, style.setback + 3.0))
        if not site.in_gap(s, 2.5) and not site.unseen(s, d):
            low = not town and rng.uniform() < 0.3
            plant = parts.bush(rng) if low else parts.tree(rng, s > site.near)
            site.add(plant, "vegetation", (s, d, KERB if town else 0.0), rng.uniform(0, 6))
        s += step * rng.uniform(0.6, 1.4)


def _distance(site: Site) -> None:
    """Put woods, hills and tall houses where the street ends, and a train at times."""
    rng, style = site.rng, site.style
    for _ in range(6):
        s, d = site.end + rng.uniform(25, 160), rng.choice([-1, 1]) * rng.uniform(26, 230)
        x, y, z = rng.uniform(12, 40), rng.uniform(8, 15), rng.uniform(5, 12)
        green = parts.draw_green(rng, rng.uniform(1.5, 3.0))
        site.add([ellipsoid((-x, -y, -0.4 * z), (x, y, z), green, shadow=False)], "vegetation", (s, d, 0.0))
    if style.kind != "country":
        for _ in range(3):
            s, d = site.end + rng.uniform(8, 120), rng.choice([-1, 1]) * rng.uniform(12, 60)
            bays, wall = int(rng.integers(4, 9)), houses.draw_wall(rng)
            x, top = bays * wall.size / 2, 3.0 * int(rng.integers(3, 9))
            if not site.in_gap(s, 12.0):
                site.add([box((-x, -5.0, 0), (x, 5.0, top), wall, shadow=False)], "building", (s, d, 0.0))
    haze = colour(0.55, 0.2, rng.uniform(0.5, 0.65))
    far = Material("foliage", colour(0.4, 0.3, 0.38), haze, 14.0)
    for _ in range(3):
        s, d, x, z = rng.uniform(650, 1500), rng.uniform(-900, 900), rng.uniform(250, 600), rng.uniform(20, 70)
        site.add([ellipsoid((-x, -120, -z), (x, 120, z), far, shadow=False)], "vegetation", (s, d, 0.0))
    if rng.uniform() < 0.1:
        side = rng.choice([-1, 1])
        train, place = vehicles.train(rng, 3), (site.near, side * rng.uniform(24, 30), 0.0)
        site.add(train, "train", place, velocity=(0.0, 8.0 * side, 0.0))
