"""The figures of a study: which go on the page, and what their captions say.

Curves show all trials and seeds; similarities are those of the first seed, after its first trial, as a mean of matrices
is the matrix of no network (the numbers of all seeds are in the tables).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cka_probe.papers.claims import TestedClaim
from cka_probe.papers.depth_to_semantic.cases import ARMS, TABLES, Case
from cka_probe.papers.depth_to_semantic.claims import GROUPS
from cka_probe.papers.depth_to_semantic.evidence import Evidence, Run
from cka_probe.papers.depth_to_semantic.questions import pair
from cka_probe.papers.depth_to_semantic.summaries import WHENS, label
from cka_probe.papers.depth_to_semantic.trends import draw_trends
from cka_probe.papers.drawn import Drawn, files_of
from cka_probe.plotting.arm_maps import ArmMaps, save_arm_maps
from cka_probe.plotting.claims import save_claims
from cka_probe.plotting.curves import Curves, save_curves
from cka_probe.plotting.layer_divergence import Pair, save_parting
from cka_probe.plotting.layer_grid import LayerGrid, save_layer_grid
from cka_probe.plotting.runs import Run as Line
from cka_probe.plotting.score_panels import save_score_panels

CURVES = {
    "curves_table1": ("Fine-tuning everything (as Figures 2 and 4): loss, and mIoU and accuracy held out.",
                      [case for case in TABLES["table1"] if case.mode == "all"]),
    "curves_frozen": ("Fine-tuning with a frozen encoder.",
                      [case for case in TABLES["table1"] if case.mode == "frozen"]),
    "curves_table2": ("Fine-tuning after depth from video, from stereo, and measured.", list(TABLES["table2"])),
    "curves_table4": ("Fine-tuning after other kinds of pre-training.",
                      [case for case in TABLES["table4"] if case not in TABLES["table1"]]),
    "curves_table5": ("Fine-tuning DeepLabV3 on Cityscapes' layout.", list(TABLES["table5"])),
    "curves_figure8": ("Fine-tuning on rooms (as Figure 8).", list(TABLES["figure8"])),
}  # fmt: skip
"""Learning curves by stem: the caption and the cases."""

SHOWN = ("miou_subset", "miou", "accuracy")
"""Held-out measures that have curves, where they were measured."""

PANELS = {"miou_subset": "mIoU 7", "miou": "mIoU all", "accuracy": "accuracy"}
"""Measures of a table that are drawn, and what they are called there; the others stand in the table."""

PAIRS = (("video", "classification"), ("video", "none"), ("classification", "none"), ("lidar", "classification"),
         ("flow", "video"), ("video", "video_classification"))  # fmt: skip
"""Two arms of which it is asked where they part."""


def draw_figures(
    evidence: Evidence, rows: Sequence[TestedClaim], tables: Mapping[str, pd.DataFrame], folder: Path
) -> list[Drawn]:
    """Draw every figure of the page.

    Args:
        evidence: The study.
        rows: Its claims, judged.
        tables: `summaries.case_rows` by the names in `TABLES`.
        folder: For the files.

    Returns:
        Figures in the order of the page; one of which nothing was run has no files.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    drawn = []
    for stem, (words, group) in GROUPS.items():
        kept = [row for row in rows if row.claim in group]
        drawn.append(Drawn(stem, f"{words}, each with its interval.", save_claims(kept, files_of(folder / stem))))
    drawn += [_draw_scores(name, tables[name], folder) for name in TABLES]
    drawn += draw_trends(evidence, tables, folder)
    drawn += [_draw_curves(evidence, stem, folder) for stem in CURVES]
    return [*drawn, _draw_pretraining(evidence, folder), *draw_layers(evidence, folder)]


def draw_layers(evidence: Evidence, folder: Path) -> list[Drawn]:
    """Draw what is alike: each arm before and after fine-tuning, every arm with every other, and where two part."""
    return [_draw_before_after(evidence, folder), _draw_arms(evidence, folder), _draw_parting(evidence, folder)]


def _draw_scores(name: str, table: pd.DataFrame, folder: Path) -> Drawn:
    stem, caption = f"scores_{name}", f"Scores of {name}, and the paper's where it is known; its data are its own."
    there = table.groupby("arm")["value"].transform(lambda values: values.notna().any())
    missing = list(table["arm"][~there].unique())
    known = table.groupby("measure")["value"].transform(lambda values: values.notna().any())
    kept = table[there & known & table["measure"].isin(PANELS)]
    kept = kept.assign(measure=kept["measure"].map(PANELS))
    return Drawn(stem, caption, save_score_panels(kept, files_of(folder / stem)) if len(kept) else [], missing)


