"""What a training view is: a box of a sample at the network's size, mirrored or not, with all its fields."""

from cka_probe.data.transforms import Box, flipped, flips, largest, native, random_area, resized_crop, uniform
from cka_probe.tasks.task import Sample


def view(sample: Sample, box: Box, size: tuple[int, int], *, flip: bool = False) -> Sample:
    """Return what a box shows of a sample.

    Args:
        sample: Fields of `cka_probe.data.sample`.
        box: Inside its picture.
        size: (height, width) in pixels.
        flip: Mirror left and right.
    """
    cut = resized_crop(sample, box, size)
    return flipped(cut) if flip else cut


__all__ = ["flips", "largest", "native", "random_area", "uniform", "view"]
