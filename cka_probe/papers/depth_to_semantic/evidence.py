"""What a study left on disk, read when asked for and checked to be of one study (`places` says where it lies).

What is not there was not run, and the answer is `None`: a small scale leaves arms out, and a table says so. What is
there and cannot be of this study is an error: scores over other test images, fine-tunings of one trial that drew
different training images, comparisons of other weights. A trial whose loss stopped being a number has no scores, and
is told apart from one that was not run.

A *run* is one fine-tuning of a case: a trial under a seed. All cases of a run have the same training images in the
same order and the same new weights, so that two of them are compared in pairs.
"""

import json
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
from cka_probe.papers.depth_to_semantic.cases import ARMS, Case
from cka_probe.papers.depth_to_semantic.study_paths import DIVERGED, SEGMENT, StudyPaths
from cka_probe.papers.reading import read_json, read_log

DATA_OF = {"cityscapes_depth": "cityscapes", "cityscapes_cropped": "cityscapes", "rooms_depth": "rooms"}
"""What an arm is fine-tuned on, where it is not KITTI's streets."""


@dataclass(frozen=True, order=True)
class Run:
    """Which fine-tuning of a case.

    Attributes:
        seed: Of the pre-training.
        trial: Of the fine-tuning.
    """

    seed: int
    trial: int


@dataclass(frozen=True)
class Evidence:
    """A study on disk.

    Attributes:
        places: Where its parts lie.
        seeds: Those that are there, rising.
        trials: Those that any case has under any seed, rising.
        study: What the study says of itself: `scale`, `data` (paths that were given, by name), `settings`, `versions`.
    """

    places: StudyPaths
    seeds: tuple[int, ...]
    trials: tuple[int, ...]
    study: dict[str, Any]
    _seen: dict[tuple[str, ...], tuple[Any, Path]] = field(default_factory=dict, repr=False)
    _maps: dict[Path, Attributions | None] = field(default_factory=dict, repr=False)
    _scores: dict[tuple[Case, Run], LabelScores | None] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> "Evidence":
        """Open a study.

        Raises:
            DataError: There is none, or study.json is missing, broken or of another paper.
        """
        folder = Path(folder)
        found = {int(p.name[4:]) for p in folder.glob("seed*") if p.is_dir() and p.name[4:].isdecimal()}
        if not found:
            raise DataError(f"{folder}: expected a study with a folder seed<k> for each seed, found none; run it first")
        ended = [path.parent.name[5:] for path in folder.glob("seed*/tuned/*/*/trial*/*.json")
                 if path.name in ("scores.json", DIVERGED)]  # fmt: skip
        trials = tuple(sorted({int(number) for number in ended if number.isdecimal()})) or (0,)
        return cls(StudyPaths(folder), tuple(sorted(found)), trials, _study(folder / "study.json"))

    @property
    def run(self) -> str:
        """What intervals are over: "seed" where there are several, else "trial"."""
        return "seed" if len(self.seeds) > 1 else "trial"

    def folder(self, case: Case, run: Run) -> Path | None:
        """Return where a run lies, or `None` while no learning rate was chosen for it."""
        rate = self.places.rate(run.seed, case)
        return None if rate is None else self.places.tuned(run.seed, case, rate, run.trial)

    def diverged(self, case: Case, run: Run) -> bool:
        """Return whether the loss of a run stopped being a number."""
        folder = self.folder(case, run)
        return folder is not None and (folder / DIVERGED).exists()

    def scores(self, case: Case, run: Run) -> LabelScores | None:
        """Return how well a run segments the test images, or `None` if it was not run or has diverged.

        Raises:
            DataError: The file is broken, of other test images than those of the same data, or of a run that drew
                other training images than the others of its trial.
        """
        if (case, run) not in self._scores:
            self._scores[case, run] = self._read_scores(case, run)
        return self._scores[case, run]

    def predictions(self, case: Case, run: Run) -> Path | None:
        """Return the folder of what a scored run predicted of the test images, or `None` if it was not kept."""
        folder = self.folder(case, run)
        if folder is None or not (folder / "predictions" / NOTE).exists() or self.scores(case, run) is None:
            return None
        return folder / "predictions"

    def log(self, case: Case, run: Run) -> pd.DataFrame | None:
        """Return the rows of a run's training log, or `None`."""
        folder = self.folder(case, run)
        return None if folder is None else read_log(folder / SEGMENT / "log.csv")

    def validation(self, case: Case, run: Run) -> pd.DataFrame | None:
        """Return what was measured on held-out images while a run trained, or `None`."""
        folder = self.folder(case, run)
        return None if folder is None else read_log(folder / SEGMENT / "validation.csv")

    def pretraining_log(self, seed: int, arm: str) -> pd.DataFrame | None:
        """Return the training log of an arm, or `None`."""
        return read_log(self.places.pre(seed) / arm / "log.csv")

    def pretraining(self, seed: int, arm: str) -> Mapping[str, float] | None:
        """Return what was measured at the end of an arm's pre-training, on data held out from it, or `None`."""
        table = read_log(self.places.pre(seed) / arm / "validation.csv")
        return None if table is None or table.empty else {str(key): float(x) for key, x in table.iloc[-1].items()}

    def stages(self, seed: int) -> dict[str, Any]:
        """Return the stages of the recipe of pre-training, by arm; {} if it was not run."""
        path = self.places.pre(seed) / "recipe.json"
        return read_json(path, "the recipe of pre-training").get("stages", {}) if path.exists() else {}

    def rates(self, seed: int) -> dict[str, Any]:
        """Return {base case: {"rate", "tried", …}}; {} if none was chosen."""
        path = self.places.rates(seed)
        return read_json(path, "the chosen learning rates") if path.exists() else {}

    def tuning(self) -> dict[str, Any]:
        """Return the recipe of a fine-tuning of the study, the first by name; {} if there is none."""
        found = sorted(self.places.folder.glob("seed*/tuned/*/*/trial*/recipe.json"))
        return read_json(found[0], "the recipe of a fine-tuning") if found else {}

    def num(self, case: Case) -> int | None:
        """Return how many images a case was trained on, or `None` if that is all, or it was not run."""
        folders = [self.folder(case, Run(seed, trial)) for seed in self.seeds for trial in self.trials]
        for path in [folder / "recipe.json" for folder in folders if folder is not None]:
            if path.exists():
                recipe = read_json(path, "the recipe of a fine-tuning")
                return recipe.get("stages", {}).get(SEGMENT, {}).get("num") or None
        return None

    def similarity(self, seed: int, x: str, y: str) -> SimilarityMatrix | None:
        """Return how alike two models are, x on the rows, or `None` if they were not compared.

        Args:
            seed: One of `seeds`.
            x: An arm, or the name of a fine-tuned model (`tuned`).
            y: Another.

        Raises:
            DataError: The file is broken, or of other weights or images.
        """
        path, back = self.places.similarity(seed, x, y), self.places.similarity(seed, y, x)
        if not path.exists():
            return None if x == y or not back.exists() else turned(self.similarity(seed, y, x))
        matrix = SimilarityMatrix.load(path)
        for model, side in ((x, matrix.x), (y, matrix.y)):
            self._same(("weights", str(seed), model), side.hash, path)
        self._same(("images of the similarities",), matrix.images.get("hash"), path)
        return matrix

    def gradcam(self, seed: int) -> Attributions | None:
        """Return how well the maps of a seed's first trials follow outlines, or `None` if there are no maps.

        Raises:
            DataError: The file is broken, or of other weights or test images than were scored.
        """
        path = self.places.gradcam(seed)
        if path not in self._maps:
            result = self._maps[path] = Attributions.load(path) if path.exists() else None
            for case in (Case(name.split("~")[0]) for name in result.models) if result else ():
                if (scores := self.scores(case, Run(seed, 0))) is not None:
                    where = self.folder(case, Run(seed, 0)) / "scores.json"
                    self._same(("tuned weights", str(seed), case.name), scores.model["hash"], where)
                self._same(("tuned weights", str(seed), case.name), result.models[case.name]["hash"], path)
            if result:
                self._same(("test images of kitti",), result.data.get("hash"), path)
        return self._maps[path]

    def tuned(self, seed: int, arm: str, mode: str = "all") -> str:
        """Return what an arm is called after fine-tuning, among models that are compared.

        Args:
            seed: One of `seeds`.
            arm: In `ARMS`.
            mode: "all" or "frozen".
        """
        registry.get(ARMS, arm, "arm")
        return self.places.model(seed, Case(arm, DATA_OF.get(arm, "kitti"), mode=mode), 0)

    def _read_scores(self, case: Case, run: Run) -> LabelScores | None:
        folder = self.folder(case, run)
        path = folder and folder / "scores.json"
        if path is None or not path.exists():
            return None
        scores = LabelScores.load(path)
        self._same((f"test images of {case.data}",), scores.data.get("hash"), path)
        drawn = read_json(folder / "recipe.json", "the recipe of a fine-tuning").get("seed")
        self._same(("drawn training images", str(run.seed), f"trial {run.trial}"), drawn, folder / "recipe.json")
        return scores

    def _same(self, what: tuple[str, ...], found: Any, path: Path) -> None:
        """Raise unless everything read so far agrees on `what`."""
        if found is None:
            raise DataError(f"{path}: expected to read the {what[0]} from it, found nothing; make the file again")
        before, where = self._seen.setdefault(what, (found, path))
        if before != found:
            named = f"{what[0]} of {what[2]}, seed {what[1]}" if len(what) > 1 else what[0]
            raise DataError(
                f"{path} is of another run: its {named} ({str(found)[:8]}) are not those of {where} "
                f"({str(before)[:8]}); delete the older of the two and run the study again"
            )


