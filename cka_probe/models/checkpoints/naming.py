"""Find encoders in a file by the names of their tensors, and rename these to timm's names.

Microsoft's Swin-v2 (and SimMIM, MIM-Depth and transformers) has each patch merging at the end of a stage, timm at the
start of the next: `layers.1.downsample` exists in both and is a different layer in each. So the naming is recognised by
a name that only Microsoft's can have, `layers.0.downsample.reduction.weight`, and never by the head, which a file may
lack. DINOv2 has the same names in its own files and in timm, and others in transformers.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from cka_probe.errors import CheckpointError

Tensors = dict[str, Tensor]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern in the name of a tensor, and what replaces it."""

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
"""By family, two names that its encoders have; what precedes both is the encoder's prefix."""

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
TRANSFORMERS_VIT = (
    *TRANSFORMERS_DINOV2,
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
)
ORIGINAL = (
    (r"^layers\.(\d+)\.downsample\.", lambda match: f"layers.{int(match[1]) + 1}.downsample."),
    (r"\.attn\.rpe_mlp\.", ".attn.cpb_mlp."),
    (r"^norm3\.", "norm."),
)


def find_prefixes(names: Iterable[str]) -> dict[str, str]:
    """Return the prefix of each encoder in a file ("" or ending in a dot), with its family.

    >>> find_prefixes(["module.conv1.weight", "module.layer1.0.conv1.weight", "fc.bias"])
    {'module.': 'resnet'}
    """
    names = set(names)
    families = {}
    for family, (first, second) in ANCHORS.items():
        for name in names:
            prefix = name[: -len(first)]
            if name.endswith(first) and prefix[-1:] in ("", ".") and prefix + second in names:
                families[prefix] = family
    return dict(sorted(families.items()))


def choose_prefix(path: Path, prefixes: Iterable[str], tensors: dict[str, Tensor]) -> str:
    """Return the prefix of the encoder to load from a file that may have several.

    Raises:
        CheckpointError: There are several, or the only one takes pairs of frames.
    """

    def takes_pairs(prefix: str) -> bool:
        conv = tensors.get(f"{prefix}conv1.weight")
        return conv is not None and conv.ndim == 4 and conv.shape[1] == 6

    single = [prefix for prefix in prefixes if not takes_pairs(prefix)]
    if not single:
        raise CheckpointError(
            f"{path}: expected an encoder of one image, found one whose conv1 takes 6 channels (a pose network); "
            "give the depth network's file (Monodepth2: encoder.pth)"
        )
    if len(single) > 1:
        names = [prefix.removesuffix(".") or "." for prefix in single]
        raise CheckpointError(
            f"{path}: expected one encoder, found {len(names)}: {', '.join(names)}; choose one with FILE#{names[-1]} "
            f"or --encoder {names[-1]}"
        )
    return single[0]


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors under a prefix, by their names without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def renaming(*rules: Rule, drop: str = r"(?!)") -> Callable[[Tensors], Tensors]:
    """Return a renaming that applies every rule in order and drops names that match a pattern.

    >>> renaming((r"^ln(\\d)", r"norm\\1"), drop="queue")({"ln1.weight": torch.ones(2), "queue": torch.ones(2)})
    {'norm1.weight': tensor([1., 1.])}
    """

    def rename(tensors: Tensors) -> Tensors:
        renamed: Tensors = {}
        for old, tensor in tensors.items():
            name = old
            if re.search(drop, name):
                continue
            for pattern, replacement in rules:
                name = re.sub(pattern, replacement, name)
            if name in renamed:
                raise CheckpointError(f"expected one tensor for {name!r}, found two, one of them {old!r}")
            renamed[name] = tensor
        return renamed

    return rename


def naming_of(family: str, names: Iterable[str]) -> str:
    """Return which names these are: `transformers`, `transformers dinov2`, `microsoft` or `timm`."""
    if family.startswith("transformers"):
        return family
    return "microsoft" if "layers.0.downsample.reduction.weight" in names else "timm"


def to_timm(path: Path, naming: str, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return an encoder's tensors by timm's names.

    Args:
        path: The file, for messages.
        naming: From `naming_of`, or "transformers vit".
        tensors: By their names in the file, without the prefix.

    Returns:
        The tensors, and the changes of names ("norm3 -> norm") with the number of tensors that each concerns.

    Raises:
        CheckpointError: Two tensors would get one name (both `norm` and `norm3`, both namings at once).
    """
    rules = {
        "timm": ORIGINAL[1:],
        "microsoft": ORIGINAL,
        "transformers": (*TRANSFORMERS, ORIGINAL[0]),
        "transformers dinov2": TRANSFORMERS_DINOV2,
        "transformers vit": TRANSFORMERS_VIT,
    }[naming]
    if naming == "transformers":
        tensors = _with_fused_attention(tensors, "attention.self.")
    if naming in ("transformers dinov2", "transformers vit"):
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
                f"{path}: expected one tensor for {new!r}, found two, one of them {name!r}; save a single encoder"
            )
        renamed[new] = tensor
        if new != name:
            change = "transformers' names -> timm's" if naming.startswith("transformers") else _change(name, new)
            changes[change] = changes.get(change, 0) + 1
    return renamed, changes


def _with_fused_attention(tensors: dict[str, Tensor], front: str, end: str = "") -> dict[str, Tensor]:
    """Return the tensors with query, key and value, each (C, C) or (C,), stacked to `attn.qkv`, (3 C, C) or (3 C,).

    Biases are stacked only if there are three; Swin-v2 has none for the key.

    Args:
        tensors: By name.
        front: What precedes `query` within a block.
        end: "_proj" if `query` is called `q_proj`.
    """
    fused, words = dict(tensors), ("query", "key", "value")
    for name in tensors:
        for kind in ("weight", "bias"):
            parts = [front + (word[0] + end if end else word) + f".{kind}" for word in words]
            stem = name.removesuffix(parts[0])
            if stem != name and all(stem + part in tensors for part in parts):
                fused[f"{stem}attn.qkv.{kind}"] = torch.cat([fused.pop(stem + part) for part in parts])
    return fused


def _change(old: str, new: str) -> str:
    """Return the change of a name, without the parts that both ends share.

    >>> _change("layers.0.blocks.1.attn.rpe_mlp.2.weight", "layers.0.blocks.1.attn.cpb_mlp.2.weight")
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
