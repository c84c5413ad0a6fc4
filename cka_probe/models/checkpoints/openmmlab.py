"""Rename the encoders of OpenMMLab (mmseg, mmdet, mmpretrain) and of code that builds on it (SegFormer)."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import move_stride_to_1x1, set_stages
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoints.naming import Rule, Tensors, renaming
from cka_probe.models.checkpoints.reading import Contents
from cka_probe.models.checkpoints.windows import join

MMCV_FFN: tuple[Rule, ...] = ((r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."), (r"\.ffn\.layers\.1\.", ".mlp.fc2."))
MMCV_PATCHES: Rule = (r"^patch_embed\.projection\.", "patch_embed.proj.")

mm_vit = renaming(
    MMCV_PATCHES,
    (r"^layers\.", "blocks."),
    (r"^(pre_norm)\.", "norm_pre."),
    (r"^ln1\.", "norm."),
    (r"\.ln([12])\.", r".norm\1."),
    (r"\.attn\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
    (r"\.attn\.gamma1\.weight$", ".ls1.gamma"),
    (r"\.ffn\.gamma2\.weight$", ".ls2.gamma"),
    *MMCV_FFN,
)

_swin_names = renaming(
    MMCV_PATCHES,
    (r"^stages\.(\d+)\.downsample\.", lambda match: f"layers.{int(match[1]) + 1}.downsample."),
    (r"^stages\.", "layers."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"^norm3\.", "norm."),
    *MMCV_FFN,
    drop=r"^norm[012]\.|relative_position_index$|relative_coords_table$|attn_mask$",
)


def mm_swin(tensors: Tensors) -> Tensors:
    """Rename a Swin of mmcv and permute what its patch mergings read: (C, 2, 2) to (2, 2, C), columns first."""
    renamed = _swin_names(tensors)
    for name in [name for name in renamed if name.endswith("downsample.reduction.weight")]:
        stem, inputs = name.removesuffix("reduction.weight"), renamed[name].shape[1]
        for key in (name, f"{stem}norm.weight", f"{stem}norm.bias"):
            if key in renamed and renamed[key].shape[-1] == inputs:  # Swin-v2 normalises after the reduction
                pixels = renamed[key].unflatten(-1, (inputs // 4, 4)).transpose(-2, -1)
                renamed[key] = pixels[..., [0, 2, 1, 3], :].flatten(-2).contiguous()
    return renamed


mm_deep_stem = renaming((r"^stem\.([01346])\.", r"conv1.\1."), (r"^stem\.7\.", "bn1."))


mm_convnext = renaming(  # to the names of its authors, which timm knows
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv([12])\.", r".pwconv\1."),
    (r"^norm3\.", "norm."),
    drop=r"^norm[012]\.",
)

NVLABS_MIT: tuple[Rule, ...] = (
    (r"^patch_embed(\d)\.norm\.", lambda match: f"stages.{int(match[1]) - 1}.patch_embeddings.layer_norm."),
    (r"^patch_embed(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.patch_embeddings."),
    (r"^block(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.blocks."),
    (r"^norm(\d)\.", lambda match: f"stages.{int(match[1]) - 1}.layer_norm."),
)
MMSEG_MIT: tuple[Rule, ...] = (
    (r"^layers\.(\d)\.0\.projection\.", r"stages.\1.patch_embeddings.proj."),
    (r"^layers\.(\d)\.0\.norm\.", r"stages.\1.patch_embeddings.layer_norm."),
    (r"^layers\.(\d)\.1\.", r"stages.\1.blocks."),
    (r"^layers\.(\d)\.2\.", r"stages.\1.layer_norm."),
    (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
    (r"\.ffn\.layers\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.dwconv.dwconv."),
    (r"\.ffn\.layers\.4\.", ".mlp.fc2."),
)
MIT_ANCHOR = "stages.0.patch_embeddings.proj.weight"
_mit_names = renaming(
    *NVLABS_MIT,
    *MMSEG_MIT,
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.norm\.", ".attention.sequence_reduction.layer_norm."),
    (r"\.attn\.sr\.", ".attention.sequence_reduction.sequence_reduction."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.q\.", ".attention.q_proj."),
    drop=r"^head\.",
)


def mit(tensors: Tensors) -> Tensors:
    """Rename a Mix Transformer in transformers' names: query, key and value are one tensor or two in others."""
    renamed: Tensors = {}
    for name, tensor in _mit_names(tensors).items():
        stem, _, end = name.rpartition(".")
        if name.endswith((".attn.attn.in_proj_weight", ".attn.attn.in_proj_bias")):
            front, kind = stem.removesuffix(".attn.attn"), end.removeprefix("in_proj_")
            parts = zip("qkv", tensor.chunk(3), strict=True)
        elif name.endswith((".attn.kv.weight", ".attn.kv.bias")):
            front, kind = stem.removesuffix(".attn.kv"), end
            parts = zip("kv", tensor.chunk(2), strict=True)
        else:
            is_linear = name.endswith((".fc1.weight", ".fc2.weight"))  # 1 x 1 convolutions in mmseg
            renamed[name] = tensor.flatten(1) if is_linear else tensor
            continue
        renamed |= {f"{front}.attention.{part}_proj.{kind}": piece for part, piece in parts}
    return renamed


