"""Two comparisons in, their difference out, with intervals that say no more than is known.

What is known decides how sure a difference is:

    fingerprints of the same images    each image's influence on both values is at hand and subtracted before it is
                                         squared: noise that the two share cancels (`similarity.paired`; for measures
                                         that are means over batches, a jackknife of the difference itself)
    results of the same images         how far their noise goes together is not known: the standard deviation of a
                                         difference is at most the sum of the two (Cauchy-Schwarz), which is taken
    different images                   the variances add; degrees of freedom after Welch (1947) and Satterthwaite

Images that are partly the same are treated as the second case, and so are results that drew different ones from one
source. Significant are the cells that Holm's step-down procedure (1979) rejects at 5 % over all defined cells: the
chance of even one false mark is at most that, however cells depend on each other, and they do: all are of the same
images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from cka_probe.comparison.compare import MeasureSpec, compare_fingerprints
from cka_probe.comparison.fingerprint import Fingerprint, check_same_images
from cka_probe.comparison.results import BOUND, INDEPENDENT, PAIRED, DifferenceMatrix, SimilarityMatrix
from cka_probe.errors import DataError, FingerprintError
from cka_probe.similarity import ESTIMATORS, choose_measure
from cka_probe.similarity.features import PER_IMAGE
from cka_probe.similarity.measuring import jackknife_error
from cka_probe.similarity.paired import paired_error

LEVEL = 0.05

Comparison = tuple[Fingerprint, Fingerprint] | SimilarityMatrix | str | Path
"""A pair of fingerprints, x and y; a result; or a folder of `ckaprobe compare`, or the result.json in one."""

Spread = tuple[np.ndarray, np.ndarray | int]
"""Standard errors (rows, columns), and their degrees of freedom."""


@dataclass(frozen=True)
class _Given:
    """One of the two comparisons, as far as it is there."""

    result: SimilarityMatrix | None
    prints: tuple[Fingerprint, Fingerprint] | None


def difference(
    first: Comparison, second: Comparison, *, measure: MeasureSpec | None = None, estimator: str | None = None
) -> DifferenceMatrix:
    """Return how much more alike each two layers are in the first comparison than in the second.

    Args:
        first: A pair of fingerprints (x, y), a `SimilarityMatrix`, or a folder that `ckaprobe compare` wrote.
        second: What is subtracted; with the same layers on both sides.
        measure: As in `compare`; by default that of the results, or CKA.
        estimator: Of CKA; by default that of the results, or `unbiased`.

    Returns:
        First less second with 95 % intervals and two-sided p-values; `how` says which of the three cases it was.

    Raises:
        DataError: The layers, measures or features differ, or there is no comparison.
        FingerprintError: A fingerprint is not of the comparison that it lies beside.
    """
    both = [_read(first, "first"), _read(second, "second")]
    names = [_asked(given.result) for given in both if given.result is not None]
    measure = measure if measure is not None else _agreed([name for name, _ in names], "cka", "measure")
    own = [name for _, name in names if name is not None]
    estimator = estimator if estimator is not None else _agreed(own, "unbiased", "estimator")
    results = [_result(given, measure, estimator) for given in both]
    _check_alike(*results)
    how = _how(both, results)
    if how == PAIRED:
        error, freedom = _paired(both[0].prints, both[1].prints, measure, estimator)
    else:
        error, freedom = _together([_spread(result) for result in results], add=how == BOUND)
    return _made(results, how, error, freedom)


def _read(given: Comparison, which: str) -> _Given:
    """Return what there is of a comparison."""
    if isinstance(given, SimilarityMatrix):
        return _Given(given, None)
    if isinstance(given, str | Path):
        return _read_folder(Path(given))
    if isinstance(given, Sequence) and len(given) == 2 and all(isinstance(side, Fingerprint) for side in given):
        check_same_images(*given)
        return _Given(None, (given[0], given[1]))
    raise DataError(
        f"expected as {which} comparison two fingerprints (x, y), a SimilarityMatrix or a folder of `ckaprobe "
        f"compare`, found {type(given).__name__}"
    )


def _read_folder(path: Path) -> _Given:
    """Return the result of a folder, and the fingerprints that were kept beside it."""
    if not path.is_dir():
        return _Given(SimilarityMatrix.load(path), None)
    result, paths = SimilarityMatrix.load(path / "result.json"), [path / f"{name}.fingerprint" for name in "xy"]
    if not all(side.is_file() for side in paths):
        return _Given(result, None)
    prints = tuple(Fingerprint.load(side) for side in paths)
    for name, side, model, axes in zip("xy", prints, (result.x, result.y), (result.rows, result.columns), strict=True):
        layers = [axis.module for axis in axes]
        if (side.images_hash, side.side.hash, [*side.layers.modules]) != (
            result.images["hash"],
            model.hash,
            layers,
        ):
            raise FingerprintError(
                f"{path}/{name}.fingerprint is not of the comparison in result.json beside it (another model, other "
                "images or layers); run the comparison again, or remove it"
            )
    return _Given(result, prints)


def _asked(result: SimilarityMatrix) -> tuple[str, str | None]:
    """Return measure and estimator of a result; files of before there was a choice are of CKA."""
    return result.settings.get("measure", "cka"), result.settings.get("estimator")


def _agreed(found: list[str], otherwise: str, kind: str) -> str:
    """Return what both results have."""
    if len(set(found)) > 1:
        raise DataError(
            f"expected two comparisons by the same {kind}, found {found[0]} and {found[1]}; compare one of them "
            f"anew, or name the {kind} where fingerprints were kept"
        )
    return found[0] if found else otherwise


def _result(given: _Given, measure: MeasureSpec, estimator: str) -> SimilarityMatrix:
    """Return the result by the measure asked for: the one at hand, or one of the fingerprints."""
    name = measure if isinstance(measure, str) else getattr(measure, "name", getattr(measure, "__name__", ""))
    if given.result is not None and _asked(given.result) in ((name, estimator), (name, None)):
        return given.result
    if given.prints is None:
        found, own = _asked(given.result)
        raise DataError(
            f"the result is of {' '.join(filter(None, (own, found)))}, {estimator} {name} was asked for, and no "
            "fingerprints were kept to take it from; compare anew"
        )
    chosen = choose_measure(measure)
    return compare_fingerprints(
        *given.prints, measure=chosen, estimator=estimator if chosen.sums else "unbiased", permutations=0
    )


def _check_alike(first: SimilarityMatrix, second: SimilarityMatrix) -> None:
    """Raise unless the cells of both are of the same layers, taken in the same way."""
    for side, axes in (("x", (first.rows, second.rows)), ("y", (first.columns, second.columns))):
        names = [[axis.name for axis in layers] for layers in axes]
        if names[0] != names[1]:
            place = next((i for i, (a, b) in enumerate(zip(*names, strict=False)) if a != b), min(map(len, names)))
            told = [layers[place] if place < len(layers) else "none" for layers in names]
            raise DataError(
                f"expected the same layers of {side} in both comparisons, found {len(names[0])} and {len(names[1])}, "
                f"at {place} {told[0]} and {told[1]}; compare both with the same --layers"
            )
    features = [result.settings["features"] for result in (first, second)]
    if features[0] != features[1]:
        raise DataError(f"expected the same --features in both comparisons, found {features[0]} and {features[1]}")


def _how(both: list[_Given], results: list[SimilarityMatrix]) -> str:
    """Return how the images of the two comparisons stand to each other."""
    first, second = (given.prints for given in both)
    if first is not None and second is not None:
        lists = [side.images for side in (first[0], second[0])]
        batches = [[stack.shape[-1] for stack in side.grams] for side in (first[0], second[0])]
        if lists[0] == lists[1] and batches[0] == batches[1]:
            return PAIRED
        return BOUND if set(lists[0]) & set(lists[1]) else INDEPENDENT
    same = any(results[0].images[name] == results[1].images[name] for name in ("hash", "source"))
    return BOUND if same else INDEPENDENT


def _paired(
    first: tuple[Fingerprint, Fingerprint],
    second: tuple[Fingerprint, Fingerprint],
    measure: MeasureSpec,
    estimator: str,
) -> Spread:
    """Return standard errors from what every image does to both values at once."""
    chosen, per_image = choose_measure(measure), PER_IMAGE[first[0].settings.features]
    grams = [tuple(side.grams for side in comparison) for comparison in (first, second)]
    if chosen.sums:
        error, freedom = paired_error(*grams, ESTIMATORS[estimator], per_image)
    else:
        error, freedom = jackknife_error(
            zip(*grams[0], *grams[1], strict=True),
            lambda a, b, c, d: chosen.function(a, b) - chosen.function(c, d),
            per_image,
        )
    return error.numpy(), freedom


def _spread(result: SimilarityMatrix) -> Spread:
    """Return the standard errors behind a result's intervals; an end that was cut off is made up for by the other."""
    margin = np.fmax(result.values - result.low, result.high - result.values)
    freedom = result.num_examples - 1
    return margin / stdtrit(freedom, 0.975), freedom


