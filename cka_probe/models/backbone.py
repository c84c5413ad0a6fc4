"""A backbone: an encoder that takes RGB images in [0, 1] and knows its mean, std and input size.

So two models with different normalisation or resolution are compared on the same images, each with its own input.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from cka_probe.errors import CheckpointError, DataError
from cka_probe.models.layers import LayerMap
from cka_probe.models.recording import evaluating

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey image (ITU-R BT.601)."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),  # SimMIM, Swin, timm, torchvision
    "sc_depth": ((0.45,) * 3, (0.225,) * 3),  # SC-Depth, Monodepth2
    "half": ((0.5,) * 3, (0.5,) * 3),  # ViT of JAX, DPT of MiDaS
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "caffe2": ((123.675 / 255, 116.28 / 255, 103.53 / 255), (1 / 255,) * 3),  # detectron2: 0..255 minus the mean
    "caffe2_resnext": (
        (123.675 / 255, 116.28 / 255, 103.53 / 255),
        (58.395 / 255, 57.12 / 255, 57.375 / 255),
    ),
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

    Examples that are not images (vectors, tokens, token ids) stay as they are.

    Attributes:
        size: (height, width) in pixels; `None` keeps the size of the images.
        mean: Mean per channel, in units of [0, 1].
        std: Standard deviation per channel.
        channels: Channels of the input. Grey images are repeated for 3; of RGB images, 1 is the luminance, 0.299 R +
            0.587 G + 0.114 B (mode L of Pillow). `None` keeps the channels of the images.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: int | None = None

    def fit(self, image: Tensor) -> Tensor:
        """Give an image the channels of the input, resize it so that it just covers `size`, and crop its centre.

        Args:
            image: (..., C, H, W), uint8 or float32 in [0, 1].

        Returns:
            (..., channels, h, w) of the same dtype, (h, w) = `size`; the image itself if it has that size. Grey
            made of RGB is float32.

        Raises:
            DataError: It has other channels, and neither is grey and the other RGB.
        """
        if image.dim() < 3 or not (image.is_floating_point() or image.dtype == torch.uint8):
            return image
        image = self._with_channels(image)
        if self.size is None or tuple(image.shape[-2:]) == self.size:
            return image
        sides = list(zip(self.size, image.shape[-2:], strict=True))
        scale = max(target / side for target, side in sides)
        covering = [max(target, round(scale * side)) for target, side in sides]
        resized = F.resize(image, covering, interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
        cropped: Tensor = F.center_crop(resized, list(self.size))
        return cropped if cropped.dtype == torch.uint8 else cropped.clamp(0.0, 1.0)

    def normalise(self, images: Tensor) -> Tensor:
        """Return `(images - mean) / std`, (n, channels, h, w) float32, of images in [0, 1] or uint8."""
        if images.dtype == torch.uint8:
            images = images.float().div_(255.0)
        if self._is_identity:
            return images
        normalised: Tensor = F.normalize(images, list(self.mean), list(self.std))
        return normalised

    @property
    def form(self) -> tuple[tuple[int, int] | None, int | None]:
        """Size and channels of the input before normalisation; `None` for those of the images."""
        return self.size, self.channels or (None if self._is_identity else len(self.mean))

    @property
    def record(self) -> dict[str, Any]:
        """What fingerprints record of it."""
        size = None if self.size is None else list(self.size)
        return {"size": size, "mean": list(self.mean), "std": list(self.std), "channels": self.channels}

    @property
    def _is_identity(self) -> bool:
        return not any(self.mean) and all(value == 1.0 for value in self.std)

    def _with_channels(self, image: Tensor) -> Tensor:
        """Return an image, (..., C, H, W), with the channels of the input."""
        channels, count = self.form[1], image.shape[-3]
        if channels is None or channels == count:
            return image
        if (count, channels) == (1, 3):
            return image.expand(*image.shape[:-3], 3, *image.shape[-2:])
        if (count, channels) == (3, 1):
            floats = image / 255.0 if image.dtype == torch.uint8 else image
            return (floats * floats.new_tensor(LUMINANCE).view(3, 1, 1)).sum(dim=-3, keepdim=True)
        raise DataError(
            f"the model takes images of {channels} channel{'s' * (channels > 1)}, (n, {channels}, H, W): found "
            f"{tuple(image.shape[-3:])} for one image; give others, or a Backbone with channels={count}, mean and std"
        )


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

    A call takes images (n, channels, h, w), float32 RGB or grey in [0, 1] of its size, normalises them and runs the
    encoder. Paths of layers are relative to `model`.

    Args:
        model: Any module that takes (n, channels, h, w), or anything else with `forward`.
        size: Input (height, width), or one number for both; `None` for any size.
        mean: Mean per channel, in units of [0, 1], or one for all; by default ImageNet's for three channels, else 0.
        std: Standard deviation per channel; by default ImageNet's for three channels, else 1.
        channels: Channels of the input: 3 for RGB, 1 for grey; by default read from the convolutions of the model, and
            those of the images if it has none of 1 or 3.
        forward: Called as `forward(model, images)` with normalised images (n, channels, h, w) in place of
            `model(images)`, for a model that takes a dict, several inputs or another layout.
        layers: The default layers, if there are any.
        origin: Where it comes from; by default the class name.
        classifier: Maps the output of the encoder, pooled features (n, C), to logits (n, classes). It is not a part of
            `model`, so layers and the hash of the weights are those of the encoder alone.

    Attributes:
        loaded: Whether `load` created it; only then may it be moved to another device.

    >>> backbone = Backbone(nn.Conv2d(3, 8, 3), size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    >>> backbone(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 8, 30, 30])
    >>> detector = Backbone(nn.Conv2d(1, 8, 3), forward=lambda model, images: {"maps": model(images)})
    >>> detector.preprocessing.channels, detector(torch.rand(2, 1, 32, 32))["maps"].shape
    (1, torch.Size([2, 8, 30, 30]))
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int | Sequence[int] | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        channels: int | None = None,
        forward: Callable[[Any, Tensor], Any] | None = None,
        layers: LayerMap | None = None,
        origin: Origin | None = None,
        classifier: nn.Module | None = None,
    ):
        super().__init__()
        self.model = model
        self.classifier = classifier
        channels = input_channels(model) if channels is None else channels
        grey = channels not in (None, 3)
        self.preprocessing = Preprocessing(
            None if size is None else as_size(size),
            _per_channel("mean", ((0.0,) if grey else IMAGENET_MEAN) if mean is None else mean, channels),
            _per_channel("std", ((1.0,) if grey else IMAGENET_STD) if std is None else std, channels),
            channels,
        )
        self.adapter = forward
        self.layers = layers
        self.origin = origin or Origin(type(model).__name__, type(model).__name__)
        self.loaded = False

    def forward(self, images: Tensor) -> Any:
        """Run the encoder on (n, channels, h, w), floats in [0, 1] or uint8; return what it puts out.

        Raises:
            DataError: The images have other values or channels.
        """
        from cka_probe.images.conversion import to_batch

        return self.run(self.preprocessing.normalise(to_batch(images)))

    def run(self, inputs: Any) -> Any:
        """Run the encoder on normalised images, with its adapter if it has one."""
        return self.model(inputs) if self.adapter is None else self.adapter(self.model, inputs)

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

    def block_maps(self, images: Tensor, num: int) -> list[tuple[Tensor, Tensor]]:
        """Return the outputs of `num` blocks of a timm vision transformer, the last of each of as many equal parts.

        Each is followed by the final norm, as in Depth Anything.

        Args:
            images: (n, 3, h, w) float32 RGB in [0, 1].
            num: Number of blocks; a divisor of their number.

        Returns:
            The patches as a map, (n, C, h / stride, w / stride), and the class and register tokens, (n, tokens, C),
            of each block.
        """
        model: Any = self.model
        part = len(model.blocks) // num
        blocks: list[tuple[Tensor, Tensor]] = model.forward_intermediates(
            self.preprocessing.normalise(images),
            indices=[part * (number + 1) - 1 for number in range(num)],
            return_prefix_tokens=True,
            norm=True,
            intermediates_only=True,
        )
        return blocks

    def preprocessing_at(self, size: tuple[int, int]) -> Preprocessing:
        """Return the preprocessing for another input size, (height, width), after a trial run on one image of it.

        Raises:
            DataError: The model does not take images of this size.
        """
        preprocessing = replace(self.preprocessing, size=size)
        image = torch.full((1, preprocessing.channels or 3, *size), 0.5, device=self.device)
        try:
            with torch.no_grad(), evaluating(self.model):
                self.run(preprocessing.normalise(image).to(self.dtype or image.dtype))
        except Exception as error:  # a model raises what it likes
            message = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"{self.origin.reference}: expected images of a size that the model takes, found "
                f"{size[0]}x{size[1]} ({message}); give another size, or omit it"
            ) from error
        return preprocessing

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters(), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of the weights, or `None` if the encoder has none of floats."""
        return next((weight.dtype for weight in self.model.parameters() if weight.is_floating_point()), None)


