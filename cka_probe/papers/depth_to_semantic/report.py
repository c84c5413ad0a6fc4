"""The figures and the page of a study of Depth-to-Semantic.

Curves show all trials and seeds; similarities are those of the first seed, after its first trial, because a mean of
matrices is the matrix of no network (the numbers of all seeds are in the tables). Images are those at the sixths of the
list of what was scored: they are not chosen by how they look.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations_with_replacement, permutations
from pathlib import Path
from typing import Any

import pandas as pd

from cka_probe.attribution.saved_maps import load_maps, panel_of
from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES
from cka_probe.images.datasets import Dataset
from cka_probe.lab.evaluation.predictions import label_rows
from cka_probe.papers.claims import UNDEFINED, TestedClaim
from cka_probe.papers.depth_to_semantic.claims import CLAIMS
from cka_probe.papers.depth_to_semantic.study import (
    ALL,
    ARMS,
    DECLARATIONS,
    MAIN,
    SCALES,
    TABLES,
    Case,
    SemanticEvidence,
    tuned,
)
from cka_probe.papers.depth_to_semantic.tables import (
    WHENS,
    absences,
    all_tables,
    cost_rows,
    heading,
    label,
    table_texts,
)
from cka_probe.papers.evidence import RunKey
from cka_probe.papers.figures import FigureWriter, StudyFigure
from cka_probe.papers.page import Paper, Report
from cka_probe.papers.tables import as_markdown, score_texts
from cka_probe.plotting import Figure
from cka_probe.plotting.arm_maps import ArmMaps
from cka_probe.plotting.image_grid import DPI
from cka_probe.plotting.profile import LayerDivergence, Pair
from cka_probe.plotting.scores import POINT, SIZED, Scatter, SizeCurve, Trajectories

CURVES, PAIRS = DECLARATIONS["curves"], DECLARATIONS["divergence"]["pairs"]

CURVE_MEASURES = ("miou_subset", "miou", "accuracy")
"""Held-out measures that have curves, where they were measured."""

FIRST = 0.1
"""Share of the steps that `first_steps` shows."""

MIOU, MIOU_ALL, ACCURACY = "mIoU of 7 classes (%)", "mIoU of all classes (%)", "pixel accuracy (%)"

POINTS_OF = ("table1", "table2", "table4")
"""Tables of which every fully fine-tuned case is a point."""


def draw_figures(
    evidence: SemanticEvidence, rows: Sequence[TestedClaim], tables: Mapping[str, pd.DataFrame], draw: FigureWriter
) -> list[StudyFigure]:
    """Draw every figure of the page, in its order; one of which nothing was run has no files."""
    labels = DECLARATIONS["score_measures"]
    return [
        *(
            draw.claims(stem, [row for row in rows if row.section == stem and not row.of])
            for stem in DECLARATIONS["sections"]
        ),
        *(draw.scores(f"scores_{name}", tables[name], labels, caption="scores", name=name) for name in TABLES),
        *_draw_trends(evidence, tables, draw),
        *(_draw_curves(evidence, stem, draw) for stem in CURVES),
        *(_draw_trajectories(evidence, stem, draw) for stem in DECLARATIONS["trajectories"]),
        *(_draw_first_steps(evidence, stem, draw) for stem in DECLARATIONS["first_steps"]),
        _draw_pretraining(evidence, draw),
        _draw_before_after(evidence, draw),
        _draw_arms(evidence, draw),
        _draw_divergence(evidence, draw),
        *(_draw_segments(evidence, stem, draw) for stem in DECLARATIONS["panels"]),
        draw_maps(evidence, draw),
    ]


def _draw_trends(
    evidence: SemanticEvidence, tables: Mapping[str, pd.DataFrame], draw: FigureWriter
) -> list[StudyFigure]:
    """Draw scores against the number of training images, and against each other."""
    rows = pd.concat([tables[name] for name in (*POINTS_OF, "figure3")]).drop_duplicates(["case", "measure"])
    cells = {(row.case, row.measure): (row.value, row.low, row.high) for row in rows.itertuples()}
    sizes: dict[str, pd.DataFrame | None] = {}
    for arm in dict.fromkeys(case.arm for case in TABLES["figure3"]):
        cases = [Case(arm), *(case for case in TABLES["figure3"] if case.arm == arm)]
        scores = {num: cells[case.name, "miou_subset"] for case in cases if (num := evidence.num(case))}
        finite = [(ARMS[arm], num, *scores[num]) for num in sorted(scores) if math.isfinite(scores[num][0])]
        sizes[ARMS[arm]] = pd.DataFrame(finite, columns=list(SIZED)) if len(finite) > 1 else None  # one is no curve
    points: dict[str, pd.DataFrame | None] = {}
    for case in dict.fromkeys(case for name in POINTS_OF for case in TABLES[name] if case.mode == "all"):
        row = pd.DataFrame([(ARMS[case.arm], *cells[case.name, "accuracy"], *cells[case.name, "miou_subset"])])
        row.columns = list(POINT)
        points[ARMS[case.arm]] = row if row[["x", "y"]].notna().all(axis=None) else None
    return [
        draw.draw("sizes", sizes, lambda arms: SizeCurve(pd.concat(arms.values()), MIOU)),
        draw.draw("scatter", points, lambda arms: Scatter(pd.concat(arms.values()), ACCURACY, MIOU)),
    ]


def _draw_curves(evidence: SemanticEvidence, stem: str, draw: FigureWriter) -> StudyFigure:
    """Draw the learning curves of some cases, all their runs on the same axes."""
    cases = map(Case.of, CURVES[stem])
    logs = {label(case): [evidence.curves(case, run) for run in evidence.runs] for case in cases}
    has_subset = any(
        "miou_subset" in validation
        for pairs in logs.values()
        for log, validation in pairs
        if log is not None and validation is not None
    )
    if stem in DECLARATIONS["all_classes"]["stems"]:
        has_subset = False
    measures = [name for name in CURVE_MEASURES if name != ("miou" if has_subset else "miou_subset")]
    return draw.curves(stem, logs, measures, repeats="runs")


def _draw_trajectories(evidence: SemanticEvidence, stem: str, draw: FigureWriter) -> StudyFigure:
    """Draw the mIoU of all classes against the accuracy of some cases along training, all their runs."""
    parts: dict[str, pd.DataFrame | None] = {}
    for case in map(Case.of, DECLARATIONS["trajectories"][stem]):
        tables = {f"{run.seed}, {run.trial}": evidence.curves(case, run)[1] for run in evidence.runs}
        rows = [
            pd.DataFrame({"arm": label(case), "run": run, "x": 100 * table["accuracy"], "y": 100 * table["miou"]})
            for run, table in tables.items()
            if table is not None and {"accuracy", "miou"} <= set(table)
        ]
        parts[label(case)] = pd.concat(rows) if rows else None
    return draw.draw(stem, parts, lambda arms: Trajectories(pd.concat(arms.values()), ACCURACY, MIOU_ALL))


def _draw_first_steps(evidence: SemanticEvidence, stem: str, draw: FigureWriter) -> StudyFigure:
    """Draw the training losses of some cases in the first part of their steps."""
    logs: dict[str, list[tuple[pd.DataFrame | None, None]]] = {}
    for case in map(Case.of, DECLARATIONS["first_steps"][stem]):
        tables = [evidence.curves(case, run)[0] for run in evidence.runs]
        logs[label(case)] = [(None if log is None else _first_steps(log), None) for log in tables]
    return draw.curves(stem, logs, ())


def _first_steps(log: pd.DataFrame) -> pd.DataFrame:
    """Return the learning rate and the loss in the first part of a training log."""
    return log.loc[log["step"] <= max(1, FIRST * log["step"].max()), ["step", "lr", "loss"]]


def _draw_pretraining(evidence: SemanticEvidence, draw: FigureWriter) -> StudyFigure:
    """Draw the losses of pre-training; each arm has its own, and no two are comparable."""
    logs: dict[str, list[tuple[pd.DataFrame | None, None]]] = {}
    for arm, name in list(ARMS.items())[1:]:
        tables = [evidence.pretraining(seed, arm)[0] for seed in evidence.seeds]
        logs[name] = [
            (None if log is None else log[[column for column in ("step", "lr", "loss") if column in log]], None)
            for log in tables
        ]
    return draw.curves("curves_pretraining", logs, ())


def _draw_before_after(evidence: SemanticEvidence, draw: FigureWriter) -> StudyFigure:
    """Draw each arm before (down) against after fine-tuning (across), and the frozen ones."""
    seed = evidence.seeds[0]
    all_learns, frozen = (
        {name + suffix: evidence.similarity(seed, arm, tuned(arm, mode)) for arm, name in ARMS.items()}
        for mode, suffix in (("all", ""), ("frozen", ", frozen"))
    )
    run = {title: matrix for title, matrix in frozen.items() if matrix is not None}  # others are not listed as missing
    return draw.grid("before_after", all_learns | run, "diagonal")


def _draw_arms(evidence: SemanticEvidence, draw: FigureWriter) -> StudyFigure:
    """Draw every arm against every other, layer by layer."""
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
    arms = {label: arm if arm in compared else None for arm, label in ARMS.items()}
    return draw.draw(
        "arms", arms, lambda labels: ArmMaps(pd.concat(parts), {arm: label for label, arm in labels.items()})
    )


def _draw_divergence(evidence: SemanticEvidence, draw: FigureWriter) -> StudyFigure:
    """Draw at which layers some pairs of arms diverge."""
    pairs: dict[str, Pair | None] = {}
    for x, y in PAIRS:
        matrices = {f"{w} fine-tuning": evidence.arm_similarity(evidence.seeds[0], x, y, w) for w in WHENS}
        available = {when: matrix for when, matrix in matrices.items() if matrix is not None}
        title = f"{ARMS[x]} and {ARMS[y]}"
        pairs[title] = Pair(title, available) if available else None
    return draw.draw("parting", pairs, lambda parts: LayerDivergence(list(parts.values())))


def _draw_segments(evidence: SemanticEvidence, stem: str, draw: FigureWriter) -> StudyFigure:
    """Draw what the first trial of the first seed predicts of test images."""
    panel, run = DECLARATIONS["panels"][stem], RunKey(evidence.seeds[0])
    cases = map(Case.of, panel["cases"])
    arms = {ARMS[case.arm]: (evidence.predictions(case, run), evidence.scores(case, run)) for case in cases}

    def draw_rows(dataset: Dataset, names: Sequence[str], folders: Mapping[str, Path]) -> Figure:
        return label_rows(dataset, folders, names, ("labels",))

    return draw.predictions(stem, arms, draw_rows, caption="segments", words=panel["words"], seed=run.seed)


def draw_maps(evidence: SemanticEvidence, draw: FigureWriter) -> StudyFigure:
    """Draw the maps of the first seed's first trial; without files if none were made."""
    seed, labels = evidence.seeds[0], {Case(arm).name: ARMS[arm] for arm in MAIN}
    result = evidence.gradcam(seed)
    models = {} if result is None else result.models
    if unknown := [name for name in models if name not in labels]:
        raise DataError(f"expected maps of {', '.join(labels)}, found {', '.join(unknown)}; delete the seed's gradcam")

    def figure(names: Mapping[str, str]) -> Figure | None:
        if result is None:
            return None
        table = result.table.replace({"checkpoint": labels})
        with_labels = replace(result, table=table, models={labels[name]: facts for name, facts in models.items()})
        maps = {label: load_maps(evidence.paths.maps(seed, name)) for label, name in names.items()}
        return panel_of(with_labels, maps, CITYSCAPES, signed=True, overlay=False)

    names = {label: name if name in models else None for name, label in labels.items()}
    return draw.draw("figure6", names, figure, dpi=DPI, seed=seed)


