"""Checkpoints of untrained networks."""

import torch

from cka_probe import registry
from cka_probe.lab.tasks import TASKS
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint


def save_model(path, task="teacher", seed=0):
    """Write a checkpoint of an untrained resnet18 for a task, as a stage would."""
    torch.manual_seed(seed)
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=64), size=64)
    options = {"cell": 16} if task == "masked" else {}
    head = registry.get(TASKS, task, "task")((64, 64), **options).head(backbone)
    header = Checkpoint("resnet18", {"size": 64}, IMAGENET_MEAN, IMAGENET_STD, task=task, task_options=options)
    save_checkpoint(path, backbone, head, header)
    return path
