"""MeSa from data to page: teacher, every arm under every seed, scores, comparisons, claims.

Each step is skipped where its file exists, so the same command resumes after an interruption, does nothing when all is
done, and adds what is missing for a larger `seeds`. The first seed is complete before the second begins. Each
comparison is made in five variants (`variants` in `paper.toml`), of which the paper shows one without saying which;
with fingerprints each takes a few milliseconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from cka_probe import registry
from cka_probe.comparison.compare import compare
from cka_probe.comparison.ranks import world_size
from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.lab.pseudo_depth import write_pseudo_depth
from cka_probe.lab.training import Recipe
from cka_probe.lab.training.run import check_recipe
from cka_probe.lab.training.start import random_backbone, resized
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.papers import study
from cka_probe.papers.mesa.report import PAPER
from cka_probe.papers.mesa.study import COUNTS, DECLARATIONS, SCALES, SOURCE, TRAINED_ON, Scale, data_of, teacher_of
from cka_probe.papers.page import write_report
from cka_probe.papers.rehearsal import describe_rehearsal, rehearsal_folder, rehearsal_scale
from cka_probe.papers.study import ComparisonSpec, ImageSource, RunContext, StudyPaths, main_process_only

TUNED = "_depth"
"""Suffix of a stage that fine-tunes the stage named before it."""

RANDOM = "random"
"""The network as it was initialised, which has no checkpoint."""

TEACHER = "teacher"
"""The recipe that gives pseudo-depth to the videos of a rehearsal."""

FED_DIFFERENTLY = ("mp", "mp_depth_plain")
"""The pair whose networks normalise their input differently."""


def reproduce_mesa(
    out: str | Path,
    scale: str = "demo",
    *,
    seeds: int = 1,
    settings: Sequence[str] = (),
    rehearse: bool = False,
    context: RunContext | None = None,
) -> Path:
    """Reproduce the paper and return its page.

    Args:
        out: Folder for everything; an existing study is resumed.
        scale: A name in `SCALES`.
        seeds: How many; more can be added later.
        settings: `KEY=VALUE` of the scale's recipe, as `--set` takes them; `data.NAME=PATH` gives real data, and
            `teacher=SOURCE` a network for the pseudo-depth of the videos, as `open_source` takes it; `num=N`,
            `tested=N` and `each=N` set numbers of images (docs/papers.md).
        rehearse: Run everything in small in `rehearsal_folder(out)` instead, without the given data and teacher.
        context: Device, processes, progress.

    Returns:
        `out`/report/README.md.

    Raises:
        CkaProbeError: An option, a file or the folder cannot be used.
    """
    size: Scale = registry.get(SCALES, scale, "scale")
    context = context or RunContext()
    pairs = (text.removeprefix("data.").partition("=") for text in settings if text.startswith("data."))
    given = {name: path for name, _, path in pairs}
    settings = [text for text in settings if not text.startswith("data.")]
    source = teacher_of(settings)
    counts, keys = study.split_counts([text for text in settings if not text.startswith(SOURCE)], COUNTS)
    size = replace(size, **counts)
    if rehearse:
        given, source, settings, counts, out = {}, "", keys, {}, rehearsal_folder(Path(out))
        size = rehearsal_scale(size, DECLARATIONS, teacher=size.teacher or TEACHER, tested=None)
    names = {name: name for name in TRAINED_ON}
    plain = size.read(size.recipe, [*keys, *(f"data.{name}={name}" for name in names)])  # reports misspelt keys now
    used = data_of(names, [(*stage.data, *stage.validation) for stage in plain.stages])
    taught = size.teacher and "videos" in used and "videos" not in given and not source  # the teacher learns from rooms
    required = (*used, "rooms") if taught else used
    paths = StudyPaths(Path(out))
    description = study.describe_study(PAPER.name, scale, given, settings, rehearse, counts)
    data = study.open_study(paths, description, required, size.scenes, seeds, context)
    trained_on = [f"data.{name}={data.get(name, paths.folder / 'data' / name)}" for name in TRAINED_ON]
    recipes = [size.read(size.recipe, [*keys, f"seed={seed}", *trained_on]) for seed in range(seeds)]
    study.check_tests([test.format(**data) for test in DECLARATIONS["tests"].values()], ("image", "depth"))
    if "videos" in used:
        _label_videos(paths, size, data, source, context)
    for recipe in recipes:
        check_recipe(recipe, paths.run(recipe.seed), world_size(), context.device)
    main_process_only(partial(paths.claim, description))
    for recipe in recipes:
        context.say(f"seed {recipe.seed}: training {len(recipe.stages)} stages")
        context.train(recipe, paths.run(recipe.seed))
        context.say(f"seed {recipe.seed}: scores")
        study.share(paths, _scoring(paths, recipe, data, size.tested, context))
        context.say(f"seed {recipe.seed}: comparisons")
        _compare(paths, recipe, ImageSource(DECLARATIONS["tests"]["in"].format(**data), size.num, context.device))
    context.say("the page")
    page = main_process_only(lambda: write_report(paths.folder, PAPER)) or paths.page
    for line in describe_rehearsal(scale) if rehearse else ():
        context.say(line)
    return page


def _label_videos(paths: StudyPaths, scale: Scale, data: Mapping[str, str], source: str, context: RunContext) -> None:
    """Give generated videos the pseudo-depth of a teacher, and others that of a given one; or check that they have it.

    Raises:
        DataError: They have none.
        OutputError: They have that of another source than the given one.
    """
    videos = f"scdepth:{data['videos']}"
    if "rooms" in data:
        context.say("teacher")
        recipe = scale.read(scale.teacher, [*scale.teacher_settings, f"data.rooms={data['rooms']}"])
        (path,) = context.train(recipe, paths.folder / "teacher")
        source = str(path)
    if source:
        _write_depth(paths, source, Path(data["videos"]), context)
    elif "pseudo_depth" not in open_dataset(f"{videos}:train").gives:
        raise DataError(
            f"expected pseudo-depth (leres_depth) with the videos of {data['videos']}, found none; add "
            "--set teacher=SOURCE, such as transformers:NAME"
        )


def _write_depth(paths: StudyPaths, source: str, videos: Path, context: RunContext) -> None:
    """Write the pseudo-depth of the videos by a source, once in all processes and jobs.

    Generated videos come with one that is derived from the truth, which it replaces.
    """
    note, text = paths.folder / "teacher" / "pseudo_depth.txt", f"The depth of {source} was written for {videos}.\n"

    def forget_others() -> None:
        if note.exists() and note.read_text("utf-8", errors="replace") != text:
            note.unlink()

    def write() -> None:
        generated = videos.is_relative_to(paths.folder)
        write_pseudo_depth(source, f"scdepth:{videos}", overwrite=generated, device=context.device)
        study.write_text(note, text)

    context.say("pseudo-depth")
    main_process_only(forget_others)
    study.share(paths, {note: write})


def _scoring(
    paths: StudyPaths, recipe: Recipe, data: Mapping[str, str], tested: int | None, context: RunContext
) -> dict[Path, Callable[[], None]]:
    """Return the scores of every checkpoint that predicts depth, in and out of distribution, and what writes them."""

    def score(path: Path, stage: str, domain: str, test: str) -> None:
        keep = paths.predictions(recipe.seed, stage, domain)
        checkpoint = paths.checkpoint(recipe.seed, stage)
        scores = evaluate(checkpoint, test.format(**data), device=context.device, keep=keep, num=tested)
        study.save_result(scores, path)

    return {
        (path := paths.scores(recipe.seed, stage.name, domain)): partial(score, path, stage.name, domain, test)
        for stage in recipe.stages
        if stage.task in ("depth", "geometric", "pseudo_depth")
        for domain, test in DECLARATIONS["tests"].items()
    }


def _compare(paths: StudyPaths, recipe: Recipe, images: ImageSource) -> None:
    """Write every fingerprint and every comparison of a run."""
    names = [stage.name for stage in recipe.stages]
    tuned = [name for name in names if name.endswith(TUNED)]
    before = [name for name in names if name + TUNED in tuned and name not in tuned]
    controls = [name for name in names if name.startswith("mp_depth_")]
    models = study.checkpoint_loaders(paths, recipe.seed, [*before, *tuned, *controls])
    models[RANDOM] = lambda: random_backbone(recipe, recipe.size).eval()
    study.write_fingerprints(
        paths, recipe.seed, models, images, features=("flatten", "gap"), layers=lambda nine: nine.union(stream(nine))
    )
    pairs = [(name, name) for name in (*before, RANDOM)]
    pairs += [(name.removesuffix(TUNED), name) for name in tuned] + [("mp", name) for name in controls]
    nine = ARCHITECTURES[recipe.architecture].layers
    specs = {
        "paper": ComparisonSpec(nine),
        "biased": ComparisonSpec(nine, estimator="biased"),
        "stream": ComparisonSpec(stream(nine)),
        "pooled": ComparisonSpec(nine, features="gap"),
    }
    main_process_only(lambda: study.write_similarities(paths, recipe.seed, pairs, specs))
    x, y = FED_DIFFERENTLY

    def compare_fed_alike() -> None:
        first, second = models[x](), models[y]()
        second = resized(second, first.preprocessing.size or recipe.size).eval()
        compare(first, second, images.source, num=images.num, preprocess="shared", device=images.device).save(path)

    path = paths.similarity(recipe.seed, x, y, "shared")
    study.share(paths, {path: compare_fed_alike} if y in names else {})


def stream(nine: LayerMap) -> LayerMap:
    """Return the layers with the output of its block in place of each norm1: the residual stream at that depth.

    >>> stream(LayerMap.of(["layers.1.downsample.norm", "layers.2.blocks.3.norm1"])).modules
    ('layers.1.downsample.norm', 'layers.2.blocks.3')
    """
    return LayerMap(
        tuple(Layer(layer.name.removesuffix(".norm1"), layer.module.removesuffix(".norm1")) for layer in nine)
    )
