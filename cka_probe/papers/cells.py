"""Cells of similarity matrices as estimates, alone and as means over several.

The cells share their images, so that their errors go together in a way that the file does not tell. The interval of
a mean is given by interval arithmetic, as if all erred in the worst way at once: conservative.
"""

from collections.abc import Sequence

import numpy as np

from cka_probe.comparison.results import Axis, SimilarityMatrix
from cka_probe.papers.estimate import Estimate


def cell(matrix: SimilarityMatrix, row: int, column: int) -> Estimate:
    """Return one cell with its interval over images."""
    values = (float(cells[row, column]) for cells in (matrix.values, matrix.low, matrix.high))
    return Estimate(*values, reasons([(matrix.rows[row], "x"), (matrix.columns[column], "y")]))


def mean_diagonal(matrix: SimilarityMatrix, part: slice = slice(None)) -> Estimate:
    """Return the mean similarity of some layers of x with the same ones of y."""
    axes = [(axis, side) for side, both in (("x", matrix.rows), ("y", matrix.columns)) for axis in both[part]]
    values, low, high = (np.diagonal(cells)[part] for cells in (matrix.values, matrix.low, matrix.high))
    return mean_of_cells(values, low, high, axes)


def mean_of_cells(values: np.ndarray, low: np.ndarray, high: np.ndarray, axes: list[tuple[Axis, str]]) -> Estimate:
    """Return the mean of some cells; a single undefined one makes it undefined, and is named."""
    if np.isfinite(values).all():
        return Estimate(float(values.mean()), float(low.mean()), float(high.mean()))
    return undefined(reasons(axes) or f"{int((~np.isfinite(values)).sum())} cells have no value")


def reasons(axes: Sequence[tuple[Axis, str]]) -> str:
    """Return which layers have no similarity, grouped by why, or ""; each layer comes with its side, "x" or "y"."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for axis, side in axes:
        if axis.undefined:
            grouped.setdefault((side, axis.undefined), []).append(axis.name)
    return "; ".join(f"{', '.join(names)} of {side}: {why}" for (side, why), names in grouped.items())


def undefined(reason: str) -> Estimate:
    """Return that there is no number, and why."""
    return Estimate(np.nan, np.nan, np.nan, reason)
