"""The tables, the figures and the page of a study of MeSa.

Each seed has its own grids of matrices, because a mean of matrices is the matrix of no network; the page shows the
first. Scores, claims and learning curves show all seeds. Predicted depth is that of the images at the sixths of the
list of what was scored, which are not chosen by how they look.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cka_probe.images.datasets import Dataset
from cka_probe.lab.evaluation.predictions import depth_rows
from cka_probe.lab.evaluation.protocol import DepthProtocol
from cka_probe.lab.evaluation.scores import describe_measure
from cka_probe.papers.claims import TestedClaim, evaluate_statistic, judge, with_controls
from cka_probe.papers.evidence import Estimate
from cka_probe.papers.figures import FigureWriter, StudyFigure
from cka_probe.papers.mesa.claims import CLAIMS, STATISTICS, mean_score
from cka_probe.papers.mesa.study import (
    ARMS,
    CONTROL_ARMS,
    DECLARATIONS,
    DOMAINS,
    PRETRAINED,
    ROOMS,
    SCALES,
    Arm,
    MesaEvidence,
    data_of,
    teacher_of,
)
from cka_probe.papers.page import Paper
from cka_probe.papers.tables import find_published, layer_rows, layer_texts, read_published, score_row, score_texts
from cka_probe.plotting.predictions import TRUTH, DepthPanel

PUBLISHED = read_published(Path(__file__).with_name("published.csv"))
"""Everything that the paper prints; `key` is a fine-tuned stage, or two, "before~after", of an improvement."""

OTHERS = "Table 3"
"""The paper's table of other methods, of which the last row is MeSa."""

MEASURES, GRIDS = DECLARATIONS["measures"], DECLARATIONS["grids"]

EVERY_SEED = ("top_row", "diagonal")
"""Grids that are drawn for every seed; the numbers of all are in the tables."""


def all_tables(evidence: MesaEvidence) -> dict[str, pd.DataFrame]:
    """Return the tables of a study by name, with every number as it was computed."""
    return {
        "table_1": score_rows(evidence, "in", (*ARMS, *CONTROL_ARMS)),
        "table_2": score_rows(evidence, "out", (*ARMS, *CONTROL_ARMS)),
        "improvements_1": improvement_rows(evidence, "in"),
        "improvements_2": improvement_rows(evidence, "out"),
        "table_3": method_rows(evidence),
        "pretrained": score_rows(evidence, "in", PRETRAINED),
        "videos": video_rows(evidence),
        "layers": similarity_rows(evidence),
    }


def table_texts(name: str, table: pd.DataFrame) -> tuple[str, str]:
    """Return a table as Markdown and as LaTeX."""
    if name != "layers":
        return score_texts(table)
    parts = [layer_texts(table, column) for column in DECLARATIONS["layer_tables"]]
    return "\n".join(markdown for markdown, _ in parts), "\n".join(latex for _, latex in parts)


def score_rows(evidence: MesaEvidence, domain: str, arms: Sequence[Arm] = ARMS) -> pd.DataFrame:
    """Return one row for each arm and measure, "in" or "out" of distribution (`tables.score_row`)."""
    rows = []
    for arm in arms:
        scores = {seed: evidence.scores(seed, arm.tuned, domain) for seed in evidence.seeds}
        for name in MEASURES[domain]:
            finding = judge({seed: None if s is None else mean_score(s, name) for seed, s in scores.items()})
            labels, measure = {"arm": arm.name, "stage": arm.tuned}, describe_measure(name)
            cell = find_published(PUBLISHED, arm.tuned, name, tables=DECLARATIONS["published"][domain])
            rows.append(score_row(labels, name, finding, unit=measure.unit, better=measure.better, published=cell))
    return pd.DataFrame(rows)


