"""Rename the encoders of projects whose names timm's own filters do not know to timm's or torchvision's names.

Each `Naming` is recognised by names that only it has, so a file that no naming matches is left as it is. What the names
imply and the tensors do not say is kept with them: the normalisation, and what differs in the architecture.

- **mmseg, mmdet, mmpretrain**: patch merging reads the four pixels in the order of `nn.Unfold`, channels first, while
  Swin's own code and timm's read whole pixels, column by column. The weights are permuted accordingly.
- **detectron2**: weights from Caffe2 have batch norms without statistics (mean 0, variance 1 - 1e-5) and take BGR
  images in 0..255. The first convolution's input channels are reversed, so the encoder takes RGB.
- **JAX**: kernels have their inputs first, and attention heads have an axis of their own.
- **SegFormer**: timm has no Mix Transformer, so its tensors get transformers' names and configuration, and transformers
  builds it; its layer norms have another eps in mmseg and in NVlabs' code.
- **Depth Anything 3**: from some block on its DINOv2 has rotary positions, normed queries and keys, and a camera token
  for the class token. The blocks before are DINOv2's and are all that is built.
- **MoCo v3**: its ViT-S has 12 heads, timm's has 6; no tensor shows it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import move_stride_to_1x1
from cka_probe.models.backbone import NORMALISATIONS, Backbone
from cka_probe.models.checkpoints.encoders import choose_encoder
from cka_probe.models.checkpoints.jax import jax_vit
from cka_probe.models.checkpoints.naming import Tensors, renaming, under
from cka_probe.models.checkpoints.openmmlab import (
    MIT_ANCHOR,
    is_mit,
    mit,
    mit_config,
    mm_convnext,
    mm_deep_stem,
    mm_swin,
    mm_vit,
    set_norms_of_mmseg,
    set_norms_of_nvlabs,
)
from cka_probe.models.checkpoints.reading import Contents
from cka_probe.models.checkpoints.recognising import dropped_note, groups_outside
from cka_probe.models.default_layers import layers_or_default


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
        config: Returns the configuration in transformers of renamed tensors, for encoders that timm and torchvision
            lack.
        anchor: The name of a renamed tensor of such an encoder.
        outside: Pattern of a name that must be in the file, under the prefix or not.
        adapt: Changes the built model to what the project computes.
        options: Options of the architecture's `build` with the same effect, from which a checkpoint rebuilds it.
        prefixes: Where it was found in a file.
    """

    title: str
    names: tuple[str, ...]
    rename: Callable[[Tensors], Tensors]
    normalisation: str = "imagenet"
    note: str = ""
    matches: Callable[[Tensors], bool] = lambda tensors: True
    config: Callable[[Tensors], dict[str, Any]] | None = None
    anchor: str = ""
    outside: str = ""
    adapt: Callable[[nn.Module], None] = lambda model: None
    options: Mapping[str, Any] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()

    def find(self, tensors: Tensors) -> tuple[str, ...]:
        """Return what precedes the names in each encoder of the file, "" or ending in a dot."""
        first, others = self.names[0], self.names[1:]
        if not any(re.search(self.outside, name) for name in tensors):
            return ()
        prefixes = [name.removesuffix(first) for name in tensors if name.endswith(first)]
        return tuple(
            prefix
            for prefix in prefixes
            if prefix[-1:] in ("", ".")
            and all(prefix + name in tensors for name in others)
            and self.matches(under(prefix, tensors))
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user."""
        library = "timm's" if self.config is None else "transformers'"
        change = "" if self.rename is _same else f"names of {self.title} changed to {library}"
        return tuple(filter(None, (change, self.note)))

    def configure(self, contents: Contents) -> tuple[Contents, tuple[str, ...]]:
        """Return the contents of a file as they are, unless transformers builds its encoder.

        Then they are its one encoder alone with the configuration of it, and a note on what else is in the file.

        Raises:
            CheckpointError: There are several encoders.
        """
        if self.config is None:
            return contents, ()
        prefixes = [name.removesuffix(self.anchor) for name in contents.tensors if name.endswith(self.anchor)]
        if len(prefixes) != 1:
            raise CheckpointError(
                f"{contents.path}: expected one encoder, found {len(prefixes)}: {', '.join(map(repr, prefixes))}; "
                "choose one, as in FILE#NAME"
            )
        tensors = under(prefixes[0], contents.tensors)
        note = dropped_note(groups_outside(prefixes[0], contents.tensors))
        return replace(contents, tensors=tensors, config=self.config(tensors)), note

    def apply(self, backbone: Backbone) -> None:
        """Give a backbone with renamed weights the input and the computation of the project."""
        self.adapt(backbone.model)
        if backbone.layers is not None:
            backbone.layers = layers_or_default(backbone.layers, backbone.model)
        notes = backbone.origin.notes
        if self.normalisation:
            mean, std = NORMALISATIONS[self.normalisation]
            backbone.preprocessing = replace(backbone.preprocessing, mean=mean, std=std)
            notes = tuple(note for note in notes if not note.startswith("input normalised as"))
        options = {**backbone.origin.options, **self.options}
        backbone.origin = replace(backbone.origin, options=options, notes=(*self.notes, *notes))


def one_encoder(contents: Contents, name: str | None = None) -> tuple[Contents, Naming | None, tuple[str, ...]]:
    """Return a file's contents with one encoder in the names of a library, the naming it had, and notes.

    Args:
        contents: The contents of the file.
        name: Of the encoder, see `choose_encoder`.

    Raises:
        CheckpointError: As in `translate` and `choose_encoder`.
    """
    contents, naming = translate(contents)
    contents, notes = choose_encoder(contents, name)
    if naming is None or not any(key.startswith(naming.prefixes) for key in contents.tensors):
        return contents, None, notes  # none, or that of an encoder which was not chosen
    contents, dropped = naming.configure(contents)
    return contents, naming, (*notes, *dropped)


def translate(contents: Contents) -> tuple[Contents, Naming | None]:
    """Return a file's contents with timm's or torchvision's names for its encoders, and the naming that it had.

    Contents that no naming matches are returned as they are, with `None`.

    Raises:
        CheckpointError: The encoder is of a kind that timm and torchvision lack, or two tensors would get one name.
    """
    for naming in FOREIGN:
        tensors = dict(contents.tensors)
        for prefix in (prefixes := naming.find(tensors)):
            renamed = naming.rename(under(prefix, tensors))
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
            tensors |= {prefix + name: tensor for name, tensor in renamed.items()}
        if prefixes:
            return replace(contents, tensors=tensors), replace(naming, prefixes=prefixes)
    refuse_unsupported(contents)
    return contents, None


def refuse_unsupported(contents: Contents) -> None:
    """Raise `CheckpointError` for an encoder that has a common one's names and computes something else."""
    for name in contents.tensors:
        prefix = name.removesuffix("camera_token")
        if prefix != name and f"{prefix}blocks.0.ls1.gamma" in contents.tensors:
            starts = ", ".join(f"{start} of {depth}" for depth, start in PLAIN_BLOCKS.items())
            raise CheckpointError(
                f"{contents.path}: expected a Depth Anything 3, whose first blocks ({starts}) are DINOv2's, found "
                f"{name!r} with norms of queries from another block on; give a function of your code as "
                "package.module:function"
            )


EPS = 1e-5
"""Of batch norms."""

_detectron2_names = renaming(
    (r"^stem\.conv1\.norm\.", "bn1."),
    (r"^stem\.conv1\.", "conv1."),
    (r"^res(\d)\.", lambda match: f"layer{int(match[1]) - 1}."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.shortcut\.", ".downsample.0."),
)


_caffe2_names = renaming(
    (r"^res_conv1_bn_s$", "stem.conv1.norm.weight"),
    (r"^res_conv1_bn_b$", "stem.conv1.norm.bias"),
    (r"^conv1_w$", "stem.conv1.weight"),
    (r"^res(\d)_(\d+)_branch1", r"res\1.\2.shortcut"),
    (r"^res(\d)_(\d+)_branch2([abc])", lambda match: f"res{match[1]}.{match[2]}.conv{'abc'.index(match[3]) + 1}"),
    (r"_w$", ".weight"),
    (r"_bn_s$", ".norm.weight"),
    (r"_bn_b$", ".norm.bias"),
    drop=r"^conv1_b$|^fc1000_|^pred_|_momentum$",  # Detectron takes no bias for conv1
)


def _caffe2(tensors: Tensors) -> Tensors:
    """Rename a ResNet of Caffe2 in detectron2's names and let it take RGB."""
    renamed = _detectron2_names(tensors)
    return renamed | {"conv1.weight": renamed["conv1.weight"].flip(1)}


def _caffe2_affine(tensors: Tensors) -> Tensors:
    """Rename a ResNet of Caffe2 in its own names, and give its norms, which only scale and shift, their statistics."""
    renamed = _caffe2_names(tensors)
    for name, scale in list(renamed.items()):
        if name.endswith(".norm.weight"):
            front = name.removesuffix("weight")
            renamed |= {f"{front}running_mean": torch.zeros_like(scale)}
            renamed |= {f"{front}running_var": torch.full_like(scale, 1 - EPS)}
    return _caffe2(renamed)


def _has_groups(tensors: Tensors) -> bool:
    """Return whether a ResNet of Caffe2 is a ResNeXt, whose images are divided by a standard deviation too."""
    name = next(name for name in ("res2.0.conv2.weight", "res2_0_branch2b_w") if name in tensors)
    return tensors[name].shape[0] != tensors[name].shape[1]


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


PLAIN_BLOCKS = {12: 4, 24: 8, 40: 13}
"""Blocks of Depth Anything 3 that are DINOv2's, by the number of all: S and B, L, and G."""


def _depth_anything_3(depth: int) -> Naming:
    """Return the naming of a Depth Anything 3 of so many blocks."""
    plain = PLAIN_BLOCKS[depth]

    def matches(tensors: Tensors) -> bool:
        blocks = {int(match[1]) for name in tensors if (match := re.match(r"blocks\.(\d+)\.", name))}
        normed = {block for block in blocks if f"blocks.{block}.attn.q_norm.weight" in tensors}
        return blocks == set(range(depth)) and normed == set(range(plain, depth))

    def adapt(model: Any) -> None:
        del model.blocks[plain:]
        model.norm = nn.Identity()

    return Naming(
        "Depth Anything 3",
        ("camera_token", "blocks.0.ls1.gamma"),
        renaming(drop=r"^camera_token$|\.attn\.[qk]_norm\."),
        note=f"Depth Anything 3: the first {plain} of {depth} blocks, which are DINOv2's; those that follow, with "
        "rotary positions, camera tokens and attention between views, are not built",
        matches=matches,
        adapt=adapt,
        options={"depth": plain, "final_norm": False},
    )


def _dilate_mobilenet(model: nn.Module) -> None:
    """Dilate the last three blocks of a MobileNet-v3 instead of striding, as torchvision's segmentation does."""
    features: Any = model.get_submodule("features")
    for block in features[13:16]:
        conv = block.block[1][0]
        conv.stride, conv.dilation, conv.padding = (1, 1), (2, 2), (4, 4)


def _same(tensors: Tensors) -> Tensors:
    """Return tensors as they are: only the input or the architecture differs."""
    return dict(tensors)


FOREIGN: tuple[Naming, ...] = (
    Naming("mmcv Swin", ("stages.0.blocks.0.attn.w_msa.qkv.weight",), mm_swin),
    Naming("mmcv ViT", ("layers.0.ln1.weight", "patch_embed.projection.weight"), mm_vit, normalisation=""),
    Naming(
        "mmpretrain ConvNeXt",
        ("stages.0.0.depthwise_conv.weight", "downsample_layers.0.0.weight"),
        mm_convnext,
    ),
    Naming(
        "mmseg Mix Transformer (SegFormer)",
        ("layers.0.0.projection.weight", "layers.0.1.0.attn.attn.in_proj_weight", "layers.0.1.0.ffn.layers.4.weight"),
        mit,
        normalisation="",
        adapt=set_norms_of_mmseg,
        config=mit_config,
        anchor=MIT_ANCHOR,
    ),
    Naming(
        "NVlabs Mix Transformer (SegFormer)",
        ("patch_embed1.proj.weight", "block1.0.attn.kv.weight", "block1.0.mlp.fc1.weight"),
        mit,
        normalisation="",
        matches=is_mit,
        adapt=set_norms_of_nvlabs,
        config=mit_config,
        anchor=MIT_ANCHOR,
    ),
    Naming(
        "mmcv ResNet with a deep stem",
        ("stem.7.weight", "layer1.0.conv1.weight"),
        mm_deep_stem,
    ),
    *(
        Naming(
            f"{title} {encoder} of Caffe2",
            names,
            rename,
            normalisation="caffe2" if encoder == "ResNet" else "caffe2_resnext",
            note=f"batch norms without statistics, as in Caffe2: images taken as BGR in 0..255 minus their mean{scale}",
            matches=matches,
            adapt=move_stride_to_1x1,
            options={"stride_in_1x1": True} if encoder == "ResNet" else {},
        )
        for title, names, rename in (
            ("detectron2", ("res2.0.conv1.norm.weight", "stem.conv1.weight"), _caffe2),
            ("Detectron", ("conv1_w", "res_conv1_bn_s", "res2_0_branch2a_bn_s"), _caffe2_affine),
        )
        for encoder, scale, matches in (
            ("ResNet", "", lambda tensors: _without_statistics(tensors) and not _has_groups(tensors)),
            ("ResNeXt", ", divided by their deviation", lambda tensors: _without_statistics(tensors)),
        )
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
        jax_vit,
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
        "torchvision's segmentation with MobileNet-v3",
        ("0.0.weight", "1.block.0.0.weight", "16.0.weight"),
        renaming((r"^", "features.")),
        outside=r"classifier\.(cbr\.0|0\.convs\.0\.0)\.weight$",
        note="segmentation of torchvision: built with output stride 16, as it was",
        adapt=_dilate_mobilenet,
    ),
    *map(_depth_anything_3, PLAIN_BLOCKS),
    Naming(
        "MiDaS with a ResNeXt",
        ("layer1.0.weight", "layer1.4.0.conv1.weight", "layer4.0.conv1.weight"),
        renaming((r"^layer1\.0\.", "conv1."), (r"^layer1\.1\.", "bn1."), (r"^layer1\.4\.", "layer1.")),
        outside=r"(^|\.)scratch\.",
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
