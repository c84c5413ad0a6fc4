"""The encoders known by name: Swin-v2, ResNet, DINOv2 and ViT, built as timm builds them, each with its default layers.

**Swin-v2** (Liu et al. 2022). The default layers are the nine of MeSa's Table 4, whose names are the paper's.

**ResNet** (He et al. 2016). The names of the weights are torchvision's.

**DINOv2** (Oquab et al. 2023), the vision transformer that Depth Anything starts from. Its stride is 14 pixels in every
block, so its only feature map is that of the last norm, without the class token. Positions are learnt at 518 pixels,
37 x 37 tokens. For any other size, square or not, timm resamples their grid in each forward pass (bicubic, with
antialiasing; DINOv2 and transformers do so without antialiasing, so that all agree exactly at 518 pixels and nearly
elsewhere): the weights are the same at any size.

**ViT** (Dosovitskiy et al. 2021), with patches of 16 pixels: that of MAE, of DPT (MiDaS) and of timm's classifiers. Its
positions were learnt at `trained_size`, which a file shows (224 pixels, 384 for DPT), and are resampled as DINOv2's.

`swinv2_micro`, `dinov2_micro` and `vit_micro` are small models for trials; nobody published them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import timm
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from cka_probe.errors import RecipeError
from cka_probe.models.default_layers import paper_layers, resnet_layers, stage_blocks, vit_layers
from cka_probe.models.layers import LayerMap


@dataclass(frozen=True)
class Architecture:
    """A named encoder without its head.

    Attributes:
        name: As in `random:NAME`, recipes and checkpoints.
        size: Default height and width of the input in pixels.
        channels: Channels of the last feature map.
        build: `build(size=..., **options)` returns the encoder, initialised from torch's random generator.
        layers: The default layers.
        any_shape: Whether the encoder takes images of any height and width.
        dilates: Whether it can be dilated (`output_stride`).
        token: Both sides of the input must be multiples of this many pixels.
    """

    name: str
    size: int
    channels: int
    build: Callable[..., nn.Module]
    layers: LayerMap
    any_shape: bool = False
    dilates: bool = False
    token: int = 1


def build_swinv2(
    *,
    embed_dim: int,
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    size: int,
    window: int | None = None,
    pretrained_windows: tuple[int, ...] = (0, 0, 0, 0),
    norm_eps: float = 1e-5,
    shift_all: bool = False,
) -> SwinTransformerV2:
    """Return a headless Swin-v2.

    Args:
        embed_dim: Channels after the patch embedding; doubled at each of the three mergings.
        depths: Blocks per stage.
        heads: Attention heads per stage.
        size: Input height and width, pixels.
        window: Window in tokens; by default `size // 16`, the papers' ratio (192 px: 12, 256: 16, 480: 30).
        pretrained_windows: Windows per stage that the weights were trained with, where they differ from `window`:
            the coordinates of the continuous position bias are divided by them. Zeros: the same.
        norm_eps: Epsilon of the layer norms; 1e-6 in MIM-Depth.
        shift_all: Shift the windows of every second block in all stages, as MIM-Depth does unless `use_shift` says
            otherwise. A window as large as its stage, which is not shifted else, becomes four quadrants.
    """
    model = SwinTransformerV2(
        img_size=size,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=heads,
        window_size=window or size // 16,
        pretrained_window_sizes=tuple(pretrained_windows),
        num_classes=0,
        drop_path_rate=0.0,
        norm_layer=partial(nn.LayerNorm, eps=norm_eps),  # type: ignore[arg-type]  # timm only calls it
    )
    blocks = [module for module in model.modules() if isinstance(module, SwinTransformerV2Block)]
    for block in blocks if shift_all else ():
        if any(block.target_shift_size):  # every second one
            height, width = block.window_size
            block.shift_size = height // 2, width // 2
            block.register_buffer("attn_mask", block.get_attn_mask(), persistent=False)
    return model


def _swinv2(name: str, embed_dim: int, depth: int, heads: tuple[int, ...], size: int = 192) -> Architecture:
    build = partial(build_swinv2, embed_dim=embed_dim, depths=(2, 2, depth, 2), heads=heads)
    return Architecture(name, size, 8 * embed_dim, build, paper_layers(depth, first_merge=1, last_norm="norm"))


def _shifted(architecture: Architecture) -> Architecture:
    """Return a Swin-v2 with shifted windows in all stages."""
    build = partial(architecture.build, shift_all=True)
    return replace(architecture, name=f"{architecture.name}_shifted", build=build)


SWINV2 = {
    architecture.name: architecture
    for architecture in (
        _swinv2("swinv2_micro", 32, 18, (1, 2, 4, 8), size=64),
        _swinv2("swinv2_tiny", 96, 6, (3, 6, 12, 24)),
        _swinv2("swinv2_small", 96, 18, (3, 6, 12, 24)),
        _swinv2("swinv2_base", 128, 18, (4, 8, 16, 32)),
        _swinv2("swinv2_large", 192, 18, (6, 12, 24, 48)),
    )
}
SHIFTED = {shifted.name: shifted for shifted in map(_shifted, SWINV2.values())}
"""The same with shifted windows in all stages, which a file of MIM-Depth does not record."""


def build_resnet(
    *,
    name: str,
    size: int,
    output_stride: int = 32,
    stride_in_1x1: bool = False,
    strides: Sequence[int] = (),
    dilations: Sequence[Sequence[int]] = (),
) -> nn.Module:
    """Return a headless ResNet; `size` is accepted for symmetry and does not change it.

    With an `output_stride` of 16 or 8 the last stages are dilated instead of strided, as in DeepLab; the weights are
    the same.

    `strides` per stage and `dilations` per block of each stage are those of other projects, see `set_stages`.

    With `stride_in_1x1` a bottleneck is strided in its first convolution, as Caffe2's and detectron2's ResNet-50 are.

    The last batch norm of each block starts at 1 as in torchvision, not at 0 as by timm's default: with 0 each block
    of a random network is nearly the identity, and every CKA between blocks is trivially 1.
    """
    del size
    model = timm.create_model(name, pretrained=False, num_classes=0, zero_init_last=False, output_stride=output_stride)
    if strides:
        set_stages(model, strides, dilations)
    if stride_in_1x1:
        move_stride_to_1x1(model)
    return model


def move_stride_to_1x1(model: nn.Module) -> None:
    """Move the stride of each bottleneck from its 3 x 3 convolution to the 1 x 1 before it, as in Caffe2's ResNets."""
    module: Any
    for module in model.modules():
        if hasattr(module, "conv3") and module.conv2.groups == 1 and module.conv2.stride == (2, 2):
            module.conv1.stride, module.conv2.stride = (2, 2), (1, 1)


