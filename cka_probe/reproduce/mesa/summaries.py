"""The study as plain tables: scores of every arm, similarity and spread of every layer, and what was not run.

Each row has a value with its interval: over seeds where there are several, over pictures where there is one
(`verdicts.judge`, whose verdict plays no part here).
"""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from cka_probe.reproduce.mesa.arms import ARMS, CONTROLS, Arm
from cka_probe.reproduce.mesa.estimates import Estimate, mean_score
from cka_probe.reproduce.mesa.evidence import PLACES, Evidence
from cka_probe.reproduce.mesa.published import published
from cka_probe.reproduce.mesa.verdicts import NOT_RUN, UNDEFINED, Finding, judge
from cka_probe.results import SimilarityMatrix
from cka_probe.scores import describe_measure

MEASURES = {
    "in": ("abs_rel", "rmse", "log10", "delta1", "delta2", "delta3"),
    "out": ("dbe_acc", "dbe_comp", "pe_plan", "pe_orie", "abs_rel", "abs_rel_median"),
}
"""Columns of Tables 1 and 2; the paper does not say how it aligns abs_rel on iBims-1, so that both stand there."""


def score_rows(evidence: Evidence, place: str, arms: Sequence[Arm] = ARMS) -> pd.DataFrame:
    """Return one row for each arm and measure: ours with its interval, and the paper's number.

    Args:
        evidence: The study.
        place: "in" or "out".
        arms: In the order wanted.

    Returns:
        arm, stage, measure, unit, better, value, low, high, over ("seeds" or "pictures"), seeds (how many), state ("",
        "not run" or "undefined"), reason, paper (NaN where no number is vouched for), source.
    """
    rows = []
    for arm in arms:
        scores = {seed: evidence.scores(seed, arm.tuned, place) for seed in evidence.seeds}
        for name in MEASURES[place]:
            finding = judge({seed: found and mean_score(found, name) for seed, found in scores.items()})
            measure, paper = describe_measure(name), published(place, arm.tuned, name)
            rows.append(
                {"arm": arm.name, "stage": arm.tuned, "measure": name, "unit": measure.unit, "better": measure.better}
                | _shown(finding)
                | {"paper": paper.value if paper else math.nan, "source": paper.source if paper else ""}
            )
    return pd.DataFrame(rows)


def layer_rows(evidence: Evidence, arms: Sequence[Arm] = (*ARMS, *CONTROLS), variant: str = "paper") -> pd.DataFrame:
    """Return one row for each arm and layer: similarity with layer 0, similarity with itself tuned, and spread.

    Args:
        evidence: The study.
        arms: In the order wanted.
        variant: How similarities were taken.

    Returns:
        arm, variant, index, layer, undefined; spread (root mean square of what varies, before fine-tuning) and
        spread_tuned, means over seeds; and `top_` and `diagonal_` value, low, high, over, seeds, state, reason.
    """
    rows = []
    for arm in arms:
        alone = {seed: evidence.similarity(seed, arm.pre, arm.pre, variant) for seed in evidence.seeds}
        tuned = {seed: evidence.similarity(seed, arm.pre, arm.tuned, variant) for seed in evidence.seeds}
        there = [matrix for matrix in (*alone.values(), *tuned.values()) if matrix is not None]
        for layer in range(9) if there else ():
            top = judge({seed: matrix and cell(matrix, 0, layer) for seed, matrix in alone.items()})
            diagonal = judge({seed: matrix and cell(matrix, layer, layer) for seed, matrix in tuned.items()})
            rows.append(
                {"arm": arm.name, "variant": variant, "index": layer, "layer": there[0].rows[layer].name}
                | {"spread": _mean([matrix.rows[layer].spread for matrix in there])}
                | {"spread_tuned": _mean([matrix.columns[layer].spread for matrix in tuned.values() if matrix])}
                | {f"top_{key}": value for key, value in _shown(top).items()}
                | {f"diagonal_{key}": value for key, value in _shown(diagonal).items()}
            )
    return pd.DataFrame(rows)


def cell(matrix: SimilarityMatrix, row: int, column: int) -> Estimate:
    """Return one cell with its interval over pictures."""
    values = (float(cells[row, column]) for cells in (matrix.values, matrix.low, matrix.high))
    sides = (("x", matrix.rows[row]), ("y", matrix.columns[column]))
    reasons = [f"{axis.name} of {side}: {axis.undefined}" for side, axis in sides if axis.undefined]
    return Estimate(*values, "; ".join(reasons))


def absences(evidence: Evidence) -> list[str]:
    """Return what a full study has and this one has not, a line each; the seeds are named where only some lack it."""
    lines = []

    def note(name: str, there: Iterable[bool]) -> None:
        missing = [seed for seed, found in zip(evidence.seeds, there, strict=True) if not found]
        if missing:
            some = "" if len(missing) == len(evidence.seeds) else f" (seeds {', '.join(map(str, missing))})"
            lines.append(name + some)

    for arm in (*ARMS, *CONTROLS):
        for place, words in PLACES.items():
            found = (evidence.scores(seed, arm.tuned, place) is not None for seed in evidence.seeds)
            note(f"{arm.name}: scores {words}", found)
        pairs = {"before and after fine-tuning": arm.tuned} | ({"with itself": arm.pre} if arm in ARMS else {})
        for words, y in pairs.items():
            found = (evidence.similarity(seed, arm.pre, y) is not None for seed in evidence.seeds)
            note(f"{arm.name}: similarity {words}", found)
    return lines


def _shown(finding: Finding) -> dict[str, object]:
    """Return value and interval of a finding, over what, and why there are none."""
    seeds = sum(value is not None for value in finding.seeds.values())
    state = finding.verdict if finding.verdict in (NOT_RUN, UNDEFINED) else ""
    over = "" if state else "seeds" if seeds > 1 else "pictures"
    numbers = {"value": finding.value, "low": finding.low, "high": finding.high}
    return numbers | {"over": over, "seeds": seeds, "state": state, "reason": finding.reason if state else ""}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
