"""Simulated sensors: noise, holes, sparse depth and compression, all off by default.

- *Depth noise* grows with the square of depth, as for a Kinect (Nguyen, Izadi & Lovell 2012, "Modeling Kinect Sensor
  Noise for Improved 3D Reconstruction and Tracking"): sigma(z) = 1.2 mm + 1.9 mm/m^2 (z - 0.4 m)^2.
- *Image noise* is shot noise and read noise: variance 1 + I / 32 in 8-bit levels.
- *Holes* are where a structured-light or time-of-flight camera measures nothing: at grazing angles, on dark and shiny
  surfaces, and next to occluding edges, which only one of its two views sees. They are patches.
- *Lidar* keeps the pixels that a spinning scanner hits (Velodyne HDL-64E: 64 rows from 2 to -24.8 degrees, 0.17
  degrees between shots at 10 Hz).
- *JPEG* encodes and decodes the image.

Only `image`, `partner` and `depth` change: labels, normals, edges and flow stay exact. Each effect depends only on the
seed, not on the other effects.
"""

import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter

from cka_probe.errors import DataError
from cka_probe.images.reading import FORMATS
from cka_probe.lab.scenes.scene import View

Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]

ELEVATIONS = (2.0, -24.8)  # degrees of the highest and the lowest row
SHOT = 0.1728  # degrees
FARTHEST = 120.0  # metres


@dataclass(frozen=True)
class Sensor:
    """The imperfections of a sensor; 0 everywhere is a perfect one.

    Attributes:
        noise: Factor of the noise above.
        holes: Factor of the probability of holes; 1 is that of a Kinect.
        lidar: Rows of a scanner; depth is kept only where its beams hit. 0 keeps all.
        jpeg: Quality from 1 to 100; 0 for no compression.

    Raises:
        DataError: A value is out of range.
    """

    noise: float = 0.0
    holes: float = 0.0
    lidar: int = 0
    jpeg: int = 0

    def __post_init__(self) -> None:
        for name, most in (("noise", 100.0), ("holes", 100.0), ("lidar", 4096), ("jpeg", 100)):
            if not 0 <= getattr(self, name) <= most:
                raise DataError(f"expected {name} from 0 (none) to {most}, found {getattr(self, name)}; choose another")

    def through(self, view: View, seed: tuple[int, ...]) -> View:
        """Return a view as seen through the sensor.

        Args:
            view: The exact view.
            seed: Seed of the set, and numbers of the scene and the frame.
        """
        depth = view.depth
        image, partner = view.image, view.partner
        if self.holes:
            depth = np.where(holes(view, self.holes, np.random.default_rng([*seed, 1])), 0.0, depth)
        if self.noise:
            depth = _noisy_depth(depth, self.noise, np.random.default_rng([*seed, 2]))
            image = _noisy_image(image, self.noise, np.random.default_rng([*seed, 3]))
            if partner is not None:
                partner = _noisy_image(partner, self.noise, np.random.default_rng([*seed, 4]))
        if self.lidar:
            hit = lidar_pixels(view.K, depth.shape, rows=self.lidar)
            depth = np.where(hit & (depth <= FARTHEST), depth, 0.0)
        if self.jpeg:
            image = compressed(image, self.jpeg)
            partner = partner if partner is None else compressed(partner, self.jpeg)
        return replace(view, depth=depth, image=image, partner=partner)


def depth_noise(depth: Floats) -> Floats:
    """Return the standard deviation of depth, in metres, at a depth in metres."""
    return 0.0012 + 0.0019 * (depth - 0.4) ** 2


def _noisy_depth(depth: NDArray[np.float64], times: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return depth with noise; unmeasured pixels stay unmeasured, and so does depth below 0."""
    noisy = depth + times * depth_noise(depth) * rng.standard_normal(depth.shape)
    return np.where((depth > 0) & (noisy > 0), noisy, 0.0)


def _noisy_image(image: NDArray[np.uint8], times: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return an image with noise."""
    noisy = image + times * np.sqrt(1 + image / 32) * rng.standard_normal(image.shape)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def holes(view: View, times: float, rng: np.random.Generator) -> Mask:
    """Return where depth is missing, (H, W).

    The probability is 90 % within 6 degrees of grazing, falling to 0 at 25; 80 % for the darkest and brightest 8
    levels, falling to 0 within 16 more; 60 % next to an occluding edge; 1 % anywhere. It is compared with uniform
    noise that is smooth over a two-hundredth of the image, so that holes are patches.
    """
    v, u = np.indices(view.depth.shape)
    rays = np.stack([(u - view.K[0, 2]) / view.K[0, 0], (v - view.K[1, 2]) / view.K[1, 1], np.ones(u.shape)], axis=2)
    facing = np.abs((view.normals * rays).sum(axis=2)) / np.linalg.norm(rays, axis=2)
    level = view.image.astype(np.float64).mean(axis=2)
    chance = 1 - (1 - 0.01) * (1 - 0.9 * _falling(facing, np.sin(np.radians(6)), np.sin(np.radians(25))))
    for from_end in (level, 255 - level):
        chance = 1 - (1 - chance) * (1 - 0.8 * _falling(from_end, 8.0, 24.0))
    chance = np.where(binary_dilation(view.edges), 1 - (1 - chance) * (1 - 0.6), chance)
    field = gaussian_filter(rng.standard_normal(u.shape), max(view.depth.shape) / 200)
    uniform = np.empty(field.size)
    uniform[np.argsort(field, axis=None)] = (np.arange(field.size) + 0.5) / field.size
    return uniform.reshape(u.shape) < np.minimum(times * chance, 1)


def _falling(x: Floats, low: float, high: float) -> Floats:
    """Return 1 below `low`, 0 above `high`, linear between."""
    return np.clip((high - x) / (high - low), 0, 1)


def lidar_pixels(K: Floats, size: tuple[int, int], camera_T_scanner: Floats | None = None, rows: int = 64) -> Mask:
    """Return the pixels that the beams of a scanner hit, (H, W).

    Args:
        K: (3, 3) intrinsics.
        size: (height, width).
        camera_T_scanner: (4, 4) pose of the scanner, with x forward, y left and z up. None: the pose of the camera.
        rows: Number of rows; 64 in KITTI.

    Only the rotation of the scanner is used, not its position: beams start at the camera, which shifts their pattern
    in the image but keeps every point on its surface.
    """
    ahead = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    turned = ahead if camera_T_scanner is None else camera_T_scanner[:3, :3]
    up = np.radians(np.linspace(*ELEVATIONS, rows))[:, None]
    round_ = np.radians(np.arange(-90, 90, SHOT))
    beams = np.stack([np.cos(up) * np.cos(round_), np.cos(up) * np.sin(round_), np.sin(up) + 0 * round_])
    x, y, z = K @ turned @ beams.reshape(3, -1)
    in_front = z > 1e-6
    u, v = np.round(x[in_front] / z[in_front]), np.round(y[in_front] / z[in_front])
    inside = (u >= 0) & (u < size[1]) & (v >= 0) & (v < size[0])
    mask = np.zeros(size, bool)
    mask[v[inside].astype(int), u[inside].astype(int)] = True
    return mask


def compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return an image after JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer, formats=FORMATS) as file:
        return np.array(file)
