"""Frames per second of the generator on one core, what they are spent on, and that memory does not grow.

    OMP_NUM_THREADS=1 python benchmarks/scenes.py --out scenes.json
    OMP_NUM_THREADS=1 python benchmarks/scenes.py --scenes 2 --rounds 1      # does it run?

A frame is an image of 128 x 96 pixels, anti-aliased by 2 x 2 rays, with every truth about it; its stereo partner is
a second image and a row of its own. Rows take turns, one after the other in every round. See README.md.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from statistics import median
from time import perf_counter

from machine import describe

from cka_probe.lab.scenes import SCENES, Scene, see, shading, view

ROWS: dict[str, Callable[[Scene, tuple[int, int]], object]] = {
    "image alone": lambda scene, size: view.image(scene, view.tabulate(scene), scene.camera.poses[0], size),
    "image and truth": lambda scene, size: see(scene, 0, size),
    "... and flow": lambda scene, size: see(scene, 0, size, flow=True),
    "... and stereo partner": lambda scene, size: see(scene, 0, size, flow=True, partner=True),
}
PARTS = {
    "rays to the scene": (view, "cast"),
    "patterns": (shading, "_paint"),
    "rays to the light": (shading, "_hidden"),
    "points and normals": (view, "on_surfaces"),
}
LINE = "{:<8} {:<23} {:>9} {:>15} {:>10}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=24, help="of each kind")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="128x96")
    parser.add_argument("--out", help="JSON to write")
    options = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("expected one thread, since it is one core that is measured: set OMP_NUM_THREADS=1")
    size = tuple(int(part) for part in reversed(options.size.split("x")))
    result = {
        "machine": describe(),
        "options": vars(options),
        "kinds": {kind: measure(kind, size, options) for kind in SCENES},
        "memory": {number: peak(number) for number in (4, 40)},
    }
    print(table(result))
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def measure(kind: str, size: tuple[int, int], options: argparse.Namespace) -> dict:
    """Return seconds a frame by row and round, seconds of drawing a scene, and the shares of the parts."""
    start = perf_counter()
    scenes = [SCENES[kind](0, index, 2) for index in range(options.scenes)]
    drawn = (perf_counter() - start) / len(scenes)
    for scene in scenes[:2]:
        see(scene, 0, size, flow=True, partner=True)  # what is made once: noise, arrays
    seconds: dict[str, list[float]] = {row: [] for row in ROWS}
    for number in range(options.rounds):
        turn = number % len(ROWS)
        for row in [*ROWS][turn:] + [*ROWS][:turn]:
            start = perf_counter()
            for scene in scenes:
                ROWS[row](scene, size)
            seconds[row].append((perf_counter() - start) / len(scenes))
        print(f"  {kind}: round {number + 1}/{options.rounds}", file=sys.stderr, flush=True)
    return {"draw": drawn, "seconds": seconds, "shares": shares(scenes, size)}


def shares(scenes: list[Scene], size: tuple[int, int]) -> dict[str, float]:
    """Return which share of a frame with truth and flow each part takes."""
    spent: Counter[str] = Counter()
    before = {name: getattr(*place) for name, place in PARTS.items()}
    for name, (module, function) in PARTS.items():
        setattr(module, function, timed(before[name], name, spent))
    start = perf_counter()
    for scene in scenes:
        see(scene, 0, size, flow=True)
    whole = perf_counter() - start
    for name, place in PARTS.items():
        setattr(*place, before[name])
    return {name: spent[name] / whole for name in PARTS}


def timed(function: Callable, name: str, spent: Counter[str]) -> Callable:
    """Return a function that notes how long it took."""

    @wraps(function)
    def run(*args: object, **options: object) -> object:
        start = perf_counter()
        given = function(*args, **options)
        spent[name] += perf_counter() - start
        return given

    return run


def peak(number: int) -> float:
    """Return the peak memory, in MiB, of a fresh process that writes so many scenes of three frames."""
    code = (
        "import resource, sys, tempfile; from cka_probe.lab.scenes import Settings, make_scenes\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        f"    make_scenes(folder + '/x', Settings('rooms', {number}, 3, (96, 128)))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def table(result: dict) -> str:
    """Return it all as text."""
    lines = [LINE.format("kind", "row", "ms", "range", "frames/s")]
    for kind, found in result["kinds"].items():
        for row, seconds in found["seconds"].items():
            ms = [1000 * one for one in seconds]
            span = f"{min(ms):.1f} to {max(ms):.1f}"
            lines.append(LINE.format(kind, row, f"{median(ms):.1f}", span, f"{1000 / median(ms):.1f}"))
        parts = ", ".join(f"{name} {share:.0%}" for name, share in found["shares"].items())
        lines.append(f"         drawing a scene {1000 * found['draw']:.1f} ms; of '... and flow': {parts}")
    few, many = result["memory"].items()
    lines.append(f"peak memory of writing {few[0]} and {many[0]} scenes: {few[1]:.0f} and {many[1]:.0f} MiB")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