def improvement_rows(evidence: MesaEvidence, domain: str) -> pd.DataFrame:
    """Return rows as `score_rows`, of the improvement of one network over another, in percent."""
    rows = []
    for name, stages in DECLARATIONS["improvements"].items():
        for measure in MEASURES[domain]:
            finding = evaluate_statistic(evidence, STATISTICS["improvement"](measure, domain, *stages))
            labels = {"arm": name, "stage": "~".join(stages)}
            cell = find_published(PUBLISHED, labels["stage"], measure, tables=DECLARATIONS["published"][domain])
            rows.append(score_row(labels, measure, finding, unit="%", better="higher", published=cell))
    return pd.DataFrame(rows)


def method_rows(evidence: MesaEvidence) -> pd.DataFrame:
    """Return rows as `score_rows`, of the paper's other methods, which were not run, and our row at the end."""
    others = [cell for cell in PUBLISHED if cell.table == OTHERS and not cell.key]
    cells = {(cell.row, cell.measures[0]): cell for cell in others}
    rows = []
    for method in dict.fromkeys(row for row, _ in cells):
        for name in [name for name in MEASURES["in"] if (method, name) in cells]:
            measure, labels = describe_measure(name), {"arm": method.split(" [")[0], "stage": ""}
            cell, words = cells[method, name], {"unit": measure.unit, "better": measure.better}
            rows.append(score_row(labels, name, judge({}), published=cell, **words))
    ours = score_rows(evidence, "in", ROOMS[-1:])
    return pd.concat([pd.DataFrame(rows), ours[ours["paper"].notna()]])


def video_rows(evidence: MesaEvidence) -> pd.DataFrame:
    """Return rows as `score_rows`, of held-out videos at the end of the stages that predict depth by themselves."""
    rows = []
    for arm in PRETRAINED:
        logs = {seed: evidence.curves(seed, arm.tuned)[1] for seed in evidence.seeds}
        for name in MEASURES["videos"]:
            ends = {
                seed: None if log is None or name not in log else Estimate(log[name].iloc[-1])
                for seed, log in logs.items()
            }
            better = "" if name == "abs_rel_constant" else describe_measure(name).better or "lower"
            rows.append(score_row({"arm": arm.name, "stage": arm.tuned}, name, judge(ends), better=better))
    return pd.DataFrame(rows)


def similarity_rows(evidence: MesaEvidence) -> pd.DataFrame:
    """Return a row for each arm and layer: arm, pre (stage before fine-tuning), variant, columns of `layer_rows`."""
    rows: list[dict[str, Any]] = []
    for arm in (*ARMS, *CONTROL_ARMS):
        pretrained, tuned = (
            {seed: evidence.similarity(seed, arm.pre, y) for seed in evidence.seeds} for y in (arm.pre, arm.tuned)
        )
        rows += layer_rows({"arm": arm.name, "pre": arm.pre, "variant": "paper"}, tuned, pretrained)
    return pd.DataFrame(rows)


def absences(evidence: MesaEvidence) -> list[str]:
    """Return what a full study has and this one does not: a line an arm, with the seeds where only some lack it."""
    lines = []
    for arm in (*ARMS, *CONTROL_ARMS):
        parts: dict[str, list[Any]] = {
            f"scores {words}": [evidence.scores(seed, arm.tuned, domain) for seed in evidence.seeds]
            for domain, words in DOMAINS.items()
        }
        pairs = {"before and after fine-tuning": arm.tuned} | ({"with itself": arm.pre} if arm in ARMS else {})
        for words, y in pairs.items():
            parts[f"similarity {words}"] = [evidence.similarity(seed, arm.pre, y) for seed in evidence.seeds]
        if not any(value is not None for values in parts.values() for value in values):
            lines.append(f"{arm.name}: nothing of it")
        elif missing := [words + _missing_seeds(evidence.seeds, v) for words, v in parts.items() if None in v]:
            lines.append(f"{arm.name}: without {', '.join(missing)}")
    return lines


def _missing_seeds(seeds: Sequence[int], values: Sequence[object | None]) -> str:
    """Return which seeds have no value, in words; "" if none has one."""
    missing = [str(seed) for seed, value in zip(seeds, values, strict=True) if value is None]
    return "" if len(missing) == len(seeds) else f" (seeds {', '.join(missing)})"


