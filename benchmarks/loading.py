"""Images per second that two workers deliver: decoded again, decoded and kept, read back; and by torchvision.

    python benchmarks/loading.py --out loading.json
    python benchmarks/loading.py --rooms 2 --frames 4 --rounds 1      # does it run?

The images are procedural rooms of the bundled generator, JPEG of 320 x 240 unless asked otherwise. A row is one
epoch over all of them, from the start of its workers to the last batch; every row runs once a round, and a ratio is
of one round. Nothing is asserted. See README.md.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from machine import describe
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from cka_probe.lab.datasets.cache import DecodedCache
from cka_probe.lab.scenes import Settings, make_scenes
from cka_probe.lab.training.sampling import AugmentedDataset, Samples, batches, step_batches

FLOOR = "torchvision ImageFolder"
IMAGES, SEQUENCES = frozenset({"image"}), frozenset({"image", "sources", "source_T_target", "K"})
LINE = "{:<38} {:>10} {:>6} {:>11} {:>2} {:>7} {:>6}"


class Untouched:
    """A task that takes samples as they are read: what is measured is the reading."""

    def prepare(self, sample: dict, generator: torch.Generator, train: bool) -> dict:
        """Return the sample."""
        return sample


def main() -> None:
    """Measure, print, write."""
    options = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(make(Path(folder), options), options)
    result = {"machine": describe(), "options": vars(options), "rows": rows}
    print(table(result))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def make(folder: Path, options: argparse.Namespace) -> Path:
    """Return a folder of videos, a folder each, with camera and poses beside the images."""
    say(f"{options.rooms} rooms of {options.frames} images, {options.copies} times")
    settings = Settings("rooms", options.rooms, options.frames, options.size, test=0)
    root = make_scenes(folder / "rooms", settings)
    for truth in [*root.rglob("sync_depth_*.png"), *root.rglob("labels13_*.png")]:
        truth.unlink()  # of images alone it is a folder that torchvision and SC-Depth's reader both read
    videos = root / "nyu_depth_v2"
    for scene in list(videos.iterdir()):  # long epochs, for the start of the workers is part of each
        for number in range(1, options.copies):
            shutil.copytree(scene, scene.with_name(f"{scene.name}_{number}"))
    return videos


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", type=int, default=12)
    parser.add_argument("--copies", type=int, default=8, help="of each room, files of their own")
    parser.add_argument("--frames", type=int, default=12, help="images of each room, a video")
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="JSON with every time")
    return parser.parse_args()


def measure(root: Path, options: argparse.Namespace) -> dict[str, dict]:
    """Return images and seconds by row; the floor goes first in one round and last in the next."""
    rows: dict[str, dict] = {}
    for number in range(options.rounds + 1):
        runs = [lambda: torchvision_epoch(root, options), lambda: our_epochs(root, options)]
        for run in runs if number % 2 else reversed(runs):
            for name, images, seconds, processor in run():
                row = rows.setdefault(name, {"images": images, "seconds": [], "processor_seconds": []})
                if number:  # the first round fetches the files from the disk and is not counted
                    row["seconds"].append(seconds)
                    row["processor_seconds"].append(processor)
        say(f"round {number} of {options.rounds}")
    return {FLOOR: rows.pop(FLOOR), **rows}


def torchvision_epoch(root: Path, options: argparse.Namespace) -> list[tuple[str, int, float, float]]:
    """Return name, images, seconds and processor seconds of an epoch of torchvision's own loading."""
    to_floats = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    folder = ImageFolder(root, to_floats)
    loader = DataLoader(folder, options.batch, shuffle=True, num_workers=options.workers)
    return [(FLOOR, *epoch(lambda: (len(images) for images, _ in loader)))]


def our_epochs(root: Path, options: argparse.Namespace) -> list[tuple[str, int, float, float]]:
    """Return name, images, seconds and processor seconds of our epochs: without a cache, filling it, and from it."""
    found = []
    for what, query, needs in (("images", "", IMAGES), ("sequences of 3", "?sources=-1,1", SEQUENCES)):
        for kept in (None, DecodedCache()):
            samples = Samples([f"scdepth:{root}{query}"], needs, kept)
            views, count = AugmentedDataset(samples, Untouched(), 0, train=True), len(samples)
            names = ("cache, first epoch", "cache, second epoch") if kept else ("no cache",)
            for number, name in enumerate(names):
                steps = step_batches(range(number * count, (number + 1) * count), options.batch, 0, 1)
                loader = batches(views, steps, options.workers, pin=False)
                found.append((f"{what}, {name}", *epoch(lambda loader=loader: map(images_of, loader))))
    return found


def images_of(batch: dict[str, torch.Tensor]) -> int:
    """Return how many images a batch brings."""
    return len(batch["image"]) * (1 + (batch["sources"].shape[1] if "sources" in batch else 0))


def epoch(load: Callable[[], Iterable[int]]) -> tuple[int, float, float]:
    """Return the number of images of an epoch, the seconds it took, and those of all cores together."""
    start, used, images = perf_counter(), processor_seconds(), 0
    for count in load():
        images += count
    return images, perf_counter() - start, processor_seconds() - used


def processor_seconds() -> float:
    """Return the processor time of this process and of those it has ended: others' load does not change it much."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def table(result: dict) -> str:
    """Return what was measured, as text."""
    machine, options, rows = result["machine"], result["options"], result["rows"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load']:.1f}; {options['workers']} workers, "
        f"batches of {options['batch']}, {options['size'][1]}x{options['size'][0]} JPEG",
        LINE.format("an epoch of", "images/s", "ratio", "min-max", "n", "CPU ms", "ratio"),
    ]
    for name, row in rows.items():
        rates = [row["images"] / seconds for seconds in row["seconds"]]
        floor = [rows[FLOOR]["images"] / seconds for seconds in rows[FLOOR]["seconds"]]
        ratios = [rate / bare for rate, bare in zip(rates, floor, strict=True)]
        span = f"{min(ratios):.2f}-{max(ratios):.2f}"
        bare = median(rows[FLOOR]["processor_seconds"]) / rows[FLOOR]["images"]
        cost = median(row["processor_seconds"]) / row["images"]
        lines.append(
            LINE.format(
                name, f"{median(rates):.0f}", f"{median(ratios):.2f}", span, len(ratios), f"{1000 * cost:.2f}",
                f"{cost / bare:.2f}",
            )
        )  # fmt: skip
    return "\n".join(lines)


def say(line: str) -> None:
    """Tell how far it is."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
