"""Twelve checkpoints, all against all: twelve forward passes, or 66 times two.

`compare_many` runs each model once and compares every two. The floor is twelve bare forward passes over the same
images.
"""

import sys
from statistics import median

import torch
from rivals import floor
from rounds import stopwatch
from torch import nn
from workloads import RECIPES, TEN, Workload, make_model, make_workload

from cka_probe import Backbone
from cka_probe.comparison.atlas import compare_many

CHECKPOINTS = 12


def time_checkpoints(*, images: str, seed: int, rounds: int, quick: bool) -> dict:
    """Return the cost of 12 models and all 66 pairs over 12 forward passes.

    Args:
        images: `1/f` or `noise`.
        seed: Of the first model; the others follow.
        rounds: How often, after a warm-up.
        quick: As of the workload.
    """
    workload = make_workload("resnet10", images=images, seed=seed, quick=quick).first(4)
    models = [make_model(RECIPES["resnet10"], seed + number) for number in range(CHECKPOINTS)]
    _round(workload.first(1), models)
    seconds = []
    for number in range(rounds):
        seconds.append(_round(workload, models))
        print(f"  round {number + 1}/{rounds}: {seconds[-1]}", file=sys.stderr, flush=True)
    ratios = {part: [one[part] / one["floor"] for one in seconds] for part in ("all", "without_null")}
    return {
        "title": f"{CHECKPOINTS} ResNet-18 x {len(TEN)} layers, {sum(map(len, workload.images))} images, 66 pairs",
        "seconds": seconds,
        "ratios": ratios["all"],
        "ratios_without_null": ratios["without_null"],
        "median_ratio": median(ratios["all"]),
        "median_ratio_without_null": median(ratios["without_null"]),
    }


def _round(workload: Workload, models: list[nn.Module]) -> dict[str, float]:
    """Return the seconds of each part, once."""
    # the floor of two models at a time, for six pairs of them
    bare = [Workload(**vars(workload) | {"models": (x, y)}) for x, y in zip(models[::2], models[1::2], strict=True)]
    images, batch = torch.cat(workload.images), len(workload.images[0])
    backbones = [Backbone(model, size=workload.size) for model in models]

    def compare(permutations: int) -> float:
        return stopwatch(
            lambda: compare_many(backbones, images, layers=workload.spec, batch=batch, permutations=permutations)
        )[0]

    seconds, _ = stopwatch(lambda: [floor(two) for two in bare])
    return {"floor": seconds, "all": compare(200), "without_null": compare(0)}
