"""What a study of Depth-to-Semantic left on disk, and the statistics behind its claims on one run or one seed.

A *run* is one fine-tuning of a case: a trial under a seed. All cases of a run have the same training images in the
same order and the same new weights, so that two of them are compared in pairs. A trial whose loss stopped being a
number has no scores, and is distinguished from one that was not run.

    gain               how much more of a measure one case has than another, on the same test images, in points of 100
    least_gain         the least of several gains
    area_gain          difference of the areas under two curves of a held-out measure, in points
    sooner             by how much less of the training one curve reaches a level that the other sets
    change             1 - CKA(layer before, the same layer after fine-tuning)
    layer_divergence   CKA(layer of one arm, the same layer of another), earlier layers less later ones

**Area.** With steps s(1) < ... < s(n) at which both runs were validated and m(i) the measure there, the area is

    sum over i of (m(i) + m(i + 1)) / 2 · (s(i + 1) - s(i)) / (s(n) - s(1))

the mean of the measure over training, by trapezoids: of two runs that are equally good at the end, the one that was
good sooner has more.

**Level.** `sooner` is the step at which, linearly between those validated, a run first has 0.9 of what the other has at
the end, in percent of the last step. It measures speed alone, and is undefined where that is not reached.

**Intervals.** Gains and measures have the bootstrap's over test images, with the same resamples for both
(`LabelScores`); curves have none, because held-out images are not recorded one by one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.attribution.attributions import Attributions
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.predictions import NOTE
from cka_probe.papers.depth_to_semantic.study import ARMS, DIVERGED, SEGMENT, Case, SemanticPaths
from cka_probe.papers.evidence import (
    Estimate,
    RunKey,
    StudyEvidence,
    find_seeds,
    mean_diagonal,
    read_json,
    read_log,
    read_study,
    undefined,
)

DATA_OF = {"cityscapes_depth": "cityscapes", "cityscapes_cropped": "cityscapes", "rooms_depth": "rooms"}
"""What an arm is fine-tuned on, where it is not KITTI's streets."""


MAIN = "main"
"""The paper's score: `miou_subset`, or `miou` of data that has no subset."""


PART = 0.9
"""Share of the other's last value: the level of `sooner`."""


