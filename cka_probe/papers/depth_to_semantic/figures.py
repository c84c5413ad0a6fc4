"""The figures of a study.

Curves show all trials and seeds; similarities are those of the first seed, after its first trial, because a mean of
matrices is the matrix of no network (the numbers of all seeds are in the tables). Images are those at the sixths of the
list of what was scored: they are not chosen by how they look.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.saved_maps import load_maps, panel_of
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.evaluation.predictions import label_rows
from cka_probe.papers.claims import TestedClaim
from cka_probe.papers.depth_to_semantic.claims import FIGURE, GROUPS, arm_similarity
from cka_probe.papers.depth_to_semantic.evidence import SemanticEvidence
from cka_probe.papers.depth_to_semantic.study import ARMS, FIGURE6, TABLES, Case
from cka_probe.papers.depth_to_semantic.tables import WHENS, label
from cka_probe.papers.evidence import RunKey
from cka_probe.papers.page import StudyFigure, figure_paths
from cka_probe.plotting.arm_maps import ArmMaps
from cka_probe.plotting.claims import Claims
from cka_probe.plotting.curves import Curves
from cka_probe.plotting.figure import save
from cka_probe.plotting.image_grid import DPI
from cka_probe.plotting.layer_divergence import LayerDivergence, Pair
from cka_probe.plotting.layer_grid import LayerGrid
from cka_probe.plotting.runs import Run
from cka_probe.plotting.scatter import Point, Scatter
from cka_probe.plotting.score_panels import ScorePanels
from cka_probe.plotting.size_curve import SizeCurve, SizedArm

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


SPREAD = ("value", "low", "high")


POINTS_OF = ("table1", "table2", "table4")
"""Tables of which every fully fine-tuned case is a point."""


SHOWN = (1 / 6, 1 / 2, 5 / 6)
"""Positions in the list of images of those that are shown."""


PANELS = {
    "segments": ("KITTI's streets", [Case(arm) for arm in ("none", "classification", "video", "lidar")]),
    "segments_rooms": ("rooms", [Case(arm, data="rooms") for arm in ("none", "classification", "rooms_depth")]),
}
"""What is shown, and the cases, by stem."""


def draw_figures(
    evidence: SemanticEvidence, rows: Sequence[TestedClaim], tables: Mapping[str, pd.DataFrame], folder: Path
) -> list[StudyFigure]:
    """Draw every figure of the page.

    Args:
        evidence: The study.
        rows: Its claims.
        tables: `case_rows` by the names in `TABLES`.
        folder: For the files.

    Returns:
        Figures in the order of the page; one of which nothing was run has no files.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    figures = []
    for stem, (words, group) in GROUPS.items():
        claims = [row for row in rows if row.claim in group]
        paths = save(Claims(claims), figure_paths(folder / stem))
        figures.append(StudyFigure(stem, f"{words}, each with its interval.", paths))
    figures += [_draw_scores(name, tables[name], folder) for name in TABLES]
    figures += draw_trends(evidence, tables, folder)
    figures += [_draw_curves(evidence, stem, folder) for stem in CURVES]
    figures += [_draw_pretraining(evidence, folder), *draw_layers(evidence, folder)]
    return [*figures, *draw_segments(evidence, folder), draw_alignment(evidence, folder)]


def draw_layers(evidence: SemanticEvidence, folder: Path) -> list[StudyFigure]:
    """Draw similarities: each arm before and after fine-tuning, every arm with every other, and where two diverge."""
    return [_draw_before_after(evidence, folder), _draw_arms(evidence, folder), _draw_divergence(evidence, folder)]


