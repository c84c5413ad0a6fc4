"""A study of MeSa: what it consists of (`paper.toml`), its arms, data and scales, and what it left on disk.

An arm is one way of pre-training, followed by the same fine-tuning for depth.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cka_probe import registry
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.lab.evaluation.predictions import NOTE
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.lab.scenes import Settings
from cka_probe.lab.training import Recipe, read_recipe
from cka_probe.models.checkpoint import file_hash
from cka_probe.papers.evidence import StudyEvidence, find_seeds, read_curves, read_study
from cka_probe.papers.rehearsal import rehearsed
from cka_probe.papers.study import StudyPaths, read_declarations, read_run_recipe, read_scales

DECLARATIONS = read_declarations(Path(__file__).with_name("paper.toml"))


class Arm(NamedTuple):
    """One way of pre-training, and its fine-tuning: its name, and the stages whose checkpoints end them."""

    name: str
    pre: str
    tuned: str


ROOMS, OBJECTS, BASELINES, CONTROL_ARMS, PRETRAINED = (
    tuple(Arm(name, *stages) for name, stages in DECLARATIONS["arms"][group].items())
    for group in ("rooms", "objects", "baselines", "controls", "pretrained")
)
ARMS = (*ROOMS, *OBJECTS, *BASELINES)
"""All arms that are fine-tuned alike, in the order of the tables."""

TRAINED_ON = ("lsun", "imagenet", "videos", "nyuv2")
"""The data of a recipe by name, as its `[data]` has them."""

TESTED_ON = ("nyuv2", "ibims1")
"""The data that fine-tuned networks are scored on."""


def data_of(paths: Mapping[str, str], stages: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return the names of the data that a recipe's stages are trained and evaluated on, and that of the tests.

    Args:
        paths: By name, all different, as the recipe's `[data]` has them.
        stages: The data and the validation of each stage.

    >>> data_of({"lsun": "a", "imagenet": "b", "videos": "c"}, [["lsun:a"], ["scdepth:c:train?sources=1"]])
    ('lsun', 'videos', 'nyuv2', 'ibims1')
    """
    specs = [spec for stage in stages for spec in stage]
    names = (name for name in TRAINED_ON if name in paths)
    used = [name for name in names if any(re.search(rf":{re.escape(paths[name])}([:?]|$)", spec) for spec in specs)]
    return tuple(dict.fromkeys([*used, *TESTED_ON]))


@dataclass(frozen=True)
class Scale:
    """How large a study is; `paper.toml` says what each key means."""

    recipe: str
    teacher: str
    num: int
    scenes: Mapping[str, Settings]
    teacher_settings: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    tested: int | None = None
    each: int = 0
    rehearsal: bool = False

    def read(self, name: str, overrides: Sequence[str]) -> Recipe:
        """Return a recipe of this scale, in small if it is a rehearsal."""
        recipe = read_recipe(name, overrides)
        if self.stages and name == self.recipe:
            recipe = replace(recipe, stages=tuple(stage for stage in recipe.stages if stage.name in self.stages))
        if self.each:
            recipe = replace(recipe, stages=tuple(replace(s, data=self._each(s.data)) for s in recipe.stages))
        return rehearsed(recipe) if self.rehearsal else recipe

    def _each(self, specs: tuple[str, ...]) -> tuple[str, ...]:
        """Return data sets with this scale's number of images of each class, where they have such a number."""
        return tuple(re.sub(r"(?<=[?&]each=)\d+", str(self.each), spec) for spec in specs)


SCALES = read_scales(Scale, DECLARATIONS)

COUNTS = ("num", "tested", "each")
"""Numbers of images that a user may set, fields of `Scale`."""

SOURCE = "teacher="
"""The setting that gives the network whose depth the videos get, in place of one that is trained here."""


