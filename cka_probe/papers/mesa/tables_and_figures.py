"""The tables and figures of a study of MeSa.

A table has one row per number, with its interval: over seeds where there are several, over images where there is one.

The paper's Figures 2, 5, 8, 9 and 10 are grids of matrices: networks against themselves, read along the top row
(2 left, 8, 9), and before against after fine-tuning, read along the diagonal (2 right, 5, 10). Each seed has its own
grids, because a mean of matrices is the matrix of no network; the page shows the first. Its Figures 3, 4, 6 and 7 show
predicted depth, here of the images at the sixths of the list of what was scored, which are not chosen by how they look.
Scores, claims and learning curves show all seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.errors import DataError
from cka_probe.images.datasets import Dataset, open_dataset
from cka_probe.lab.evaluation.ibims1_errors import predicted_edges
from cka_probe.lab.evaluation.predictions import read_prediction
from cka_probe.lab.evaluation.scores import describe_measure
from cka_probe.papers.claims import TestedClaim, judge, with_controls
from cka_probe.papers.evidence import Estimate, cell
from cka_probe.papers.mesa.evidence import DOMAINS, MesaEvidence, mean_score
from cka_probe.papers.mesa.study import ARMS, BASELINES, CONTROL_ARMS, OBJECTS, ROOMS, Arm
from cka_probe.papers.page import StudyFigure, figure_paths
from cka_probe.papers.tables import finding_columns, layer_texts, published_columns, read_published, score_texts
from cka_probe.plotting.claims import Claims
from cka_probe.plotting.curves import Curves, Run
from cka_probe.plotting.depth_panel import DepthPanel, DepthRow
from cka_probe.plotting.figure import save
from cka_probe.plotting.image_grid import DPI
from cka_probe.plotting.layer_grid import LayerGrid
from cka_probe.plotting.score_panels import ScorePanels

PUBLISHED = read_published(Path(__file__).with_name("published.csv"))
"""The paper's numbers that are verified, by domain, fine-tuned stage and measure.

The paper's tables were not available: only numbers that its text or a source close to it gives are listed, each with
where it is from. None is given from memory, and none is computed from others. Which arm a number belongs to follows
from the images: Table 1 and the row of Xie et al. it begins with are pre-trained on ImageNet, Table 3 on LSUN
(inferred: the paper's section 3.4 names LSUN for all, which Table 1's first row, equal to a network trained on
ImageNet, cannot be).

