"""Claims of a paper, each with the number that tests it, and what stands beside it: what all studies share of them.

A claim is put so that its statistic is above 0 if it is true. What stands beside a claim is the same statistic taken in
another way: it is not tested, but shows how much of a claim is due to how it was measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cka_probe.papers.estimate import Estimate
from cka_probe.papers.verdicts import UNDEFINED, Finding, holm

CKA = "CKA"

Ask = Callable[..., Estimate | None]
"""Gives a statistic on a run of a study, called with the study and what names the run; `None` where what it needs was
not run."""


@dataclass(frozen=True)
class Claim:
    """A statement that a statistic is above 0.

    Attributes:
        name: Its key.
        statement: In words, as the paper has it.
        unit: Of the statistic.
        figure: Stem of the figure that shows it.
        ask: The statistic.
        of: The claim beside which it stands, "" for one of its own.
    """

    name: str
    statement: str
    unit: str
    figure: str
    ask: Ask
    of: str = ""


@dataclass(frozen=True)
class TestedClaim:
    """A claim and what came out; `value`, `low`, `high` and `verdict` as in `Finding`.

    Attributes:
        claim: What was asked.
        finding: What all runs say.
        p_holm: The p-value corrected for all claims that were tested; NaN where none was.
    """

    claim: Claim
    finding: Finding
    p_holm: float = np.nan

    @property
    def name(self) -> str:
        """The claim's key."""
        return self.claim.name

    @property
    def statement(self) -> str:
        """What is claimed, in words."""
        return self.claim.statement

    @property
    def unit(self) -> str:
        """Of value, low and high."""
        return self.claim.unit

    @property
    def value(self) -> float:
        """Mean over runs."""
        return self.finding.value

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.finding.low

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.finding.high

    @property
    def verdict(self) -> str:
        """One of `verdicts.VERDICTS`."""
        return self.finding.verdict

    @property
    def said(self) -> str:
        """The verdict, and why it is no more, "undecided (one seed)"; but not why it is undefined, which is long."""
        short = self.finding.reason and self.verdict != UNDEFINED
        return f"{self.verdict} ({self.finding.reason})" if short else self.verdict


def judge_each(
    claims: Sequence[Claim], beside: Sequence[Claim], finding: Callable[[Claim], Finding]
) -> list[TestedClaim]:
    """Return every claim with what stands beside it, in order, p-values corrected for the claims.

    Args:
        claims: What is tested.
        beside: What stands beside one of them, and is not.
        finding: What all runs say of a claim's statistic.
    """
    judged = [TestedClaim(claim, finding(claim)) for claim in claims]
    rows = []
    for row, p in zip(judged, holm([row.finding.p for row in judged]), strict=True):
        rows.append(replace(row, p_holm=p))
        rows += [TestedClaim(claim, finding(claim)) for claim in beside if claim.of == row.name]
    return rows


def controlled(rows: Sequence[TestedClaim]) -> list[TestedClaim]:
    """Return the claims that something stands beside, each followed by what does."""
    return [row for row in rows if row.claim.of or any(other.claim.of == row.name for other in rows)]


def tested(rows: Sequence[TestedClaim]) -> int:
    """Return over how many claims p-values were corrected."""
    return sum(bool(np.isfinite(row.p_holm)) for row in rows)


def claims_frame(rows: Sequence[TestedClaim], run: str = "seed") -> pd.DataFrame:
    """Return the claims as a table: one row each, a column for the value on each run, "seed" or "trial"."""
    return pd.DataFrame(
        {
            "name": row.name,
            "beside": row.claim.of,
            "statement": row.statement,
            "unit": row.unit,
            "value": row.value,
            "low": row.low,
            "high": row.high,
            "verdict": row.verdict,
            "reason": row.finding.reason,
            "p": row.finding.p,
            "p_holm": row.p_holm,
            "figure": row.claim.figure,
            **{f"{run}{number}": value for number, value in row.finding.runs.items()},
        }
        for row in rows
    )