@dataclass(frozen=True)
class SemanticEvidence(StudyEvidence):
    """A study of Depth-to-Semantic on disk."""

    paths: SemanticPaths
    _maps: dict[Path, Attributions | None] = field(default_factory=dict, repr=False)
    _scores: dict[tuple[Case, RunKey], LabelScores | None] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> "SemanticEvidence":
        """Open a study.

        Raises:
            DataError: There is none, or study.json is missing, broken or of another paper.
        """
        paths = SemanticPaths(Path(folder))
        seeds = find_seeds(paths.folder)
        finished = [
            path.parent.name.removeprefix("trial")
            for path in paths.folder.glob("seed*/tuned/*/*/trial*/*.json")
            if path.name in ("scores.json", DIVERGED)
        ]
        trials = tuple(sorted({int(number) for number in finished if number.isdecimal()})) or (0,)
        return cls(paths, seeds, trials, read_study(paths.folder, "depth-to-semantic"))

    def run_folder(self, case: Case, run: RunKey) -> Path | None:
        """Return the folder of a run, or `None` while no learning rate is chosen for it."""
        rate = self.paths.rate(run.seed, case)
        return None if rate is None else self.paths.tuned(run.seed, case, rate, run.trial)

    def diverged(self, case: Case, run: RunKey) -> bool:
        """Return whether the loss of a run stopped being a number."""
        folder = self.run_folder(case, run)
        return folder is not None and (folder / DIVERGED).exists()

    def scores(self, case: Case, run: RunKey) -> LabelScores | None:
        """Return the scores of a run on the test images, or `None` if it was not run or has diverged.

        Raises:
            DataError: The file is broken, of other test images than those of the same data, or of a run on
                other training images than the others of its trial.
        """
        if (case, run) not in self._scores:
            self._scores[case, run] = self._read_scores(case, run)
        return self._scores[case, run]

    def predictions(self, case: Case, run: RunKey) -> Path | None:
        """Return the folder of what a scored run predicted of the test images, or `None` if it was not kept."""
        folder = self.run_folder(case, run)
        if folder is None or not (folder / "predictions" / NOTE).exists() or self.scores(case, run) is None:
            return None
        return folder / "predictions"

    def curves(self, case: Case, run: RunKey) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """Return a run's training log and what was measured on held-out images meanwhile; `None` where not run."""
        if (folder := self.run_folder(case, run)) is None:
            return None, None
        return read_log(folder / SEGMENT / "log.csv"), read_log(folder / SEGMENT / "validation.csv")

    def pretraining_log(self, seed: int, arm: str) -> pd.DataFrame | None:
        """Return the training log of an arm, or `None`."""
        return read_log(self.paths.pre(seed) / arm / "log.csv")

    def pretraining(self, seed: int, arm: str) -> Mapping[str, float] | None:
        """Return what was measured at the end of an arm's pre-training, on data held out from it, or `None`."""
        table = read_log(self.paths.pre(seed) / arm / "validation.csv")
        return None if table is None or table.empty else {str(key): float(x) for key, x in table.iloc[-1].items()}

    def stages(self, seed: int) -> dict[str, Any]:
        """Return the stages of the recipe of pre-training, by arm; {} if it was not run."""
        path = self.paths.pre(seed) / "recipe.json"
        return read_json(path, "the recipe of pre-training").get("stages", {}) if path.exists() else {}

    def rates(self, seed: int) -> dict[str, Any]:
        """Return {base case: {"rate", "tried", …}}; {} if none was chosen."""
        path = self.paths.rates(seed)
        return read_json(path, "the chosen learning rates") if path.exists() else {}

    def tuning(self) -> dict[str, Any]:
        """Return the recipe of a fine-tuning of the study, the first by name; {} if there is none."""
        recipes = sorted(self.paths.folder.glob("seed*/tuned/*/*/trial*/recipe.json"))
        return read_json(recipes[0], "the recipe of a fine-tuning") if recipes else {}

    def num(self, case: Case) -> int | None:
        """Return how many images a case was trained on, or `None` if that is all, or it was not run."""
        folders = [self.run_folder(case, RunKey(seed, trial)) for seed in self.seeds for trial in self.trials]
        for path in [folder / "recipe.json" for folder in folders if folder is not None]:
            if path.exists():
                recipe = read_json(path, "the recipe of a fine-tuning")
                return recipe.get("stages", {}).get(SEGMENT, {}).get("num") or None
        return None

    def similarity(self, seed: int, x: str, y: str) -> SimilarityMatrix | None:
        """Return the similarity of two models, x on the rows, or `None` if they were not compared.

        Args:
            seed: One of `seeds`.
            x: An arm, or the name of a fine-tuned model (`tuned`).
            y: Another.

        Raises:
            DataError: The file is broken, or of other weights or images.
        """
        path, back = self.paths.similarity(seed, x, y), self.paths.similarity(seed, y, x)
        if not path.exists():
            reverse = None if x == y or not back.exists() else self.similarity(seed, y, x)
            return None if reverse is None else transposed(reverse)
        matrix = SimilarityMatrix.load(path)
        for model, side in ((x, matrix.x), (y, matrix.y)):
            self._check_same(("weights", str(seed), model), side.hash, path)
        self._check_same(("images of the similarities",), matrix.images.get("hash"), path)
        return matrix

    def gradcam(self, seed: int) -> Attributions | None:
        """Return how well the maps of a seed's first trials follow outlines, or `None` if there are no maps.

        Raises:
            DataError: The file is broken, or of other weights or test images than were scored.
        """
        path = self.paths.gradcam(seed)
        if path not in self._maps:
            result = self._maps[path] = Attributions.load(path) if path.exists() else None
            if result is not None:
                self._check_maps(result, seed, path)
        return self._maps[path]

    def _check_maps(self, result: Attributions, seed: int, path: Path) -> None:
        """Raise unless maps are of the weights and test images that were scored."""
        run = RunKey(seed)
        for name in result.models:
            case = Case(name.split("~")[0])
            fact = ("tuned weights", str(seed), case.name)
            if (scores := self.scores(case, run)) is not None:
                self._check_same(fact, scores.model["hash"], self._existing_folder(case, run) / "scores.json")
            self._check_same(fact, result.models[case.name]["hash"], path)
        self._check_same(("test images of kitti",), result.data.get("hash"), path)

    def _existing_folder(self, case: Case, run: RunKey) -> Path:
        """Return the folder of a run that is known to have scores."""
        if (folder := self.run_folder(case, run)) is None:
            raise DataError(f"expected a learning rate for {case.name}, found none; run the study again")
        return folder

    def tuned(self, seed: int, arm: str, mode: str = "all") -> str:
        """Return the name of an arm's fine-tuned network among the models that are compared.

        Args:
            seed: One of `seeds`.
            arm: In `ARMS`.
            mode: "all" or "frozen".
        """
        registry.get(ARMS, arm, "arm")
        return self.paths.model(seed, Case(arm, DATA_OF.get(arm, "kitti"), mode=mode), 0)

    def _read_scores(self, case: Case, run: RunKey) -> LabelScores | None:
        folder = self.run_folder(case, run)
        if folder is None or not (path := folder / "scores.json").exists():
            return None
        scores = LabelScores.load(path)
        self._check_same((f"test images of {case.data}",), scores.data.get("hash"), path)
        recipe_seed = read_json(folder / "recipe.json", "the recipe of a fine-tuning").get("seed")
        self._check_same(
            ("drawn training images", str(run.seed), f"trial {run.trial}"), recipe_seed, folder / "recipe.json"
        )
        return scores