Khan, Liang, Wang, Yang & Lou, MeSa, PMLR 243:116-132, 2024 (arXiv 2310.04551); Xie et al., Revealing the Dark Secrets
of Masked Image Modeling, CVPR 2023.
"""

RANGES = {"abs_rel": (0.082, 0.089), "dbe_comp": (19.0, 30.0)}
"""Least and largest over the rows of Table 2; from 10 upwards dbe_comp can only be the unbounded one (v0.9)."""


MEASURES = {
    "in": ("abs_rel", "rmse", "log10", "delta1", "delta2", "delta3"),
    "out": ("dbe_acc", "dbe_comp", "pe_plan", "pe_orie", "abs_rel", "abs_rel_median"),
}
"""Columns of Tables 1 and 2; the paper does not say how it aligns abs_rel on iBims-1, so both are shown."""


VIDEO_MEASURES = ("abs_rel", "abs_rel_constant", "delta1", "photometric")
"""Measures of geometric stages on held-out videos; the second is that of one constant depth."""

PRETRAINED = (Arm("MP+GP", "mp", "gp"), Arm("MP+GP+SP", "gp", "sp"))
"""Networks that predict depth before they are fine-tuned; `tuned` is the stage that is scored."""

LAYER_TABLES = {
    "top": "Similarity of each layer with layer 0 of the same network (top row):",
    "diagonal": "Similarity of each layer with itself after fine-tuning (diagonal):",
    "spread": "Root mean square of what varies over images, before fine-tuning. Similarity of a layer that hardly "
    "varies says little:",
    "spread_tuned": "The same after fine-tuning:",
}
"""Tables of layers, with the text above each."""


@dataclass(frozen=True)
class Panel:
    """One matrix of a grid.

    Attributes:
        title: Above it.
        x: Stage on the rows.
        y: Stage on the columns.
        variant: How the similarity was computed.
    """

    title: str
    x: str
    y: str
    variant: str = "paper"


@dataclass(frozen=True)
class Grid:
    """A figure of matrices side by side.

    Attributes:
        caption: What it shows, and the figures of the paper that it corresponds to.
        emphasis: "row" or "diagonal": what is read.
        panels: In order; those that were not run are left out and listed.
        has_reference: The first panel is only what the others are compared with; alone it makes no figure.
    """

    caption: str
    emphasis: str
    panels: Sequence[Panel]
    has_reference: bool = False


def _alone(arms: Sequence[Arm]) -> list[Panel]:
    return [Panel(arm.name, arm.pre, arm.pre) for arm in arms]


def _tuned(arms: Sequence[Arm]) -> list[Panel]:
    return [Panel(arm.name, arm.pre, arm.tuned) for arm in arms]


ALIKE = ("mp", "mp_depth")


GRIDS = {
    "top_row": Grid(
        "Pre-trained networks against themselves (as the paper's Figures 2 left, 8 and 9); the top row is read.",
        "row",
        _alone(ROOMS),
    ),
    "diagonal": Grid(
        "Networks before (down) and after (across) fine-tuning (as Figures 2 right, 5 and 10); the diagonal is read.",
        "diagonal",
        _tuned(ROOMS),
    ),
    "top_row_objects": Grid(
        "Masked pre-training on rooms and on objects, each network against itself; the top row is read.",
        "row",
        _alone((ROOMS[0], *OBJECTS)),
        has_reference=True,
    ),
    "diagonal_objects": Grid(
        "Pre-training on rooms and on objects, before and after fine-tuning; the diagonal is read.",
        "diagonal",
        _tuned((ROOMS[0], *OBJECTS)),
        has_reference=True,
    ),
    "controls_row": Grid(
        "What of the U is due to the layers: MP's residual stream, and the untrained network; the top row is read.",
        "row",
        [
            Panel("MP", "mp", "mp"),
            Panel("MP, stream", "mp", "mp", "stream"),
            Panel("untrained", "random", "random"),
            Panel("untrained, stream", "random", "random", "stream"),
        ],
        has_reference=True,
    ),
    "controls_diagonal": Grid(
        "What of the change in fine-tuning is due to how it was tuned and measured: MP in other ways; the diagonal is "
        "read.",
        "diagonal",
        [
            Panel("as the paper", *ALIKE),
            Panel("one learning rate", "mp", "mp_depth_flat"),
            Panel("pooled", *ALIKE, "pooled"),
            Panel("biased", *ALIKE, "biased"),
            Panel("stream", *ALIKE, "stream"),
            Panel("plain input, own", "mp", "mp_depth_plain"),
            Panel("plain input, fed alike", "mp", "mp_depth_plain", "shared"),
        ],
        has_reference=True,
    ),
}
"""Figures of matrices by stem."""


EVERY_SEED = ("top_row", "diagonal")
"""Grids that are drawn for every seed; the numbers of all are in the tables."""


CURVES = {
    "curves_masked": ("Masked pre-training (MP).", {arm.name: arm.pre for arm in (ROOMS[0], OBJECTS[0])}),
    "curves_gp": ("Geometric pre-training (GP).", {arm.name: arm.pre for arm in (ROOMS[1], OBJECTS[1])}),
    "curves_sp": ("Supervised pre-training (SP).", {arm.name: arm.pre for arm in (ROOMS[2], OBJECTS[2])}),
    "curves_depth": ("Fine-tuning for depth.", {arm.name: arm.tuned for arm in (*ROOMS, BASELINES[1])}),
    "curves_depth_others": (
        "Fine-tuning for depth: pre-trained on objects, and the controls.",
        {arm.name: arm.tuned for arm in (OBJECTS[0], BASELINES[0], *CONTROL_ARMS)},
    ),
}
"""Learning curves by stem: the caption, and the stage of each arm."""


SCORES = {
    "scores_in": ("table_1", "Scores in distribution (Table 1); the paper's are over its own images."),
    "scores_out": ("table_2", "Scores out of distribution (Table 2); the paper's are over its own images."),
}
"""Images of tables by stem: the table, and the caption."""


SHOWN = (1 / 6, 1 / 2, 5 / 6)
"""Positions in the list of images of those whose depth is shown."""


def all_tables(evidence: MesaEvidence) -> dict[str, pd.DataFrame]:
    """Return the tables of a study by name, with every number as it was computed."""
    return {
        "table_1": score_rows(evidence, "in", (*ARMS, *CONTROL_ARMS)),
        "table_2": score_rows(evidence, "out", (*ARMS, *CONTROL_ARMS)),
        "pretrained": score_rows(evidence, "in", PRETRAINED),
        "videos": video_rows(evidence, PRETRAINED),
        "layers": layer_rows(evidence),
    }


def table_texts(name: str, table: pd.DataFrame) -> tuple[str, str]:
    """Return a table as Markdown and as LaTeX."""
    if name != "layers":
        return score_texts(table)
    parts = [layer_texts(table, column) for column in LAYER_TABLES]
    return "\n".join(markdown for markdown, _ in parts), "\n".join(latex for _, latex in parts)


def score_rows(evidence: MesaEvidence, domain: str, arms: Sequence[Arm] = ARMS) -> pd.DataFrame:
    """Return one row for each arm and measure: our value with its interval, and the paper's number.

    Args:
        evidence: The study.
        domain: "in" or "out".
        arms: In order.

    Returns:
        arm, stage, measure, unit, better, value, low, high, over ("seeds" or "images"), seeds (how many), state ("",
        "not run" or "undefined"), reason, paper (NaN where no number is verified), source.
    """
    rows = []
    for arm in arms:
        scores = {seed: evidence.scores(seed, arm.tuned, domain) for seed in evidence.seeds}
        for name in MEASURES[domain]:
            finding = judge({seed: None if s is None else mean_score(s, name) for seed, s in scores.items()})
            measure = describe_measure(name)
            rows.append(
                {"arm": arm.name, "stage": arm.tuned, "measure": name, "unit": measure.unit, "better": measure.better}
                | finding_columns(finding)
                | published_columns(PUBLISHED.get((domain, arm.tuned, name)))
            )
    return pd.DataFrame(rows)


def video_rows(evidence: MesaEvidence, arms: Sequence[Arm]) -> pd.DataFrame:
    """Return one row for each arm and measure of `VIDEO_MEASURES` at the end of training, on held-out videos.

    Args:
        evidence: The study.
        arms: `tuned` is the stage that was trained.

    Returns:
        As `score_rows`; without an interval where there is one seed.
    """
    rows = []
    for arm in arms:
        logs = {seed: evidence.validation(seed, arm.tuned) for seed in evidence.seeds}
        for name in VIDEO_MEASURES:
            finding = judge(
                {
                    seed: None if log is None or name not in log else Estimate(log[name].iloc[-1])
                    for seed, log in logs.items()
                }
            )
            better = "" if name == "abs_rel_constant" else describe_measure(name).better or "lower"
            rows.append(
                {"arm": arm.name, "stage": arm.tuned, "measure": name, "unit": "", "better": better}
                | finding_columns(finding)
                | published_columns(None)
            )
    return pd.DataFrame(rows)


def layer_rows(
    evidence: MesaEvidence, arms: Sequence[Arm] = (*ARMS, *CONTROL_ARMS), variant: str = "paper"
) -> pd.DataFrame:
    """Return one row for each arm and layer: similarity with layer 0, with itself after fine-tuning, and spread.

    Args:
        evidence: The study.
        arms: In order.
        variant: How similarities were computed.

    Returns:
        arm, pre (its stage before fine-tuning), variant, index, layer; spread (root mean square of what varies, before
        fine-tuning) and spread_tuned, means over seeds; and `top_` and `diagonal_` value, low, high, over, seeds,
        state, reason.
    """
    rows = []
    for arm in arms:
        alone = {seed: evidence.similarity(seed, arm.pre, arm.pre, variant) for seed in evidence.seeds}
        tuned = {seed: evidence.similarity(seed, arm.pre, arm.tuned, variant) for seed in evidence.seeds}
        matrices = [matrix for matrix in (*alone.values(), *tuned.values()) if matrix is not None]
        for layer in range(9) if matrices else ():
            top = judge({seed: None if m is None else cell(m, 0, layer) for seed, m in alone.items()})
            diagonal = judge({seed: None if m is None else cell(m, layer, layer) for seed, m in tuned.items()})
            after = [matrix.columns[layer].rms for matrix in tuned.values() if matrix]
            rows.append(
                {"arm": arm.name, "pre": arm.pre, "variant": variant, "index": layer}
                | {"layer": matrices[0].rows[layer].name}
                | {"spread": _mean([matrix.rows[layer].rms for matrix in matrices]), "spread_tuned": _mean(after)}
                | {f"top_{key}": value for key, value in finding_columns(top).items()}
                | {f"diagonal_{key}": value for key, value in finding_columns(diagonal).items()}
            )
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
        missing = {words: _missing_seeds(evidence.seeds, values) for words, values in parts.items()}
        missing = {words: seeds for words, seeds in missing.items() if seeds is not None}
        if len(missing) == len(parts) and not any(missing.values()):
            lines.append(f"{arm.name}: nothing of it")
        elif missing:
            lines.append(f"{arm.name}: without " + ", ".join(f"{words}{seeds}" for words, seeds in missing.items()))
    return lines


def _missing_seeds(seeds: Sequence[int], values: Sequence[object | None]) -> str | None:
    """Return which seeds have no value, in words; "" if none has, `None` if all have."""
    missing = [str(seed) for seed, value in zip(seeds, values, strict=True) if value is None]
    if not missing:
        return None
    return "" if len(missing) == len(seeds) else f" (seeds {', '.join(missing)})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def draw_figures(
    evidence: MesaEvidence, rows: Sequence[TestedClaim], tables: Mapping[str, pd.DataFrame], folder: Path
) -> list[StudyFigure]:
    """Draw every figure of the page.

    Args:
        evidence: The study.
        rows: Its claims.
        tables: `all_tables`.
        folder: For the files.

    Returns:
        Figures in the order of the page; one of which nothing was run has no files.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    forests = {
        "claims": ("The claims, each with its interval.", [row for row in rows if not row.claim.of]),
        "controls": ("Claims and, below each, its controls.", with_controls(rows)),
    }
    figures = [
        StudyFigure(stem, caption, save(Claims(claims), figure_paths(folder / stem)))
        for stem, (caption, claims) in forests.items()
    ]
    for stem, (name, caption) in SCORES.items():
        scored = tables[name].groupby("arm")["value"].transform(lambda values: values.notna().any())
        missing = list(tables[name]["arm"][~scored].unique())
        paths = save(ScorePanels(tables[name][scored]), figure_paths(folder / stem)) if scored.any() else []
        figures.append(StudyFigure(stem, caption, paths, missing))
    figures += [*draw_grids(evidence, folder), *draw_curves(evidence, folder)]
    return [*figures, *(draw_depth(evidence, domain, folder) for domain in DOMAINS)]