def teacher_of(settings: Sequence[str]) -> str:
    """Return the teacher among the settings of a study, "" if there is none.

    >>> teacher_of(["mp.steps=2", "teacher=transformers:depth"])
    'transformers:depth'
    """
    return next((text.removeprefix(SOURCE) for text in settings if text.startswith(SOURCE)), "")


DOMAINS = {"in": "in distribution", "out": "out of distribution"}


@dataclass(frozen=True)
class MesaEvidence(StudyEvidence):
    """A study of MeSa on disk, with the recipe that each seed ran, the same but for the seed."""

    recipes: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def repeats(self) -> str:
        """What intervals are over: there is one run for each seed."""
        return "seed"

    @classmethod
    def load(cls, folder: str | Path) -> "MesaEvidence":
        """Open a study.

        Raises:
            DataError: There is none, study.json or a recipe is missing or broken, or the seeds ran different recipes.
        """
        paths = StudyPaths(Path(folder))
        first, *others = seeds = find_seeds(paths.folder)
        recipes = {seed: read_run_recipe(paths.run(seed) / "recipe.json", "the recipe of a run") for seed in seeds}
        for seed, recipe in recipes.items():
            if recipe.get("seed") != seed:
                raise DataError(
                    f"{paths.run(seed) / 'recipe.json'}: expected the recipe of seed {seed}, found seed "
                    f"{recipe.get('seed')}; it is of another run"
                )
        for seed in others:
            if recipes[seed] | {"seed": 0} != recipes[first] | {"seed": 0}:
                raise DataError(
                    f"{folder}: expected the same recipe for every seed, found that seed {seed} ran another than seed "
                    f"{first}; run both with one recipe, or move one away"
                )
        return cls(paths, seeds, (0,), read_study(paths.folder, "mesa"), recipes=recipes)

    def scores(self, seed: int, stage: str, domain: str) -> Scores | None:
        """Return the scores of the checkpoint of a stage in a domain, or `None` if it was not scored.

        Raises:
            DataError: The file is broken, or has scores of another checkpoint or over other images.
        """
        registry.get(DOMAINS, domain, "domain")
        path = self.paths.scores(seed, stage, domain)
        if not path.exists():
            return None
        scores = Scores.load(path)
        if (scored := scores.model.get("stage")) and scored != stage:
            raise DataError(
                f"{path}: expected scores of {stage!r}, found those of {scored!r}; evaluate {stage!r} again"
            )
        fact = ("scored weights", str(seed), stage)
        self._check_same(fact, scores.model.get("hash"), path)
        checkpoint = self.paths.checkpoint(seed, stage)
        if checkpoint.exists() and self._facts[fact][1] == path:  # hash the file once
            self._facts[fact] = (self._facts[fact][0], checkpoint)
            self._check_same(fact, file_hash(checkpoint), checkpoint)
        self._check_same((f"images {DOMAINS[domain]}",), scores.data.get("hash"), path)
        return scores

    def similarity(self, seed: int, x: str, y: str, variant: str = "paper") -> SimilarityMatrix | None:
        """Return the similarity of two checkpoints of nine layers, `variant` in `VARIANTS`, or `None`."""
        registry.get(DECLARATIONS["variants"], variant, "variant")
        matrix = super().similarity(seed, x, y, variant)
        if matrix is not None and matrix.values.shape != (9, 9):
            path, (rows, columns) = self.paths.similarity(seed, x, y, variant), matrix.values.shape
            raise DataError(f"{path}: expected the paper's nine layers on both sides, found {rows} and {columns}")
        return matrix

    def predictions(self, seed: int, stage: str, domain: str) -> Path | None:
        """Return the folder of a checkpoint's predictions of the images it was scored on, or `None`."""
        path = self.paths.predictions(seed, stage, domain)
        return path if (path / NOTE).exists() else None

    def curves(self, seed: int, stage: str) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """Return the rows of a stage's training log and of its evaluations during training, `None` where not run."""
        return read_curves(self.paths.run(seed) / stage)

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe of the first seed."""
        return self.recipes[self.seeds[0]]
