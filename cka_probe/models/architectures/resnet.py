"""ResNet-18 and -50 (He et al. 2016) as in timm, whose weight names are torchvision's one to one.

ResNet-18 has exactly nine default layers: the pooled stem and its eight blocks. The map of ResNet-50 mirrors
the paper's of Swin-v2: the ends of stages 1 and 2, the six blocks of stage 3, the end of stage 4.
"""

from functools import partial

import timm
from torch import nn

from cka_probe.models.architectures.architecture import Architecture
from cka_probe.models.layers import LayerMap

NINE = {
    "resnet18": ("maxpool", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1))),
    "resnet50": ("layer1.2", "layer2.3", *(f"layer3.{block}" for block in range(6)), "layer4.2"),
}


def build_resnet(*, name: str, size: int, output_stride: int = 32) -> nn.Module:
    """Return a headless ResNet; `size` is accepted for symmetry and does not change it.

    With an `output_stride` of 16 or 8 the last stages are dilated instead of strided, as DeepLab has them; the
    weights are the same ones.

    The last batch norm of each block starts at 1 as in torchvision, not at 0 as is timm's default: with 0 a
    random network is nearly the identity from block to block, and every CKA between blocks trivially 1.
    """
    del size
    return timm.create_model(name, pretrained=False, num_classes=0, zero_init_last=False, output_stride=output_stride)


RESNET = {
    name: Architecture(
        name, 224, channels, partial(build_resnet, name=name), LayerMap.of(NINE[name]), any_shape=True, dilates=True
    )
    for name, channels in (("resnet18", 512), ("resnet50", 2048))
}
