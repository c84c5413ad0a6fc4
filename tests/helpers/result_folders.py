"""Small real folders of results, as the commands leave them, for tests of pages."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

import cka_probe
from cka_probe.attribution.attributions import COLUMNS, NUMBERS, Attributions
from cka_probe.comparison.atlas import Atlas
from cka_probe.comparison.compare import fingerprints
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.lab.training import read_recipe
from cka_probe.lab.training.run import write_recipe
from cka_probe.lab.training.trainer import Log
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint
from cka_probe.models.load import wrap

VERSIONS = {"cka-probe": "0.1.0"}


def network(seed: int, width: int = 4) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 5, 3))


def comparison(folder: Path, *, layers=("0", "1", "2"), layers_y=None, save_prints=True, width=4):
    """Write what `ckaprobe compare` does, but for its figures; return the result."""
    torch.manual_seed(3)
    images = torch.rand(24, 3, 10, 10)
    prints = fingerprints(
        network(0), network(1, width), images, layers=list(layers), layers_y=list(layers_y or layers), batch=12
    )
    result = cka_probe.compare_fingerprints(*prints, permutations=20)
    result.save(folder / "result.json")
    for side, fingerprint in zip("xy", prints, strict=True):
        if save_prints:
            fingerprint.save(folder / f"{side}.fingerprint")
    return result


def atlas(folder: Path, count: int = 3, *, widths: tuple[int, ...] = (4,)) -> Atlas:
    """Write what `ckaprobe compare` of several models does, but for its figures; return it."""
    images = torch.rand(24, 3, 10, 10, generator=torch.Generator().manual_seed(3))
    models = {f"step_{seed}": network(seed, widths[seed % len(widths)]) for seed in range(count)}
    result = cka_probe.compare_many(models, images, layers=["0", "1", "2"], batch=12, permutations=20)
    result.save_folder(folder)
    return result


def strip(folder: Path, count: int = 3) -> None:
    """Write a strip of thumbnails."""
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96 * count, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "images.jpg")


def run(folder: Path, *, finished=("masked", "depth")):
    """Write the files of a run of the bundled demo recipe."""
    recipe = read_recipe("demo", ["data.scenes=rooms of mine", "seed=3"])
    folder.mkdir(parents=True, exist_ok=True)
    write_recipe(recipe, folder / "recipe.json")
    for stage in finished:
        (folder / stage).mkdir()
        log = Log(folder / stage / "log.csv")
        for step in (1, 10, 20):
            log.write(step, {"lr": 0.1, "loss": 1 / step})
        held_out = Log(folder / stage / "validation.csv")
        for step, value in ((10, 0.75), (20, 0.625)):
            held_out.write(step, {"abs_rel": value})
        backbone = wrap(network(0))
        header = Checkpoint("resnet18", {}, (0.5,) * 3, (0.2,) * 3, stage=stage, step=20, versions=VERSIONS)
        save_checkpoint(folder / f"{stage}.safetensors", backbone, None, header)


def depth_scores(folder: Path, count: int = 14) -> Scores:
    """Write scores of depth."""
    values = np.random.default_rng(0).random((count, 3))
    values[0, 0] = np.nan
    table = pd.DataFrame(values, columns=["abs_rel", "rmse", "floored"], index=[f"room <{i}>" for i in range(count)])
    model = {"reference": "runs/a b/depth.safetensors", "hash": "f00d", "stage": "depth", "task": "depth"}
    settings = {"crop": "eigen_nyuv2", "cap": [0.001, None], "scaling": "median", "flip_test": False, "crops": 0}
    settings |= {"feathered": True, "canny": [0.1, 0.3], "num": 14, "resamples": 100, "seed": 2, "floor": 0.001}
    data = {"source": "nyuv2:my rooms:test", "hash": "beef", "num": count}
    scores = Scores(table, model | {"architecture": "swinv2_micro"}, data, settings, VERSIONS)
    scores.save(folder / "scores.json")
    return scores


def label_scores(folder: Path) -> LabelScores:
    """Write scores of labels of three classes, of which the last is nowhere."""
    confusion = np.random.default_rng(0).integers(0, 9, (5, 3, 3))
    confusion[:, 2], confusion[:, :, 2] = 0, 0
    model = {"reference": "runs/segment.safetensors", "hash": "f00d", "stage": "segment", "task": "segmentation"}
    settings = {"resolution": "network", "flip_test": True, "num": None, "resamples": 100, "seed": 0}
    scores = LabelScores(
        confusion.astype(np.int64),
        np.linspace(0.1, 1, 5),
        tuple("abcde"),
        ("road", "sky", "train"),
        (0, 1),
        model | {"architecture": "resnet18"},
        {"source": "kitti_semantics:data:val", "hash": "beef", "num": 5},
        settings,
        VERSIONS,
    )
    scores.save(folder / "scores.json")
    return scores


def attributions(folder: Path, labels: bool = True) -> Attributions:
    """Write attributions of two checkpoints over four images, one of them without a boundary."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"checkpoint": ["video"] * 4 + ["none"] * 4, "image": list("abcd") * 2})
    for name in NUMBERS:
        table[name] = rng.random(8) if labels else np.nan
    table["zero"], table["predicted"], table["undefined"] = [0, 0, 0, 1] * 2, "", ""
    if labels:
        table.loc[2, ["correlation", "ap"]], table.loc[2, "undefined"] = np.nan, "no boundary"
    about = {"hash": "f00d", "task": "segmentation", "architecture": "resnet18", "layer": "relu", "size": [64, 96]}
    models = {
        name: about | {"reference": f"runs/{name}/segment.safetensors", "layer_size": [32, 48], "view": "whole"}
        for name in ("video", "none")
    }
    data = {"source": "kitti_semantics:data:val", "hash": "beef", "num": 4, "labels": labels}
    settings = {"layer": "first", "target": "segmentation:car", "num": 4, "seed": 0, "tolerance": 1.0}
    settings |= {"log_softmax": False, "resamples": 50}
    result = Attributions(table[list(COLUMNS)], models, data, settings, VERSIONS)
    result.save(folder / "gradcam.json")
    return result
