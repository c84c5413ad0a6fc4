"""Foreign names of an encoder's tensors, turned into timm's.

Microsoft's Swin-v2 (and SimMIM, MIM-Depth, transformers) puts each patch merging at the end of a stage, timm
at the start of the next: `layers.1.downsample` exists in both and is a different layer in each. So the naming is
read off the one name that only the original can have, `layers.0.downsample.reduction.weight`, and never off the
head, which a file may lack. DINOv2 has one set of names, its own and timm's, and transformers another.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cka_probe.errors import CheckpointError

ANCHORS = {
    "swinv2": ("patch_embed.proj.weight", "layers.0.blocks.0.attn.logit_scale"),
    "transformers": (
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layers.0.blocks.0.attention.self.logit_scale",
    ),
    "resnet": ("conv1.weight", "layer1.0.conv1.weight"),
    "dinov2": ("patch_embed.proj.weight", "blocks.0.ls1.gamma"),
    "transformers dinov2": (
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layer.0.layer_scale1.lambda1",
    ),
}
"""Names that an encoder has, by family; what stands in front of both is its prefix."""

LOW_PRIORITY_PREFIXES = {
    "pose_net",
    "pose_encoder",
    "encoder_k",
    "student",
    "state_dict_ema",
    "model_ema",
    "ema",
    "momentum",
}
"""Parts of a prefix whose encoder is taken only if there is no other."""

TRANSFORMERS = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^encoder\.layers\.", "layers."),
    (r"\.attention\.self\.(query|value)\.bias$", lambda match: f".attn.{match[1][0]}_bias"),
    (r"\.attention\.self\.continuous_position_bias_mlp\.", ".attn.cpb_mlp."),
    (r"\.attention\.self\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
TRANSFORMERS_DINOV2 = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.(cls|mask)_token$", r"\1_token"),
    (r"^embeddings\.register_tokens$", "register_tokens"),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
ORIGINAL = (
    (r"^layers\.(\d+)\.downsample\.", lambda match: f"layers.{int(match[1]) + 1}.downsample."),
    (r"\.attn\.rpe_mlp\.", ".attn.cpb_mlp."),
    (r"^norm3\.", "norm."),
)


@dataclass(frozen=True)
class Renamed:
    """An encoder's tensors under timm's names.

    Attributes:
        tensors: Without the prefix.
        changes: What was called otherwise in the file, "norm3 -> norm", with how many tensors.
    """

    tensors: dict[str, Tensor]
    changes: dict[str, int]


def find_prefixes(names: Iterable[str]) -> dict[str, str]:
    """Return the family of each encoder in a file by its prefix ("" or ending in a dot).

    >>> find_prefixes(["module.conv1.weight", "module.layer1.0.conv1.weight", "fc.bias"])
    {'module.': 'resnet'}
    """
    names = set(names)
    found = {}
    for family, (first, second) in ANCHORS.items():
        for name in names:
            prefix = name[: -len(first)]
            if name.endswith(first) and prefix[-1:] in ("", ".") and prefix + second in names:
                found[prefix] = family
    return dict(sorted(found.items()))


def choose_prefix(path: Path, found: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Return the prefix of the encoder that is meant, of several in one file.

    Raises:
        CheckpointError: There are several and no reason to prefer one, or the only one sees frame pairs.
    """

    def in_pairs(prefix: str) -> bool:
        conv = tensors.get(f"{prefix}conv1.weight")
        return conv is not None and conv.ndim == 4 and conv.shape[1] == 6

    sees_one = [prefix for prefix in found if not in_pairs(prefix)]
    if not sees_one:
        raise CheckpointError(
            f"{path}: expected an encoder of one image, found one whose conv1 takes 6 channels (a pose network); "
            "give the depth network's file (Monodepth2: encoder.pth)"
        )
    meant = [prefix for prefix in sees_one if not LOW_PRIORITY_PREFIXES & set(prefix.split("."))] or sees_one
    if len(meant) > 1:
        raise CheckpointError(
            f"{path}: expected one encoder, found {len(meant)}: {', '.join(repr(prefix) for prefix in meant)}; "
            "save the one you mean in a file of its own"
        )
    return meant[0]


def naming_of(family: str, names: Iterable[str]) -> str:
    """Return whose module names these are: `transformers`, `transformers dinov2`, `microsoft` or `timm`."""
    if family.startswith("transformers"):
        return family
    return "microsoft" if "layers.0.downsample.reduction.weight" in names else "timm"


def to_timm(path: Path, naming: str, tensors: dict[str, Tensor]) -> Renamed:
    """Rename an encoder's tensors.

    Args:
        path: For messages.
        naming: Of `naming_of`.
        tensors: Without the prefix.

    Raises:
        CheckpointError: Two tensors would get one name (both `norm` and `norm3`, both namings at once).
    """
    rules = {
        "timm": ORIGINAL[1:],
        "microsoft": ORIGINAL,
        "transformers": (*TRANSFORMERS, ORIGINAL[0]),
        "transformers dinov2": TRANSFORMERS_DINOV2,
    }[naming]
    if naming == "transformers":
        tensors = _with_fused_attention(tensors, "attention.self.")
    if naming == "transformers dinov2":
        tensors = _with_fused_attention(tensors, "attention.attention.")
        tensors = _with_fused_attention(tensors, "attention.", "_proj")
    renamed: dict[str, Tensor] = {}
    changes: dict[str, int] = {}
    for name, tensor in tensors.items():
        new = name
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            raise CheckpointError(
                f"{path}: expected one tensor for {new!r}, found two, of which {name!r} is one; save only the "
                "encoder you mean"
            )
        renamed[new] = tensor
        if new != name:
            change = "transformers' names -> timm's" if naming.startswith("transformers") else _what_changed(name, new)
            changes[change] = changes.get(change, 0) + 1
    return Renamed(renamed, changes)


def _with_fused_attention(tensors: dict[str, Tensor], front: str, end: str = "") -> dict[str, Tensor]:
    """Return the tensors with query, key and value, each (C, C) or (C,), stacked to `attn.qkv`, (3 C, C) or (3 C,).

    Biases are stacked where all three are there; Swin-v2 has none of the key.

    Args:
        tensors: By name.
        front: What stands before `query`, within a block.
        end: With "_proj", `q_proj` stands for `query`.
    """
    fused, words = dict(tensors), ("query", "key", "value")
    for name in tensors:
        for kind in ("weight", "bias"):
            parts = [front + (word[0] + end if end else word) + f".{kind}" for word in words]
            stem, found, rest = name.partition(parts[0])
            if found and not rest and all(stem + part in tensors for part in parts):
                fused[f"{stem}attn.qkv.{kind}"] = torch.cat([fused.pop(stem + part) for part in parts])
    return fused


def _what_changed(old: str, new: str) -> str:
    """Return the change of a name without what both ends share, numbers of blocks left out.

    >>> _what_changed("layers.0.blocks.1.attn.rpe_mlp.2.weight", "layers.0.blocks.1.attn.cpb_mlp.2.weight")
    'rpe_mlp -> cpb_mlp'
    """
    before, after = old.split("."), new.split(".")
    if "downsample" in before:
        return f"layers.{before[-4]}.downsample -> layers.{after[1]}.downsample"
    while before and after and before[0] == after[0]:
        before, after = before[1:], after[1:]
    while before and after and before[-1] == after[-1]:
        before, after = before[:-1], after[:-1]
    return f"{'.'.join(before)} -> {'.'.join(after)}"
