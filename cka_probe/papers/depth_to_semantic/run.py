"""Depth-to-Semantic from nothing to its page: data, arms, learning rates, fine-tunings, comparisons, claims.

Each step is skipped where its file is there, so the same command goes on after an interruption, does nothing when
all is done, and with more `trials`, more `seeds` or the protocol "released" adds what is missing. The order is that of
need: what the first trial of the first seed has to say is there before the second begins.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cka_probe import registry
from cka_probe.errors import RecipeError
from cka_probe.lab.training import run_recipe
from cka_probe.lab.training.run import open_samples
from cka_probe.models.checkpoint import versions
from cka_probe.papers.depth_to_semantic.cases import Case
from cka_probe.papers.depth_to_semantic.gradcam import write_gradcam
from cka_probe.papers.depth_to_semantic.overrides import MOST_TRIALS, Trial, tuning_recipe
from cka_probe.papers.depth_to_semantic.pretraining import NONE, data_of, pretraining_recipe, write_chance
from cka_probe.papers.depth_to_semantic.report import write_report
from cka_probe.papers.depth_to_semantic.scales import SCALES, Scale
from cka_probe.papers.depth_to_semantic.settings import Given, read_settings
from cka_probe.papers.depth_to_semantic.similarities import write_likeness
from cka_probe.papers.depth_to_semantic.study_paths import StudyPaths
from cka_probe.papers.depth_to_semantic.tuning import Tuning
from cka_probe.papers.run_context import RunContext, main_process_only
from cka_probe.papers.study_data import check_given, prepare


def reproduce_depth_to_semantic(
    out: str | Path,
    scale: str = "demo",
    *,
    seeds: int = 1,
    trials: int | None = None,
    settings: Sequence[str] = (),
    protocol: str = "paper",
    tables: Sequence[str] = (),
    means: RunContext | None = None,
) -> Path:
    """Do the paper again and return its page.

    Args:
        out: Folder for everything; a study that is there goes on.
        scale: A name in `SCALES`.
        seeds: How many times every arm is pre-trained; more can be added later.
        trials: How often each case is fine-tuned under a seed, by default as the scale says; more can be added later.
        settings: `KEY=VALUE`s, see `settings`.
        tables: What is run, names in `TABLES` or "all", by default the scale's own; more can be added later.
        protocol: "paper", or "released" to run the released code's faults beside it.
        means: Device, processes, progress.

    Returns:
        `out`/report/README.md.

    Raises:
        CkaProbeError: What does not fit, is not there, or stands in the way.
    """
    given, means = read_settings(settings), means or RunContext()
    size = given.applied(registry.get(SCALES, scale, "scale"))
    size = size.showing(tables) if tables else size
    trials = size.trials if trials is None else trials
    _check_counts(seeds, trials)
    cases = with_bases(size.cases(protocol))
    needed = _needed(size, given, cases)  # a misspelt key is told now
    check_given(needed, given.data, size.scenes)
    study = StudyPaths(Path(out))
    what = {"paper": "depth-to-semantic", "scale": scale, "data": given.data, "settings": list(settings)}
    study.claim(what | {"versions": versions()})
    paths = prepare(
        needed, given.data, size.scenes, study.folder / "data", workers=means.drawers, progress=means.drawing
    )
    for seed in range(seeds):
        tuning = Tuning(study, size, seed, paths, given.segment, means)
        _check_data(tuning, cases)
        architecture = _pretrain(study, size, seed, given.pre, paths, means)
        _tune(tuning, cases, size.cases(protocol), trials, architecture)
    means.say("the page")
    return main_process_only(lambda: write_report(study.folder)) or study.page


def with_bases(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Return cases, and the base cases of those whose own are not among them: these are run once, to be chosen by."""
    return tuple(dict.fromkeys([*cases, *(case.base for case in cases)]))


def _check_counts(seeds: int, trials: int) -> None:
    if seeds < 1:
        raise RecipeError(f"expected at least 1 seed, found {seeds}; ask for more")
    if not 1 <= trials <= MOST_TRIALS:
        raise RecipeError(f"expected 1 to {MOST_TRIALS} trials, found {trials}; ask for so many")


def _needed(scale: Scale, given: Given, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the names of the data of a study, having read every recipe of it.

    The labelled streets are always among them: over their test images encoders are compared.
    """
    labelled = [f"{data}_labels" for data in dict.fromkeys(["kitti", *(case.data for case in cases)])]
    anywhere = {name: name for name in labelled}
    for case in cases:
        tuning_recipe(scale, Trial(case, scale.rates[0], 0, 0), NONE, anywhere, given.segment)
    return (*data_of(scale, given.pre), *labelled)


def _check_data(tuning: Tuning, cases: Sequence[Case]) -> None:
    """Open what every case trains on: too few images, or none with labels, is told before anything is trained."""
    for case in {(case.data, case.num): case for case in cases}.values():
        trial = Trial(case, tuning.scale.rates[0], tuning.seed, 0)
        open_samples(tuning_recipe(tuning.scale, trial, NONE, tuning.paths, tuning.settings))


def _pretrain(
    study: StudyPaths, scale: Scale, seed: int, settings: Sequence[str], paths: Mapping[str, str], means: RunContext
) -> str:
    """Train every arm's encoder; return the architecture."""
    recipe = pretraining_recipe(scale, seed, settings, paths)
    means.say(f"seed {seed}: pre-training {len(recipe.stages)} encoders")
    run_recipe(recipe, study.pre(seed), device=means.device, workers=means.workers, progress=means.training)
    main_process_only(lambda: write_chance(recipe, study.checkpoint(seed, NONE)))
    return recipe.architecture


def _tune(tuning: Tuning, cases: Sequence[Case], shown: Sequence[Case], trials: int, architecture: str) -> None:
    """Fine-tune and score every trial of a seed; compare encoders after the first.

    Args:
        tuning: Of a seed.
        cases: All, with the base cases.
        shown: Those that a table shows; the others are run once.
        trials: Of each case.
        architecture: Of all encoders.
    """
    means, seed = tuning.means, tuning.seed
    bases = dict.fromkeys(case.base for case in cases)
    means.say(f"seed {seed}: learning rates of {len(bases)} arms")
    for base in bases:
        tuning.choose_rate(base)
    for number in range(trials):
        means.say(f"seed {seed}: trial {number} of {len(cases if number == 0 else shown)} cases")
        for case in cases if number == 0 else shown:
            tuning.finish(case, number)
        if number == 0:
            means.say(f"seed {seed}: comparisons")
            main_process_only(lambda: write_likeness(tuning.study, seed, cases, tuning.images, architecture))
            main_process_only(lambda: write_gradcam(tuning.study, seed, cases, tuning.images.source, means.device))
