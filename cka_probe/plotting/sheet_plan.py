"""What a contact sheet shows, and where it goes: columns, sizes and scales, before anything is drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cka_probe.errors import DataError
from cka_probe.plotting import colouring, labels, sheet_keys, style
from cka_probe.plotting.sheet_keys import Scales

WIDEST = 12.0  # inches, with letters in proportion: of 6 and 7 points on a page
PANEL = 1.15  # inches: a panel of 4:3 is not made narrower to have more samples beside each other
MARGIN, GAP, BETWEEN = 0.08, 0.04, 0.16  # at the border, between panels, between samples beside each other
TITLE, HEADER, CAPTION = 0.2, 0.15, 0.16  # heights of lines of text
MOST_SOURCES = 4
ROWS = 6

HEADERS = {
    "image": "image",
    "sources": "source",
    "depth": "depth",
    "pseudo_depth": "pseudo depth",
    "labels": "labels",
    "instances": "instances",
    "planes": "planes",
    "normals": "normals",
    "edges": "depth edges",
    "flow": "flow",
    "occluded": "occluded",
    "valid": "valid (white)",
}
"""The columns in their order."""


@dataclass(frozen=True)
class Shot:
    """One sample on the sheet.

    Attributes:
        name: What the dataset calls it.
        fields: Its fields as numpy arrays, as `cka_probe.images.sample` has them; those it lacks are hatched.
    """

    name: str
    fields: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sheet:
    """What a contact sheet shows.

    Attributes:
        title: The line above.
        shots: The samples, at least one.
        names: Of the classes in `labels`.
        colours: Of these, RGB in 0 … 255.
        categories: Names of the classes in `category`; without, their numbers are written.
    """

    title: str
    shots: Sequence[Shot]
    names: Sequence[str] = ()
    colours: Sequence[tuple[int, int, int]] = ()
    categories: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Plan:
    """Where things go at the designed size, in inches.

    Attributes:
        columns: (field, number of the source or 0, header) of each panel of a sample.
        beside: Samples beside each other.
        panel: Width of a panel.
        heights: Of the panels in each row.
        scales: What colours mean, shared by the sheet.
        size: Width and height of everything.
        unit: How much larger letters and gaps are than on a page.
        heads: Lines of the headers.
    """

    columns: list[tuple[str, int, str]]
    beside: int
    panel: float
    heights: list[float]
    scales: Scales
    size: tuple[float, float]
    unit: float
    heads: int

    def left(self, beside: int, number: int = 0) -> float:
        """Return where panel `number` of the sample at place `beside` begins."""
        step = self.panel + GAP * self.unit
        return MARGIN * self.unit + beside * (len(self.columns) * step + (BETWEEN - GAP) * self.unit) + number * step


def contact_sheet_size(sheet: Sheet, *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points on a page given; arguments as of `plan_sheet`."""
    return plan_sheet(sheet, page).size


def fitting(shot: Shot) -> int:
    """Return how many samples like this one make six rows."""
    columns, ratio = max(len(_columns([shot])), 1), ratio_of(shot)
    return ROWS * _beside(columns, ratio, style.PAGE)


