"""The study as plain tables: every case beside the paper's number, pre-training, learning rates, layers, what it cost.

Each row has a value with its interval, over trials or seeds where there are several and over test images where not
(`questions`), and in percent where it is a share.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from cka_probe.lab.evaluation.label_scores import describe_label_measure
from cka_probe.papers.cells import cell
from cka_probe.papers.depth_to_semantic.cases import ARMS, NETWORKS, QUIRKS, TABLES, Case
from cka_probe.papers.depth_to_semantic.estimates import largest_fall
from cka_probe.papers.depth_to_semantic.evidence import DATA_OF, Evidence, Run
from cka_probe.papers.depth_to_semantic.published import published
from cka_probe.papers.depth_to_semantic.questions import find, measured, pair
from cka_probe.papers.estimate import Estimate
from cka_probe.papers.texts import shown
from cka_probe.papers.verdicts import judge

MEASURES = ("miou_subset", "accuracy", "miou", "miou_subset_per_image", "cross_entropy")
WITHOUT_SUBSET = ("miou", "accuracy", "miou_per_image", "cross_entropy")
"""Columns of a table; of data with and without a subset of classes."""

WHENS = ("before", "after")
LEFT_OUT = ("step", "loss")
"""Of a last row of validation: what is no measure of how well pre-training went."""


def label(case: Case) -> str:
    """Return what a case is called in a table.

    >>> label(Case("flow", mode="frozen")), label(Case("video", num=4))
    ('optical flow, frozen', 'depth from video, 4 images')
    """
    parts = [ARMS[case.arm]]
    parts += [{"encoder": "encoder only", "frozen": "frozen"}[case.mode]] if case.mode != "all" else []
    parts += [f"{case.num} images"] if case.num else []
    parts += [{"low": "half the size", "high": "twice the size"}[case.size]] if case.size else []
    if case.quirks == tuple(QUIRKS):
        return ", ".join([*parts, "all faults"])
    return ", ".join([*parts, *(quirk.replace("_", " ") for quirk in case.quirks)])


def cases_of(table: str) -> tuple[Case, ...]:
    """Return the cases of a table; those with a fault of the released code stand below the same without."""
    if table != "quirks":
        return TABLES[table]
    clean = dict.fromkeys(replace(case, quirks=()) for case in TABLES[table])
    return tuple(
        each for case in clean for each in (case, *(c for c in TABLES[table] if replace(c, quirks=()) == case))
    )


def labels_of(table: str) -> dict[Case, str]:
    """Return what every case of a table is called there: with its network, where a table has several."""
    cases = cases_of(table)
    several = len({case.network for case in cases}) > 1
    return {case: label(case) + (f", {NETWORKS[case.network]}" if several else "") for case in cases}


def case_rows(evidence: Evidence, table: str) -> pd.DataFrame:
    """Return one row for each case of a table and measure: ours with its interval, and the paper's number.

    Args:
        evidence: The study.
        table: In `cases.TABLES`.

    Returns:
        arm (the case's label), case, measure, unit, better, value, low, high, over, trials or seeds (how many), state
        ("", "not run" or "undefined"), reason, paper (NaN where no number is vouched for), source.
    """
    rows = []
    for case, called in labels_of(table).items():
        for name in WITHOUT_SUBSET if case.data == "rooms" else MEASURES:
            measure, paper = describe_label_measure(name), published(table, case, name)
            rows.append(
                {"arm": called, "case": case.name, "measure": name, "unit": measure.unit or "%"}
                | {"better": "lower" if name == "cross_entropy" else "higher"}
                | shown(find(evidence, measured(case, name)), evidence.run)
                | {"paper": paper.value if paper else math.nan, "source": paper.source if paper else ""}
            )
    return pd.DataFrame(rows)


def pretraining_rows(evidence: Evidence) -> pd.DataFrame:
    """Return one row for each arm and measure at the end of its pre-training, on data held out from it.

    Returns:
        arm, measure, value, low, high, over, seeds, state, reason; arms that were not run are left out.
    """
    rows = []
    for arm in ARMS:
        ends = {seed: evidence.pretraining(seed, arm) for seed in evidence.seeds}
        names = dict.fromkeys(name for end in ends.values() if end for name in end if name not in LEFT_OUT)
        for name in names:
            found = {
                seed: Estimate(end[name], math.nan, math.nan) if end is not None and name in end else None
                for seed, end in ends.items()
            }
            rows.append({"arm": ARMS[arm], "measure": name} | shown(judge(found)))
    return pd.DataFrame(rows, columns=["arm", "measure", *shown(judge({}))])


def rate_rows(evidence: Evidence) -> pd.DataFrame:
    """Return one row for each seed, arm and learning rate that was tried.

    Returns:
        arm, data, seed, rate, held_out (percent; NaN: its loss stopped being a number), measure, chosen.
    """
    rows = []
    for seed in evidence.seeds:
        for name, found in evidence.rates(seed).items():
            arm, data = name.split("~")[:2]
            rows += [
                {"arm": ARMS.get(arm, arm), "data": data, "seed": seed, "rate": float(rate)}
                | {"held_out": math.nan if value is None else 100 * value, "measure": found.get("measure", "")}
                | {"chosen": float(rate) == float(found["rate"])}
                for rate, value in found.get("tried", {}).items()
            ]
    return pd.DataFrame(rows, columns=["arm", "data", "seed", "rate", "held_out", "measure", "chosen"])


def cost_rows(evidence: Evidence) -> pd.DataFrame:
    """Return one row for each arm's pre-training, and one for all fine-tunings: steps, batch, size, images shown.

    Time is not told: it is not the same on two machines, nor on one machine twice.
    """
    rows = []
    for arm, stage in evidence.stages(evidence.seeds[0]).items():
        steps, batch = stage.get("steps", 0), stage.get("batch", 0)
        size, rate = stage.get("size", ""), stage.get("lr", math.nan)
        rows.append({"what": ARMS.get(arm, arm), "task": stage.get("task", ""), "steps": steps, "batch": batch}
                    | {"size": _size(size), "rate": f"{rate:g}", "images shown": steps * batch})  # fmt: skip
    return pd.DataFrame(rows, columns=["what", "task", "steps", "batch", "size", "rate", "images shown"])


def layer_rows(evidence: Evidence) -> pd.DataFrame:
    """Return one row for each arm, mode and layer: similarity with itself after fine-tuning, and spread.

    Returns:
        arm (with ", frozen" where it was), pre, index, layer; spread (root mean square of what varies, before) and
        spread_tuned, means over seeds; and `diagonal_` value, low, high, over, seeds, state, reason.
    """
    rows = []
    for arm, mode in [(arm, mode) for mode in ("all", "frozen") for arm in ARMS]:
        found = {seed: evidence.similarity(seed, arm, evidence.tuned(seed, arm, mode)) for seed in evidence.seeds}
        there = [matrix for matrix in found.values() if matrix is not None]
        for layer in range(len(there[0].rows)) if there else ():
            finding = judge({seed: matrix and cell(matrix, layer, layer) for seed, matrix in found.items()})
            rows.append(
                {"arm": ARMS[arm] + ", frozen" * (mode == "frozen"), "pre": f"{arm}~{mode}"}
                | {"index": layer, "layer": there[0].rows[layer].name}
                | {"spread": float(np.mean([matrix.rows[layer].spread for matrix in there]))}
                | {"spread_tuned": float(np.mean([matrix.columns[layer].spread for matrix in there]))}
                | {f"diagonal_{key}": value for key, value in shown(finding).items()}
            )
    return pd.DataFrame(rows)


def pair_rows(evidence: Evidence) -> pd.DataFrame:
    """Return one row for each two arms, before and after fine-tuning, and layer.

    Returns:
        x, y (arms), when ("before" or "after"), index, layer, value, low, high, over, seeds, state, reason; pairs that
        were not compared are left out.
    """
    rows = []
    for x, y in combinations(ARMS, 2):
        for when in WHENS:
            if when == "after" and DATA_OF.get(x) != DATA_OF.get(y):
                continue  # fine-tuned on other data: how alike they are is not one thing
            found = {seed: pair(evidence, seed, x, y, when) for seed in evidence.seeds}
            there = [matrix for matrix in found.values() if matrix is not None]
            for layer in range(len(there[0].rows)) if there else ():
                finding = judge({seed: matrix and cell(matrix, layer, layer) for seed, matrix in found.items()})
                name = there[0].rows[layer].name
                rows.append({"x": x, "y": y, "when": when, "index": layer, "layer": name} | shown(finding))
    return pd.DataFrame(rows, columns=["x", "y", "when", "index", "layer", *shown(judge({}))])


def parting_rows(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return where two arms part ways: the step from a layer to the next at which their similarity falls most.

    Args:
        pairs: Of `pair_rows`.

    Returns:
        One row for each pair and when: arms, when, first and last (similarity of the first and of the last layer),
        parts_at ("layer1.0 → layer1.1", or "nowhere"), fall.
    """
    rows = []
    for (x, y, when), own in pairs.groupby(["x", "y", "when"], sort=False):
        values, names = own["value"].to_numpy(np.float64), list(own["layer"])
        at = largest_fall(values)
        rows.append(
            {"arms": f"{ARMS[x]} and {ARMS[y]}", "when": when, "first": values[0], "last": values[-1]}
            | {"parts_at": "nowhere" if at is None else f"{names[at - 1]} \N{RIGHTWARDS ARROW} {names[at]}"}
            | {"fall": math.nan if at is None else values[at - 1] - values[at]}
        )
    return pd.DataFrame(rows, columns=["arms", "when", "first", "last", "parts_at", "fall"])


def absences(evidence: Evidence, tables: Sequence[str] = tuple(TABLES)) -> list[str]:
    """Return which cases were not run, not as often as others, or diverged: a line a table."""
    lines, runs = [], [Run(seed, trial) for seed in evidence.seeds for trial in evidence.trials]
    for table in tables:
        missing, fewer, failed = [], [], []
        for case in TABLES[table]:
            there = sum(evidence.scores(case, run) is not None for run in runs)
            broken = sum(evidence.diverged(case, run) for run in runs)
            failed += [f"{label(case)} ({broken} of {len(runs)})"] if broken else []
            if there + broken < len(runs):
                (fewer if there + broken else missing).append(label(case))
        said = {"not run": missing, "not in every trial": fewer, "loss stopped being a number": failed}
        what = "; ".join(f"{words}: {', '.join(names)}" for words, names in said.items() if names)
        whole = len(missing) == len(TABLES[table])
        lines += [f"{table}: {'nothing of it' if whole else what}"] if what else []
    return lines


def heading(table: str) -> str:
    """Return what network a table is of, in words."""
    return ", ".join(NETWORKS[name] for name in dict.fromkeys(case.network for case in TABLES[table]))


def _size(size: object) -> str:
    return " x ".join(map(str, reversed(size))) if isinstance(size, list) else str(size)
