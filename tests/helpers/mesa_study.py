"""A small study on disk, in the true formats, with similarities and scores that a test chooses."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from cka_probe.comparison.results import Axis, Side, SimilarityMatrix
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.models.checkpoint import Checkpoint
from cka_probe.papers.mesa.study import MesaEvidence

NAMES = (
    "layers.0.downsample.norm",
    "layers.1.downsample.norm",
    *(f"layers.2.blocks.{k}.norm1" for k in (3, 6, 9, 12, 15)),
    "layers.2.downsample.norm",
    "norm3",
)
IMAGES = 24
U = np.array([1.0, 0.9, 0.5, 0.5, 0.4, 0.5, 0.6, 0.8, 0.7])
LATER = np.array([0.9] * 5 + [0.4] * 4)


def matrix(top=None, diagonal=None, *, x="mp", y="mp", seed=0, width=0.01, undefined=()):
    """Return nine layers against nine: 0.5 but for the top row and the diagonal; NaN in undefined layers."""
    values = np.full((9, 9), 0.5)
    if top is not None:
        values[0] = top
    if diagonal is not None:
        values[np.diag_indices(9)] = diagonal
    values[list(undefined)] = np.nan
    values[:, list(undefined)] = np.nan
    axes = tuple(
        Axis(name, name, 0.0 if i in undefined else 0.1 * (i + 1), "its activation is 0" if i in undefined else "")
        for i, name in enumerate(NAMES)
    )
    side = {"architecture": "swinv2_micro", "preprocessing": {"size": [64, 64]}}
    return SimilarityMatrix(
        values=values,
        low=values - width,
        high=values + width,
        null=np.where(np.isnan(values), np.nan, 0.03),
        p_values=np.where(np.isnan(values), np.nan, 0.005),
        rows=axes,
        columns=axes,
        terms={"xy": values[None], "xx": np.ones((1, 9)), "yy": np.ones((1, 9)), "weights": np.ones(1)},
        num_examples=64,
        x=Side(reference=x, hash=f"{x}/{seed}", **side),
        y=Side(reference=y, hash=f"{y}/{seed}", **side),
        images={"source": "nyuv2:rooms:test", "hash": "the images", "skipped": []},
        settings={"measure": "cka", "estimator": "unbiased", "features": "flatten", "preprocess": "own"},
        versions={"cka-probe": "0"},
    )


def scores(stage, seed=0, *, domain="in", **means):
    """Return scores over 24 images with these means; all stages share what is hard about an image."""
    hard = np.random.default_rng(0).normal(0, 0.1, IMAGES)
    deviation = np.random.default_rng([seed, *stage.encode()]).normal(0, 0.01, IMAGES)
    noise = hard + deviation - (hard + deviation).mean()
    table = pd.DataFrame(
        {name: mean * (1 + noise) for name, mean in means.items()}, index=[f"room{i:03d}" for i in range(IMAGES)]
    )
    return Scores(
        table=table,
        model={"reference": f"{stage}.safetensors", "hash": f"{stage}/{seed}", "stage": stage, "task": "depth",
               "architecture": "swinv2_micro"},
        data={"source": {"in": "nyuv2:rooms:test", "out": "ibims1:evening"}[domain], "hash": domain, "num": IMAGES},
        settings={"crop": {"in": "eigen_nyuv2", "out": "none"}[domain], "cap": [0.001, 10.0], "scaling": "none",
                  "resamples": 200, "seed": 0},
        versions={"cka-probe": "0"},
    )  # fmt: skip


class Writer:
    """Writes a study, part by part, into a folder."""

    def __init__(self, folder, seeds=(0,)):
        self.folder = folder
        self.study()
        for seed in seeds:
            self.recipe(seed)

    def study(self, **changed):
        note = {"paper": "mesa", "scale": "demo", "data": {}, "settings": [], "versions": {"cka-probe": "0"}}
        self._text("study.json", json.dumps(note | changed))

    def recipe(self, seed, /, **changed):
        often = {"batch": 16, "size": 64, "lr": 0.01, "layer_decay": 1.0, "start": "", "validation": ["nyuv2:n:test"]}
        stages = {
            "mp": {"task": "masked", "steps": 600, "options": {"cell": 16}, "data": ["lsun:l", "imagenet:i"]} | often,
            "gp": {"task": "geometric", "steps": 200, "data": ["scdepth:v:train?sources=1"]} | often,
            "mp_depth": {"task": "depth", "steps": 250, "data": ["nyuv2:n:train"]} | often,
        }
        paths = {"lsun": "l", "imagenet": "i", "videos": "v", "nyuv2": "n"}
        table = {"name": "mesa_demo", "architecture": "swinv2_micro", "seed": seed, "data": paths, "stages": stages}
        table |= changed
        self._text(f"seed{seed}/recipe.json", json.dumps(table))

    def checkpoint(self, stage, seed=0, /, **changed):
        path = self.folder / f"seed{seed}" / f"{stage}.safetensors"
        header = replace(Checkpoint("swinv2_micro", {"size": 64}, (0.5,), (0.5,), stage=stage, seed=seed), **changed)
        save_file({"backbone.a": torch.zeros(1)}, path, metadata={"ckaprobe": json.dumps(asdict(header))})

    def similarity(self, x, y, seed=0, variant="paper", **what):
        path = self.folder / f"seed{seed}" / "similarity" / f"{x}~{y}~{variant}.json"
        return matrix(x=x, y=y, seed=seed, **what).save(path)

    def scores(self, stage, seed=0, domain="in", **means):
        return scores(stage, seed, domain=domain, **means).save(
            self.folder / f"seed{seed}" / "scores" / stage / f"{domain}.json"
        )

    def log(self, stage, seed=0, steps=(10, 20, 30)):
        rows = "".join(f"{step},0.001,{1 / step:.6g}\n" for step in steps)
        self._text(f"seed{seed}/{stage}/log.csv", "step,lr,loss\n" + rows)
        self._text(f"seed{seed}/{stage}/validation.csv", f"step,abs_rel\n{steps[-1]},0.2\n")

    def _text(self, name, text):
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, "utf-8")


def study(folder, seeds):
    """Write a study with some claims that hold, fail, are undecided, undefined or not run; return its evidence."""
    writer = Writer(folder, seeds)
    for seed in seeds:
        shift = 0.01 * seed
        writer.similarity("mp", "mp", seed, top=U - [0, 0, shift, 0, 0, 0, 0, 0, 0])
        writer.similarity("random", "random", seed, undefined=range(2, 7))
        writer.similarity("mp", "mp_depth", seed, diagonal=LATER + shift * np.arange(9) / 9)
        for arm, rmse in (("mp", 0.5), ("gp", 0.52), ("random", 0.5 + (0.1 if seed % 2 else -0.1))):
            writer.scores(f"{arm}_depth", seed, rmse=rmse + shift * (arm == "gp"))
    return MesaEvidence.load(folder)
