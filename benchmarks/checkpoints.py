"""Twelve checkpoints, all against all: twelve forward passes, or 66 times two.

Each model makes its fingerprint once; pairs are compared from the fingerprints. The floor is twelve bare
forward passes over the same images.
"""

import sys
from itertools import combinations_with_replacement
from statistics import median

import torch
from rivals import floor
from rounds import stopwatch
from torch import nn
from workloads import RECIPES, TEN, Workload, make_model, make_workload

from cka_probe import Backbone, compare_fingerprints, fingerprint

CHECKPOINTS = 12


def time_checkpoints(*, images: str, seed: int, rounds: int, quick: bool) -> dict:
    """Return the cost of 12 fingerprints and all 78 pairs (66, and each with itself) over 12 forward passes.

    Args:
        images: `1/f` or `noise`.
        seed: Of the first model; the others follow.
        rounds: How often, after a warm-up.
        quick: As of the workload.
    """
    workload = make_workload("resnet10", images=images, seed=seed, quick=quick).first(4)
    models = [make_model(RECIPES["resnet10"], seed + number) for number in range(CHECKPOINTS)]
    _round(workload.first(1), models)
    found = []
    for number in range(rounds):
        found.append(_round(workload, models))
        print(f"  round {number + 1}/{rounds}: {found[-1]}", file=sys.stderr, flush=True)
    prints, pairs, bare_pairs = ("fingerprints", "pairs", "pairs_without_null")
    return {
        "title": f"{CHECKPOINTS} ResNet-18 x {len(TEN)} layers, {sum(map(len, workload.images))} images, 78 pairs",
        "seconds": found,
        "ratios": [(one[prints] + one[pairs]) / one["floor"] for one in found],
        "ratios_without_null": [(one[prints] + one[bare_pairs]) / one["floor"] for one in found],
        "median_ratio": median((one[prints] + one[pairs]) / one["floor"] for one in found),
        "median_ratio_without_null": median((one[prints] + one[bare_pairs]) / one["floor"] for one in found),
    }


def _round(workload: Workload, models: list[nn.Module]) -> dict[str, float]:
    """Return the seconds of each part, once."""
    # the floor of two models at a time, for six pairs of them
    bare = [Workload(**vars(workload) | {"models": (x, y)}) for x, y in zip(models[::2], models[1::2], strict=True)]
    seconds, _ = stopwatch(lambda: [floor(two) for two in bare])
    images = torch.cat(workload.images)
    batch = len(workload.images[0])
    made, prints = stopwatch(
        lambda: [
            fingerprint(Backbone(model, size=workload.size), images, layers=workload.spec, batch=batch)
            for model in models
        ]
    )
    pairs = list(combinations_with_replacement(prints, 2))
    compared, _ = stopwatch(lambda: [compare_fingerprints(x, y) for x, y in pairs])
    compared_bare, _ = stopwatch(lambda: [compare_fingerprints(x, y, permutations=0) for x, y in pairs])
    return {"floor": seconds, "fingerprints": made, "pairs": compared, "pairs_without_null": compared_bare}
