"""CKA of arrays as plain numbers, as functions of scikit-learn take and return them."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from cka_probe.comparison.compare import compare
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import CkaProbeWarning, DataError
from cka_probe.similarity.cka import DOUBLY_UNBIASED

EVERY = 2**31
"""More rows and columns than an array has."""
Array = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Estimates(NamedTuple):
    """Numbers with their 95 % intervals, (rows, columns) float64 each."""

    values: Array
    low: Array
    high: Array


@overload
def cka(x: Any, y: Any, *, estimator: str = ..., interval: Literal[False] = ...) -> float: ...
@overload
def cka(x: Any, y: Any, *, estimator: str = ..., interval: Literal[True]) -> Estimate: ...
def cka(x: Any, y: Any, *, estimator: str = "unbiased", interval: bool = False) -> float | Estimate:
    """Return the linear CKA of two arrays of features of the same examples.

        CKA = HSIC(K, L) / sqrt(HSIC(K, K) * HSIC(L, L)),   K = X X^T, L = Y Y^T

    over all rows as one batch; see `compare` with `batch="all"`. NaN, with a warning, if an array does not vary, is
    not finite, or has too few rows for what it varies.

    Args:
        x: (n, p) or (n, ...) numbers, an array of NumPy or a tensor; row i is example i, at least four rows.
        y: (n, q) or (n, ...) numbers.
        estimator: Estimator of HSIC: `unbiased` (Song et al. 2012), which may be below 0 for unrelated features,
            `biased` (Gretton et al. 2005), or `doubly_unbiased` (Chun et al. 2025), for features that are a sample,
            such as recorded neurons, of infinitely many; columns of two arrays of the same width are taken for the same
            features. See `similarity.feature_sampling`.
        interval: Return the 95 % interval as well.

    Returns:
        A float; with `interval`, it with the ends of its interval: `value`, `low`, `high`.

    Raises:
        DataError: The arrays are not of numbers, differ in length, or have fewer than four rows.
        UnknownNameError: There is no such estimator.

    >>> x = np.random.default_rng(0).normal(size=(100, 5))
    >>> round(cka(x, 2 * x[:, ::-1]), 6)
    1.0
    >>> y = x[:, :3] + np.random.default_rng(1).normal(size=(100, 3))
    >>> value, low, high = cka(x, y, interval=True)
    >>> low < value < high
    True
    """
    estimates = _estimates({"x": x}, {"y": y}, estimator)
    if interval:
        return Estimate(*(float(part[0, 0]) for part in estimates))
    return float(estimates.values[0, 0])


@overload
def cka_matrix(xs: Any, ys: Any = ..., *, estimator: str = ..., interval: Literal[False] = ...) -> Array: ...
@overload
def cka_matrix(xs: Any, ys: Any = ..., *, estimator: str = ..., interval: Literal[True]) -> Estimates: ...
def cka_matrix(xs: Any, ys: Any = None, *, estimator: str = "unbiased", interval: bool = False) -> Array | Estimates:
    """Return the linear CKA of every array of xs with every one of ys, all of the same examples.

    Each is the number that `cka` returns. For figures, a null and a record of what was compared, give the same
    mappings to `compare`.

    Args:
        xs: A sequence of arrays as in `cka`, such as the activations of layers, or a mapping with these as values.
        ys: Another; by default xs.
        estimator: As in `cka`.
        interval: Return the 95 % intervals as well.

    Returns:
        (rows, columns) float64; with `interval`, these and both ends of their intervals: `values`, `low`, `high`.

    Raises:
        DataError: As in `cka`, or there is no array.

    >>> layers = [np.random.default_rng(seed).normal(size=(50, 4)) for seed in range(3)]
    >>> cka_matrix(layers).shape, cka_matrix(layers, layers[:1]).shape
    ((3, 3), (3, 1))
    """
    rows = _named(xs)
    estimates = _estimates(rows, rows if ys is None else _named(ys), estimator)
    return estimates if interval else estimates.values


def _named(arrays: Any) -> Mapping[str, Any]:
    """Return several arrays by name, or by number."""
    if isinstance(arrays, Mapping):
        return arrays
    if not isinstance(arrays, Sequence):
        raise DataError(f"expected a list of arrays, found {type(arrays).__name__}; for two arrays there is cka(x, y)")
    return {str(number): array for number, array in enumerate(arrays)}


def _as_matrix(array: Any) -> Any:
    """Return (n, p) of an array (n, ...)."""
    return array.reshape(len(array), -1) if getattr(array, "ndim", 0) > 2 and len(array) else array


def _estimates(xs: Mapping[str, Any], ys: Mapping[str, Any], estimator: str) -> Estimates:
    """Return CKA of every two arrays, and warn of those that are undefined."""
    rows, columns = ({name: _as_matrix(array) for name, array in side.items()} for side in (xs, ys))
    options: dict[str, Any] = {"batch": "all"}
    if estimator == DOUBLY_UNBIASED:
        options = {"batch": EVERY, "num_features": EVERY}
    result: SimilarityMatrix = compare(rows, columns, estimator=estimator, permutations=0, **options)
    for name, axes in (("x", result.rows), ("y", result.columns)):
        if undefined := [axis for axis in axes if axis.undefined]:
            label = name if len(axes) == 1 else f"{name}, array {undefined[0].name}"
            warnings.warn(
                f"CKA is NaN where {label} is compared: {undefined[0].undefined}", CkaProbeWarning, stacklevel=3
            )
    return Estimates(result.values, result.low, result.high)
