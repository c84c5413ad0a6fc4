"""Depth-to-Semantic from data to page: arms, learning rates, fine-tunings, comparisons, claims.

Each step is skipped where its file exists, so the same command resumes after an interruption, does nothing when all is
done, and adds what is missing for more `trials`, more `seeds` or the protocol "released". The first trial of the first
seed is complete before the second begins.

Encoders are compared before and after fine-tuning, and every arm with every other, before and after. All are shown the
same street images, which none was trained on, and are compared at their nine default layers by the unbiased estimator,
each fed as it was trained. Grad-CAM maps of the networks of Figure 6 are written once a seed, after its first trial:
maps of the score of the segmentation at the first ReLU, before any pooling. All test images have their numbers; the
maps of a few, evenly spread over the list and so not chosen by how they look, are kept for the figure.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from cka_probe import registry
from cka_probe.attribution.attribute import attribute
from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.saved_maps import save_maps
from cka_probe.errors import RecipeError
from cka_probe.lab.training.run import open_samples
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.checkpoint import versions
from cka_probe.papers.depth_to_semantic.cases import FIGURE6, NONE, Case
from cka_probe.papers.depth_to_semantic.page import PAPER
from cka_probe.papers.depth_to_semantic.recipes import (
    MOST_TRIALS,
    StudySettings,
    Trial,
    data_of,
    pretraining_recipe,
    read_settings,
    tuning_recipe,
    write_untrained,
)
from cka_probe.papers.depth_to_semantic.study import SCALES, SEGMENT, Scale, SemanticPaths
from cka_probe.papers.depth_to_semantic.training import Tuning, is_compared
from cka_probe.papers.page import write_report
from cka_probe.papers.study import (
    ComparisonSpec,
    ImageSource,
    RunContext,
    check_data,
    check_seeds,
    checkpoint_loaders,
    main_process_only,
    prepare_data,
    save_result,
    write_fingerprints,
    write_similarities,
)

NUM_DRAWN = 4
"""ImageSource of the figure."""

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
    context: RunContext | None = None,
) -> Path:
    """Reproduce the paper and return its page.

    Args:
        out: Folder for everything; an existing study is resumed.
        scale: A name in `SCALES`.
        seeds: How many times every arm is pre-trained; more can be added later.
        trials: How often each case is fine-tuned under a seed, by default as the scale says; more can be added later.
        settings: `KEY=VALUE`s, see `training`.
        tables: What is run, names in `TABLES` or "all", by default the scale's own; more can be added later.
        protocol: "paper", or "released" to run the released code's faults as well.
        context: Device, processes, progress.

    Returns:
        `out`/report/README.md.

    Raises:
        CkaProbeError: An option, a file or the folder cannot be used.
    """
    parsed, context = read_settings(settings), context or RunContext()
    size = parsed.applied(registry.get(SCALES, scale, "scale"))
    size = size.with_tables(tables) if tables else size
    trials = size.trials if trials is None else trials
    _check_counts(seeds, trials)
    cases = with_bases(size.cases(protocol))
    required = _required_data(size, parsed, cases)  # reports misspelt keys now
    check_data(required, parsed.data, size.scenes)
    paths = SemanticPaths(Path(out))
    description = {"paper": "depth-to-semantic", "scale": scale, "data": parsed.data, "settings": list(settings)}
    paths.claim(description | {"versions": versions()})
    data = prepare_data(required, parsed.data, size.scenes, paths.folder / "data", context)
    for seed in range(seeds):
        tuning = Tuning(paths, size, seed, data, parsed.segment, context)
        _check_data(tuning, cases)
        architecture = _pretrain(paths, size, seed, parsed.pre, data, context)
        _tune(tuning, cases, size.cases(protocol), trials, architecture)
    context.say("the page")
    return main_process_only(lambda: write_report(paths.folder, PAPER)) or paths.page


def with_bases(cases: Sequence[Case]) -> tuple[Case, ...]:
    """Return cases and their base cases, which are run at least once to choose learning rates."""
    return tuple(dict.fromkeys([*cases, *(case.base for case in cases)]))


def _check_counts(seeds: int, trials: int) -> None:
    check_seeds(seeds)
    if not 1 <= trials <= MOST_TRIALS:
        raise RecipeError(f"expected 1 to {MOST_TRIALS} trials, found {trials}; choose another number")


def _required_data(scale: Scale, settings: StudySettings, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the names of the data of a study, having read every recipe of it.

    The labelled streets are always among them, because encoders are compared over their test images.
    """
    labelled = [f"{data}_labels" for data in dict.fromkeys(["kitti", *(case.data for case in cases)])]
    placeholders = {name: name for name in labelled}
    for case in cases:
        tuning_recipe(scale, Trial(case, scale.rates[0], 0, 0), NONE, placeholders, settings.segment)
    return (*data_of(scale, settings.pre), *labelled)