def set_stages(model: nn.Module, strides: Sequence[int], dilations: Sequence[Sequence[int]]) -> None:
    """Give the four stages of a ResNet other strides and dilations, as mmseg's have; the weights stay.

    Args:
        model: A ResNet of timm or torchvision with output stride 32.
        strides: Of the first block of each stage.
        dilations: Of each block of each stage, in its strided 3 x 3 convolution.
    """
    block: Any
    for stage, (stride, stage_dilations) in enumerate(zip(strides, dilations, strict=True), start=1):
        blocks: Any = model.get_submodule(f"layer{stage}")
        for number, (block, dilation) in enumerate(zip(blocks, stage_dilations, strict=True)):
            conv = block.conv2 if hasattr(block, "conv3") else block.conv1
            conv.dilation = conv.padding = (dilation, dilation)
            conv.stride = (1, 1) if number else (stride, stride)
        shortcut = blocks[0].downsample
        for index, layer in enumerate(shortcut or ()):
            if isinstance(layer, nn.AvgPool2d):  # the strided layer of ResNet-D
                shortcut[index] = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            elif isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1) if isinstance(shortcut[0], nn.AvgPool2d) else (stride, stride)


def dilate_last_stages(model: nn.Module) -> None:
    """Give a ResNet output stride 8, as torchvision does for segmentation: each stage starts with the dilation before.

    This is `replace_stride_with_dilation=[False, True, True]` in torchvision and `output_stride=8` in timm.
    """
    stages: Any = [model.get_submodule(f"layer{stage}") for stage in (1, 2, 3, 4)]
    rates = ((1, 1), (1, 1), (1, 2), (2, 4))
    set_stages(
        model,
        (1, 2, 1, 1),
        [[first, *[rest] * (len(stage) - 1)] for stage, (first, rest) in zip(stages, rates, strict=True)],
    )