def _draw_scores(name: str, table: pd.DataFrame, folder: Path) -> StudyFigure:
    stem, caption = f"scores_{name}", f"Scores of {name}, and the paper's where it is known; its data are its own."
    scored = table.groupby("arm")["value"].transform(lambda values: values.notna().any())
    missing = list(table["arm"][~scored].unique())
    complete = table.groupby("measure")["value"].transform(lambda values: values.notna().any())
    shown = table[scored & complete & table["measure"].isin(SCORE_MEASURES)]
    shown = shown.assign(measure=shown["measure"].map(SCORE_MEASURES))
    return StudyFigure(
        stem, caption, save(ScorePanels(shown), figure_paths(folder / stem)) if len(shown) else [], missing
    )


def _draw_curves(evidence: SemanticEvidence, stem: str, folder: Path) -> StudyFigure:
    """Draw the learning curves of some cases, all their runs on the same axes."""
    (caption, cases), curves, missing = CURVES[stem], [], []
    for case in cases:
        runs = [_run(evidence, case, RunKey(seed, trial)) for seed in evidence.seeds for trial in evidence.trials]
        curves += [run for run in runs if run is not None]
        missing += [label(case)] if not any(runs) else []
    measures = [name for name in CURVE_MEASURES if any(name in run.validation for run in curves)]
    measures = [name for name in measures if name != "miou" or "miou_subset" not in measures]
    figure = Curves(curves, measures=measures, repeats="runs")
    return StudyFigure(stem, caption, save(figure, figure_paths(folder / stem)) if curves else [], missing)


def _run(evidence: SemanticEvidence, case: Case, run: RunKey) -> Run | None:
    log, validation = evidence.log(case, run), evidence.validation(case, run)
    if log is None or log.empty:
        return None
    return Run(label(case), log) if validation is None else Run(label(case), log, validation)


def _draw_pretraining(evidence: SemanticEvidence, folder: Path) -> StudyFigure:
    """Draw the losses of pre-training; each arm has its own, and no two are comparable."""
    stem, runs, missing = "curves_pretraining", [], []
    caption = "Pre-training: each arm's own loss. Only their trends can be compared, not their heights."
    for arm, name in list(ARMS.items())[1:]:
        logs = [log for seed in evidence.seeds if (log := evidence.pretraining_log(seed, arm)) is not None and len(log)]
        runs += [Run(name, log[[column for column in ("step", "lr", "loss") if column in log]]) for log in logs]
        missing += [] if logs else [name]
    paths = save(Curves(runs, measures=()), figure_paths(folder / stem)) if runs else []
    return StudyFigure(stem, caption, paths, missing)


def _draw_before_after(evidence: SemanticEvidence, folder: Path) -> StudyFigure:
    """Draw each arm before (down) against after fine-tuning (across), and the frozen ones."""
    stem, seed, missing = "before_after", evidence.seeds[0], []
    matrices: dict[str, SimilarityMatrix] = {}
    caption = (
        "Encoders before (down) and after fine-tuning (across); the diagonal is read. Frozen ones do not change, but "
        "for the untrained one, whose batch norms take their statistics from training images first."
    )
    for mode in ("all", "frozen"):
        for arm, name in ARMS.items():
            matrix = evidence.similarity(seed, arm, evidence.tuned(seed, arm, mode))
            if matrix is not None:
                matrices[name + ", frozen" * (mode == "frozen")] = matrix
            elif mode == "all":
                missing.append(name)
    grid = LayerGrid(list(matrices.values()), list(matrices), emphasis="diagonal", rms=True)
    return StudyFigure(stem, caption, save(grid, figure_paths(folder / stem)) if matrices else [], missing)