def _check_data(tuning: Tuning, cases: Sequence[Case]) -> None:
    """Open what every case trains on: too few images, or none with labels, are an error before anything is trained."""
    for case in {(case.data, case.num): case for case in cases}.values():
        trial = Trial(case, tuning.scale.rates[0], tuning.seed, 0)
        open_samples(tuning_recipe(tuning.scale, trial, NONE, tuning.data, tuning.settings))


def _pretrain(
    paths: SemanticPaths, scale: Scale, seed: int, settings: Sequence[str], data: Mapping[str, str], context: RunContext
) -> str:
    """Train every arm's encoder; return the architecture."""
    recipe = pretraining_recipe(scale, seed, settings, data)
    context.say(f"seed {seed}: pre-training {len(recipe.stages)} encoders")
    context.train(recipe, paths.pre(seed))
    main_process_only(lambda: write_untrained(recipe, paths.checkpoint(seed, NONE)))
    return recipe.architecture


def _tune(tuning: Tuning, cases: Sequence[Case], shown: Sequence[Case], trials: int, architecture: str) -> None:
    """Fine-tune and score every trial of a seed, cases that no table shows once; compare encoders after the first."""
    context, seed = tuning.context, tuning.seed
    bases = dict.fromkeys(case.base for case in cases)
    context.say(f"seed {seed}: learning rates of {len(bases)} arms")
    for base in bases:
        tuning.choose_rate(base)
    for number in range(trials):
        context.say(f"seed {seed}: trial {number} of {len(cases if number == 0 else shown)} cases")
        for case in cases if number == 0 else shown:
            tuning.finish(case, number)
        if number == 0:
            context.say(f"seed {seed}: comparisons")
            main_process_only(
                lambda: write_encoder_similarities(tuning.paths, seed, cases, tuning.images, architecture)
            )
            main_process_only(lambda: write_gradcam(tuning.paths, seed, cases, tuning.images.source, context.device))


def write_encoder_similarities(
    paths: SemanticPaths, seed: int, cases: Sequence[Case], images: ImageSource, architecture: str
) -> None:
    """Write the fingerprints of all arms, and every comparison that is missing."""
    arms = list(dict.fromkeys(case.arm for case in cases))
    write_fingerprints(paths, seed, checkpoint_loaders(paths, seed, arms), images)
    tuned = [case for case in cases if is_compared(case) and paths.fingerprint(seed, case.model).exists()]
    specs = {"paper": ComparisonSpec(ARCHITECTURES[architecture].layers)}
    write_similarities(paths, seed, model_pairs(arms, tuned), specs)


def model_pairs(arms: Sequence[str], tuned: Sequence[Case]) -> list[tuple[str, str]]:
    """Return the names of the models that are compared, (rows, columns).

    Args:
        arms: In order; the earlier one is on the rows.
        tuned: Fine-tuned cases that have a fingerprint; with each other only those of one data set and mode.
    """
    before_after = [(case.arm, case.model) for case in tuned]
    alike = [(x, y) for x, y in combinations(tuned, 2) if (x.data, x.mode) == (y.data, y.mode) == (x.data, "all")]
    return [*before_after, *combinations(arms, 2), *((x.model, y.model) for x, y in alike)]


def write_gradcam(paths: SemanticPaths, seed: int, cases: Sequence[Case], test: str, device: str) -> None:
    """Write maps and numbers of the networks of Figure 6 on the test images, unless the file has the same networks."""
    weights = {}
    for case in FIGURE6:
        rate = paths.rate(seed, case) if case in cases else None
        weights_path = None if rate is None else paths.tuned(seed, case, rate, 0) / f"{SEGMENT}.safetensors"
        if weights_path is not None and weights_path.exists() and (weights_path.parent / "scores.json").exists():
            weights[case.name] = weights_path
    path = paths.gradcam(seed)
    if not weights or (path.exists() and list(Attributions.load(path).models) == list(weights)):
        return
    result, saved_maps = attribute(weights, test, "first", num=None, tolerance=TOLERANCE, device=device, keep=NUM_DRAWN)
    for name, maps in saved_maps.items():
        save_maps(maps, paths.maps(seed, name))
    save_result(result, path)
