"""A matrix in the page: the results as JSON, the colour scales, and a static drawing for readers without script.

The script draws from the same document that `result.json` holds, so the drawing, the readout and the downloads cannot
differ. Large results are rounded to `DIGITS` digits and compressed; the page says so and refers to the exact file.

Layer 0 is at the top left, x runs down and y across, as in the static figure. All positions are in CSS pixels and are
computed here alone: the template draws the axes and the script the cells from the same `MatrixLayout`.
"""

import base64
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from cka_probe.comparison.results import Axis, SimilarityMatrix
from cka_probe.plotting import labels, style
from cka_probe.plotting.matrix import number
from cka_probe.report.blocks import MatrixBlock
from cka_probe.report.images import data_uri, encode
from cka_probe.report.tables import number_text

MAX_EXACT = 600_000  # characters of JSON, all matrices of a page together
DIGITS = 5
MAX_RECTANGLES = 600  # cells of the static drawing; larger matrices are an image until the script runs
MAP_SIZE = 600  # the longer side of a large map
MAX_CELL = 46  # a cell with a number in it
FONT_SIZE = 11
MAX_NUMBERED = 12  # layers on the longer side up to which cells show numbers
MAX_STRETCH = 3  # ratio of the sides of a cell
NAME_WIDTH = 13.0  # em for a layer's name and index
FOLDERS = re.compile(r"(?:(?<=^)|(?<=[\s:=('\"]))(?:~|[A-Za-z]:)?[/\\](?:[^/\\\s:'\"]+[/\\])*(?=[^/\\\s:'\"]+)")
"""The folders of an absolute path, up to its last name: after a space, a colon, `=`, a bracket or a quote."""


@dataclass(frozen=True)
class MatrixLayout:
    """Positions and sizes, in CSS pixels from the top left.

    Attributes:
        cell: Width and height of a cell.
        left: Left edge of the first cell.
        top: Top edge of the first cell.
        map: Width and height of all cells.
        size: Width and height of the drawing.
        rows: (y, name) of the row labels.
        columns: (x, name) of the column labels.
        upright: Column labels are indices and need not be rotated.
        numbers: Cells have room for numbers.
        names: Models on the rows and on the columns.
        images: "n = 128 images".
    """

    cell: tuple[float, float]
    left: float
    top: float
    map: tuple[float, float]
    size: tuple[float, float]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    upright: bool
    numbers: bool
    names: tuple[str, str]
    images: str


@dataclass(frozen=True)
class MatrixView:
    """A matrix for the template; cells, image and table show the first result.

    Attributes:
        names: The results' names in the switch.
        layout: Positions and sizes.
        title: The accessible name of the drawing.
        measure: The measure of the first result.
        ticks: Labels of the colour bar, from below.
        columns: Names of the layers of y.
        cells: (x, y, colour or "", number, colour of the number) of a small matrix.
        image: The colours of a large matrix as a data URI.
        undefined: Some result has cells without a value.
        data: JSON for the script.
        rounded: The numbers are rounded.
        table: (name, numbers) of each row of a small matrix.
    """

    names: tuple[str, ...]
    layout: MatrixLayout
    title: str
    measure: str
    ticks: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[float, float, str, str, str], ...]
    image: str
    undefined: bool
    data: dict[str, Any]
    rounded: bool
    table: tuple[tuple[str, tuple[str, ...]], ...]


def view_of(block: MatrixBlock, exact: bool) -> MatrixView:
    """Return a matrix for the template.

    Args:
        block: The matrix.
        exact: Keep every digit; otherwise round and compress.
    """
    first = next(iter(block.results.values()))
    layout = layout_of(first)
    small = first.values.size <= MAX_RECTANGLES
    low, high = range_of(first)
    return MatrixView(
        names=tuple(block.results),
        layout=layout,
        title=f"Similarity of the layers of {layout.names[0]} (rows) with those of {layout.names[1]} (columns)",
        measure=labels.measure_name(first),
        ticks=tuple(number_text(float(tick), 1) for tick in np.linspace(low, high, 6)),
        columns=tuple(axis.name for axis in first.columns),
        cells=_cells(first, layout) if small else (),
        image="" if small else _image(first),
        undefined=any(not np.isfinite(result.values).all() for result in block.results.values()),
        data=_data(block, layout, exact),
        rounded=not exact,
        table=_table(first) if small else (),
    )


def layout_of(result: SimilarityMatrix) -> MatrixLayout:
    """Return the positions for a result's layers."""
    width, height = _cell_size(*result.values.shape)
    same = [axis.name for axis in result.rows] == [axis.name for axis in result.columns]
    row_names = _layer_names(result.rows)
    column_names = [str(index) for index in range(len(result.columns))] if same else _layer_names(result.columns)
    left, top = _round(36 + _text_width(row_names)), 26
    across, down = _round(len(result.columns) * width), _round(len(result.rows) * height)
    below = FONT_SIZE + 6 if same else _text_width(column_names) + 8
    return MatrixLayout(
        cell=(width, height),
        left=left,
        top=top,
        map=(across, down),
        size=(_round(left + across + 84), _round(top + max(down, 110) + below + 24)),
        rows=_spaced(row_names, height, top, 12.5),
        columns=_spaced(column_names, width, left, 16 if same and len(column_names) > 9 else 12.5),
        upright=same,
        numbers=max(result.values.shape) <= MAX_NUMBERED,
        names=labels.model_names(result, room=max(14.0, min(across, down) / FONT_SIZE)),
        images=labels.images_line(result),
    )


