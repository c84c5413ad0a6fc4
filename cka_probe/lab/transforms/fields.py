"""The fields of a sample as TVTensors: types by which torchvision's transforms know what to do with each.

A map (depth, labels, …) is read at the nearest pixel when resized and is filled with its own word for "nothing"
where a crop or padding goes beyond the image. What else happens to its values, its type says.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate
from torchvision.tv_tensors import Image, TVTensor, Video

from cka_probe.errors import DataError


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


class Intrinsics(TVTensor):
    """K, (..., 3, 3), of an image whose size it remembers.

    Attributes:
        canvas_size: (height, width) of the image.
    """

    canvas_size: tuple[int, int]

    def __new__(cls, K: Tensor, *, canvas_size: tuple[int, int]) -> "Intrinsics":
        """Return K with the size of its image."""
        typed_K = K.as_subclass(cls)
        typed_K.canvas_size = tuple(canvas_size)
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
    return {
        name: TYPES[name](field.as_subclass(Tensor), **({"canvas_size": size} if name == "K" else {}))
        for name, field in sample.items()
    }


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
        name: tuple(field.shape[-2:])
        for name, field in sample.items()
        if name in TYPES and issubclass(TYPES[name], (Image, Video, Map))
    }
    if len(set(sizes.values())) != 1:
        found = ", ".join(f"{name} {width}x{height}" for name, (height, width) in sizes.items()) or "none"
        raise DataError(f"expected images and maps of one size in a sample, found {found}; add or resize")
    return next(iter(sizes.values()))


def _nearest(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return each new pixel's nearest old one; any dtype, whole numbers exactly."""
    if values.is_floating_point():
        flat = interpolate(values.reshape(-1, 1, *values.shape[-2:]), tuple(size), mode="nearest-exact")
        return flat.reshape(*values.shape[:-2], *size)
    for axis, new in zip((-2, -1), size, strict=True):
        places = torch.arange(values.shape[axis], dtype=torch.float32, device=values.device).view(1, 1, -1)
        chosen = interpolate(places, new, mode="nearest-exact").flatten().long()
        values = values.index_select(axis, chosen)
    return values
