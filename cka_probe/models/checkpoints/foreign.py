"""Rename the encoders of projects whose names timm's own filters do not know to timm's or torchvision's names.

Each `Naming` is recognised by names that only it has, so a file that no naming matches is left as it is. What the names
imply and the tensors do not say is kept with them: the normalisation, and what differs in the architecture.

- **mmseg, mmdet, mmpretrain**: patch merging reads the four pixels in the order of `nn.Unfold`, channels first, while
  Swin's own code and timm's read whole pixels, column by column. The weights are permuted accordingly.
- **detectron2**: weights from Caffe2 have batch norms without statistics (mean 0, variance 1 - 1e-5) and take BGR
  images in 0..255. The first convolution's input channels are reversed, so the encoder takes RGB.
- **JAX**: kernels have their inputs first, and attention heads have an axis of their own.
- **MoCo v3**: its ViT-S has 12 heads, timm's has 6; no tensor shows it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import move_stride_to_1x1
from cka_probe.models.backbone import NORMALISATIONS, Backbone
from cka_probe.models.checkpoints.reading import Contents

Tensors = dict[str, Tensor]
Rule = tuple[str, str | Callable[[re.Match[str]], str]]


@dataclass(frozen=True)
class Naming:
    """Names of a project for an encoder that timm or torchvision has too.

    Attributes:
        title: Project and encoder, for people.
        names: Names that only such encoders have; what precedes the first in the file is the encoder's prefix, and all
            others are in the file under that prefix.
        rename: Turns tensors, by their names without the prefix, into timm's or torchvision's.
        normalisation: Of the project's images, a name in `NORMALISATIONS`; "" if the names do not say it.
        note: Remark for the user.
        matches: A further condition on the tensors under the prefix.
        outside: Pattern of a name that must be in the file, under the prefix or not.
        adapt: Changes the built model to what the project computes.
        options: Options of the architecture's `build` with the same effect, from which a checkpoint rebuilds it.
    """

    title: str
    names: tuple[str, ...]
    rename: Callable[[Tensors], Tensors]
    normalisation: str = "imagenet"
    note: str = ""
    matches: Callable[[Tensors], bool] = lambda tensors: True
    outside: str = ""
    adapt: Callable[[nn.Module], None] = lambda model: None
    options: Mapping[str, Any] = field(default_factory=dict)

    def prefixes(self, tensors: Tensors) -> list[str]:
        """Return what precedes the names in each encoder of the file, "" or ending in a dot."""
        first, others = self.names[0], self.names[1:]
        if not any(re.search(self.outside, name) for name in tensors):
            return []
        prefixes = [name.removesuffix(first) for name in tensors if name.endswith(first)]
        return [
            prefix
            for prefix in prefixes
            if prefix[-1:] in ("", ".")
            and all(prefix + name in tensors for name in others)
            and self.matches(_under(prefix, tensors))
        ]

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user."""
        renaming = () if self.rename is _same else (f"names of {self.title} changed to timm's",)
        return (*renaming, *([self.note] if self.note else []))

    def apply(self, backbone: Backbone) -> None:
        """Give a backbone with renamed weights the input and the computation of the project."""
        self.adapt(backbone.model)
        notes = backbone.origin.notes
        if self.normalisation:
            mean, std = NORMALISATIONS[self.normalisation]
            backbone.preprocessing = replace(backbone.preprocessing, mean=mean, std=std)
            notes = tuple(note for note in notes if not note.startswith("input normalised as"))
        options = {**backbone.origin.options, **self.options}
        backbone.origin = replace(backbone.origin, options=options, notes=(*self.notes, *notes))


def translate(contents: Contents) -> tuple[Contents, Naming | None]:
    """Return a file's contents with timm's or torchvision's names for its encoders, and the naming that it had.

    Contents that no naming matches are returned as they are, with `None`.

    Raises:
        CheckpointError: The encoder is of a kind that timm and torchvision lack, or two tensors would get one name.
    """
    refuse_unsupported(contents)
    for naming in FOREIGN:
        tensors = dict(contents.tensors)
        for prefix in (prefixes := naming.prefixes(tensors)):
            encoder = _under(prefix, tensors)
            renamed = naming.rename(encoder)
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
            tensors |= {prefix + name: tensor for name, tensor in renamed.items()}
        if prefixes:
            return replace(contents, tensors=tensors), naming
    return contents, None


