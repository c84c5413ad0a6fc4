"""A trained model whole again: backbone, head and task out of one checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cka_probe import registry
from cka_probe.errors import CheckpointError
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import read_checkpoint

TASKS = "cka_probe.lab.tasks:TASKS"


@dataclass(frozen=True)
class Trained:
    """What `ckaprobe train` made of a stage; all of it in evaluation mode, on the CPU.

    Attributes:
        backbone: The encoder.
        head: What was trained on top of it.
        task: Knows how to use the two: `task.predict(backbone, head, images)` gives depth, say.
    """

    backbone: Backbone
    head: nn.Module
    task: Any


def load_trained(path: str | Path) -> Trained:
    """Return backbone, head and task from a checkpoint of ours.

    Raises:
        CheckpointError: The file holds no head, or is not ours.
    """
    backbone, state, header = read_checkpoint(path)
    if not state:
        raise CheckpointError(
            f"{path}: expected a checkpoint with a head, found a backbone alone; train a stage with it"
        )
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in header.task_options.items()}
    task = registry.get(registry.resolve(TASKS), header.task, "task")(backbone.preprocessing.size, **options)
    with torch.random.fork_rng(devices=[]):
        head = task.head(backbone)
    head.load_state_dict(state)
    return Trained(backbone, head.eval(), task)
