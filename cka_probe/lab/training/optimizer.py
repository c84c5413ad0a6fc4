"""Optimizers, parameter groups for weight decay and layer-wise learning rates, and learning-rate schedules.

Biases and norms do not decay; nor, by default, do logit scales and the network of the continuous position bias. SimMIM
lists these two as well, but under a prefix that no parameter has, so that they decay in its pre-training; a stage that
reproduces it sets `undecayed = []`. Under SGD every parameter decays, as in the papers that use it here.

With `layer_decay` below 1, a parameter at depth i of d has layer_decay^(d - i) times the learning rate, so that early
layers change less (Clark et al., ELECTRA, 2020; Bao et al., BEiT, 2022). Depths follow Swin's fine-tuning: the patch
embedding has depth 0, each block one more, a patch merging that of the stage before it as in the original code, and
everything after the last block, heads included, d. Those of a vision transformer are BEiT's.

A schedule maps the progress through the steps after the warm-up, in [0, 1], to a multiplier in [0, 1]; the learning
rate is `lr_min + (lr - lr_min) * multiplier`. During the warm-up the multiplier rises linearly. The schedule "step" has
milestones, shares of the steps, and at each of them the rate is multiplied by gamma.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import nn

from cka_probe import registry
from cka_probe.models.backbone import Backbone

OPTIMIZERS: dict[str, Callable[[list[dict]], torch.optim.Optimizer]] = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999)),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.0, momentum=0.9),
}
"""Optimizers of parameter groups; the rate is set before each step. AdamW without decay is Adam."""

UNDECAYED = ("cpb_mlp", "logit_scale")
"""Parts of the names of Swin-v2's matrices that do not decay."""


def parameter_groups(
    backbone: Backbone,
    head: nn.Module,
    weight_decay: float,
    layer_decay: float,
    undecayed: Sequence[str] = UNDECAYED,
    *,
    decay_all: bool = False,
) -> list[dict]:
    """Return an optimizer's groups; `scale` in each multiplies the schedule's learning rate.

    Args:
        backbone: Its parameters are each at their depth.
        head: Its parameters are at the last depth.
        weight_decay: Of the parameters that decay.
        layer_decay: Rate of one depth over that of the next.
        undecayed: Parts of the names of parameters that do not decay, in addition to biases and those of one axis.
        decay_all: Whether all parameters decay.
    """
    depth_of, last = depths(backbone.model)
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for module, prefix in ((backbone.model, "backbone"), (head, "head")):
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            depth = depth_of(name) if prefix == "backbone" and layer_decay != 1 else last
            decays = parameter.ndim > 1 and not name.endswith("bias") and not any(word in name for word in undecayed)
            groups.setdefault((depth, decays or decay_all), []).append(parameter)
    return [
        {
            "params": groups[depth, decays],
            "weight_decay": weight_decay if decays else 0.0,
            "scale": layer_decay ** (last - depth),
        }
        for depth, decays in sorted(groups)
    ]


def depths(model: nn.Module) -> tuple[Callable[[str], int], int]:
    """Return (parameter name -> depth, the last depth) of an encoder.

    Args:
        model: A Swin, vision transformer or ResNet of timm; all parameters of any other have one depth.
    """
    if hasattr(model, "patch_embed") and hasattr(model, "blocks"):
        return _vit_depths(len(cast(Any, model.blocks)))
    if hasattr(model, "patch_embed") and hasattr(model, "layers"):
        return _swin_depths([len(stage.blocks) for stage in cast(Any, model.layers)])
    if hasattr(model, "layer4"):  # 0 for the stem, 1 to 4 for the stages
        return lambda name: int(match[1]) if (match := re.match(r"layer(\d)\.", name)) else 0, 5
    return lambda name: 1, 1


def _vit_depths(blocks: int) -> tuple[Callable[[str], int], int]:
    """Return the depths of a vision transformer of so many blocks: 0 for the embeddings, 1 for the first block."""

    def depth(name: str) -> int:
        if match := re.match(r"blocks\.(\d+)\.", name):
            return int(match[1]) + 1
        return 0 if name.startswith(("patch_embed", "pos_embed", "cls_token")) else blocks + 1

    return depth, blocks + 1


def _swin_depths(blocks: list[int]) -> tuple[Callable[[str], int], int]:
    """Return the depths of a Swin with these numbers of blocks per stage; a merging has one depth after its stage's."""
    before = [sum(blocks[:stage]) + stage for stage in range(len(blocks))]
    last = sum(blocks) + len(blocks)

    def depth(name: str) -> int:
        if name.startswith("patch_embed"):
            return 0
        if match := re.match(r"layers\.(\d+)\.blocks\.(\d+)\.", name):
            return before[int(match[1])] + int(match[2]) + 1
        if match := re.match(r"layers\.(\d+)\.downsample\.", name):
            return before[int(match[1])]  # timm's stage i opens with the merging that closes stage i - 1
        return last

    return depth, last


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    "polynomial": lambda progress: (1 - progress) ** 0.9,
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
    "step": lambda progress: 1.0,
    "up_down": lambda progress: (2 * progress) ** 0.9 if progress < 0.5 else 1 - (2 * progress - 1) ** 0.9,
    "late_drops": lambda progress: 1.0 if progress < 0.875 else 0.1 if progress < 1 else 0.01,
}
"""Multipliers by progress: `cosine` of Loshchilov & Hutter 2017, `polynomial` as usual for segmentation, `up_down` of
MIM-Depth, `late_drops` of SimMIM's long runs."""


def multiplier(
    step: int, steps: int, warmup: int, schedule: str, milestones: Sequence[float] = (), gamma: float = 0.1
) -> float:
    """Return the factor of the learning rate at a step.

    Args:
        step: 0 to steps - 1.
        steps: Number of steps of the stage.
        warmup: Number of steps of linear warm-up; the first factor is 1 / warmup, as a step at 0 would be wasted.
        schedule: A name in `SCHEDULES`.
        milestones: Shares of the steps after the warm-up, of the schedule "step".
        gamma: Factor of the rate at each milestone.

    >>> [round(multiplier(step, 6, 2, "cosine"), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    >>> [multiplier(step, 4, 0, "step", [0.75], 0.5) for step in range(4)]
    [1.0, 1.0, 1.0, 0.5]
    """
    shape = registry.get(SCHEDULES, schedule, "schedule")
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return shape(progress) * gamma ** sum(progress >= milestone for milestone in milestones)
