"""What an architecture is: a way to build an encoder, and where its layers are."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from cka_probe.models.layers import LayerMap


@dataclass(frozen=True)
class Architecture:
    """A named encoder without its head.

    Attributes:
        name: As in `random:NAME`, recipes and checkpoints.
        size: Input height and width in pixels when nothing else is said.
        channels: Channels of the last feature map.
        build: `build(size=..., **options)` gives the encoder, randomly initialised from torch's generator.
        layers: The default map.
        any_shape: Whether one and the same encoder takes images of any height and width.
        dilates: Whether it can be dilated (`output_stride`).
        token: Pixels that both sides of its input must be multiples of, where it cannot take others; else 1.
    """

    name: str
    size: int
    channels: int
    build: Callable[..., nn.Module]
    layers: LayerMap
    any_shape: bool = False
    dilates: bool = False
    token: int = 1
