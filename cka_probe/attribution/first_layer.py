"""The layer whose maps are sharpest: the first ReLU of a convolutional network, before anything is pooled.

It is found by looking at which modules run, in which order, not by its name, which is `relu` in torchvision, `act1` in
timm and `features.1` in VGG. A Swin transformer has none; there the first map is the patch embedding.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from cka_probe.errors import LayerError
from cka_probe.models.recording import trace_shapes

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Mish)
POOLING = (nn.MaxPool2d, nn.AvgPool2d)
EMBEDDINGS = ("patch_embed", "patch_embeddings", "conv_proj")
"""What timm, the original code and transformers, and torchvision call a patch embedding."""


def first_layer(root: nn.Module, images: Tensor, run: Callable[[Tensor], Any]) -> str:
    """Return the address of the first ReLU before the pooling, else of the patch embedding, else of the first ReLU.

    Args:
        root: Addresses are relative to it.
        images: (n, 3, H, W), run once.
        run: What runs it.

    Raises:
        LayerError: There is neither, or its like.
    """
    modules = dict(root.named_modules())
    ran = trace_shapes(root, images, run=run)
    order = list(ran)  # of execution
    active = [n for n in order if isinstance(modules[n], ACTIVATIONS) and len(ran[n]) == 1 and len(ran[n][0]) == 4]
    pooled = next((place for place, name in enumerate(order) if isinstance(modules[name], POOLING)), -1)
    if active and order.index(active[0]) < pooled:
        return active[0]
    embedding = next((name for name in order if name.rpartition(".")[2] in EMBEDDINGS), None)
    if embedding is not None or active:
        return embedding or active[0]
    raise LayerError(
        "the network has no ReLU that runs once and no patch embedding to take for the first layer; name "
        "one (`ckaprobe layers` lists them)"
    )