def without_folders(value: Any) -> Any:
    """Return text, or lists and tables of text, without the folders of absolute paths, which are private.

    >>> without_folders("nyuv2:/srv/data/nyuv2:test"), without_folders("runs/a.safetensors")
    ('nyuv2:…/nyuv2:test', 'runs/a.safetensors')
    """
    if isinstance(value, str):
        return FOLDERS.sub("…/", value)
    if isinstance(value, Mapping):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return value


def documents(block: MatrixBlock) -> list[dict[str, Any]]:
    """Return each result as the JSON document of `result.json`, without the folders of this machine."""
    return [without_folders(result.as_document()) for result in block.results.values()]


def exact_length(block: MatrixBlock) -> int:
    """Return the number of characters of the exact documents."""
    return sum(len(json.dumps(document, separators=(",", ":"))) for document in documents(block))


def color_scale(name: str) -> list[str]:
    """Return a colour map as 256 hexadecimal colours.

    >>> color_scale("magma")[0], color_scale("magma")[255]
    ('000004', 'fcfdbf')
    """
    return [_hex(color) for color in colormaps[name](np.arange(256)).tolist()]


def range_of(result: SimilarityMatrix) -> tuple[float, float]:
    """Return the lowest and highest possible value of the measure: the ends of the colour scale."""
    low, high = result.settings.get("range") or (0.0, 1.0)
    return float(low), float(high)


def batches_of(result: SimilarityMatrix) -> str:
    """Return how the values follow from the batches' terms: "ratio" of sums, weighted "mean", or "" if they do not."""
    if not _terms_give_values(result):
        return ""
    measure = str(result.settings.get("measure", "cka"))
    return "ratio" if result.settings.get("estimator") or measure.endswith("cka") else "mean"


def _data(block: MatrixBlock, layout: MatrixLayout, exact: bool) -> dict[str, Any]:
    results = [
        {
            "label": name,
            "measure": labels.measure_name(result),
            "batches": batches_of(result),
            "range": range_of(result),
            "document": document if exact else _rounded(document),
        }
        for (name, result), document in zip(block.results.items(), documents(block), strict=True)
    ]
    content = {
        "name": block.name,
        "exact": exact,
        "cell": layout.cell,
        "left": layout.left,
        "top": layout.top,
        "numbers": layout.numbers,
        "models": layout.names,
        "results": results,
    }
    return content if exact else {"packed": _compressed(content)}


def _compressed(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8"), 9)).decode("ascii")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _terms_give_values(result: SimilarityMatrix) -> bool:
    if not {"xy", "xx", "yy", "weights"} <= set(result.terms):
        return False
    xy, xx, yy = (np.tensordot(result.terms["weights"], result.terms[name], axes=1) for name in ("xy", "xx", "yy"))
    defined = np.isfinite(result.values)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = xy / np.sqrt(xx[:, None] * yy[None, :])
    return bool(np.allclose(ratio[defined], result.values[defined], rtol=1e-6, atol=1e-9))


def _cells(result: SimilarityMatrix, layout: MatrixLayout) -> tuple[tuple[float, float, str, str, str], ...]:
    color_map, positions, cells = colormaps[style.COLOURS], _scale_positions(result), []
    for (row, column), value in np.ndenumerate(result.values):
        x, y = _round(layout.left + column * layout.cell[0]), _round(layout.top + row * layout.cell[1])
        if not np.isfinite(value):
            cells.append((x, y, "", "", ""))
            continue
        color = color_map(float(positions[row, column]))
        text = number(value) if layout.numbers else ""
        cells.append((x, y, f"#{_hex(color)}", text, style.letters_on(color)))
    return tuple(cells)


def _scale_positions(result: SimilarityMatrix) -> np.ndarray:
    """Return the position of each value on the colour scale, 0 to 1."""
    low, high = range_of(result)
    return np.clip((result.values - low) / (high - low), 0, 1)


def _hex(color: Sequence[float]) -> str:
    return bytes(round(channel * 255) for channel in color[:3]).hex()


def _image(result: SimilarityMatrix) -> str:
    """Return one pixel per cell as a PNG; undefined cells are transparent and show the hatching below."""
    pixels = colormaps[style.COLOURS](np.nan_to_num(_scale_positions(result)), bytes=True)
    pixels[..., 3] = np.where(np.isfinite(result.values), 255, 0)
    return data_uri(encode(Image.fromarray(pixels), "PNG", optimize=True), "image/png")


def _table(result: SimilarityMatrix) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        (axis.name, tuple(number(value) if np.isfinite(value) else "\N{EM DASH}" for value in row))
        for axis, row in zip(result.rows, result.values, strict=True)
    )


def _cell_size(rows: int, columns: int) -> tuple[float, float]:
    """Return the width and height of a cell, which is square if there are as many rows as columns.

    >>> _cell_size(9, 9), _cell_size(120, 120), _cell_size(2, 120)
    ((46.0, 46.0), (5.0, 5.0), (5.0, 15.0))
    """
    wide, high = (min(MAX_CELL, MAP_SIZE / count) for count in (columns, rows))
    return _round(min(wide, MAX_STRETCH * high)), _round(min(high, MAX_STRETCH * wide))


def _layer_names(axes: Sequence[Axis]) -> list[str]:
    index = labels.width(f"  {len(axes)}")
    return labels.numbered(labels.short_names([axis.name for axis in axes], NAME_WIDTH - index))


def _text_width(names: list[str]) -> float:
    return max(map(labels.width, names)) * FONT_SIZE


def _spaced(names: list[str], space: float, start: float, needed: float) -> tuple[tuple[float, str], ...]:
    step = labels.step_for(space, needed)
    return tuple((_round(start + (index + 0.5) * space), names[index]) for index in range(0, len(names), step))


def _round(value: float) -> float:
    return round(float(value), 2)