def _draw_arms(evidence: SemanticEvidence, folder: Path) -> StudyFigure:
    """Draw every arm against every other, layer by layer."""
    stem, seed, parts = "arms", evidence.seeds[0], []
    caption = "Similarity of every two arms in each layer: before fine-tuning below the diagonal, after it above."
    compared = [
        arm
        for arm in ARMS
        if any(arm_similarity(evidence, seed, arm, other, "before") is not None for other in ARMS if other != arm)
    ]
    for number, x in enumerate(compared):
        parts.append(_layers(evidence.similarity(seed, x, evidence.tuned(seed, x)), x, x, "self"))
        parts += [
            _layers(arm_similarity(evidence, seed, x, y, when), x, y, when)
            for y in compared[number + 1 :]
            for when in WHENS
        ]
    missing = [ARMS[arm] for arm in ARMS if arm not in compared]
    if not compared:
        return StudyFigure(stem, caption, (), missing)
    maps = ArmMaps(pd.concat([part for part in parts if part is not None]), {arm: ARMS[arm] for arm in compared})
    return StudyFigure(stem, caption, save(maps, figure_paths(folder / stem)), missing)


def _layers(matrix: SimilarityMatrix | None, x: str, y: str, when: str) -> pd.DataFrame | None:
    """Return the diagonal of a matrix as rows of `ArmMaps`, or `None`."""
    if matrix is None:
        return None
    names = [axis.name for axis in matrix.rows]
    rows = {"index": range(len(names)), "layer": names, "value": matrix.values.diagonal()}
    return pd.DataFrame({"x": x, "y": y, "when": when} | rows)


def _draw_divergence(evidence: SemanticEvidence, folder: Path) -> StudyFigure:
    """Draw at which layers some pairs of arms diverge."""
    stem, seed, pairs, missing = "parting", evidence.seeds[0], [], []
    caption = "Where two arms diverge: similarity of the same layer in both, from the first to the last."
    for x, y in PAIRS:
        matrices = {f"{when} fine-tuning": arm_similarity(evidence, seed, x, y, when) for when in WHENS}
        profiles = {name: matrix for name, matrix in matrices.items() if matrix is not None}
        title = f"{ARMS[x]} and {ARMS[y]}"
        pairs += [Pair(title, profiles)] if profiles else []
        missing += [] if profiles else [title]
    return StudyFigure(
        stem, caption, save(LayerDivergence(pairs), figure_paths(folder / stem)) if pairs else [], missing
    )


def draw_trends(evidence: SemanticEvidence, tables: Mapping[str, pd.DataFrame], folder: Path) -> list[StudyFigure]:
    """Draw both figures.

    Args:
        evidence: The study.
        tables: `case_rows` by table.
        folder: For the files.

    Returns:
        Two figures; one of which nothing was run has no files.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    rows = pd.concat([tables[name] for name in (*POINTS_OF, "figure3")]).drop_duplicates(["case", "measure"])
    cells = {(row.case, row.measure): tuple(getattr(row, end) for end in SPREAD) for row in rows.itertuples()}
    return [_draw_sizes(evidence, cells, folder), _draw_scatter(cells, folder)]


def _draw_sizes(evidence: SemanticEvidence, cells: Mapping[tuple[str, str], tuple], folder: Path) -> StudyFigure:
    stem, caption = "sizes", "mIoU against the number of training images (as Figure 3)."
    arms, missing = [], []
    for arm in dict.fromkeys(case.arm for case in TABLES["figure3"]):
        cases = [Case(arm), *(case for case in TABLES["figure3"] if case.arm == arm)]
        scores = {num: cells[case.name, "miou_subset"] for case in cases if (num := evidence.num(case))}
        scores = {num: scores[num] for num in sorted(scores) if math.isfinite(scores[num][0])}
        if len(scores) > 1:
            arms.append(SizedArm(ARMS[arm], list(scores), *zip(*scores.values(), strict=True)))
        else:
            missing.append(ARMS[arm])
    paths = save(SizeCurve(arms, MIOU), figure_paths(folder / stem)) if arms else []
    return StudyFigure(stem, caption, paths, missing)


def _draw_scatter(cells: Mapping[tuple[str, str], tuple], folder: Path) -> StudyFigure:
    stem, caption = "scatter", "Everything fine-tuned: mIoU against pixel accuracy, an arm a point (as Figure 11)."
    points, missing = [], []
    for case in dict.fromkeys(case for name in POINTS_OF for case in TABLES[name] if case.mode == "all"):
        (x, *x_ends), (y, *y_ends) = cells[case.name, "accuracy"], cells[case.name, "miou_subset"]
        if math.isfinite(x) and math.isfinite(y):
            points.append(Point(ARMS[case.arm], x, y, tuple(x_ends), tuple(y_ends)))
        else:
            missing.append(ARMS[case.arm])
    paths = save(Scatter(points, ACCURACY, MIOU), figure_paths(folder / stem)) if points else []
    return StudyFigure(stem, caption, paths, missing)


def draw_segments(evidence: SemanticEvidence, folder: Path) -> list[StudyFigure]:
    """Draw what the first trial of the first seed predicts of test images.

    Args:
        evidence: The study.
        folder: For the files.

    Returns:
        A figure for each of `PANELS`; without files where predictions were not kept or their images no longer exist.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    return [_draw_segments(evidence, stem, folder) for stem in PANELS]


