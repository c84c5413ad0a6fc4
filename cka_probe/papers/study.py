"""A study: what its paper declares, its folder, its data, and how its models are compared.

`docs/papers.md` lists what the folder holds.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from accelerate import PartialState

from cka_probe.attribution.attributions import Attributions
from cka_probe.comparison.compare import compare_fingerprints, fingerprint
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.ranks import alone
from cka_probe.errors import DataError, OutputError, RecipeError
from cka_probe.files import atomic_write, check_writable, read_json
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.evaluation.detection_scores import DetectionScores
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.lab.scenes import Settings, make_scenes
from cka_probe.lab.training import Recipe, run_recipe
from cka_probe.lab.training.recipe import parse_toml, read_table
from cka_probe.lab.training.run import accelerator_for
from cka_probe.lab.training.tracking import check_trackers
from cka_probe.lab.training.trainer import StepCallback
from cka_probe.lab.training.turns import take_turns
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import versions
from cka_probe.models.layers import LayerMap
from cka_probe.models.load import load

T = TypeVar("T")

ModelLoader = Callable[[], Backbone]


def read_declarations(path: Path) -> dict[str, Any]:
    """Return what a paper declares in its `paper.toml`."""
    return parse_toml(path.read_text("utf-8"), str(path))


def read_scales(kind: type[T], declarations: Mapping[str, Any]) -> dict[str, T]:
    """Return the scales of a paper by name, a `kind` each.

    A scale's own table of a scene adds to what `[scenes]` has for all scales. A scale that is `like` another has its
    keys, and replaces those that it gives.
    """
    scales = {}
    for name, table in declarations["scales"].items():
        table = declarations["scales"].get(table.get("like"), {}) | table
        scenes = {
            scene: read_table(Settings, declarations["scenes"][scene] | keys, f"scenes.{scene}")
            for scene, keys in table.get("scenes", {}).items()
        }
        fields = {key: value for key, value in table.items() if key not in ("scenes", "like")}
        scales[name] = read_table(kind, fields, f"scales.{name}", scenes=MappingProxyType(scenes))
    return scales


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Return the object in a JSON file; `what` names it in errors.

    Raises:
        DataError: It is missing, broken, or no object.
    """
    try:
        table = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"expected {what} at {path}, found: {error}") from error
    if not isinstance(table, dict):
        raise DataError(f"expected {what} at {path}, found a {type(table).__name__}")
    return table


def read_run_recipe(path: Path, what: str) -> dict[str, Any]:
    """Return the recipe of a run, as its file has it; `what` names it in errors.

    Raises:
        DataError: It is missing, broken, or has no tables as stages.
    """
    table = read_object(path, what)
    stages = table.get("stages", {})
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise DataError(f"expected {what} at {path}, found one without stages; copy it again")
    return table


