"""A backbone: an encoder that takes RGB images in [0, 1] and knows its mean, std and input size.

So two models with different normalisation or resolution are compared on the same images, each with its own input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from cka_probe.errors import CheckpointError
from cka_probe.models.layers import LayerMap

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),  # SimMIM, Swin, timm, torchvision
    "sc_depth": ((0.45,) * 3, (0.225,) * 3),  # SC-Depth, Monodepth2
    "none": ((0.0,) * 3, (1.0,) * 3),  # MIM-Depth
    "imagenet_twice": (  # Depth-to-Semantic: by ImageNet's, and in its encoder by SC-Depth's again
        (0.485 + 0.45 * 0.229, 0.456 + 0.45 * 0.224, 0.406 + 0.45 * 0.225),
        (0.225 * 0.229, 0.225 * 0.224, 0.225 * 0.225),
    ),
}
"""Mean and standard deviation that encoders were trained with. Two in a row are one of the same form:
((x - m) / s - m') / s' = (x - (m + m' s)) / (s s')."""


@dataclass(frozen=True)
class Preprocessing:
    """How images become the input of one encoder.

    Attributes:
        size: (height, width) in pixels; `None` keeps the size of the images.
        mean: Mean per channel, in units of [0, 1].
        std: Standard deviation per channel.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def fit(self, image: Tensor) -> Tensor:
        """Resize an image so that it just covers `size`, and crop its centre.

        Args:
            image: (..., 3, H, W) float32 in [0, 1].

        Returns:
            (..., 3, h, w) float32 in [0, 1], (h, w) = `size`; the image itself if it has that size.
        """
        if self.size is None or tuple(image.shape[-2:]) == self.size:
            return image
        sides = list(zip(self.size, image.shape[-2:], strict=True))
        scale = max(target / side for target, side in sides)
        covering = [max(target, round(scale * side)) for target, side in sides]
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
        reference: The user's name for it: a path, `timm:NAME`, `random:NAME` …
        architecture: A name in `ARCHITECTURES` or of timm, or the class of the user's model.
        options: Keyword arguments of `Architecture.build`.
        notes: Remarks for the user, one line each.
    """

    reference: str
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Backbone(nn.Module):
    """An encoder, its preprocessing and its default layers.

    A call takes images (n, 3, h, w), float32 RGB in [0, 1] of its size, normalises them and runs the encoder. Paths of
    layers are relative to `model`.

    Args:
        model: Any module that takes (n, 3, h, w).
        size: Input (height, width), or one number for both; `None` for any size.
        mean: Mean per channel, in units of [0, 1].
        std: Standard deviation per channel.
        layers: The default layers, if there are any.
        origin: Where it comes from; by default the class name.
        classifier: Maps the output of the encoder, pooled features (n, C), to logits (n, classes). It is not a part of
            `model`, so layers and the hash of the weights are those of the encoder alone.

    Attributes:
        loaded: Whether `load` created it; only then may it be moved to another device.

    >>> backbone = Backbone(nn.Conv2d(3, 8, 3), size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    >>> backbone(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 8, 30, 30])
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
        classifier: nn.Module | None = None,
    ):
        super().__init__()
        self.model = model
        self.classifier = classifier
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

    def logits(self, images: Tensor) -> Tensor:
        """Run the encoder and its classifier on (n, 3, h, w) float32 RGB in [0, 1]; return logits (n, classes).

        Raises:
            CheckpointError: The backbone has no classifier.
        """
        if self.classifier is None:
            raise CheckpointError(
                f"{self.origin.reference}: expected a classifier, found an encoder alone; give a file with both"
            )
        logits: Tensor = self.classifier(self(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """Return the last feature map, (n, C, h / stride, w / stride), of a timm encoder.

        For a vision transformer these are the tokens of the patches, without the class token.

        Args:
            images: (n, 3, h, w) float32 RGB in [0, 1].
        """
        model: Any = self.model
        feature_map: Tensor = model.forward_features(self.preprocessing.normalise(images))
        if feature_map.ndim == 3:
            patches = feature_map[:, model.num_prefix_tokens :].transpose(1, 2)
            grid: Tensor = patches.unflatten(2, model.patch_embed.dynamic_feat_size(images.shape[-2:]))
            return grid
        channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        return feature_map.permute(0, 3, 1, 2).contiguous() if channels_last else feature_map

    def pyramid(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the feature maps of a timm Swin-v2, ResNet or vision transformer at every stride, fine to coarse.

        For a Swin-v2 these are the outputs of the four stages (strides 4 to 32), before the patch merging of the next,
        the last one after the final norm and so equal to `features`. For a ResNet they are the stem before its pooling
        (stride 2) and the four stages. A vision transformer has one stride, and its map is `features`.

        Args:
            images: (n, 3, h, w) float32 RGB in [0, 1].

        Returns:
            (n, C, h / stride, w / stride) each; `model.feature_info` has channels and strides.
        """
        if hasattr(self.model, "num_prefix_tokens"):
            return (self.features(images),)
        model: Any = self.model
        last, maps = model.forward_intermediates(self.preprocessing.normalise(images))
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":
            maps[-1] = last.permute(0, 3, 1, 2).contiguous()  # timm applies the final norm only to this one
        return tuple(maps)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters(), torch.empty(0)).device


def classifier_from(tensors: Mapping[str, Tensor], name: str, features: int) -> nn.Linear | None:
    """Return the linear classifier of a name, or `None` if the tensors have none that takes so many features.

    Args:
        tensors: The tensors of a file.
        name: What precedes `.weight`, (classes, features) or as a 1 x 1 convolution, and `.bias`, (classes,), which may
            be missing. timm's name for it is `pretrained_cfg["classifier"]`.
        features: Channels of the pooled features.

    >>> classifier_from({"fc.weight": torch.ones(10, 512), "fc.bias": torch.zeros(10)}, "fc", 512)
    Linear(in_features=512, out_features=10, bias=True)
    """
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if weight is None or tuple(weight.shape[1:]) not in ((features,), (features, 1, 1)):
        return None
    if bias is not None and bias.shape != weight.shape[:1]:
        return None
    classifier: nn.Linear = skip_init(nn.Linear, features, len(weight), bias=bias is not None)
    state = {"weight": weight.flatten(1)} | ({} if bias is None else {"bias": bias})
    classifier.load_state_dict(state)  # copies, as float32
    return classifier
