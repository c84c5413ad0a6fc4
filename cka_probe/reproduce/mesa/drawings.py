"""The figures of a study: which matrices stand side by side in each, and what its caption says.

The paper's Figures 2, 5, 8, 9 and 10 are grids of matrices: networks against themselves, read along the top row
(2 left, 8, 9), and before against after fine-tuning, read along the diagonal (2 right, 5, 10). Each seed has grids
of its own, as a mean of matrices is the matrix of no network; the page shows the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cka_probe.figures.layer_grid import LayerGrid, save_layer_grid
from cka_probe.reproduce.mesa.arms import OBJECTS, ROOMS, Arm
from cka_probe.reproduce.mesa.evidence import Evidence

SUFFIXES = ("png", "pdf")


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
    """

    caption: str
    emphasis: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Drawn:
    """A figure that was drawn, or not.

    Attributes:
        stem: Name of its files.
        caption: What it shows.
        paths: Its files, the picture for a page first; none if there was nothing to draw.
        missing: What of it was not run.
    """

    stem: str
    caption: str
    paths: Sequence[Path] = ()
    missing: Sequence[str] = ()


def _alone(arms: Sequence[Arm]) -> list[Panel]:
    return [Panel(arm.name, arm.pre, arm.pre) for arm in arms]


def _tuned(arms: Sequence[Arm]) -> list[Panel]:
    return [Panel(arm.name, arm.pre, arm.tuned) for arm in arms]


MP = ("mp", "mp_depth")

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
    ),
    "diagonal_objects": Grid(
        "Pre-training on rooms and on objects, before and after fine-tuning; the diagonal is read.",
        "diagonal",
        _tuned((ROOMS[0], *OBJECTS)),
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
    ),
    "controls_diagonal": Grid(
        "What of the change in fine-tuning is due to how it was tuned and measured: MP in other ways; the diagonal is "
        "read.",
        "diagonal",
        [
            Panel("as the paper", *MP),
            Panel("one learning rate", "mp", "mp_depth_flat"),
            Panel("pooled", *MP, "pooled"),
            Panel("biased", *MP, "biased"),
            Panel("stream", *MP, "stream"),
            Panel("plain input, own", "mp", "mp_depth_plain"),
            Panel("plain input, fed alike", "mp", "mp_depth_plain", "shared"),
        ],
    ),
}
"""Figures of matrices by stem."""


def draw_grids(evidence: Evidence, folder: Path) -> list[Drawn]:
    """Draw every figure of matrices: the first seed's as <stem>, another's as <stem>_seed<k>.

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
        for stem in GRIDS:
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
    if results:
        whole = LayerGrid(results, titles, emphasis=grid.emphasis, spread=True)
        paths = save_layer_grid(whole, [path.with_name(f"{path.name}.{suffix}") for suffix in SUFFIXES])
    return Drawn(stem, grid.caption, paths, missing)
