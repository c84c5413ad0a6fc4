"""A matrix in the page: the results as JSON, the colour scales, and a static drawing for readers without script.

The script draws from the same document that `result.json` holds, so the drawing, the readout and the downloads cannot
differ. Large results are rounded to `DIGITS` digits and compressed; the page says so and refers to the exact file.

Layer 0 is at the top left, x runs down and y across, as in the static figure. All positions are in CSS pixels and are
computed here alone: the template draws the axes and the script the cells from the same positions.
"""

import base64
import json
import zlib
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.plotting import labels, matrix, style
from cka_probe.report import latex
from cka_probe.report.blocks import MatrixBlock, ModelsBlock, without_folders
from cka_probe.report.images import data_uri, encode, thumbnail
from cka_probe.report.models import data_of
from cka_probe.report.tables import DASH, number_text

MAX_EXACT = 600_000  # characters of JSON, all matrices of a page together
DIGITS = 5
MAX_TABLE = 600  # cells of a table in the document; a larger one is written by the script
MAP_SIZE = 600  # the longer side of a large map
MAX_CELL = 46  # a cell with a number in it
FONT_SIZE = 11
MAX_NUMBERED = 12  # layers on the longer side up to which cells show numbers
MAX_STRETCH = 3  # ratio of the sides of a cell
NAME_WIDTH = 13.0  # em for a layer's name and index


def color_scale(name: str) -> list[str]:
    """Return a colour map as 256 hexadecimal colours.

    >>> color_scale("magma")[0], color_scale("magma")[255]
    ('000004', 'fcfdbf')
    """
    colors = np.round(255 * colormaps[name](np.arange(256))[:, :3]).astype(np.uint8)
    return [color.tobytes().hex() for color in colors]


SCALES = {"values": color_scale(style.COLOURS), "widths": color_scale(style.WIDTHS)}


def view_of(block: MatrixBlock, exact: bool) -> dict[str, Any]:
    """Return the variables of `matrix.html`; the drawing and the table show the first result.

    Args:
        block: The matrix.
        exact: Keep every digit; otherwise round and compress.
    """
    first = next(iter(block.results.values()))
    names = [axis.name for axis in first.rows], [axis.name for axis in first.columns]
    axes = _axes_of(first, *names)
    models = labels.model_names(first, room=max(14.0, min(axes["map"]) / FONT_SIZE))
    data = {
        "name": block.name,
        "exact": exact,
        **{name: axes[name] for name in ("cell", "left", "top")},
        "numbers": max(first.values.shape) <= MAX_NUMBERED,
        "models": models,
        "reasons": block.reasons,
        "thumbnails": {number: thumbnail(image).address for number, image in block.thumbnails.items()},
        "results": [
            {
                "label": name,
                "measure": labels.measure_name(result),
                "examples": result.examples,
                "batches": batches_of(result),
                "range": range_of(result),
                "latex": latex.matrix_tables(result) if result.values.size <= MAX_TABLE else "",
                "document": without_folders(result.as_document(), None if exact else DIGITS),
            }
            for name, result in block.results.items()
        ],
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).encode("utf-8")
    numbers = [[number_text(value, 3) if np.isfinite(value) else DASH for value in row] for row in first.values]
    return axes | {
        "names": dict(enumerate(block.results)),
        "title": f"Similarity of the layers of {models[0]} (rows) with those of {models[1]} (columns)",
        "models": models,
        "image": _image(first),
        "undefined": any(not np.isfinite(result.values).all() for result in block.results.values()),
        "data": data if exact else {"packed": base64.b64encode(zlib.compress(text, 9)).decode("ascii")},
        "rounded_to": None if exact else DIGITS,
        "column_names": names[1],
        "table": zip(names[0], numbers, strict=True) if first.values.size <= MAX_TABLE else (),
        "scales": SCALES,
    }


def models_view_of(block: ModelsBlock) -> dict[str, Any]:
    """Return the variables of `models.html`."""
    atlas, count = block.atlas, len(block.atlas.names)
    axes = _axes_of(atlas.first, list(atlas.names), list(atlas.names))
    low, high = range_of(atlas.first)
    cells = []
    for i, j in np.argwhere(~np.eye(count, dtype=bool)).tolist():
        value, ends = atlas.values[i, j], (atlas.low[i, j], atlas.high[i, j])
        text, color = "undefined", ""
        if np.isfinite(value):
            text, color = (
                number_text(value, 3),
                SCALES["values"][round(255 * np.clip((value - low) / (high - low), 0, 1))],
            )
        if np.isfinite(ends).all():
            text += f", 95 % interval {number_text(ends[0], 3)} to {number_text(ends[1], 3)}"
        cells.append(
            {
                "x": _round(axes["left"] + j * axes["cell"][0]),
                "y": _round(axes["top"] + i * axes["cell"][1]),
                "color": color,
                "text": matrix.number(value) if color and count <= MAX_NUMBERED else "",
                "letters": style.letters_on([int(color[k : k + 2], 16) / 255 for k in (0, 2, 4)]) if color else "",
                "title": f"{atlas.names[i]} and {atlas.names[j]}: {text}",
                "link": block.links.get((min(i, j), max(i, j)), ""),
            }
        )
    return axes | {
        "title": "Similarity of every two models",
        "models": ("", ""),
        "cells": cells,
        "numbered": count <= MAX_NUMBERED,
        "data": data_of(atlas),
        "undefined": not all(cell["color"] for cell in cells),
        "scales": {"values": SCALES["values"]},
    }


