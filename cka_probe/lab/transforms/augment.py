"""Augmentations that several tasks share, and two of published code: CutDepth and bicubic labels.

`cut_depth` is CutDepth (Ishii & Yamashita, "CutDepth: Edge-aware Data Augmentation in Depth Estimation", 2021): columns
l to l + w - 1 of the image, over its whole height, are replaced by the measured depth,

    l = floor(a W),    w = max(floor((W - a W) b s), 1),    a, b uniform in [0, 1), s = 0.75

so that depth edges appear in the image itself. The depth is pasted as depth / max_depth, grey, black where nothing was
measured. Xie et al. ("Revealing the Dark Secrets of Masked Image Modeling", CVPR 2023) paste millimetres into an 8-bit
image, where they wrap at 256 into stripes a quarter of a metre wide.

`bicubic_labels` reproduces a fault of the released code of Depth-to-Semantic, so that its effect can be measured. The
code opens Cityscapes' ids (7 road, 8 sidewalk, 11 building, ...) as a grey image and scales it with Pillow's default,
bicubic interpolation. Between a road of 7 and a building of 11 this invents 8, 9 and, by overshoot, 6 and 12:
sidewalks, walls and ignored pixels. In generated streets of KITTI's size scaled to 640 x 192, 3 % of the pixels differ
from the nearest label; from 192 x 128 to 96 x 64 it is 11 %. Ignored pixels have lost their ids here and count as 0
(unlabelled).
"""

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from cka_probe.images.classes import CITYSCAPES, CITYSCAPES_IDS, UNKNOWN
from cka_probe.images.sample import IGNORE, Sample
from cka_probe.lab.transforms.color import color_jittered
from cka_probe.lab.transforms.views import Box, flipped, flips, native, random_area, resized_crop, uniform

MAX_SHARE = 0.75
"""Largest share of the columns right of the first one that the band takes."""


def cut_depth(image: Tensor, depth: Tensor, max_depth: float, generator: Generator) -> Tensor:
    """Return an image with a band of columns replaced by its depth.

    Args:
        image: (3, H, W) float32 RGB in [0, 1]; not changed.
        depth: (1, H, W) float32, metres, 0 = not measured.
        max_depth: Metres; anything farther is white.
        generator: Source of randomness, drawn from twice.
    """
    width = image.shape[-1]
    start = uniform(generator) * width
    band = max(int((width - start) * uniform(generator) * MAX_SHARE), 1)
    columns = torch.arange(width)
    inside = (columns >= int(start)) & (columns < int(start) + band)
    return torch.where(inside, (depth / max_depth).clamp(0.0, 1.0).expand_as(image), image)


def jitter_colors(image: Tensor, probability: float, generator: Generator) -> Tensor:
    """Return an image with random brightness and contrast, gamma, hue and saturation, as in MIM-Depth.

    Factors are in 0.8 to 1.2, that of saturation in 0.7 to 1.3, and hues turn by at most a tenth: close to the defaults
    of the library that MIM-Depth uses.

    Args:
        image: (3, H, W) float32 RGB in [0, 1]; not changed.
        probability: Of each of the three groups of changes.
        generator: Source of randomness, always drawn from equally often.
    """
    brightness, gamma, hue = (float(uniform(generator) < probability) for _ in range(3))
    return color_jittered(
        {"image": image},
        generator,
        brightness=0.2 * brightness,
        contrast=0.2 * brightness,
        gamma=0.2 * gamma,
        saturation=0.3 * hue,
        hue=0.1 * hue,
    )["image"]


def vary_colors(image: Tensor, strength: float, generator: Generator, probability: float = 1.0) -> Tensor:
    """Return an image whose brightness, contrast and saturation vary by up to a strength, each with a probability.

    Args:
        image: (3, H, W) float32 RGB in [0, 1]; not changed.
        strength: Factors are uniform in 1 - strength to 1 + strength; from 0 to 1.
        generator: Source of randomness, always drawn from equally often.
        probability: Of each of the three changes.
    """
    brightness, contrast, saturation = (strength * float(uniform(generator) < probability) for _ in range(3))
    sample = {"image": image}
    return color_jittered(sample, generator, brightness=brightness, contrast=contrast, saturation=saturation)["image"]


def crop_and_flip(sample: Sample, box: Box, size: tuple[int, int], *, flip: bool = False) -> Sample:
    """Return a box of a sample, scaled to a size, with all its fields.

    Args:
        sample: Fields of `cka_probe.images.sample`.
        box: Inside its image.
        size: (height, width) in pixels.
        flip: Whether to mirror left and right.
    """
    crop = resized_crop(sample, box, size)
    return flipped(crop) if flip else crop


def image_size(image: Tensor) -> tuple[int, int]:
    """Return (height, width) of an image (..., H, W)."""
    height, width = image.shape[-2:]
    return height, width


def random_view(
    sample: Sample,
    size: tuple[int, int],
    generator: Generator,
    scale: tuple[float, float],
    *,
    ratio: float = 1.0,
    mirror: bool = True,
) -> Sample:
    """Return a box with a random share of the image's area, scaled to a size.

    Args:
        sample: Fields of `cka_probe.images.sample`, `image` among them.
        size: (height, width) of the view, pixels.
        generator: Source of randomness.
        scale: Least and most share of the area.
        ratio: Width over height of the mean box.
        mirror: Whether to mirror, one time in two.
    """
    box = random_area(*image_size(sample["image"]), generator, scale, ratio)
    flip = flips(generator)
    return crop_and_flip(sample, box, size, flip=mirror and flip)


def resize_or_crop(
    sample: Sample, size: tuple[int, int], generator: Generator | None, *, crop: bool = False, mirror: bool = True
) -> Sample:
    """Return the whole sample scaled to the network's size, each side separately, or an unscaled box of that size.

    Args:
        sample: Fields of `cka_probe.images.sample`, `image` among them.
        size: (height, width) of the view, pixels.
        generator: Source of randomness, drawn from equally often whatever the options; without one the box is the
            centre and nothing is mirrored.
        crop: Whether to cut a box of that size out of the sample, instead of scaling all of it.
        mirror: Whether to mirror, one time in two.

    Raises:
        DataError: The image is smaller than the box.
    """
    height, width = image_size(sample["image"])
    down, across, flip = 0.5, 0.5, False
    if generator is not None:
        down, across, flip = uniform(generator), uniform(generator), flips(generator)
    box = native(height, width, size, down, across) if crop else (0, 0, height, width)
    return crop_and_flip(sample, box, size, flip=mirror and flip)


def bicubic_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return labels scaled as if their ids were brightness.

    Args:
        labels: (H, W) int64, numbered as `CITYSCAPES`; 255 = ignore.
        size: (height, width) in pixels.

    Returns:
        (height, width) int64; 255 where an invented id is not that of a class.
    """
    ids = np.zeros(IGNORE + 1, np.uint8)  # of each class; 0 for ignored pixels
    for number, train_id in enumerate(CITYSCAPES_IDS):
        if 0 <= train_id < len(CITYSCAPES):
            ids[train_id] = number
    image = Image.fromarray(ids[labels.numpy()])
    scaled = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    train_ids = CITYSCAPES_IDS[scaled]
    return torch.from_numpy(np.where(train_ids == UNKNOWN, IGNORE, train_ids))
