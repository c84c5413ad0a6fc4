"""Grad-CAM beside captum's `LayerGradCam`: seconds and peak memory of the same maps from the same network.

    python benchmarks/grad_cam.py [--rounds 5] [--batch 8] [--size 224]

Both run once a round, each round beginning with the other; a ratio is of one round, and the table gives its median and
range. Peak memory is that of a fresh process above the state with network and images loaded and one image mapped
(`memory.py`). The table goes to stdout. That the maps agree is checked first, and how well is a column.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torchvision
from memory import ALLOCATOR, _forget_peak, _status
from rounds import stopwatch
from torch import Tensor, nn

from cka_probe import grad_cam

CASES = [("resnet18", "relu"), ("resnet18", "layer4"), ("resnet50", "relu"), ("resnet50", "layer4")]


def ours(network: nn.Module, images: Tensor, layer: str) -> Tensor:
    """Return maps (n, h, w) of the predicted class."""
    return grad_cam(network, images, layer, "class").signed


def captum(network: nn.Module, images: Tensor, layer: str) -> Tensor:
    """Return maps (n, h, w) of the predicted class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import LayerGradCam

    tool = LayerGradCam(lambda x: network(x).max(1).values, network.get_submodule(layer))
    return tool.attribute(images)[:, 0].detach()


TOOLS: dict[str, Callable[[nn.Module, Tensor, str], Tensor]] = {"ours": ours, "captum": captum}


def loaded(architecture: str, batch: int, size: int) -> tuple[nn.Module, Tensor]:
    """Return a random network and random images, the same each time."""
    torch.manual_seed(0)
    return torchvision.models.get_model(architecture).eval(), torch.rand(batch, 3, size, size)


def timed(architecture: str, layer: str, asked: argparse.Namespace) -> dict[str, object]:
    """Return seconds by tool, their ratios by round, and how far the maps are apart."""
    network, images = loaded(architecture, asked.batch, asked.size)
    maps = {name: tool(network, images, layer) for name, tool in TOOLS.items()}
    apart = ((maps["ours"] - maps["captum"]).abs().max() / maps["captum"].abs().max()).item()
    seconds: dict[str, list[float]] = {name: [] for name in TOOLS}
    for number in range(asked.rounds):
        for name in sorted(TOOLS, reverse=bool(number % 2)):
            seconds[name].append(stopwatch(lambda name=name: TOOLS[name](network, images, layer))[0])
    ratios = [one / other for one, other in zip(seconds["ours"], seconds["captum"], strict=True)]
    return {name: median(took) for name, took in seconds.items()} | {"ratios": ratios, "apart": apart}


def peak(tool: str, architecture: str, layer: str, asked: argparse.Namespace) -> float:
    """Return the peak in MiB above the loaded state, of a fresh process."""
    arguments = [sys.executable, str(Path(__file__)), "--batch", str(asked.batch), "--size", str(asked.size)]
    done = subprocess.run(
        [*arguments, "--peak", tool, architecture, layer],
        env=os.environ | ALLOCATOR,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def peak_here(tool: str, architecture: str, layer: str, asked: argparse.Namespace) -> float:
    """Return the same of this process."""
    network, images = loaded(architecture, asked.batch, asked.size)
    TOOLS[tool](network, images[:1], layer)  # imports, and what a first pass allocates for good
    gc.collect()
    _forget_peak()
    before = _status("VmRSS")
    TOOLS[tool](network, images, layer)
    return _status("VmHWM") - before


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--peak", nargs=3, metavar=("TOOL", "ARCHITECTURE", "LAYER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.peak:
        print(json.dumps(peak_here(*asked.peak, asked)))
        return
    print("network   layer    ours s  captum s  ratio (range)         ours MiB  captum MiB  maps apart")
    for architecture, layer in CASES:
        took = timed(architecture, layer, asked)
        ratios = took["ratios"]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        memory = [peak(name, architecture, layer, asked) for name in ("ours", "captum")]
        print(
            f"{architecture:9} {layer:8} {took['ours']:6.2f}  {took['captum']:8.2f}  {spread:20}  {memory[0]:8.0f}  "
            f"{memory[1]:10.0f}  {took['apart']:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