def _axes_of(result: SimilarityMatrix, rows: list[str], columns: list[str]) -> dict[str, Any]:
    """Return the variables of `axes.html`: where the cells are, and what is written around them."""
    row_labels, column_labels = _layer_labels(rows), _layer_labels(columns)
    if upright := rows == columns:
        column_labels = [str(index) for index in range(len(columns))]
    width, height = _cell_size(len(rows), len(columns))
    left, top = _round(36 + _text_width(row_labels)), 26
    across, down = _round(len(columns) * width), _round(len(rows) * height)
    below = FONT_SIZE + 6 if upright else _text_width(column_labels) + 8
    return {
        "left": left,
        "top": top,
        "cell": (width, height),
        "map": (across, down),
        "size": (_round(left + across + 84), _round(top + max(down, 110) + below + 24)),
        "rows": _spaced(row_labels, height, top, 12.5),
        "columns": _spaced(column_labels, width, left, 16 if upright and len(columns) > 9 else 12.5),
        "upright": upright,
        "images": labels.images_line(result),
        "measure": labels.measure_name(result),
        "ticks": [number_text(float(tick), 1) for tick in np.linspace(*range_of(result), 6)],
    }


def exact_length(block: MatrixBlock) -> int:
    """Return the number of characters of the exact documents."""
    return sum(len(json.dumps(result.as_document(), separators=(",", ":"))) for result in block.results.values())


def range_of(result: SimilarityMatrix) -> tuple[float, float]:
    """Return the lowest and highest possible value of the measure: the ends of the colour scale."""
    low, high = result.settings.get("range") or (0.0, 1.0)
    return float(low), float(high)


def batches_of(result: SimilarityMatrix) -> str:
    """Return how the values follow from the batches' terms: "ratio" of sums, weighted "mean", or "" if they do not."""
    if not {"xy", "xx", "yy", "weights"} <= set(result.terms):
        return ""
    xy, xx, yy = (np.tensordot(result.terms["weights"], result.terms[name], axes=1) for name in ("xy", "xx", "yy"))
    defined = np.isfinite(result.values)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = xy / np.sqrt(xx[:, None] * yy[None, :])
    if not np.allclose(ratio[defined], result.values[defined], rtol=1e-6, atol=1e-9):
        return ""
    measure = str(result.settings.get("measure", "cka"))
    return "ratio" if result.settings.get("estimator") or measure.endswith("cka") else "mean"


def _image(result: SimilarityMatrix) -> str:
    """Return one pixel per cell as a PNG; undefined cells are transparent and show the hatching below."""
    low, high = range_of(result)
    positions = np.clip((result.values - low) / (high - low), 0, 1)
    pixels = colormaps[style.COLOURS](np.nan_to_num(positions), bytes=True)
    pixels[..., 3] = np.where(np.isfinite(result.values), 255, 0)
    return data_uri(encode(Image.fromarray(pixels), "PNG", optimize=True), "image/png")


def _cell_size(rows: int, columns: int) -> tuple[float, float]:
    """Return the width and height of a cell, which is square if there are as many rows as columns.

    >>> _cell_size(9, 9), _cell_size(120, 120), _cell_size(2, 120)
    ((46.0, 46.0), (5.0, 5.0), (5.0, 15.0))
    """
    wide, high = (min(MAX_CELL, MAP_SIZE / count) for count in (columns, rows))
    return _round(min(wide, MAX_STRETCH * high)), _round(min(high, MAX_STRETCH * wide))


def _layer_labels(names: list[str]) -> list[str]:
    index = labels.width(f"  {len(names)}")
    return labels.numbered(labels.short_names(names, NAME_WIDTH - index))


def _text_width(names: list[str]) -> float:
    return max(map(labels.width, names)) * FONT_SIZE


def _spaced(names: list[str], space: float, start: float, needed: float) -> tuple[tuple[float, str], ...]:
    step = labels.step_for(space, needed)
    return tuple((_round(start + (index + 0.5) * space), names[index]) for index in range(0, len(names), step))


def _round(value: float) -> float:
    return round(float(value), 2)
