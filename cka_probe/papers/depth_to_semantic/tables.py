"""The tables of a study: every case with the paper's number, pre-training, learning rates, layers, maps, and cost.

Each row has a value with its interval, over trials or seeds where there are several and otherwise over test images
(`papers.claims`), and in percent where it is a share.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.lab.evaluation.label_scores import describe_label_measure
from cka_probe.papers.claims import evaluate_statistic, judge
from cka_probe.papers.depth_to_semantic.cases import ARMS, FIGURE6, NETWORKS, QUIRKS, TABLES, Case
from cka_probe.papers.depth_to_semantic.claims import map_measure, measured
from cka_probe.papers.depth_to_semantic.evidence import DATA_OF, SemanticEvidence, tuned
from cka_probe.papers.evidence import Estimate, RunKey
from cka_probe.papers.tables import (
    Published,
    both_formats,
    finding_columns,
    judge_cell,
    layer_rows,
    layer_texts,
    num_images,
    pixels,
    read_published,
    score_row,
    score_texts,
)

PUBLISHED = read_published(Path(__file__).with_name("published.csv"))
"""The paper's numbers that are verified, in percent, by table, case and measure; table "" is any of ResNet-18.

Numbers are those of the case that does what the paper's row does. Where the paper's row is of another network or
pre-training, the table says so. Everything else is a dash: no number is given from memory, and none is computed from
others. The paper pre-trains on ImageNet where we, unless a user gives it, pre-train on procedural objects: its
"ImageNet" is the row of our object classification, and its "Depth", which is depth after ImageNet, that of depth after
classification. Its Table 4 is of ResNet-50.

Lao, Yang, Wang, Park, Lu, Wong & Soatto, "On the Viability of Monocular Depth Pre-training for Semantic Segmentation",
ECCV 2024.
"""

MAP_MEASURES = {
    "ap": "map",
    "ap_signed": "before the ReLU",
    "chance": "chance",
    "ceiling": "true labels",
    "ap_image": "the image",
    "ap_edges": "its edges",
    "zero": "maps that are zero",
}
"""Columns of the table of maps, in percent: average precisions for label boundaries, and the share of zero maps."""

CORRELATIONS = {"correlation": "map, correlation", "correlation_signed": "before the ReLU, correlation"}
"""More of its columns, not in percent."""

CSV_ONLY = ("pairs",)
"""Tables too long to be read as text."""

MEASURES = ("miou_subset", "accuracy", "miou", "miou_subset_per_image", "cross_entropy")

WITHOUT_SUBSET = ("miou", "accuracy", "miou_per_image", "cross_entropy")
"""Columns of a table; of data with and without a subset of classes."""

WHENS = ("before", "after")

LEFT_OUT = ("step", "loss")
"""Columns of validation that do not measure how well pre-training went."""


def all_tables(evidence: SemanticEvidence) -> dict[str, pd.DataFrame]:
    """Return the tables of a study by name, with every number as it was computed."""
    pairs = pair_rows(evidence)
    return {name: case_rows(evidence, name) for name in TABLES} | {
        "pretraining": pretraining_rows(evidence),
        "rates": rate_rows(evidence),
        "layers": similarity_rows(evidence),
        "pairs": pairs,
        "parting": divergence_rows(pairs),
        "alignment": alignment_rows(evidence),
        "cost": cost_rows(evidence),
    }


def table_texts(name: str, table: pd.DataFrame) -> tuple[str, str] | None:
    """Return a table as Markdown and as LaTeX; `None` for one that is written as CSV only."""
    if name in CSV_ONLY:
        return None
    if name in TABLES or name == "alignment":
        return score_texts(table)
    if table.empty:
        return "Not run.\n", "Not run.\n"
    if name == "layers":
        return layer_texts(table, "diagonal")
    return both_formats(table.set_index(table.columns[0]))


def published(table: str, case: Case, measure: str) -> Published | None:
    """Return the paper's number for a case in one of its tables, or `None` where none is verified.

    >>> published("table1", Case("none"), "accuracy").value
    70.75
    >>> published("table4", Case("none"), "accuracy") is None
    True
    """
    if table == "quirks":
        return None
    return PUBLISHED.get((table if table == "table4" else "", case.name, measure))


def label(case: Case) -> str:
    """Return the label of a case in a table.

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
    """Return the cases of a table; those with a fault of the released code come after the same without."""
    if table != "quirks":
        return TABLES[table]
    clean = dict.fromkeys(replace(case, quirks=()) for case in TABLES[table])
    return tuple(
        each for case in clean for each in (case, *(c for c in TABLES[table] if replace(c, quirks=()) == case))
    )


