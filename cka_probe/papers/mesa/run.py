"""MeSa from nothing to its page: data, teacher, every arm under every seed, scores, comparisons, claims.

Each step is skipped where its file is there, so the same command goes on after an interruption, does nothing when
all is done, and with a larger `seeds` adds what is missing. The order is that of need: what the first seed has to say
is there before the second begins.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cka_probe import registry
from cka_probe.errors import DataError, RecipeError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.lab.pseudo_depth import write_pseudo_depth
from cka_probe.lab.training import Recipe, read_recipe, run_recipe
from cka_probe.lab.training.start import random_backbone
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import versions
from cka_probe.papers.mesa.report import write_report
from cka_probe.papers.mesa.scales import NEEDED, SCALES, TESTS, TRAINED_ON, Scale
from cka_probe.papers.mesa.similarities import RANDOM, fed_alike, fingerprints, ways
from cka_probe.papers.run_context import RunContext, main_process_only
from cka_probe.papers.similarities import Images, checkpoints, write_similarities
from cka_probe.papers.study import Study
from cka_probe.papers.study_data import check_given, prepare

TUNED = "_depth"
"""Ends the name of a stage that fine-tunes the stage before the ending."""

FED_OTHERWISE = ("mp", "mp_depth_plain")
"""The pair whose second network is fed otherwise than its first."""


def reproduce_mesa(
    out: str | Path,
    scale: str = "demo",
    *,
    seeds: int = 1,
    settings: Sequence[str] = (),
    means: RunContext | None = None,
) -> Path:
    """Do the paper again and return its page.

    Args:
        out: Folder for everything; a study that is there goes on.
        scale: A name in `SCALES`.
        seeds: How many; more can be added later.
        settings: `KEY=VALUE` of the scale's recipe, as `--set` takes them; `data.NAME=PATH` gives real data.
        means: Device, processes, progress.

    Returns:
        `out`/report/README.md.

    Raises:
        CkaProbeError: What does not fit, is not there, or stands in the way.
    """
    size, means = registry.get(SCALES, scale, "scale"), means or RunContext()
    if seeds < 1:
        raise RecipeError(f"expected at least 1 seed, found {seeds}; ask for more")
    given, settings = _data_given(settings)
    read_recipe(size.recipe, [*settings, *(f"data.{name}=." for name in TRAINED_ON)])  # a misspelt key is told now
    needed = _needed(size, given)
    check_given(needed, given, size.scenes)
    study = Study(Path(out))
    study.claim({"paper": "mesa", "scale": scale, "data": given, "settings": settings, "versions": versions()})
    paths = prepare(needed, given, size.scenes, study.folder / "data", workers=means.drawers, progress=means.drawing)
    _label(study, size, paths, means)
    for seed in range(seeds):
        recipe = read_recipe(size.recipe, [*settings, f"seed={seed}", *(f"data.{n}={paths[n]}" for n in TRAINED_ON)])
        means.say(f"seed {seed}: training {len(recipe.stages)} stages")
        run_recipe(recipe, study.run(seed), device=means.device, workers=means.workers, progress=means.training)
        main_process_only(lambda recipe=recipe: _measure(study, recipe, size, paths, means))
    means.say("the page")
    return main_process_only(lambda: write_report(study.folder)) or study.page


def _data_given(settings: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the paths among some `KEY=VALUE`s, by name, and the others."""
    paths = {key: value for key, _, value in (text.partition("=") for text in settings) if key.startswith("data.")}
    others = [text for text in settings if not text.startswith("data.")]
    return {key.removeprefix("data."): value for key, value in paths.items()}, others


def _needed(scale: Scale, given: Mapping[str, str]) -> tuple[str, ...]:
    """Return the data of a study: with rooms for a teacher where videos are drawn, which need one."""
    return (*NEEDED, "rooms") if scale.teacher and "videos" not in given else NEEDED


def _label(study: Study, scale: Scale, paths: Mapping[str, str], means: RunContext) -> None:
    """Give the videos pseudo-depth: a teacher's where they were drawn, their own where they were given.

    Raises:
        DataError: They were given without.
    """
    videos = f"scdepth:{paths['videos']}"
    if "rooms" in paths:
        means.say("teacher")
        recipe = read_recipe(scale.teacher, [*scale.teacher_settings, f"data.rooms={paths['rooms']}"])
        run = study.folder / "teacher"
        (teacher,) = run_recipe(recipe, run, device=means.device, workers=means.workers, progress=means.training)
        main_process_only(lambda: write_pseudo_depth(str(teacher), videos, overwrite=True, device=means.device))
    elif "pseudo_depth" not in open_dataset(f"{videos}:train").gives:
        raise DataError(
            f"expected pseudo-depth (leres_depth) beside the videos of {paths['videos']}, found none; write some with "
            f"`ckaprobe data pseudo-depth SOURCE {videos}`"
        )


def _measure(study: Study, recipe: Recipe, scale: Scale, paths: Mapping[str, str], means: RunContext) -> None:
    """Write all scores and comparisons of a run."""
    means.say(f"seed {recipe.seed}: scores")
    _score(study, recipe, paths, means)
    means.say(f"seed {recipe.seed}: comparisons")
    _compare(study, recipe, Images(TESTS["in"].format(**paths), scale.num, means.device))


def _score(study: Study, recipe: Recipe, paths: Mapping[str, str], means: RunContext) -> None:
    """Write how well every checkpoint that predicts depth does so, where it was tuned and elsewhere."""
    for stage in recipe.stages:
        if stage.task not in ("depth", "geometric", "pseudo_depth"):
            continue
        for where, spec in TESTS.items():
            path = study.scores(recipe.seed, stage.name, where)
            if not path.exists():
                scores = evaluate(
                    study.checkpoint(recipe.seed, stage.name),
                    spec.format(**paths),
                    device=means.device,
                    keep=study.predictions(recipe.seed, stage.name, where),
                )
                scores.save(path.with_suffix(".csv"))
                scores.save(path)  # last: it says that the others are there


def _compare(study: Study, recipe: Recipe, images: Images) -> None:
    """Write every fingerprint and every comparison of a run."""
    names = [stage.name for stage in recipe.stages]
    tuned = [name for name in names if name.endswith(TUNED)]
    before = [name for name in names if name.removesuffix(TUNED) + TUNED in tuned and name not in tuned]
    others = [name for name in names if name.startswith("mp_depth_")]
    models = checkpoints(study, recipe.seed, [*before, *tuned, *others])
    models[RANDOM] = lambda: _fresh(recipe)
    fingerprints(study, recipe.seed, models, images)
    pairs = [(name, name) for name in (*before, RANDOM)]
    pairs += [(name.removesuffix(TUNED), name) for name in tuned] + [("mp", name) for name in others]
    nine = ARCHITECTURES[recipe.architecture].layers
    for _ in write_similarities(study, recipe.seed, pairs, ways(nine)):
        pass
    if FED_OTHERWISE[1] in names:
        fed_alike(study, recipe.seed, FED_OTHERWISE, models, images)


def _fresh(recipe: Recipe) -> Backbone:
    """Return the network as the recipe's seed initialises it: what every arm began with."""
    return random_backbone(recipe, recipe.size).eval()
