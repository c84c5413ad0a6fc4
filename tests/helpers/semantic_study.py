"""A small study of Depth-to-Semantic on disk, in the true formats, with scores and similarities that a test chooses."""

import json
from dataclasses import replace

import numpy as np
from helpers.attributions import attributions
from helpers.attributions import rows as attribution_rows

from cka_probe.comparison.results import Axis, Side, SimilarityMatrix
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.papers.claims import judge_claims
from cka_probe.papers.depth_to_semantic.claims import CLAIMS
from cka_probe.papers.depth_to_semantic.report import PAPER
from cka_probe.papers.depth_to_semantic.study import Case, SemanticEvidence, SemanticPaths
from cka_probe.papers.page import Report

NAMES = ("maxpool", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)))
CLASSES = ("road", "sky", "pole")
IMAGES = 8
PIXELS = 1000
STEPS = (10, 20, 40)
RATE = 0.001


def iou_of(right):
    """Return the IoU of road and of sky where a share of each is called the other and they are equally large."""
    return right / (2 - right)


def scores(case, right, *, seed=0, trial=0, images="the test", spread=0.0):
    """Return scores of road and sky, half of the pixels each, of which a share is right; no pole, true or called."""
    each = np.linspace(right - spread, right + spread, IMAGES)
    hits = np.round(each * PIXELS).astype(np.int64)
    confusion = np.zeros((IMAGES, 3, 3), np.int64)
    confusion[:, 0, 0] = confusion[:, 1, 1] = hits
    confusion[:, 0, 1] = confusion[:, 1, 0] = PIXELS - hits
    return LabelScores(
        confusion=confusion,
        cross_entropy=-np.log(each),
        images=tuple(f"street{i:03d}" for i in range(IMAGES)),
        classes=CLASSES,
        subset=() if case.data == "rooms" else (0, 1),
        model={"reference": "segment.safetensors", "hash": f"{case.name}/{seed}/{trial}", "stage": "segment",
               "task": "segmentation", "architecture": "resnet18"},
        data={"source": "kitti_semantics:streets", "hash": f"{images} of {case.data}", "num": IMAGES},
        settings={"resolution": "image", "resamples": 100, "seed": 0},
        versions={"cka-probe": "0"},
    )  # fmt: skip


def matrix(diagonal, x, y, seed=0, images="the test", undefined=()):
    """Return nine layers against nine: 0.3 but for the diagonal."""
    values = np.full((9, 9), 0.3)
    values[np.diag_indices(9)] = diagonal
    values[list(undefined)] = values[:, list(undefined)] = np.nan
    axes = tuple(
        Axis(name, name, 0.1 * (i + 1), "its activation is 0" if i in undefined else "") for i, name in enumerate(NAMES)
    )
    side = {"architecture": "resnet18", "preprocessing": {"size": [64, 64]}}
    return SimilarityMatrix(
        values=values,
        low=values - 0.01,
        high=values + 0.01,
        null=np.where(np.isnan(values), np.nan, 0.03),
        p_values=np.where(np.isnan(values), np.nan, 0.005),
        rows=axes,
        columns=axes,
        terms={"xy": values[None], "xx": np.ones((1, 9)), "yy": np.ones((1, 9)), "weights": np.ones(1)},
        num_examples=64,
        x=Side(reference=f"{x}.safetensors", hash=f"{x}/{seed}", **side),
        y=Side(reference=f"{y}.safetensors", hash=f"{y}/{seed}", **side),
        images={"source": "kitti_semantics:streets", "hash": images, "skipped": []},
        settings={"measure": "cka", "estimator": "unbiased", "features": "flatten", "preprocess": "own"},
        versions={"cka-probe": "0"},
    )