def context(report: Report) -> dict[str, Any]:
    """Return what the template of the page shows."""
    tables = report.tables
    return {
        "heading": heading,
        "was_run": lambda name: tables[name]["value"].notna().any() or (tables[name]["state"] == UNDEFINED).any(),
        "pretraining": _pretraining(tables["pretraining"]),
        "rates": _rates(tables["rates"]),
        "divergence": _divergence(tables["parting"]),
    }


def _pretraining(rows: pd.DataFrame) -> list[str]:
    """Return tables of how well pre-training went; arms of the same measures share one."""
    if rows.empty:
        return []
    cells = rows.assign(paper=float("nan"), unit="", better="")
    measures = cells.groupby("arm", sort=False)["measure"].transform(" ".join)
    return [score_texts(group)[0] for _, group in cells.groupby(measures, sort=False)]


def _rates(rows: pd.DataFrame) -> str:
    """Return the learning rates that were tried as Markdown; "" if none was."""
    if rows.empty:
        return ""
    columns = {"rate": rows["rate"].map("{:g}".format), "chosen": rows["chosen"].map({True: "yes", False: ""})}
    frame = rows.assign(**columns).set_index("arm")[["data", "seed", "rate", "held_out", "measure", "chosen"]]
    return as_markdown(frame, digits=2)


