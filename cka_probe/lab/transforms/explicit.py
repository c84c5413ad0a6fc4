"""Views of a sample with everything said: which box, which size, whether mirrored. Nothing is drawn here."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.lab.transforms.boxes import Box
from cka_probe.lab.transforms.fields import plain, size_of, typed
from cka_probe.lab.transforms.kernels import taught as F

Sample = Mapping[str, Tensor]


def resized(sample: Sample, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return a sample at another size.

    Args:
        sample: Fields of `cka_probe.images.sample`; it stays as it is.
        size: (height, width) in pixels; a side grows or shrinks on its own, and K with it.

    Raises:
        DataError: The sample's maps are not of one size, or the size is none.
    """
    _check_size(size)
    return _each(sample, F.resize, size=list(size), antialias=True)


def cropped(sample: Sample, box: Box) -> dict[str, Tensor]:
    """Return what a box shows of a sample.

    Args:
        sample: Fields of `cka_probe.images.sample`; it stays as it is.
        box: (top, left, height, width) in pixels, inside the image.

    Raises:
        DataError: The sample's maps are not of one size, or the box is not inside.
    """
    _check_box(sample, box)
    return _each(sample, F.crop, *box)


def resized_crop(sample: Sample, box: Box, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return what a box shows of a sample, at another size.

    Args:
        sample: Fields of `cka_probe.images.sample`; it stays as it is.
        box: (top, left, height, width) in pixels, inside the image.
        size: (height, width) of the view.

    Raises:
        DataError: The sample's maps are not of one size, the box is not inside, or the size is none.
    """
    _check_box(sample, box)
    _check_size(size)
    return _each(sample, F.resized_crop, *box, size=list(size), antialias=True)


def flipped(sample: Sample) -> dict[str, Tensor]:
    """Return a sample mirrored left to right: the image of a mirrored scene.

    A stereo pair becomes one whose other camera stands on the other side.

    Raises:
        DataError: The sample's maps are not of one size.
    """
    return _each(sample, F.horizontal_flip)


def _each(sample: Sample, functional: Callable, *how: Any, **more: Any) -> dict[str, Tensor]:
    """Return a sample with a function of torchvision applied to all but its category."""
    changed = typed(sample)
    for name in changed.keys() - {"category"}:
        changed[name] = functional(changed[name], *how, **more)
    return plain(changed)


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < 1:
        raise DataError(f"expected a view of at least 1x1 pixels, found {size[1]}x{size[0]}")


def _check_box(sample: Sample, box: Box) -> None:
    """Check that a box lies inside a sample's image: beyond it, a view would hold what no camera saw."""
    top, left, height, width = box
    rows, columns = size_of(sample)
    if min(top, left) < 0 or not (0 < height <= rows - top and 0 < width <= columns - left):
        raise DataError(f"expected a box (top, left, height, width) inside {rows}x{columns} pixels, found {tuple(box)}")
