"""What torchvision's functions do to the fields of a sample, and which of them are refused.

torchvision hands a field through untouched if it knows no kernel for its type. For an image turned by 30 degrees
with its K as before that would be a silent error, so every change of geometry either has a kernel here or raises.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import TVTensor

from cka_probe.errors import CkaProbeError
from cka_probe.lab.geometry import cropped_K, flipped_K, flipped_pose, scaled_K
from cka_probe.lab.transforms.fields import Intrinsics, Map, Pose, Sources

CARRIED = (F.resize, F.crop, F.center_crop, F.resized_crop, F.pad, F.horizontal_flip)

GREY = ((F.rgb_to_grayscale, F.rgb_to_grayscale_image), (F.grayscale_to_rgb, F.grayscale_to_rgb_image))
"""What torchvision does to images and not to videos; the sources would keep their colours."""

REFUSED = (
    F.vertical_flip,
    F.rotate,
    F.affine,
    F.perspective,
    F.elastic,
    F.five_crop,
    F.ten_crop,
    F.uniform_temporal_subsample,
)
"""The last would drop sources and leave their poses."""

Window = tuple[int, int, int, int]
"""Top, left, height, width in pixels; may reach beyond the image."""


def _register(functional: Callable, kind: type[TVTensor]) -> Callable:
    return F.register_kernel(functional, kind)


@_register(F.resize, Map)
def _resize_map(field: Map, size: Any, *_: Any, max_size: int | None = None, **__: Any) -> Map:
    kind, values = type(field), field.as_subclass(Tensor)
    return kind(kind.resized(values, _resized(values.shape[-2:], size, max_size)))


@_register(F.crop, Map)
def _crop_map(field: Map, top: int, left: int, height: int, width: int) -> Map:
    return _window(field, (top, left, height, width))


@_register(F.center_crop, Map)
def _center_crop_map(field: Map, output_size: Any) -> Map:
    return _window(field, _centred(field.shape[-2:], output_size))


@_register(F.resized_crop, Map)
def _resized_crop_map(field: Map, top: int, left: int, height: int, width: int, size: Any, *_: Any, **__: Any) -> Map:
    return _resize_map(_window(field, (top, left, height, width)), size)


@_register(F.pad, Map)
def _pad_map(field: Map, padding: Any, *_: Any, **__: Any) -> Map:
    """Whatever an image is padded with, mirror images of itself too, nothing is known there."""
    return _window(field, _padded(field.shape[-2:], padding))


@_register(F.horizontal_flip, Map)
def _flip_map(field: Map) -> Map:
    kind = type(field)
    return kind(kind.mirrored(field.as_subclass(Tensor)))


@_register(F.resize, Intrinsics)
def _resize_K(K: Intrinsics, size: Any, *_: Any, max_size: int | None = None, **__: Any) -> Intrinsics:
    to = _resized(K.canvas_size, size, max_size)
    return Intrinsics(scaled_K(K.as_subclass(Tensor), K.canvas_size, to), canvas_size=to)


@_register(F.crop, Intrinsics)
def _crop_K(K: Intrinsics, top: int, left: int, height: int, width: int) -> Intrinsics:
    return Intrinsics(cropped_K(K.as_subclass(Tensor), top, left), canvas_size=(height, width))


@_register(F.center_crop, Intrinsics)
def _center_crop_K(K: Intrinsics, output_size: Any) -> Intrinsics:
    return _crop_K(K, *_centred(K.canvas_size, output_size))


@_register(F.resized_crop, Intrinsics)
def _resized_crop_K(
    K: Intrinsics, top: int, left: int, height: int, width: int, size: Any, *_: Any, **__: Any
) -> Intrinsics:
    return _resize_K(_crop_K(K, top, left, height, width), size)


@_register(F.pad, Intrinsics)
def _pad_K(K: Intrinsics, padding: Any, *_: Any, **__: Any) -> Intrinsics:
    return _crop_K(K, *_padded(K.canvas_size, padding))


@_register(F.horizontal_flip, Intrinsics)
def _flip_K(K: Intrinsics) -> Intrinsics:
    return Intrinsics(flipped_K(K.as_subclass(Tensor), K.canvas_size[1]), canvas_size=K.canvas_size)


@_register(F.horizontal_flip, Pose)
def _flip_pose(T: Pose) -> Pose:
    return Pose(flipped_pose(T.as_subclass(Tensor)))


def _unchanged(T: Pose, *_: Any, **__: Any) -> Pose:
    """A camera stays where it is, whichever part of its image is looked at."""
    return T


def _as_image(kernel: Callable[..., Tensor]) -> Callable[..., Sources]:
    """Return a kernel of images as one of sources."""

    def change(sources: Sources, *how: Any, **more: Any) -> Sources:
        return Sources(kernel(sources.as_subclass(Tensor), *how, **more))

    return change


def _refusing(functional: Callable) -> Callable[..., NoReturn]:
    """Return a kernel that says that a function is not carried along."""

    def refuse(field: TVTensor, *_: Any, **__: Any) -> NoReturn:
        raise CkaProbeError(
            f"expected a transform that {type(field).__name__.lower()} can follow "
            f"({', '.join(function.__name__ for function in CARRIED)}, or colours), found {functional.__name__}; "
            "leave it out, or apply it to the image alone"
        )

    return refuse


for _functional in CARRIED[:-1]:
    _register(_functional, Pose)(_unchanged)
for _functional in REFUSED:
    for _kind in (Map, Intrinsics, Pose):
        _register(_functional, _kind)(_refusing(_functional))
for _functional, _kernel in GREY:
    _register(_functional, Sources)(_as_image(_kernel))


def _resized(canvas: Sequence[int], size: Any, max_size: int | None) -> tuple[int, int]:
    """Return the size torchvision gives an image: it knows the shorter side, or both, or the longest allowed."""
    size = [size] if isinstance(size, int) else None if size is None else list(size)
    _, found = F.resize_bounding_boxes(torch.zeros(1, 4), tuple(canvas), size=size, max_size=max_size)
    return tuple(found)


def _centred(canvas: Sequence[int], output_size: Any) -> Window:
    """Return the window torchvision's `center_crop` takes."""
    sides = [output_size] if isinstance(output_size, int) else list(output_size)
    size = (sides[0], sides[-1])
    place = [
        round((old - new) / 2) if new <= old else -((new - old) // 2) for old, new in zip(canvas, size, strict=True)
    ]
    return (*place, *size)


def _padded(canvas: Sequence[int], padding: Any) -> Window:
    """Return the window that padding by all sides, (across, down), or (left, top, right, bottom) gives."""
    sides = [padding] if isinstance(padding, int) else list(padding)
    left, top, right, bottom = sides * (4 // len(sides))
    return -top, -left, canvas[0] + top + bottom, canvas[1] + left + right


def _window(field: Map, window: Window) -> Map:
    """Return what a window shows of a map."""
    top, left, height, width = window
    kind, values = type(field), field.as_subclass(Tensor)
    shown = values.new_full((*values.shape[:-2], height, width), kind.nothing)
    rows, columns = (
        range(max(0, first), max(0, first, min(old, first + new)))
        for first, new, old in ((top, height, values.shape[-2]), (left, width, values.shape[-1]))
    )
    shown[..., rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = values[
        ..., rows.start : rows.stop, columns.start : columns.stop
    ]
    return kind(shown)


taught = F
"""torchvision's functions, which know our types once this file has run."""
