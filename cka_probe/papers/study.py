"""A study: its folder, its data, and how its models are compared.

OUT/study.json                                   what is studied; the same command resumes, another is refused
OUT/data/<name>/                                 generated data sets
OUT/teacher/                                     the run of the teacher, if the study has one
OUT/seed<k>/                                     the run of the recipe under a seed: checkpoints and logs
OUT/seed<k>/scores/<stage>/<in|out>.json         how well a checkpoint predicts depth
OUT/seed<k>/predictions/<stage>/<in|out>/        what it predicted
OUT/seed<k>/fingerprints/<stage>~<features>.safetensors
OUT/seed<k>/similarity/<x>~<y>~<variant>.json    similarity of two checkpoints
OUT/report/                                      the page, its tables and figures
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState

from cka_probe.attribution.attributions import Attributions
from cka_probe.comparison.compare import compare_fingerprints, fingerprint
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.errors import DataError, OutputError, RecipeError
from cka_probe.files import atomic_write, check_writable
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.lab.scenes import Settings, make_scenes
from cka_probe.lab.training import Recipe, run_recipe
from cka_probe.lab.training.trainer import StepCallback
from cka_probe.models.backbone import Backbone
from cka_probe.models.layers import LayerMap
from cka_probe.models.load import load

T = TypeVar("T")

NamedProgress = Callable[[str, int, int | None], None]
"""Called with the name of a data set, how many of its scenes are generated, and how many there are in all."""

ModelLoader = Callable[[], Backbone]


@dataclass(frozen=True)
class RunContext:
    """Device, processes and progress callbacks of a study. None of it changes a number by more than rounding.

    Attributes:
        device: "auto", "cpu", "cuda" or "mps".
        workers: Processes that prefetch images and that generate scenes. By default as many as training uses on the
            device, and one for each core to generate scenes.
        training: Called after each step of training, as by `run_recipe`.
        generating: Called as scenes are generated, with (name, done, total).
        say: Called with a line at the beginning of each part.
    """

    device: str = "auto"
    workers: int | None = None
    training: StepCallback | None = None
    generating: NamedProgress = lambda name, done, total: None
    say: Callable[[str], None] = lambda line: None

    def train(self, recipe: Recipe, folder: Path) -> list[Path]:
        """Run a recipe in a folder, or resume it; return the checkpoints of its stages."""
        return run_recipe(recipe, folder, device=self.device, workers=self.workers, progress=self.training)

    @property
    def generators(self) -> int:
        """Number of processes that generate scenes."""
        return self.workers or os.cpu_count() or 1


def main_process_only(work: Callable[[], T]) -> T | None:
    """Call a function in the main process while the others wait; return its result there, and `None` elsewhere."""
    state = PartialState()
    result = work() if state.is_main_process else None
    state.wait_for_everyone()
    return result


def save_result(result: Scores | LabelScores | Attributions, path: Path) -> None:
    """Write a result as CSV and then as JSON: if the JSON exists, everything written before it does."""
    result.save(path.with_suffix(".csv"))
    result.save(path)


@dataclass(frozen=True)
class StudyPaths:
    """Paths of the parts of a study.

    Attributes:
        folder: OUT.
    """

    folder: Path

    def claim(self, description: dict[str, Any]) -> None:
        """Write into the folder what is studied there, or check that it holds the same study already.

        Args:
            description: Everything that affects the numbers, except the seeds, which can be added later.

        Raises:
            OutputError: The folder holds another study, or cannot be written to.
        """
        check_writable(self.folder)
        path, description = self.folder / "study.json", json.loads(json.dumps(description))
        if not path.exists():
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(description, indent=2) + "\n", "utf-8")
            return
        known = json.loads(path.read_text("utf-8"))
        for key in [*description, *(key for key in known if key not in description)]:
            if known.get(key) != description.get(key):
                raise OutputError(
                    f"{self.folder} holds another study: {key} is {known.get(key)!r} there and "
                    f"{description.get(key)!r} here; choose another --out, or delete that one"
                )

    @property
    def report(self) -> Path:
        """The folder of the page, its tables and its figures."""
        return self.folder / "report"

    @property
    def page(self) -> Path:
        """The page, which a reader opens first."""
        return self.report / "README.md"

    def run(self, seed: int) -> Path:
        """Return the folder of the run under a seed."""
        return self.folder / f"seed{seed}"

    def checkpoint(self, seed: int, stage: str) -> Path:
        """Return the checkpoint of a stage."""
        return self.run(seed) / f"{stage}.safetensors"

    def scores(self, seed: int, stage: str, domain: str) -> Path:
        """Return the scores of a checkpoint, "in" or "out" of the distribution it was fine-tuned on."""
        return self.run(seed) / "scores" / stage / f"{domain}.json"

    def predictions(self, seed: int, stage: str, domain: str) -> Path:
        """Return the folder of the predictions of a checkpoint."""
        return self.run(seed) / "predictions" / stage / domain

    def fingerprint(self, seed: int, stage: str, features: str) -> Path:
        """Return the fingerprint of a checkpoint."""
        return self.run(seed) / "fingerprints" / f"{stage}~{features}.safetensors"

    def similarity(self, seed: int, x: str, y: str, variant: str = "paper") -> Path:
        """Return the similarity of two checkpoints."""
        return self.run(seed) / "similarity" / f"{x}~{y}~{variant}.json"


def check_seeds(num: int) -> None:
    """Check that a study has a seed.

    Raises:
        RecipeError: It has none.
    """
    if num < 1:
        raise RecipeError(f"expected at least 1 seed, found {num}; ask for more")


def check_data(required: Iterable[str], paths: Mapping[str, str], scenes: Mapping[str, Settings]) -> None:
    """Check that every data set of a study has a path or can be generated.

    Raises:
        DataError: A data set has no path and is not generated at this scale, or a path has an unknown name.
    """
    required = tuple(required)
    if unknown := sorted(set(paths) - set(required)):
        raise DataError(f"--set data.{unknown[0]}: no such data; there are: {', '.join(required)}")
    if missing := [name for name in required if not paths.get(name) and name not in scenes]:
        raise DataError(
            f"expected a path for {', '.join(missing)}, found none, and this scale generates none; add "
            + " ".join(f"--set data.{name}=PATH" for name in missing)
        )


def prepare_data(
    required: Iterable[str],
    paths: Mapping[str, str],
    scenes: Mapping[str, Settings],
    folder: Path,
    context: RunContext | None = None,
) -> dict[str, str]:
    """Return a path for each data set; those without one are generated.

    Args:
        required: Names; each has a path or is among the scenes.
        paths: By name.
        scenes: What to generate, by name.
        folder: Where to; a complete data set is kept, an incomplete one is completed.
        context: Processes and progress.
    """
    context = context or RunContext()
    complete = {}
    for name in required:
        if paths.get(name):
            complete[name] = str(paths[name])
        else:
            progress = partial(context.generating, name)
            complete[name] = str(
                make_scenes(folder / name, scenes[name], workers=context.generators, progress=progress)
            )
    return complete


@dataclass(frozen=True)
class ImageSource:
    """The images over which models are compared.

    Attributes:
        source: As `open_dataset` takes it.
        num: How many.
        device: "auto", "cpu", "cuda" or "mps".
    """

    source: str
    num: int
    device: str = "auto"


@dataclass(frozen=True)
class ComparisonSpec:
    """How two models are compared.

    Attributes:
        layers: Of both.
        features: Of their fingerprints.
        estimator: "unbiased" or "biased".
    """

    layers: LayerMap
    features: str = "flatten"
    estimator: str = "unbiased"


def write_fingerprints(
    paths: StudyPaths,
    seed: int,
    models: Mapping[str, ModelLoader],
    images: ImageSource,
    *,
    features: Iterable[str] = ("flatten",),
    layers: Callable[[LayerMap], LayerMap] = lambda layers: layers,
) -> None:
    """Write the fingerprints of the models that have none yet.

    Args:
        paths: Of the study.
        seed: Of the run.
        models: A function that loads each, by name.
        images: What they are shown.
        features: One fingerprint each.
        layers: Takes the default layers of a backbone and returns those of its fingerprint.
    """
    for name, load_model in models.items():
        missing = [kind for kind in features if not paths.fingerprint(seed, name, kind).exists()]
        if not missing:
            continue
        backbone = load_model()
        if backbone.layers is None:
            raise DataError(f"expected a model with default layers, found {name} without; give it some")
        for kind in missing:
            fingerprint(
                backbone,
                images.source,
                layers=layers(backbone.layers),
                num=images.num,
                features=kind,
                device=images.device,
            ).save(paths.fingerprint(seed, name, kind))


def write_similarities(
    paths: StudyPaths, seed: int, pairs: Iterable[tuple[str, str]], specs: Mapping[str, ComparisonSpec]
) -> None:
    """Write the similarities of pairs of models that are missing.

    Args:
        paths: Of the study; the fingerprints exist.
        seed: Of the run.
        pairs: Names of models, (rows, columns).
        specs: How to compare them, by variant.
    """
    for x, y in pairs:
        for variant, spec in specs.items():
            path = paths.similarity(seed, x, y, variant)
            if not path.exists():
                first, second = (
                    Fingerprint.load(paths.fingerprint(seed, model, spec.features)).subset(spec.layers)
                    for model in (x, y)
                )
                compare_fingerprints(first, second, estimator=spec.estimator).save(path)


def checkpoint_loaders(paths: StudyPaths, seed: int, stages: Iterable[str]) -> dict[str, ModelLoader]:
    """Return a function that loads the checkpoint of each stage.

    Raises:
        OutputError: A checkpoint is missing.
    """
    loaders: dict[str, ModelLoader] = {}
    for stage in stages:
        path = paths.checkpoint(seed, stage)
        if not path.exists():
            raise OutputError(f"expected {path}, found nothing; run the study again to complete it")
        loaders[stage] = partial(load, path)
    return loaders
