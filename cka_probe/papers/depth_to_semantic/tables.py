"""The tables of a study: every case with the paper's number, pre-training, learning rates, layers, maps, and cost.

Each row has a value with its interval, over trials or seeds where there are several and otherwise over test images
(`papers.claims`), and in percent where it is a share.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.lab.evaluation.detection_scores import describe_detection_measure
from cka_probe.lab.evaluation.label_scores import describe_label_measure
from cka_probe.papers.claims import evaluate_statistic, judge
from cka_probe.papers.depth_to_semantic.claims import gains, map_measure, measured
from cka_probe.papers.depth_to_semantic.study import (
    ARMS,
    DATA_OF,
    DECLARATIONS,
    LABELLED,
    MAIN,
    QUIRKS,
    TABLES,
    Case,
    SemanticEvidence,
    tuned,
)
from cka_probe.papers.evidence import Estimate
from cka_probe.papers.tables import (
    Published,
    both_formats,
    find_published,
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

MINUS = " - "
"""Between two cases in the key of a difference."""


def _full_name(key: str) -> str:
    """Return the name of a case, with "@training" where the key has it."""
    name, at, images = key.partition("@")
    return Case.of(name).name + at + images


PUBLISHED = tuple(
    cell._replace(key=MINUS.join(map(_full_name, cell.key.split(MINUS)))) if cell.key else cell
    for cell in read_published(Path(__file__).with_name("published.csv"))
)
"""Everything that the paper prints, by case, or by two where it is a difference; shares are in percent."""

CSV_ONLY = ("pairs",)
"""Tables too long to be read as text."""

MEASURES = ("miou_subset", "accuracy", "miou", "miou_subset_per_image", "cross_entropy")

OBJECT_MEASURES = ("map", "map50", "map75")

WITHOUT_SUBSET = ("miou", "accuracy", "miou_per_image", "cross_entropy")
"""Columns of a table; of data with and without a subset of classes."""

WHENS = ("before", "after")

LEFT_OUT = ("step", "loss")
"""Columns of validation that do not measure how well pre-training went."""


def all_tables(evidence: SemanticEvidence) -> dict[str, pd.DataFrame]:
    """Return the tables of a study by name, with every number as it was computed."""
    pairs = pair_rows(evidence)
    return {name: case_rows(evidence, name) for name in TABLES} | {
        "differences": difference_rows(evidence),
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
    if name in (*TABLES, "differences", "alignment"):
        return score_texts(table)
    if table.empty:
        return "Not run.\n", "Not run.\n"
    if name == "layers":
        return layer_texts(table, "diagonal")
    return both_formats(table.set_index(table.columns[0]))


def published(table: str, case: Case, measure: str, encoder: str, images: str = "") -> Published | None:
    """Return the paper's cell for a case in a table of a study, or `None` where it prints none.

    It is of the encoder of the study, or of that of the paper's table if it has only one; of test images, or of
    `images` "@training".

    >>> published("table1", Case("none"), "accuracy", "resnet50").value
    73.37
    >>> published("table4", Case("none"), "accuracy", "resnet18").encoder
    'resnet50'
    >>> published("table5", Case.of("none~cityscapes~deeplab~controlled"), "miou", "resnet50", "@training").value
    73.82
    """
    if table == "quirks":
        return None
    number = table.split("_")[0]
    printed = [cell for cell in PUBLISHED if cell.key and cell.table.replace(" ", "").lower() == number]
    encoders = {cell.encoder for cell in printed}
    return find_published(
        [*printed, *PUBLISHED], case.name + images, measure, encoder=encoders.pop() if len(encoders) == 1 else encoder
    )


def label(case: Case) -> str:
    """Return the label of a case in a table.

    >>> label(Case("flow", mode="frozen")), label(Case("video", num=4))
    ('optical flow, frozen', 'depth from video, 4 images')
    """
    parts = [ARMS[case.arm]]
    parts += [{"encoder": "encoder only", "frozen": "frozen"}[case.mode]] if case.mode != "all" else []
    parts += [f"{case.num} images"] if case.num else []
    parts += [DECLARATIONS["sizes"][case.size]] if case.size else []
    parts += [case.setting] if case.setting else []
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
    """Return the label of every case of a table; with its network or data where a table has several."""
    labels = {case: label(case) for case in cases_of(table)}
    if len({case.network for case in labels}) > 1:
        labels = {case: f"{text}, {DECLARATIONS['networks'][case.network]}" for case, text in labels.items()}
    if len({case.data for case in labels}) > 1:
        labels = {case: f"{LABELLED[case.data]['title']}: {text}" for case, text in labels.items()}
    return labels


def measures_of(cases: Iterable[Case]) -> tuple[str, ...]:
    """Return the measures that a table of cases has: those of a subset of classes where the data of all have one."""
    if all(case.has_objects for case in cases):
        return OBJECT_MEASURES
    return MEASURES if all(LABELLED[case.data].get("subset") for case in cases) else WITHOUT_SUBSET


def case_rows(evidence: SemanticEvidence, table: str) -> pd.DataFrame:
    """Return one row for each case of a table and measure: arm (the case's label), case, columns of `score_row`."""
    rows, usual = [], evidence.tuning().get("architecture", "")
    for case, name in labels_of(table).items():
        encoder = evidence.recipe(case).get("architecture", usual)
        scored = any(evidence.training_scores(case, run) is not None for run in evidence.runs)
        for images, measure in product(("", "@training") if scored else ("",), measures_of(labels_of(table))):
            labels = {"arm": name + (", training images" if images else ""), "case": case.name + images}
            described = (describe_detection_measure if case.has_objects else describe_label_measure)(measure)
            unit = described.unit or ("" if case.has_objects else "%")
            words = {"unit": unit, "better": described.better, "repeats": evidence.repeats}
            finding = evaluate_statistic(evidence, measured(case, measure, images))
            cell = published(table, case, measure, encoder, images)
            rows.append(score_row(labels, measure, finding, published=cell, **words))
    return pd.DataFrame(rows)


def difference_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return rows as `case_rows`, of the differences between two cases that the paper prints, in points of 100."""
    rows = []
    for cell in (cell for cell in PUBLISHED if MINUS in cell.key):
        better, worse = map(Case.of, cell.key.split(MINUS))
        names = [label(case) + (", DeepLabV3" if case.network == "deeplab" else "") for case in (better, worse)]
        (measure,) = cell.measures
        finding = evaluate_statistic(evidence, gains(better.name, worse.name, measure))
        labels = {"arm": " \N{MINUS SIGN} ".join(names), "case": cell.key}
        rows.append(score_row(labels, measure, finding, unit="points", published=cell, repeats=evidence.repeats))
    return pd.DataFrame(rows)


def alignment_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return one row for each case of Figure 6 and measure, as `case_rows`; the paper has no numbers."""
    percents, rows = DECLARATIONS["map_measures"], []
    for case in map(Case, MAIN):
        for name, words in (percents | DECLARATIONS["correlations"]).items():
            better = "" if name in ("chance", "ceiling", "zero", "ap_image", "ap_edges") else "higher"
            finding = evaluate_statistic(evidence, map_measure(case, name))
            labels, unit = {"arm": ARMS[case.arm], "case": case.name}, "%" if name in percents else ""
            rows.append(score_row(labels, words, finding, unit=unit, better=better))
    return pd.DataFrame(rows)


def pretraining_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return a row for each arm that was run and measure at the end of pre-training, on data held out from it."""
    rows = []
    for arm in ARMS:
        tables = {seed: evidence.pretraining(seed, arm)[1] for seed in evidence.seeds}
        ends = {
            seed: {} if table is None or table.empty else table.iloc[-1].to_dict() for seed, table in tables.items()
        }
        for name in dict.fromkeys(name for end in ends.values() for name in end if name not in LEFT_OUT):
            finding = judge({seed: Estimate(end[name]) if name in end else None for seed, end in ends.items()})
            rows.append({"arm": ARMS[arm], "measure": name} | finding_columns(finding))
    return pd.DataFrame(rows, columns=["arm", "measure", *finding_columns(judge({}))])


def rate_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return a row for each seed, arm and learning rate tried; held_out is in percent, NaN where the loss diverged."""
    rows = []
    for seed in evidence.seeds:
        for name, entry in evidence.paths.rates(seed).items():
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
        words = {"what": ARMS.get(arm, arm), "task": stage.get("task", "")}
        shown = {"size": pixels(stage), "rate": f"{stage.get('lr', math.nan):g}", "images shown": num_images(stage)}
        rows.append(words | {"steps": steps, "batch": batch} | shown)
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
    """Return one row for each two arms that were compared, "before" or "after" fine-tuning, and layer."""
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
    """Return where two arms diverge (`pair_rows`): the step from a layer to the next where their similarity falls most.

    `first` and `last` are the similarities of the first and of the last layer.
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


def absences(evidence: SemanticEvidence) -> list[str]:
    """Return which cases were not run, not as often as others, or diverged: a line a table."""
    lines, runs = [], evidence.runs
    for table, cases in TABLES.items():
        groups: dict[str, list[str]] = {"not run": [], "not in every trial": [], "loss stopped being a number": []}
        for case in cases:
            finished = sum(evidence.scores(case, run) is not None for run in runs)
            broken = sum(evidence.diverged(case, run) for run in runs)
            if broken:
                groups["loss stopped being a number"].append(f"{label(case)} ({broken} of {len(runs)})")
            if finished + broken < len(runs):
                groups["not in every trial" if finished + broken else "not run"].append(label(case))
        what = "; ".join(f"{words}: {', '.join(names)}" for words, names in groups.items() if names)
        if what:
            lines.append(f"{table}: {'nothing of it' if len(groups['not run']) == len(cases) else what}")
    return lines


def heading(table: str) -> str:
    """Return the networks of a table, in words."""
    return ", ".join(DECLARATIONS["networks"][name] for name in dict.fromkeys(case.network for case in TABLES[table]))
