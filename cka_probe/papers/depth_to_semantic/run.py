"""Depth-to-Semantic from data to page: arms, learning rates, fine-tunings, comparisons, claims.

Each step is skipped where its file exists, so the same command resumes after an interruption, does nothing when all is
done, and adds what is missing for more `trials`, more `seeds` or the protocol "released". The first trial of the first
seed is complete before the second begins.

A learning rate is chosen for each base case on images held out from training, never on the test's. The weights of a
scored trial are deleted, except those of first trials where everything learns, which comparisons and maps need.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

from filelock import FileLock

from cka_probe import registry
from cka_probe.attribution.attribute import attribute
from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.saved_maps import save_maps
from cka_probe.comparison.ranks import alone, world_size
from cka_probe.errors import DataError, OutputError, RecipeError, TrainingError
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.lab.training import Recipe
from cka_probe.lab.training.run import check_recipe, recipe_of_folder
from cka_probe.lab.training.start import RANDOM
from cka_probe.lab.training.trainer import RESUME_POINTS
from cka_probe.lab.training.turns import take_turns
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.load import load
from cka_probe.papers import study
from cka_probe.papers.depth_to_semantic.recipes import (
    MOST_TRIALS,
    StudySettings,
    Trial,
    data_of,
    labelled_data,
    pretraining_recipe,
    read_settings,
    tuning_recipe,
    write_given,
    write_untrained,
)
from cka_probe.papers.depth_to_semantic.report import PAPER
from cka_probe.papers.depth_to_semantic.study import (
    DECLARATIONS,
    DIVERGED,
    LABELLED,
    MAIN,
    NONE,
    SCALES,
    SEGMENT,
    TRAINING_SCORES,
    Case,
    Scale,
    SemanticPaths,
    model_order,
)
from cka_probe.papers.page import write_report
from cka_probe.papers.rehearsal import IMAGES, describe_rehearsal, rehearsal_folder, rehearsal_scale
from cka_probe.papers.study import ImageSource, RunContext, main_process_only, save_result, write_text
from cka_probe.plotting.runs import read_log

CHOSEN_BY = ("miou_subset", "miou")
"""Held-out measures to choose a rate by: the first if every rate has one."""

NUM_DRAWN = 4
"""Images of the figure of maps."""

TOLERANCE = 1.0
"""Pixels of the network's input: the layer has every second pixel, and cannot place an outline better."""


def reproduce_depth_to_semantic(
    out: str | Path,
    scale: str = "demo",
    *,
    seeds: int = 1,
    trials: int | None = None,
    settings: Sequence[str] = (),
    protocol: str = "paper",
    tables: Sequence[str] = (),
    rehearse: bool = False,
    context: RunContext | None = None,
) -> Path:
    """Reproduce the paper and return its page.

    Args:
        out: Folder for everything; an existing study is resumed.
        scale: A name in `SCALES`.
        seeds: How many times every arm is pre-trained; more can be added later.
        trials: How often each case is fine-tuned under a seed, by default as the scale says; more can be added later.
        settings: `KEY=VALUE`s, see `recipes`.
        tables: What is run, names in `TABLES` or "all", by default the scale's own; more can be added later.
        protocol: "paper", or "released" to run the released code's faults as well.
        rehearse: Run everything in small in `rehearsal_folder(out)` instead, without the given data.
        context: Device, processes, progress.

    Returns:
        `out`/report/README.md.

    Raises:
        CkaProbeError: An option, a file or the folder cannot be used.
    """
    parsed, context = read_settings(settings), context or RunContext()
    size = parsed.applied(registry.get(SCALES, scale, "scale"))
    size = size.with_tables(tables) if tables else size
    if rehearse:
        out, parsed = rehearsal_folder(Path(out)), replace(parsed, data={}, weights={}, counts={})
        size = rehearsal_scale(size, DECLARATIONS, trials=1, tested=IMAGES, weights={})
    trials = size.trials if trials is None else trials
    if not 1 <= trials <= MOST_TRIALS:
        raise RecipeError(f"expected 1 to {MOST_TRIALS} trials, found {trials}; choose another number")
    shown = size.cases(protocol)
    bases = (case.base for case in shown if len(size.rates_for(case)) > 1)  # which choose the learning rates
    cases = tuple(dict.fromkeys([*shown, *bases]))
    required = _required_data(size, parsed, cases)  # reports misspelt keys now
    paths = SemanticPaths(Path(out))
    given = [text for text in settings if not text.startswith("data.")]
    description = study.describe_study(PAPER.name, scale, parsed.data, given, rehearse, parsed.counts)
    data = study.open_study(paths, description, required, size.scenes, seeds, context)
    runs = [SeedRun(paths, size, seed, data, parsed, context) for seed in range(seeds)]
    for run in runs:
        run.check(cases, trials)
    main_process_only(partial(paths.claim, description))
    for seed, run in enumerate(runs):
        architecture = run.pretrain()
        run.choose_rates(cases)
        for number in range(trials):
            run.finish_trials(cases if number == 0 else shown, number)
            if number == 0:
                context.say(f"seed {seed}: comparisons")
                run.compare(cases, architecture)
                run.write_maps(cases)
    context.say("the page")
    page = main_process_only(lambda: write_report(paths.folder, PAPER)) or paths.page
    for line in describe_rehearsal(scale) if rehearse else ():
        context.say(line)
    return page


