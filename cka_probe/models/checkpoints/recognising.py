"""The kinds of file that are known: how they are told apart, and what images their encoder was fed.

The tensors alone do not say how the input was normalised, yet feeding every model the same way is worth more
CKA than a few epochs of training, so it is part of the kind: ImageNet's mean and std for SimMIM, Swin, timm,
torchvision, MoCo, DINO, DINOv2, Depth Anything and transformers; 0.45 / 0.225 inside the networks of Monodepth2 and
SC-Depth; nothing at all for MIM-Depth, whose layer norms also have an eps of their own.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cka_probe.errors import CheckpointError
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD
from cka_probe.models.checkpoints.naming import BUFFERS, choose_prefix, find_prefixes, naming_of, to_timm
from cka_probe.models.checkpoints.reading import Contents, Value

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


HEADS = {"head", "fc", "classifier", "head_dist"}
DROPPABLE = HEADS | {"mask_token", "decoder", "pooler", "last_layer_depth", "norm0", "norm1", "norm2", "queue"}
IN_FOLDERS = ("encoder.pth", "model.safetensors", "pytorch_model.bin")
"""Groups that stand beside the encoder's path to its last layer; every other name must fit the architecture."""


@dataclass(frozen=True)
class Encoder:
    """An encoder found in a file.

    Attributes:
        kind: A name in `KINDS`.
        naming: Whose module names the file uses.
        prefix: What stands in front of the encoder's names in the file.
        tensors: Parameters and batch norm statistics under timm's names, floating point as float32.
        buffers: Swin's window buffers, under timm's names.
        dropped: Number of tensors by group that are not of the encoder.
        changes: Renamings, and how many tensors each concerns.
        heads: Names of the tensors of classifiers.
        values: The plain values of the file.
        notes: What a reader should know.
    """

    kind: str
    naming: str
    prefix: str
    tensors: dict[str, Tensor]
    buffers: dict[str, Tensor]
    dropped: dict[str, int]
    changes: dict[str, int]
    heads: tuple[str, ...]
    values: Mapping[str, Value]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int] | None:
        """Input height and width in pixels, where the file says them outright."""
        return image_size(tuple(self.prefix.split(".")[:-1]), self.values)

    @property
    def about(self) -> Kind:
        """What is known of this kind of file."""
        return KINDS[self.kind]


def recognise(contents: Contents) -> Encoder:
    """Find the encoder of a file.

    Raises:
        CheckpointError: There is none of a known family, or several, or it is a Swin-v1 or has registers.
    """
    found = find_prefixes(contents.tensors)
    if not found:
        raise CheckpointError(f"{contents.path}: expected a Swin-v2, ResNet or DINOv2, {_other_family(contents)}")
    prefix = choose_prefix(contents.path, found, contents.tensors)
    inside = {name[len(prefix) :]: tensor for name, tensor in contents.tensors.items() if name.startswith(prefix)}
    outside = _groups_beside(prefix, contents)
    naming = naming_of(found[prefix], inside)
    family = next((family for family in ("resnet", "dinov2") if family in found[prefix]), "swinv2")
    parts = tuple(prefix.split(".")[:-1])
    clues = Clues(family, naming, parts, frozenset(inside), frozenset(outside), contents.values)
    kind = next(name for name, about in KINDS.items() if about.fits(clues))
    renamed = to_timm(contents.path, naming, inside)
    if "register_tokens" in renamed.tensors or "reg_token" in renamed.tensors:
        raise CheckpointError(
            f"{contents.path}: expected DINOv2 as it was first published, found one with registers; give the weights "
            "without, or a file in timm's names with --arch vit_small_patch14_reg4_dinov2, or whichever it is"
        )
    encoder = Encoder(kind, naming, prefix, {}, {}, outside, renamed.changes, _heads(contents, prefix), contents.values)
    return _sorted_out(encoder, renamed.tensors)


def _sorted_out(encoder: Encoder, tensors: dict[str, Tensor]) -> Encoder:
    """Return the encoder with its tensors told apart: its own, window buffers, and what is dropped."""
    own, buffers, dropped = {}, {}, dict(encoder.dropped)
    for name, tensor in tensors.items():
        group = name.split(".")[0]
        if name.endswith(BUFFERS):
            buffers[name] = tensor
        elif group in DROPPABLE or name.endswith(".attn.k_bias"):
            dropped[group] = dropped.get(group, 0) + 1
        else:
            own[name] = tensor
    notes = [encoder.about.note] if encoder.about.note else []
    if "norm3 -> norm" in encoder.changes:
        notes.append("`norm` was `norm3` in the file")
    if halves := sum(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in own.values()):
        notes.append(f"{halves} tensors were of half precision in the file")
    own = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in own.items()}
    if sick := [name for name, tensor in own.items() if not tensor.isfinite().all()]:
        notes.append(f"{len(sick)} tensors hold NaN or infinity, the first is {sick[0]}")
    return replace(encoder, tensors=own, buffers=buffers, dropped=dropped, notes=tuple(notes))


