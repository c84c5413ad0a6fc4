"""From a statistic on each run to a verdict: holds, does not hold, undecided, undefined, not run.

A run under another seed is another draw of everything: initial weights, order of images, hidden patches. What a
claim says is about the runs that could have been, so that its interval is over seeds: with n >= 2 of them, mean m and
standard deviation s (divided by n - 1),

    m plus and minus t(0.975, n - 1) s / sqrt(n)          Student 1908

and the claim, that the statistic is above 0, holds if the lower end is, and does not if the upper end is below 0.
One seed says nothing of other seeds: its interval is over images, and it decides nothing. Two do little: t is 12.7,
and yet two that happen to agree may seem to decide what their images cannot. All seeds are tested on the same
images, so that an interval over seeds is one for these images.

Runs may also be trials, which share what a seed decided before them and draw the rest anew. Then the interval is
over trials, and is one for that seed.

Several claims are tested, so that one in twenty-odd would seem to be decided by chance alone. Beside the verdict,
which is each claim's own, stands the two-sided p-value corrected for all that were tested (Holm, Scand. J. Statist.
1979): of p(1) <= … <= p(m), the largest of (m - i + 1) p(i) so far, at most 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from cka_probe.papers.estimate import Estimate

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
UNDEFINED, NOT_RUN = "undefined", "not run"
VERDICTS = (HOLDS, FAILS, UNDECIDED, UNDEFINED, NOT_RUN)
LEVEL = 0.95
SAME = 1e-12
"""Values that differ by less of themselves than this differ by rounding, and are those of one run."""


@dataclass(frozen=True)
class Finding:
    """What all runs together say of a statistic.

    Attributes:
        value: Mean over runs; NaN where undefined or not run.
        low: Lower end of the 95 % interval, over runs, or over images where there is one run.
        high: Upper end.
        verdict: One of `VERDICTS`, of the claim that the value is above 0.
        reason: Why it is not decided, defined or run, or "".
        p: Two-sided p-value of a value of 0; NaN unless several runs differ.
        runs: The value on each, by its number; NaN where undefined, None where not run.
    """

    value: float
    low: float
    high: float
    verdict: str
    reason: str
    p: float
    runs: Mapping[int, float | None]


def over_seeds(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Return mean, both ends of the 95 % t interval, and the two-sided p-value of a mean of 0.

    Args:
        values: Two or more, finite.

    Returns:
        p is NaN where the values do not vary: no spread can be told from them.

    >>> [round(number, 3) for number in over_seeds([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484, 0.074]
    """
    values = np.asarray(values, dtype=np.float64)
    n, mean, error = len(values), float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    if np.ptp(values) <= SAME * np.abs(values).max():
        return mean, mean, mean, np.nan
    margin = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return mean, mean - margin, mean + margin, float(2 * stdtr(n - 1, -abs(mean) / error))


def judge(estimates: Mapping[int, Estimate | None], run: str = "seed") -> Finding:
    """Return what the runs together say.

    A run that was not done is left out and named. A run on which the statistic is undefined makes it undefined: to
    leave it out would be to choose the runs that went well.

    Args:
        estimates: By number of the run; `None` where it was not done.
        run: What a run is called: "seed" or "trial".
    """
    runs = {number: None if estimate is None else estimate.value for number, estimate in estimates.items()}
    there = {number: estimate for number, estimate in estimates.items() if estimate is not None}
    if not there:
        return Finding(np.nan, np.nan, np.nan, NOT_RUN, "", np.nan, runs)
    if bad := {number: estimate for number, estimate in there.items() if not np.isfinite(estimate.value)}:
        return Finding(np.nan, np.nan, np.nan, UNDEFINED, _why(bad, run), np.nan, runs)
    missing = f"{len(there)} of {len(estimates)} {run}s" if len(there) < len(estimates) else ""
    if len(there) == 1:
        (only,) = there.values()
        reason = f"one {run}" if len(estimates) == 1 else missing
        low, high = min(only.low, only.value), max(only.high, only.value)  # rounding may leave 1 outside of [1, 1]
        return Finding(only.value, low, high, UNDECIDED, reason, np.nan, runs)
    value, low, high, p = over_seeds([estimate.value for estimate in there.values()])
    if np.isnan(p) and value != 0:
        reason = f"equal {run}s: not different runs"
        return Finding(value, low, high, UNDECIDED, reason, p, runs)
    verdict = HOLDS if low > 0 else FAILS if high < 0 else UNDECIDED
    return Finding(value, low, high, verdict, missing, p, runs)


def _why(bad: Mapping[int, Estimate], run: str) -> str:
    """Return why a statistic is undefined, runs of one reason together."""
    grouped: dict[str, list[str]] = {}
    for number, estimate in bad.items():
        grouped.setdefault(estimate.undefined or "no value", []).append(str(number))
    return "; ".join(f"{run}{'s' * (len(of) > 1)} {', '.join(of)}: {why}" for why, of in grouped.items())


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many were tested; NaN is not tested and stays.

    >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    corrected = np.full_like(p_values, np.nan)
    tested = np.flatnonzero(np.isfinite(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return corrected.tolist()
