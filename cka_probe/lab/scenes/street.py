"""Draw a street and a drive along it from a seed.

A street is a marked road, straight or gently bent, in a town, a suburb or the country, with buildings, plants and
street furniture on both sides, traffic and parked cars, and ground, sky and distant woods around it. The
camera is that of a car: 1.65 m above the road, ten frames a second at 3 to 12 m/s, the focal length and the stereo
baseline of KITTI. Cars ahead keep its speed or nearly so, others approach or cross. Everything moves at a constant
velocity, and nothing collides during the clip (`street_site`).
"""

import numpy as np

from cka_probe.images.classes import CITYSCAPES
from cka_probe.lab.scenes import street_things
from cka_probe.lab.scenes.palette import colour, draw_tone, shade
from cka_probe.lab.scenes.room import camera_pose
from cka_probe.lab.scenes.scene import SKY, Camera, Piece, Scene, Shell, Sun
from cka_probe.lab.scenes.solids import Material, Point, Solid, box, ellipsoid, times
from cka_probe.lab.scenes.street_site import KERB, ROAD, Boxes, Road, Site, Space, draw_style

_STEP = 22.5  # metres of a piece of a bent road: three periods of its dashes
_BEYOND = 330.0  # metres of road behind the last bend


def ground(site: Site) -> list[Piece]:
    """Return the road, its pavements and a crossing road, as pieces."""
    rng, style = site.rng, site.style
    grey = draw_tone(rng, (0.55, 0.65), (0, 0.06), (0.24, 0.4))
    worn = shade(grey, rng.uniform(2.0, 3.0))
    marked = style.lanes == 2 or style.kind != "suburb" or rng.uniform() < 0.6
    pattern = "avenue" if style.lanes == 2 else "lanes" if marked else "asphalt"
    surface = Material(pattern, grey, worn, style.lane)
    slab = draw_tone(rng, (0.06, 0.12), (0.02, 0.15), (0.55, 0.75))
    stones = Material("paving", slab, shade(slab, 0.55), rng.uniform(0.6, 1.2))
    left, right = -style.edge(-1), style.edge(1)
    pieces = [_strip(site, along, (left, right), surface, ROAD) for along in _lengths(site)]
    if style.walk:
        for along in _lengths(site, site.gap):
            pieces.append(_strip(site, along, (left - style.walk, left), stones, KERB))
            pieces.append(_strip(site, along, (right, right + style.walk), stones, KERB))
    if site.gap:
        middle, half = sum(site.gap) / 2, (site.gap[1] - site.gap[0]) / 2
        # built along y and rotated, because the pattern of wear runs along y
        across = box((-half, -250.0, -0.2), (half, 250.0, ROAD - 0.006), Material("asphalt", grey, worn))
        pieces.append(Piece(site.road.put([across], (middle, 0.0, 0.0), turn=np.pi / 2), "road"))
        if site.zebra:
            bars = Material("zebra", grey, worn, 1.0)
            for s in (site.gap[0] - 2.2, site.gap[1] + 2.2):
                cross = box((left + 0.3, -1.5, 0.0), (right - 0.3, 1.5, ROAD + 0.006), bars, shadow=False)
                pieces.append(Piece(site.road.put([cross], (s, 0.0, 0.0)), "road"))
    return pieces


def _lengths(site: Site, gap: tuple[float, float] | None = None) -> list[tuple[float, float]]:
    """Return (start, end) of each straight piece of road or pavement, without a gap."""
    end = site.road.length
    if site.road.curvature == 0:
        return [(-_STEP, end + _BEYOND)] if gap is None else [(-_STEP, gap[0]), (gap[1], end + _BEYOND)]
    count = int(np.ceil((end + _STEP) / _STEP))
    bends = [(-_STEP + _STEP * k, _STEP * k) for k in range(count)]
    return [*bends, (bends[-1][1], end + _BEYOND)]