def plan_sheet(sheet: Sheet, page: float = math.inf) -> Plan:
    """Return where everything goes.

    Args:
        sheet: What is drawn.
        page: Inches of a page, if it is narrower than 7.2; a sheet that is wider has larger letters.

    Raises:
        DataError: There is no shot, or none has a field that can be drawn.
    """
    columns = _columns(sheet.shots)
    if not columns:
        raise DataError(f"expected samples with one of {', '.join(HEADERS)} for a contact sheet, found none")
    ratios = [ratio_of(shot) for shot in sheet.shots]
    ratio = float(np.median(ratios))
    page = min(style.PAGE, page)
    beside = min(_beside(len(columns), ratio, page), len(sheet.shots) if len(columns) > 1 else 99)
    width = min(max(page, 0.9 * _least(len(columns), ratio)), WIDEST)
    unit = width / page
    block = (width - (2 * MARGIN + (beside - 1) * BETWEEN) * unit) / beside
    panel = (block - (len(columns) - 1) * GAP * unit) / len(columns)
    tallest = 1.0 if beside > 1 else 1.4  # one tall image would leave its neighbours in empty paper
    heights = [
        panel * min(max(1 / ratio for ratio in ratios[start : start + beside]), tallest)
        for start in range(0, len(ratios), beside)
    ]
    scales = _scales(sheet, {name for name, _, _ in columns})
    heads = max(len(head_lines(header, panel / unit)) for _, _, header in columns) if len(columns) > 1 else 0
    lines = MARGIN + TITLE + HEADER * heads + len(heights) * (CAPTION + GAP) + GAP + MARGIN
    keys = sheet_keys.height(scales, width - 2 * MARGIN * unit, unit)
    return Plan(columns, beside, panel, heights, scales, (width, sum(heights) + lines * unit + keys), unit, heads)


def head_lines(header: str, inches: float) -> list[str]:
    """Return the lines of a header above a panel of so many inches, letters of 6 points given."""
    room = 0.94 * inches * style.POINTS / 6
    return [labels.cut(line, room) for line in labels.filled(header.split(), room)]


def _least(columns: int, ratio: float) -> float:
    """Return the width in inches that a sample should have; wide images need more to be seen."""
    return columns * PANEL * max(1.0, ratio / (4 / 3)) ** 0.5


def _beside(columns: int, ratio: float, page: float) -> int:
    """Return how many samples have room beside each other on a page."""
    return max(1, int(page / _least(columns, ratio)))


def ratio_of(shot: Shot) -> float:
    """Return width by height of a shot's image; 4:3 where it has none."""
    shapes = [value.shape for name, value in shot.fields.items() if name in HEADERS]
    return shapes[0][-1] / shapes[0][-2] if shapes else 4 / 3


def _columns(shots: Sequence[Shot]) -> list[tuple[str, int, str]]:
    """Return the panels that at least one of the shots has."""
    columns = []
    for name, header in HEADERS.items():
        found = [shot.fields[name] for shot in shots if name in shot.fields]
        if name != "sources":
            columns += [(name, 0, header)] if found else []
            continue
        count = min(max((len(sources) for sources in found), default=0), MOST_SOURCES)
        columns += [(name, number, header if count == 1 else f"{header} {number + 1}") for number in range(count)]
    return columns


def _scales(sheet: Sheet, there: set[str]) -> Scales:
    """Return what the colours mean: ranges over all shots, and the classes that any of them shows."""
    maps = {name: [shot.fields[name] for shot in sheet.shots if name in shot.fields] for name in there}
    depth = np.concatenate([value[value > 0] for value in maps.get("depth", [])] or [np.empty(0)])
    flow = np.concatenate([np.hypot(*value).ravel() for value in maps.get("flow", [])] or [np.empty(0)])
    flow = flow[~np.isnan(flow)]
    present = np.unique(np.concatenate([np.unique(value) for value in maps.get("labels", [])] or [np.empty(0)]))
    known = [int(number) for number in present if number < min(len(sheet.names), colouring.IGNORE)]
    return Scales(
        depth=tuple(np.quantile(depth, (0.01, 0.99)).tolist()) if depth.size else None,
        sparse=any(0 < (value > 0).mean() < colouring.SPARSE for value in maps.get("depth", [])),
        flow=max(float(np.quantile(flow, 0.99)), 0.1) if flow.size else None,
        normals="normals" in there,
        colours=np.array(sheet.colours, np.float64).reshape(-1, 3),
        classes=[(sheet.names[number], tuple(sheet.colours[number])) for number in known],
        hatched=any(
            name not in shot.fields or colouring.lacks(name, shot.fields[name], len(sheet.names))
            for shot in sheet.shots
            for name in there
        ),
    )
