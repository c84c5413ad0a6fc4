"""The tables and figures of a study of MeSa.

A table has one row per number, with its interval: over seeds where there are several, over images where there is one.

The paper's Figures 2, 5, 8, 9 and 10 are grids of matrices: networks against themselves, read along the top row
(2 left, 8, 9), and before against after fine-tuning, read along the diagonal (2 right, 5, 10). Each seed has its own
grids, because a mean of matrices is the matrix of no network; the page shows the first. Its Figures 3, 4, 6 and 7 show
predicted depth, here of the images at the sixths of the list of what was scored, which are not chosen by how they look.
Scores, claims and learning curves show all seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.errors import DataError
from cka_probe.images.datasets import Dataset
from cka_probe.lab.evaluation.ibims1_errors import predicted_edges
from cka_probe.lab.evaluation.predictions import read_prediction
from cka_probe.lab.evaluation.scores import describe_measure
from cka_probe.papers.claims import TestedClaim, judge, with_controls
from cka_probe.papers.evidence import Estimate
from cka_probe.papers.figures import FigureWriter, StudyFigure
from cka_probe.papers.mesa.claims import mean_score
from cka_probe.papers.mesa.evidence import DOMAINS, MesaEvidence
from cka_probe.papers.mesa.study import ARMS, BASELINES, CONTROL_ARMS, OBJECTS, ROOMS, Arm
from cka_probe.papers.tables import layer_rows, layer_texts, read_published, score_row, score_texts
from cka_probe.plotting.predictions import DepthPanel, DepthRow

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
class Grid:
    """A figure of matrices side by side.

    Attributes:
        caption: What it shows, and the figures of the paper that it corresponds to.
        emphasis: "row" or "diagonal": what is read.
        pairs: Stages on the rows and on the columns, and the variant if it is not the paper's, by the title above; the
            ones that were not run are left out and listed.
        reference: Title of the matrix that the others are compared with; alone it makes no figure.
    """

    caption: str
    emphasis: str
    pairs: Mapping[str, tuple[str, ...]]
    reference: str = ""


MP, TUNED = ("mp", "mp"), ("mp", "mp_depth")

GRIDS = {
    "top_row": Grid(
        "Pre-trained networks against themselves (as the paper's Figures 2 left, 8 and 9); the top row is read.",
        "row",
        {arm.name: (arm.pre, arm.pre) for arm in ROOMS},
    ),
    "diagonal": Grid(
        "Networks before (down) and after (across) fine-tuning (as Figures 2 right, 5 and 10); the diagonal is read.",
        "diagonal",
        {arm.name: (arm.pre, arm.tuned) for arm in ROOMS},
    ),
    "top_row_objects": Grid(
        "Masked pre-training on rooms and on objects, each network against itself; the top row is read.",
        "row",
        {arm.name: (arm.pre, arm.pre) for arm in (ROOMS[0], *OBJECTS)},
        reference=ROOMS[0].name,
    ),
    "diagonal_objects": Grid(
        "Pre-training on rooms and on objects, before and after fine-tuning; the diagonal is read.",
        "diagonal",
        {arm.name: (arm.pre, arm.tuned) for arm in (ROOMS[0], *OBJECTS)},
        reference=ROOMS[0].name,
    ),
    "controls_row": Grid(
        "What of the U is due to the layers: MP's residual stream, and the untrained network; the top row is read.",
        "row",
        {
            "MP": MP,
            "MP, stream": (*MP, "stream"),
            "untrained": ("random", "random"),
            "untrained, stream": ("random", "random", "stream"),
        },
        reference="MP",
    ),
    "controls_diagonal": Grid(
        "What of the change in fine-tuning is due to how it was tuned and measured: MP in other ways; the diagonal is "
        "read.",
        "diagonal",
        {
            "as the paper": TUNED,
            "one learning rate": ("mp", "mp_depth_flat"),
            "pooled": (*TUNED, "pooled"),
            "biased": (*TUNED, "biased"),
            "stream": (*TUNED, "stream"),
            "plain input, own": ("mp", "mp_depth_plain"),
            "plain input, fed alike": ("mp", "mp_depth_plain", "shared"),
        },
        reference="as the paper",
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


def all_tables(evidence: MesaEvidence) -> dict[str, pd.DataFrame]:
    """Return the tables of a study by name, with every number as it was computed."""
    return {
        "table_1": score_rows(evidence, "in", (*ARMS, *CONTROL_ARMS)),
        "table_2": score_rows(evidence, "out", (*ARMS, *CONTROL_ARMS)),
        "pretrained": score_rows(evidence, "in", PRETRAINED),
        "videos": video_rows(evidence, PRETRAINED),
        "layers": similarity_rows(evidence),
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
            labels, measure = {"arm": arm.name, "stage": arm.tuned}, describe_measure(name)
            number = PUBLISHED.get((domain, arm.tuned, name))
            rows.append(score_row(labels, name, finding, unit=measure.unit, better=measure.better, published=number))
    return pd.DataFrame(rows)


def video_rows(evidence: MesaEvidence, arms: Sequence[Arm]) -> pd.DataFrame:
    """Return rows as `score_rows`, of `VIDEO_MEASURES` on held-out videos at the end of the stage `arm.tuned`."""
    rows = []
    for arm in arms:
        logs = {seed: evidence.curves(seed, arm.tuned)[1] for seed in evidence.seeds}
        for name in VIDEO_MEASURES:
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


def draw_figures(
    evidence: MesaEvidence, rows: Sequence[TestedClaim], tables: Mapping[str, pd.DataFrame], draw: FigureWriter
) -> list[StudyFigure]:
    """Draw every figure of the page, and the paper's own grids of every other seed as <stem>_seed<k>."""
    first, *others = evidence.seeds
    for seed in others:
        for stem in EVERY_SEED:
            draw_grid(evidence, seed, stem, draw, suffix=f"_seed{seed}")
    return [
        draw.claims("claims", "The claims, each with its interval.", [row for row in rows if not row.of]),
        draw.claims("controls", "Claims and, below each, its controls.", with_controls(rows)),
        *(draw.scores(stem, caption, tables[name]) for stem, (name, caption) in SCORES.items()),
        *(draw_grid(evidence, first, stem, draw) for stem in GRIDS),
        *(
            draw.curves(
                stem,
                caption,
                {arm: [evidence.curves(seed, stage) for seed in evidence.seeds] for arm, stage in stages.items()},
            )
            for stem, (caption, stages) in CURVES.items()
        ),
        *(draw_depth(evidence, domain, draw) for domain in DOMAINS),
    ]


