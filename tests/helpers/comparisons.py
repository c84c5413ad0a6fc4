"""Small models and images to compare, an adapter of a ResNet-18, and CKA by the book."""

from itertools import permutations

import torch
from helpers import foreign
from safetensors.torch import save_file
from torch import nn


def small(seed, width=5, bias=0.0):
    """Return a convolution, batch normalisation, an in-place ReLU and a linear layer, for images of 8 pixels."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36 * width, 7)
    )
    nn.init.constant_(net[1].bias, bias)
    return net


def random_images(n=32, seed=0):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def u_statistic(k, l):  # noqa: E741
    """Song et al. 2012, eq. 4, over ordered quadruples; float64."""
    quadruples = list(permutations(range(len(k)), 4))
    return sum(k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in quadruples)


def resnet_and_adapter(folder):
    """Write a ResNet-18 and a LoRA adapter of its last convolution but one, and return their paths."""
    base, adapter = folder / "base.pth", folder / "lora"
    torch.save(foreign.resnet().state_dict(), base)
    adapter.mkdir()
    front, generator = "base_model.model.layer4.1.conv2", torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=generator) for shape in ((2, 512, 3, 3), (512, 2, 1, 1)))
    save_file({f"{front}.lora_A.weight": a, f"{front}.lora_B.weight": b}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 2}')
    return base, adapter