def _required_data(scale: Scale, settings: StudySettings, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the names of the data of a study, having read every recipe of it.

    The labelled streets are always among them, because encoders are compared over their test images.
    """
    for arm, file in settings.weights.items():
        if not Path(file).exists():
            raise DataError(f"--set weights.{arm}={file}: expected a file of weights, found nothing there")
    labelled = labelled_data(dict.fromkeys(["kitti", *(case.data for case in cases)]))
    placeholders = {name: name for name in labelled}
    for case in cases:
        tuning_recipe(scale, Trial(case, scale.rates_for(case)[0], 0, 0), NONE, placeholders, settings.segment)
    return (*data_of(scale, settings.pre), *labelled)


@dataclass(frozen=True)
class SeedRun:
    """Everything under one seed, with the paths of the data by name."""

    paths: SemanticPaths
    scale: Scale
    seed: int
    data: Mapping[str, str]
    settings: StudySettings
    context: RunContext

    def check(self, cases: Sequence[Case], trials: int) -> None:
        """Check everything before training: recipes, data, processes, and that finished trials had the same recipes.

        Raises:
            CkaProbeError: Something cannot be run, or was run in another way.
        """
        recipe = self._pretraining(NONE)
        check_recipe(recipe, self.paths.pre(self.seed), world_size(), self.context.device)
        for field, objects in (("labels", False), ("boxes", True)):
            tests = {self.scale.labelled(case.data, "test", self.data) for case in cases if case.has_objects == objects}
            study.check_tests(sorted(tests), ("image", field))
        for case in cases:
            rate = self.paths.rate(self.seed, case)
            for number in range(trials):
                trial = Trial(case, self.scale.rates_for(case)[0] if rate is None else rate, self.seed, number)
                finished = (SEGMENT,) if self._is_finished(trial) else ()
                recipe_of_folder(self._recipe(trial), self._folder(trial), finished)
            check_recipe(self._recipe(replace(trial, number=0), RANDOM), None, world_size(), self.context.device)
        for base in dict.fromkeys(case.base for case in cases):
            tried, rates = self.paths.tried(self.seed, base), [f"{rate:g}" for rate in self.scale.rates_for(base)]
            if tried and set(tried) != set(rates):
                raise OutputError(
                    f"{self.paths.rates_file(self.seed)}: expected the rates {', '.join(rates)} tried for {base.name}, "
                    f"found {', '.join(tried)}; choose another --out, or the same rates"
                )

    def pretrain(self) -> str:
        """Train every arm's encoder; return the architecture."""
        recipe = self._pretraining(NONE)
        self.context.say(f"seed {self.seed}: pre-training {len(recipe.stages)} encoders")
        for arm, file in self.settings.weights.items():
            path = self.paths.checkpoint(self.seed, arm)
            main_process_only(partial(write_given, self._pretraining(arm), arm, file, path))
        if recipe.stages:
            self.context.train(recipe, self.paths.pre(self.seed))
        for arm in (arm for arm in self.scale.arms if arm in (NONE, *self.scale.stand_ins)):
            path = self.paths.checkpoint(self.seed, arm)
            main_process_only(partial(write_untrained, self._pretraining(arm), arm, path))
        return recipe.architecture

    def _pretraining(self, arm: str) -> Recipe:
        """Return the recipe of pre-training, with the architecture of an arm."""
        return pretraining_recipe(self.scale, self.seed, self.settings.pre, self.data, arm)

    def choose_rates(self, cases: Sequence[Case]) -> None:
        """Try the learning rates on every base case and record the best, if none is recorded."""
        bases = tuple(dict.fromkeys(case.base for case in cases))
        self.context.say(f"seed {self.seed}: learning rates of {len(bases)} arms")
        take_turns(
            bases,
            self._choose_rate,
            lambda base: self.paths.lock(self.seed, "rates", base.name),
            lambda base: self.paths.rate(self.seed, base) is not None,
        )
        for base in bases:
            main_process_only(partial(self._delete_other_rates, base))

    def _choose_rate(self, base: Case) -> None:
        rates, tried = self.scale.rates_for(base), {}
        for rate in rates if len(rates) > 1 else ():
            trial = Trial(base, rate, self.seed, 0)
            self._train(trial)
            tried[rate] = held_out(self._folder(trial))
        choice = best_rate(tried, base.name) if tried else (rates[0], "", {})
        main_process_only(partial(self._record_rate, base, *choice))

    def finish_trials(self, cases: Sequence[Case], number: int) -> None:
        """Train and score a trial of each case at its chosen rate, if it is not finished."""
        self.context.say(f"seed {self.seed}: trial {number} of {len(cases)} cases")
        rates = {case: self.paths.rate(self.seed, case) for case in cases}
        if missing := [case.name for case, rate in rates.items() if rate is None]:
            raise DataError(f"{missing[0]}: expected a chosen learning rate, found none; choose one first")
        trials = [Trial(case, rate, self.seed, number) for case, rate in rates.items() if rate is not None]
        take_turns(
            trials,
            self._finish,
            lambda trial: self.paths.lock(self.seed, "tuned", trial.case.name, number),
            self._is_finished,
        )
        for trial in trials:  # those of an interrupted run
            main_process_only(partial(self._discard, trial))

    def _finish(self, trial: Trial) -> None:
        if self._train(trial):
            self._score(trial)
        main_process_only(partial(self._discard, trial))

    def _discard(self, trial: Trial) -> None:
        """Delete the weights of a finished trial, unless they are needed."""
        if not keeps_weights(trial):
            _weights(self._folder(trial)).unlink(missing_ok=True)

    def compare(self, cases: Sequence[Case], architecture: str) -> None:
        """Write the fingerprints of all arms, and every comparison that is missing."""
        paths, arms = self.paths, list(dict.fromkeys(case.arm for case in cases))
        study.write_fingerprints(paths, self.seed, study.checkpoint_loaders(paths, self.seed, arms), self.images)
        tuned = [case for case in cases if is_compared(case) and paths.fingerprint(self.seed, case.model).exists()]
        specs = {"paper": study.ComparisonSpec(ARCHITECTURES[architecture].layers)}
        main_process_only(lambda: study.write_similarities(paths, self.seed, model_pairs(arms, tuned), specs))

    def write_maps(self, cases: Sequence[Case]) -> None:
        """Write maps and numbers of the networks of Figure 6, unless the file has the same networks."""
        weights = {}
        for case in map(Case, MAIN):
            rate = self.paths.rate(self.seed, case) if case in cases else None
            folder = None if rate is None else self.paths.tuned(self.seed, case, rate, 0)
            if folder is not None and _weights(folder).exists() and (folder / "scores.json").exists():
                weights[case.name] = _weights(folder)
        path = self.paths.gradcam(self.seed)
        take_turns(
            [path] if weights else [],
            partial(self._attribute, weights),
            lambda path: self.paths.lock(self.seed, "gradcam"),
            lambda path: path.exists() and list(Attributions.load(path).models) == list(weights),
            together=False,
        )

    def _attribute(self, weights: Mapping[str, Path], path: Path) -> None:
        with alone():
            result, saved_maps = attribute(
                weights,
                self.images.source,
                "first",
                num=None,
                tolerance=TOLERANCE,
                device=self.images.device,
                keep=NUM_DRAWN,
            )
        for name, maps in saved_maps.items():
            save_maps(maps, self.paths.maps(self.seed, name))
        save_result(result, path)

    @property
    def images(self) -> ImageSource:
        """Images over which all encoders are compared: streets that none was trained on."""
        return ImageSource(self.scale.labelled("kitti", "test", self.data), self.scale.num, self.context.device)

    def _folder(self, trial: Trial) -> Path:
        return self.paths.tuned(self.seed, trial.case, trial.rate, trial.number)

    def _recipe(self, trial: Trial, start: str | Path = "") -> Recipe:
        """Return the recipe of a trial, which starts from the checkpoint of its arm."""
        arm = trial.case.arm
        start = start or self.settings.weights.get(arm, self.paths.checkpoint(self.seed, arm))
        return tuning_recipe(self.scale, trial, start, self.data, self.settings.segment)

    def _is_finished(self, trial: Trial) -> bool:
        return any((self._folder(trial) / name).exists() for name in ("scores.json", DIVERGED))

    def _train(self, trial: Trial) -> bool:
        """Run the recipe of a trial; return whether its loss stayed finite."""
        folder = self._folder(trial)
        if (folder / DIVERGED).exists():
            return False
        recipe = self._recipe(trial)
        self.context.say(f"seed {self.seed}: {trial.case.name}, trial {trial.number}, rate {trial.rate:g}")
        try:
            self.context.train(recipe, folder)
        except TrainingError as error:
            main_process_only(partial(_record_divergence, folder, str(error)))
            return False
        return True

    def _score(self, trial: Trial) -> None:
        """Score a trial on the test images in all processes, and write its fingerprint if its encoder is compared."""
        folder, test = self._folder(trial), self.scale.labelled(trial.case.data, "test", self.data)
        keep = folder / "predictions" if keeps_weights(trial) and not trial.case.has_objects else None
        scores = evaluate(_weights(folder), test, device=self.context.device, keep=keep)
        if trial.number == 0 and is_compared(trial.case):
            model = partial(load, _weights(folder))
            write = partial(study.write_fingerprint, self.paths, self.seed, trial.case.model, model, self.images)
            main_process_only(write)
        stage = self._recipe(trial).stages[0]
        scores_training = trial.case.network in LABELLED[trial.case.data].get("training_scores", ())
        if scores_training and not stage.num and not stage.held_out:
            training = evaluate(_weights(folder), stage.data[0], device=self.context.device)
            main_process_only(partial(save_result, training, folder / TRAINING_SCORES))
        main_process_only(partial(save_result, scores, folder / "scores.json"))

    def _record_rate(self, base: Case, rate: float, measure: str, tried: Mapping[float, float]) -> None:
        values = {f"{rate:g}": None if math.isnan(value) else value for rate, value in tried.items()}
        with FileLock(self.paths.lock(self.seed, "rates")):  # other jobs record those of other cases
            rates = self.paths.rates(self.seed)
            rates[base.name] = {"rate": rate, "tried": values, "measure": measure}
            write_text(self.paths.rates_file(self.seed), json.dumps(rates, indent=2) + "\n")

    def _delete_other_rates(self, base: Case) -> None:
        best = self.paths.rate(self.seed, base)
        for rate in self.scale.rates_for(base):
            if rate != best:
                _weights(self.paths.tuned(self.seed, base, rate, 0)).unlink(missing_ok=True)


def model_pairs(arms: Iterable[str], tuned: Iterable[Case]) -> list[tuple[str, str]]:
    """Return the names of the models that are compared, (rows, columns); the earlier arm is on the rows.

    Fine-tuned cases are compared with each other only where data and mode are the same.
    """
    arms, tuned = sorted(arms, key=model_order), sorted(tuned, key=lambda case: model_order(case.model))
    before_after = [(case.arm, case.model) for case in tuned]
    alike = [(x, y) for x, y in combinations(tuned, 2) if (x.data, x.mode) == (y.data, y.mode) == (x.data, "all")]
    return [*before_after, *combinations(arms, 2), *((x.model, y.model) for x, y in alike)]


def keeps_weights(trial: Trial) -> bool:
    """Return whether a trial's weights and predictions are kept after it was scored."""
    return trial.number == 0 and trial.case.mode == "all" and not trial.case.quirks


def is_compared(case: Case) -> bool:
    """Return whether a case's encoder is compared with its start: base cases and their frozen variants."""
    return case.base.mode == "all" and case in (case.base, replace(case.base, mode="frozen"))


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
    last = read_log(path).iloc[-1]
    return {name: float(last[name]) for name in CHOSEN_BY if name in last}


def best_rate(tried: Mapping[float, Mapping[str, float]], name: str) -> tuple[float, str, dict[float, float]]:
    """Return the best rate, the measure that it was chosen by, and its value for each rate.

    `tried` has held-out values by rate, {} where training diverged. The first of equal rates is taken.

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


def _record_divergence(folder: Path, error: str) -> None:
    """Record that a trial's loss stopped being a number, and delete its resumable state."""
    for name in RESUME_POINTS:
        (folder / SEGMENT / name).unlink(missing_ok=True)
    write_text(folder / DIVERGED, json.dumps({"error": error}) + "\n")
