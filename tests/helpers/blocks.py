"""A small dataset with labels, and an untrained checkpoint of any task."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from cka_probe import registry
from cka_probe.images.classes import Classes
from cka_probe.images.sample import IGNORE
from cka_probe.lab.tasks import TASKS
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Origin
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint

COLOURS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 40))
NAMES = ("brick", "grass", "water", "sand")


@dataclass
class Blocks:
    """Images of blocks, each in the colour of its class; the upper left block has no label."""

    size: tuple[int, int] = (64, 64)
    block: int = 16
    num: int = 5
    gives = frozenset({"image", "labels"})
    classes = Classes(NAMES, COLOURS)

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        blocks = random.integers(0, 4, [-(-side // self.block) for side in self.size])
        labels = np.kron(blocks, np.ones((self.block, self.block), int))[: self.size[0], : self.size[1]]
        image = torch.tensor(np.array(COLOURS)[labels] / 255, dtype=torch.float32).permute(2, 0, 1)
        labels[: self.block, : self.block] = IGNORE
        return {"image": image, "labels": torch.from_numpy(labels)}

    def image(self, index):
        return self[index]["image"]

    def describe(self, index):
        return f"blocks/{index}.png"


def checkpoint(path, task, size=64, seed=0, **options):
    """Write a checkpoint of an untrained resnet18 with the head of a task."""
    torch.manual_seed(seed)
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=size), size=size, origin=Origin("", "resnet18"))
    head = registry.get(TASKS, task, "task")((size, size), **options).head(backbone)
    for weight in head.parameters():
        nn.init.normal_(weight, std=0.2)
    header = Checkpoint(
        "resnet18", {"size": size}, (0.4,) * 3, (0.2,) * 3, stage="segment", task=task, task_options=options
    )
    save_checkpoint(path, backbone, head, header)
    return path
