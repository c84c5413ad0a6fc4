"""Claims of a paper, the statistic that tests each, and the verdict over all runs of a study.

A claim is phrased so that its statistic is above 0 if it is true. A control is the same statistic measured in another
way: it is not tested, but shows how much of a claim is due to how it was measured. Each paper lists its claims in a
`claims.csv`, a row each, with the name of the statistic and its arguments.

A claim is about the runs that could have been, so its interval is over runs: Student's t over seeds, the trials of each
averaged first, or over the trials of a single seed. One run decides nothing; its interval is over images. p-values are
corrected for all claims tested (Holm). `docs/papers.md` has the formulas and the reasons.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from cka_probe import registry
from cka_probe.papers.evidence import Estimate, RunKey, StudyEvidence, combine
from cka_probe.similarity.resampling import holm

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
UNDEFINED, NOT_RUN = "undefined", "not run"
LEVEL = 0.95
ROUNDING = 1e-12
"""Values that differ by less than this share of themselves differ by rounding: they are of the same run."""


@dataclass(frozen=True)
class Finding:
    """A statistic over all runs.

    Attributes:
        value: Mean over runs; NaN where undefined or not run.
        low: Lower end of the 95 % interval, over runs, or over images where there is one run; `high` is the upper end.
        verdict: One of these words, on the claim that the value is above 0.
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


@dataclass(frozen=True)
class Statistic:
    """A number that is computed on each run of a study, or once a seed.

    Attributes:
        function: Of what `read` returns for each name; one that is `resampled` also takes whether it has an `interval`.
        read: Of (evidence, run, name); `None` where something was not run, an undefined estimate where it failed.
        names: What the number is computed from.
        per_seed: Whether it is the same for all trials of a seed.
        resampled: Whether its interval is expensive.
    """

    function: Callable[..., Estimate]
    read: Callable[[Any, RunKey, str], Any]
    names: tuple[str, ...]
    per_seed: bool = True
    resampled: bool = False

    def compute(self, evidence: Any, run: RunKey, interval: bool) -> Estimate | None:
        """Return the number on a run, if need be with its interval over images; `None` where it was not run."""
        parts = [self.read(evidence, run, name) for name in self.names]
        if failures := [part for part in parts if isinstance(part, Estimate)]:
            return combine(failures, np.mean)
        if any(part is None for part in parts):
            return None
        return self.function(*parts, interval=interval) if self.resampled else self.function(*parts)


def statistic(
    function: Callable[..., Estimate], read: Callable[[Any, RunKey, str], Any], *, per_seed: bool = True
) -> Callable[..., Statistic]:
    """Return what makes a statistic of names."""
    return lambda *names: Statistic(function, read, names, per_seed)


@dataclass(frozen=True)
class Claim:
    """A statement, in words, that a statistic is above 0.

    Attributes:
        section: Stem of the figure of all claims of its kind.
        name: Its key; `of` is that of the claim that this one is a control of, or "".
        figure: Stem of the figure that shows what the statistic is computed from.
    """

    section: str
    name: str
    of: str
    statement: str
    unit: str
    figure: str
    statistic: Statistic


def read_claims(path: Path, statistics: Mapping[str, Callable[..., Statistic]]) -> tuple[Claim, ...]:
    """Return the claims of a paper, each followed by its controls, from a CSV file.

    It has a column for each attribute of a claim, and the `arguments` of its statistic, separated by spaces.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    claims = []
    for row in rows:
        arguments = row.pop("arguments").split()
        statistic = registry.get(statistics, row.pop("statistic"), "statistic")(*arguments)
        claims.append(Claim(**row, statistic=statistic))
    return tuple(claims)


@dataclass(frozen=True)
class TestedClaim(Claim, Finding):
    """A claim with its finding, and the p-value corrected for all claims that were tested; NaN where it was not."""

    __test__ = False  # pytest takes classes called Test* for tests

    p_holm: float = np.nan

    @property
    def verdict_text(self) -> str:
        """The verdict with its reason, "undecided (one seed)"; without it where undefined, because it is long."""
        short = self.reason and self.verdict != UNDEFINED
        return f"{self.verdict} ({self.reason})" if short else self.verdict


def over_runs(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Return mean, both ends of the 95 % t interval, and the two-sided p-value of a mean of 0.

    Args:
        values: Two or more, finite.

    Returns:
        p is NaN where the values do not vary, because no spread can be estimated from them.

    >>> [round(number, 3) for number in over_runs([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484, 0.074]
    """
    sample = np.asarray(values, dtype=np.float64)
    n, mean, error = len(sample), float(sample.mean()), float(sample.std(ddof=1) / np.sqrt(len(sample)))
    if np.ptp(sample) <= ROUNDING * np.abs(sample).max():
        return mean, mean, mean, np.nan
    margin = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * error
    return mean, mean - margin, mean + margin, float(2 * stdtr(n - 1, -abs(mean) / error))


