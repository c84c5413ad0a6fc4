"""The figures of a study: which matrices stand side by side in each, and what its caption says.

The paper's Figures 2, 5, 8, 9 and 10 are grids of matrices: networks against themselves, read along the top row
(2 left, 8, 9), and before against after fine-tuning, read along the diagonal (2 right, 5, 10). Each seed has grids
of its own, as a mean of matrices is the matrix of no network; the page shows the first. Scores, claims and learning
curves show all seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cka_probe.papers.claims import TestedClaim, controlled
from cka_probe.papers.drawn import Drawn, files_of
from cka_probe.papers.mesa.arms import BASELINES, CONTROLS, OBJECTS, ROOMS, Arm
from cka_probe.papers.mesa.evidence import Evidence
from cka_probe.plotting.claims import save_claims
from cka_probe.plotting.curves import Curves, Run, save_curves
from cka_probe.plotting.layer_grid import LayerGrid, save_layer_grid
from cka_probe.plotting.score_panels import save_score_panels


@dataclass(frozen=True)
class Panel:
    """One matrix of a grid.

    Attributes:
        title: Above it.
        x: Stage on the rows.
        y: Stage on the columns.
        variant: How the similarity was taken.
    """

    title: str
    x: str
    y: str
    variant: str = "paper"


@dataclass(frozen=True)
class Grid:
    """A figure of matrices side by side.

    Attributes:
        caption: What it shows, and of which figures of the paper it is the like.
        emphasis: "row" or "diagonal": what is read.
        panels: In order; those that were not run are left out, and said to be.
        beside: The first panel is only what the others are held against; alone it makes no figure.
    """

    caption: str
    emphasis: str
    panels: Sequence[Panel]
    beside: bool = False


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
        beside=True,
    ),
    "diagonal_objects": Grid(
        "Pre-training on rooms and on objects, before and after fine-tuning; the diagonal is read.",
        "diagonal",
        _tuned((ROOMS[0], *OBJECTS)),
        beside=True,
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
        beside=True,
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
        beside=True,
    ),
}
"""Figures of matrices by stem."""

EVERY_SEED = ("top_row", "diagonal")
"""Those that are drawn for every seed; the numbers of all are in the tables."""


CURVES = {
    "curves_masked": ("Masked pre-training (MP).", {arm.name: arm.pre for arm in (ROOMS[0], OBJECTS[0])}),
    "curves_gp": ("Geometric pre-training (GP).", {arm.name: arm.pre for arm in (ROOMS[1], OBJECTS[1])}),
    "curves_sp": ("Supervised pre-training (SP).", {arm.name: arm.pre for arm in (ROOMS[2], OBJECTS[2])}),
    "curves_depth": ("Fine-tuning for depth.", {arm.name: arm.tuned for arm in (*ROOMS, BASELINES[1])}),
    "curves_depth_others": (
        "Fine-tuning for depth: pre-trained on objects, and the controls.",
        {arm.name: arm.tuned for arm in (OBJECTS[0], BASELINES[0], *CONTROLS)},
    ),
}
"""Learning curves by stem: the caption, and the stage of each arm."""


SCORES = {
    "scores_in": ("table_1", "Scores in distribution (Table 1); the paper's are over its own images."),
    "scores_out": ("table_2", "Scores out of distribution (Table 2); the paper's are over its own images."),
}
"""Images of tables by stem: the table, and the caption."""


def draw_figures(
    evidence: Evidence, rows: Sequence[TestedClaim], tables: Mapping[str, pd.DataFrame], folder: Path
) -> list[Drawn]:
    """Draw every figure of the page.

    Args:
        evidence: The study.
        rows: Its claims, judged.
        tables: `summaries.score_rows` by the names in `SCORES`.
        folder: For the files.

    Returns:
        Figures in the order of the page; one of which nothing was run has no files.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    forests = {
        "claims": ("The claims, each with its interval.", [row for row in rows if not row.claim.of]),
        "controls": ("Claims and, below each, its controls.", controlled(rows)),
    }
    drawn = [Drawn(stem, text, save_claims(kept, files_of(folder / stem))) for stem, (text, kept) in forests.items()]
    for stem, (name, caption) in SCORES.items():
        there = tables[name].groupby("arm")["value"].transform(lambda values: values.notna().any())
        missing = list(tables[name]["arm"][~there].unique())
        paths = save_score_panels(tables[name][there], files_of(folder / stem)) if there.any() else []
        drawn.append(Drawn(stem, caption, paths, missing))
    return [*drawn, *draw_grids(evidence, folder), *draw_curves(evidence, folder)]


def draw_grids(evidence: Evidence, folder: Path) -> list[Drawn]:
    """Draw every figure of matrices of the first seed, and of the other seeds (<stem>_seed<k>) the paper's own.

    Args:
        evidence: The study.
        folder: For the files.

    Returns:
        The first seed's, in the order of `GRIDS`; one that has no matrix at all has no files.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    first, *others = evidence.seeds
    for seed in others:
        for stem in EVERY_SEED:
            _draw_grid(evidence, seed, stem, folder / f"{stem}_seed{seed}")
    return [_draw_grid(evidence, first, stem, folder / stem) for stem in GRIDS]


def _draw_grid(evidence: Evidence, seed: int, stem: str, path: Path) -> Drawn:
    """Draw those matrices of a grid that there are; `path` has no suffix."""
    grid, results, titles, missing = GRIDS[stem], [], [], []
    for panel in grid.panels:
        matrix = evidence.similarity(seed, panel.x, panel.y, panel.variant)
        if matrix is None:
            missing.append(panel.title)
        else:
            results.append(matrix)
            titles.append(panel.title)
    paths = []
    if results and not (grid.beside and titles == [grid.panels[0].title]):
        whole = LayerGrid(results, titles, emphasis=grid.emphasis, spread=True)
        paths = save_layer_grid(whole, files_of(path))
    return Drawn(stem, grid.caption, paths, missing)


def draw_curves(evidence: Evidence, folder: Path) -> list[Drawn]:
    """Draw the learning curves of every stage that was run, all its arms and seeds on the same axes."""
    drawn = []
    for stem, (caption, stages) in CURVES.items():
        runs, missing = [], []
        for arm, stage in stages.items():
            found = [_run(evidence, seed, stage, arm) for seed in evidence.seeds]
            runs += [run for run in found if run is not None]
            missing += [arm] if not any(found) else []
        paths = save_curves(Curves(runs), files_of(folder / stem)) if runs else []
        drawn.append(Drawn(stem, caption, paths, missing))
    return drawn


def _run(evidence: Evidence, seed: int, stage: str, arm: str) -> Run | None:
    log, validation = evidence.log(seed, stage), evidence.validation(seed, stage)
    if log is None:
        return None
    return Run(arm, log) if validation is None else Run(arm, log, validation)