def _strip(
    site: Site, along: tuple[float, float], across: tuple[float, float], material: Material, top: float
) -> Piece:
    """Return a straight piece of road or pavement.

    Pieces of a bend overlap; every second one is imperceptibly lower, so that one of them is above the other.
    """
    bent = site.road.curvature != 0
    over = 0.5 * _STEP * abs(site.road.curvature) * max(map(abs, across)) + 0.1 if bent else 0.0
    odd = round(along[0] / _STEP) % 2 if bent else 0
    low, narrow = 0.006 * odd, 0.003 * odd  # where two overlap, one is visible
    half, middle = (along[1] - along[0]) / 2, sum(along) / 2
    x = sum(across) / 2
    # built around its own centre, the origin of patterns
    slab = box(
        (across[0] - x + narrow, -half - over, -0.2),
        (across[1] - x - narrow, half + over, top - low),
        material,
        shadow=False,
    )
    return Piece(site.road.put([slab], (middle, x, 0.0)), "road" if top == ROAD else "sidewalk")


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
    """Add a row of houses along one side."""
    rng, style = site.rng, site.style
    front = style.edge(side) + style.walk + style.setback
    gaps = {"town": (0.08, 0.1), "suburb": (3.0, 8.0), "country": (22.0, 60.0)}[style.kind]
    s = 0.55 * front + rng.uniform(-4, 4)
    while s < site.end:
        bays = int(rng.integers(4, 8)) if style.kind == "town" else int(rng.integers(3, 6))
        make = street_things.town_house if style.kind == "town" else street_things.cottage
        if style.kind == "country" and rng.uniform() < 0.4:
            make = street_things.barn
        house = make(rng, bays, s > site.near + 4)
        half, back = house[0].half[0] + 0.05, 0.0 if style.kind == "town" else rng.uniform(0, 2)
        if site.gap and s < site.gap[1] + 1.5 and s + 2 * half > site.gap[0] - 1.5:
            s = site.gap[1] + 1.5
            continue
        site.add(house, "building", (s + half, side * (front + back), 0.0), side * np.pi / 2)
        s += 2 * half + rng.uniform(*gaps) * (1 if rng.uniform() < 0.9 else 3)


def _boundary(site: Site, side: int) -> None:
    """Add hedges, fences and walls between the street and the houses."""
    rng, style = site.rng, site.style
    d = style.edge(side) + style.walk + (0.6 if style.walk else rng.uniform(2.5, 4.0))
    s = max(0.8 * d, 2.0)
    while s < site.end - 20:
        length = rng.uniform(7, 13) if style.kind == "suburb" else rng.uniform(12, 24)
        name = str(rng.choice(["hedge", "fence", "wall", "none"], p=[0.35, 0.25, 0.2, 0.2]))
        middle = s + length / 2
        if name != "none" and not site.in_gap(middle, length / 2 + 1.0):
            label = {"hedge": "vegetation", "fence": "fence", "wall": "wall"}[name]
            site.add(getattr(street_things, name)(rng, length), label, (middle, side * d, 0.0))
        s += length + rng.uniform(0.8, 4.0)


def _lamps(site: Site, side: int) -> None:
    """Add lamp posts, masts or marker posts along one side."""
    rng, style = site.rng, site.style
    if style.kind == "country":
        for s in np.arange(rng.uniform(4, 12), site.end - 20, 26.0):
            if side > 0:
                site.add(street_things.mast(rng), "pole", (s, style.edge(1) + 2.0, 0.0))
            white = Material("checks", (0.8, 0.8, 0.78), (0.05, 0.05, 0.05), 1.2)
            post = box((-0.05, -0.06, 0), (0.05, 0.06, 0.95), white)
            site.add([post], "pole", (s + 9.0, side * (style.edge(side) + 0.6), 0.0))
        return
    for s in np.arange(rng.uniform(6, 14) + 11 * (side > 0), site.end - 20, 30.0):
        if not site.in_gap(s, 1.0):
            turn = np.pi if side > 0 else 0.0
            site.add(street_things.street_lamp(rng, 1.5), "pole", (s, side * (style.edge(side) + 0.4), KERB), turn)


def _crossing_signs(site: Site) -> None:
    """Add traffic lights or signs at a crossing."""
    if site.gap is None:
        return
    rng, lights = site.rng, site.rng.uniform() < 0.6
    for side in (-1, 1):
        make = street_things.traffic_light if lights else street_things.sign
        for s, turn in ((site.gap[0] - 0.6, np.pi), (site.gap[1] + 0.6, np.pi if lights else 0.0)):
            site.add(make(rng), "pole", (s, side * (site.style.edge(side) + 0.5), KERB), turn)


