"""Runs of small models that one process or several do together; each process saves what it gets.

As a program: `python -m helpers.shared_runs IMAGES OUT`, under `torchrun`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from cka_probe import compare, fingerprint
from cka_probe.comparison.ranks import alone, joined
from cka_probe.comparison.sides import fingerprint_each
from cka_probe.errors import CkaProbeError


class Sometimes(nn.Module):
    """A model whose second layer does not vary within the second batch."""

    def __init__(self):
        super().__init__()
        self.linear, self.gate = nn.Linear(6, 5), nn.Identity()

    def forward(self, x):
        return self.gate(self.linear(x) * float(x[0, 0] != ROWS[8, 0]))


class Failing(nn.Sequential):
    """A model that runs on the first batches only."""

    def forward(self, x):
        if x[0, 0] == ROWS[8, 0]:
            raise ValueError("no second batch")
        return super().forward(x)


def small(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 4)).eval()


def rank():
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def vectors(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))


ROWS = torch.randn(35, 6, generator=torch.Generator().manual_seed(0))
FOLDER = {"size": 8, "layers": ["0", "4"], "batch": 8, "permutations": 5}
VECTORS = {"layers": ["0", "2"], "batch": 8, "permutations": 5}


def folder_of_images(path, count, seed=0):
    """Write small images of random colours to a new folder, and return it."""
    path.mkdir()
    values = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    for number, image in enumerate(values):
        Image.fromarray(image).resize((40, 36)).save(path / f"{number:03}.png")
    return path


def loader(batch=6, **options):
    return DataLoader([(row, 0) for row in ROWS], batch_size=batch, **options)


def runs(images):
    """Return runs by name; `images` has the folders good, noisy, bad and worst."""
    x, y = small(0), small(1)
    a, b = vectors(0), vectors(1)
    noisy, bad = images / "noisy", images / "bad"
    return {
        "folder": lambda: compare(x, y, images / "good", num=24, seed=3, **FOLDER),
        "skip_bad": lambda: compare(x, y, bad, skip_bad=True, **FOLDER),
        "pairs": lambda: compare(x, y, bad, images_y=noisy, skip_bad=True, **FOLDER),
        "pairs_by_order": lambda: compare(x, y, bad, images_y=list(torch.rand(27, 3, 8, 8)), skip_bad=True, **FOLDER),
        "tensor": lambda: compare(a, b, ROWS, **VECTORS),
        "same_model": lambda: compare(a, a, ROWS, features="gap", **VECTORS),
        "one_batch": lambda: compare(a, b, ROWS[:10], **VECTORS),
        "loader": lambda: compare(a, b, loader(), layers="*", permutations=5),
        "iterator": lambda: compare(x, y, iter(torch.rand(35, 3, 8, 8)), num=20, **FOLDER),
        "all_as_one_batch": lambda: compare(
            a, b, ROWS.repeat(6, 1) ** 2, batch="all", features="gap", layers=["0", "2"]
        ),
        "constant": lambda: compare(a, Sometimes(), ROWS[:27], batch=8, layers=["0"], layers_y=["linear", "gate"]),
        "several": lambda: fingerprint_each([a, b, a], ROWS, layers="*")[1],
        "alone": lambda: only_first(lambda: fingerprint(a, ROWS, layers="*")),
        "unreadable": lambda: compare(x, y, bad, **FOLDER),
        "all_unreadable": lambda: compare(x, y, images / "worst", skip_bad=True, **FOLDER),
        "failing": lambda: compare(a, Failing(*b), ROWS, **VECTORS),
        "shuffled": lambda: shuffled(a, b),
        "after_errors": lambda: compare(b, a, ROWS, **VECTORS),
    }


def only_first(run):
    """Run something in the first process alone."""
    with alone():
        return run() if rank() == 0 else None


def shuffled(a, b):
    """Compare with a loader that every process shuffles in its way."""
    torch.manual_seed(rank())
    return compare(a, b, loader(shuffle=True), layers="*", permutations=5)


def save_all(images, out):
    """Save the result of each run, or its error."""
    out.mkdir(parents=True)
    for name, run in runs(images).items():
        torch.manual_seed(0)
        try:
            result = run()
        except CkaProbeError as error:
            (out / f"{name}.txt").write_text(f"{type(error).__name__}: {error}")
        else:
            if result is not None:
                result.save(out / f"{name}.json")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined():
        save_all(Path(sys.argv[1]), Path(sys.argv[2]) / str(rank()))
