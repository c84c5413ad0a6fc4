"""Recognise the project that a file comes from, and with it how its encoder's images are normalised.

The normalisation is not in the tensors, yet the wrong one changes CKA more than a few epochs of training. So it belongs
to the kind of file: ImageNet's mean and std for SimMIM, Swin, timm, torchvision, MoCo, DINO, DINOv2, Depth Anything and
transformers; 0.45 and 0.225 inside the networks of Monodepth2 and SC-Depth; none for MIM-Depth, whose layer norms also
have another eps.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cka_probe.errors import CheckpointError
from cka_probe.models.backbone import NORMALISATIONS
from cka_probe.models.checkpoints.naming import choose_prefix, find_prefixes, naming_of, to_timm
from cka_probe.models.checkpoints.reading import Contents, Value
from cka_probe.models.checkpoints.windows import BUFFERS

HEADS = {"head", "fc", "classifier", "head_dist"}
DROPPABLE = HEADS | {"mask_token", "decoder", "pooler", "last_layer_depth", "norm0", "norm1", "norm2", "queue"}
"""Groups of tensors that may follow the encoder's prefix without being part of it; all others must fit."""


@dataclass(frozen=True)
class Encoder:
    """An encoder in a file.

    Attributes:
        family: `swinv2`, `resnet` or `dinov2`.
        naming: The names in the file, see `naming_of`.
        prefix: What precedes the encoder's names in the file.
        tensors: Parameters and batch norm statistics by timm's names, floating point as float32.
        buffers: Swin's window buffers by timm's names.
        dropped: Groups of tensors that are not part of the encoder, with their number.
        changes: Changes of names, and how many tensors each concerns.
        heads: Names of the tensors of classifiers.
        values: The plain values of the file.
        others: Number of dimensions of each tensor outside the encoder, by its name in the file.
        notes: Remarks for the user.
    """

    family: str
    naming: str
    prefix: str
    tensors: dict[str, Tensor]
    buffers: dict[str, Tensor]
    dropped: dict[str, int]
    changes: dict[str, int]
    heads: tuple[str, ...]
    values: Mapping[str, Value]
    others: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the prefix."""
        return tuple(self.prefix.split(".")[:-1])

    @property
    def size(self) -> tuple[int, int] | None:
        """Input height and width in pixels, if the file has them next to `encoder.` tensors, as Monodepth2's have."""
        if self.parts[-1:] != ("encoder",):
            return None
        height, width = (self.values.get(".".join((*self.parts[:-1], name))) for name in ("height", "width"))
        if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
            return height, width
        return None

    def has(self, part: str) -> bool:
        """Return whether a name is part of the prefix or of a group outside the encoder."""
        return part in self.parts or any(part in group.split(".") for group in self.dropped)


def has_sc_depth_decoder(encoder: Encoder) -> bool:
    """Return whether the decoder of SC-Depth, `decoder.….conv.conv.weight`, is next to `encoder.encoder.`."""
    front = encoder.prefix.removesuffix("encoder.").removesuffix("encoder.")
    return any(name.startswith(f"{front}decoder.") and name.endswith(".conv.conv.weight") for name in encoder.others)


