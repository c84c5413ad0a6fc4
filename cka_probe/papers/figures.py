"""The figures of studies: what both papers draw, each written as an image for the page and as a PDF.

Methods of `FigureWriter` take data that may be missing: what was not run is listed, and a figure of which nothing was
run has no files.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.images.datasets import Dataset, open_dataset
from cka_probe.papers.claims import TestedClaim
from cka_probe.plotting import Figure, save
from cka_probe.plotting.claims import Claim, Claims
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
    """A figure of the page.

    Attributes:
        stem: Name of its files.
        caption: What it shows.
        paths: Its files, the image for the page first; none if there was nothing to draw.
        missing: What of it was not run.
    """

    stem: str
    caption: str
    paths: Sequence[Path] = ()
    missing: Sequence[str] = ()


def split_missing(parts: Mapping[str, T | None]) -> tuple[dict[str, T], list[str]]:
    """Return the parts that exist, and the names of the others.

    >>> split_missing({"a": 1, "b": None})
    ({'a': 1}, ['b'])
    """
    available = {name: part for name, part in parts.items() if part is not None}
    return available, [name for name in parts if name not in available]


@dataclass(frozen=True)
class FigureWriter:
    """Draws the figures of a study into a folder. Every method takes the stem of the files and a caption.

    Attributes:
        folder: For the files.
    """

    folder: Path

    def draw(
        self, stem: str, caption: str, figure: Figure | None, missing: Sequence[str] = (), dpi: int | None = None
    ) -> StudyFigure:
        """Draw a figure, or write no files where there is none."""
        paths = [self.folder / f"{stem}.{suffix}" for suffix in SUFFIXES]
        return StudyFigure(stem, caption, save(figure, paths, dpi=dpi) if figure else (), missing)

    def claims(self, stem: str, caption: str, rows: Sequence[TestedClaim]) -> StudyFigure:
        """Draw claims with their intervals."""
        fields = [field.name for field in dataclasses.fields(Claim)]
        claims = [Claim(**{name: getattr(row, name) for name in fields}) for row in rows]
        return self.draw(stem, caption, Claims(claims))

    def scores(
        self, stem: str, caption: str, table: pd.DataFrame, labels: Mapping[str, str] | None = None
    ) -> StudyFigure:
        """Draw a table of scores (`tables.score_row`), a panel for each measure.

        Args:
            stem: Name of the files.
            caption: What is shown.
            table: The scores.
            labels: Label of each measure that is drawn, and only if some arm has it; all measures by default.
        """
        scored = table.groupby("arm")["value"].transform(lambda values: values.notna().any())
        rows = table[scored]
        if labels is not None:
            measured = table.groupby("measure")["value"].transform(lambda values: values.notna().any())
            rows = table[scored & measured & table["measure"].isin(labels)]
            rows = rows.assign(measure=rows["measure"].map(labels))
        missing = list(table["arm"][~scored].unique())
        return self.draw(stem, caption, ScorePanels(rows) if len(rows) else None, missing)

    def curves(
        self,
        stem: str,
        caption: str,
        logs: Mapping[str, Sequence[tuple[pd.DataFrame | None, pd.DataFrame | None]]],
        measures: Sequence[str] | None = None,
        **options: Any,
    ) -> StudyFigure:
        """Draw learning curves, all the runs of all arms on the same axes.

        Args:
            stem: Name of the files.
            caption: What is shown.
            logs: Training log and held-out measures of each run of each arm.
            measures: Held-out measures that are drawn where some run has them; by default all.
            options: Of `Curves`.
        """
        runs = {
            arm: [
                Run(arm, log) if validation is None else Run(arm, log, validation)
                for log, validation in pairs
                if log is not None and not log.empty
            ]
            for arm, pairs in logs.items()
        }
        every_run = [run for arm in runs.values() for run in arm]
        if measures is not None:
            options["measures"] = [name for name in measures if any(name in run.validation for run in every_run)]
        missing = [arm for arm in runs if not runs[arm]]
        return self.draw(stem, caption, Curves(every_run, **options) if every_run else None, missing)

    def grid(
        self, stem: str, caption: str, matrices: Mapping[str, SimilarityMatrix | None], emphasis: str, *,
        reference: str = "", optional: Sequence[str] = (),
    ) -> StudyFigure:  # fmt: skip
        """Draw similarity matrices next to each other.

        Args:
            stem: Name of the files.
            caption: What is shown.
            matrices: By title.
            emphasis: "row" or "diagonal": what is read.
            reference: Title of the matrix that the others are compared with; alone it makes no figure.
            optional: Titles that are not listed as missing.
        """
        available, missing = split_missing(matrices)
        grid = None
        if available and list(available) != [reference]:
            grid = LayerGrid(list(available.values()), list(available), emphasis=emphasis, rms=True)
        return self.draw(stem, caption, grid, [title for title in missing if title not in optional])

    def predictions(
        self,
        stem: str,
        caption: str,
        folders: Mapping[str, Path | None],
        scored: tuple[str, Sequence[str]] | None,
        panel: Callable[[Dataset, Sequence[str], Mapping[str, Path]], Figure],
    ) -> StudyFigure:
        """Draw predictions of the images at `POSITIONS`; without files where these no longer exist.

        Args:
            stem: Name of the files.
            caption: What is shown.
            folders: Of the predictions of each arm.
            scored: What was scored, as `open_dataset` takes it, and the names of its images; `None` if nothing was.
            panel: Returns the figure of some images, by name.
        """
        available, missing = split_missing(folders)
        if not available or scored is None:
            return self.draw(stem, caption, None, missing)
        source, names = scored
        try:
            dataset = open_dataset(source)
        except DataError:
            return self.draw(stem, f"{caption} Not drawn: the images are no longer at their path.", None, missing)
        selection = list(dict.fromkeys(names[int(len(names) * position)] for position in POSITIONS))
        return self.draw(stem, caption, panel(dataset, selection, available), missing, DPI)