def is_mit(tensors: Tensors) -> bool:
    """Return whether tensors in NVlabs' names are a Mix Transformer, and not the PVT v2 that has the same names."""
    width, inputs = tensors["block1.0.mlp.fc1.weight"].shape[:2]
    return width == 4 * inputs and "block1.0.mlp.dwconv.dwconv.weight" in tensors


def mit_config(tensors: Tensors) -> dict[str, Any]:
    """Return the configuration in transformers of a Mix Transformer by transformers' names.

    The heads of B0 to B5 are as wide as their first stage, 32 or 64 channels; no tensor shows their number.

    Raises:
        CheckpointError: Its stages are not 1, 2, 5 and 8 times as wide as the first.
    """
    widths = [tensors[f"stages.{stage}.layer_norm.weight"].shape[0] for stage in range(4)]
    heads = [width // widths[0] for width in widths]
    if heads != [1, 2, 5, 8] or widths[0] not in (32, 64):
        raise CheckpointError(
            f"expected a Mix Transformer B0 to B5, of widths 32, 64, 160, 256 or twice these, found {widths}, whose "
            "number of attention heads no tensor shows; give a folder of transformers, or package.module:function"
        )
    reductions = (
        tensors.get(f"stages.{stage}.blocks.0.attention.sequence_reduction.sequence_reduction.weight")
        for stage in range(4)
    )
    blocks = [
        {name.split(".")[3] for name in tensors if name.startswith(f"stages.{stage}.blocks.")} for stage in range(4)
    ]
    return {
        "model_type": "segformer",
        "hidden_sizes": widths,
        "depths": [len(numbers) for numbers in blocks],
        "num_attention_heads": heads,
        "sr_ratios": [1 if weight is None else weight.shape[-1] for weight in reductions],
        "mlp_ratios": [
            tensors[f"stages.{stage}.blocks.0.mlp.fc1.bias"].shape[0] // widths[stage] for stage in range(4)
        ],
    }


def set_norms_of_mmseg(model: nn.Module) -> None:
    """Give all layer norms of transformers' Mix Transformer the eps of mmseg's, 1e-6."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6


def set_norms_of_nvlabs(model: nn.Module) -> None:
    """Give the layer norms of blocks and stages the eps of NVlabs' code, 1e-6; those of embeddings keep 1e-5."""
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm) and not re.search(r"patch_embeddings|sequence_reduction", name):
            module.eps = 1e-6


LONGEST_SETTINGS = 1 << 20
"""The most characters of settings that are read."""

DILATED_NOTE = (
    "built with output stride 32; most segmentation networks of mmseg dilate their ResNet to 8, which no tensor shows"
)


def read_settings(values: Mapping[str, object]) -> dict[str, Any]:
    """Return the settings of a run from the text in `meta.cfg` (MMEngine) or `meta.config` (MMCV), {} without them.

    The text is Python. It is parsed and never run: only assignments of literals and of `dict(...)` are read.
    """
    text = values.get("meta.cfg", values.get("meta.config"))
    if not isinstance(text, str) or len(text) > LONGEST_SETTINGS:
        return {}
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    settings: dict[str, Any] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            with suppress(ValueError, TypeError, RecursionError):  # what is no literal is left out
                settings[statement.targets[0].id] = _literal(statement.value, settings)
    return settings


def _literal(node: ast.expr, settings: Mapping[str, Any]) -> Any:
    """Return the value of a literal in which dicts may be written as `dict(key=value)` and settings may be named.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(node, ast.Name) and node.id in settings:
        return settings[node.id]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {keyword.arg: _literal(keyword.value, settings) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        entries = zip(node.keys, node.values, strict=True)
        return {ast.literal_eval(key): _literal(value, settings) for key, value in entries if key is not None}
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(element, settings) for element in node.elts]
    return ast.literal_eval(node)


def apply_settings(backbone: Backbone, contents: Contents) -> None:
    """Give a backbone the normalisation and the dilation that a file of OpenMMLab records, and say so in its notes.

    Raises:
        CheckpointError: The settings convert images from RGB to BGR, so their order is not known.
    """
    settings = read_settings(contents.values)
    normalisation, stages = _set_normalisation(backbone, contents.path, settings), _set_stages(backbone, settings)
    if not stages and hasattr(backbone.model, "layer4") and any("decode_head" in name for name in contents.tensors):
        stages = (DILATED_NOTE,)
    replaced = ("input normalised as", "no preprocessor_config.json") if normalisation else ()
    others = tuple(note for note in backbone.origin.notes if not note.startswith(replaced))
    backbone.origin = replace(backbone.origin, notes=(*others, *normalisation, *stages))


def _set_normalisation(backbone: Backbone, path: Path, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Set the mean and standard deviation of the settings, and let a model of BGR images take RGB; return a note."""
    stated = _normalisations(settings)
    if len(stated) != 1:
        return ()
    mean, std, order = stated.pop()
    if order == "unknown":
        raise CheckpointError(
            f"{path}: expected settings whose images are converted from BGR to RGB or left in BGR, found rgb_to_bgr; "
            "give the module in Python, as Backbone(model, mean=..., std=...)"
        )
    if order == "BGR":
        convolutions = (module for module in backbone.model.modules() if isinstance(module, nn.Conv2d))
        stem = next(convolution for convolution in convolutions if convolution.in_channels == 3)
        with torch.no_grad():
            stem.weight.copy_(stem.weight.flip(1))
        mean, std = mean[::-1], std[::-1]
    mean, std = (tuple(value / 255 for value in values) for values in (mean, std))
    backbone.preprocessing = replace(backbone.preprocessing, mean=mean, std=std)
    return (f"input normalised as the settings in the file say, images taken as {order} there",)


