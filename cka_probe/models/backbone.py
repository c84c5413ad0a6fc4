"""A backbone: an encoder that takes RGB in [0, 1] and alone knows its mean, std and input size.

So two models with different normalisation or resolution are compared on the same images and cannot be fed
wrongly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from cka_probe.models.layers import LayerMap

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),  # SimMIM, Swin, timm, torchvision
    "sc_depth": ((0.45,) * 3, (0.225,) * 3),  # SC-Depth, Monodepth2
    "none": ((0.0,) * 3, (1.0,) * 3),  # MIM-Depth
    "imagenet_twice": (  # Depth-to-Semantic's code feeds what ImageNet's has normalised to an encoder that does so, too
        (0.485 + 0.45 * 0.229, 0.456 + 0.45 * 0.224, 0.406 + 0.45 * 0.225),
        (0.225 * 0.229, 0.225 * 0.224, 0.225 * 0.225),
    ),
}
"""Mean and standard deviation that encoders are trained with, by who does it. Of two normalisations one after another,
((x - m) / s - m') / s' = (x - (m + m' s)) / (s s'): one of the same kind."""


@dataclass(frozen=True)
class Preprocessing:
    """How images become the input of one encoder.

    Attributes:
        size: (height, width) in pixels; `None` takes images as they come.
        mean: Subtracted per channel, in units of [0, 1].
        std: Divided by per channel, after the mean.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def fit(self, image: Tensor) -> Tensor:
        """Scale an image so that it just covers `size` and cut out the middle.

        Args:
            image: (..., 3, H, W) float32 in [0, 1].

        Returns:
            (..., 3, h, w) float32 in [0, 1], (h, w) = `size`; the image itself where it has that size.
        """
        if self.size is None or tuple(image.shape[-2:]) == self.size:
            return image
        scale = max(wanted / got for wanted, got in zip(self.size, image.shape[-2:], strict=True))
        covering = [max(wanted, round(scale * got)) for wanted, got in zip(self.size, image.shape[-2:], strict=True)]
        resized = F.resize(image, covering, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
        cropped: Tensor = F.center_crop(resized, list(self.size))
        return cropped.clamp(0.0, 1.0)

    def normalise(self, images: Tensor) -> Tensor:
        """Return `(images - mean) / std`, (n, 3, h, w) float32."""
        if not any(self.mean) and all(value == 1.0 for value in self.std):
            return images
        normalised: Tensor = F.normalize(images, list(self.mean), list(self.std))
        return normalised


@dataclass(frozen=True)
class Origin:
    """Where a backbone comes from: enough to name it in a result and to build it again.

    Attributes:
        reference: What the user called it: a path, `timm:NAME`, `random:NAME` …
        architecture: A name in `ARCHITECTURES`, or a timm name, or the class of a user's own model.
        options: What `Architecture.build` was given.
        notes: What a reader should know, one line each ("norm3 absent from the file: weight 1, bias 0").
    """

    reference: str
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Backbone(nn.Module):
    """An encoder, its preprocessing and its default layers.

    Calling it takes images (n, 3, h, w), float32 RGB in [0, 1] and of its size, normalises them and runs the
    encoder. Layers are addressed relative to `model`.

    Args:
        model: Any module that takes (n, 3, h, w).
        size: Input (height, width) or one number for both; `None` takes what comes.
        mean: Per channel, in units of [0, 1].
        std: Per channel.
        layers: The default map, if there is one.
        origin: Where it comes from; by default the class name.

    Attributes:
        loaded: Whether `load` made it, so that nobody else has a say in where its weights are.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int | Sequence[int] | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        layers: LayerMap | None = None,
        origin: Origin | None = None,
    ):
        super().__init__()
        self.model = model
        height, width = (size, size) if isinstance(size, int) or size is None else size
        (r, g, b), (s, t, u) = mean, std
        self.preprocessing = Preprocessing(
            None if height is None or width is None else (height, width), (r, g, b), (s, t, u)
        )
        self.layers = layers
        self.origin = origin or Origin(type(model).__name__, type(model).__name__)
        self.loaded = False

    def forward(self, images: Tensor) -> Tensor:
        """Run the encoder on (n, 3, h, w) float32 RGB in [0, 1]."""
        output: Tensor = self.model(self.preprocessing.normalise(images))
        return output

    def features(self, images: Tensor) -> Tensor:
        """Return the last feature map, (n, C, h / stride, w / stride), of a timm encoder.

        Of a vision transformer these are the tokens of the image's cells; others (the class token) are left out.

        Args:
            images: (n, 3, h, w) float32 RGB in [0, 1].
        """
        model: Any = self.model
        feature_map: Tensor = model.forward_features(self.preprocessing.normalise(images))
        if feature_map.ndim == 3:
            cells = feature_map[:, model.num_prefix_tokens :].transpose(1, 2)
            grid: Tensor = cells.unflatten(2, model.patch_embed.dynamic_feat_size(images.shape[-2:]))
            return grid
        channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        return feature_map.permute(0, 3, 1, 2).contiguous() if channels_last else feature_map

    def pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the feature maps of a timm Swin-v2, ResNet or vision transformer at every stride, fine to coarse.

        Of a Swin-v2 these are what its four stages put out, before the merging that opens the next (strides 4 to
        32), the last after its norm and therefore equal to `features`. Of a ResNet they are the stem before its
        pooling (stride 2) and the four stages. A vision transformer has one stride, and its map is `features`.

        Args:
            images: (n, 3, h, w) float32 RGB in [0, 1].

        Returns:
            (n, C, h / stride, w / stride) each; channels and strides stand in `model.feature_info`.
        """
        if hasattr(self.model, "num_prefix_tokens"):
            return (self.features(images),)
        model: Any = self.model
        last, maps = model.forward_intermediates(self.preprocessing.normalise(images))
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            maps[-1] = last.permute(0, 3, 1, 2).contiguous()  # timm norms only this one
        return tuple(maps)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters(), torch.empty(0)).device