class Writer:
    """Writes a study, part by part, into a folder."""

    def __init__(self, folder):
        self.paths = SemanticPaths(folder)
        self.study()

    def study(self, **changed):
        note = {"paper": "depth-to-semantic", "scale": "demo", "data": {}, "settings": []}
        self._text(self.paths.folder / "study.json", note | {"versions": {"cka-probe": "0"}} | changed)

    def rate(self, case, seed=0, tried=None):
        path = self.paths.rates_file(seed)
        table = json.loads(path.read_text("utf-8")) if path.exists() else {}
        table[case.base.name] = {"rate": RATE, "tried": tried or {f"{RATE:g}": 0.5}, "measure": "miou_subset"}
        self._text(path, table)

    def run(self, case, right, seed=0, trial=0, **changed):
        """Write a finished run of a case, of which a share of pixels is right."""
        self.rate(case, seed)
        folder = self.paths.tuned(seed, case, RATE, trial)
        scores(case, right, seed=seed, trial=trial, spread=0.02, **changed).save(folder / "scores.json")
        stage = {"task": "segmentation", "steps": 40, "batch": 8, "size": [64, 96], "num": case.num or 16}
        recipe = {"architecture": "resnet18", "seed": 1000 * seed + trial, "stages": {"segment": stage}}
        self._text(folder / "recipe.json", recipe)
        self.curve(case, [right * part for part in (0.5, 0.8, 1.0)], seed, trial)

    def training_scores(self, case, right):
        """Write the scores of a finished run on the images that it was trained on."""
        folder = self.paths.tuned(0, case, RATE, 0)
        scores(case, right, images="the training images", spread=0.02).save(folder / "training.json")

    def curve(self, case, values, seed=0, trial=0):
        self.rate(case, seed)
        folder = self.paths.tuned(seed, case, RATE, trial) / "segment"
        lines = [f"{step},0.001,{1 / step:.6g}\n" for step in STEPS]
        self._text(folder / "log.csv", "step,lr,loss\n" + "".join(lines))
        lines = [f"{step},{value:.6g},{value:.6g},{value:.6g}\n" for step, value in zip(STEPS, values, strict=True)]
        self._text(folder / "validation.csv", "step,miou_subset,miou,accuracy\n" + "".join(lines))

    def diverged(self, case, seed=0, trial=0):
        self.rate(case, seed)
        self._text(self.paths.tuned(seed, case, RATE, trial) / "diverged.json", {"error": "the loss is nan"})

    def pretrained(self, arm, seed=0, **values):
        folder = self.paths.pre(seed) / arm
        self._text(folder / "log.csv", "step,lr,loss\n10,0.001,0.5\n20,0.001,0.25\n")
        self._text(folder / "validation.csv", f"step,{','.join(values)}\n20,{','.join(map(str, values.values()))}\n")
        path = self.paths.pre(seed) / "recipe.json"
        table = json.loads(path.read_text("utf-8")) if path.exists() else {"seed": seed, "stages": {}}
        stage = {"task": "monodepth", "steps": 20, "batch": 8, "size": [64, 96], "lr": 1e-4}
        self._text(path, table | {"stages": table["stages"] | {arm: stage}})

    def similarity(self, x, y, diagonal, seed=0, **what):
        return matrix(diagonal, x, y, seed, **what).save(self.paths.similarity(seed, x, y))

    def tuned(self, arm, mode="all"):
        return Case(arm, mode=mode).model

    def _text(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if isinstance(text, str) else json.dumps(text), "utf-8")


PARTING = [0.9, 0.9, 0.9, 0.9, 0.3, 0.3, 0.2, 0.1, 0.1]
RIGHT = {"none": 0.6, "classification": 0.7, "video": 0.8}


def study(folder, trials=(0,), seeds=(0,), jitter=0.0):
    """Write runs of three arms; depth gains `jitter` in each further trial."""
    writer = Writer(folder)
    for seed in seeds:
        for trial in trials:
            for arm, right in RIGHT.items():
                more = jitter * (trial + 10 * seed) * (arm == "video")
                writer.run(Case(arm), right + more, seed, trial)
    return writer


def maps_of(zero=(), seed=0):
    """Return maps of the three arms over the test images, as their scores say that these are."""
    tables = [attribution_rows(Case(arm).name, number + 10 * seed, zero) for number, arm in enumerate(RIGHT)]
    result = attributions(*tables)
    models = {name: model | {"hash": f"{name}/{seed}/0"} for name, model in result.models.items()}
    return replace(result, models=models, data={**result.data, "hash": "the test of kitti"})


def study_with_maps(folder, result=None, seeds=(0,)):
    """Write runs of three arms and their maps; return the evidence."""
    writer = study(folder, seeds=seeds)
    for seed in seeds:
        (result or maps_of(seed=seed)).save(writer.paths.gradcam(seed))
    return SemanticEvidence.load(folder)


def judged(folder):
    """Return the claims of a study by name."""
    return {row.name: row for row in judge_claims(SemanticEvidence.load(folder), CLAIMS)}


def page(folder):
    """Return the page of a study."""
    return Report.of(PAPER, SemanticEvidence.load(folder)).page()
