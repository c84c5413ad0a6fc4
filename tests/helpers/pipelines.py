"""Pipelines of torchvision's transforms."""

import torch
from torchvision.transforms import v2

from cka_probe.lab.transforms import plain, typed


def pipeline(*transforms):
    def run(sample):
        torch.manual_seed(7)
        return plain(v2.Compose(list(transforms))(typed(sample)))

    return run
