"""Convert what users give as images to one form: channels first, uint8 if they have 8 bits, else float32 in [0, 1].

Equal images are equal in whatever form they are given, and so are their hashes. Those of 8 bits are resized as such, as
Pillow does.

| one example | becomes |
|---|---|
| PIL image of 8 bits, any mode | (3, H, W) RGB, (1, H, W) of modes 1, L, LA; upright by its EXIF data, without alpha |
| uint8 (C, H, W), (H, W, C) or (H, W) | channels first; (H, W) has sides of at least 8 |
| floats (C, H, W) or (H, W, C) in [0, 1] | channels first; uint8 if they are multiples of 1/255, else float32 |
| bool (C, H, W) | 0 and 255 |
| any other array: vectors, tokens, token ids, maps of other than 1 or 3 channels | unchanged |

**Which axis is the channels** of an array of three axes: the first, if it is 1 or 3 long; else the last, if it is 1, 3
or 4 long (of 4, the last is alpha and is dropped). Floats (H, W, C) are images only as NumPy arrays with H and W of at
least 8: a small feature map such as (64, 4, 4) stays what it is, and so does a tensor, for a model with its channels
last.

Nothing is clamped: images with other values are an error that says what to do.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.reading import UNREADABLE, pil_pixels

GREY_MODES = ("1", "L", "LA")
SMALLEST_SIDE = 8
"""Height and width from which an array (H, W, C) of floats is an image."""
ROUNDING = 1e-4
"""How far values may be outside [0, 1]."""
STEP_ROUNDING = 2.0**-22
"""How far floats may be from multiples of 1/255 to be images of 8 bits: the rounding of float32."""
IMAGE_FIELDS = ("image", "images", "pixel_values", "img")
"""Fields of a sample or batch that is a mapping which hold images; the first that it has is used."""


def to_example(item: Any, normalised: bool = False) -> Tensor:
    """Return one image, or one example of another kind, as a tensor; see the table of this module.

    Args:
        item: A PIL image, a tensor, or an array that NumPy understands.
        normalised: It is a tensor or array as the model takes it, and is returned unchanged.

    Raises:
        DataError: It is no array, or an image whose values are not in [0, 1].

    >>> to_example(np.full((8, 8, 3), 51, np.uint8))[:, 0, 0], to_example(torch.full((3, 8, 8), 0.2))[:, 0, 0]
    (tensor([51, 51, 51], dtype=torch.uint8), tensor([51, 51, 51], dtype=torch.uint8))
    """
    values = item if isinstance(item, Image.Image) else _to_tensor(item)
    layout = image_layout(item)
    if normalised:
        if isinstance(values, Image.Image) or (layout and not values.is_floating_point()):
            kind = "a PIL image" if isinstance(values, Image.Image) else str(values.dtype).removeprefix("torch.")
            raise DataError(f"expected images of floats with normalised=True, found {kind}; omit normalised=True")
        return values
    if isinstance(values, Image.Image):
        return _from_pil(values).contiguous()
    if layout is None:
        if values.dtype == torch.uint8 and values.dim() >= 3:
            raise DataError(
                f"expected uint8 images (3, H, W), (1, H, W) or (H, W, C), found shape {tuple(values.shape)}; convert "
                "them to floats as the model takes them"
            )
        return values
    channels_first = {"CHW": values, "HW": values[None], "HWC": values.movedim(-1, 0)[:3]}[layout]
    return _pixels(channels_first)


def to_examples(images: Any, normalised: bool = False) -> list[Tensor]:
    """Return the images that are given at once as one tensor each: of a batch, a list, a mapping, or a PIL image.

    Args:
        images: A tensor or array (n, ...), a list of images, a PIL image, or a tuple or mapping with one of these.
        normalised: As in `to_example`.

    Raises:
        DataError: There is no image, or its values are not in [0, 1].

    >>> [tuple(image.shape) for image in to_examples({"image": np.zeros((2, 8, 9, 3), np.uint8)})]
    [(3, 8, 9), (3, 8, 9)]
    """
    rows = images if is_image_list(images) else images_of(images)
    if isinstance(rows, Image.Image):
        rows = [rows]
    if isinstance(rows, str | Path) or not hasattr(rows, "__len__") or len(rows) == 0:
        count = " without an image" if hasattr(rows, "__len__") and not isinstance(rows, str) else ""
        raise DataError(f"expected a batch or a list of images, found {type(rows).__name__}{count}; give one or more")
    return [to_example(row, normalised) for row in rows]


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Return images of one size, (C, H, W) each, as one tensor, uint8 if all of them have 8 bits.

    Raises:
        DataError: They differ in size.
    """
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        sizes = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes)[:3])
        raise DataError(
            f"the model has no input size and the images have different ones ({sizes} …); wrap it: "
            "cka_probe.Backbone(model, size=(height, width), mean=…, std=…)"
        )
    if len({image.dtype for image in images}) > 1:
        images = [image / 255.0 if image.dtype == torch.uint8 else image for image in images]
    return torch.stack(list(images)).contiguous()


def to_batch(images: Tensor) -> Tensor:
    """Return a batch of images, (n, 3 or 1, H, W), as floats in [0, 1]; another batch unchanged.

    Raises:
        DataError: The values are not in [0, 1].

    >>> to_batch(torch.full((2, 3, 8, 8), 51, dtype=torch.uint8))[:, 0, 0, 0]
    tensor([0.2000, 0.2000])
    """
    if images.dim() != 4 or images.shape[1] not in (1, 3) or not images.numel():
        return images
    if images.is_floating_point():
        check_range(images)
        return images
    return _pixels(images).float().div_(255.0)