def _groups_beside(prefix: str, contents: Contents) -> dict[str, int]:
    """Return how many tensors stand in each group outside the prefix, named up to where it parts from it."""
    parts = prefix.split(".")
    groups: dict[str, int] = {}
    for name in contents.tensors:
        if not name.startswith(prefix):
            own = name.split(".")
            shared = next(i for i, part in enumerate(own) if i >= len(parts) or part != parts[i])
            group = ".".join(own[: shared + 1])
            groups[group] = groups.get(group, 0) + 1
    return groups


def _heads(contents: Contents, prefix: str) -> tuple[str, ...]:
    """Return the names of classifiers' tensors, as they are in the file."""
    inside = (name.removeprefix(prefix).split(".")[0] for name in contents.tensors)
    return tuple(name for name, group in zip(contents.tensors, inside, strict=True) if group in HEADS)


def _other_family(contents: Contents) -> str:
    """Return what a file without a known encoder holds, and what to do."""
    if any(name.endswith("relative_position_bias_table") for name in contents.tensors):
        return "found a Swin-v1 (relative_position_bias_table); give a Swin-v2, or timm's name of it with --arch"
    names = ", ".join(list(contents.tensors)[:3])
    return f"found {len(contents.tensors)} tensors ({names} …); --arch takes the name of any timm model"


def dropped_note(groups: dict[str, int]) -> tuple[str, ...]:
    """Return the note on what was dropped, none if nothing was."""
    return (f"not of the encoder and dropped: {listed(groups)}",) if groups else ()


def listed(groups: dict[str, int]) -> str:
    """Return groups and their numbers of tensors in one line.

    >>> listed({"decoder": 2, "head": 2})
    'decoder (2), head (2)'
    """
    return ", ".join(f"{group} ({number})" for group, number in groups.items())


def with_config_beside(contents: Contents) -> Contents:
    """Return the contents with the values of a `config.json` in the same folder, under `beside.`.

    The hubs of transformers and timm keep there what the tensors do not say. JSON holds nothing to be run; a
    file that is not one is left alone.
    """
    try:
        told = json.loads((contents.path.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return contents
    if not isinstance(told, dict):
        return contents
    values = {f"beside.{key}": tuple(value) if isinstance(value, list) else value for key, value in told.items()}
    return replace(contents, values={**contents.values, **values})


def depths_of(tensors: dict[str, Tensor]) -> str:
    """Return what a Swin-v2, ResNet or DINOv2 looks like, for a message."""
    if "pos_embed" in tensors:
        blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
        places, width = tensors["pos_embed"].shape[-2:]
        return f"a DINOv2 of width {width}, {len(blocks)} blocks and {places} places"
    stages: dict[str, set[str]] = {}
    for name in tensors:
        if match := re.match(r"layers?\.?(\d)\.(?:blocks\.)?(\d+)\.", name):
            stages.setdefault(match[1], set()).add(match[2])
    depths = tuple(len(blocks) for _, blocks in sorted(stages.items()))
    first = tensors.get("patch_embed.proj.weight", tensors.get("conv1.weight"))
    family = "Swin-v2" if "patch_embed.proj.weight" in tensors else "ResNet"
    of_width = f" of width {first.shape[0]}" if first is not None and first.ndim else ""
    return f"a {family}{of_width} and depths {depths}"


def folder_to_file(path: str | Path) -> Path:
    """Return the file that a reference means: itself, or the one in a folder of Monodepth2 or transformers."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in IN_FOLDERS:
        if (path / name).is_file():
            return path / name
    inside = ", ".join(sorted(entry.name for entry in path.iterdir())[:4]) or "nothing"
    parts = any(path.glob("*.index.json"))
    raise CheckpointError(
        f"{path}: expected a file, a Monodepth2 folder with encoder.pth, or one of transformers with "
        f"model.safetensors, found a folder of {inside}; "
        + ("save it in one part, with max_shard_size='50GB'" if parts else "give a file of weights")
    )