def _signs(site: Site, side: int) -> None:
    """Add a few signs along one side; those on the right face the camera."""
    rng, style = site.rng, site.style
    z = KERB if style.walk else 0.0
    for _ in range(int(rng.integers(1, 3))):
        s = rng.uniform(8, site.near + 15)
        if not site.in_gap(s, 1.0):
            turn = np.pi if side > 0 or rng.uniform() < 0.4 else 0.0
            position = (s, side * (style.edge(side) + 0.55), z)
            site.add(street_things.sign(rng), "pole", position, turn + rng.normal(0, 0.06))


def _people(site: Site) -> None:
    """Add people on the pavements, standing or walking, alone or in pairs."""
    rng, style = site.rng, site.style
    if not style.walk:
        return
    for _ in range(int(rng.integers(3, 6)) if style.kind == "town" else int(rng.integers(1, 5))):
        side, s = int(rng.choice([-1, 1])), rng.uniform(6, site.near + 12)
        d = side * (style.edge(side) + rng.uniform(0.45, style.walk - 0.4))
        if site.in_gap(s, 3.0) or site.is_out_of_view(s, d):
            continue
        for offset in (0.0, 0.75)[: 1 + (rng.uniform() < 0.3)]:
            someone = street_things.person(rng, s > site.near - 5)
            if rng.uniform() < 0.7:
                pace = rng.uniform(0.7, 1.7) * rng.choice([-1, 1])
                site.drive(someone, "person", (s + offset, d, KERB), pace)
            else:
                site.add(someone, "person", (s + offset, d, KERB), rng.uniform(0, 6))


def _trees(site: Site, side: int) -> None:
    """Add trees and bushes where there is room."""
    rng, style = site.rng, site.style
    town = style.kind == "town"
    if town and rng.uniform() < 0.4:
        return
    d0 = style.edge(side) + (0.55 if town else style.walk + 1.3)
    step = rng.uniform(10, 15) if style.kind != "country" else rng.uniform(7, 11)
    s = rng.uniform(2, 8)
    while s < site.end - 10 and not site.full:
        d = side * (d0 if town else d0 + rng.uniform(0, style.setback + 3.0))
        if not site.in_gap(s, 2.5) and not site.is_out_of_view(s, d):
            low = not town and rng.uniform() < 0.3
            plant = street_things.bush(rng) if low else street_things.tree(rng, s > site.near)
            site.add(plant, "vegetation", (s, d, KERB if town else 0.0), rng.uniform(0, 6))
        s += step * rng.uniform(0.6, 1.4)


def _distance(site: Site) -> None:
    """Add woods, hills and tall houses beyond the end of the street, and sometimes a train."""
    rng, style = site.rng, site.style
    for _ in range(6):
        s, d = site.end + rng.uniform(25, 160), rng.choice([-1, 1]) * rng.uniform(26, 230)
        x, y, z = rng.uniform(12, 40), rng.uniform(8, 15), rng.uniform(5, 12)
        green = street_things.draw_foliage(rng, rng.uniform(1.5, 3.0))
        site.add([ellipsoid((-x, -y, -0.4 * z), (x, y, z), green, shadow=False)], "vegetation", (s, d, 0.0))
    if style.kind != "country":
        for _ in range(3):
            s, d = site.end + rng.uniform(8, 120), rng.choice([-1, 1]) * rng.uniform(12, 60)
            bays, wall = int(rng.integers(4, 9)), street_things.draw_wall(rng)
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
        train, position = street_things.train(rng, 3), (site.near, side * rng.uniform(24, 30), 0.0)
        site.add(train, "train", position, velocity=(0.0, 8.0 * side, 0.0))


_LABELS = {"car": "car", "van": "car", "truck": "truck", "bus": "bus"}