def draw_figures(
    evidence: MesaEvidence, rows: Sequence[TestedClaim], tables: Mapping[str, pd.DataFrame], draw: FigureWriter
) -> list[StudyFigure]:
    """Draw every figure of the page, and the paper's own grids of every other seed as <stem>_seed<k>."""
    first, *others = evidence.seeds
    for seed in others:
        for name in EVERY_SEED:
            draw_grid(evidence, seed, name, draw, f"{name}_seed{seed}")
    curves = {
        stem: {arm: [evidence.curves(seed, stage) for seed in evidence.seeds] for arm, stage in stages.items()}
        for stem, stages in DECLARATIONS["curves"].items()
    }
    return [
        draw.claims("claims", [row for row in rows if not row.of]),
        draw.claims("controls", with_controls(rows)),
        *(draw.scores(stem, tables[name]) for stem, name in DECLARATIONS["scores"].items()),
        *(draw_grid(evidence, first, name, draw, name) for name in GRIDS),
        *(draw.curves(stem, logs) for stem, logs in curves.items()),
        *(draw_depth(evidence, domain, draw) for domain in DOMAINS),
    ]


def draw_grid(evidence: MesaEvidence, seed: int, name: str, draw: FigureWriter, stem: str) -> StudyFigure:
    """Draw the matrices of a grid of one seed that were computed."""
    grid = GRIDS[name]
    matrices = {title: evidence.similarity(seed, *pair) for title, pair in grid["pairs"].items()}
    return draw.grid(stem, matrices, grid["emphasis"], grid.get("reference", ""), caption=name)


def draw_depth(evidence: MesaEvidence, domain: str, draw: FigureWriter) -> StudyFigure:
    """Draw depth that the first seed's fine-tuned networks predict; without files where predictions were not kept."""
    seed = evidence.seeds[0]
    arms = {
        arm.name: (evidence.predictions(seed, arm.tuned, domain), evidence.scores(seed, arm.tuned, domain))
        for arm in ROOMS
    }
    return draw.predictions(f"depth_{domain}", arms, _depth_panel, caption="depth", domain=DOMAINS[domain], seed=seed)


def _depth_panel(dataset: Dataset, names: Sequence[str], folders: Mapping[str, Path]) -> DepthPanel:
    """Return the panel of some images: true depth, depth as it was predicted, and edges where the truth has some."""
    rows = depth_rows(dataset, folders, names, DepthProtocol(scaling="none"))
    return DepthPanel(
        rows, ("depth", "edges") if all(TRUTH in (row.edges or ()) for row in rows) else ("depth", "error")
    )


def data(evidence: MesaEvidence) -> list[str]:
    """Return the names of the study's data."""
    stages = evidence.recipe.get("stages", {}).values()
    names = data_of(evidence.recipe["data"], [(*stage["data"], *stage["validation"]) for stage in stages])
    given = "videos" in evidence.study["data"] or teacher_of(evidence.study["settings"])
    taught = "videos" in names and "rooms" in PAPER.scenes(evidence) and not given
    return [*names, "rooms"] if taught else [*names]


def stage_rows(evidence: MesaEvidence) -> pd.DataFrame:
    """Return one row for each stage of the recipe, a rate as it is written there: 1e-4, not 0.000."""
    keys = ("task", "start", "steps", "batch", "lr", "layer_decay", "size", "normalisation")
    rows = []
    for name, stage in evidence.recipe.get("stages", {}).items():
        values = {key.replace("_", " "): stage.get(key, "") for key in keys}
        texts = {key: f"{value:g}" if isinstance(value, float) else value for key, value in values.items()}
        rows.append({"stage": name} | texts)
    return pd.DataFrame(rows)


PAPER = Paper(
    name="mesa",
    declarations=DECLARATIONS,
    claims=CLAIMS,
    scales=SCALES,
    load=MesaEvidence.load,
    tables=all_tables,
    texts=table_texts,
    figures=draw_figures,
    stages=stage_rows,
    absences=absences,
    data=data,
    context=lambda report: {"teacher": teacher_of(report.evidence.study["settings"])},
)
