"""The figures of studies: what both papers draw, each written as an image for the page and as a PDF.

Methods of `FigureWriter` take data that may be missing: what was not run is listed, and a figure of which nothing was
run has no files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.images.datasets import Dataset, open_dataset
from cka_probe.lab.evaluation.detection_scores import DetectionScores
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.papers.claims import NOT_RUN, TestedClaim
from cka_probe.plotting import Figure, save
from cka_probe.plotting.claims import COLUMNS, Claims
from cka_probe.plotting.curves import Curves
from cka_probe.plotting.image_grid import DPI
from cka_probe.plotting.layer_grid import LayerGrid
from cka_probe.plotting.runs import Run
from cka_probe.plotting.scores import ScorePanels

T = TypeVar("T")

SUFFIXES = ("png", "pdf")

POSITIONS = (1 / 6, 1 / 2, 5 / 6)
"""Positions in the list of images of those that are shown; images are not selected by how they look."""


@dataclass(frozen=True)
class StudyFigure:
    """A figure of the page: its files, the image for the page first, and what of it was not run."""

    stem: str
    caption: str
    paths: Sequence[Path] = ()
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class FigureWriter:
    """Draws the figures of a study into a folder; a caption has the stem of its figure, or a name for several."""

    folder: Path
    captions: Mapping[str, str]

    def draw(
        self,
        stem: str,
        parts: Mapping[str, T | None],
        figure: Callable[[dict[str, T]], Figure | None],
        *,
        caption: str = "",
        dpi: int | None = None,
        **words: object,
    ) -> StudyFigure:
        """Draw the parts that exist, and list the others.

        Args:
            stem: Name of the files.
            parts: What is drawn, by label; `None` where it was not run.
            figure: Returns the figure of the parts that exist, or `None` if they make none.
            caption: Name of the caption, by default the stem.
            dpi: Of the image.
            words: For the braces of the caption.
        """
        available = {label: part for label, part in parts.items() if part is not None}
        drawn = figure(available) if available else None
        paths = [self.folder / f"{stem}.{ending}" for ending in SUFFIXES]
        files = save(drawn, paths, dpi=dpi) if drawn else ()
        missing = [label for label in parts if label not in available]
        return StudyFigure(stem, self.captions[caption or stem].format(**words), files, missing)

    def claims(self, stem: str, rows: Sequence[TestedClaim]) -> StudyFigure:
        """Draw the claims that were run with their intervals."""
        run = [row for row in rows if row.verdict != NOT_RUN]
        table = pd.DataFrame({name: [getattr(row, name) for row in run] for name in COLUMNS})
        return self.draw(stem, {"claims": run or None}, lambda _: Claims(table))

    def scores(
        self, stem: str, table: pd.DataFrame, labels: Mapping[str, str] | None = None, **options: Any
    ) -> StudyFigure:
        """Draw a table of scores (`tables.score_row`), a panel for each measure, or each in `labels` with a value."""
        arms = {arm: values.notna().any() or None for arm, values in table.groupby("arm", sort=False)["value"]}
        rows = table[table["arm"].map(arms).notna()]
        if labels is not None:
            measured = rows.groupby("measure")["value"].transform(lambda values: values.notna().any())
            rows = rows[measured & rows["measure"].isin(labels)]
            rows = rows.assign(measure=rows["measure"].map(labels))
        return self.draw(stem, arms, lambda _: ScorePanels(rows) if len(rows) else None, **options)

    def curves(
        self,
        stem: str,
        logs: Mapping[str, Sequence[tuple[pd.DataFrame | None, pd.DataFrame | None]]],
        measures: Sequence[str] | None = None,
        **options: Any,
    ) -> StudyFigure:
        """Draw learning curves, all the runs of all arms on the same axes.

        Args:
            stem: Name of the files.
            logs: Training log and held-out measures of each run of each arm.
            measures: Held-out measures that are drawn where some run has them; by default all.
            options: Of `Curves`.
        """
        arms = {
            arm: [
                Run(arm, log) if validation is None else Run(arm, log, validation)
                for log, validation in pairs
                if log is not None and not log.empty
            ]
            for arm, pairs in logs.items()
        }
        runs = [run for arm in arms.values() for run in arm]
        if measures is not None:
            options["measures"] = [name for name in measures if any(name in run.validation for run in runs)]
        return self.draw(
            stem, {arm: arm_runs or None for arm, arm_runs in arms.items()}, lambda _: Curves(runs, **options)
        )

    def grid(
        self,
        stem: str,
        matrices: Mapping[str, SimilarityMatrix | None],
        emphasis: str,
        reference: str = "",
        **options: Any,
    ) -> StudyFigure:
        """Draw similarity matrices, by title, next to each other; the "row" or "diagonal" is read.

        The matrix that the others are compared with, the reference, alone makes no figure.
        """

        def figure(available: Mapping[str, SimilarityMatrix]) -> Figure | None:
            titles = list(available)
            grid = LayerGrid(list(available.values()), titles, emphasis=emphasis, rms=True)
            return None if titles == [reference] else grid

        return self.draw(stem, matrices, figure, **options)

    def predictions(
        self,
        stem: str,
        arms: Mapping[str, tuple[Path | None, Scores | LabelScores | DetectionScores | None]],
        panel: Callable[[Dataset, Sequence[str], Mapping[str, Path]], Figure],
        **options: Any,
    ) -> StudyFigure:
        """Draw predictions of the images at `POSITIONS`; without files where these no longer exist.

        Args:
            stem: Name of the files.
            arms: Folder of the predictions, and scores of each arm.
            panel: Returns the figure of some images, by name.
            options: Of `draw`.
        """
        folders = {arm: folder for arm, (folder, _) in arms.items()}
        scored = next((scores for folder, scores in arms.values() if folder is not None and scores is not None), None)
        if scored is None:
            return self.draw(stem, folders, lambda _: None, **options)
        try:
            dataset = open_dataset(scored.data["source"])
        except DataError:
            undrawn = self.draw(stem, folders, lambda _: None, **options)
            return replace(undrawn, caption=f"{undrawn.caption} Not drawn: the images are no longer at their path.")
        names = list(scored.to_frame().index)
        selection = list(dict.fromkeys(names[int(len(names) * position)] for position in POSITIONS))
        return self.draw(stem, folders, lambda available: panel(dataset, selection, available), dpi=DPI, **options)