def judge(estimates: Mapping[int, Estimate | None], repeats: str = "seed") -> Finding:
    """Return the finding over several runs, by number, which are called a "seed" or a "trial".

    A run that was not done (`None`) is left out and named. A run on which the statistic is undefined makes it
    undefined: leaving it out would select the runs that went well.
    """
    runs = {number: None if estimate is None else estimate.value for number, estimate in estimates.items()}
    available = {number: estimate for number, estimate in estimates.items() if estimate is not None}
    finding = partial(Finding, runs=runs)
    if not available:
        return finding(np.nan, np.nan, np.nan, NOT_RUN, "", np.nan)
    if bad := {number: estimate for number, estimate in available.items() if not np.isfinite(estimate.value)}:
        return finding(np.nan, np.nan, np.nan, UNDEFINED, _undefined_reason(bad, repeats), np.nan)
    missing = f"{len(available)} of {len(estimates)} {repeats}s" if len(available) < len(estimates) else ""
    if len(available) == 1:
        (only,) = available.values()
        low, high = min(only.low, only.value), max(only.high, only.value)  # rounding may leave 1 outside of [1, 1]
        return finding(only.value, low, high, UNDECIDED, missing or f"one {repeats}", np.nan)
    value, low, high, p = over_runs([estimate.value for estimate in available.values()])
    if np.isnan(p) and value != 0:
        return finding(value, low, high, UNDECIDED, f"equal {repeats}s: not different runs", p)
    verdict = HOLDS if low > 0 else FAILS if high < 0 else UNDECIDED
    return finding(value, low, high, verdict, missing, p)


def evaluate_statistic(evidence: StudyEvidence, statistic: Statistic) -> Finding:
    """Return the finding of a statistic over all runs of a study; an interval over images only of a single run."""
    repeats = "seed" if statistic.per_seed else evidence.repeats
    trials = (0,) if statistic.per_seed else evidence.trials
    keys = [RunKey(seed, trial) for seed in evidence.seeds for trial in trials]
    estimates = {key: statistic.compute(evidence, key, statistic.per_seed) for key in keys}
    available = [key for key, estimate in estimates.items() if estimate is not None]
    if len(available) == 1 and not statistic.per_seed:
        estimates[available[0]] = statistic.compute(evidence, available[0], True)
    if repeats == "trial":
        return judge({key.trial: estimates[key] for key in keys if key.seed == evidence.seeds[0]}, repeats)
    return judge({s: average([estimates[RunKey(s, trial)] for trial in trials]) for s in evidence.seeds}, repeats)


def average(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """Return the mean over the trials of a seed that were run, or `None`; one undefined trial makes it undefined."""
    available = [estimate for estimate in estimates if estimate is not None]
    return combine(available, np.mean) if available else None


def judge_claims(evidence: StudyEvidence, claims: Sequence[Claim]) -> list[TestedClaim]:
    """Return the claims and controls with their findings, and with p-values corrected for the claims."""
    findings = {claim.name: evaluate_statistic(evidence, claim.statistic) for claim in claims}
    tested = [claim.name for claim in claims if not claim.of]
    p_holm = dict(zip(tested, holm(np.array([findings[name].p for name in tested])).tolist(), strict=True))
    return [
        TestedClaim(**vars(claim), **vars(findings[claim.name]), p_holm=p_holm.get(claim.name, np.nan))
        for claim in claims
    ]


def with_controls(rows: Sequence[TestedClaim]) -> list[TestedClaim]:
    """Return the claims that have controls, each followed by them."""
    return [row for row in rows if row.of or any(other.of == row.name for other in rows)]


def num_tested(rows: Sequence[TestedClaim]) -> int:
    """Return the number of claims that p-values were corrected for."""
    return sum(bool(np.isfinite(row.p_holm)) for row in rows)


def claims_frame(rows: Sequence[TestedClaim], repeats: str = "seed") -> pd.DataFrame:
    """Return the claims as a table: a row each, and a column for the value on each run, "seed" or "trial"."""
    columns = ["statement", "unit", "value", "low", "high", "verdict", "reason", "p", "p_holm", "figure"]
    return pd.DataFrame(
        {"name": row.name, "beside": row.of}
        | {column: getattr(row, column) for column in columns}
        | {f"{repeats}{number}": value for number, value in row.runs.items()}
        for row in rows
    )


def _undefined_reason(estimates: Mapping[int, Estimate], repeats: str) -> str:
    """Return why a statistic is undefined, with the runs of each reason."""
    numbers: dict[str, list[str]] = {}
    for number, estimate in estimates.items():
        numbers.setdefault(estimate.undefined or "no value", []).append(str(number))
    return "; ".join(f"{repeats}{'s' * (len(of) > 1)} {', '.join(of)}: {why}" for why, of in numbers.items())