def labels_of(table: str) -> dict[Case, str]:
    """Return the label of every case of a table; with its network where a table has several."""
    cases = cases_of(table)
    several = len({case.network for case in cases}) > 1
    return {case: label(case) + (f", {NETWORKS[case.network]}" if several else "") for case in cases}


def case_rows(evidence: SemanticEvidence, table: str) -> pd.DataFrame:
    """Return one row for each case of a table and measure: our value with its interval, and the paper's number.

    Args:
        evidence: The study.
        table: In `cases.TABLES`.

    Returns:
        arm (the case's label), case, measure, unit, better, value, low, high, over, trials or seeds (how many), state
        ("", "not run" or "undefined"), reason, paper (NaN where no number is verified), source.
    """
    rows = []
    for case, name in labels_of(table).items():
        for measure_name in WITHOUT_SUBSET if case.data == "rooms" else MEASURES:
            finding = evaluate_statistic(evidence, measured(case, measure_name))
            rows.append(
                score_row(
                    {"arm": name, "case": case.name},
                    measure_name,
                    finding,
                    unit=describe_label_measure(measure_name).unit or "%",
                    better="lower" if measure_name == "cross_entropy" else "higher",
                    repeats=evidence.repeats,
                    published=published(table, case, measure_name),
                )
            )
    return pd.DataFrame(rows)


def alignment_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return one row for each case of Figure 6 and measure, as `case_rows`; the paper has no numbers."""
    rows = []
    for case in FIGURE6:
        for name, words in (MAP_MEASURES | CORRELATIONS).items():
            better = "" if name in ("chance", "ceiling", "zero", "ap_image", "ap_edges") else "higher"
            finding = evaluate_statistic(evidence, map_measure(case, name))
            labels, unit = {"arm": ARMS[case.arm], "case": case.name}, "%" if name in MAP_MEASURES else ""
            rows.append(score_row(labels, words, finding, unit=unit, better=better))
    return pd.DataFrame(rows)


def pretraining_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return a row for each arm that was run and measure at the end of pre-training, on data held out from it."""
    rows = []
    for arm in ARMS:
        ends = {seed: evidence.pretraining(seed, arm) for seed in evidence.seeds}
        names = dict.fromkeys(name for end in ends.values() if end for name in end if name not in LEFT_OUT)
        for name in names:
            estimates = {
                seed: Estimate(end[name]) if end is not None and name in end else None for seed, end in ends.items()
            }
            rows.append({"arm": ARMS[arm], "measure": name} | finding_columns(judge(estimates)))
    return pd.DataFrame(rows, columns=["arm", "measure", *finding_columns(judge({}))])


def rate_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return a row for each seed, arm and learning rate tried; held_out is in percent, NaN where the loss diverged."""
    rows = []
    for seed in evidence.seeds:
        for name, entry in evidence.rates(seed).items():
            arm, data = name.split("~")[:2]
            rows += [
                {"arm": ARMS.get(arm, arm), "data": data, "seed": seed, "rate": float(rate)}
                | {"held_out": math.nan if value is None else 100 * value, "measure": entry.get("measure", "")}
                | {"chosen": float(rate) == float(entry["rate"])}
                for rate, value in entry.get("tried", {}).items()
            ]
    return pd.DataFrame(rows, columns=["arm", "data", "seed", "rate", "held_out", "measure", "chosen"])


def cost_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return one row for each arm's pre-training, and one for all fine-tunings: steps, batch, size, images shown.

    Time is not listed, because it differs between machines and between runs.
    """
    rows = []
    for arm, stage in evidence.stages(evidence.seeds[0]).items():
        steps, batch = stage.get("steps", 0), stage.get("batch", 0)
        rate = stage.get("lr", math.nan)
        rows.append({"what": ARMS.get(arm, arm), "task": stage.get("task", ""), "steps": steps, "batch": batch}
                    | {"size": pixels(stage), "rate": f"{rate:g}", "images shown": num_images(stage)})  # fmt: skip
    return pd.DataFrame(rows, columns=["what", "task", "steps", "batch", "size", "rate", "images shown"])


