"""Where the channels of an activation are: `NC`, `NLC` (tokens), `NCHW` or `NHWC`."""

from typing import Any

from torch import nn

CHANNELS_FIRST = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.InstanceNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Upsample,
)
CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
"""These and not their subclasses: LayerNorm2d of timm or torchvision is a LayerNorm with its channels first."""


def channel_layout(
    shape: tuple[int, ...], pixels: tuple[int, int] | None, module: nn.Module, model: nn.Module
) -> str | None:
    """Return the layout of an activation, or `None` if it is not certain.

    Of a feature map it follows from the kind of module (a convolution puts out NCHW, a linear layer has its channels
    last), from what the model declares (`output_fmt` of timm, or convolutions without a layer norm), or from the
    proportions of the image, in this order.

    Args:
        shape: (n, ...) of the activation.
        pixels: (height, width) of the input of the model, if it is an image.
        module: The module that put it out.
        model: The encoder or head that the module is part of.

    >>> channel_layout((8, 12, 12, 768), (192, 192), nn.Identity(), nn.Sequential())
    'NHWC'
    """
    if len(shape) != 4:
        return {2: "NC", 3: "NLC"}.get(len(shape))
    if (order := module_layout(module)) is not None or pixels is None:
        return order
    fits = {
        layout: abs(height * pixels[1] - width * pixels[0]) < max(pixels) and height <= pixels[0]
        for layout, (height, width) in {"NCHW": shape[2:], "NHWC": shape[1:3]}.items()
    }
    declared: Any = getattr(model, "output_fmt", None)
    if fits.get(declared or ("NCHW" if _is_convolutional(model) else "")):
        return declared or "NCHW"
    possible = [layout for layout, fit in fits.items() if fit]
    return possible[0] if len(possible) == 1 else None


def module_layout(module: nn.Module) -> str | None:
    """Return the layout of a module's feature maps where its kind determines it."""
    if isinstance(module, CHANNELS_FIRST):
        return "NCHW"
    return "NHWC" if type(module) in CHANNELS_LAST else None


def _is_convolutional(model: nn.Module) -> bool:
    """Return whether a model has convolutions and no layer norm, which is what puts channels last."""
    kinds = {type(module) for module in model.modules()}
    return any(issubclass(kind, nn.Conv2d) for kind in kinds) and not any(issubclass(k, nn.LayerNorm) for k in kinds)
