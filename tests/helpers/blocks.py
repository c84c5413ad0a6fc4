"""A small data set with labels."""

from dataclasses import dataclass

import numpy as np
import torch

from cka_probe.images.classes import Classes
from cka_probe.images.sample import IGNORE

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
