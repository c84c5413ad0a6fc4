"""The kinds of file that are known: how they are told apart, and what images their encoder was fed.

The tensors alone do not say how the input was normalised, yet feeding every model the same way is worth more
CKA than a few epochs of training, so it is part of the kind: ImageNet's mean and std for SimMIM, Swin, timm,
torchvision, MoCo, DINO, DINOv2, Depth Anything and transformers; 0.45 / 0.225 inside the networks of Monodepth2 and
SC-Depth; nothing at all for MIM-Depth, whose layer norms also have an eps of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD

HALF_GREY = ((0.45,) * 3, (0.225,) * 3)


@dataclass(frozen=True)
class Clues:
    """What a kind is recognised by.

    Attributes:
        family: `swinv2`, `resnet`, `dinov2` or `other`.
        naming: Whose module names: `timm`, `microsoft`, `transformers` or `transformers dinov2`.
        prefix: The parts in front of the encoder's names.
        names: The encoder's names, without the prefix, as they are in the file.
        groups: What stands beside the encoder.
        values: The plain values of the file.
    """

    family: str
    naming: str
    prefix: tuple[str, ...]
    names: frozenset[str]
    groups: frozenset[str]
    values: Mapping[str, object]

    def has(self, part: str) -> bool:
        """Return whether a part stands anywhere in front of the encoder or names a group beside it."""
        return part in self.prefix or any(part in group.split(".") for group in self.groups)


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        title: For people.
        fits: Whether the clues are this kind's; the first in `KINDS` that fits is taken.
        mean: Input mean per channel, units of [0, 1].
        std: Input standard deviation per channel.
        norm_eps: Of its layer norms, where it is not the architecture's.
        output_stride: Of a ResNet; less than 32 where its last stages were dilated.
        note: What a reader should know.
    """

    title: str
    fits: Callable[[Clues], bool]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    norm_eps: float | None = None
    output_stride: int = 32
    note: str = ""


def _swin(clues: Clues) -> bool:
    return clues.family == "swinv2"


def _resnet(clues: Clues) -> bool:
    return clues.family == "resnet"


def _mim_depth(clues: Clues) -> bool:
    released = "norm3.weight" in clues.names and any(".rpe_mlp." in name for name in clues.names)
    return _swin(clues) and (released or clues.has("last_layer_depth"))


def _sc_depth(clues: Clues) -> bool:
    return clues.family != "other" and (clues.has("depth_net") or clues.prefix[-2:] == ("encoder", "encoder"))


def _dinov2(clues: Clues) -> bool:
    return clues.family == "dinov2"


def _depth_anything(clues: Clues) -> bool:
    return _dinov2(clues) and (clues.has("depth_head") or clues.has("neck") or clues.prefix[-1:] == ("pretrained",))


def _segmenting(clues: Clues) -> bool:
    return _resnet(clues) and clues.prefix[-1:] == ("backbone",) and clues.has("classifier")


def _monodepth2(clues: Clues) -> bool:
    return clues.family == "resnet" and image_size(clues.prefix, clues.values) is not None


def image_size(prefix: tuple[str, ...], values: Mapping[str, object]) -> tuple[int, int] | None:
    """Return the height and width that Monodepth2 writes beside its `encoder.` tensors, if they are there."""
    if prefix[-1:] != ("encoder",):
        return None
    height, width = (values.get(".".join((*prefix[:-1], name))) for name in ("height", "width"))
    return (height, width) if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 else None


def _simmim(clues: Clues) -> bool:
    old_names = any(".rpe_mlp." in name for name in clues.names)
    masked = "mask_token" in clues.names or clues.prefix[-1:] == ("encoder",)
    return _swin(clues) and clues.naming != "transformers" and (masked or old_names)


KINDS: dict[str, Kind] = {
    "mim-depth": Kind(
        "MIM-Depth (Swin-v2)",
        _mim_depth,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        norm_eps=1e-6,
        note="MIM-Depth: images are not normalised, layer norms have eps 1e-6",
    ),
    "monodepth2": Kind("Monodepth2", _monodepth2, *HALF_GREY, note="Monodepth2: images as (x - 0.45) / 0.225"),
    "sc-depth": Kind("SC-Depth", _sc_depth, *HALF_GREY, note="SC-Depth: images as (x - 0.45) / 0.225"),
    "simmim": Kind("SimMIM (Swin-v2)", _simmim),
    "transformers": Kind("transformers Swin-v2", lambda clues: _swin(clues) and clues.naming == "transformers"),
    "microsoft": Kind("Swin-v2 in Microsoft's names", lambda clues: _swin(clues) and clues.naming == "microsoft"),
    "timm": Kind("Swin-v2 in timm's names", _swin),
    "moco": Kind("MoCo (ResNet)", lambda clues: _resnet(clues) and clues.has("encoder_q")),
    "dino": Kind("DINO (ResNet)", lambda clues: _resnet(clues) and clues.has("teacher")),
    "segmentation": Kind(
        "DeepLabV3 or FCN (ResNet) of torchvision",
        _segmenting,
        output_stride=8,
        note="torchvision's segmentation: dilated to output stride 8, and built so; a stage may say output_stride = 32",
    ),
    "resnet": Kind("ResNet in torchvision's and timm's names", _resnet),
    "depth-anything": Kind("Depth Anything (DINOv2)", _depth_anything),
    "transformers-dinov2": Kind("transformers DINOv2", lambda clues: _dinov2(clues) and "transformers" in clues.naming),
    "dinov2": Kind("DINOv2", _dinov2),
    "other": Kind("another timm model", lambda clues: True),
}
"""From the most to the least particular."""