def _draw_segments(evidence: SemanticEvidence, stem: str, folder: Path) -> StudyFigure:
    (words, cases), run = PANELS[stem], RunKey(evidence.seeds[0], 0)
    caption = (
        f"Test images of {words}: image, truth, and what each arm predicts after everything was fine-tuned. Seed "
        f"{run.seed}, trial 0; the images are those at the sixths of the list."
    )
    folders = {case: evidence.predictions(case, run) for case in cases}
    predictions = {ARMS[case.arm]: path for case, path in folders.items() if path is not None}
    missing = [ARMS[case.arm] for case, path in folders.items() if path is None]
    if not predictions:
        return StudyFigure(stem, caption, (), missing)
    scores = next(s for case in cases if folders[case] and (s := evidence.scores(case, run)) is not None)
    try:
        dataset = open_dataset(scores.data["source"])
    except DataError:
        return StudyFigure(stem, f"{caption} Not drawn: the images are no longer at their path.", (), missing)
    names = list(dict.fromkeys(scores.images[int(len(scores.images) * position)] for position in SHOWN))
    panel = label_rows(dataset, predictions, names, ("labels",))
    return StudyFigure(stem, caption, save(panel, figure_paths(folder / stem), dpi=DPI), missing)


def draw_alignment(evidence: SemanticEvidence, folder: Path) -> StudyFigure:
    """Draw the maps of the first seed's first trial; without files if none were made.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    seed = evidence.seeds[0]
    result = evidence.gradcam(seed)
    caption = (
        "As Figure 6: Grad-CAM of the segmentation at the first ReLU before pooling, as it is and before its ReLU, and "
        f"the prediction, after everything was fine-tuned. Seed {seed}, trial 0; the test images are evenly "
        "spread over the list."
    )
    cases = [case for case in FIGURE6 if result is not None and case.name in result.models]
    missing = [ARMS[case.arm] for case in FIGURE6 if case not in cases]
    if result is None or not cases:
        return StudyFigure(FIGURE, caption, (), missing)
    maps = {ARMS[case.arm]: load_maps(evidence.paths.maps(seed, case.name)) for case in cases}
    panel = panel_of(_with_arm_labels(result, cases), maps, CITYSCAPES, signed=True)
    return StudyFigure(FIGURE, caption, save(panel, figure_paths(folder / FIGURE), dpi=DPI), missing)


def _with_arm_labels(result: Attributions, cases: list[Case]) -> Attributions:
    """Return the result with its checkpoints named by the labels of their arms."""
    names = {case.name: ARMS[case.arm] for case in cases}
    if unknown := [name for name in result.models if name not in names]:
        raise DataError(
            f"expected maps of the cases of Figure 6, found {', '.join(unknown)}; delete the seed's gradcam"
        )
    models = {names[name]: model for name, model in result.models.items()}
    return replace(result, table=result.table.replace({"checkpoint": names}), models=models)