def _together(spreads: list[Spread], *, add: bool) -> Spread:
    """Return the standard error of a difference: the most there can be, or that of independent values."""
    (first, free_first), (second, free_second) = spreads
    if add:
        return first + second, min(free_first, free_second)
    square = first**2 + second**2
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = square**2 / (first**4 / free_first + second**4 / free_second)
    return np.sqrt(square), np.where(np.isfinite(freedom), freedom, free_first)


def _made(results: list[SimilarityMatrix], how: str, error: np.ndarray, freedom: np.ndarray | int) -> DifferenceMatrix:
    """Return the difference of two results with the standard errors given."""
    first, second = results
    values = first.values - second.values
    with np.errstate(invalid="ignore", divide="ignore"):
        p_values = np.where((values == 0) & (error == 0), 1.0, 2 * stdtr(freedom, -np.abs(values) / error))
    p_values = np.where(np.isfinite(values), p_values, np.nan)
    margin = stdtrit(freedom, 0.975) * error
    settings: dict[str, Any] = {
        name: first.settings.get(name) for name in ("measure", "title", "estimator", "features", "batch")
    }
    low, high = first.settings.get("range", (0.0, 1.0))
    settings |= {"range": [low - high, high - low], "level": LEVEL, "correction": "Holm"}
    settings |= {"images": [result.images["hash"] for result in results]}
    settings |= {"models": [[result.x.hash, result.y.hash] for result in results]}
    return DifferenceMatrix(
        values=values,
        low=values - margin,
        high=values + margin,
        p_values=p_values,
        significant=holm(p_values),
        rows=first.rows,
        columns=first.columns,
        num_examples=min(result.num_examples for result in results),
        first=f"{first.x.reference} against {first.y.reference}",
        second=f"{second.x.reference} against {second.y.reference}",
        how=how,
        settings=settings,
    )


def holm(p_values: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Return which hypotheses Holm's procedure rejects, bool of the same shape; NaN are none.

    >>> holm(np.array([0.01, 0.04, 0.03, np.nan]))
    array([ True, False, False, False])
    """
    flat = p_values.ravel()
    order = np.argsort(flat)[: np.isfinite(flat).sum()]  # NaN sort last
    steps = level / np.arange(len(order), 0, -1)
    rejected = np.zeros(flat.shape, dtype=bool)
    rejected[order] = np.logical_and.accumulate(flat[order] <= steps)
    return rejected.reshape(p_values.shape)