def has_torchvision_segmentation(encoder: Encoder) -> bool:
    """Return whether the head of torchvision's DeepLabV3 or FCN is next to `backbone.`.

    A linear `classifier.weight` next to `backbone.` is of no such network: many projects call theirs so.
    """
    front = encoder.prefix.removesuffix("backbone.") + "classifier."
    if f"{front}0.convs.0.0.weight" in encoder.others:
        return True
    return f"{front}1.running_mean" in encoder.others and all(
        encoder.others.get(f"{front}{layer}.weight") == 4 for layer in (0, 4)
    )


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        title: Name for people.
        family: Family of its encoder; "" for any.
        matches: Whether an encoder comes from such a file.
        normalisation: Of its images, a name in `NORMALISATIONS`.
        norm_eps: Epsilon of its layer norms, if it is not the architecture's.
        output_stride: Of a ResNet; less than 32 if its last stages are dilated.
        note: Remark for the user.
        classifies: Whether a linear layer after the pooling is a classifier trained with the encoder: in files of MoCo
            it is a projection, and in those of depth networks it is left from the weights that training started from.
    """

    title: str
    family: str
    matches: Callable[[Encoder], bool] = lambda encoder: True
    normalisation: str = "imagenet"
    norm_eps: float | None = None
    output_stride: int = 32
    note: str = ""
    classifies: bool = True

    @property
    def mean(self) -> tuple[float, float, float]:
        """Input mean per channel, in units of [0, 1]."""
        return NORMALISATIONS[self.normalisation][0]

    @property
    def std(self) -> tuple[float, float, float]:
        """Input standard deviation per channel."""
        return NORMALISATIONS[self.normalisation][1]


OLD_MLP, OLD_NORM = "rpe_mlp -> cpb_mlp", "norm3 -> norm"

KINDS = (
    Kind(
        "MIM-Depth (Swin-v2)",
        "swinv2",
        lambda encoder: {OLD_MLP, OLD_NORM} <= encoder.changes.keys() or encoder.has("last_layer_depth"),
        normalisation="none",
        norm_eps=1e-6,
        note="MIM-Depth: images are not normalised, layer norms have eps 1e-6; windows are assumed to be shifted in "
        "the first two stages only, as in its published models: use_shift is not in the file; --arch "
        "swinv2_SIZE_shifted for all stages",
        classifies=False,
    ),
    Kind(
        "Monodepth2",
        "resnet",
        lambda encoder: encoder.size is not None,
        normalisation="sc_depth",
        note="Monodepth2: images as (x - 0.45) / 0.225",
        classifies=False,
    ),
    Kind(
        "SC-Depth",
        "",
        lambda encoder: encoder.parts[-1:] == ("encoder",) and has_sc_depth_decoder(encoder),
        normalisation="sc_depth",
        note="SC-Depth: images as (x - 0.45) / 0.225",
        classifies=False,
    ),
    Kind(
        "SimMIM (Swin-v2)",
        "swinv2",
        lambda encoder: (
            encoder.naming != "transformers"
            and ("mask_token" in encoder.tensors or encoder.parts[-1:] == ("encoder",) or OLD_MLP in encoder.changes)
        ),
    ),
    Kind("transformers Swin-v2", "swinv2", lambda encoder: encoder.naming == "transformers"),
    Kind("Swin-v2 in Microsoft's names", "swinv2", lambda encoder: encoder.naming == "microsoft"),
    Kind("Swin-v2 in timm's names", "swinv2"),
    Kind("MoCo (ResNet)", "resnet", lambda encoder: encoder.has("encoder_q"), classifies=False),
    Kind("DINO (ResNet)", "resnet", lambda encoder: encoder.has("teacher"), classifies=False),
    Kind(
        "DeepLabV3 or FCN (ResNet) of torchvision",
        "resnet",
        lambda encoder: encoder.parts[-1:] == ("backbone",) and has_torchvision_segmentation(encoder),
        output_stride=8,
        note="segmentation of torchvision: built with output stride 8, as it was; a stage can set output_stride = 32",
    ),
    Kind("ResNet in torchvision's and timm's names", "resnet"),
    Kind(
        "Depth Anything (DINOv2)",
        "dinov2",
        lambda encoder: encoder.has("depth_head") or encoder.has("neck") or encoder.parts[-1:] == ("pretrained",),
    ),
    Kind("transformers DINOv2", "dinov2", lambda encoder: "transformers" in encoder.naming),
    Kind("DINOv2", "dinov2"),
)
"""From the most to the least specific; the first that matches is the kind of a file."""


IMAGENET_TRAINED = {
    "DINO": ("teacher", "student", "dino_head", "ibot_head"),
    "MAE": ("decoder_blocks",),
    "MoCo v3": ("base_encoder", "momentum_encoder"),
}
"""Projects whose vision transformers were trained with ImageNet's mean and std, by parts of names in their files."""