def _draw_curves(evidence: Evidence, stem: str, folder: Path) -> Drawn:
    """Draw the learning curves of some cases, all their runs on the same axes."""
    (caption, cases), lines, missing = CURVES[stem], [], []
    for case in cases:
        found = [_line(evidence, case, Run(seed, trial)) for seed in evidence.seeds for trial in evidence.trials]
        lines += [line for line in found if line is not None]
        missing += [label(case)] if not any(found) else []
    measures = [name for name in SHOWN if any(name in line.validation for line in lines)]
    measures = [name for name in measures if name != "miou" or "miou_subset" not in measures]
    drawn = Curves(lines, measures=measures, repeats="runs")
    return Drawn(stem, caption, save_curves(drawn, files_of(folder / stem)) if lines else [], missing)


def _line(evidence: Evidence, case: Case, run: Run) -> Line | None:
    log, validation = evidence.log(case, run), evidence.validation(case, run)
    if log is None or log.empty:
        return None
    return Line(label(case), log) if validation is None else Line(label(case), log, validation)


def _draw_pretraining(evidence: Evidence, folder: Path) -> Drawn:
    """Draw the losses of pre-training; each arm's is its own and none is comparable with another's."""
    stem, lines, missing = "curves_pretraining", [], []
    caption = "Pre-training: each arm's own loss. They fall or do not; their heights are of different things."
    for arm, name in list(ARMS.items())[1:]:
        logs = [log for seed in evidence.seeds if (log := evidence.pretraining_log(seed, arm)) is not None and len(log)]
        lines += [Line(name, log[[column for column in ("step", "lr", "loss") if column in log]]) for log in logs]
        missing += [] if logs else [name]
    paths = save_curves(Curves(lines, measures=()), files_of(folder / stem)) if lines else []
    return Drawn(stem, caption, paths, missing)


def _draw_before_after(evidence: Evidence, folder: Path) -> Drawn:
    """Draw each arm before (down) against after fine-tuning (across), and frozen ones beside."""
    stem, seed, found, missing = "before_after", evidence.seeds[0], {}, []
    caption = (
        "Encoders before (down) and after fine-tuning (across); the diagonal is read. Frozen ones do not change, but "
        "for the untrained one, whose batch norms take their statistics from training images first."
    )
    for mode in ("all", "frozen"):
        for arm, name in ARMS.items():
            matrix = evidence.similarity(seed, arm, evidence.tuned(seed, arm, mode))
            if matrix is not None:
                found[name + ", frozen" * (mode == "frozen")] = matrix
            elif mode == "all":
                missing.append(name)
    grid = LayerGrid(list(found.values()), list(found), emphasis="diagonal", spread=True)
    return Drawn(stem, caption, save_layer_grid(grid, files_of(folder / stem)) if found else [], missing)


def _draw_arms(evidence: Evidence, folder: Path) -> Drawn:
    """Draw every arm against every other, layer by layer."""
    stem, seed, parts = "arms", evidence.seeds[0], []
    caption = "How alike every two arms are in each layer: before fine-tuning below the diagonal, after it above."
    there = [arm for arm in ARMS if any(pair(evidence, seed, arm, other, "before") is not None
                                        for other in ARMS if other != arm)]  # fmt: skip
    for number, x in enumerate(there):
        parts.append(_layers(evidence.similarity(seed, x, evidence.tuned(seed, x)), x, x, "self"))
        parts += [_layers(pair(evidence, seed, x, y, when), x, y, when) for y in there[number + 1 :] for when in WHENS]
    missing = [ARMS[arm] for arm in ARMS if arm not in there]
    if not there:
        return Drawn(stem, caption, (), missing)
    maps = ArmMaps(pd.concat([part for part in parts if part is not None]), {arm: ARMS[arm] for arm in there})
    return Drawn(stem, caption, save_arm_maps(maps, files_of(folder / stem)), missing)


def _layers(matrix, x: str, y: str, when: str) -> pd.DataFrame | None:
    """Return the diagonal of a matrix as rows of `ArmMaps`, or `None`."""
    if matrix is None:
        return None
    names = [axis.name for axis in matrix.rows]
    rows = {"index": range(len(names)), "layer": names, "value": matrix.values.diagonal()}
    return pd.DataFrame({"x": x, "y": y, "when": when} | rows)


def _draw_parting(evidence: Evidence, folder: Path) -> Drawn:
    """Draw at which layers some pairs of arms part ways."""
    stem, seed, found, missing = "parting", evidence.seeds[0], [], []
    caption = "Where two arms part ways: similarity of the same layer in both, from the first to the last."
    for x, y in PAIRS:
        profiles = {f"{when} fine-tuning": pair(evidence, seed, x, y, when) for when in WHENS}
        profiles = {name: matrix for name, matrix in profiles.items() if matrix is not None}
        title = f"{ARMS[x]} and {ARMS[y]}"
        found += [Pair(title, profiles)] if profiles else []
        missing += [] if profiles else [title]
    return Drawn(stem, caption, save_parting(found, files_of(folder / stem)) if found else [], missing)
