"""Comparisons and training on one GPU: one command, at most ten minutes on an H100 or H200.

    python benchmarks/gpu.py --out gpu.json        # gpu.json and gpu.md
    python benchmarks/gpu.py --toy --out toy.json  # on a CPU, with tiny models: does it run?

Time is over the bare forward passes in float32 without TF32, as in compare.py. Nothing is asserted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from files import write_images
from machine import describe
from rivals import TOOLS, Tool, device_of, floor
from rounds import stopwatch, time_tools
from workloads import Recipe, Workload, make_workload

from cka_probe import Backbone, compare
from cka_probe.models.devices import full_float32

STILL, WIDE = {"zero_init_last": False}, {"img_size": 480, "window_size": 15}
CASES = (
    Recipe("Swin-v2-L, 192 pixels, {} layers", "swinv2_large_window12_192", {}, None, 8, 64, 192),
    Recipe("Swin-v2-L, 480 pixels, {} layers", "swinv2_large_window12_192", WIDE, None, 4, 32, 480),
    Recipe("ResNet-50, {} layers", "resnet50", STILL, None, 16, 64, 224),
    Recipe("ResNet-50, all {} leaf modules", "resnet50", STILL, "*", 16, 64, 224),
    Recipe("ViT-L/14, {} layers", "vit_large_patch14_224", {}, None, 8, 64, 224),
)  # fmt: skip
SMALL = {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8)}
TOYS = (
    Recipe("Swin-v2, 64 pixels, {} layers", "swinv2_tiny_window8_256", SMALL, None, 2, 8, 64),
    Recipe("ResNet-10, {} layers", "resnet10t", STILL, None, 2, 8, 64),
    Recipe("ResNet-10, all {} leaf modules", "resnet10t", STILL, "*", 2, 8, 64),
    Recipe("ViT-Ti/16, {} layers", "vit_tiny_patch16_224", {"img_size": 64}, None, 2, 8, 64),
)
COLUMNS = ("images/s", "over bare", "GPU busy", "peak memory (GiB)", "largest change of a cell")


def main() -> None:
    """Measure, print, write."""
    options = parse()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    TOOLS["floor-tf32"] = Tool("bare forward passes, TF32", "", floor_tf32, "TF32 for matrix products and convolutions")
    TOOLS["floor-bfloat16"] = Tool("bare forward passes, bfloat16", "", floor_bfloat16, "under autocast")
    result = {"machine": describe(), "gpu": gpu_name(options), "cases": []}
    for recipe in TOYS if options.toy else CASES:
        result["cases"].append(measure(recipe, options))
        print(case_table(result["cases"][-1]), flush=True)
    result["training"] = train(options)
    text = markdown(result)
    print(text)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        options.out.with_suffix(".md").write_text(text + "\n", "utf-8")


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toy", action="store_true", help="tiny models on the CPU, to see that all of it runs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON; the table goes next to it as .md")
    options = parser.parse_args()
    options.device = "cpu" if options.toy else "cuda"
    if not options.toy and not torch.cuda.is_available():
        parser.error("there is no CUDA GPU here; --toy runs on the CPU")
    return options


def gpu_name(options: argparse.Namespace) -> str:
    """Return the name of the GPU, or that this is none."""
    return "toy, CPU" if options.toy else torch.cuda.get_device_name()


def floor_bfloat16(workload: Workload) -> None:
    """Run the bare forward passes under autocast."""
    with torch.autocast(device_of(workload), torch.bfloat16):
        floor(workload)


def floor_tf32(workload: Workload) -> None:
    """Run the bare forward passes in TF32."""
    with full_float32(torch.device(device_of(workload)), tf32=True):
        floor(workload)


def measure(recipe: Recipe, options: argparse.Namespace) -> dict:
    """Return what every tool did on one pair of models, from memory and, for ours, from files."""
    workload = make_workload(recipe, images="1/f", seed=0)
    workload = replace(workload, models=tuple(model.to(options.device) for model in workload.models))
    lower = ["bfloat16"] if options.toy else ["tf32", "bfloat16"]
    tools = ["floor", *(f"floor-{name}" for name in lower), "ours", *(f"ours-{name}" for name in lower)]
    tools += ["pytorch-cka", "torch_cka-no-grad"]
    measured = time_tools(workload, tools, options.rounds)
    images = sum(map(len, workload.images))
    exact = measured["ours"]
    rows = {}
    for tool, one in measured.items():
        rows[TOOLS[tool].label()] = row = {"error": one.error}
        if one.ratios:
            count = len(workload.images[0]) if one.batches else images  # a hopeless tool ran one batch
            row["images/s"] = count / median(one.seconds.values())
            row["over bare"] = median(one.ratios)
        if tool.startswith("ours"):
            row |= watched(workload, tool, options)
        if tool.startswith("ours-") and one.batches == exact.batches and not (one.error or exact.error):
            row["largest change of a cell"] = float((one.matrix - exact.matrix).abs().max())
    rows["cka_probe, from JPEGs"] = {"images/s": rate_of_files(workload, recipe, options)}
    return {"title": workload.title, "images": images, "size": workload.size, "rows": rows}


def watched(workload: Workload, tool: str, options: argparse.Namespace) -> dict[str, float]:
    """Return the share of time in which a GPU computes, and its peak memory above the models; nothing of a CPU."""
    if options.device == "cpu":
        return {}
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        seconds, _ = stopwatch(lambda: TOOLS[tool].run(workload))
    busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
    return {"GPU busy": busy / seconds, "peak memory (GiB)": (torch.cuda.max_memory_allocated() - before) / 2**30}


def rate_of_files(workload: Workload, recipe: Recipe, options: argparse.Namespace) -> float:
    """Return images per second from JPEGs of 500 x 375, decoded and resized; the median of the rounds."""
    count = len(workload.images) * len(workload.images[0])
    sides = [Backbone(model, size=workload.size) for model in workload.models]
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), count)
        seconds = [
            stopwatch(lambda: compare(*sides, folder, layers=workload.spec, batch=recipe.batch, num=None))[0]
            for _ in range(options.rounds)
        ]
    return count / median(seconds)


def train(options: argparse.Namespace) -> dict:
    """Return the rows of training.py: images per second of each stage, and of forward and backward alone."""
    large = "--device cuda --precision bf16 --architecture swinv2_base --size 192 --batch 64 --workers 12 --steps 10"
    words = "--steps 2 --scenes 2 --batch 4 --only masked classification" if options.toy else f"{large} --scenes 12"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "training.json"
        script = Path(__file__).with_name("training.py")
        subprocess.run([sys.executable, script, *words.split(), "--rounds", "1", "--out", out], check=True)
        rows: dict = json.loads(out.read_text("utf-8"))["rows"]
    return rows


def case_table(case: dict) -> str:
    """Return the rows of one pair of models as Markdown."""
    lines = [f"### {case['title']}, {case['images']} images", "", f"| | {' | '.join(COLUMNS)} |", "|---|" + "--:|" * 5]
    for name, row in case["rows"].items():
        cells = [f"{row[column]:.3g}" if row.get(column) is not None else "-" for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |" + (f" {row['error']}" if row.get("error") else ""))
    return "\n".join([*lines, ""])


def markdown(result: dict) -> str:
    """Return everything as Markdown."""
    machine = result["machine"]
    lines = [f"# {result['gpu']}", "", f"{machine['processor']}, {machine['cores']} cores; {machine['versions']}", ""]
    lines += map(case_table, result["cases"])
    lines += ["### Training", "", "| stage | images/s | forward and backward alone |", "|---|--:|--:|"]
    for name, row in result["training"].items():
        lines.append(f"| {name} | {median(row['trained']):.1f} | {median(row['bare']):.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