def draw_grids(evidence: MesaEvidence, folder: Path) -> list[StudyFigure]:
    """Draw every grid of matrices of the first seed, and of the other seeds (<stem>_seed<k>) the paper's own.

    Returns:
        The first seed's, in the order of `GRIDS`; one without any matrix has no files.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    first, *others = evidence.seeds
    for seed in others:
        for stem in EVERY_SEED:
            _draw_grid(evidence, seed, stem, folder / f"{stem}_seed{seed}")
    return [_draw_grid(evidence, first, stem, folder / stem) for stem in GRIDS]


def _draw_grid(evidence: MesaEvidence, seed: int, stem: str, path: Path) -> StudyFigure:
    """Draw the matrices of a grid that were computed; `path` has no suffix."""
    grid = GRIDS[stem]
    matrices = {panel.title: evidence.similarity(seed, panel.x, panel.y, panel.variant) for panel in grid.panels}
    available = {title: matrix for title, matrix in matrices.items() if matrix is not None}
    missing = [title for title in matrices if title not in available]
    paths = []
    if available and not (grid.has_reference and list(available) == [grid.panels[0].title]):
        figure = LayerGrid(list(available.values()), list(available), emphasis=grid.emphasis, rms=True)
        paths = save(figure, figure_paths(path))
    return StudyFigure(stem, grid.caption, paths, missing)


def draw_curves(evidence: MesaEvidence, folder: Path) -> list[StudyFigure]:
    """Draw the learning curves of every stage that was run, all its arms and seeds on the same axes."""
    figures = []
    for stem, (caption, stages) in CURVES.items():
        runs, missing = [], []
        for arm, stage in stages.items():
            curves = [_curve(evidence, seed, stage, arm) for seed in evidence.seeds]
            runs += [curve for curve in curves if curve is not None]
            missing += [arm] if not any(curves) else []
        paths = save(Curves(runs), figure_paths(folder / stem)) if runs else []
        figures.append(StudyFigure(stem, caption, paths, missing))
    return figures


def _curve(evidence: MesaEvidence, seed: int, stage: str, arm: str) -> Run | None:
    log, validation = evidence.log(seed, stage), evidence.validation(seed, stage)
    if log is None:
        return None
    return Run(arm, log) if validation is None else Run(arm, log, validation)


def draw_depth(evidence: MesaEvidence, domain: str, folder: Path) -> StudyFigure:
    """Draw depth and error, or edges where they are known, that the first seed's fine-tuned networks predict.

    Returns:
        Without files where predictions were not kept or their images no longer exist.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    seed, stem = evidence.seeds[0], f"depth_{domain}"
    caption = (
        f"Depth {DOMAINS[domain]}: image, truth, and each network fine-tuned (as the paper's Figures 3, 4, 6 and 7). "
        f"Seed {seed}; the images are those at the sixths of the list."
    )
    folders = {arm.name: evidence.predictions(seed, arm.tuned, domain) for arm in ROOMS}
    available = {name: path for name, path in folders.items() if path is not None}
    missing = [name for name in folders if name not in available]
    scores = [evidence.scores(seed, arm.tuned, domain) for arm in ROOMS if arm.name in available]
    scored = next((table for table in scores if table is not None), None)
    if scored is None:
        return StudyFigure(stem, caption, (), missing)
    names = list(scored.table.index)
    try:
        dataset = open_dataset(scored.data["source"])
    except DataError:
        return StudyFigure(stem, f"{caption} Not drawn: the images are no longer at their path.", (), missing)
    rows = depth_rows(dataset, [names[int(len(names) * position)] for position in SHOWN], available)
    parts = ("depth", "edges") if all(row.edges for row in rows) else ("depth", "error")
    return StudyFigure(stem, caption, save(DepthPanel(rows, parts), figure_paths(folder / stem), dpi=DPI), missing)


def depth_rows(dataset: Dataset, names: Sequence[str], folders: Mapping[str, Path]) -> list[DepthRow]:
    """Return images with their true and predicted depth.

    Args:
        dataset: What was scored.
        names: Of the images.
        folders: Of predictions, by the name of the arm.

    Returns:
        With edges where the dataset has true ones.

    Raises:
        DataError: An image or a prediction is missing.
    """
    indices = {dataset.describe(index): index for index in range(len(dataset))}
    rows = []
    for name in dict.fromkeys(names):
        if name not in indices:
            raise DataError(f"expected the image {name!r} that was scored, found none of that name; score again")
        sample = dataset[indices[name]]
        predictions = {arm: read_prediction(folder, name) for arm, folder in folders.items()}
        edges = None
        if "edges" in sample:
            edges = {"truth": sample["edges"][0].numpy()}
            edges |= {arm: predicted_edges(depth) for arm, depth in predictions.items()}
        image = np.rint(sample["image"].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        rows.append(DepthRow(name, image, sample["depth"][0].numpy(), predictions, edges))
    return rows