def similarity_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return a row for each arm, mode and layer: arm (", frozen" if it was), pre, and the columns of `layer_rows`."""
    rows: list[dict[str, Any]] = []
    for mode, suffix in (("all", ""), ("frozen", ", frozen")):
        for arm, name in ARMS.items():
            matrices = {seed: evidence.similarity(seed, arm, tuned(arm, mode)) for seed in evidence.seeds}
            rows += layer_rows({"arm": name + suffix, "pre": f"{arm}~{mode}"}, matrices)
    return pd.DataFrame(rows)


def pair_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return one row for each two arms, before and after fine-tuning, and layer.

    Returns:
        x, y (arms), when ("before" or "after"), index, layer, value, low, high, over, seeds, state, reason; pairs that
        were not compared are left out.
    """
    rows = []
    for x, y in combinations(ARMS, 2):
        for when in WHENS:
            if when == "after" and DATA_OF.get(x) != DATA_OF.get(y):
                continue  # fine-tuned on other data: their similarity mixes two effects
            matrices = {seed: evidence.arm_similarity(seed, x, y, when) for seed in evidence.seeds}
            available = [matrix for matrix in matrices.values() if matrix is not None]
            for layer in range(len(available[0].rows)) if available else ():
                labels = {"x": x, "y": y, "when": when, "index": layer, "layer": available[0].rows[layer].name}
                rows.append(labels | finding_columns(judge_cell(matrices, layer, layer)))
    return pd.DataFrame(rows, columns=["x", "y", "when", "index", "layer", *finding_columns(judge({}))])


def divergence_rows(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return where two arms diverge: the step from a layer to the next at which their similarity falls most.

    Args:
        pairs: Of `pair_rows`.

    Returns:
        One row for each pair and when: arms, when, first and last (similarity of the first and of the last layer),
        parts_at ("layer1.0 → layer1.1", or "nowhere"), fall.
    """
    rows = []
    for (x, y, when), layers in pairs.groupby(["x", "y", "when"], sort=False):
        values, names = layers["value"].to_numpy(np.float64), list(layers["layer"])
        at = largest_fall(values)
        rows.append(
            {"arms": f"{ARMS[x]} and {ARMS[y]}", "when": when, "first": values[0], "last": values[-1]}
            | {"parts_at": "nowhere" if at is None else f"{names[at - 1]} \N{RIGHTWARDS ARROW} {names[at]}"}
            | {"fall": math.nan if at is None else values[at - 1] - values[at]}
        )
    return pd.DataFrame(rows, columns=["arms", "when", "first", "last", "parts_at", "fall"])


def largest_fall(profile: np.ndarray) -> int | None:
    """Return the layer before which a profile falls most, or `None` where it nowhere falls.

    >>> largest_fall(np.array([1.0, 0.9, 0.4, 0.3])), largest_fall(np.array([0.1, 0.2])) is None
    (2, True)
    """
    falls = profile[:-1] - profile[1:]
    if not np.isfinite(falls).any() or not np.nanmax(falls) > 0:
        return None
    return int(np.nanargmax(falls)) + 1


def absences(evidence: SemanticEvidence, tables: Sequence[str] = tuple(TABLES)) -> list[str]:
    """Return which cases were not run, not as often as others, or diverged: a line a table."""
    lines, runs = [], [RunKey(seed, trial) for seed in evidence.seeds for trial in evidence.trials]
    for table in tables:
        missing: list[str] = []
        fewer: list[str] = []
        failed: list[str] = []
        for case in TABLES[table]:
            finished = sum(evidence.scores(case, run) is not None for run in runs)
            broken = sum(evidence.diverged(case, run) for run in runs)
            failed += [f"{label(case)} ({broken} of {len(runs)})"] if broken else []
            if finished + broken < len(runs):
                (fewer if finished + broken else missing).append(label(case))
        groups = {"not run": missing, "not in every trial": fewer, "loss stopped being a number": failed}
        what = "; ".join(f"{words}: {', '.join(names)}" for words, names in groups.items() if names)
        if len(missing) == len(TABLES[table]):
            what = "nothing of it"
        lines += [f"{table}: {what}"] if what else []
    return lines


def heading(table: str) -> str:
    """Return the networks of a table, in words."""
    return ", ".join(NETWORKS[name] for name in dict.fromkeys(case.network for case in TABLES[table]))