def draw_grid(evidence: MesaEvidence, seed: int, stem: str, draw: FigureWriter, suffix: str = "") -> StudyFigure:
    """Draw the matrices of a grid of one seed that were computed."""
    grid = GRIDS[stem]
    matrices = {title: evidence.similarity(seed, *pair) for title, pair in grid.pairs.items()}
    return draw.grid(stem + suffix, grid.caption, matrices, grid.emphasis, reference=grid.reference)


def draw_depth(evidence: MesaEvidence, domain: str, draw: FigureWriter) -> StudyFigure:
    """Draw depth that the first seed's fine-tuned networks predict; without files where predictions were not kept."""
    seed = evidence.seeds[0]
    caption = (
        f"Depth {DOMAINS[domain]}: image, truth, and each network fine-tuned (as the paper's Figures 3, 4, 6 and 7). "
        f"Seed {seed}; the images are those at the sixths of the list."
    )
    folders = {arm.name: evidence.predictions(seed, arm.tuned, domain) for arm in ROOMS}
    tables = [evidence.scores(seed, arm.tuned, domain) for arm in ROOMS if folders[arm.name] is not None]
    scored = next(((each.data["source"], list(each.table.index)) for each in tables if each is not None), None)
    return draw.predictions(f"depth_{domain}", caption, folders, scored, _depth_panel)


def _depth_panel(dataset: Dataset, names: Sequence[str], folders: Mapping[str, Path]) -> DepthPanel:
    rows = depth_rows(dataset, names, folders)
    return DepthPanel(rows, ("depth", "edges") if all(row.edges for row in rows) else ("depth", "error"))


def depth_rows(dataset: Dataset, names: Sequence[str], folders: Mapping[str, Path]) -> list[DepthRow]:
    """Return images by name with their true and predicted depth (folders by arm), and edges where the truth has some.

    Raises:
        DataError: An image or a prediction is missing.
    """
    indices = {dataset.describe(index): index for index in range(len(dataset))}
    rows = []
    for name in names:
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