def image_layout(item: Any) -> str | None:
    """Return "CHW", "HWC" or "HW" if an example has dtype and shape of an image, else `None`; "HWC" of a PIL image.

    >>> image_layout(torch.zeros(3, 32, 32)), image_layout(np.zeros((32, 32, 3))), image_layout(torch.zeros(64, 7, 7))
    ('CHW', 'HWC', None)
    """
    if isinstance(item, Image.Image):
        return "HWC"
    shape, uint8 = tuple(getattr(item, "shape", ())), str(getattr(item, "dtype", "")).endswith("uint8")
    if len(shape) == 2:
        return "HW" if uint8 and min(shape) >= SMALLEST_SIDE else None
    if len(shape) != 3:
        return None
    if shape[0] in (1, 3):
        return "CHW"
    image = uint8 or (isinstance(item, np.ndarray) and min(shape[:2]) >= SMALLEST_SIDE)
    return "HWC" if image and shape[2] in (1, 3, 4) else None


def is_single_image(item: Any, normalised: bool = False) -> bool:
    """Return whether an item of an iterable is one image, and not a batch of one or three examples of two axes."""
    layout = image_layout(item)
    if layout == "CHW" and not normalised and not str(item.dtype).endswith(("uint8", "bool")):
        low, high = (float(end) for end in torch.aminmax(_to_tensor(item)))
        return min(item.shape[1:]) >= SMALLEST_SIDE and low >= 0.0 and high <= 1.0
    return layout is not None


def images_of(item: Any) -> Any:
    """Return the images of a sample or batch: itself, the first of a tuple or list, or a field of a mapping.

    Raises:
        DataError: A mapping has no field of images or tokens, or tokens with padding that a mask hides.
    """
    if isinstance(item, Mapping):
        name = next((name for name in (*IMAGE_FIELDS, "input_ids") if name in item), None)
        if name is None:
            fields = ", ".join(map(repr, (*IMAGE_FIELDS, "input_ids")))
            raise DataError(f"expected one of {fields} in a mapping, found {', '.join(map(str, item))}; rename one")
        mask = item.get("attention_mask")
        if name == "input_ids" and mask is not None and not bool(torch.as_tensor(mask).bool().all()):
            raise DataError(
                "expected token ids without padding, found zeros in attention_mask; give the ids alone, and make the "
                "mask from them in an adapter: cka_probe.Backbone(model, forward=lambda model, ids: ...)"
            )
        return item[name]
    return item[0] if isinstance(item, tuple | list) and item else item


def is_image_list(items: Any) -> bool:
    """Return whether a list or tuple is of images: PIL images, or two or more arrays with their shape."""
    if not isinstance(items, list | tuple) or not items:
        return False
    if all(isinstance(item, Image.Image) for item in items):
        return True
    return len(items) > 1 and all(image_layout(item) is not None for item in items)


def _from_pil(image: Image.Image) -> Tensor:
    """Return a PIL image as uint8."""
    try:
        return pil_pixels(image, "an image", "L" if image.mode in GREY_MODES else "RGB")
    except UNREADABLE as error:
        raise DataError(f"unreadable PIL image: {error}; replace it") from error


def _to_tensor(item: Any) -> Tensor:
    """Return an array as a tensor, of the same dtype and values."""
    if isinstance(item, Tensor):
        return item.as_subclass(Tensor)
    array = np.asarray(item)
    try:
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))
    except TypeError as error:
        raise DataError(
            f"expected images as PIL images, tensors or arrays of numbers, found {type(item).__name__} of "
            f"{array.dtype}; convert them"
        ) from error


def _pixels(pixels: Tensor) -> Tensor:
    """Return an image as uint8 if its values are of 8 bits, else as float32 in [0, 1]."""
    if pixels.dtype == torch.uint8:
        return pixels
    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * 255
    if not pixels.is_floating_point():
        raise DataError(
            f"expected images as uint8 (0 to 255) or floats in [0, 1], found {str(pixels.dtype).removeprefix('torch.')}"
            "; convert them"
        )
    check_range(pixels)
    return eight_bits(pixels)


def eight_bits(pixels: Tensor) -> Tensor:
    """Return floats as uint8 if they are multiples of 1/255 in [0, 1] up to rounding, else as float32.

    >>> eight_bits(torch.tensor([0.0, 0.2, 1.0])), eight_bits(torch.tensor([0.0, 0.1]))
    (tensor([  0,  51, 255], dtype=torch.uint8), tensor([0.0000, 0.1000]))
    """
    floats = pixels.float()
    for values in (floats[..., :1], floats):  # the first column decides for most images of other depths
        steps = values.mul(255.0).round_()
        low, high = (float(end) for end in torch.aminmax(steps)) if steps.numel() else (0.0, 0.0)
        if not (low >= 0.0 and high <= 255.0 and float((steps / 255.0 - values).abs_().max()) <= STEP_ROUNDING):
            return floats
    return steps.to(torch.uint8)


def check_range(pixels: Tensor) -> None:
    """Raise `DataError` unless the values of images are in [0, 1]."""
    low, high = (float(end) for end in torch.aminmax(pixels.detach()))
    if not (low >= -ROUNDING and high <= 1.0 + ROUNDING):  # true of NaN as well
        raise DataError(f"expected images with values in [0, 1], found {low:.4g} to {high:.4g}; {_way_out(low, high)}")


def _way_out(low: float, high: float) -> str:
    """Return what to do about an image with values outside [0, 1]."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "remove NaN and infinite values"
    if low >= 0.0 and high > 2.0:
        return "divide them by 255 (or 65535, if they are of 16 bits)"
    if low >= -0.5 and high <= 1.5 and (low >= 0.0 or high > 1.0):
        return "clamp them if resizing made them overshoot; if they are normalised, undo that, or pass normalised=True"
    return "undo their normalisation, or pass normalised=True to give them to the models as they are"