RESNET = {
    name: Architecture(
        name,
        224,
        channels,
        partial(build_resnet, name=name),
        resnet_layers(stage_blocks(depths)),
        any_shape=True,
        dilates=True,
    )
    for name, channels, depths in (("resnet18", 512, (2, 2, 2, 2)), ("resnet50", 2048, (3, 4, 6, 3)))
}


def _build_vit(
    patch: int, size: int | tuple[int, int], trained_size: int, *, example: str, **options: Any
) -> VisionTransformer:
    """Return a headless vision transformer of timm for inputs of any size; its one map is that of the last block."""
    if any(side % patch for side in ([size] if isinstance(size, int) else size)):
        raise RecipeError(f"expected an input size that is a multiple of {patch} pixels, found {size}; {example}")
    model = VisionTransformer(
        img_size=trained_size, patch_size=patch, num_classes=0, dynamic_img_size=True, qkv_bias=True, **options
    )
    del model.feature_info[:-1]  # all blocks have the same stride
    return model


def build_dinov2(
    *, embed_dim: int, depth: int, heads: int, size: int | tuple[int, int], final_norm: bool = True
) -> nn.Module:
    """Return a headless DINOv2.

    Args:
        embed_dim: Channels.
        depth: Blocks.
        heads: Attention heads.
        size: Side, or height and width, of the input in pixels; it is only checked.
        final_norm: Whether a layer norm follows the last block.

    Raises:
        RecipeError: The size is not a multiple of 14.
    """
    sizes = {"embed_dim": embed_dim, "depth": depth, "num_heads": heads}
    return _build_vit(14, size, 518, example="DINOv2 has 518", init_values=1e-5, final_norm=final_norm, **sizes)


def build_vit(
    *, embed_dim: int, depth: int, heads: int, size: int | tuple[int, int], trained_size: int = 224
) -> nn.Module:
    """Return a headless ViT with patches of 16 pixels and a class token.

    Args:
        embed_dim: Channels.
        depth: Blocks.
        heads: Attention heads.
        size: Side, or height and width, of the input in pixels; it is only checked.
        trained_size: Side in pixels of the input that its positions are learnt for.

    Raises:
        RecipeError: The size is not a multiple of 16.
    """
    sizes = {"embed_dim": embed_dim, "depth": depth, "num_heads": heads}
    return _build_vit(16, size, trained_size, example="ViT has 224", **sizes)


def _dinov2(name: str, embed_dim: int, depth: int, heads: int) -> Architecture:
    build = partial(build_dinov2, embed_dim=embed_dim, depth=depth, heads=heads)
    return Architecture(name, 518, embed_dim, build, vit_layers(depth), any_shape=True, token=14)


DINOV2 = {
    architecture.name: architecture
    for architecture in (
        _dinov2("dinov2_micro", 64, 12, 1),
        _dinov2("dinov2_small", 384, 12, 6),
        _dinov2("dinov2_base", 768, 12, 12),
        _dinov2("dinov2_large", 1024, 24, 16),
    )
}


def _vit(name: str, embed_dim: int, depth: int, heads: int) -> Architecture:
    build = partial(build_vit, embed_dim=embed_dim, depth=depth, heads=heads)
    return Architecture(name, 224, embed_dim, build, vit_layers(depth), any_shape=True, token=16)


VIT = {
    architecture.name: architecture
    for architecture in (
        _vit("vit_micro", 64, 12, 1),
        _vit("vit_small", 384, 12, 6),
        _vit("vit_base", 768, 12, 12),
        _vit("vit_large", 1024, 24, 16),
    )
}
"""Built from a file by name only (`arch="vit_large"`): otherwise a ViT is that of timm which its tensors fit."""


ARCHITECTURES: dict[str, Architecture] = {**SWINV2, **SHIFTED, **RESNET, **DINOV2, **VIT}
