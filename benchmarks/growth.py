"""How the cost of a comparison grows with images, layers and models, measured at small sizes and extrapolated.

Seconds are fitted by `a + b x` (images, layers) and `a + b x + c x (x - 1) / 2` (models, each pair once), without
negative coefficients. What lies beyond the measured sizes is an extrapolation: a machine that runs out of memory,
or reads images slower than from memory, is not in it. Processes of `torchrun` have one thread each.

With `--fingerprints 50`: seconds and peak memory of every two of 50 fingerprints of 12 layers over 512 images, in
batches of 64, with intervals and the null of 200 permutations, and of `ckaprobe atlas` of their files, page and figures
included. They are those of random networks, the same in every run.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import timm
import torch
from machine import describe
from rounds import stopwatch
from scipy.optimize import nnls
from torch import nn

from cka_probe import Fingerprint, compare, fingerprint
from cka_probe.comparison.atlas import compare_many
from cka_probe.comparison.compare import compare_all
from cka_probe.comparison.ranks import joined

SIZE = 64
LAYERS = 10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--fingerprints", type=int, default=0, help="compare every two of so many, and nothing else")
    parser.add_argument("--of-torchrun", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--of-folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.of_torchrun:
        time_process(options.rounds)
        return
    if options.of_folder:
        compare_folder(options.of_folder)
        return
    if options.fingerprints:
        print(describe(), f"{torch.get_num_threads()} threads", end="\n\n")
        time_fingerprints(options.fingerprints, options.rounds)
        return
    print(describe(), f"{torch.get_num_threads()} threads", end="\n\n")
    print(f"ResNet-18 of {SIZE} px on tensors, {LAYERS} layers, 256 images and two models where these are not varied\n")
    print("| | measured | fit | at |\n|---|---|---|---|")
    models = [network(seed) for seed in range(8)]
    names = leaves(models[0])

    def run(images: int = 256, layers: int = LAYERS, count: int = 2) -> None:
        pixels, spec = random_images(images), spread(names, layers)
        if count == 2:
            compare(*models[:2], pixels, layers=spec, size=SIZE, num=images)
        else:
            compare_many(models[:count], pixels, layers=spec, size=SIZE, num=images)

    row("images", [128, 256, 512, 1024], lambda images: run(images=images), 10**6, options.rounds)
    row("layers", [4, 10, 20, 60], lambda layers: run(layers=layers), 300, options.rounds)
    row("models", [2, 4, 6, 8], lambda count: run(count=count), 1000, options.rounds, pairs=True)
    spent = {count: median(seconds_of_processes(count, options.rounds)) for count in options.processes}
    measured = ", ".join(f"{count}: {seconds:.2f} s" for count, seconds in spent.items())
    print(f"| processes of one thread | {measured} | | |")


def time_fingerprints(count: int, rounds: int) -> None:
    """Print seconds and peak memory of all pairs of fingerprints, and of their atlas; processes of their own."""
    print("| | seconds, by round | peak MiB |\n|---|---|---|")
    with TemporaryDirectory() as folder:
        images = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
        for number in range(count):
            torch.manual_seed(number)
            net = nn.Sequential(*(part for _ in range(12) for part in (nn.Linear(64, 64), nn.Tanh())))
            layers = [str(2 * layer + 1) for layer in range(12)]
            fingerprint(net, images, layers=layers).save(Path(folder) / f"{number:03}.fingerprint")
        files = sorted(map(str, Path(folder).glob("*.fingerprint")))
        out = Path(folder) / "atlas"
        commands = {
            f"all {count * (count - 1) // 2} pairs": [sys.executable, __file__, "--of-folder", folder],
            "`ckaprobe atlas`": [
                sys.executable, "-m", "ckaprobe_cli", "atlas", *files, "--out", str(out), "--force", "--quiet"
            ],
        }  # fmt: skip
        for name, command in commands.items():
            spent = []
            for _ in range(rounds):
                start = perf_counter()
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                whole = perf_counter() - start
                spent.append(float(done.stdout) if "--of-folder" in command else whole)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024  # of the largest process so far
            print(f"| {name} | {', '.join(f'{seconds:.1f}' for seconds in spent)} | {peak} |", flush=True)
        print(f"\nThe page has {(out / 'index.html').stat().st_size / 1e6:.1f} MB.")


def compare_folder(folder: Path) -> None:
    """Print the seconds of the comparisons of every two fingerprints in a folder, once they are read."""
    prints = [Fingerprint.load(path) for path in sorted(folder.glob("*.fingerprint"))]
    print(stopwatch(lambda: sum(1 for _ in compare_all(prints)))[0])


def time_process(rounds: int) -> None:
    """Compare two models with the other processes of torchrun; the first prints the seconds of each round."""
    models = [network(seed) for seed in range(2)]
    run = partial(compare, *models, random_images(256), layers=spread(leaves(models[0]), LAYERS), size=SIZE)
    with joined():
        spent = [stopwatch(run)[0] for _ in range(rounds + 1)][1:]
    if os.environ["RANK"] == "0":
        print(json.dumps(spent))


def seconds_of_processes(count: int, rounds: int) -> list[float]:
    """Return the seconds of each round of so many processes."""
    launch = ["-m", "torch.distributed.run", f"--nproc-per-node={count}", __file__, "--of-torchrun"]
    done = subprocess.run(
        [sys.executable, *launch, "--rounds", str(rounds)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def random_images(count: int) -> torch.Tensor:
    """Return uniform noise, (count, 3, SIZE, SIZE)."""
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def leaves(model: nn.Module) -> list[str]:
    """Return the first 60 modules that have none in them."""
    return [name for name, module in model.named_modules() if not [*module.children()]][:60]


def spread(names: Sequence[str], layers: int) -> list[str]:
    """Return so many of the names, spread evenly."""
    step = len(names) // layers
    return list(names[step - 1 :: step][:layers])


def network(seed: int) -> nn.Module:
    """Return a random ResNet-18."""
    torch.manual_seed(seed)
    return timm.create_model("resnet18").eval()


def row(
    name: str, sizes: Sequence[int], run: Callable[[int], None], far: int, rounds: int, pairs: bool = False
) -> None:
    """Print the medians at some sizes, their fit, and what that says of a size far beyond."""
    run(sizes[0])
    spent = {size: [stopwatch(partial(run, size))[0] for _ in range(rounds)] for size in sizes}
    seconds = [median(spent[size]) for size in sizes]

    def terms(size: int) -> list[float]:
        return [1.0, size, size * (size - 1) / 2] if pairs else [1.0, size]

    weights, _ = nnls(np.array([terms(size) for size in sizes]) / np.array(seconds)[:, None], np.ones(len(sizes)))
    fit = " + ".join(f"{weight:.3g}{unit}" for weight, unit in zip(weights, (" s", f" {name}", " pairs"), strict=False))
    measured = ", ".join(f"{size}: {second:.2f} s" for size, second in zip(sizes, seconds, strict=True))
    print(f"| {name} | {measured} | {fit} | {far:,}: {float(weights @ terms(far)) / 3600:.2g} h |", flush=True)


if __name__ == "__main__":
    main()