def traffic(site: Site, speed: float) -> None:
    """Add vehicles to a street: ahead of the camera, next to it, approaching, crossing, and parked.

    Args:
        site: The street, still empty.
        speed: Speed of the camera, m/s.
    """
    rng, style = site.rng, site.style
    lanes = [style.lane * (k + 0.5) for k in range(style.lanes)]
    for lane in lanes:
        if rng.uniform() < 0.6:
            pace = speed * rng.uniform(0.93, 1.07)
            _add_vehicle(site, rng.uniform(9, 26), lane, pace)
            if rng.uniform() < 0.4:
                _add_vehicle(site, rng.uniform(28, 50), lane, pace)
        for s in (rng.uniform(14, 32), rng.uniform(38, 75)):
            if rng.uniform() < 0.55:
                _add_vehicle(site, s + 2 * site.way * rng.uniform(), -lane, -rng.uniform(0.8, 1.2) * max(speed, 5.0))
    if site.gap:
        _cross(site)
    if rng.uniform() < 0.3:
        motor = bool(rng.uniform() < 0.35)
        label, pace = ("motorcycle", 0.95 * speed) if motor else ("bicycle", rng.uniform(2.5, 5.0))
        edge = style.lane * style.lanes - 0.35
        way, side = (1.0, 1) if rng.uniform() < 0.6 else (-1.0, -1)
        site.drive(street_things.cyclist(rng, motor), label, (rng.uniform(8, 26), side * edge, ROAD), way * pace)
    for side in (-1, 1):
        if style.parking[side > 0]:
            _park(site, side)


def _draw(site: Site, far: bool) -> tuple[list[Solid], str]:
    """Return a vehicle and its label; most are cars."""
    name = str(site.rng.choice(list(_LABELS), p=[0.78, 0.1, 0.07, 0.05]))
    return getattr(street_things, name)(site.rng, far), _LABELS[name]


def _add_vehicle(site: Site, s: float, d: float, speed: float) -> None:
    solids, label = _draw(site, far=s > 32)
    site.drive(solids, label, (s, d, ROAD), speed)


def _cross(site: Site) -> None:
    """Add cars on the crossing road: some drive, others wait at its edges."""
    if site.gap is None:
        return
    rng, (start, end) = site.rng, site.gap
    middle = (start + end) / 2
    for side in (-1, 1):
        reach = site.style.edge(side) + site.style.walk
        lane = middle - side * (end - start) / 4  # traffic from the right drives on the far side
        if rng.uniform() < 0.5:
            solids, label = _draw(site, far=False)
            pace, far = rng.uniform(4, 9), rng.uniform(4, 25)
            site.add(solids, label, (lane, side * far, ROAD), side * np.pi / 2, (-side * pace, 0.0, 0.0))
        if rng.uniform() < 0.5:
            solids, label = _draw(site, far=False)
            length = solids[0].half[1]
            position = (lane, side * (reach + length + rng.uniform(0.3, 2)), ROAD)
            site.add(solids, label, position, side * np.pi / 2)


def _park(site: Site, side: int) -> None:
    """Park cars along one side."""
    rng, style = site.rng, site.style
    d, s, share = side * (style.lane * style.lanes + 1.25), rng.uniform(3, 8), rng.uniform(0.25, 0.8)
    parked = 0
    while s < site.end - 30 and parked < 4:
        if rng.uniform() < share:
            far = s > site.near
            make = street_things.car if rng.uniform() < 0.88 else street_things.van
            turn = (0.0 if side > 0 else np.pi) + rng.normal(0, 0.015)
            if not site.in_gap(s, 6.0):
                parked += site.add(make(rng, far), "car", (s, d + rng.normal(0, 0.05), ROAD), turn)
        s += rng.uniform(5.3, 8.5)


HEIGHT, BASELINE, FOCAL, RATE = 1.65, 0.54, 0.58, 10.0
"""Metres above the road, metres between the two cameras, share of the image's width, frames a second."""

_FAR = 4000.0  # metres to the sky
_SKYLIGHT = 40.0  # emission of the sky, relative to its colour


