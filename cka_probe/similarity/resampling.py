"""Bootstrap intervals of statistics over images, bias-corrected and accelerated (Efron, J. Amer. Stat. Assoc. 1987).

The images are resampled with replacement, and the statistic is computed of each resample. The interval lies between two
quantiles of these values, which are shifted by how far the values lie to one side (bias) and by how much single images
influence the statistic (acceleration). A resample is represented by how often it contains each image, so a statistic
made of sums over images costs one matrix product for all resamples.
"""

from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr, ndtri

from cka_probe.errors import DataError

RESAMPLES = 2000
BLOCK_ELEMENTS = 4_000_000
"""Elements of a block of counts, resamples times images."""


def resample_counts(num: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each image is in each resample, in blocks (resamples, num) float64 that fit into memory."""
    generator, step = np.random.default_rng(seed), max(1, BLOCK_ELEMENTS // max(num, 1))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield generator.multinomial(num, np.full(num, 1 / num), size=size).astype(np.float64)


def check_resampling(level: float, resamples: int, method: str = "bca") -> None:
    """Check the settings of an interval.

    Raises:
        DataError: `level`, `resamples` or `method` is not valid.
    """
    if not 0 < level < 1 or resamples < 1 or method not in ("bca", "percentile"):
        raise DataError(
            "expected a level between 0 and 1, at least one resample and method 'bca' or 'percentile', "
            f"found {level}, {resamples} and {method!r}"
        )


def interval_of_draws(
    value: float, draws: np.ndarray, influences: np.ndarray, level: float = 0.95, method: str = "bca"
) -> tuple[float, float]:
    """Return the interval of a statistic from its values in resamples.

    Args:
        value: The statistic of all images.
        draws: (resamples,) float64, the statistic of each resample; NaN where it is not defined.
        influences: (images,) float64, up to a factor, how much each image raises the statistic: for a mean, its value
            minus the mean; in general, the statistic minus that of all other images.
        level: Level of the interval.
        method: "bca" or "percentile".

    Returns:
        low and high; NaN where no draw is defined.
    """
    draws, ends = draws[np.isfinite(draws)], np.array([(1 - level) / 2, (1 + level) / 2])
    if not draws.size:
        return np.nan, np.nan
    squares = (influences**2).sum()
    if method == "bca" and squares:
        below = ((draws < value).mean() + (draws <= value).mean()) / 2  # ties count half
        bias = ndtri(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
        acceleration = (influences**3).sum() / (6 * squares**1.5)
        z = bias + ndtri(ends)
        ends = ndtr(bias + z / (1 - acceleration * z))
    low, high = np.quantile(draws, ends)
    return float(low), float(high)


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0, method: str = "bca"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of the mean of each column, with the rows (images) resampled.

    Args:
        values: (images, columns) float64; NaN is ignored.
        level: Level of the interval, between 0 and 1.
        resamples: Number of resamples.
        seed: Seed of the resamples, which all columns share.
        method: "bca", corrected for bias and skewness, or "percentile".

    Returns:
        low and high, (columns,) float64; NaN where fewer than two images have a value.

    Raises:
        DataError: `level`, `resamples` or `method` is not valid.
    """
    check_resampling(level, resamples, method)
    valid = np.isfinite(values)
    low, high = np.full((2, values.shape[1]), np.nan)
    columns = np.flatnonzero(valid.sum(0) >= 2)
    if not columns.size:
        return low, high
    draws = _resampled_means(np.where(valid, values, 0.0), valid, resamples, seed)
    for column in columns:
        numbers = values[valid[:, column], column]
        mean = numbers.mean()
        low[column], high[column] = interval_of_draws(mean, draws[:, column], numbers - mean, level, method)
    return low, high


def _resampled_means(values: np.ndarray, valid: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return the mean of each column in each resample, (resamples, columns); NaN if it contains no valid image."""
    centre = values.sum(0) / valid.sum(0).clip(min=1)
    shifted = (values - centre) * valid  # exactly 0 in a column that does not vary, whose interval has no width
    with np.errstate(invalid="ignore"):
        means = [
            counts @ shifted / (counts @ valid.astype(np.float64)) + centre
            for counts in resample_counts(len(values), resamples, seed)
        ]
    return np.concatenate(means)


def wilson_interval(count: int, num: int, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share, such as an accuracy (Wilson, J. Amer. Stat. Assoc. 1927).

    The observed share, count / num, is z standard errors sqrt(p (1 - p) / num) away from the ends p.

    Args:
        count: How many of the images have the property.
        num: Number of images.
        level: Level of the interval.

    Returns:
        low and high; NaN without an image.

    Raises:
        DataError: `level` is not between 0 and 1.

    >>> [round(end, 4) for end in wilson_interval(81, 263)]
    [0.2553, 0.3662]
    """
    check_resampling(level, 1)
    if not num:
        return np.nan, np.nan
    share, squared = count / num, ndtri((1 + level) / 2) ** 2 / num
    half = np.sqrt(squared * (share * (1 - share) + squared / 4))
    low, high = (share + squared / 2 - half) / (1 + squared), (share + squared / 2 + half) / (1 + squared)
    return (0.0 if count == 0 else float(low)), (1.0 if count == num else float(high))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values corrected for the number of tests (Holm, Scand. J. Stat. 1979).

    Args:
        p_values: float64 of any shape; NaN where there was no test.

    Returns:
        float64 of the same shape; NaN stays NaN. A corrected p-value is compared with the level directly.

    >>> holm(np.array([0.01, 0.04, 0.03, np.nan]))
    array([0.03, 0.06, 0.06,  nan])
    """
    flat = p_values.ravel().astype(np.float64)
    corrected = np.full_like(flat, np.nan)
    order = np.argsort(flat, kind="stable")[: np.isfinite(flat).sum()]  # NaN sort last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * flat[order]), 1.0)
    return corrected.reshape(p_values.shape)
