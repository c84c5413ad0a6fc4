"""The mean similarity of several trainings of one recipe with several of another, from their fingerprints.

A comparison of two checkpoints says how alike these two are on new images. A claim about two ways of training needs
several trainings of each, with different seeds, and an interval over new trainings as well; see `similarity.seeds`.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.comparison.compare import matrix_of
from cka_probe.comparison.fingerprint import Fingerprint, pairing_of
from cka_probe.comparison.groups import duplicates, with_groups
from cka_probe.comparison.names import distinct_names
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError, FingerprintError
from cka_probe.similarity import ESTIMATORS, Cells, Terms, centre_batches, choose_measure, hsic_terms
from cka_probe.similarity.cka import Centred, Estimator
from cka_probe.similarity.features import tokens_per_image
from cka_probe.similarity.seeds import seeds_jackknife


def compare_seeds(
    x: Sequence[Fingerprint], y: Sequence[Fingerprint] | None = None, *, estimator: str = "unbiased"
) -> SimilarityMatrix:
    """Return the mean over pairs of trainings of the CKA of every two layers, with 95 % intervals.

    The intervals are over new images and new trainings at once. Where one side is a single model, they are for this
    model, over new trainings of the other side.

    Args:
        x: Trainings of one recipe, which differ in their seed: fingerprints of the same images and layers.
        y: Those of another recipe, or one model; by default every two of x are compared, of which there are then at
            least three.
        estimator: Estimator of CKA, `unbiased` or `biased`.

    Returns:
        A result without a null; its `settings` list the models under `trainings`.

    Raises:
        DataError: There are too few trainings, one is given twice, or trainings of one side have other layers.
        FingerprintError: Two of them are of different images, batches or features.

    >>> from cka_probe import fingerprint
    >>> images = torch.randn(16, 6)
    >>> trainings = [fingerprint(torch.nn.Sequential(torch.nn.Linear(6, 5)), images, layers="0") for _ in range(3)]
    >>> compare_seeds(trainings).values.shape
    (1, 1)
    """
    sides = [list(x)] if y is None else [list(x), list(y)]
    hsic, pairing = registry.get(ESTIMATORS, estimator, "estimator"), _check(sides)
    per_image = tokens_per_image(sides[0][0].settings.features)
    layers = [_layers(side, hsic) for side in sides]
    numbers = torch.full((3, len(layers[0]), len(layers[-1])), torch.nan, dtype=torch.float64)
    for row, layer_x in enumerate(layers[0]):
        for column, layer_y in enumerate(layers[-1]):
            mean = seeds_jackknife(layer_x, layer_y, hsic, per_image, same=y is None)
            numbers[:, row, column] = torch.cat([mean.values, *mean.interval()]).flatten()
    least = [torch.stack([_least(stacks, hsic, per_image) for stacks in side])[None] for side in layers]
    terms = Terms(numbers[:1], least[0], least[-1], torch.ones(1, dtype=torch.float64))
    none = torch.full_like(numbers[0], torch.nan)
    models = _recipe(sides[0]), _recipe(sides[-1])
    method = choose_measure("cka", estimator)
    values, low, high = numbers
    result = matrix_of(*models, Cells(values, low, high, none, none, terms), pairing, method, estimator, None)
    result = replace(
        result,
        terms={"weights": np.array([stack.shape[-1] / per_image for stack in models[0].grams])},
        settings={**result.settings, "trainings": [[training.side.reference for training in side] for side in sides]},
    )
    return with_groups(result, duplicates(*models))


def _check(sides: Sequence[Sequence[Fingerprint]]) -> str:
    """Check the trainings of both sides, or of one recipe, and return how their images are paired."""
    numbers = " and ".join(str(len(side)) for side in sides)
    if len(sides) == 1 and len(sides[0]) < 3:
        raise DataError(f"expected at least three trainings of one recipe, found {numbers}; add some, or a second side")
    if min(map(len, sides)) < 1 or max(map(len, sides)) < 2:
        raise DataError(
            f"expected at least two trainings on a side and one on the other, found {numbers}; give more, or compare "
            "two models with ckaprobe compare"
        )
    seen: dict[str, str] = {}
    for training in (training for side in sides for training in side):
        if training.side.hash in seen:
            raise DataError(
                f"expected every training once, found the same weights in {seen[training.side.hash]} and "
                f"{training.side.reference}; omit one of them"
            )
        seen[training.side.hash] = training.side.reference
    for first, *others in sides:
        for other in others:
            if other.layers.names != first.layers.names:
                raise DataError(
                    f"expected the same layers in all trainings of a side, found others in {first.side.reference} and "
                    f"{other.side.reference}; make the fingerprints with the same --layers"
                )
            if pairing_of(first, other):
                raise FingerprintError(
                    f"expected the same images for all trainings of a side, found others in {first.side.reference} and "
                    f"{other.side.reference}; recompute one of them"
                )
    return [pairing_of(sides[0][0], training) for training in sides[-1]][-1]


def _layers(side: Sequence[Fingerprint], estimator: Estimator) -> list[list[Centred]]:
    """Return, for each layer, the centred Grams of all trainings per batch, (trainings, n, n)."""
    batches = list(zip(*(training.defined_grams for training in side), strict=True))
    count = len(side[0].layers)
    return [centre_batches([torch.stack([g[i] for g in batch]) for batch in batches], estimator) for i in range(count)]


def _least(layer: Sequence[Centred], estimator: Estimator, per_image: int) -> Tensor:
    """Return the smallest HSIC of a layer with itself among the trainings; NaN if it is undefined in one."""
    return hsic_terms(layer, layer, estimator, per_image).sums()[1].amin()


def _recipe(side: Sequence[Fingerprint]) -> Fingerprint:
    """Return the first training with the names and the undefined layers of all."""
    models = [training.side for training in side]
    notes = tuple(dict.fromkeys(text for model in models for text in model.notes))
    warnings = tuple(dict.fromkeys(text for model in models for text in model.warnings))
    names = distinct_names([model.reference for model in models])
    name = f"{names[0]} and {len(names) - 1} more" if names[1:] else models[0].name
    digest = sha256("".join(model.hash for model in models).encode()).hexdigest()
    return replace(
        side[0],
        side=replace(models[0], reference=", ".join(names), hash=digest, notes=notes, warnings=warnings, name=name),
        rms=tuple(np.mean([training.rms for training in side], axis=0).tolist()),
        undefined=tuple(
            next(filter(None, reasons), "")
            for reasons in zip(*(training.undefined_reasons for training in side), strict=True)
        ),
        skipped=tuple(dict.fromkeys(name for training in side for name in training.skipped)),
    )
