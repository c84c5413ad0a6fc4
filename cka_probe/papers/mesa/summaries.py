"""The study as plain tables: scores of every arm, similarity and spread of every layer, and what was not run.

Each row has a value with its interval: over seeds where there are several, over images where there is one
(`verdicts.judge`, whose verdict plays no part here).
"""

import math
from collections.abc import Sequence

import pandas as pd

from cka_probe.lab.evaluation.scores import describe_measure
from cka_probe.papers.cells import cell
from cka_probe.papers.estimate import Estimate
from cka_probe.papers.mesa.arms import ARMS, CONTROLS, Arm
from cka_probe.papers.mesa.estimates import mean_score
from cka_probe.papers.mesa.evidence import PLACES, Evidence
from cka_probe.papers.mesa.published import published
from cka_probe.papers.texts import shown
from cka_probe.papers.verdicts import judge

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
        arm, stage, measure, unit, better, value, low, high, over ("seeds" or "images"), seeds (how many), state ("",
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
                | shown(finding)
                | {"paper": paper.value if paper else math.nan, "source": paper.source if paper else ""}
            )
    return pd.DataFrame(rows)


VIDEO = ("abs_rel", "abs_rel_constant", "delta1", "photometric")
"""What geometric stages are told by on held-out videos, the second being what one depth for all would have."""


def video_rows(evidence: Evidence, arms: Sequence[Arm]) -> pd.DataFrame:
    """Return one row for each arm and measure of `VIDEO` at the end of training, on videos held out.

    Args:
        evidence: The study.
        arms: Of which `tuned` is the stage that is told of.

    Returns:
        As `score_rows`; without an interval where there is one seed.
    """
    rows = []
    for arm in arms:
        ends = {seed: evidence.validation(seed, arm.tuned) for seed in evidence.seeds}
        for name in VIDEO:
            found = {seed: table[name].iloc[-1] for seed, table in ends.items() if table is not None and name in table}
            finding = judge(
                {seed: Estimate(found[seed], math.nan, math.nan) if seed in found else None for seed in ends}
            )
            better = "" if name == "abs_rel_constant" else describe_measure(name).better or "lower"
            rows.append(
                {"arm": arm.name, "stage": arm.tuned, "measure": name, "unit": "", "better": better}
                | shown(finding)
                | {"paper": math.nan, "source": ""}
            )
    return pd.DataFrame(rows)


def _last(table: pd.DataFrame | None, name: str) -> Estimate | None:
    """Return the last value of a column, which has no interval of its own; `None` where there is none."""
    return None if table is None or name not in table else Estimate(float(table[name].iloc[-1]), math.nan, math.nan)


def layer_rows(evidence: Evidence, arms: Sequence[Arm] = (*ARMS, *CONTROLS), variant: str = "paper") -> pd.DataFrame:
    """Return one row for each arm and layer: similarity with layer 0, similarity with itself tuned, and spread.

    Args:
        evidence: The study.
        arms: In the order wanted.
        variant: How similarities were taken.

    Returns:
        arm, pre (its stage before fine-tuning), variant, index, layer; spread (root mean square of what varies, before
        fine-tuning) and spread_tuned, means over seeds; and `top_` and `diagonal_` value, low, high, over, seeds,
        state, reason.
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
                {
                    "arm": arm.name,
                    "pre": arm.pre,
                    "variant": variant,
                    "index": layer,
                    "layer": there[0].rows[layer].name,
                }
                | {"spread": _mean([matrix.rows[layer].spread for matrix in there])}
                | {"spread_tuned": _mean([matrix.columns[layer].spread for matrix in tuned.values() if matrix])}
                | {f"top_{key}": value for key, value in shown(top).items()}
                | {f"diagonal_{key}": value for key, value in shown(diagonal).items()}
            )
    return pd.DataFrame(rows)


def absences(evidence: Evidence) -> list[str]:
    """Return what a full study has and this one has not: a line an arm, the seeds named where only some lack it."""
    lines = []
    for arm in (*ARMS, *CONTROLS):
        wanted = {f"scores {words}": [evidence.scores(k, arm.tuned, place) for k in evidence.seeds]
                  for place, words in PLACES.items()}  # fmt: skip
        pairs = {"before and after fine-tuning": arm.tuned} | ({"with itself": arm.pre} if arm in ARMS else {})
        for words, y in pairs.items():
            wanted[f"similarity {words}"] = [evidence.similarity(k, arm.pre, y) for k in evidence.seeds]
        lacking = {words: _lacking(evidence.seeds, found) for words, found in wanted.items()}
        lacking = {words: seeds for words, seeds in lacking.items() if seeds is not None}
        if lacking:
            all_of_it = len(lacking) == len(wanted) and not any(lacking.values())
            what = "nothing of it" if all_of_it else ", ".join(words + seeds for words, seeds in lacking.items())
            lines.append(f"{arm.name}: {what}" if all_of_it else f"{arm.name}: without {what}")
    return lines


def _lacking(seeds: Sequence[int], found: Sequence[object | None]) -> str | None:
    """Return which seeds lack something, in words; "" if all do, `None` if none does."""
    missing = [str(seed) for seed, part in zip(seeds, found, strict=True) if part is None]
    if not missing:
        return None
    return "" if len(missing) == len(seeds) else f" (seeds {', '.join(missing)})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
