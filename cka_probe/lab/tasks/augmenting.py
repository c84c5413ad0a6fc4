"""How MIM-Depth varies what a depth network sees: parts of the truth in the image, and other colours.

CutDepth (Ishii & Yamashita, "CutDepth: Edge-aware Data Augmentation in Depth Estimation", 2021), upright: columns l to
l + w - 1 of the image are replaced by the measured depth, all rows of them,

    l = floor(a W),    w = max(floor((W - a W) b s), 1),    a, b uniform in [0, 1), s = 0.75

so that edges of depth stand in the image itself. Here the depth is pasted as depth / max_depth, grey, black where
nothing was measured. Xie et al. ("Revealing the Dark Secrets of Masked Image Modeling", CVPR 2023) paste millimetres
into an image of 8 bits, where they wrap at 256: stripes a quarter of a metre wide.
"""

import torch
from torch import Generator, Tensor

from cka_probe.lab.transforms import color_jittered, uniform

WIDEST = 0.75
"""Of what lies right of the first column, the share that the band never exceeds."""


def cut_depth(image: Tensor, depth: Tensor, max_depth: float, generator: Generator) -> Tensor:
    """Return an image with a band of columns replaced by its depth.

    Args:
        image: (3, H, W) float32 RGB in [0, 1]; it stays as it is.
        depth: (1, H, W) float32, metres, 0 = not measured.
        max_depth: Metres; what is farther is white.
        generator: Drawn from, twice.
    """
    width = image.shape[-1]
    start = uniform(generator) * width
    band = max(int((width - start) * uniform(generator) * WIDEST), 1)
    columns = torch.arange(width)
    inside = (columns >= int(start)) & (columns < int(start) + band)
    return torch.where(inside, (depth / max_depth).clamp(0.0, 1.0).expand_as(image), image)


def other_colours(image: Tensor, probability: float, generator: Generator) -> Tensor:
    """Return an image in other colours: brightness and contrast, gamma, hue and saturation, each pair or not.

    Factors lie within 0.8 to 1.2, of saturation within 0.7 to 1.3, hues turn by a tenth at most: about as far as
    the library that MIM-Depth uses takes them by default, with formulas of our own.

    Args:
        image: (3, H, W) float32 RGB in [0, 1]; it stays as it is.
        probability: Of each of the three.
        generator: Drawn from, equally often whatever happens.
    """
    light, power, paint = (float(uniform(generator) < probability) for _ in range(3))
    return color_jittered(
        {"image": image},
        generator,
        brightness=0.2 * light,
        contrast=0.2 * light,
        gamma=0.2 * power,
        saturation=0.3 * paint,
        hue=0.1 * paint,
    )["image"]
