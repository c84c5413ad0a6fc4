"""How sure a number is that was taken from images: the bootstrap, bias-corrected and accelerated.

All images are drawn again and again, with replacement and always whole, and the statistic is taken of each draw; the
interval is between two quantiles of what comes out, moved by how far the draws lie to one side (bias) and by how much
single images pull (acceleration), after Efron, J. Amer. Stat. Assoc. 1987. A draw is kept as how often each image
is in it, so that every statistic made of sums over images costs one product of matrices for all draws.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.similarity.cka import Terms, centre_batches, cka, hsic_terms
from cka_probe.similarity.estimators import Estimator
from cka_probe.similarity.intervals import single_term

RESAMPLES = 2000
COUNTED = 4_000_000
"""Of images times draws, held at once."""


def redrawn(num: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each image is in each draw, in blocks (draws, num) float64 that fit into memory."""
    generator, step = np.random.default_rng(seed), max(1, COUNTED // max(num, 1))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield generator.multinomial(num, np.full(num, 1 / num), size=size).astype(np.float64)


def check_resampling(level: float, resamples: int, method: str = "bca") -> None:
    """Check what an interval is to be made of.

    Raises:
        DataError: `level`, `resamples` or `method` make no sense.
    """
    if not 0 < level < 1 or resamples < 1 or method not in ("bca", "percentile"):
        raise DataError(
            "expected a level between 0 and 1, at least one resample and method 'bca' or 'percentile', "
            f"found {level}, {resamples} and {method!r}"
        )


def interval_of_draws(
    value: float, draws: np.ndarray, pulls: np.ndarray, level: float = 0.95, method: str = "bca"
) -> tuple[float, float]:
    """Return the interval of a statistic from its draws.

    Args:
        value: The statistic of all images.
        draws: (resamples,) float64, of each draw; NaN of a draw that says nothing.
        pulls: (images,) float64, how far each image pulls the statistic up, up to a factor: its value less the
            mean for a mean, the statistic less that of all other images in general.
        level: Of the interval.
        method: "bca" or "percentile".

    Returns:
        low and high; NaN where no draw says anything.
    """
    draws, ends = draws[np.isfinite(draws)], np.array([(1 - level) / 2, (1 + level) / 2])
    if not draws.size:
        return np.nan, np.nan
    at = ends if method == "percentile" else _corrected(ends, value, draws, pulls)
    low, high = np.quantile(draws, at)
    return float(low), float(high)


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0, method: str = "bca"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of the mean of each column, images drawn with replacement.

    Args:
        values: (images, columns) float64; NaN takes part in no mean.
        level: Of the interval, between 0 and 1.
        resamples: How many times all images are drawn.
        seed: Of the draws; the same for every column.
        method: "bca", corrected for bias and skewness, or "percentile".

    Returns:
        low and high, (columns,) float64; NaN where fewer than two images have a value.

    Raises:
        DataError: `level`, `resamples` or `method` make no sense.
    """
    check_resampling(level, resamples, method)
    there = np.isfinite(values)
    low, high = np.full((2, values.shape[1]), np.nan)
    enough = there.sum(0) >= 2
    if not enough.any():
        return low, high
    drawn = _resampled_means(np.where(there, values, 0.0), there, resamples, seed)
    for column in np.flatnonzero(enough):
        own = values[there[:, column], column]
        off = own - own.mean()  # a draw may miss every image that has a value, and is left out then
        low[column], high[column] = interval_of_draws(own.mean(), drawn[:, column], off, level, method)
    return low, high


def _resampled_means(values: np.ndarray, there: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return the mean of each column in each draw, (resamples, columns)."""
    centre = values.sum(0) / there.sum(0).clip(min=1)
    shifted = (values - centre) * there  # a column that does not vary is to have an interval of exactly no width
    with np.errstate(invalid="ignore"):
        means = [
            counts @ shifted / (counts @ there.astype(np.float64)) + centre
            for counts in redrawn(len(values), resamples, seed)
        ]
    return np.concatenate(means)


def _corrected(ends: np.ndarray, value: float, draws: np.ndarray, pulls: np.ndarray) -> np.ndarray:
    """Return which quantiles of the draws are the interval's ends, bias-corrected and accelerated."""
    spread = (pulls**2).sum()
    if spread == 0:
        return ends
    below = ((draws < value).mean() + (draws <= value).mean()) / 2  # ties count half
    bias = ndtri(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    acceleration = (pulls**3).sum() / (6 * spread**1.5)
    z = bias + ndtri(ends)
    corrected: np.ndarray = ndtr(bias + z / (1 - acceleration * z))
    return corrected


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values corrected for the number of tests (Holm, Scand. J. Stat. 1979).

    Args:
        p_values: float64 of any shape; NaN marks what was not tested.

    Returns:
        float64 of the same shape; NaN stays NaN. A hypothesis is rejected at a level if its corrected p-value is at
        most that level.

    >>> holm(np.array([0.01, 0.04, 0.03, np.nan]))
    array([0.03, 0.06, 0.06,  nan])
    """
    flat = p_values.ravel().astype(np.float64)
    corrected = np.full_like(flat, np.nan)
    order = np.argsort(flat, kind="stable")[: np.isfinite(flat).sum()]  # NaN sort last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * flat[order]), 1.0)
    return corrected.reshape(p_values.shape)


Stacks = Sequence[Tensor]
"""Per batch, the Grams of one side, (layers, n, n) float64."""


def paired_error(
    first: tuple[Stacks, Stacks], second: tuple[Stacks, Stacks], estimator: Estimator, per_image: int = 1
) -> tuple[Tensor, int]:
    """Return the standard error of the first CKA less the second, and its degrees of freedom.

    Args:
        first: Both sides of the first comparison, centred Grams as a fingerprint keeps them.
        second: Of the second; of the same images in the same batches, with as many layers on each side.
        estimator: Of HSIC, for both.
        per_image: Examples that one image gives.

    Returns:
        (rows, columns) float64, NaN where either CKA is, infinite where HSIC is a `single_term`; and images less one.
    """
    sides = [tuple(centre_batches(side, estimator) for side in comparison) for comparison in (first, second)]
    scales = [_scales(hsic_terms(x, y, estimator, per_image)) for x, y in sides]
    variance, floor, images = torch.zeros(()), torch.zeros(()), 0
    for batches in zip(*sides[0], *sides[1], strict=True):
        n = batches[0].shape[-1]
        weight = n / per_image / estimator.divisor(n)
        rows = [_row(batches, scales, row, per_image) for row in range(len(batches[0]))]
        influence, pairs = (weight**2 * torch.stack(parts) for parts in zip(*rows, strict=True))
        variance = variance + influence - 2 * pairs
        floor = floor + influence / 2
        images += n // per_image
    error = (torch.maximum(variance, floor) * images / (images - 1)).sqrt()
    return error + torch.inf if single_term(sides[0][0], estimator) else error, images - 1


def _scales(terms: Terms) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `U(K) U(L)`, `U(K)^2` and `U(L)^2` are multiplied by in `e`, (rows, columns) each."""
    value, (_, xx, yy) = cka(terms), terms.sums()
    return 1.0 / (xx[:, None] * yy[None, :]).sqrt(), value / (2 * xx[:, None]), value / (2 * yy[None, :])


def _row(
    batches: tuple[Tensor, ...], scales: list[tuple[Tensor, Tensor, Tensor]], row: int, per_image: int
) -> tuple[Tensor, Tensor]:
    """Return `sum_i I_i^2` and `sum_(i != j) e_ij^2` of one row's cells in one batch, (columns,) each."""
    first, second = (
        _entries(x[row], y, [scale[row, :, None, None] for scale in own])
        for (x, y), own in zip((batches[:2], batches[2:]), scales, strict=True)
    )
    entries = first - second  # (columns, n, n)
    columns, n, _ = entries.shape
    count = n // per_image
    blocks = entries.reshape(columns, count, per_image, count, per_image).sum(dim=(2, 4))
    own = blocks.diagonal(dim1=1, dim2=2)
    influence = (2 * blocks.sum(dim=2) - own).square().sum(dim=1)
    if per_image > 1:  # tokens of an image are no independent pairs
        return influence, torch.zeros_like(influence)
    return influence, entries.square().sum(dim=(1, 2)) - own.square().sum(dim=1)


def _entries(x: Tensor, y: Tensor, scales: list[Tensor]) -> Tensor:
    """Return `e_ij` of one layer of x with every layer of y, (columns, n, n)."""
    xy, xx, yy = scales
    return xy * x * y - xx * x.square() - yy * y.square()
