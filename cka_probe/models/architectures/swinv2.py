"""Swin-v2 (Liu et al. 2022) as in timm, and the nine layers of MeSa's Table 4 in it.

Layers 0, 1 and 7 are the outputs of the three patch mergings, 2 to 6 the post-normalised attention branches
of five blocks of stage 3, 8 the final layer norm. The paper writes the original implementation's names; timm
counts each `downsample` one stage later and calls the last norm `norm`, so that `layers.1.downsample.norm`
exists in both and means different layers. Here a layer's `name` is the paper's and its `module` timm's.
"""

from functools import partial

from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import nn

from cka_probe.models.architectures.architecture import Architecture
from cka_probe.models.layers import Layer, LayerMap

NINE_BLOCKS = {18: (3, 6, 9, 12, 15), 6: (1, 2, 3, 4, 5)}
"""Blocks of stage 3 in the map, by the depth of that stage: every third of 18, as in the paper; of the six of
Swin-v2-tiny the five that keep the order and the alternation of shifted and unshifted windows."""


def build_swinv2(
    *,
    embed_dim: int,
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    size: int,
    window: int | None = None,
    pretrained_windows: tuple[int, ...] = (0, 0, 0, 0),
    norm_eps: float = 1e-5,
) -> SwinTransformerV2:
    """Return a headless Swin-v2.

    Args:
        embed_dim: Channels after the patch embedding; doubled at each of the three mergings.
        depths: Blocks per stage.
        heads: Attention heads per stage.
        size: Input height and width, pixels.
        window: Window in tokens; by default `size // 16`, the papers' ratio (192 px: 12, 256: 16, 480: 30).
        pretrained_windows: Windows per stage that the weights were trained with, when they differ from this
            one: the coordinates of the continuous position bias are divided by them. Zeros: the same.
        norm_eps: Of the layer norms; MIM-Depth's have 1e-6.
    """
    return SwinTransformerV2(
        img_size=size,
        embed_dim=embed_dim,
        depths=depths,
        num_heads=heads,
        window_size=window or size // 16,
        pretrained_window_sizes=tuple(pretrained_windows),
        num_classes=0,
        drop_path_rate=0.0,
        norm_layer=partial(nn.LayerNorm, eps=norm_eps),  # type: ignore[arg-type]  # timm calls it, whatever it is
    )


def paper_layers(depth: int, *, first_merge: int, last_norm: str, norm1: str = "norm1", prefix: str = "") -> LayerMap:
    """Return the nine layers of Table 4 under one implementation's module names.

    Args:
        depth: Blocks in stage 3.
        first_merge: Stage under which the first patch merging stands: 0 in the original, 1 in timm.
        last_norm: Name of the final norm.
        norm1: Name of the norm after the attention branch.
        prefix: What stands before `layers`, with its dot.

    >>> paper_layers(18, first_merge=1, last_norm="norm")[7]
    Layer(name='layers.2.downsample.norm', module='layers.3.downsample.norm')
    """

    def merge(index: int) -> Layer:
        return Layer(f"layers.{index}.downsample.norm", f"{prefix}layers.{index + first_merge}.downsample.norm")

    blocks = [
        Layer(f"layers.2.blocks.{block}.norm1", f"{prefix}layers.2.blocks.{block}.{norm1}")
        for block in NINE_BLOCKS[depth]
    ]
    return LayerMap((merge(0), merge(1), *blocks, merge(2), Layer("norm3", last_norm)))


def _swinv2(name: str, embed_dim: int, depth: int, heads: tuple[int, ...], size: int = 192) -> Architecture:
    build = partial(build_swinv2, embed_dim=embed_dim, depths=(2, 2, depth, 2), heads=heads)
    return Architecture(name, size, 8 * embed_dim, build, paper_layers(depth, first_merge=1, last_norm="norm"))


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
