"""Foreign names of an encoder's tensors, turned into timm's.

Microsoft's Swin-v2 (and SimMIM, MIM-Depth, transformers) puts each patch merging at the end of a stage, timm
at the start of the next: `layers.1.downsample` exists in both and is a different layer in each. So the naming is
read off the one name that only the original can have, `layers.0.downsample.reduction.weight`, and never off the
head, which a file may lack. DINOv2 has one set of names, its own and timm's, and transformers another.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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


BUFFERS = ("relative_coords_table", "relative_position_index", "attn_mask")
STAGES = range(4)
SAME = (0, 0, 0, 0)


@dataclass(frozen=True)
class Grid:
    """Input size and windows of a Swin-v2, as its `build` takes them.

    Attributes:
        size: Input height and width, pixels.
        window: In tokens, before stages that are smaller shrink it.
        pretrained_windows: Per stage, that the bias's coordinates are divided by; zeros mean the own ones.
        notes: What was assumed.
    """

    size: int
    window: int
    pretrained_windows: tuple[int, ...] = SAME
    notes: tuple[str, ...] = ()

    @property
    def windows(self) -> tuple[int, ...]:
        """The window of each stage: no larger than the stage itself."""
        return tuple(min(self.window, self.size // (4 * 2**stage)) for stage in STAGES)


def grid_of(path: Path, buffers: Mapping[str, Tensor], values: Mapping[str, object], default: int) -> Grid:
    """Return the grid a file was trained with.

    Args:
        path: For messages.
        buffers: The window buffers, under timm's names.
        values: Plain values of the file and of a `config.json` beside it.
        default: Input size of the architecture, if the file says nothing.
    """
    windows = windows_in(path, buffers)
    told = _grid_told(values)
    if windows is None:
        assumed = f"no window buffers: window {default // 16} assumed for {default} px; --arch NAME@SIZE for another"
        return told or Grid(default, default // 16, notes=(assumed,))
    size = _size_in(buffers, windows)
    notes: tuple[str, ...] = ()
    if size is None:
        size = told.size if told else 32 * windows[3]
        if told is None and windows[3] == windows[0]:
            notes = (f"input of {size} px assumed from windows {_by(windows)}; --arch NAME@SIZE for another",)
    grid = Grid(size, windows[0], _pretrained_in(path, buffers, windows), notes)
    if grid.windows != windows:
        raise CheckpointError(
            f"{path}: expected windows {_by(grid.windows)} for {size} px, found {_by(windows)}; such a model cannot "
            "be built here"
        )
    return grid


def at_size(path: Path, grid: Grid, size: int) -> Grid:
    """Return the grid at another input size: windows grow with it, coordinates stay those of the training.

    Raises:
        CheckpointError: The windows would not tile the image.
    """
    if size == grid.size:
        return replace(grid, notes=())
    window, rest = divmod(size * grid.window, grid.size)
    if rest or size % 32 or not window:
        raise CheckpointError(
            f"{path}: expected an input size that is a multiple of {math.lcm(32, grid.size // grid.window)}, "
            f"found {size}; the window is {grid.window} of {grid.size} px"
        )
    pretrained = grid.pretrained_windows if any(grid.pretrained_windows) else grid.windows
    note = f"taken to {size} px with window {window}; position bias in the coordinates of windows {_by(pretrained)}"
    return Grid(size, window, pretrained, (note,))


def windows_in(path: Path, buffers: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    """Return the window of each stage from the shapes (w^2, w^2) of the index buffers, `None` without them."""
    found: dict[str, set[int]] = {}
    for name, tensor in buffers.items():
        if name.endswith("relative_position_index"):
            found.setdefault(name.split(".")[1], set()).add(math.isqrt(tensor.shape[0]))
    if not found:
        return None
    if set(found) != set(map(str, STAGES)) or any(len(stage) > 1 for stage in found.values()):
        raise CheckpointError(
            f"{path}: expected one window per stage, found {', '.join(f'{k}: {sorted(v)}' for k, v in found.items())} "
            "in relative_position_index; remove these buffers and give --arch NAME@SIZE"
        )
    return tuple(found[str(stage)].pop() for stage in STAGES)


def _size_in(buffers: Mapping[str, Tensor], windows: tuple[int, ...]) -> int | None:
    """Return the input size from a mask of shifted windows, (number of windows, w^2, w^2), if there is one."""
    for stage in STAGES:
        mask = buffers.get(f"layers.{stage}.blocks.1.attn_mask")
        if mask is not None and mask.ndim == 3:
            return int(4 * 2**stage * windows[stage] * math.isqrt(mask.shape[0]))
    return None


def _pretrained_in(path: Path, buffers: Mapping[str, Tensor], windows: tuple[int, ...]) -> tuple[int, ...]:
    """Return the windows of an earlier training from the coordinate tables, zeros where they are the same."""
    pretrained = []
    for stage in STAGES:
        table = buffers.get(f"layers.{stage}.blocks.0.attn.relative_coords_table")
        if table is None or windows[stage] < 2:
            pretrained.append(windows[stage])
            continue
        exact = 1 + 8 * (windows[stage] - 1) / (8 ** float(table.double().max()) - 1)
        if not math.isfinite(exact) or abs(exact - round(exact)) > 0.1:
            raise CheckpointError(
                f"{path}: expected relative_coords_table of Swin-v2, found values of no window in stage {stage} "
                f"({exact:.2f}); remove these buffers and give --arch NAME@SIZE"
            )
        pretrained.append(round(exact))
    return SAME if tuple(pretrained) == windows else tuple(pretrained)


def _grid_told(values: Mapping[str, object]) -> Grid | None:
    """Return what the settings of a run say: yacs of Swin and SimMIM, or config.json of transformers."""

    def ask(ending: str) -> object:
        return next((value for name, value in values.items() if name.endswith(ending)), None)

    if values.get("beside.model_type") == "swinv2":
        names = ("beside.image_size", "beside.window_size", "beside.pretrained_window_sizes")
    else:
        names = ("DATA.IMG_SIZE", "SWINV2.WINDOW_SIZE", "SWINV2.PRETRAINED_WINDOW_SIZES")
    size, window, earlier = map(ask, names)
    if not isinstance(size, int) or not isinstance(window, int) or size % 32 or min(size, window) < 1:
        return None
    earlier = earlier if isinstance(earlier, tuple) else SAME
    return Grid(size, window, tuple(map(int, earlier)) if len(earlier) == 4 else SAME)


def _by(windows: tuple[int, ...]) -> str:
    return ", ".join(map(str, windows))
