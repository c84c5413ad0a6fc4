"""The figures of a study.

Curves show all trials and seeds; similarities are those of the first seed, after its first trial, because a mean of
matrices is the matrix of no network (the numbers of all seeds are in the tables). Images are those at the sixths of the
list of what was scored: they are not chosen by how they look.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path

import pandas as pd

from cka_probe.attribution.saved_maps import load_maps, panel_of
from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES
from cka_probe.images.datasets import Dataset
from cka_probe.lab.evaluation.predictions import label_rows
from cka_probe.papers.claims import TestedClaim
from cka_probe.papers.depth_to_semantic.cases import ARMS, FIGURE6, TABLES, Case
from cka_probe.papers.depth_to_semantic.claims import SECTIONS
from cka_probe.papers.depth_to_semantic.evidence import SemanticEvidence, tuned
from cka_probe.papers.depth_to_semantic.tables import WHENS, label
from cka_probe.papers.evidence import RunKey
from cka_probe.papers.figures import FigureWriter, StudyFigure, split_missing
from cka_probe.plotting.arm_maps import ArmMaps
from cka_probe.plotting.image_grid import DPI
from cka_probe.plotting.predictions import LabelPanel
from cka_probe.plotting.profile import LayerDivergence, Pair
from cka_probe.plotting.scores import Point, Scatter, SizeCurve, SizedArm

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

CURVE_MEASURES = ("miou_subset", "miou", "accuracy")
"""Held-out measures that have curves, where they were measured."""

SCORE_MEASURES = {"miou_subset": "mIoU 7", "miou": "mIoU all", "accuracy": "accuracy"}
"""Measures of a table that are drawn, with their labels; the others are in the table only."""

PAIRS = (("video", "classification"), ("video", "none"), ("classification", "none"), ("lidar", "classification"),
         ("flow", "video"), ("video", "video_classification"))  # fmt: skip
"""Pairs of arms whose divergence is drawn."""

MIOU, ACCURACY = "mIoU of 7 classes (%)", "pixel accuracy (%)"

POINTS_OF = ("table1", "table2", "table4")
"""Tables of which every fully fine-tuned case is a point."""

PANELS = {
    "segments": ("KITTI's streets", [Case(arm) for arm in ("none", "classification", "video", "lidar")]),
    "segments_rooms": ("rooms", [Case(arm, data="rooms") for arm in ("none", "classification", "rooms_depth")]),
}
"""What is shown, and the cases, by stem."""


def draw_figures(
    evidence: SemanticEvidence, rows: Sequence[TestedClaim], tables: Mapping[str, pd.DataFrame], draw: FigureWriter
) -> list[StudyFigure]:
    """Draw every figure of the page, in its order; one of which nothing was run has no files."""
    scores = "Scores of {}, and the paper's where it is known; its data are its own."
    return [
        *(
            draw.claims(stem, f"{words}, each with its interval.", [r for r in rows if r.section == stem and not r.of])
            for stem, words in SECTIONS.items()
        ),
        *(draw.scores(f"scores_{name}", scores.format(name), tables[name], SCORE_MEASURES) for name in TABLES),
        *_draw_trends(evidence, tables, draw),
        *(_draw_curves(evidence, stem, draw) for stem in CURVES),
        _draw_pretraining(evidence, draw),
        _draw_before_after(evidence, draw),
        _draw_arms(evidence, draw),
        _draw_divergence(evidence, draw),
        *(_draw_segments(evidence, stem, draw) for stem in PANELS),
        draw_maps(evidence, draw),
    ]


def _draw_trends(
    evidence: SemanticEvidence, tables: Mapping[str, pd.DataFrame], draw: FigureWriter
) -> list[StudyFigure]:
    """Draw scores against the number of training images, and against each other."""
    rows = pd.concat([tables[name] for name in (*POINTS_OF, "figure3")]).drop_duplicates(["case", "measure"])
    cells = {(row.case, row.measure): (row.value, row.low, row.high) for row in rows.itertuples()}
    sizes: dict[str, SizedArm | None] = {}
    for arm in dict.fromkeys(case.arm for case in TABLES["figure3"]):
        cases = [Case(arm), *(case for case in TABLES["figure3"] if case.arm == arm)]
        scores = {num: cells[case.name, "miou_subset"] for case in cases if (num := evidence.num(case))}
        finite = {num: scores[num] for num in sorted(scores) if math.isfinite(scores[num][0])}
        curve = len(finite) > 1  # one size is no curve
        sizes[ARMS[arm]] = SizedArm(ARMS[arm], list(finite), *zip(*finite.values(), strict=True)) if curve else None
    points: dict[str, Point | None] = {}
    for case in dict.fromkeys(case for name in POINTS_OF for case in TABLES[name] if case.mode == "all"):
        name, (x, *x_ends), (y, *y_ends) = ARMS[case.arm], cells[case.name, "accuracy"], cells[case.name, "miou_subset"]
        finite_point = math.isfinite(x) and math.isfinite(y)
        points[name] = Point(name, x, y, tuple(x_ends), tuple(y_ends)) if finite_point else None
    (curves, no_curve), (drawn_points, no_point) = split_missing(sizes), split_missing(points)
    return [
        draw.draw(
            "sizes",
            "mIoU against the number of training images (as Figure 3).",
            SizeCurve(list(curves.values()), MIOU) if curves else None,
            no_curve,
        ),
        draw.draw(
            "scatter",
            "Everything fine-tuned: mIoU against pixel accuracy, an arm a point (as Figure 11).",
            Scatter(list(drawn_points.values()), ACCURACY, MIOU) if drawn_points else None,
            no_point,
        ),
    ]


def _draw_curves(evidence: SemanticEvidence, stem: str, draw: FigureWriter) -> StudyFigure:
    """Draw the learning curves of some cases, all their runs on the same axes."""
    caption, cases = CURVES[stem]
    runs = [RunKey(seed, trial) for seed in evidence.seeds for trial in evidence.trials]
    logs = {label(case): [evidence.curves(case, run) for run in runs] for case in cases}
    has_subset = any(
        "miou_subset" in validation
        for pairs in logs.values()
        for log, validation in pairs
        if log is not None and validation is not None
    )
    measures = [name for name in CURVE_MEASURES if name != "miou" or not has_subset]
    return draw.curves(stem, caption, logs, measures, repeats="runs")


def _draw_pretraining(evidence: SemanticEvidence, draw: FigureWriter) -> StudyFigure:
    """Draw the losses of pre-training; each arm has its own, and no two are comparable."""
    caption = "Pre-training: each arm's own loss. Only their trends can be compared, not their heights."
    logs: dict[str, list[tuple[pd.DataFrame | None, None]]] = {}
    for arm, name in list(ARMS.items())[1:]:
        tables = [evidence.pretraining_log(seed, arm) for seed in evidence.seeds]
        logs[name] = [
            (None if log is None else log[[column for column in ("step", "lr", "loss") if column in log]], None)
            for log in tables
        ]
    return draw.curves("curves_pretraining", caption, logs, ())


def _draw_before_after(evidence: SemanticEvidence, draw: FigureWriter) -> StudyFigure:
    """Draw each arm before (down) against after fine-tuning (across), and the frozen ones."""
    caption = (
        "Encoders before (down) and after fine-tuning (across); the diagonal is read. Frozen ones do not change, but "
        "for the untrained one, whose batch norms take their statistics from training images first."
    )
    seed = evidence.seeds[0]
    all_learns, frozen = (
        {name + suffix: evidence.similarity(seed, arm, tuned(arm, mode)) for arm, name in ARMS.items()}
        for mode, suffix in (("all", ""), ("frozen", ", frozen"))
    )
    return draw.grid("before_after", caption, all_learns | frozen, "diagonal", optional=tuple(frozen))


def _draw_arms(evidence: SemanticEvidence, draw: FigureWriter) -> StudyFigure:
    """Draw every arm against every other, layer by layer."""
    caption = "Similarity of every two arms in each layer: before fine-tuning below the diagonal, after it above."
    seed = evidence.seeds[0]
    profiles = {}
    for x, y in combinations_with_replacement(ARMS, 2):
        if x == y:
            profiles[x, x, "self"] = evidence.similarity(seed, x, tuned(x))
        else:
            profiles |= {(x, y, when): evidence.arm_similarity(seed, x, y, when) for when in WHENS}
    compared = {arm for (x, y, when), matrix in profiles.items() if matrix and when == "before" for arm in (x, y)}
    parts = [
        pd.DataFrame(
            {"x": x, "y": y, "when": when, "index": range(len(matrix.rows))}
            | {"layer": [axis.name for axis in matrix.rows], "value": matrix.values.diagonal()}
        )
        for (x, y, when), matrix in profiles.items()
        if matrix is not None and x in compared and y in compared
    ]
    labels = {arm: label for arm, label in ARMS.items() if arm in compared}
    missing = [label for arm, label in ARMS.items() if arm not in compared]
    return draw.draw("arms", caption, ArmMaps(pd.concat(parts), labels) if compared else None, missing)


def _draw_divergence(evidence: SemanticEvidence, draw: FigureWriter) -> StudyFigure:
    """Draw at which layers some pairs of arms diverge."""
    caption = "Where two arms diverge: similarity of the same layer in both, from the first to the last."
    pairs: dict[str, Pair | None] = {}
    for x, y in PAIRS:
        title = f"{ARMS[x]} and {ARMS[y]}"
        matrices, _ = split_missing(
            {f"{when} fine-tuning": evidence.arm_similarity(evidence.seeds[0], x, y, when) for when in WHENS}
        )
        pairs[title] = Pair(title, matrices) if matrices else None
    available, missing = split_missing(pairs)
    return draw.draw("parting", caption, LayerDivergence(list(available.values())) if available else None, missing)


def _draw_segments(evidence: SemanticEvidence, stem: str, draw: FigureWriter) -> StudyFigure:
    """Draw what the first trial of the first seed predicts of test images."""
    (words, cases), run = PANELS[stem], RunKey(evidence.seeds[0], 0)
    caption = (
        f"Test images of {words}: image, truth, and what each arm predicts after everything was fine-tuned. Seed "
        f"{run.seed}, trial 0; the images are those at the sixths of the list."
    )
    folders = {ARMS[case.arm]: evidence.predictions(case, run) for case in cases}
    tables = [evidence.scores(case, run) for case in cases if folders[ARMS[case.arm]] is not None]
    scored = next(((each.data["source"], each.images) for each in tables if each is not None), None)
    return draw.predictions(stem, caption, folders, scored, _label_panel)


def _label_panel(dataset: Dataset, names: Sequence[str], folders: Mapping[str, Path]) -> LabelPanel:
    return label_rows(dataset, folders, names, ("labels",))


def draw_maps(evidence: SemanticEvidence, draw: FigureWriter) -> StudyFigure:
    """Draw the maps of the first seed's first trial; without files if none were made."""
    seed = evidence.seeds[0]
    caption = (
        "As Figure 6: Grad-CAM of the segmentation at the first ReLU before pooling, as it is and before its ReLU, and "
        f"the prediction, after everything was fine-tuned. Seed {seed}, trial 0; the test images are evenly "
        "spread over the list."
    )
    labels = {case.name: ARMS[case.arm] for case in FIGURE6}
    result = evidence.gradcam(seed)
    models = [] if result is None else list(result.models)
    missing = [label for name, label in labels.items() if name not in models]
    if result is None or not models:
        return draw.draw("figure6", caption, None, missing)
    if unknown := [name for name in models if name not in labels]:
        raise DataError(f"expected maps of {', '.join(labels)}, found {', '.join(unknown)}; delete the seed's gradcam")
    with_labels = replace(
        result,
        table=result.table.replace({"checkpoint": labels}),
        models={labels[name]: facts for name, facts in result.models.items()},
    )
    columns = {label: load_maps(evidence.paths.maps(seed, name)) for name, label in labels.items() if name in models}
    panel = panel_of(with_labels, columns, CITYSCAPES, signed=True, overlay=False)
    return draw.draw("figure6", caption, panel, missing, DPI)
