"""Fields of a sample as colours: each function takes a map and returns (H, W, 4) float RGBA in [0, 1].

What has no value is transparent, so that the ground it is drawn on says "not known", and no colour of a scale does.
"""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import hsv_to_rgb

from cka_probe.plotting import style

IGNORE = 255
THIN = 0.7 / 72
"""Inches of the thinnest line of a map that is seen in print."""
RASTER = 600
"""Pixels in an inch, about, of maps of lines."""
GOLDEN = 0.6180339887  # hues a golden ratio apart: any few in a row are told apart
SPARSE = 0.2
"""Share of measured pixels below which depth is drawn with points enlarged, which could not be seen otherwise."""


def reduced(value: np.ndarray, limit: int, *, smooth: bool) -> np.ndarray:
    """Return a map (…, H, W) no wider than twice `limit` pixels: means of blocks of an image, else single pixels."""
    step = max(1, value.shape[-1] // limit)
    if step == 1:
        return value
    if not smooth:
        return value[..., step // 2 :: step, step // 2 :: step]
    height, width = (length // step for length in value.shape[-2:])
    blocks = value[..., : height * step, : width * step].reshape(*value.shape[:-2], height, step, width, step)
    return blocks.mean((-3, -1))


def image(image: np.ndarray) -> np.ndarray:
    """Return an image (3, H, W) in [0, 1]."""
    return opaque(image.transpose(1, 2, 0))


def inverse_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Return depth (1, H, W) by 1 / depth, light near and dark far; 0 is transparent.

    Inverse depth is what an image shows: parallax and size are proportional to it.
    """
    depth = depth[0]
    if 0 < (depth > 0).mean() < SPARSE:
        depth = _inverse(enlarged(_inverse(depth)))
    measured = depth > 0
    inverse = 1 / np.where(measured, depth, 1)
    share = (inverse - 1 / far) / max(1 / near - 1 / far, 1e-12)
    return where(measured, colormaps[style.COLOURS](share.clip(0, 1))[..., :3])


def own_inverse_depth(depth: np.ndarray) -> np.ndarray:
    """Return depth without a scale (1, H, W), over the range of this map alone."""
    measured = depth[depth > 0]
    near, far = np.quantile(measured, (0.01, 0.99)) if measured.size else (1, 2)
    return inverse_depth(depth, near, far)


def _inverse(depth: np.ndarray) -> np.ndarray:
    return np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)


def enlarged(value: np.ndarray) -> np.ndarray:
    """Return a map (H, W), 0 = no value, with each point grown to 3 x 3 pixels, the larger value in front."""
    around, (height, width) = np.pad(value, 1), value.shape
    return np.max([around[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)


def thick_lines(edges: np.ndarray, inches: float) -> np.ndarray:
    """Return lines (H, W) bool on a finer raster, each at least `THIN` wide in a panel of so many inches.

    A line of one pixel of a large image is lost when the image is printed small, and one of a small image has
    parts of one printed pixel and parts of two.
    """
    finer = max(1, int(np.ceil(RASTER * inches / edges.shape[-1])))
    fine = edges.repeat(finer, -2).repeat(finer, -1)
    reach = int(np.ceil(max(0.0, THIN * fine.shape[-1] / inches - finer) / 2))
    for axis in (-2, -1):
        around = np.pad(fine, [(reach, reach) if at == axis % 2 else (0, 0) for at in range(2)])
        fine = np.max([np.take(around, range(at, at + fine.shape[axis]), axis) for at in range(2 * reach + 1)], axis=0)
    return fine


def classes(labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return labels (H, W) in the colours (n, 3) of their classes, 0 … 255; 255 and beyond n is transparent."""
    known = (labels != IGNORE) & (labels < len(colours))
    return where(known, colours[np.where(known, labels, 0)] / 255)


def pieces(numbers: np.ndarray) -> np.ndarray:
    """Return numbered things (H, W) in hues of their numbers; 0 is transparent."""
    hue = numbers * GOLDEN % 1
    light = 0.7 + 0.25 * (numbers * GOLDEN * 7 % 1)
    return where(numbers > 0, hsv_to_rgb(np.stack([hue, np.full(hue.shape, 0.65), light], -1)))


def planes(numbers: np.ndarray) -> np.ndarray:
    """Return the numbers of walls, tables and floors (3, H, W) as one image; 0 in all three is transparent."""
    return pieces(np.where(numbers > 0, 3 * numbers + np.arange(3)[:, None, None], 0).max(0))


def directions(normals: np.ndarray) -> np.ndarray:
    """Return normals (3, H, W): right is red, up is green, towards the camera is blue; 0 is transparent."""
    x, y, z = normals
    return where((normals != 0).any(0), (np.stack([x, -y, -z], -1) + 1) / 2)


def motion(flow: np.ndarray, longest: float) -> np.ndarray:
    """Return flow (2, H, W): its direction as hue, its length up to `longest` pixels as strength; NaN transparent."""
    known = ~np.isnan(flow).any(0)
    x, y = np.where(known, flow, 0)
    hue = np.arctan2(y, x) / (2 * np.pi) % 1
    strength = (np.hypot(x, y) / max(longest, 1e-12)).clip(0, 1)
    return where(known, hsv_to_rgb(np.stack([hue, strength, np.full(hue.shape, 0.95)], -1)))


def yes_no(mask: np.ndarray) -> np.ndarray:
    """Return a bool map (1, H, W): true is dark on white."""
    return opaque(np.where(mask[0][..., None], np.full(3, 0.1), np.ones(3)))


def opaque(rgb: np.ndarray) -> np.ndarray:
    """Return colours (H, W, 3) with nothing transparent."""
    return where(np.ones(rgb.shape[:2], bool), rgb)


def where(known: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Return colours (H, W, 3) that are transparent wherever `known` (H, W) is false."""
    return np.concatenate([np.where(known[..., None], rgb, 0), known[..., None]], -1).clip(0, 1)