def normalisation_of(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the project that a file of a vision transformer is from, and its normalisation, if the names show it."""
    parts = {part for name in names for part in name.split(".")}
    for title, words in IMAGENET_TRAINED.items():
        if parts & set(words):
            return title, "imagenet"
    return None


def recognise(contents: Contents) -> tuple[Encoder, Kind]:
    """Return the encoder in a file, and the kind of the file.

    Raises:
        CheckpointError: There is no encoder of a known family, or there are several, or it has registers.
    """
    path = contents.path
    families = find_prefixes(contents.tensors)
    if not families:
        raise CheckpointError(f"{path}: expected a Swin-v2, ResNet or DINOv2, found {len(contents.tensors)} others")
    prefix = choose_prefix(path, families, contents.tensors)
    inside = {name[len(prefix) :]: tensor for name, tensor in contents.tensors.items() if name.startswith(prefix)}
    naming = naming_of(families[prefix], inside)
    tensors, changes = to_timm(path, naming, inside)
    if "register_tokens" in tensors or "reg_token" in tensors:
        raise CheckpointError(
            f"{path}: expected DINOv2 as it was first published, found one with registers; give weights without, or "
            "a file in timm's names with --arch vit_small_patch14_reg4_dinov2 or similar"
        )
    encoder = Encoder(
        next((family for family in ("resnet", "dinov2") if family in families[prefix]), "swinv2"),
        naming,
        prefix,
        tensors,
        buffers={},
        dropped=groups_outside(prefix, contents.tensors),
        changes=changes,
        heads=tuple(name for name in contents.tensors if name.removeprefix(prefix).split(".")[0] in HEADS),
        values=contents.values,
        others={name: tensor.ndim for name, tensor in contents.tensors.items() if not name.startswith(prefix)},
    )
    kind = next(kind for kind in KINDS if kind.family in ("", encoder.family) and kind.matches(encoder))
    return _without_other_tensors(encoder, kind), kind


def _without_other_tensors(encoder: Encoder, kind: Kind) -> Encoder:
    """Return the encoder with its parameters only in `tensors`; window buffers are moved, other groups dropped."""
    tensors, buffers, dropped = {}, {}, dict(encoder.dropped)
    for name, tensor in encoder.tensors.items():
        group = name.split(".")[0]
        if name.endswith(BUFFERS):
            buffers[name] = tensor
        elif group in DROPPABLE or name.endswith(".attn.k_bias"):
            dropped[group] = dropped.get(group, 0) + 1
        else:
            tensors[name] = tensor
    notes = [kind.note] if kind.note else []
    if OLD_NORM in encoder.changes:
        notes.append("`norm` was `norm3` in the file")
    tensors, remarks = as_float32(tensors)
    return replace(encoder, tensors=tensors, buffers=buffers, dropped=dropped, notes=(*notes, *remarks))


def as_float32(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return tensors with floating point as float32, and notes on half precision and on values that are not finite."""
    notes = []
    if halves := sum(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in tensors.values()):
        notes.append(f"{halves} tensors were of half precision in the file")
    single = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    if not_finite := [name for name, tensor in single.items() if not tensor.isfinite().all()]:
        notes.append(f"{len(not_finite)} tensors hold NaN or infinity, the first is {not_finite[0]}")
    return single, tuple(notes)


def groups_outside(prefix: str, names: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the number of tensors in each group outside a prefix, named up to the first part that differs from it."""
    prefix_parts = prefix.split(".")
    groups: dict[str, int] = {}
    for name in names:
        if not name.startswith(prefix):
            parts = name.split(".")
            shared = next(i for i, part in enumerate(parts) if i >= len(prefix_parts) or part != prefix_parts[i])
            group = ".".join(parts[: shared + 1])
            groups[group] = groups.get(group, 0) + 1
    return groups


def count_groups(groups: Mapping[str, int]) -> str:
    """Return groups and their numbers of tensors as text.

    >>> count_groups({"decoder": 2, "head": 2})
    'decoder (2), head (2)'
    """
    return ", ".join(f"{group} ({number})" for group, number in groups.items())


def dropped_note(groups: Mapping[str, int]) -> tuple[str, ...]:
    """Return the note on dropped groups, none if nothing was dropped."""
    return (f"not of the encoder and dropped: {count_groups(groups)}",) if groups else ()
