"""A folder of JPEGs to a matrix, over a plain script: a DataLoader with as many workers, and bare forward passes.

    python benchmarks/files.py --out files.json
    python benchmarks/files.py --images 64 --rounds 1      # does it run?

The images have a 1/f spectrum, 500 x 375 pixels, and are written once. Every row runs once a round; a ratio is of the
seconds of one round, and a first round that fetches the files is not counted. `waiting` is the share of its time in
which a comparison waits for images. Nothing is asserted. See README.md.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import timm
import torch
from machine import describe
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import cka_probe
from cka_probe import Backbone
from cka_probe.comparison import extraction
from cka_probe.images.prefetch import default_workers
from cka_probe.images.stream import batches, stream_images

SIZE, QUALITY = 224, 90
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS = ["maxpool", *(f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)), "global_pool"]
LINE = "{:<44} {:>9} {:>9} {:>11} {:>8} {:>3}"


class Pooled(nn.Module):
    """A model that costs next to nothing: the mean of each image's 16 x 16 patches."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(16)

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, 3, h / 16, w / 16)."""
        pooled: Tensor = self.pool(images)
        return pooled


class Script(Dataset):
    """What a plain script reads: decoded, resized and cropped by torchvision on PIL images, normalised."""

    def __init__(self, paths: list[Path]):
        self.paths = paths
        self.transform = v2.Compose(
            [
                v2.Resize(SIZE, v2.InterpolationMode.BICUBIC),
                v2.CenterCrop(SIZE),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as file:
            image: Tensor = self.transform(file.convert("RGB"))
        return image


def main() -> None:
    """Measure, print, write."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(options.folder or folder)
        paths = write_images(root, options.images)
        rows = measure(root, paths, options)
    result = {"machine": describe(), "threads": torch.get_num_threads(), "options": vars(options), "rows": rows}
    print(table(result))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where to keep the images; by default they are removed")
    parser.add_argument("--out", help="JSON with every time")
    return parser.parse_args()


def write_images(root: Path, count: int) -> list[Path]:
    """Write images of a 1/f spectrum that are not there yet; return the paths of all."""
    root.mkdir(parents=True, exist_ok=True)
    paths = [root / f"{number:05d}.jpg" for number in range(count)]
    frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.rfftfreq(500)[None])
    frequency[0, 0] = 1.0
    for number, path in enumerate(paths):
        if not path.exists():
            noise = np.random.default_rng(number).standard_normal((3, 375, 500))
            pixels = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=(375, 500))
            pixels = 128 + 50 * pixels / pixels.std()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(path, quality=QUALITY)
    return paths


def measure(root: Path, paths: list[Path], options: argparse.Namespace) -> dict[str, dict]:
    """Return the seconds of each row by round; the first row of each pair is the floor of both."""
    torch.manual_seed(0)
    nets = [timm.create_model("resnet18", num_classes=0).eval() for _ in range(2)]
    sides = [Backbone(net, size=SIZE) for net in nets]
    free = Backbone(Pooled(), size=SIZE)
    keywords = {"batch": options.batch, "num": None, "workers": options.workers}
    rows: dict[str, tuple[str, Callable[[], object]]] = {
        "DataLoader": ("DataLoader", lambda: script(paths, [], options)),
        "ours, reading alone": ("DataLoader", lambda: read(root, free, keywords)),
        "ours, a model that costs nothing": (
            "DataLoader",
            lambda: cka_probe.fingerprint(free, root, layers="*", **keywords),
        ),
        "DataLoader and two ResNet-18": ("DataLoader and two ResNet-18", lambda: script(paths, nets, options)),
        "ours, two ResNet-18, ten layers": (
            "DataLoader and two ResNet-18",
            lambda: cka_probe.compare(*sides, root, layers=LAYERS, **keywords),
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    waiting: dict[str, list[float]] = {name: [] for name in rows}
    waits = time_batches()
    for number in range(options.rounds + 1):
        for name in list(rows) if number % 2 else reversed(rows):
            waits.clear()
            start = perf_counter()
            rows[name][1]()
            if number:
                seconds[name].append(perf_counter() - start)
                waiting[name].append(sum(waits) / seconds[name][-1])
        print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)
    return {
        name: {"floor": floor, "seconds": seconds[name], "waiting": waiting[name]} for name, (floor, _) in rows.items()
    }


def time_batches() -> list[float]:
    """Make extraction time how long it waits for each batch of images; return the list of these seconds."""
    waits: list[float] = []
    batches_of = extraction.batches

    def timed(*arguments: Any, **keywords: Any) -> Iterator[Any]:
        items = iter(batches_of(*arguments, **keywords))
        while True:
            start = perf_counter()
            item = next(items, None)
            waits.append(perf_counter() - start)
            if item is None:
                return
            yield item

    extraction.batches = timed
    return waits


def script(paths: list[Path], nets: list[nn.Module], options: argparse.Namespace) -> None:
    """Run what a plain script does: read every batch, and run each network on it."""
    loader = DataLoader(Script(paths), options.batch, num_workers=options.workers)
    with torch.inference_mode():
        for images in loader:
            for net in nets:
                net(images)


def read(root: Path, model: Backbone, keywords: dict) -> None:
    """Read and resize every image by our stream."""
    for _ in batches([stream_images(root, **keywords)], lambda image, _: model.preprocessing.fit(image)):
        pass


def table(result: dict) -> str:
    """Return what was measured, as text."""
    machine, options, rows = result["machine"], result["options"], result["rows"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load']:.1f}; {options['images']} JPEGs of "
        f"500 x 375, {options['workers']} workers, {result['threads']} threads, batches of {options['batch']}",
        LINE.format("", "images/s", "seconds", "min-max", "waiting", "n"),
    ]
    for name, row in rows.items():
        floor = rows[row["floor"]]["seconds"]
        ratios = [own / bare for own, bare in zip(row["seconds"], floor, strict=True)]
        rate = options["images"] / median(row["seconds"])
        span = f"{min(ratios):.2f}-{max(ratios):.2f}"
        waits = median(row["waiting"])
        lines.append(
            LINE.format(
                name, f"{rate:.0f}", f"{median(ratios):.2f} x", span, f"{waits:.0%}" if waits else "-", len(ratios)
            )
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