def as_size(size: int | str | Sequence[int]) -> tuple[int, int]:
    """Return (height, width) of one number for both, of two, or of a string "HEIGHTxWIDTH".

    Raises:
        DataError: It is none of these.

    >>> as_size(224), as_size("224"), as_size("192x640")
    ((224, 224), (224, 224), (192, 640))
    """
    parts = size.split("x") if isinstance(size, str) else [size] if isinstance(size, int) else list(size)
    sides = [int(part) if str(part).isdecimal() else 0 for part in parts]
    if len(sides) > 2 or not all(sides):
        raise DataError(f"expected a size in pixels, as one number or HEIGHTxWIDTH, found {size!r}; correct it")
    return sides[0], sides[-1]


def input_channels(model: nn.Module) -> int | None:
    """Return 3 if a convolution of a model takes three channels, else 1 if its first takes one, else `None`.

    >>> input_channels(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3))), input_channels(nn.Linear(3, 8))
    (1, None)
    """
    counts = [module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    return 3 if 3 in counts else 1 if counts[:1] == [1] else None


def _per_channel(name: str, values: float | Sequence[float], channels: int | None) -> tuple[float, ...]:
    """Return one number per channel."""
    numbers = tuple(np.atleast_1d(values).tolist())
    numbers *= (channels or 3) if len(numbers) == 1 else 1
    if channels is not None and len(numbers) != channels:
        raise DataError(
            f"expected one {name} per channel of the input, {channels}, found {len(numbers)}; give as many, or one "
            "for all"
        )
    return numbers


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
