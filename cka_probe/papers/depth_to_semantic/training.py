"""The choice of learning rates, and fine-tuning.

A rate is chosen on images held out from training, never on the test's: each is tried in the first trial of the arm's
base case, and the one with the best mean intersection over union after the last step is used. The others are not
scored. A trial whose loss stops being a number has no scores but a file that says so, and the study continues. The
weights of a scored trial are deleted, except those of first trials where everything learns, which later steps need.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cka_probe.errors import DataError, TrainingError
from cka_probe.files import atomic_write
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.models.load import load
from cka_probe.papers.depth_to_semantic.cases import Case
from cka_probe.papers.depth_to_semantic.recipes import Trial, tuning_recipe
from cka_probe.papers.depth_to_semantic.study import DIVERGED, SEGMENT, Scale, SemanticPaths
from cka_probe.papers.study import ImageSource, RunContext, main_process_only, save_result, write_fingerprints

CHOSEN_BY = ("miou_subset", "miou")
"""Held-out measures to choose a rate by: the first if every rate has one."""


@dataclass(frozen=True)
class Tuning:
    """All fine-tunings under one seed.

    Attributes:
        paths: Of the study.
        scale: What is run.
        seed: Of the study.
        data: Paths of the data, by name.
        settings: `--set` of the recipe of fine-tuning.
        context: Device, processes, progress.
    """

    paths: SemanticPaths
    scale: Scale
    seed: int
    data: Mapping[str, str]
    settings: Sequence[str]
    context: RunContext

    def choose_rate(self, base: Case) -> None:
        """Try the learning rates on a base case and record the best, if none is recorded."""
        if self.paths.rate(self.seed, base) is None:
            tried = {}
            for rate in self.scale.rates:
                self._train(Trial(base, rate, self.seed, 0))
                tried[rate] = held_out(self.paths.tuned(self.seed, base, rate, 0))
            main_process_only(lambda: self._record_rate(base, *best_rate(tried, base.name)))
        main_process_only(lambda: self._delete_other_rates(base))

    def finish(self, case: Case, number: int) -> None:
        """Train and score a trial of a case at its chosen rate, if it is not finished."""
        if (rate := self.paths.rate(self.seed, case)) is None:
            raise DataError(f"{case.name}: expected a chosen learning rate, found none; choose one first")
        trial = Trial(case, rate, self.seed, number)
        folder = self._folder(trial)
        if not any((folder / name).exists() for name in ("scores.json", DIVERGED)) and self._train(trial):
            main_process_only(lambda: self._score(trial))
        main_process_only(lambda: None if keeps_weights(trial) else _weights(folder).unlink(missing_ok=True))

    def _folder(self, trial: Trial) -> Path:
        return self.paths.tuned(self.seed, trial.case, trial.rate, trial.number)

    def _train(self, trial: Trial) -> bool:
        """Run the recipe of a trial; return whether its loss stayed finite."""
        folder, start = self._folder(trial), self.paths.checkpoint(self.seed, trial.case.arm)
        if (folder / DIVERGED).exists():
            return False
        recipe = tuning_recipe(self.scale, trial, start, self.data, self.settings)
        self.context.say(f"seed {self.seed}: {trial.case.name}, trial {trial.number}, rate {trial.rate:g}")
        try:
            self.context.train(recipe, folder)
        except TrainingError as error:
            note = json.dumps({"error": str(error)})
            main_process_only(lambda: _record_divergence(folder, note))
            return False
        return True

    def _score(self, trial: Trial) -> None:
        """Score a trial on the test images, and write its fingerprint if its encoder is compared."""
        folder, test = self._folder(trial), self.scale.test(trial.case.data, self.data)
        keep = folder / "predictions" if keeps_weights(trial) else None
        scores = evaluate(_weights(folder), test, device=self.context.device, keep=keep)
        if trial.number == 0 and is_compared(trial.case):
            name = trial.case.model
            write_fingerprints(self.paths, self.seed, {name: lambda: load(_weights(folder))}, self.images)
        save_result(scores, folder / "scores.json")

    @property
    def images(self) -> ImageSource:
        """Images over which all encoders are compared: streets that none was trained on."""
        return ImageSource(self.scale.test("kitti", self.data), self.scale.num, self.context.device)

    def _record_rate(self, base: Case, rate: float, measure: str, tried: Mapping[float, float]) -> None:
        path = self.paths.rates(self.seed)
        rates = json.loads(path.read_text("utf-8")) if path.exists() else {}
        values = {f"{rate:g}": None if math.isnan(value) else value for rate, value in tried.items()}
        rates[base.name] = {"rate": rate, "tried": values, "measure": measure}
        _write(path, json.dumps(rates, indent=2))

    def _delete_other_rates(self, base: Case) -> None:
        best = self.paths.rate(self.seed, base)
        for rate in self.scale.rates:
            if rate != best:
                _weights(self.paths.tuned(self.seed, base, rate, 0)).unlink(missing_ok=True)


def keeps_weights(trial: Trial) -> bool:
    """Return whether a trial's weights and predictions are kept after it was scored."""
    return trial.number == 0 and trial.case.mode == "all" and not trial.case.quirks


def is_compared(case: Case) -> bool:
    """Return whether a case's encoder is compared with its start: base cases and their frozen variants."""
    return case in (case.base, Case(case.arm, case.data, mode="frozen"))


def held_out(folder: Path) -> dict[str, float]:
    """Return the values of a run's last evaluation on held-out images; {} if it diverged.

    Raises:
        DataError: There is none.
    """
    path = folder / SEGMENT / "validation.csv"
    if (folder / DIVERGED).exists():
        return {}
    if not path.exists():
        raise DataError(f"expected {path}, found nothing; set {SEGMENT}.held_out, by which a learning rate is chosen")
    last = pd.read_csv(path).iloc[-1]
    return {name: float(last[name]) for name in CHOSEN_BY if name in last}


def best_rate(tried: Mapping[float, Mapping[str, float]], name: str) -> tuple[float, str, dict[float, float]]:
    """Return the best rate, the measure that it was chosen by, and its value for each rate.

    Args:
        tried: Held-out values by rate; {} where training diverged. The first of equal rates is taken.
        name: Of the case, for the message.

    Raises:
        DataError: No rate has a value.
    """
    trained = [values for values in tried.values() if values]
    for measure in CHOSEN_BY:
        if trained and all(not math.isnan(values.get(measure, math.nan)) for values in trained):
            scores = {rate: values.get(measure, math.nan) for rate, values in tried.items()}
            finite = [rate for rate, score in scores.items() if not math.isnan(score)]
            return max(finite, key=lambda rate: scores[rate]), measure, scores
    rates = ", ".join(f"{rate:g}" for rate in tried)
    raise DataError(
        f"{name}: expected a held-out mIoU at one of the learning rates {rates}, found none; hold more images out "
        f"({SEGMENT}.held_out), or try lower rates"
    )


def _weights(folder: Path) -> Path:
    return folder / f"{SEGMENT}.safetensors"


def _record_divergence(folder: Path, note: str) -> None:
    """Record that a trial's loss stopped being a number, and delete its resumable state."""
    (folder / SEGMENT / "resume.pt").unlink(missing_ok=True)
    _write(folder / DIVERGED, note)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", "utf-8")
