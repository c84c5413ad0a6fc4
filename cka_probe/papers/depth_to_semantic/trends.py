"""Figures of several tables at once: mIoU against the number of training images, and against pixel accuracy.

The paper's Figure 3 and the scatter among its Figures 9 to 11.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cka_probe.papers.depth_to_semantic.cases import ARMS, TABLES, Case
from cka_probe.papers.depth_to_semantic.evidence import Evidence
from cka_probe.papers.drawn import Drawn, files_of
from cka_probe.plotting.scatter import Point, Scatter, save_scatter
from cka_probe.plotting.size_curve import SizeCurve, SizedArm, save_size_curve

MIOU, ACCURACY = "mIoU of 7 classes (%)", "pixel accuracy (%)"
SPREAD = ("value", "low", "high")
POINTS_OF = ("table1", "table2", "table4")
"""Tables of which every fully fine-tuned case is a point."""


def draw_trends(evidence: Evidence, tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Drawn]:
    """Draw both figures.

    Args:
        evidence: The study.
        tables: `summaries.case_rows` by table.
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


def _draw_sizes(evidence: Evidence, cells: Mapping[tuple[str, str], tuple], folder: Path) -> Drawn:
    stem, caption = "sizes", "mIoU against the number of training images (as Figure 3)."
    arms, missing = [], []
    for arm in dict.fromkeys(case.arm for case in TABLES["figure3"]):
        cases = [Case(arm), *(case for case in TABLES["figure3"] if case.arm == arm)]
        found = {evidence.num(case): cells[case.name, "miou_subset"] for case in cases}
        found = {num: found[num] for num in sorted(filter(None, found)) if math.isfinite(found[num][0])}
        if len(found) > 1:
            arms.append(SizedArm(ARMS[arm], list(found), *zip(*found.values(), strict=True)))
        else:
            missing.append(ARMS[arm])
    paths = save_size_curve(SizeCurve(arms, MIOU), files_of(folder / stem)) if arms else []
    return Drawn(stem, caption, paths, missing)


def _draw_scatter(cells: Mapping[tuple[str, str], tuple], folder: Path) -> Drawn:
    stem, caption = "scatter", "Everything fine-tuned: mIoU against pixel accuracy, an arm a point (as Figure 11)."
    points, missing = [], []
    for case in dict.fromkeys(case for name in POINTS_OF for case in TABLES[name] if case.mode == "all"):
        (x, *x_ends), (y, *y_ends) = cells[case.name, "accuracy"], cells[case.name, "miou_subset"]
        if math.isfinite(x) and math.isfinite(y):
            points.append(Point(ARMS[case.arm], x, y, tuple(x_ends), tuple(y_ends)))
        else:
            missing.append(ARMS[case.arm])
    paths = save_scatter(Scatter(points, ACCURACY, MIOU), files_of(folder / stem)) if points else []
    return Drawn(stem, caption, paths, missing)