def split_counts(settings: Sequence[str], names: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the numbers of images among the settings of a study, by name, and the other settings.

    Raises:
        RecipeError: A number is none, or too small.

    >>> split_counts(["num=64", "mp.steps=2"], ["num"])
    ({'num': 64}, ['mp.steps=2'])
    """
    counts: dict[str, Any] = {}
    others = []
    for text in settings:
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in names:
            others.append(text)
        elif value.isdecimal() and int(value) >= LEAST_IMAGES:
            counts[name] = int(value)
        else:
            raise RecipeError(f"--set {text}: expected a number of images, at least {LEAST_IMAGES}; such as {name}=256")
    return counts, others


LEAST_IMAGES = 4
"""The unbiased CKA of fewer is undefined."""


@dataclass(frozen=True)
class RunContext:
    """Device, processes and progress callbacks of a study. None of it changes a number by more than rounding.

    `workers` processes prefetch images and generate scenes; by default as many as training uses on the device, and one
    for each core to generate scenes. `track` names trackers of metrics, as in a recipe. The callbacks are that of
    `run_recipe` after each step of training; `generating`, called with the name of a data set, how many of its scenes
    are generated, and how many there are in all; and `say`, called with a line at the beginning of each part.
    """

    device: str = "auto"
    workers: int | None = None
    track: tuple[str, ...] = ()
    training: StepCallback | None = None
    generating: Callable[[str, int, int | None], None] = lambda name, done, total: None
    say: Callable[[str], None] = lambda line: None

    def train(self, recipe: Recipe, folder: Path) -> list[Path]:
        """Run a recipe in a folder, or resume it; return the checkpoints of its stages."""
        recipe = replace(recipe, track=self.track or recipe.track)
        return run_recipe(recipe, folder, device=self.device, workers=self.workers, progress=self.training)


def main_process_only(work: Callable[[], T]) -> T | None:
    """Call a function in the main process while the others wait; return its result there, and `None` elsewhere."""
    state = PartialState()
    with alone():  # a comparison would wait for the others
        result = work() if state.is_main_process else None
    state.wait_for_everyone()
    return result


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")


def save_result(result: Scores | LabelScores | DetectionScores | Attributions, path: Path) -> None:
    """Write a result as CSV and then as JSON: if the JSON exists, everything written before it does."""
    result.save(path.with_suffix(".csv"))
    result.save(path)


@dataclass(frozen=True)
class StudyPaths:
    """Paths of the parts of a study in its folder."""

    folder: Path

    def check(self, description: Mapping[str, Any]) -> None:
        """Check that the folder holds no other study. Nothing is written.

        Settings are not compared here, but where they are used: the recipe of each run (`run_recipe`).

        Args:
            description: Paper, scale, data and settings.

        Raises:
            OutputError: The folder holds another study, or cannot be written to.
        """
        check_writable(self.folder)
        known = self._note()
        for key in [key for key in {**description, **known} if known and key not in ("settings", "versions")]:
            if known.get(key) != description.get(key):
                raise OutputError(
                    f"{self.folder} holds another study: {key} is {known.get(key)!r} there and "
                    f"{description.get(key)!r} here; choose another --out, or delete that one"
                )

    def claim(self, description: Mapping[str, Any]) -> None:
        """Write what is studied into the folder, and the versions of all packages that it was run with.

        Raises:
            OutputError: The folder holds another study, or cannot be written to.
        """
        self.check(description)
        before = self._note().get("versions", {})
        environment = {
            name: ", ".join(dict.fromkeys([*before.get(name, version).split(", "), version]))
            for name, version in versions().items()
        }
        text = json.dumps({**description, "versions": environment}, indent=2) + "\n"
        if not self._study.exists() or self._study.read_text("utf-8", errors="replace") != text:
            write_text(self._study, text)

    @property
    def _study(self) -> Path:
        return self.folder / "study.json"

    def _note(self) -> dict[str, Any]:
        """Return study.json; {} if there is none.

        Raises:
            DataError: It is damaged.
        """
        note = read_object(self._study, "what is studied") if self._study.exists() else {}
        environment = note.get("versions", {})
        if not isinstance(environment, dict) or not all(isinstance(text, str) for text in environment.values()):
            raise DataError(
                f"{self._study}: expected versions of packages by name, found others; copy it again, or delete it"
            )
        return note

    def lock(self, *parts: object) -> Path:
        """Return the file that is locked while a piece of the study is done (`take_turns`)."""
        return self.folder / ".locks" / "~".join(map(str, parts))

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


def open_study(
    paths: StudyPaths,
    description: Mapping[str, Any],
    required: Sequence[str],
    scenes: Mapping[str, Settings],
    seeds: int,
    context: RunContext,
) -> dict[str, str]:
    """Return a path for each data set that a study requires, having checked that its folder holds no other.

    Data sets without a given path are generated from the scenes of the scale. `StudyPaths.claim` is called when
    everything else is checked.

    Raises:
        RecipeError: There is no seed.
        DataError: A data set has no path and is not generated at this scale, or a path has an unknown name.
        OutputError: The folder holds another study, or cannot be written to.
    """
    given: Mapping[str, str] = description["data"]
    if seeds < 1:
        raise RecipeError(f"expected at least 1 seed, found {seeds}; ask for more")
    if unknown := sorted(set(given) - set(required)):
        raise DataError(f"--set data.{unknown[0]}: no such data; there are: {', '.join(required)}")
    if missing := [name for name in required if not given.get(name) and name not in scenes]:
        raise DataError(
            f"expected a path for {', '.join(missing)}, found none, and this scale generates none; add "
            + " ".join(f"--set data.{name}=PATH" for name in missing)
        )
    check_trackers(context.track)
    paths.check(description)
    accelerator_for(context.device, "no")  # the process group, whose processes may wait for hours
    folder = paths.folder / "data"

    def generate(name: str) -> None:
        progress, workers = partial(context.generating, name), context.workers or os.cpu_count() or 1
        make_scenes(folder / name, scenes[name], workers=workers, progress=progress)

    for name in required:
        if not given.get(name):
            main_process_only(partial(generate, name))
    return {name: given.get(name) or str(folder / name) for name in required}


def describe_study(
    paper: str,
    scale: str,
    data: Mapping[str, str],
    settings: Sequence[str],
    rehearsal: bool,
    counts: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return what study.json says of a study."""
    description = {"paper": paper, "scale": scale, "data": dict(data), "settings": list(settings)}
    return description | ({"rehearsal": True} if rehearsal else {}) | ({"counts": dict(counts)} if counts else {})


def check_tests(sources: Iterable[str], needs: Iterable[str]) -> None:
    """Check that test sets have the fields that scores need, and that their first samples can be read.

    Raises:
        DataError: One does not.
    """
    for source in sources:
        dataset = open_dataset(source)
        if missing := set(needs) - dataset.gives:
            raise DataError(
                f"{source}: expected {', '.join(sorted(missing))} to score with, found none; use other data"
            )
        _ = dataset[0]


@dataclass(frozen=True)
class ImageSource:
    """The images over which models are compared: `num` of a source, as `open_dataset` takes it."""

    source: str
    num: int
    device: str = "auto"


@dataclass(frozen=True)
class ComparisonSpec:
    """How two models are compared: at which layers of both, by which features of fingerprints and which estimator."""

    layers: LayerMap
    features: str = "flatten"
    estimator: str = "unbiased"


def share(paths: StudyPaths, work: Mapping[Path, Callable[[], object]]) -> None:
    """Do what writes the files that are missing, each in one process of one job; return when all are written."""

    def write(path: Path) -> None:
        with alone():
            work[path]()

    take_turns(
        list(work),
        write,
        lambda path: paths.lock(*path.relative_to(paths.folder).parts),
        lambda path: path.exists(),
        together=False,
    )


def write_fingerprints(
    paths: StudyPaths,
    seed: int,
    models: Mapping[str, ModelLoader],
    images: ImageSource,
    *,
    features: Sequence[str] = ("flatten",),
    layers: Callable[[LayerMap], LayerMap] = lambda layers: layers,
) -> None:
    """Write the fingerprints of the models that have none yet; processes and jobs share the models.

    Other arguments are as of `write_fingerprint`.
    """

    def write(name: str) -> None:
        write_fingerprint(paths, seed, name, models[name], images, features=features, layers=layers)

    share(paths, {paths.fingerprint(seed, name, features[-1]): partial(write, name) for name in models})


def write_fingerprint(
    paths: StudyPaths,
    seed: int,
    name: str,
    load_model: ModelLoader,
    images: ImageSource,
    *,
    features: Sequence[str] = ("flatten",),
    layers: Callable[[LayerMap], LayerMap] = lambda layers: layers,
) -> None:
    """Write the fingerprints of a model, one for each kind of features.

    `layers` takes the default layers of a backbone and returns those of its fingerprint.

    Raises:
        DataError: The model has no default layers.
    """
    backbone = load_model()
    if backbone.layers is None:
        raise DataError(f"expected a model with default layers, found {name} without; give it some")
    for kind in features:
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
    """Write the missing similarities of pairs of models, (rows, columns), that have fingerprints, by variant."""
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
