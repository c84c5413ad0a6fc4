"""Attributions of a few checkpoints over twelve images, with numbers that a test chooses."""

import numpy as np
import pandas as pd

from cka_probe.attribution.alignment import ZERO
from cka_probe.attribution.attributions import AVERAGED, COLUMNS, UNLABELLED, Attributions

IMAGES = 12


def model(name, size=(64, 96)):
    return {
        "reference": f"{name}.safetensors", "hash": name, "architecture": "resnet18", "task": "segmentation",
        "size": list(size), "layer": "act1", "layer_size": [side // 2 for side in size], "view": "whole",
    }  # fmt: skip


def rows(name, seed, zero=(), labels=True):
    random = np.random.default_rng(seed)
    numbers = {column: random.random(IMAGES) for column in AVERAGED if column != "zero"}
    numbers |= {"boundary": np.full(IMAGES, 100.0), "counted": np.full(IMAGES, 1000.0), "score": np.ones(IMAGES)}
    numbers["chance"], numbers["zero"] = np.linspace(0.1, 0.2, IMAGES), np.isin(np.arange(IMAGES), zero) * 1.0
    words = {"predicted": [""] * IMAGES, "undefined": [ZERO if i in zero else "" for i in range(IMAGES)]}
    for column in ("ap", "correlation"):
        numbers[column][list(zero)] = np.nan
    if not labels:
        words["undefined"] = [UNLABELLED] * IMAGES
        numbers |= {column: np.full(IMAGES, np.nan) for column in AVERAGED if column != "zero"}
    named = {"checkpoint": [name] * IMAGES, "image": [f"street/{i:03d}.png" for i in range(IMAGES)]}
    return pd.DataFrame(named | numbers | words)[list(COLUMNS)]


def attributions(*tables, labels=True, **settings):
    table = pd.concat(tables, ignore_index=True)
    names = list(dict.fromkeys(table["checkpoint"]))
    data = {"source": "kitti_semantics:streets", "hash": "abc", "num": IMAGES, "labels": labels}
    settings = {"layer": "first", "target": "segmentation", "tolerance": 1.0, "resamples": 200, "seed": 0} | settings
    return Attributions(table, {name: model(name) for name in names}, data, settings, {"cka-probe": "0"})