def draw_street(seed: int, index: int, frames: int) -> Scene:
    """Return street `index` of a seed, and a drive of `frames` poses along it."""
    rng = np.random.default_rng([seed, index])
    style = draw_style(rng)
    speed = rng.uniform(3.0, 8.5 if style.kind != "country" else 12.0)
    distance = speed * (frames - 1) / RATE
    bend = rng.choice([-1, 1]) / rng.uniform(200, 450) if style.bent else 0.0
    road = Road(bend, distance + 75.0)
    camera = _drive(rng, road, style.ego, speed, frames)
    site = Site(rng, style, road, Space(_ego_car(camera), frames / RATE), distance)
    traffic(site, speed)
    sides(site)
    light, sky = _weather(rng)
    surfaces, labels = (sky,) * 4, (SKY,) * 4
    shell = Shell(
        (-_FAR, -_FAR, 0.0),
        (_FAR, _FAR, 2 * _FAR),
        (*surfaces, _meadow(rng), Material("zenith", sky.first, sky.second, sky.size, sky.glow)),
        (*labels, "terrain", SKY),
    )
    return Scene("streets", "street", CITYSCAPES.names, shell, (*ground(site), *site.pieces), light, camera)


def _drive(rng: np.random.Generator, road: Road, lane: float, speed: float, frames: int) -> Camera:
    """Return a drive along a lane with slight lateral and vertical movement."""
    weave, phase, pitch = rng.uniform(0.0, 0.25), rng.uniform(0, 2 * np.pi), rng.uniform(-0.01, 0.05)
    wave, roll = 2 * np.pi / rng.uniform(35, 60), rng.normal(0, 0.004)
    sway, nod, poses, s = 0.0, 0.0, [], 0.0
    for _ in range(frames):
        aside, slope = weave * np.sin(wave * s + phase), weave * wave * np.cos(wave * s + phase)
        x, y, turn = road.at(s, lane + aside)
        position = np.array([x, y, HEIGHT + 0.3 * nod])
        poses.append(camera_pose(position, np.arctan(slope) - turn + sway, pitch + nod, roll))
        sway, nod = 0.8 * sway + rng.normal(0, 0.0015), 0.6 * nod + rng.normal(0, 0.002)
        s += speed / RATE * rng.uniform(0.98, 1.02)
    return Camera(np.stack(poses), np.arange(frames) / RATE, FOCAL, BASELINE)


def _ego_car(camera: Camera) -> Boxes:
    """Return the car that carries the camera: a box for each step of the drive."""
    n, pause = len(camera.times), 1 / RATE
    position, forward = camera.poses[:, :3, 3], camera.poses[:, :2, 2]
    velocity = np.diff(position, axis=0, append=position[-1:]) / pause
    centre = np.concatenate([position[:, :2] - 0.8 * forward, np.full((n, 1), 1.1)], axis=1)
    velocity[:, 2] = 0
    return Boxes(
        centre - velocity * camera.times[:, None],
        np.tile([1.1, 2.6, 1.05], (n, 1)),
        np.arctan2(-forward[:, 0], forward[:, 1]),
        velocity,
        np.stack([camera.times, camera.times + pause], axis=1),
    )


def _weather(rng: np.random.Generator) -> tuple[Sun, Material]:
    """Return the light and the sky: sunny, low sun, or overcast."""
    elevation, azimuth = np.deg2rad(rng.uniform(18, 65)), rng.uniform(0, 2 * np.pi)
    to_sun: Point = (
        float(np.cos(elevation) * np.cos(azimuth)),
        float(np.cos(elevation) * np.sin(azimuth)),
        float(np.sin(elevation)),
    )
    clear = float(np.clip(rng.uniform(-0.25, 1.5), 0, 1))
    warm = 1 - 0.35 * np.cos(elevation) ** 3
    strength = times(0.15 + 1.4 * clear, (1.0, 0.94 * float(warm) ** 0.5, 0.84 * float(warm)))
    ambient = times(0.8 - 0.45 * clear, (0.92, 0.98, 1.0 + 0.16 * clear))
    blue = shade(colour(0.585 + rng.normal(0, 0.01), 0.25 + 0.4 * clear, rng.uniform(0.7, 0.88)), 1 / _SKYLIGHT)
    white = shade(colour(0.6, 0.03, 0.72 + 0.16 * clear), 1 / _SKYLIGHT)
    return Sun(to_sun, strength, ambient), Material("sky", blue, white, rng.uniform(70, 160), glow=_SKYLIGHT)


def _meadow(rng: np.random.Generator) -> Material:
    hue, value = rng.uniform(0.18, 0.28), rng.uniform(0.35, 0.55)
    return Material("meadow", colour(hue + 0.02, 0.65, 0.5 * value), colour(hue - 0.03, 0.5, 1.1 * value))
