"""The fields of a sample as TVTensors, and the kernels that torchvision's transforms apply to them.

A map (depth, labels, …) is resized by nearest neighbour; cropping or padding beyond the image fills it with the
field's value for "nothing". Each type defines what else happens to its values.

torchvision passes a field through unchanged if it knows no kernel for its type. For an image rotated by 30 degrees
with an unchanged K that would be a silent error, so every change of geometry either has a kernel here or raises.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Image, TVTensor, Video

from cka_probe.errors import CkaProbeError, DataError
from cka_probe.lab.geometry import cropped_K, flipped_K, flipped_pose, scaled_K


class Field(TVTensor):
    """A field that torchvision has no type for."""

    def __new__(cls, values: Tensor) -> "Field":
        """Return the values as this field; nothing is copied."""
        return values.as_subclass(cls)


class Map(Field):
    """Something known of each pixel, (..., H, W).

    Attributes:
        nothing: The value of a pixel of which nothing is known.
    """

    nothing: ClassVar[float | int | bool] = 0

    @classmethod
    def resized(cls, values: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the values at a new size."""
        return _nearest(values, size)

    @classmethod
    def mirrored(cls, values: Tensor) -> Tensor:
        """Return the values of the image mirrored left to right."""
        return values.flip(-1)


class Depth(Map):
    """Metres along the optical axis, or depth up to scale and shift, (1, H, W); 0 = none. Never mixed with 0."""


class Numbers(Map):
    """Numbers of instances or planes, (..., H, W) int64; 0 = none."""


class Labels(Map):
    """Classes, (H, W) int64; 255 = ignore."""

    nothing = 255


class Valid(Map):
    """Pixels that may be scored, (1, H, W) bool."""

    nothing = False


class Occluded(Map):
    """Points not seen in the next frame, (1, H, W) bool; beyond the image nothing is known to be seen."""

    nothing = True


