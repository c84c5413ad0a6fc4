"""Subtract two comparisons, with intervals that depend on what is known about their images.

    fingerprints of the same images    the influences of each image on the two values are subtracted before they are
                                       squared, so that shared noise cancels (`intervals.paired_error`; a jackknife of
                                       the difference for measures that are means over batches)
    results of the same images         the correlation of their noise is unknown: the standard deviation of the
                                       difference is at most the sum of the two (Cauchy-Schwarz), which is used
    different images                   the variances add; degrees of freedom after Welch (1947) and Satterthwaite

Comparisons that share some images, results from the same source, and means over trainings are treated as the second
case. A cell is significant if Holm's step-down procedure (1979) rejects it at 5 % over all defined cells. This bounds
the probability of even one false positive by 5 %, however the cells depend on each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from cka_probe.comparison.compare import MeasureSpec, compare_fingerprints
from cka_probe.comparison.fingerprint import Fingerprint, pairing_of
from cka_probe.comparison.results import BOUND, INDEPENDENT, PAIRED, DifferenceMatrix, SimilarityMatrix
from cka_probe.errors import DataError, FingerprintError
from cka_probe.similarity import ESTIMATORS, choose_measure
from cka_probe.similarity.cells import jackknife_error
from cka_probe.similarity.features import tokens_per_image
from cka_probe.similarity.intervals import paired_error
from cka_probe.similarity.resampling import holm

LEVEL = 0.05

Comparison = tuple[Fingerprint, Fingerprint] | SimilarityMatrix | str | Path
"""A pair of fingerprints, x and y; a result; or a folder that `ckaprobe compare` wrote, or its result.json."""

StandardErrors = tuple[np.ndarray, np.ndarray | int]
"""Standard errors (rows, columns), and their degrees of freedom."""


@dataclass(frozen=True)
class _Source:
    """One of the two comparisons: its result, its fingerprints, or both.

    Attributes:
        result: The result, if there is one.
        sides: The fingerprints of x and y, or () if they were not saved.
    """

    result: SimilarityMatrix | None
    sides: tuple[Fingerprint, ...] = ()


def difference(
    first: Comparison, second: Comparison, *, measure: MeasureSpec | None = None, estimator: str | None = None
) -> DifferenceMatrix:
    """Return how much more similar each two layers are in the first comparison than in the second.

    Args:
        first: A pair of fingerprints (x, y), a `SimilarityMatrix`, or a folder that `ckaprobe compare` wrote.
        second: The comparison that is subtracted; with the same layers on both sides.
        measure: As in `compare`; by default that of the results, or CKA.
        estimator: Estimator of CKA; by default that of the results, or `unbiased`.

    Returns:
        First minus second with 95 % intervals and two-sided p-values; `how` names which of the three cases it was.

    Raises:
        DataError: The layers, measures or features differ, or there is no comparison.
        FingerprintError: A fingerprint in a folder does not belong to the result in it.
    """
    sources = [_read(first, "first"), _read(second, "second")]
    methods = [_method_of(source.result) for source in sources if source.result is not None]
    if measure is None:
        measure = _common([name for name, _ in methods], "cka", "measure")
    if estimator is None:
        estimator = _common([name for _, name in methods if name is not None], "unbiased", "estimator")
    results = [_result(source, measure, estimator) for source in sources]
    _check_same_layers(*results)
    how = _relation(sources, results)
    if how == PAIRED:
        errors = _paired_errors(sources[0].sides, sources[1].sides, measure, estimator)
    else:
        errors = _unpaired_errors(results, bound=how == BOUND)
    return _subtract(results, how, *errors)


def _read(comparison: Comparison, which: str) -> _Source:
    """Return the result or the fingerprints of a comparison."""
    if isinstance(comparison, SimilarityMatrix):
        return _Source(comparison)
    if isinstance(comparison, str | Path):
        return _read_folder(Path(comparison))
    if isinstance(comparison, tuple | list) and len(comparison) == 2:
        x, y = comparison
        if isinstance(x, Fingerprint) and isinstance(y, Fingerprint):
            pairing_of(x, y)
            return _Source(None, (x, y))
    raise DataError(
        f"expected as {which} comparison two fingerprints (x, y), a SimilarityMatrix or a folder of `ckaprobe "
        f"compare`, found {type(comparison).__name__}"
    )


def _read_folder(path: Path) -> _Source:
    """Return the result in a folder, and its fingerprints if both were saved and tell all of it."""
    if not path.is_dir():
        return _Source(SimilarityMatrix.load(path))
    result, paths = SimilarityMatrix.load(path / "result.json"), [path / f"{name}.fingerprint" for name in "xy"]
    if "groups" in result.images or not all(side.is_file() for side in paths):
        return _Source(result)  # fingerprints hold no groups
    sides = tuple(Fingerprint.load(side) for side in paths)
    columns = "xy", sides, (result.x, result.y), result.images_hashes, (result.rows, result.columns)
    for name, side, model, images_hash, axes in zip(*columns, strict=True):
        expected = (images_hash, model.hash, [axis.module for axis in axes])
        if (side.images_hash, side.side.hash, list(side.layers.modules)) != expected:
            raise FingerprintError(
                f"{path}/{name}.fingerprint does not belong to the result.json in the same folder (another model, "
                "other images or layers); run the comparison again, or remove it"
            )
    return _Source(result, sides)


def _method_of(result: SimilarityMatrix) -> tuple[str, str | None]:
    """Return measure and estimator of a result; files that name no measure are of CKA."""
    return result.settings.get("measure", "cka"), result.settings.get("estimator")


def _common(names: list[str], default: str, kind: str) -> str:
    """Return the name that all results share, or the default if there is no result."""
    if len(set(names)) > 1:
        raise DataError(
            f"expected two comparisons by the same {kind}, found {names[0]} and {names[1]}; repeat one of them, or "
            f"name the {kind} if fingerprints were saved"
        )
    return names[0] if names else default


def _result(source: _Source, measure: MeasureSpec, estimator: str) -> SimilarityMatrix:
    """Return the result by a measure: the one of the source, or one computed from its fingerprints."""
    name = measure if isinstance(measure, str) else getattr(measure, "name", getattr(measure, "__name__", ""))
    if source.result is not None:
        recorded = _method_of(source.result)
        if recorded in ((name, estimator), (name, None)):
            return source.result
        if not source.sides:
            raise DataError(
                f"expected a result of {estimator} {name}, found one of {' '.join(filter(None, reversed(recorded)))} "
                "and no fingerprints to compute it from; run the comparison again"
            )
    x, y = source.sides
    method = choose_measure(measure)
    return compare_fingerprints(
        x,
        y,
        pair=source.result.pairing or None if source.result else None,
        measure=method,
        estimator=estimator if method.sums else "unbiased",
        permutations=0,
    )


def _check_same_layers(first: SimilarityMatrix, second: SimilarityMatrix) -> None:
    """Raise unless both results have the same layers and features."""
    for side, axes in (("x", (first.rows, second.rows)), ("y", (first.columns, second.columns))):
        names = [[axis.name for axis in layers] for layers in axes]
        if names[0] != names[1]:
            index = next((i for i, (a, b) in enumerate(zip(*names, strict=False)) if a != b), min(map(len, names)))
            pair = [layers[index] if index < len(layers) else "none" for layers in names]
            raise DataError(
                f"expected the same layers of {side} in both comparisons, found {len(names[0])} and {len(names[1])}, "
                f"at {index} {pair[0]} and {pair[1]}; compare both with the same --layers"
            )
    features = [result.settings["features"] for result in (first, second)]
    if features[0] != features[1]:
        raise DataError(f"expected the same --features in both comparisons, found {features[0]} and {features[1]}")


def _relation(sources: list[_Source], results: list[SimilarityMatrix]) -> str:
    """Return how the images of the two comparisons relate: `PAIRED`, `BOUND` or `INDEPENDENT`."""
    if all(source.sides for source in sources):
        first, second = (source.sides for source in sources)
        batches = [[stack.shape[-1] for stack in sides[0].grams] for sides in (first, second)]
        images = [[side.images for side in sides] for sides in (first, second)]
        if any(x == y for x, y in zip(*images, strict=True)) and batches[0] == batches[1]:
            return PAIRED  # row i of both is of the same pair
        return BOUND if {*images[0][0], *images[0][1]} & {*images[1][0], *images[1][1]} else INDEPENDENT
    if any(result.trainings_text for result in results):
        return BOUND  # they may have trainings in common
    sources_of = [{result.images["source"], result.images.get("source_y"), *result.images_hashes} for result in results]
    return BOUND if (sources_of[0] & sources_of[1]) - {None} else INDEPENDENT


def _paired_errors(
    first: Sequence[Fingerprint], second: Sequence[Fingerprint], measure: MeasureSpec, estimator: str
) -> StandardErrors:
    """Return standard errors from the influence of each image on both values at once."""
    method, per_image = choose_measure(measure), tokens_per_image(first[0].settings.features)
    x_1, y_1, x_2, y_2 = (side.defined_grams for side in (*first, *second))
    if method.sums:
        error, degrees = paired_error((x_1, y_1), (x_2, y_2), ESTIMATORS[estimator], per_image)
        return error.numpy(), degrees.numpy()
    error, freedom = jackknife_error(
        list(zip(x_1, y_1, x_2, y_2, strict=True)),
        lambda a, b, c, d: method.function(a, b) - method.function(c, d),
        per_image,
    )
    return error.numpy(), freedom


def _unpaired_errors(results: list[SimilarityMatrix], *, bound: bool) -> StandardErrors:
    """Return standard errors from the wider halves of two results' intervals, which are not clipped.

    Args:
        results: The two results.
        bound: Return an upper bound for dependent values, not the errors of independent ones.
    """
    margins = [np.fmax(result.values - result.low, result.high - result.values) for result in results]
    first_freedom, second_freedom = (result.num_examples - 1 for result in results)
    first, second = margins[0] / stdtrit(first_freedom, 0.975), margins[1] / stdtrit(second_freedom, 0.975)
    if bound:
        return first + second, min(first_freedom, second_freedom)
    square = first**2 + second**2
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = square**2 / (first**4 / first_freedom + second**4 / second_freedom)
    return np.sqrt(square), np.where(np.isfinite(freedom), freedom, first_freedom)


def _subtract(
    results: list[SimilarityMatrix], how: str, error: np.ndarray, freedom: np.ndarray | int
) -> DifferenceMatrix:
    """Return the difference of two results, with intervals and p-values from its standard errors."""
    first, second = results
    values = first.values - second.values
    with np.errstate(invalid="ignore", divide="ignore"):
        p_values = np.where((values == 0) & (error == 0), 1.0, 2 * stdtr(freedom, -np.abs(values) / error))
    p_values = np.where(np.isfinite(values), p_values, np.nan)
    margin = stdtrit(freedom, 0.975) * error
    low, high = first.settings.get("range") or (0.0, 1.0)
    settings: dict[str, Any] = {
        **{name: first.settings.get(name) for name in ("measure", "title", "estimator", "features", "batch")},
        "range": [low - high, high - low],
        "level": LEVEL,
        "correction": "Holm",
        "images": [result.images["hash"] for result in results],
        "examples": first.examples,
        "models": [[result.x.hash, result.y.hash] for result in results],
    }
    return DifferenceMatrix(
        values=values,
        low=values - margin,
        high=values + margin,
        p_values=p_values,
        significant=holm(p_values) <= LEVEL,
        rows=first.rows,
        columns=first.columns,
        num_examples=min(result.num_examples for result in results),
        first=f"{first.x.reference} against {first.y.reference}",
        second=f"{second.x.reference} against {second.y.reference}",
        how=how,
        settings=settings,
    )