def transposed(matrix: SimilarityMatrix) -> SimilarityMatrix:
    """Return a similarity with x and y exchanged."""
    terms = {"xy": np.swapaxes(matrix.terms["xy"], 1, 2), "xx": matrix.terms["yy"], "yy": matrix.terms["xx"]}
    return replace(
        matrix,
        values=matrix.values.T,
        low=matrix.low.T,
        high=matrix.high.T,
        null=matrix.null.T,
        p_values=matrix.p_values.T,
        rows=matrix.columns,
        columns=matrix.rows,
        x=matrix.y,
        y=matrix.x,
        terms={**matrix.terms, **terms},
    )


def named(scores: LabelScores, measure: str) -> str:
    """Return the name of a measure, `MAIN` being one of two."""
    return measure if measure != MAIN else "miou_subset" if scores.subset else "miou"


def factor(measure: str) -> float:
    """Return by what a measure is multiplied to be written: shares are written in percent, nats as they are."""
    return 1.0 if measure == "cross_entropy" else 100.0


def gain(better: LabelScores, worse: LabelScores, measure: str, interval: bool = True) -> Estimate:
    """Return how much more of a measure a model has than another, in points.

    Args:
        better: The one that the claim says has more.
        worse: The other; of the same images.
        measure: In `LabelScores.measures`, or `MAIN`.
        interval: Whether to compute one by the bootstrap.

    Raises:
        DataError: The images or the classes differ.
    """
    name, times = named(better, measure), factor(measure)
    if not interval:
        if set(better.images) != set(worse.images) or better.classes != worse.classes:
            raise DataError(
                "expected scores over the same images and classes, found different ones; evaluate both again"
            )
        value, low, high = float(better.values()[name] - worse.values()[name]), math.nan, math.nan
    else:
        value, low, high = better.paired_difference(worse, name)
    return Estimate(times * value, times * low, times * high, "" if math.isfinite(value) else f"no image has {name}")


def value_of(scores: LabelScores, measure: str, interval: bool = True) -> Estimate:
    """Return a measure, in percent where it is a share; arguments as of `gain`."""
    name, times = named(scores, measure), factor(measure)
    value, low, high = float(scores.values()[name]), math.nan, math.nan
    if interval and math.isfinite(value):
        low, high = (float(end) for end in scores.intervals().loc[name, ["low", "high"]])
    return Estimate(times * value, times * low, times * high, "" if math.isfinite(value) else f"no image has {name}")


