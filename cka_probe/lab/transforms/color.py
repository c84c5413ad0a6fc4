"""Other light and another camera's colours, the same for an image and its sources.

    brightness  b x          contrast  c x + (1 - c) m          saturation  s x + (1 - s) grey(x)          hue + h
    gamma  x^g

with m the mean grey of the target. What is reconstructed and what it is reconstructed from must change alike, or
a photometric loss sees a difference that no depth explains; a contrast about each image's own mean, as
`v2.ColorJitter` changes it, is already such a difference, if a small one.
"""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as F

from cka_probe.errors import DataError
from cka_probe.lab.transforms.views import uniform

Sample = Mapping[str, Tensor]


def color_jittered(
    sample: Sample,
    generator: Generator,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    gamma: float = 0.0,
    alike: bool = True,
) -> dict[str, Tensor]:
    """Return a sample in other colours; all but `image` and `sources` stays as it is.

    Args:
        sample: Fields of `cka_probe.images.sample`, with an `image`.
        generator: Drawn from, equally often whatever the strengths are.
        brightness: Factors are uniform in 1 - brightness to 1 + brightness.
        contrast: Likewise.
        saturation: Likewise.
        hue: Turns are uniform in -hue to hue, of a whole turn; at most 0.5.
        gamma: Exponents are uniform in 1 - gamma to 1 + gamma.
        alike: Change the sources as the image; otherwise each in its own way.

    Raises:
        DataError: A strength is not within 0 to 1 (hue: 0 to 0.5).
    """
    strengths = (brightness, contrast, saturation, hue, gamma)
    if not (all(0 <= strength <= 1 for strength in strengths) and hue <= 0.5):
        raise DataError(
            "expected brightness, contrast, saturation and gamma within 0 to 1 and hue within 0 to 0.5, found "
            f"{', '.join(map(str, strengths))}"
        )
    images = sample["image"][None]
    if "sources" in sample:
        images = torch.cat([images, sample["sources"]])
    if alike:
        images = _changed(images, generator, strengths)
    else:
        images = torch.cat([_changed(image[None], generator, strengths) for image in images])
    return {**sample, "image": images[0]} | ({"sources": images[1:]} if "sources" in sample else {})


def _changed(images: Tensor, generator: Generator, strengths: tuple[float, ...]) -> Tensor:
    """Return images (n, 3, H, W) changed by one draw: five changes in a random order."""
    order = torch.randperm(len(strengths), generator=generator).tolist()
    draws = [uniform(generator, -strength, strength) for strength in strengths]
    for change in order:
        if strengths[change]:
            images = _change(images, change, draws[change]).clamp(0.0, 1.0)
    return images


def _change(images: Tensor, change: int, by: float) -> Tensor:
    """Return images (n, 3, H, W) changed: 0 brightness, 1 contrast, 2 saturation, 3 hue, 4 gamma."""
    if change == 0:
        return images * (1 + by)
    if change == 1:
        mean = F.rgb_to_grayscale_image(images[:1]).mean()
        return mean + (images - mean) * (1 + by)
    if change == 2:
        grey = F.rgb_to_grayscale_image(images)
        return grey + (images - grey) * (1 + by)
    if change == 4:
        return images ** (1 + by)
    return F.adjust_hue_image(images, by)