class Edges(Map):
    """Lines one pixel wide, (1, H, W) bool; they stay unbroken when an image shrinks."""

    nothing = False

    @classmethod
    def resized(cls, values: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the values at a new size: where the image shrinks, any edge in the area stays one."""
        smaller = [min(old, new) for old, new in zip(values.shape[-2:], size, strict=True)]
        flat = values.reshape(-1, 1, *values.shape[-2:]).float()
        pooled = adaptive_max_pool2d(flat, smaller).to(values.dtype)
        return _nearest(pooled.reshape(*values.shape[:-2], *smaller), size)


class Flow(Map):
    """Pixels right and down to the next frame, (2, H, W); NaN = not known."""

    nothing = torch.nan

    @classmethod
    def resized(cls, values: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the values at a new size, in its pixels."""
        factors = [size[1] / values.shape[-1], size[0] / values.shape[-2]]
        return _nearest(values, size) * values.new_tensor(factors).view(2, 1, 1)

    @classmethod
    def mirrored(cls, values: Tensor) -> Tensor:
        """Return the values of the image mirrored left to right."""
        return values.flip(-1) * values.new_tensor([-1, 1]).view(2, 1, 1)


class Normals(Map):
    """Unit normals in the camera's axes, (3, H, W); 0 = not known."""

    @classmethod
    def mirrored(cls, values: Tensor) -> Tensor:
        """Return the values of the image mirrored left to right."""
        return values.flip(-1) * values.new_tensor([-1, 1, 1]).view(3, 1, 1)


class Sources(Video):
    """Other images of the scene, (S, 3, H, W); treated as the image is, all alike."""


class Pose(Field):
    """From camera to camera or from camera to world, (..., 4, 4); only a mirror changes it."""


class Category(Field):
    """Class of the whole image, (); nothing changes it."""


class Masks(Map):
    """The pixels of each object, (N, H, W) bool."""

    nothing = False


class Intrinsics(TVTensor):
    """K, (..., 3, 3), of an image whose size it remembers.

    Attributes:
        canvas_size: (height, width) of the image.
    """

    canvas_size: tuple[int, int]

    def __new__(cls, K: Tensor, *, canvas_size: tuple[int, int]) -> "Intrinsics":
        """Return K with the size of its image."""
        typed_K = K.as_subclass(cls)
        height, width = canvas_size
        typed_K.canvas_size = (height, width)
        return typed_K

    @classmethod
    def _wrap_output(cls, output: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Keep the size where torch keeps the type (clone, to, detach)."""
        if isinstance(output, Tensor) and args and isinstance(args[0], cls):
            return cls(output, canvas_size=args[0].canvas_size)
        return super()._wrap_output(output, args, kwargs)


TYPES: dict[str, type[TVTensor]] = {
    "image": Image,
    "depth": Depth,
    "pseudo_depth": Depth,
    "K": Intrinsics,
    "world_T_target": Pose,
    "sources": Sources,
    "source_T_target": Pose,
    "flow": Flow,
    "occluded": Occluded,
    "labels": Labels,
    "instances": Numbers,
    "planes": Numbers,
    "normals": Normals,
    "edges": Edges,
    "valid": Valid,
    "category": Category,
    "boxes": BoundingBoxes,
    "box_classes": Category,
    "box_crowds": Category,
    "box_masks": Masks,
}
"""What each field of a sample is."""

IMAGES = ("image", "sources")
"""The fields that are looked at, with values in [0, 1]."""


def typed(sample: Mapping[str, Tensor]) -> dict[str, TVTensor]:
    """Return a sample whose fields torchvision's transforms carry along; nothing is copied.

    Args:
        sample: Fields of `cka_probe.images.sample`.

    Raises:
        DataError: It has a field of no known type, or `size_of` refuses it.
    """
    for name in sample:
        if name not in TYPES:
            raise DataError(f"expected fields of a sample ({', '.join(TYPES)}), found {name!r}; leave it out")
    size = size_of(sample)
    options: dict[str, dict[str, Any]] = {
        "K": {"canvas_size": size},
        "boxes": {"canvas_size": size, "format": BoundingBoxFormat.XYXY},
    }
    return {name: TYPES[name](field.as_subclass(Tensor), **options.get(name, {})) for name, field in sample.items()}


def plain(sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a sample of plain tensors again; images are kept within [0, 1], which a mean may leave by rounding."""
    tensors = {name: field.as_subclass(Tensor) for name, field in sample.items()}
    return {name: field.clamp(0.0, 1.0) if name in IMAGES else field for name, field in tensors.items()}


def size_of(sample: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the height and width that all images and maps of a sample have.

    Raises:
        DataError: They differ, or there are none.
    """
    sizes = {
        name: (field.shape[-2], field.shape[-1])
        for name, field in sample.items()
        if name in TYPES and issubclass(TYPES[name], (Image, Video, Map))
    }
    if len(set(sizes.values())) != 1:
        listed = ", ".join(f"{name} {width}x{height}" for name, (height, width) in sizes.items()) or "none"
        raise DataError(f"expected images and maps of one size in a sample, found {listed}; add or resize")
    return next(iter(sizes.values()))


def _nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return each new pixel's nearest old one; any dtype, whole numbers exactly."""
    if values.is_floating_point():
        flat = interpolate(values.reshape(-1, 1, *values.shape[-2:]), tuple(size), mode="nearest-exact")
        return flat.reshape(*values.shape[:-2], *size)
    for axis, new in zip((-2, -1), size, strict=True):
        indices = torch.arange(values.shape[axis], dtype=torch.float32, device=values.device).view(1, 1, -1)
        nearest = interpolate(indices, new, mode="nearest-exact").flatten().long()
        values = values.index_select(axis, nearest)
    return values


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
    _, (height, width) = F.resize_bounding_boxes(torch.zeros(1, 4), tuple(canvas), size=size, max_size=max_size)
    return height, width


def _centred(canvas: Sequence[int], output_size: Any) -> Window:
    """Return the window torchvision's `center_crop` takes."""
    sides = [output_size] if isinstance(output_size, int) else list(output_size)
    size = (sides[0], sides[-1])
    top, left = [
        round((old - new) / 2) if new <= old else -((new - old) // 2) for old, new in zip(canvas, size, strict=True)
    ]
    return top, left, *size


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


functional = F
"""torchvision's functions; importing this module registers the kernels for the types above."""
