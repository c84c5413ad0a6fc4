"""Time and peak memory of large inputs: many images, many layers, a large model, many fingerprints, long logs.

    python benchmarks/hard_use/load.py --out load.json
    python benchmarks/hard_use/load.py --only "10 000 images" "200 fingerprints"

Each case runs in a process of its own. `start` is its memory when everything is loaded, `peak` the most it took.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import cka_probe


def tiny_images(folder: Path, count: int) -> Path:
    """Write so many PNGs of 8 x 8 pixels, a thousand in a folder."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / "images" / f"{number // 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return folder / "images"


def small_model() -> nn.Module:
    """Return a model that costs next to nothing."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())


def many_images(count: int) -> Callable[[Path], Callable[[], object]]:
    """Return the case of a fingerprint of so many images, pooled, in batches of 64."""

    def case(folder: Path) -> Callable[[], object]:
        images, model = tiny_images(folder, count), small_model()
        return lambda: cka_probe.fingerprint(model, str(images), num=None, batch=64, layers="*", size=16)

    return case


def many_layers(folder: Path) -> Callable[[], object]:
    """Return the case of a comparison of 300 layers with 300."""
    torch.manual_seed(0)
    model = nn.Sequential(*(module for _ in range(150) for module in (nn.Linear(64, 64), nn.Tanh())))
    rows = torch.randn(256, 64)
    return lambda: cka_probe.compare(model, model, rows, layers="*", batch=64).save(folder / "result.json")


def large_model(count: int) -> Callable[[Path], Callable[[], object]]:
    """Return the case of Swin-v2-L at 480 pixels, with random weights, over so many images in batches of four."""

    def case(folder: Path) -> Callable[[], object]:
        import timm

        from cka_probe.models.backbone import Backbone

        model = timm.create_model("swinv2_large_window12_192", num_classes=0, img_size=480, window_size=15)
        images = torch.rand(count, 3, 480, 480)
        return lambda: cka_probe.fingerprint(Backbone(model, size=480), images, batch=4, forward_batch=1)

    return case


def many_fingerprints(permutations: int) -> Callable[[Path], Callable[[], object]]:
    """Return the case of 200 fingerprints of nine layers and 64 images: all 19 900 pairs."""

    def case(folder: Path) -> Callable[[], object]:
        rows = torch.randn(64, 32)
        paths = []
        for number in range(200):
            torch.manual_seed(number)
            model = nn.Sequential(*(nn.Linear(32, 32) for _ in range(9)))
            fingerprint = cka_probe.fingerprint(model, rows, layers="*", batch=32)
            paths.append(str(fingerprint.save(folder / f"{number}.fingerprint")))
        return lambda: cka_probe.compare_many(paths, permutations=permutations)

    return case


def long_log(folder: Path) -> Callable[[], object]:
    """Return the case of a page of a run that wrote a line each second for a week."""
    from cka_probe.report import report

    run = folder / "masked"
    run.mkdir()
    lines = (f"{step},0.001,{1 + 1 / step:.6g},{1 + 1 / step:.6g},0.1" for step in range(1, 7 * 86400 + 1))
    (run / "log.csv").write_text("step,lr,loss,masked,gradient\n" + "\n".join(lines) + "\n")
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    return lambda: report(folder)


RECIPE = {
    "name": "week",
    "architecture": "resnet18",
    "size": 32,
    "stages": {"masked": {"task": "masked", "data": "images", "steps": 7 * 86400, "batch": 1, "lr": 1e-3}},
}

CASES: dict[str, Callable[[Path], Callable[[], object]]] = {
    "10 000 images": many_images(10_000),
    "100 000 images": many_images(100_000),
    "300 layers": many_layers,
    "Swin-v2-L at 480 px, 8 images": large_model(8),
    "Swin-v2-L at 480 px, 32 images": large_model(32),
    "200 fingerprints": many_fingerprints(0),
    "200 fingerprints, 200 permutations": many_fingerprints(200),
    "a week of log lines": long_log,
}


def main() -> None:
    """Run each case in a process and print a line of JSON for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measured(options.here)))
        return
    rows = []
    for name in options.only:
        done = subprocess.run([sys.executable, __file__, "--here", name], capture_output=True, text=True, check=False)
        failed = {"case": name, "failed": done.stderr[-2000:]}
        rows.append(failed if done.returncode else json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1) + "\n")


def measured(name: str) -> dict[str, object]:
    """Return seconds and memory of a case, in MiB."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run = CASES[name](Path(folder))
        start = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20
        begin = time.perf_counter()
        run()
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return {"case": name, "seconds": round(seconds, 1), "start": start, "peak": peak}


if __name__ == "__main__":
    main()
