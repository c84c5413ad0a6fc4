"""The arms of the study: what each is called in the paper, and which two checkpoints it has.

An arm is one way of pre-training, followed by the same fine-tuning for depth. The paper's own arms come first and
in its order: MP (masked), then GP (geometric) after it, then SP (supervised by pseudo-depth) after that, on rooms
as in LSUN and on objects as in ImageNet. The paper has no arm without pre-training and none with labels; a reader
asks for both. Two controls fine-tune MP in another way, so that what fine-tuning does to a layer can be told from
how it was done.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """One way of pre-training, and its fine-tuning.

    Attributes:
        name: The paper's label, or what the arm is where the paper has none.
        pre: Stage whose checkpoint ends pre-training; `random` is the untrained network, which has none.
        tuned: Stage whose checkpoint ends fine-tuning for depth.
    """

    name: str
    pre: str
    tuned: str


ROOMS = (
    Arm("MP", "mp", "mp_depth"),
    Arm("MP+GP", "gp", "gp_depth"),
    Arm("MP+GP+SP", "sp", "sp_depth"),
)
"""Pre-trained on rooms, as the paper with LSUN."""

OBJECTS = (
    Arm("MP (ImageNet-like)", "mp_imagenet", "mp_imagenet_depth"),
    Arm("MP+GP (ImageNet-like)", "gp_imagenet", "gp_imagenet_depth"),
    Arm("MP+GP+SP (ImageNet-like)", "sp_imagenet", "sp_imagenet_depth"),
)
"""Masked pre-training on objects, as the paper with ImageNet; what follows it sees the same rooms."""

BASELINES = (
    Arm("supervised", "supervised", "supervised_depth"),
    Arm("no pre-training", "random", "random_depth"),
)
"""Not in the paper."""

CONTROLS = (
    Arm("MP, no layer decay", "mp", "mp_depth_flat"),
    Arm("MP, plain input", "mp", "mp_depth_plain"),
)
"""Fine-tuned with one learning rate for all layers; fine-tuned on images in [0, 1] less no mean, as MIM-Depth."""

ARMS = (*ROOMS, *OBJECTS, *BASELINES)
"""All arms that are fine-tuned alike, in the order of the tables."""