def turned(matrix: SimilarityMatrix) -> SimilarityMatrix:
    """Return a similarity with x and y exchanged."""
    cells = {name: getattr(matrix, name).T for name in ("values", "low", "high", "null", "p_values")}
    terms = {"xy": np.swapaxes(matrix.terms["xy"], 1, 2), "xx": matrix.terms["yy"], "yy": matrix.terms["xx"]}
    sides = {"rows": matrix.columns, "columns": matrix.rows, "x": matrix.y, "y": matrix.x}
    return replace(matrix, terms={**matrix.terms, **terms}, **cells, **sides)


def _study(path: Path) -> dict[str, Any]:
    """Return what a study says of itself.

    Raises:
        DataError: It is missing, broken, or of another paper.
    """
    study = read_json(path, "what is studied")
    expected = {"scale": str, "data": dict, "settings": list, "versions": dict}
    wrong = [key for key, kind in expected.items() if not isinstance(study.get(key), kind)]
    if wrong or study.get("paper") != "depth-to-semantic":
        raise DataError(
            f"{path}: expected a study of depth-to-semantic with {', '.join(expected)}, found one of "
            f"{json.dumps(study.get('paper'))}{' without ' * bool(wrong)}{', '.join(wrong)}; make it with "
            "`ckaprobe reproduce depth-to-semantic`"
        )
    return study
