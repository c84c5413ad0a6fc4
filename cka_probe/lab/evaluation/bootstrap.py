"""Is one model better than another on the same images? The paired difference of two tables of scores.

Images differ far more from one another than two models do on one image, so two overlapping intervals say little;
the interval of the per-image differences says it. Interval and resampling are those of `Scores.intervals`
(`bootstrap_interval`: images drawn with replacement, bias-corrected and accelerated, or percentile).
"""

import numpy as np
import pandas as pd

from cka_probe.errors import DataError
from cka_probe.lab.evaluation.scores import Scores, describe_measure
from cka_probe.similarity.resampling import RESAMPLES, bootstrap_interval

__all__ = ["bootstrap_interval", "paired_difference"]


def paired_difference(
    first: Scores, second: Scores, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0, method: str = "bca"
) -> pd.DataFrame:
    """Return how much each measure of the second model differs from the first's on the same images.

    Args:
        first: The model that is held against.
        second: The other; of the same images, in any order.
        level: Of the interval.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        method: "bca" or "percentile".

    Returns:
        One row for each measure that both have: `value` (mean of second less first over the images where both say
        something), `low`, `high`, `num` (those images), `better` ("first", "second", or "" where 0 lies within the
        interval, or where neither direction is better).

    Raises:
        DataError: The images are others, or the two tables share no measure.
    """
    missing = sorted(set(first.table.index) ^ set(second.table.index))
    if missing:
        raise DataError(
            f"expected scores of the same images, found {len(missing)} that only one of the two has "
            f"({missing[0]!r} for one); evaluate both on {first.data['source']}"
        )
    shared = [name for name in first.table.columns if name in second.table.columns]
    if not shared:
        raise DataError("expected two tables with a measure in common, found none; evaluate both on the same dataset")
    differences = (second.table.loc[first.table.index, shared] - first.table[shared]).to_numpy(np.float64)
    low, high = bootstrap_interval(differences, level, resamples, seed, method)
    table = pd.DataFrame(
        {"low": low, "high": high, "num": np.isfinite(differences).sum(0)}, index=pd.Index(shared, name="measure")
    )
    table.insert(0, "value", pd.DataFrame(differences, columns=shared).mean())
    table["better"] = [_better(name, row.low, row.high) for name, row in table.iterrows()]
    return table


def _better(name: str, low: float, high: float) -> str:
    """Return which model an interval of the difference speaks for."""
    wanted = describe_measure(name).better
    if not wanted or not (low > 0 or high < 0):
        return ""
    return "second" if (high < 0) == (wanted == "lower") else "first"
