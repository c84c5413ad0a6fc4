"""A small data set with depth, an untrained checkpoint of any task, and depth maps of generated rooms."""

import functools

import torch
from torch import Generator

from cka_probe import registry
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.tasks import TASKS
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Origin
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint

OPTIONS = {"size": 64, "depths": (1, 1, 2, 1)}


def checkpoint(path, task="depth", with_head=True):
    """A network that was never trained, of a seed, as a file."""
    torch.manual_seed(0)
    backbone = Backbone(ARCHITECTURES["swinv2_micro"].build(**OPTIONS), size=64, origin=Origin("", "swinv2_micro"))
    head = registry.get(TASKS, task, "task")((64, 64)).head(backbone) if with_head else None
    for name, weight in head.named_parameters() if with_head else ():
        if name.startswith("to_depth"):
            torch.nn.init.normal_(weight, std=0.3)  # as initialised, every pixel would be at 5 m
    header = Checkpoint("swinv2_micro", OPTIONS, (0.0,) * 3, (1.0,) * 3, stage="last", task=task if with_head else "")
    save_checkpoint(path, backbone, head, header)
    return path


class Rooms:
    """Six images, the last two of another size, the second without any measured depth."""

    gives = frozenset({"image", "depth", "K"})

    def __init__(self, root="", split="all"):
        del root, split

    def __len__(self):
        return 6

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        size = (48, 80) if index < 4 else (90, 60)
        depth = 12 * torch.rand(1, *size, generator=generator)
        depth[:, :9] = 0
        return {
            "image": torch.rand(3, *size, generator=generator),
            "depth": 0 * depth if index == 1 else depth,
            "K": torch.eye(3),
        }

    def image(self, index):
        return self[index]["image"]

    def describe(self, index):
        return f"rooms/{index}.png"


@functools.cache
def room_maps(num=6):
    """Return images, depth and K of generated rooms, (num, …) each."""
    data = open_dataset(f"scenes:rooms?num={num}&frames=1&size=96x72")
    samples = [data[i] for i in range(num)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in ("image", "depth", "K")}


def perturbed(depth):
    """Return wrong depths by name: tilted by a fifth, noisy by a hundredth, flattened (half, wholly), inside out."""
    mean = depth.mean((2, 3), keepdim=True)
    return {
        "tilted": depth * (1 + 0.2 * torch.linspace(-1, 1, depth.shape[-1])),
        "noisy": depth * (1 + 0.01 * torch.randn(depth.shape, generator=Generator().manual_seed(0))),
        "half flat": (depth + mean) / 2,
        "flat": mean.expand_as(depth),
        "inverted": depth.amax((2, 3), keepdim=True) + 1 - depth,
    }