def area(steps: np.ndarray, values: np.ndarray) -> float:
    """Return the mean of a curve over its steps, by trapezoids.

    >>> area(np.array([0.0, 10.0, 30.0]), np.array([0.0, 1.0, 1.0]))
    0.8333333333333334
    """
    widths = np.diff(steps)
    return float((widths * (values[1:] + values[:-1]) / 2).sum() / widths.sum())


def reached(steps: np.ndarray, values: np.ndarray, level: float) -> float:
    """Return the first step, linearly between those given, at which a curve has a level; NaN if it never has.

    >>> reached(np.array([10.0, 20.0]), np.array([0.2, 0.6]), 0.4), reached(np.array([10.0]), np.array([0.2]), 0.4)
    (15.0, nan)
    """
    above = np.flatnonzero(values >= level)
    if not above.size:
        return math.nan
    at = above[0]
    if at == 0:
        return float(steps[0])
    part = (level - values[at - 1]) / (values[at] - values[at - 1])
    return float(steps[at - 1] + part * (steps[at] - steps[at - 1]))


def area_gain(better: pd.DataFrame, worse: pd.DataFrame) -> Estimate:
    """Return how much more area is under the first curve of the held-out main score than under the other, in points.

    Args:
        better: Rows of validation.csv: `step`, and `miou_subset` or `miou`.
        worse: The other's, validated at the same steps.
    """
    curves = _paired(better, worse)
    if isinstance(curves, str):
        return undefined(curves)
    steps, first, second = curves
    return Estimate(100 * (area(steps, first) - area(steps, second)), math.nan, math.nan)


def sooner(better: pd.DataFrame, worse: pd.DataFrame) -> Estimate:
    """Return by how much less of the training the first has 0.9 of what the second ends with, in percent of it."""
    curves = _paired(better, worse)
    if isinstance(curves, str):
        return undefined(curves)
    steps, first, second = curves
    early, late = (reached(steps, curve, PART * second[-1]) for curve in (first, second))
    if math.isnan(early) or math.isnan(late):
        return undefined(f"{PART:g} of the other's last value is not reached")
    return Estimate(100 * (late - early) / float(steps[-1]), math.nan, math.nan)


def change(matrix: SimilarityMatrix, part: slice = slice(None)) -> Estimate:
    """Return how much some layers changed, in CKA: x before, y after."""
    return Estimate(1.0, 1.0, 1.0) - mean_diagonal(matrix, part)


def later_change_more(matrix: SimilarityMatrix) -> Estimate:
    """Return how much more the later half of the layers changed than the earlier, in CKA; the middle one is earlier."""
    half = (len(matrix.rows) + 1) // 2
    return change(matrix, slice(half, None)) - change(matrix, slice(half))


def layer_divergence(matrix: SimilarityMatrix) -> Estimate:
    """Return how much more similar two arms are in the earlier half of their layers than in the later, in CKA."""
    half = (len(matrix.rows) + 1) // 2
    return mean_diagonal(matrix, slice(half)) - mean_diagonal(matrix, slice(half, None))


def largest_fall(profile: np.ndarray) -> int | None:
    """Return the layer before which a profile falls most, or `None` where it nowhere falls.

    >>> largest_fall(np.array([1.0, 0.9, 0.4, 0.3])), largest_fall(np.array([0.1, 0.2])) is None
    (2, True)
    """
    falls = profile[:-1] - profile[1:]
    if not np.isfinite(falls).any() or not np.nanmax(falls) > 0:
        return None
    return int(np.nanargmax(falls)) + 1


def _paired(better: pd.DataFrame, worse: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
    """Return the common steps of two curves and their values there, or why there are none."""
    both = [name for name in ("miou_subset", "miou") if name in better and name in worse]
    if not both:
        return "no mIoU was measured during training"
    if list(better["step"]) != list(worse["step"]) or len(better) < 2:
        return "the two were not validated at the same two or more steps"
    first, second = (table[both[0]].to_numpy(np.float64) for table in (better, worse))
    if not np.isfinite([first, second]).all():
        return f"{both[0]} is not a number at some step"
    return better["step"].to_numpy(np.float64), first, second
