"""AdamW, with the parameters sorted by who decays and who learns how fast.

Biases and norms do not decay; nor do, by default, logit scales and the network of the continuous position bias.
SimMIM names these two as well, but under a prefix that no parameter has, so that in its pre-training they do decay;
a stage that is to be like it says `undecayed = []`.

With `layer_decay` below 1 a parameter at depth i of d learns at layer_decay^(d - i) of the rate: early layers,
which pre-training has settled, move less (Clark et al., ELECTRA, 2020; Bao et al., BEiT, 2022). Depths follow
Swin's fine-tuning: the patch embedding is 0, each block one more, a patch merging counts with the stage before it
as in the original implementation, and whatever comes after the last block, heads included, is d.
"""

import re
from collections.abc import Callable, Sequence

import torch
from torch import nn

from cka_probe.models.backbone import Backbone

UNDECAYED = ("cpb_mlp", "logit_scale")
"""Parts of names, of Swin-v2, of parameters that are matrices and yet do not decay."""


def parameter_groups(
    backbone: Backbone,
    head: nn.Module,
    weight_decay: float,
    layer_decay: float,
    undecayed: Sequence[str] = UNDECAYED,
) -> list[dict]:
    """Return AdamW's groups; `scale` in each multiplies the schedule's learning rate.

    Args:
        backbone: Its parameters, each at its depth.
        head: Its parameters, at the last depth.
        weight_decay: For those that decay.
        layer_decay: Rate of one depth over that of the next; 1 treats all alike.
        undecayed: Parts of the names of parameters that do not decay, besides biases and whatever has one axis.
    """
    depth_of, last = depths(backbone.model)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for module, prefix in ((backbone.model, "backbone"), (head, "head")):
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            depth = depth_of(name) if prefix == "backbone" and layer_decay != 1 else last
            decays = parameter.ndim > 1 and not name.endswith("bias") and not any(word in name for word in undecayed)
            groups.setdefault((depth, decays), []).append(parameter)
    return [
        {
            "params": groups[depth, decays],
            "weight_decay": weight_decay if decays else 0.0,
            "scale": layer_decay ** (last - depth),
        }
        for depth, decays in sorted(groups)
    ]


def adamw(groups: list[dict]) -> torch.optim.AdamW:
    """Return the optimiser; the rate is set before each step."""
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999))


def depths(model: nn.Module) -> tuple[Callable[[str], int], int]:
    """Return (parameter name -> depth, the last depth) of an encoder.

    Args:
        model: A Swin or ResNet of timm; for any other everything has one depth.
    """
    if hasattr(model, "patch_embed") and hasattr(model, "layers"):
        return _swin_depths([len(stage.blocks) for stage in model.layers])
    if hasattr(model, "layer4"):
        return _resnet_depth, 5
    return (lambda name: 1), 1


def _swin_depths(blocks: list[int]) -> tuple[Callable[[str], int], int]:
    """Return the depths of a Swin with so many blocks per stage; a merging takes a place after its stage's."""
    before = [sum(blocks[:stage]) + stage for stage in range(len(blocks))]
    last = sum(blocks) + len(blocks)

    def depth(name: str) -> int:
        if name.startswith("patch_embed"):
            return 0
        if found := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name):
            return before[int(found[1])] + int(found[2]) + 1
        if found := re.match(r"layers\.(\d+)\.downsample\.", name):
            return before[int(found[1])]  # timm's stage i opens with the merging that closes stage i - 1
        return last

    return depth, last


def _resnet_depth(name: str) -> int:
    """Return 0 for the stem, 1 to 4 for the stages."""
    found = re.match(r"layer(\d)\.", name)
    return int(found[1]) if found else 0
