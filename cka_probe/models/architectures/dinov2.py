"""DINOv2 (Oquab et al. 2023), the vision transformer that Depth Anything begins from, as in timm.

One stride of 14 pixels from the first block to the last, so that its only feature map is that of its last norm, the
class token left out. Positions are learnt at 518 pixels, 37 x 37 tokens; for another size, square or not, their grid is
resampled at each forward pass (bicubic, with antialiasing as timm has it, without which DINOv2 and transformers do it:
at 518 pixels all agree exactly, elsewhere nearly), so that the weights are the same ones at any size.

`dinov2_micro` is no published model but a small one of the same make, for trials.
"""

import math
from functools import partial

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from cka_probe.errors import RecipeError
from cka_probe.models.architectures.architecture import Architecture
from cka_probe.models.layers import LayerMap

PATCH, LEARNT_AT = 14, 518


def build_dinov2(*, embed_dim: int, depth: int, heads: int, size: int | tuple[int, int]) -> nn.Module:
    """Return a headless DINOv2.

    Args:
        embed_dim: Channels.
        depth: Blocks.
        heads: Attention heads.
        size: Input side or height and width, pixels; it is checked and changes nothing.

    Raises:
        RecipeError: The size is no multiple of a token's.
    """
    if any(side % PATCH for side in ([size] if isinstance(size, int) else size)):
        raise RecipeError(f"expected an input size that is a multiple of {PATCH} pixels, found {size}; DINOv2 has 518")
    model = VisionTransformer(
        img_size=LEARNT_AT,
        patch_size=PATCH,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=heads,
        init_values=1e-5,
        num_classes=0,
        dynamic_img_size=True,
    )
    del model.feature_info[:-1]  # all blocks have the same stride
    return model


def nine_blocks(depth: int) -> LayerMap:
    """Return nine blocks, as evenly as can be, the last among them.

    >>> nine_blocks(12).names[:4]
    ('blocks.1', 'blocks.2', 'blocks.3', 'blocks.5')
    """
    return LayerMap.of([f"blocks.{math.ceil((place + 1) * depth / 9) - 1}" for place in range(9)])


def _dinov2(name: str, embed_dim: int, depth: int, heads: int) -> Architecture:
    build = partial(build_dinov2, embed_dim=embed_dim, depth=depth, heads=heads)
    layers = nine_blocks(depth)
    return Architecture(name, LEARNT_AT, embed_dim, build, layers, any_shape=True, dilates=False, token=PATCH)


DINOV2 = {
    architecture.name: architecture
    for architecture in (
        _dinov2("dinov2_micro", 64, 12, 1),
        _dinov2("dinov2_small", 384, 12, 6),
        _dinov2("dinov2_base", 768, 12, 12),
        _dinov2("dinov2_large", 1024, 24, 16),
    )
}
