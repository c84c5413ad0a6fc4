"""Draw a street and a drive along it from a seed.

A street is a marked road, straight or gently bent, in a town, a suburb or the country, with buildings, plants and
street furniture on both sides, traffic and parked cars, and ground, sky and distant woods around it. The
camera is that of a car: 1.65 m above the road, ten frames a second at 3 to 12 m/s, the focal length and the stereo
baseline of KITTI. Cars ahead keep its speed or nearly so, others approach or cross. Everything moves at a constant
velocity, and nothing collides during the clip (`street_site`).
"""

import numpy as np

from cka_probe.images.classes import CITYSCAPES
from cka_probe.lab.scenes.palette import colour, shade
from cka_probe.lab.scenes.room import camera_pose
from cka_probe.lab.scenes.scene import SKY, Camera, Scene, Shell, Sun
from cka_probe.lab.scenes.solids import Material, Point, times
from cka_probe.lab.scenes.street_sides import ground, sides, traffic
from cka_probe.lab.scenes.street_site import Boxes, Road, Site, Space, draw_style

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
