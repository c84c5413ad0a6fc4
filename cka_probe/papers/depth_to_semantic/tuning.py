"""The fine-tunings of a seed: a learning rate for each arm, every case as often as asked, its scores.

A rate is chosen by images held out from training, never by the test's: each is tried in the first trial of the
arm's base case, and the one with the best mean intersection over union after the last step is taken. What was tried
and not taken is not scored. A trial whose loss stops being a number has no scores but a line that says so, and the
study goes on.

A finished trial is one that has its scores; its weights are deleted then, but for those of the first trial where
everything learns, which later steps and readers look at.
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
from cka_probe.lab.training import run_recipe
from cka_probe.models.load import load
from cka_probe.papers.depth_to_semantic.cases import Case
from cka_probe.papers.depth_to_semantic.overrides import Trial, tuning_recipe
from cka_probe.papers.depth_to_semantic.scales import Scale
from cka_probe.papers.depth_to_semantic.study_paths import DIVERGED, SEGMENT, StudyPaths
from cka_probe.papers.run_context import RunContext, main_process_only
from cka_probe.papers.similarities import Images, write_fingerprints

CHOSEN_BY = ("miou_subset", "miou")
"""Held-out values that a rate is chosen by: the first, where every rate has one."""


@dataclass(frozen=True)
class Tuning:
    """All fine-tunings under one seed.

    Attributes:
        study: Where everything lies.
        scale: What is run.
        seed: Of the study.
        paths: Of the data, by name.
        settings: `--set` of the recipe of fine-tuning.
        means: Device, processes, progress.
    """

    study: StudyPaths
    scale: Scale
    seed: int
    paths: Mapping[str, str]
    settings: Sequence[str]
    means: RunContext

    def choose_rate(self, base: Case) -> None:
        """Try the learning rates on a base case and note the best, unless that was done."""
        if self.study.rate(self.seed, base) is None:
            tried = {}
            for rate in self.scale.rates:
                self._train(Trial(base, rate, self.seed, 0))
                tried[rate] = held_out(self.study.tuned(self.seed, base, rate, 0))
            main_process_only(lambda: self._note(base, *best_rate(tried, base.name)))
        main_process_only(lambda: self._delete_losers(base))

    def finish(self, case: Case, number: int) -> None:
        """Train and score a trial of a case at its chosen rate, unless that was done."""
        trial = Trial(case, self.study.rate(self.seed, case), self.seed, number)
        folder = self._folder(trial)
        if not any((folder / name).exists() for name in ("scores.json", DIVERGED)) and self._train(trial):
            main_process_only(lambda: self._score(trial))
        main_process_only(lambda: None if kept(trial) else _weights(folder).unlink(missing_ok=True))

    def _folder(self, trial: Trial) -> Path:
        return self.study.tuned(self.seed, trial.case, trial.rate, trial.number)

    def _train(self, trial: Trial) -> bool:
        """Run the recipe of a trial; return whether its loss was a number to the end."""
        folder, start = self._folder(trial), self.study.checkpoint(self.seed, trial.case.arm)
        if (folder / DIVERGED).exists():
            return False
        recipe = tuning_recipe(self.scale, trial, start, self.paths, self.settings)
        means = self.means
        means.say(f"seed {self.seed}: {trial.case.name}, trial {trial.number}, rate {trial.rate:g}")
        try:
            run_recipe(recipe, folder, device=means.device, workers=means.workers, progress=means.training)
        except TrainingError as error:
            note = json.dumps({"error": str(error)})
            main_process_only(lambda: _give_up(folder, note))
            return False
        return True

    def _score(self, trial: Trial) -> None:
        """Write how well a trial segments the test images, and the fingerprint of those that are compared."""
        folder, test = self._folder(trial), self.scale.test(trial.case.data, self.paths)
        keep = folder / "predictions" if kept(trial) else None
        scores = evaluate(_weights(folder), test, device=self.means.device, keep=keep)
        if trial.number == 0 and compared(trial.case):
            name = self.study.model(self.seed, trial.case, 0)
            write_fingerprints(self.study, self.seed, {name: lambda: load(_weights(folder))}, self.images)
        scores.save(folder / "scores.csv")
        scores.save(folder / "scores.json")  # last: it says that the others are there

    @property
    def images(self) -> Images:
        """Return what all encoders of the study are shown to be compared: streets that none was trained on."""
        return Images(self.scale.test("kitti", self.paths), self.scale.num, self.means.device)

    def _note(self, base: Case, rate: float, measure: str, tried: Mapping[float, float]) -> None:
        path = self.study.rates(self.seed)
        there = json.loads(path.read_text("utf-8")) if path.exists() else {}
        values = {f"{rate:g}": None if math.isnan(value) else value for rate, value in tried.items()}
        there[base.name] = {"rate": rate, "tried": values, "measure": measure}
        _write(path, json.dumps(there, indent=2))

    def _delete_losers(self, base: Case) -> None:
        chosen = self.study.rate(self.seed, base)
        for rate in self.scale.rates:
            if rate != chosen:
                _weights(self.study.tuned(self.seed, base, rate, 0)).unlink(missing_ok=True)


def kept(trial: Trial) -> bool:
    """Return whether a trial's weights and predictions stay after it was scored."""
    return trial.number == 0 and trial.case.mode == "all" and not trial.case.quirks


def compared(case: Case) -> bool:
    """Return whether a case's encoder is compared with what it began as: base cases, and frozen ones beside them."""
    return case in (case.base, Case(case.arm, case.data, mode="frozen"))


def held_out(folder: Path) -> dict[str, float]:
    """Return the values of a run's last evaluation on images held out; {} if it diverged.

    Raises:
        DataError: There was none.
    """
    path = folder / SEGMENT / "validation.csv"
    if (folder / DIVERGED).exists():
        return {}
    if not path.exists():
        raise DataError(f"expected {path}, found nothing; set {SEGMENT}.held_out, by which a learning rate is chosen")
    last = pd.read_csv(path).iloc[-1]
    return {name: float(last[name]) for name in CHOSEN_BY if name in last}


def best_rate(tried: Mapping[float, Mapping[str, float]], name: str) -> tuple[float, str, dict[float, float]]:
    """Return the best of some rates, what it was chosen by, and that of each.

    Args:
        tried: Held-out values by rate; none where training diverged. Of equals the first is taken.
        name: Of the case, for the message.

    Raises:
        DataError: No rate has a value.
    """
    trained = [values for values in tried.values() if values]
    for measure in CHOSEN_BY:
        if trained and all(not math.isnan(values.get(measure, math.nan)) for values in trained):
            by = {rate: values.get(measure, math.nan) for rate, values in tried.items()}
            return max((rate for rate in by if not math.isnan(by[rate])), key=by.get), measure, by
    rates = ", ".join(f"{rate:g}" for rate in tried)
    raise DataError(
        f"{name}: expected a held-out mIoU at one of the learning rates {rates}, found none; hold more images out "
        f"({SEGMENT}.held_out), or try lower rates"
    )


def _weights(folder: Path) -> Path:
    return folder / f"{SEGMENT}.safetensors"


def _give_up(folder: Path, note: str) -> None:
    """Say that a trial's loss stopped being a number, and delete what it would have gone on from."""
    (folder / SEGMENT / "resume.pt").unlink(missing_ok=True)
    _write(folder / DIVERGED, note)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as beside:
        beside.write_text(text + "\n", "utf-8")
