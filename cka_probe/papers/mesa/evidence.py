"""What a study of MeSa left on disk, and the statistics behind its claims on one seed.

OUT/study.json                                      scale, data, settings and versions
OUT/seed<k>/recipe.json                             what was run
OUT/seed<k>/<stage>.safetensors                     checkpoints
OUT/seed<k>/<stage>/log.csv, validation.csv         training
OUT/seed<k>/scores/<stage>/<in|out>.json            `Scores`, in and out of distribution
OUT/seed<k>/predictions/<stage>/<in|out>/           predictions of each image, if kept
OUT/seed<k>/similarity/<x>~<y>~<variant>.json       `SimilarityMatrix`; `random` is the untrained network

A claim about a figure is a claim about sums of its cells. With r the top row of a matrix and d its diagonal, layers
counted from 0:

    u_shape            min(mean r[0:2], mean r[7:9]) - mean r[2:7]     both ends lighter than the middle
    later_change_more  mean(1 - d[5:9]) - mean(1 - d[0:5])             layers 5 to 8 change more than 0 to 4
    repaired           mean(d' - d) over some layers                   fine-tuning changes them less than before
    lighter_middle     mean r'[2:7] - mean r[2:7]
    higher_score       mean over images of (a - b), each image with itself

r[0] is 1 in a matrix of a network with itself, which helps the left end of the U; the minimum is with the right.

Intervals of cells are over images (`similarity.intervals`), and those of sums of cells are conservative: [sum w low,
sum w high] for w > 0, the other end for w < 0. They hold the truth whenever all the cells' intervals do, under any
dependence. For a score the per-image differences are resampled (`resampling.bootstrap_interval`), because both networks
saw the same images.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.lab.evaluation.predictions import NOTE
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.models.checkpoint import file_hash
from cka_probe.papers.evidence import (
    Estimate,
    StudyEvidence,
    find_seeds,
    least,
    mean_diagonal,
    read_json,
    read_log,
    read_study,
    top_row,
    undefined,
)
from cka_probe.papers.study import StudyPaths
from cka_probe.similarity.resampling import bootstrap_interval

DOMAINS = {"in": "in distribution", "out": "out of distribution"}


VARIANTS = {
    "paper": "unbiased, features flattened, each network with its own normalisation, the paper's nine layers",
    "biased": "the biased estimator",
    "pooled": "features averaged over the image",
    "shared": "y fed as x",
    "stream": "the residual stream after the blocks, instead of their attention branches",
}
"""How a similarity was taken; all but `paper` say what they change of it."""


LEFT, MIDDLE, RIGHT = slice(0, 2), slice(2, 7), slice(7, 9)
"""The ends of the U and what lies between: patch mergings, attention branches, patch merging and last norm."""


EARLIER, LATER = slice(0, 5), slice(5, 9)


@dataclass(frozen=True)
class MesaEvidence(StudyEvidence):
    """A study of MeSa on disk.

    Attributes:
        recipes: The recipe that each seed ran; the same but for the seed.
    """

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
        recipes = {seed: _recipe(paths.run(seed), seed) for seed in seeds}
        for seed in others:
            if recipes[seed] | {"seed": 0} != recipes[first] | {"seed": 0}:
                raise DataError(
                    f"{folder}: expected the same recipe for every seed, found that seed {seed} ran another than seed "
                    f"{first}; run both with one recipe, or move one away"
                )
        return cls(paths, seeds, (0,), read_study(paths.folder, "mesa"), recipes=recipes)

    def scores(self, seed: int, stage: str, domain: str) -> Scores | None:
        """Return the scores of a checkpoint, or `None` if it was not scored.

        Args:
            seed: One of `seeds`.
            stage: Name of the checkpoint.
            domain: In `DOMAINS`.

        Raises:
            DataError: The file is broken, or has scores of another checkpoint or over other images.
        """
        registry.get(DOMAINS, domain, "domain")
        path = self.paths.scores(self._known(seed), stage, domain)
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
        """Return the similarity of two checkpoints, or `None` if they were not compared in this way.

        Args:
            seed: One of `seeds`.
            x: Stage on the rows.
            y: Stage on the columns.
            variant: In `VARIANTS`.

        Raises:
            DataError: The file is broken, or has another comparison.
        """
        registry.get(VARIANTS, variant, "variant")
        path = self.paths.similarity(self._known(seed), x, y, variant)
        if not path.exists():
            return None
        matrix = SimilarityMatrix.load(path)
        if matrix.values.shape != (9, 9):
            rows, columns = matrix.values.shape
            raise DataError(f"{path}: expected the paper's nine layers on both sides, found {rows} and {columns}")
        for stage, side in ((x, matrix.x), (y, matrix.y)):
            self._check_same(("compared weights", str(seed), stage), side.hash, path)
        self._check_same(("images of the similarities",), matrix.images.get("hash"), path)
        return matrix

    def predictions(self, seed: int, stage: str, domain: str) -> Path | None:
        """Return the folder of a checkpoint's predictions of the images it was scored on, or `None`."""
        registry.get(DOMAINS, domain, "domain")
        path = self.paths.predictions(self._known(seed), stage, domain)
        return path if (path / NOTE).exists() else None

    def curves(self, seed: int, stage: str) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """Return the rows of a stage's training log and of its evaluations during training, `None` where not run."""
        folder = self._run(seed) / stage
        return read_log(folder / "log.csv"), read_log(folder / "validation.csv")

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe of the first seed."""
        return self.recipes[self.seeds[0]]

    def _run(self, seed: int) -> Path:
        return self.paths.run(self._known(seed))

    def _known(self, seed: int) -> int:
        return registry.get({str(known): known for known in self.seeds}, str(seed), "seed")


def _recipe(folder: Path, seed: int) -> dict[str, Any]:
    """Return a seed's recipe.

    Raises:
        DataError: It is missing, broken, or of another seed.
    """
    path = folder / "recipe.json"
    recipe = read_json(path, "the recipe of a run")
    if (run := recipe.get("seed")) != seed:
        raise DataError(f"{path}: expected the recipe of seed {seed}, found seed {run}; it is of another run")
    return recipe


def u_shape(matrix: SimilarityMatrix) -> Estimate:
    """Return how far the lower end of the top row stands above its middle, in CKA; above 0 is a U."""
    return least([top_row(matrix, LEFT), top_row(matrix, RIGHT)]) - top_row(matrix, MIDDLE)


def later_change_more(matrix: SimilarityMatrix) -> Estimate:
    """Return how much more layers 5 to 8 change than 0 to 4 do, in CKA: x before, y after fine-tuning."""
    return mean_diagonal(matrix, EARLIER) - mean_diagonal(matrix, LATER)


def repaired(before: SimilarityMatrix, after: SimilarityMatrix, layers: tuple[int, int]) -> Estimate:
    """Return how much less some layers change in fine-tuning than they did before, in CKA.

    Args:
        before: Pre-trained against fine-tuned, of the arm without the stage in question.
        after: The same of the arm with it.
        layers: First and last, both included.
    """
    part = slice(layers[0], layers[1] + 1)
    return mean_diagonal(after, part) - mean_diagonal(before, part)


def lighter_middle(lighter: SimilarityMatrix, darker: SimilarityMatrix) -> Estimate:
    """Return how much more similar to layer 0 the layers 2 to 6 of one network are than those of another, in CKA."""
    return top_row(lighter, MIDDLE) - top_row(darker, MIDDLE)


def higher_score(higher: Scores, lower: Scores, measure: str) -> Estimate:
    """Return the mean difference of a measure between two networks, each image with itself, in its own unit.

    Raises:
        DataError: The two were scored over different images.
    """
    if set(higher.table.index) != set(lower.table.index) or not higher.table.index.is_unique:
        shared = len(set(higher.table.index) & set(lower.table.index))
        raise DataError(
            f"expected scores of {higher.model.get('stage')} and {lower.model.get('stage')} over the same images, "
            f"found {len(higher.table)} and {len(lower.table)} with {shared} in common; evaluate both on the same data"
        )
    if measure not in higher.table or measure not in lower.table:
        return undefined(f"the scores have no {measure}")
    difference = (higher.table[measure] - lower.table[measure].reindex(higher.table.index)).to_numpy(float)
    return mean_over_images(difference, higher, f"no image has {measure} for both")


def mean_score(scores: Scores, measure: str) -> Estimate:
    """Return the mean of a measure over the images that have it."""
    if measure not in scores.table:
        return undefined(f"the scores have no {measure}")
    return mean_over_images(scores.table[measure].to_numpy(float), scores, f"no image has {measure}")


def mean_over_images(values: np.ndarray, scores: Scores, reason: str) -> Estimate:
    """Return the mean with its bootstrap interval.

    Args:
        values: (images,) float64; NaN takes no part.
        scores: Whose settings give the number of resamples and the seed.
        reason: Why there is no mean if no image has a value.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return undefined(reason)
    options = {key: scores.settings[key] for key in ("resamples", "seed") if key in scores.settings}
    low, high = bootstrap_interval(values[:, None], **options)
    return Estimate(float(values.mean()), float(low[0]), float(high[0]))
