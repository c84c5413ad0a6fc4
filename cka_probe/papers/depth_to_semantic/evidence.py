"""What a study of Depth-to-Semantic left on disk.

A *run* is one fine-tuning of a case: a trial under a seed. All cases of a run have the same training images in the
same order and the same new weights, so that two of them are compared in pairs. A trial whose loss stopped being a
number has no scores, and is distinguished from one that was not run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.attribution.attributions import Attributions
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.predictions import NOTE
from cka_probe.papers.depth_to_semantic.study import ARMS, DECLARATIONS, DIVERGED, SEGMENT, Case, SemanticPaths
from cka_probe.papers.evidence import RunKey, StudyEvidence, find_seeds, read_curves, read_json, read_log, read_study

DATA_OF: dict[str, str] = DECLARATIONS["data_of"]


def tuned(arm: str, mode: str = "all") -> str:
    """Return the name of an arm's fine-tuned network among the models that are compared; mode "all" or "frozen"."""
    registry.get(ARMS, arm, "arm")
    return Case(arm, DATA_OF.get(arm, "kitti"), mode=mode).model


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
        if (case, run) in self._scores:
            return self._scores[case, run]
        folder = self.run_folder(case, run)
        if folder is None or not (path := folder / "scores.json").exists():
            return self._scores.setdefault((case, run), None)
        scores = LabelScores.load(path)
        self._check_same((f"test images of {case.data}",), scores.data.get("hash"), path)
        recipe, trial = folder / "recipe.json", (str(run.seed), f"trial {run.trial}")
        seed = read_json(recipe, "the recipe of a fine-tuning").get("seed")
        self._check_same(("drawn training images", *trial), seed, recipe)
        return self._scores.setdefault((case, run), scores)

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
        return read_curves(folder / SEGMENT)

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
        folders = [self.run_folder(case, run) for run in self.runs]
        for path in [folder / "recipe.json" for folder in folders if folder is not None]:
            if path.exists():
                recipe = read_json(path, "the recipe of a fine-tuning")
                return recipe.get("stages", {}).get(SEGMENT, {}).get("num") or None
        return None

    def similarity(self, seed: int, x: str, y: str, variant: str = "paper") -> SimilarityMatrix | None:
        """Return the similarity of two models, or `None`; a file of y and x serves as well as one of x and y.

        A model is an arm or the name of a fine-tuned network (`tuned`). There is one variant.
        """
        matrix = super().similarity(seed, x, y)
        if matrix is None and (reverse := super().similarity(seed, y, x)) is not None:
            matrix = transposed(reverse)
        return matrix

    def arm_similarity(self, seed: int, x: str, y: str, when: str) -> SimilarityMatrix | None:
        """Return the similarity of two arms "before" or "after" fine-tuning, or `None`."""
        models = (x, y) if when == "before" else (tuned(x), tuned(y))
        return self.similarity(seed, *models)

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
            fact, folder = ("tuned weights", str(seed), case.name), self.run_folder(case, run)
            if folder is not None and (scores := self.scores(case, run)) is not None:
                self._check_same(fact, scores.model["hash"], folder / "scores.json")
            self._check_same(fact, result.models[case.name]["hash"], path)
        self._check_same(("test images of kitti",), result.data.get("hash"), path)


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
