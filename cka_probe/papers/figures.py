"""The figures of studies: what both papers draw, each written as an image for the page and as a PDF.

Every method of `FigureWriter` takes data that may be missing: what was not run is listed, and a figure of which nothing
was run has no files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.saved_maps import load_maps, panel_of
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES
from cka_probe.images.datasets import Dataset, open_dataset
from cka_probe.lab.evaluation.ibims1_errors import predicted_edges
from cka_probe.lab.evaluation.predictions import label_rows, read_prediction
from cka_probe.papers.claims import TestedClaim
from cka_probe.plotting import Figure, save
from cka_probe.plotting.arm_maps import ArmMaps
from cka_probe.plotting.claims import Claims
from cka_probe.plotting.curves import Curves
from cka_probe.plotting.depth_panel import DepthPanel, DepthRow
from cka_probe.plotting.image_grid import DPI
from cka_probe.plotting.label_panel import LabelPanel
from cka_probe.plotting.layer_divergence import LayerDivergence, Pair
from cka_probe.plotting.layer_grid import LayerGrid
from cka_probe.plotting.runs import Run
from cka_probe.plotting.scatter import Point, Scatter
from cka_probe.plotting.score_panels import ScorePanels
from cka_probe.plotting.size_curve import SizeCurve, SizedArm

SUFFIXES = ("png", "pdf")

POSITIONS = (1 / 6, 1 / 2, 5 / 6)
"""Positions in the list of images of those that are shown; images are not chosen by how they look."""


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


@dataclass(frozen=True)
class FigureWriter:
    """Draws the figures of a study into a folder.

    Attributes:
        folder: For the files.
    """

    folder: Path

    def _save(self, stem: str, figure: Figure, dpi: int | None = None) -> list[Path]:
        return save(figure, [self.folder / f"{stem}.{suffix}" for suffix in SUFFIXES], dpi=dpi)

    def claims(self, stem: str, caption: str, rows: Sequence[TestedClaim]) -> StudyFigure:
        """Draw claims with their intervals."""
        return StudyFigure(stem, caption, self._save(stem, Claims(rows)))

    def scores(
        self, stem: str, caption: str, table: pd.DataFrame, labels: Mapping[str, str] | None = None
    ) -> StudyFigure:
        """Draw a table of scores, a panel for each measure.

        Args:
            stem: Name of the files.
            caption: What is shown.
            table: As `tables.score_row`.
            labels: Label of each measure that is drawn, and only if some arm has it; all measures by default.
        """
        scored = table.groupby("arm")["value"].transform(lambda values: values.notna().any())
        missing = list(table["arm"][~scored].unique())
        drawn = table[scored]
        if labels is not None:
            complete = table.groupby("measure")["value"].transform(lambda values: values.notna().any())
            drawn = table[scored & complete & table["measure"].isin(labels)]
            drawn = drawn.assign(measure=drawn["measure"].map(labels))
        return StudyFigure(stem, caption, self._save(stem, ScorePanels(drawn)) if len(drawn) else [], missing)

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
        available = [run for arm in runs.values() for run in arm]
        if measures is not None:
            options["measures"] = [name for name in measures if any(name in run.validation for run in available)]
        paths = self._save(stem, Curves(available, **options)) if available else []
        return StudyFigure(stem, caption, paths, [arm for arm in runs if not runs[arm]])

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
        available = {title: matrix for title, matrix in matrices.items() if matrix is not None}
        missing = [title for title in matrices if title not in available and title not in optional]
        if not available or list(available) == [reference]:
            return StudyFigure(stem, caption, (), missing)
        grid = LayerGrid(list(available.values()), list(available), emphasis=emphasis, rms=True)
        return StudyFigure(stem, caption, self._save(stem, grid), missing)

    def arm_maps(
        self, stem: str, caption: str, labels: Mapping[str, str], profiles: Mapping[tuple[str, str, str], Any]
    ) -> StudyFigure:
        """Draw every arm against every other, layer by layer.

        Args:
            stem: Name of the files.
            caption: What is shown.
            labels: Label of each arm.
            profiles: Similarity matrix or `None` by (x, y, "before", "after" or "self"); the diagonals are drawn.
        """
        available = {key: matrix for key, matrix in profiles.items() if matrix is not None}
        compared = {arm for x, y, when in available if when == "before" for arm in (x, y)}
        missing = [label for arm, label in labels.items() if arm not in compared]
        parts = [
            pd.DataFrame(
                {"x": x, "y": y, "when": when, "index": range(len(matrix.rows))}
                | {"layer": [axis.name for axis in matrix.rows], "value": matrix.values.diagonal()}
            )
            for (x, y, when), matrix in available.items()
            if x in compared and y in compared
        ]
        if not compared:
            return StudyFigure(stem, caption, (), missing)
        maps = ArmMaps(pd.concat(parts), {arm: label for arm, label in labels.items() if arm in compared})
        return StudyFigure(stem, caption, self._save(stem, maps), missing)

    def divergence(
        self, stem: str, caption: str, pairs: Mapping[str, Mapping[str, SimilarityMatrix | None]]
    ) -> StudyFigure:
        """Draw at which layers some pairs of arms diverge; each pair has one matrix or more by name."""
        profiles = {
            title: {name: matrix for name, matrix in matrices.items() if matrix is not None}
            for title, matrices in pairs.items()
        }
        drawn = [Pair(title, matrices) for title, matrices in profiles.items() if matrices]
        missing = [title for title, matrices in profiles.items() if not matrices]
        return StudyFigure(stem, caption, self._save(stem, LayerDivergence(drawn)) if drawn else [], missing)

    def sizes(
        self, stem: str, caption: str, arms: Mapping[str, Mapping[int, tuple[float, ...]]], label: str
    ) -> StudyFigure:
        """Draw scores (value, low, high) of each arm against the number of training images; one number is no curve."""
        drawn = [
            SizedArm(arm, list(scores), *zip(*scores.values(), strict=True))
            for arm, scores in arms.items()
            if len(scores) > 1
        ]
        missing = [arm for arm, scores in arms.items() if len(scores) < 2]
        return StudyFigure(stem, caption, self._save(stem, SizeCurve(drawn, label)) if drawn else [], missing)

    def scatter(
        self, stem: str, caption: str, points: Sequence[tuple[str, Any, Any]], labels: tuple[str, str]
    ) -> StudyFigure:
        """Draw two scores of each arm, x and y, each (value, low, high), against each other."""
        finite = [bool(np.isfinite([x[0], y[0]]).all()) for _, x, y in points]
        drawn = [
            Point(arm, x[0], y[0], tuple(x[1:]), tuple(y[1:]))
            for (arm, x, y), known in zip(points, finite, strict=True)
            if known
        ]
        missing = [arm for (arm, *_), known in zip(points, finite, strict=True) if not known]
        paths = self._save(stem, Scatter(drawn, *labels)) if drawn else []
        return StudyFigure(stem, caption, paths, missing)

    def depth(
        self, stem: str, caption: str, folders: Mapping[str, Path | None], source: str, names: Sequence[str]
    ) -> StudyFigure:
        """Draw depth and error, or edges where they are known, that networks predict of the images at `POSITIONS`.

        Args:
            stem: Name of the files.
            caption: What is shown.
            folders: Of the predictions of each arm.
            source: What was scored, as `open_dataset` takes it; "" if nothing was.
            names: Of all images that were scored.
        """
        return self._predictions(stem, caption, folders, source, names, self._depth_panel)

    def segments(
        self, stem: str, caption: str, folders: Mapping[str, Path | None], source: str, names: Sequence[str]
    ) -> StudyFigure:
        """Draw the labels that networks predict; arguments as of `depth`."""
        return self._predictions(stem, caption, folders, source, names, self._label_panel)

    def _predictions(
        self,
        stem: str,
        caption: str,
        folders: Mapping[str, Path | None],
        source: str,
        names: Sequence[str],
        panel: Callable[[Dataset, Sequence[str], Mapping[str, Path]], Figure],
    ) -> StudyFigure:
        """Draw predictions; without files where they were not kept or their images no longer exist."""
        available = {arm: path for arm, path in folders.items() if path is not None}
        missing = [arm for arm in folders if arm not in available]
        if not available or not source:
            return StudyFigure(stem, caption, (), missing)
        try:
            dataset = open_dataset(source)
        except DataError:
            return StudyFigure(stem, f"{caption} Not drawn: the images are no longer at their path.", (), missing)
        selected = list(dict.fromkeys(names[int(len(names) * position)] for position in POSITIONS))
        return StudyFigure(stem, caption, self._save(stem, panel(dataset, selected, available), DPI), missing)

    @staticmethod
    def _depth_panel(dataset: Dataset, names: Sequence[str], folders: Mapping[str, Path]) -> DepthPanel:
        rows = depth_rows(dataset, names, folders)
        parts = ("depth", "edges") if all(row.edges for row in rows) else ("depth", "error")
        return DepthPanel(rows, parts)

    @staticmethod
    def _label_panel(dataset: Dataset, names: Sequence[str], folders: Mapping[str, Path]) -> LabelPanel:
        return label_rows(dataset, folders, names, ("labels",))

    def grad_cam(
        self, stem: str, caption: str, result: Attributions | None, maps: Mapping[str, Path], labels: Mapping[str, str]
    ) -> StudyFigure:
        """Draw Grad-CAM maps.

        Args:
            stem: Name of the files.
            caption: What is shown.
            result: The numbers of the maps, or `None`.
            maps: Files of the maps by model.
            labels: Label of each model that the figure may have.
        """
        models = [] if result is None else [model for model in labels if model in result.models]
        missing = [label for model, label in labels.items() if model not in models]
        if result is None or not models:
            return StudyFigure(stem, caption, (), missing)
        if unknown := [model for model in result.models if model not in labels]:
            raise DataError(
                f"expected maps of {', '.join(labels)}, found {', '.join(unknown)}; delete the seed's gradcam"
            )
        renamed = replace(
            result,
            table=result.table.replace({"checkpoint": dict(labels)}),
            models={labels[model]: facts for model, facts in result.models.items()},
        )
        columns = {labels[model]: load_maps(maps[model]) for model in models}
        panel = panel_of(renamed, columns, CITYSCAPES, signed=True)
        return StudyFigure(stem, caption, self._save(stem, panel, DPI), missing)


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
