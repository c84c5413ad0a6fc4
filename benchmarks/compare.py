"""Speed, memory and truth of cka_probe beside every CKA package of PyPI that runs.

    python benchmarks/compare.py                    # all of it, about a quarter of an hour on two cores
    python benchmarks/compare.py --quick            # two small batches: does it run?
    python benchmarks/compare.py --only swin9 --images noise --rounds 7

Time is over "the floor": the bare forward passes of both models over the same images, with empty hooks on the
same layers. Everything from call to result counts. Tools run in one process, one after the other in every round;
a ratio is of one round; the table shows its median and range. Numbers are reported, never asserted.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from checkpoints import time_checkpoints
from machine import describe
from memory import peak_of
from report import checkpoints_table, head, speed_table
from rivals import TOOLS
from rounds import Measured, judge, time_tools
from workloads import RECIPES, make_workload

SECTIONS = (*RECIPES, "checkpoints")


def main() -> None:
    """Measure what is asked for, print the tables and write the raw numbers."""
    asked = _asked()
    torch.set_num_threads(asked.threads)
    result = {"machine": describe(), "options": vars(asked) | {"out": str(asked.out)}, "workloads": {}}
    print(head(result))
    for name in asked.only:
        if name in RECIPES:
            result["workloads"][name] = _workload(name, asked)
            print(speed_table(result["workloads"][name]), flush=True)
    if "checkpoints" in asked.only:
        _say("checkpoints")
        result["checkpoints"] = time_checkpoints(
            images=asked.images, seed=asked.seed, rounds=asked.rounds, quick=asked.quick
        )
        print(checkpoints_table(result["checkpoints"]))
    if asked.out:
        asked.out.write_text(json.dumps(result, indent=1) + "\n")
        print(asked.out)


def _workload(name: str, asked: argparse.Namespace) -> dict:
    """Return one workload's rows."""
    workload = make_workload(name, images=asked.images, seed=asked.seed, quick=asked.quick)
    _say(workload.title)
    measured = time_tools(workload, asked.tools, asked.rounds)
    judge(measured, workload)
    shape = "x".join(map(str, workload.images[0].shape))
    rows = {
        tool: {"label": TOOLS[tool].label(), "note": TOOLS[tool].note, **one.recorded()}
        for tool, one in measured.items()
    }
    if asked.memory:
        for tool, row in rows.items():
            row["memory"] = _memory(name, tool, measured[tool], asked)
    found = {
        "title": f"{workload.title}, {len(workload.images)} batches of {shape}",
        "layers": workload.layers,
        "rows": rows,
    }
    both = [measured[tool].matrix for tool in ("ours", "ours-bfloat16") if tool in measured]
    if len(both) == 2 and all(matrix is not None for matrix in both):
        found["largest_change_bfloat16"] = float((both[0] - both[1]).abs().max())
    return found


def _memory(name: str, tool: str, one: Measured, asked: argparse.Namespace) -> dict:
    """Return the peak memory of one tool; a slow one gets one process, a failed or hopeless one none."""
    if not one.seconds:
        return {"error": one.error}
    _say(f"  memory: {tool}")
    if one.batches:
        return {}
    slow = len(one.seconds) < min(asked.rounds, 2)
    return peak_of(
        name,
        tool,
        images=asked.images,
        seed=asked.seed,
        threads=asked.threads,
        batches=2,
        repeats=1 if slow else asked.memory,
    )


def _asked() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="parts to measure")
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS), help="floor is always there")
    parser.add_argument("--rounds", type=int, default=5, help="times each tool runs")
    parser.add_argument("--memory", type=int, default=3, metavar="PROCESSES", help="per tool; 0 for none")
    parser.add_argument("--images", choices=("1/f", "noise"), default="1/f")
    parser.add_argument("--seed", type=int, default=0, help="of models and images")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--quick", action="store_true", help="two batches of eight, to see that all of it runs")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.json", help="raw numbers")
    asked = parser.parse_args()
    asked.tools = ["floor", *(tool for tool in asked.tools if tool != "floor")]
    return asked


def _say(line: str) -> None:
    """Tell how far it is."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