def _divergence(divergence: pd.DataFrame) -> str:
    """Return where the main arms diverge as Markdown; "" if no arms were compared."""
    if divergence.empty:
        return ""
    main = {f"{ARMS[x]} and {ARMS[y]}" for x, y in permutations(MAIN, 2)}
    rows = divergence[divergence["arms"].isin(main)].set_index("arms")
    return as_markdown(rows.rename(columns={"parts_at": "diverge most at"}), digits=2)


def options(evidence: SemanticEvidence) -> list[str]:
    """Return the options of the command that repeats the study.

    Tables are selected where some were run that the scale does not run; the protocol where any fault was run.
    """
    scale = replace(SCALES[evidence.study["scale"]], weights=DECLARATIONS["from_files"])
    run = RunKey(evidence.seeds[0], evidence.trials[0])
    extra = {
        table
        for table in ALL
        if any(evidence.scores(case, run) is not None for case in TABLES[table] if case not in scale.cases())
    }
    every = tuple(table for table in ALL if table in extra or table in scale.tables)
    released = any(evidence.scores(c, run) is not None or evidence.diverged(c, run) for c in TABLES["quirks"])
    return [
        f"--trials {evidence.trials[-1] + 1}",
        *([f"--tables {'all' if every == ALL else ','.join(every)}"] if extra else []),
        *(["--protocol released"] if released else []),
    ]


PAPER = Paper(
    name="depth-to-semantic",
    declarations=DECLARATIONS,
    claims=CLAIMS,
    scales=SCALES,
    load=SemanticEvidence.load,
    tables=all_tables,
    texts=table_texts,
    figures=draw_figures,
    stages=cost_rows,
    absences=absences,
    data=lambda evidence: tuple(DECLARATIONS["stands_for"]),
    options=options,
    context=context,
)
