"""What a training view is: a box of a sample at the network's size, mirrored or not, with all its fields."""

from torch import Generator

from cka_probe.images.sample import Sample
from cka_probe.lab.transforms import Box, flipped, flips, largest, native, random_area, resized_crop, uniform


def view(sample: Sample, box: Box, size: tuple[int, int], *, flip: bool = False) -> Sample:
    """Return what a box shows of a sample.

    Args:
        sample: Fields of `cka_probe.images.sample`.
        box: Inside its image.
        size: (height, width) in pixels.
        flip: Mirror left and right.
    """
    cut = resized_crop(sample, box, size)
    return flipped(cut) if flip else cut


def whole_or_native(
    sample: Sample, size: tuple[int, int], generator: Generator | None, *, crop: bool = False, mirror: bool = True
) -> Sample:
    """Return the whole image at the network's size, each side scaled on its own, or a box that is not scaled.

    Args:
        sample: Fields of `cka_probe.images.sample`, `image` among them.
        size: (height, width) of the view, pixels.
        generator: Drawn from, equally often whatever is asked for; without one the box is the middle and nothing is
            mirrored.
        crop: Whether it is a box of that size instead of the whole.
        mirror: Whether to mirror, one time in two.

    Raises:
        DataError: The image is smaller than the box.
    """
    shape = tuple(sample["image"].shape[-2:])
    down, across, flip = 0.5, 0.5, False
    if generator is not None:
        down, across, flip = uniform(generator), uniform(generator), flips(generator)
    box = native(*shape, size, down, across) if crop else (0, 0, *shape)
    return view(sample, box, size, flip=mirror and flip)


__all__ = ["flips", "largest", "native", "random_area", "uniform", "view", "whole_or_native"]