def refuse_unsupported(contents: Contents) -> None:
    """Raise `CheckpointError` for an encoder that has a common one's names and computes something else."""
    for name in contents.tensors:
        parts = name.split(".")
        if parts[-1] == "camera_token":
            raise CheckpointError(
                f"{contents.path}: expected an encoder of single images, found {name!r}: the DINOv2 of Depth Anything "
                "3 with rotary positions and camera tokens, which no library here has; give a monocular one, or a "
                "function of your code as package.module:function"
            )


def _under(prefix: str, tensors: Tensors) -> Tensors:
    """Return the tensors under a prefix, by their names without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _rules(*rules: Rule, drop: str = r"(?!)") -> Callable[[Tensors], Tensors]:
    """Return a renaming that applies every rule in order and drops names that match a pattern.

    >>> _rules((r"^ln(\\d)", r"norm\\1"), drop="queue")({"ln1.weight": torch.ones(2), "queue": torch.ones(2)})
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


MMCV_FFN: tuple[Rule, ...] = ((r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."), (r"\.ffn\.layers\.1\.", ".mlp.fc2."))
MMCV_PATCHES: Rule = (r"^patch_embed\.projection\.", "patch_embed.proj.")

_mm_vit = _rules(
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

_mm_swin_names = _rules(
    MMCV_PATCHES,
    (r"^stages\.(\d+)\.downsample\.", lambda match: f"layers.{int(match[1]) + 1}.downsample."),
    (r"^stages\.", "layers."),
    (r"\.attn\.w_msa\.", ".attn."),
    (r"^norm3\.", "norm."),
    *MMCV_FFN,
    drop=r"^norm[012]\.|relative_position_index$|relative_coords_table$|attn_mask$",
)


def _mm_swin(tensors: Tensors) -> Tensors:
    """Rename a Swin of mmcv and permute what its patch mergings read: (C, 2, 2) to (2, 2, C), columns first."""
    renamed = _mm_swin_names(tensors)
    for name in [name for name in renamed if name.endswith("downsample.reduction.weight")]:
        stem, inputs = name.removesuffix("reduction.weight"), renamed[name].shape[1]
        for key in (name, f"{stem}norm.weight", f"{stem}norm.bias"):
            if key in renamed and renamed[key].shape[-1] == inputs:  # Swin-v2 normalises after the reduction
                pixels = renamed[key].unflatten(-1, (inputs // 4, 4)).transpose(-2, -1)
                renamed[key] = pixels[..., [0, 2, 1, 3], :].flatten(-2).contiguous()
    return renamed


_mm_deep_stem = _rules((r"^stem\.([01346])\.", r"conv1.\1."), (r"^stem\.7\.", "bn1."))

_detectron2_names = _rules(
    (r"^stem\.conv1\.norm\.", "bn1."),
    (r"^stem\.conv1\.", "conv1."),
    (r"^res(\d)\.", lambda match: f"layer{int(match[1]) - 1}."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
)


def _caffe2(tensors: Tensors) -> Tensors:
    """Rename a ResNet of Caffe2 in detectron2's names and let it take RGB."""
    renamed = _detectron2_names(tensors)
    return renamed | {"conv1.weight": renamed["conv1.weight"].flip(1)}


def _without_statistics(tensors: Tensors) -> bool:
    """Return whether all batch norms of a detectron2 ResNet have mean 0, as those converted from Caffe2."""
    means = [tensor for name, tensor in tensors.items() if name.endswith(".norm.running_mean")]
    return not any(bool(mean.any()) for mean in means)


def _twelve_heads(model: nn.Module) -> None:
    """Give the attention of a ViT-S the 12 heads of MoCo v3."""
    module: Any
    for module in model.modules():
        if hasattr(module, "qkv"):
            module.num_heads, module.head_dim = 12, 32
            module.scale = 32**-0.5


def _jax(tensors: Tensors) -> Tensors:
    """Rename a ViT of Flax and put its kernels' outputs first."""
    fronts = sorted({name.rpartition("encoderblock_")[0] for name in tensors if "encoderblock_" in name})
    blocks = {int(match[1]) for name in tensors if (match := re.search(r"encoderblock_(\d+)\.", name))}
    renamed: Tensors = {"cls_token": tensors["cls"]} if "cls" in tensors else {}
    positions = tensors.get("Transformer.posembed_input.pos_embedding", tensors.get("pos_embedding"))
    if positions is not None:
        renamed["pos_embed"] = positions
    renamed["patch_embed.proj.weight"] = tensors["embedding.kernel"].permute(3, 2, 0, 1)
    renamed["patch_embed.proj.bias"] = tensors["embedding.bias"]
    renamed |= _jax_layer("norm", tensors, f"{fronts[0]}encoder_norm")
    for block in blocks:
        renamed |= _jax_block(f"blocks.{block}", _under(f"{fronts[0]}encoderblock_{block}.", tensors))
    if "head.kernel" in tensors:
        renamed |= _jax_layer("head", tensors, "head")
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def _jax_block(name: str, tensors: Tensors) -> Tensors:
    """Return a block of a ViT; its modules are numbered differently in vision_transformer and big_vision."""
    groups = sorted({key.split(".")[0] for key in tensors})
    norms = [group for group in groups if group.startswith("LayerNorm")]
    attention, mlp = (next(g for g in groups if g.startswith(kind)) for kind in ("MultiHead", "MlpBlock"))
    kernels = [tensors[f"{attention}.{part}.kernel"] for part in ("query", "key", "value")]
    biases = [tensors[f"{attention}.{part}.bias"] for part in ("query", "key", "value")]
    renamed = {
        f"{name}.attn.qkv.weight": torch.cat([kernel.flatten(1).T for kernel in kernels]),
        f"{name}.attn.qkv.bias": torch.cat([bias.flatten() for bias in biases]),
        f"{name}.attn.proj.weight": tensors[f"{attention}.out.kernel"].flatten(0, 1).T,
        f"{name}.attn.proj.bias": tensors[f"{attention}.out.bias"],
    }
    for index, norm in enumerate(norms, start=1):
        renamed |= _jax_layer(f"{name}.norm{index}", tensors, norm)
    for index in (1, 2):
        renamed |= _jax_layer(f"{name}.mlp.fc{index}", tensors, f"{mlp}.Dense_{index - 1}")
    return renamed


def _jax_layer(name: str, tensors: Tensors, front: str) -> Tensors:
    """Return weight and bias of a norm or a linear layer of Flax."""
    kernel = tensors.get(f"{front}.kernel")
    weight = tensors[f"{front}.scale"] if kernel is None else kernel.T
    return {f"{name}.weight": weight, f"{name}.bias": tensors[f"{front}.bias"]}


def _same(tensors: Tensors) -> Tensors:
    """Return tensors as they are: only the input or the architecture differs."""
    return dict(tensors)


FOREIGN: tuple[Naming, ...] = (
    Naming("mmcv Swin", ("stages.0.blocks.0.attn.w_msa.qkv.weight",), _mm_swin),
    Naming("mmcv ViT", ("layers.0.ln1.weight", "patch_embed.projection.weight"), _mm_vit, normalisation=""),
    Naming(
        "mmcv ResNet with a deep stem",
        ("stem.7.weight", "layer1.0.conv1.weight"),
        _mm_deep_stem,
        note="built with output stride 32; mmseg's FCN, PSPNet and DeepLab dilate it to 8, which no tensor shows",
    ),
    Naming(
        "detectron2 ResNet of Caffe2",
        ("res2.0.conv1.norm.weight", "stem.conv1.weight"),
        _caffe2,
        normalisation="caffe2",
        note="batch norms without statistics, as converted from Caffe2: images taken as BGR in 0..255 minus their mean",
        matches=_without_statistics,
        adapt=move_stride_to_1x1,
        options={"stride_in_1x1": True},
    ),
    Naming(
        "detectron2 ResNet",
        ("res2.0.conv1.norm.weight", "stem.conv1.weight"),
        _detectron2_names,
        note="detectron2 does not save its input: images taken as RGB with ImageNet's mean and std",
    ),
    Naming(
        "ViT of JAX",
        ("Transformer.encoder_norm.scale", "embedding.kernel"),
        _jax,
        normalisation="half",
    ),
    Naming(
        "MoCo v3",
        ("base_encoder.patch_embed.proj.weight", "base_encoder.blocks.0.norm1.weight"),
        _same,
        matches=lambda tensors: tensors["base_encoder.patch_embed.proj.weight"].shape[0] == 384,
        note="MoCo v3: ViT-S with 12 heads",
        adapt=_twelve_heads,
    ),
    Naming(
        "DPT of MiDaS",
        ("pretrained.model.patch_embed.proj.weight",),
        _same,
        normalisation="half",
        outside=r"^(state_dict\.|model\.)?scratch\.",
    ),
)
"""The first that matches is the naming of a file."""