def _normalisations(settings: Mapping[str, Any]) -> set[tuple[tuple[float, ...], tuple[float, ...], str]]:
    """Return every mean, standard deviation (of values in 0..255) and order of channels in settings.

    Those of the data preprocessor come before those of the data pipelines.
    """
    model = settings.get("model")
    entries = (part.get("data_preprocessor") for part in (model, settings) if isinstance(part, dict))
    preprocessors = [entry for entry in entries if isinstance(entry, dict)]
    stated = set()
    for entry in (*preprocessors, *_dicts(settings)):
        numbers: list[Any] = [entry.get(name) for name in ("mean", "std")]
        if not all(isinstance(n, list) and len(n) == 3 and all(isinstance(v, int | float) for v in n) for n in numbers):
            continue
        is_preprocessor = any(entry is preprocessor for preprocessor in preprocessors)
        is_step = entry.get("type") == "Normalize"  # of MMCV, which takes BGR to RGB unless told otherwise
        flips = entry.get("bgr_to_rgb", entry.get("to_rgb", is_step if is_step or is_preprocessor else None))
        if flips is None or min(numbers[1]) <= 0:
            continue
        order = "unknown" if entry.get("rgb_to_bgr") else "RGB" if flips else "BGR"
        stated.add((tuple(numbers[0]), tuple(numbers[1]), order))
        if is_preprocessor:
            break
    return stated


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every dict in nested dicts and lists."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dicts(item)


RESNETS = {"ResNet", "ResNetV1c", "ResNetV1d", "ResNeXt", "SEResNet", "SEResNeXt"}
"""Backbones of OpenMMLab whose stages are timm's."""


def _set_stages(backbone: Backbone, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Give a ResNet the strides and dilations of the settings; return a note."""
    model = settings.get("model")
    entry = model.get("backbone") if isinstance(model, dict) else None
    if not isinstance(entry, dict) or not hasattr(backbone.model, "layer4"):
        return ()
    stages: Any = [backbone.model.get_submodule(f"layer{stage}") for stage in (1, 2, 3, 4)]
    strides, dilations = _stages(entry, [len(stage) for stage in stages])
    if not strides:
        return ("the stages of the backbone in its settings are not understood: built with output stride 32",)
    options: dict[str, Any] = {}
    if strides != [1, 2, 2, 2] or {rate for stage in dilations for rate in stage} != {1}:
        options = {"strides": strides, "dilations": dilations}
        set_stages(backbone.model, strides, dilations)
    if entry.get("style") == "caffe":
        options["stride_in_1x1"] = True
        move_stride_to_1x1(backbone.model)
    if not options:
        return ()
    backbone.origin = replace(backbone.origin, options={**backbone.origin.options, **options})
    where = ", in the 1 x 1 convolutions" if "stride_in_1x1" in options else ""
    rates = ", ".join(str(stage[-1]) for stage in dilations)
    return (
        f"strides {join(tuple(strides))}{where} and dilations {rates} of its stages, as the settings in the file say",
    )


def _stages(entry: Mapping[str, Any], depths: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Return the strides of the stages of a ResNet and the dilations of all blocks; empty if they are not understood.

    Without `contract_dilation` the first block of a stage is dilated like the others.
    """
    strides, rates = entry.get("strides", [1, 2, 2, 2]), entry.get("dilations", [1, 1, 1, 1])
    grid = entry.get("multi_grid") or [1] * depths[-1]
    numbers = (strides, rates, grid)
    if entry.get("type", "ResNet") not in RESNETS or not all(isinstance(values, list) for values in numbers):
        return [], []
    if len(strides) != 4 or len(rates) != 4 or len(grid) < depths[-1]:
        return [], []
    if not all(isinstance(value, int) and 0 < value < 100 for values in numbers for value in values):
        return [], []
    dilations = [[rate] * depth for rate, depth in zip(rates, depths, strict=True)]
    for stage in dilations:
        if entry.get("contract_dilation") and stage[0] > 1:
            stage[0] //= 2
    if entry.get("multi_grid"):
        dilations[-1] = grid[: depths[-1]]
    return strides, dilations
