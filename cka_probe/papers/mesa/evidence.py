"""What a study left on disk, read when asked for and checked to be of one study.

OUT/study.json                                      scale, data, settings and versions
OUT/seed<k>/recipe.json                             what was run
OUT/seed<k>/<stage>.safetensors                     checkpoints
OUT/seed<k>/<stage>/log.csv, validation.csv         training
OUT/seed<k>/scores/<stage>/<in|out>.json            `Scores`, in and out of distribution
OUT/seed<k>/predictions/<stage>/<in|out>/           what was predicted of each image, where it was kept
OUT/seed<k>/similarity/<x>~<y>~<variant>.json       `SimilarityMatrix`; `random` is the untrained network

What is not there was not run, and the answer is `None`: a small scale leaves arms out, and a table says so. What is
there and cannot be of this study (another seed's weights, another recipe, other images) is an error: a table put
together from two studies looks like any other.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError

from cka_probe import registry
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.lab.evaluation.predictions import NOTE
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.models.checkpoint import file_hash, read_header
from cka_probe.papers.reading import read_json, read_log

PLACES = {"in": "in distribution", "out": "out of distribution"}
VARIANTS = {
    "paper": "unbiased, features flattened, each network with its own normalisation, the paper's nine layers",
    "biased": "the biased estimator",
    "pooled": "features averaged over the image",
    "shared": "y fed as x",
    "stream": "the residual stream after the blocks, instead of their attention branches",
}
"""How a similarity was taken; all but `paper` say what they change of it."""


@dataclass(frozen=True)
class Evidence:
    """A study on disk.

    Attributes:
        folder: Its root.
        seeds: Those that are there, rising.
        recipes: What each seed ran, as tables; the same but for the seed.
        study: What the study says of itself: `scale`, `data` (paths that were given, by name), `settings`, `versions`.
    """

    folder: Path
    seeds: tuple[int, ...]
    recipes: dict[int, dict[str, Any]]
    study: dict[str, Any]
    _seen: dict[tuple[str, ...], tuple[str, Path]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> "Evidence":
        """Open a study.

        Raises:
            DataError: There is none, study.json or a recipe is missing or broken, or the seeds ran different recipes.
        """
        folder = Path(folder)
        found = {int(p.name[4:]): p for p in folder.glob("seed*") if p.is_dir() and p.name[4:].isdecimal()}
        if not found:
            raise DataError(f"{folder}: expected a study with a folder seed<k> for each seed, found none; run it first")
        seeds = tuple(sorted(found))
        recipes = {seed: _recipe(found[seed], seed) for seed in seeds}
        first = seeds[0]
        for seed in seeds[1:]:
            if recipes[seed] | {"seed": 0} != recipes[first] | {"seed": 0}:
                raise DataError(
                    f"{folder}: expected the same recipe for every seed, found that seed {seed} ran another than seed "
                    f"{first}; run both by one recipe, or move one away"
                )
        return cls(folder, seeds, recipes, _study(folder / "study.json"))

    def stages(self, seed: int) -> tuple[str, ...]:
        """Return the stages of a seed that have a checkpoint, by name.

        Raises:
            DataError: A file is no checkpoint of ours, or of another seed or stage.
        """
        return tuple(_checked(path, seed) for path in sorted(self._of(seed).glob("*.safetensors")))

    def scores(self, seed: int, stage: str, place: str) -> Scores | None:
        """Return the scores of a checkpoint, or `None` if it was not scored there.

        Args:
            seed: One of `seeds`.
            stage: Name of the checkpoint.
            place: In `PLACES`.

        Raises:
            DataError: The file is broken, or holds scores of another checkpoint or over other images.
        """
        registry.get(PLACES, place, "place")
        path = self._of(seed) / "scores" / stage / f"{place}.json"
        if not path.exists():
            return None
        scores = Scores.load(path)
        if (found := scores.model.get("stage")) and found != stage:
            raise DataError(f"{path}: expected scores of {stage!r}, found those of {found!r}; evaluate {stage!r} again")
        self._same(("scored weights", str(seed), stage), scores.model.get("hash"), path)
        self._scored_from(seed, stage, path)
        self._same((f"images {PLACES[place]}",), scores.data.get("hash"), path)
        return scores

    def similarity(self, seed: int, x: str, y: str, variant: str = "paper") -> SimilarityMatrix | None:
        """Return how similar two checkpoints are, or `None` if they were not compared in this way.

        Args:
            seed: One of `seeds`.
            x: Stage on the rows.
            y: Stage on the columns.
            variant: In `VARIANTS`.

        Raises:
            DataError: The file is broken, or holds another comparison.
        """
        registry.get(VARIANTS, variant, "variant")
        path = self._of(seed) / "similarity" / f"{x}~{y}~{variant}.json"
        if not path.exists():
            return None
        matrix = SimilarityMatrix.load(path)
        if matrix.values.shape != (9, 9):
            rows, columns = matrix.values.shape
            raise DataError(f"{path}: expected the paper's nine layers on both sides, found {rows} and {columns}")
        for stage, side in ((x, matrix.x), (y, matrix.y)):
            self._same(("compared weights", str(seed), stage), side.hash, path)
        self._same(("images of the similarities",), matrix.images.get("hash"), path)
        return matrix

    def predictions(self, seed: int, stage: str, place: str) -> Path | None:
        """Return the folder of what a checkpoint predicted of the images it was scored on, or `None`."""
        registry.get(PLACES, place, "place")
        path = self._of(seed) / "predictions" / stage / place
        return path if (path / NOTE).exists() else None

    def log(self, seed: int, stage: str) -> pd.DataFrame | None:
        """Return the rows of a stage's training log, or `None`."""
        return read_log(self._of(seed) / stage / "log.csv")

    def validation(self, seed: int, stage: str) -> pd.DataFrame | None:
        """Return the rows of a stage's evaluations during training, or `None`."""
        return read_log(self._of(seed) / stage / "validation.csv")

    def steps(self, stage: str) -> int | None:
        """Return the steps that the recipe gives a stage, or `None` if it has no such stage."""
        return self.recipes[self.seeds[0]].get("stages", {}).get(stage, {}).get("steps")

    def _of(self, seed: int) -> Path:
        registry.get({str(known): known for known in self.seeds}, str(seed), "seed")
        return self.folder / f"seed{seed}"

    def _scored_from(self, seed: int, stage: str, path: Path) -> None:
        """Raise if the checkpoint is still there and is not the one that was scored."""
        checkpoint, what = self._of(seed) / f"{stage}.safetensors", ("scored weights", str(seed), stage)
        if checkpoint.exists() and self._seen[what][1] == path:  # seen for the first time: read the file once
            self._seen[what] = (self._seen[what][0], checkpoint)
            self._same(what, file_hash(checkpoint), checkpoint)

    def _same(self, what: tuple[str, ...], found: str | None, path: Path) -> None:
        """Raise unless everything read so far agrees on `what`: the hash of one stage's weights, of the images."""
        if found is None:
            raise DataError(f"{path}: expected a hash of the {what[0]}, found none; make the file again")
        before, where = self._seen.setdefault(what, (found, path))
        if before != found:
            named = f"{what[0]} of {what[2]}, seed {what[1]}" if len(what) > 1 else what[0]
            raise DataError(
                f"{path} is of another run: its {named} ({found[:8]}) are not those of {where} ({before[:8]}); "
                "delete the older of the two and run the study again"
            )


