"""A matrix as the page holds it: the results themselves as JSON, the scales of colour, and a still image.

The script draws from the very document that `result.json` is, so what is seen, read out and downloaded cannot differ.
Results too large for that are rounded to `DIGITS` digits and packed; the page says so, and the exact file is the one
beside it.
"""

import base64
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import colormaps
from PIL import Image

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.plotting import labels, style
from cka_probe.plotting.heatmap import number
from cka_probe.report.escaping import data_uri, script_json, without_places
from cka_probe.report.matrix_layout import Layout, layout_of
from cka_probe.report.page import MatrixItem
from cka_probe.report.tables import number_text

MOST_EXACT = 600_000  # characters of JSON, all matrices of a page together
DIGITS = 5
MOST_RECTANGLES = 600  # cells drawn one by one before the script runs; larger maps are an image until then


@dataclass(frozen=True)
class Drawn:
    """What the template needs of one matrix.

    Attributes:
        names: What the switch calls the results.
        layout: Where things stand.
        title: What a screen reader calls the drawing.
        measure: What the numbers of the first result are.
        ticks: Numbers beside the scale of colours, from below.
        columns: Names of the layers of y.
        cells: (x, y, colour or "", number, colour of the number) of the first result, if they are few.
        image: The first result's colours as a data URI, if they are many.
        undefined: The first result has cells without a value.
        data: JSON for the script.
        rounded: The numbers are rounded.
        table: Rows of the first result, for readers without script: (name, numbers); only if they are few.
    """

    names: tuple[str, ...]
    layout: Layout
    title: str
    measure: str
    ticks: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[float, float, str, str, str], ...]
    image: str
    undefined: bool
    data: Markup
    rounded: bool
    table: tuple[tuple[str, tuple[str, ...]], ...]


def drawn(item: MatrixItem, exact: bool) -> Drawn:
    """Return a matrix for the template.

    Args:
        item: The matrix.
        exact: Keep every digit; otherwise round and pack.
    """
    first = next(iter(item.results.values()))
    layout = layout_of(first)
    few = first.values.size <= MOST_RECTANGLES
    return Drawn(
        names=tuple(item.results),
        layout=layout,
        title=f"Similarity of the layers of {layout.names[0]} (rows) with those of {layout.names[1]} (columns)",
        measure=labels.measure_name(first),
        ticks=tuple(number_text(tick, 1) for tick in np.linspace(*range_of(first), 6)),
        columns=tuple(axis.name for axis in first.columns),
        cells=_cells(first, layout) if few else (),
        image="" if few else _image(first),
        undefined=any(not np.isfinite(result.values).all() for result in item.results.values()),
        data=_data(item, layout, exact),
        rounded=not exact,
        table=_table(first) if few else (),
    )


def documents(item: MatrixItem) -> list[dict[str, Any]]:
    """Return each result as the JSON document it is saved as, without the folders of this machine."""
    return [without_places(result.as_document()) for result in item.results.values()]


def exact_length(item: MatrixItem) -> int:
    """Return how many characters the exact documents take."""
    return sum(len(json.dumps(document, separators=(",", ":"))) for document in documents(item))


def scale(name: str) -> list[str]:
    """Return a scale of colours as 256 hexadecimal numbers.

    >>> scale("magma")[0], scale("magma")[255]
    ('000004', 'fcfdbf')
    """
    return [_hex(colour) for colour in colormaps[name](np.arange(256)).tolist()]


def _data(item: MatrixItem, layout: Layout, exact: bool) -> Markup:
    results = [
        {
            "label": label,
            "measure": labels.measure_name(result),
            "batches": batches_of(result),
            "range": range_of(result),
            "document": document if exact else _rounded(document),
        }
        for (label, result), document in zip(item.results.items(), documents(item), strict=True)
    ]
    content = {
        "name": item.name,
        "exact": exact,
        "cell": layout.cell,
        "left": layout.left,
        "top": layout.top,
        "numbers": layout.numbers,
        "models": layout.names,
        "results": results,
    }
    return script_json(content if exact else {"packed": _packed(content)})


def _packed(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8"), 9)).decode("ascii")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def range_of(result: SimilarityMatrix) -> list[float]:
    """Return the lowest and highest value that the measure can have: the ends of the scale of colours."""
    return [float(end) for end in result.settings.get("range") or (0.0, 1.0)]


def batches_of(result: SimilarityMatrix) -> str:
    """Return how the values come from the batches' terms: "ratio" of sums, weighted "mean", or "" if they do not."""
    if not _terms_give_values(result):
        return ""
    measure = str(result.settings.get("measure", "cka"))
    return "ratio" if result.settings.get("estimator") or measure.endswith("cka") else "mean"


def _terms_give_values(result: SimilarityMatrix) -> bool:
    if not {"xy", "xx", "yy", "weights"} <= set(result.terms):
        return False
    xy, xx, yy = (np.tensordot(result.terms["weights"], result.terms[name], axes=1) for name in ("xy", "xx", "yy"))
    defined = np.isfinite(result.values)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = xy / np.sqrt(xx[:, None] * yy[None, :])
    return bool(np.allclose(ratio[defined], result.values[defined], rtol=1e-6, atol=1e-9))


def _cells(result: SimilarityMatrix, layout: Layout) -> tuple[tuple[float, float, str, str, str], ...]:
    colours, cells = colormaps[style.COLOURS], []
    parts = _parts(result)
    for (row, column), value in np.ndenumerate(result.values):
        place = (round(layout.left + column * layout.cell[0], 2), round(layout.top + row * layout.cell[1], 2))
        if not np.isfinite(value):
            cells.append((*place, "", "", ""))
            continue
        colour = colours(float(parts[row, column]))
        written = number(value) if layout.numbers else ""
        cells.append((*place, f"#{_hex(colour)}", written, style.letters_on(colour)))
    return tuple(cells)


def _parts(result: SimilarityMatrix) -> np.ndarray:
    """Return where on the scale of colours each value is, 0 to 1."""
    low, high = range_of(result)
    return np.clip((result.values - low) / (high - low), 0, 1)


def _hex(colour: tuple[float, float, float, float]) -> str:
    return bytes(round(part * 255) for part in colour[:3]).hex()


def _image(result: SimilarityMatrix) -> str:
    """Return one pixel for each cell as a PNG; undefined ones are clear, and the hatching below shows through."""
    pixels = colormaps[style.COLOURS](np.nan_to_num(_parts(result)), bytes=True)
    pixels[..., 3] = np.where(np.isfinite(result.values), 255, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return data_uri(stream.getvalue(), "image/png")


def _table(result: SimilarityMatrix) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple(
        (axis.name, tuple(number(value) if np.isfinite(value) else "\N{EM DASH}" for value in row))
        for axis, row in zip(result.rows, result.values, strict=True)
    )