def _study(path: Path) -> dict[str, Any]:
    """Return what a study says of itself.

    Raises:
        DataError: It is missing, broken, or of another paper.
    """
    study = read_json(path, "what is studied")
    expected = {"scale": str, "data": dict, "settings": list, "versions": dict}
    wrong = [key for key, kind in expected.items() if not isinstance(study.get(key), kind)]
    if wrong or study.get("paper") != "mesa":
        raise DataError(
            f"{path}: expected a study of mesa with {', '.join(expected)}, found one of {study.get('paper')!r}"
            f"{' without ' * bool(wrong)}{', '.join(wrong)}; make it with `ckaprobe reproduce mesa`"
        )
    return study


def _recipe(folder: Path, seed: int) -> dict[str, Any]:
    """Return a seed's recipe.

    Raises:
        DataError: It is missing, broken, or of another seed.
    """
    path = folder / "recipe.json"
    recipe = read_json(path, "the recipe of a run")
    found = recipe.get("seed")
    if found != seed:
        raise DataError(f"{path}: expected the recipe of seed {seed}, found seed {found}; it is of another run")
    return recipe


def _checked(path: Path, seed: int) -> str:
    """Return the stage of a checkpoint, having seen that it is the one its place says."""
    try:
        header = read_header(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: expected a checkpoint, found: {error}; delete it and run the study again") from error
    if header is None or (header.seed, header.stage) != (seed, path.stem):
        found = "no checkpoint of ours" if header is None else f"stage {header.stage!r} of seed {header.seed}"
        raise DataError(f"{path}: expected stage {path.stem!r} of seed {seed}, found {found}; it is of another run")
    return path.stem
