"""A folder of `ckaprobe compare`: two models, the images, and how alike their layers are."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from cka_probe.comparison.results import FORMAT, Axis, Side, SimilarityMatrix
from cka_probe.comparison.warnings import warnings_for
from cka_probe.errors import DataError
from cka_probe.report.commands import compare_command
from cka_probe.report.page import Facts, Item, MatrixItem, Section, TableItem, Text, Thumbnails
from cka_probe.report.part import Part, called, figures_in, in_words, own_name, settings_pairs
from cka_probe.report.switch import switch, title

EXPECTED = "result.json of `ckaprobe compare`"
RESULT, STRIP = "result.json", "images.jpg"
TIMES = " \N{MULTIPLICATION SIGN} "
CAPTIONS = {
    "heatmap": "Similarity of every layer of x (down) with every layer of y (across).",
    "profile": "The diagonal with its 95 % intervals, and what chance alone reaches.",
    "uncertainty": "How sure each cell is: the half-width of its 95 % interval.",
}
"""Captions of figures that lie beside a result, by the stem of their files."""


def is_here(folder: Path) -> bool:
    """Return whether the folder holds a comparison."""
    return (folder / RESULT).is_file()


def read(folder: Path) -> Part:
    """Return what a comparison says.

    Raises:
        DataError: The result is none of this format.
    """
    result = SimilarityMatrix.load(folder / RESULT)
    results, words = switch(folder, result)
    names = called(result.x.reference), called(result.y.reference)
    drawn = figures_in(folder, CAPTIONS)
    sections = (
        Section("Similarity", (MatrixItem(results), *(Text((word,)) for word in words)), intro=lead(result)),
        *_diagonal(result),
        Section("What was compared", _compared(folder, result)),
        Section("Layers", _layers(result)),
        *([Section("Figures", drawn)] if drawn else []),
    )
    command = compare_command(result, own_name(folder))
    return Part(
        label="Comparison",
        title=f"{names[0]}, layer by layer" if result.x == result.y else f"{names[0]} and {names[1]}, layer by layer",
        subtitle=described(result),
        sections=sections if command else (*sections, _no_command()),
        cautions=tuple(warnings_for(result)),
        provenance=_provenance(result),
        command=command,
    )


def described(result: SimilarityMatrix) -> str:
    """Return what was computed over what, in a sentence."""
    skipped = len(result.images.get("skipped") or ())
    left_out = f", {skipped} unreadable ones left out" if skipped else ""
    return (
        f"{title(result)}, of {len(result.rows)} layers of x with {len(result.columns)} of y over "
        f"{result.num_examples} images from {result.images['source']}{left_out}."
    )


def lead(result: SimilarityMatrix) -> str:
    """Return what the matrix says first: where on the diagonal, or anywhere, the two are most and least alike."""
    square = len(result.rows) == len(result.columns)
    values = np.diagonal(result.values) if square else result.values
    if not np.isfinite(values).any():
        return "No cell that would be read first has a similarity; the cautions say why."
    ends = [np.unravel_index(find(values), values.shape) for find in (np.nanargmax, np.nanargmin)]
    cells = [(place[0], place[0] if square else place[1]) for place in ends]
    most, least = (_cell(result, row, column) for row, column in cells)
    missing = int((~np.isfinite(values)).sum())
    what = "Of layers at the same place" if square else "Of all pairs"
    undefined = f" {missing} of {values.size} have none." if missing else ""
    return f"{what}, most alike are {most}, least alike {least}.{undefined} x runs down, y across."


def _cell(result: SimilarityMatrix, row: int, column: int) -> str:
    """Return one cell in words, with its interval."""
    names = dict.fromkeys((result.rows[row].name, result.columns[column].name))
    value, low, high = (matrix[row, column] for matrix in (result.values, result.low, result.high))
    interval = f" [{low:.3f}, {high:.3f}]" if np.isfinite([low, high]).all() else ""
    return f"{' and '.join(f'`{name}`' for name in names)} at {value:.3f}{interval}"


def _diagonal(result: SimilarityMatrix) -> tuple[Section, ...]:
    """Return the table of the diagonal, where there is one."""
    if len(result.rows) != len(result.columns):
        return ()
    table = result.diagonal().reset_index().drop(columns=["spread_x", "spread_y"])
    same = [axis.name for axis in result.rows] == [axis.name for axis in result.columns]
    if not same:
        table.insert(2, "layer of y", [axis.name for axis in result.columns])
        table = table.rename(columns={"layer": "layer of x"})
    table["p"] = np.diagonal(result.p_values)
    table = table.rename(columns={"null": "chance (95 %)"})
    caption = "Each layer of x with the layer of y at the same place: value, ends of the 95 % interval, chance, p."
    return (Section("Layer by layer", (TableItem(table, caption, "diagonal"),)),)


def _compared(folder: Path, result: SimilarityMatrix) -> tuple[Item, ...]:
    images = result.images
    pairs = [("x, down", _side(result.x)), ("y, across", _side(result.y))]
    pairs.append(("images", f"{result.num_examples} from {images['source']}"))
    pairs += [("left out", str(name)) for name in images.get("skipped") or ()]
    pairs += [(f"note on {side}", note) for side in ("x", "y") for note in getattr(result, side).notes]
    return Facts(tuple(pairs)), _thumbnails(folder / STRIP, result.num_examples)


def _side(side: Side) -> str:
    fed = side.preprocessing
    size = fed.get("size")
    size = TIMES.join(map(str, size)) if isinstance(size, list | tuple) else size
    norm = f"; mean {in_words(fed['mean'])}, std {in_words(fed['std'])}" if fed.get("mean") and fed.get("std") else ""
    fed_with = f", fed {size} pixels{norm}" if size else ""
    return f"{side.reference} ({side.architecture}){fed_with}"


def _thumbnails(path: Path, count: int) -> Item:
    """Return the images of a strip of squares, or a word that there is none."""
    if not path.is_file():
        return Text((f"No `{STRIP}` lies beside the result, so the images cannot be shown.",))
    try:
        with Image.open(path) as opened:
            strip = np.asarray(opened.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: expected a strip of images, found {error}; delete it or compare again") from error
    side = strip.shape[0]
    squares = tuple(strip[:, left : left + side] for left in range(0, strip.shape[1] - side + 1, side))
    if not squares:
        return Text((f"`{STRIP}` is no row of squares, so the images cannot be shown.",))
    return Thumbnails(squares, tuple(f"image {number}" for number in range(1, len(squares) + 1)))


def _layers(result: SimilarityMatrix) -> tuple[Item, ...]:
    """Return the layers of both sides, in one table where they are the same ones."""
    places = [[(axis.name, axis.module, axis.shape) for axis in axes] for axes in (result.rows, result.columns)]
    spread = "Spread is the root mean square of what varies over images, in the layer's own units."
    if places[0] == places[1]:
        frame = _table(result.rows).rename(columns={"spread": "spread in x"})
        frame["spread in y"] = [axis.spread for axis in result.columns]
        tables = [TableItem(frame, f"The layers of both. {spread}", "layers")]
    else:
        tables = [
            TableItem(_table(axes), f"The layers of {side}. {spread}", f"layers_{side}")
            for side, axes in (("x", result.rows), ("y", result.columns))
        ]
    if not any(axis.shape for axis in (*result.rows, *result.columns)):
        tables.append(Text(("This result was made before the shapes of layers were kept.",)))
    return tuple(tables)


def _table(axes: tuple[Axis, ...]) -> pd.DataFrame:
    columns = {
        "index": range(len(axes)),
        "layer": [axis.name for axis in axes],
        "module": [axis.module for axis in axes],
        "shape": [TIMES.join(map(str, axis.shape)) for axis in axes],
        "spread": [axis.spread for axis in axes],
    }
    if not any(columns["shape"]):
        del columns["shape"]
    return pd.DataFrame(columns)


def _no_command() -> Section:
    said = "A model or the images were given in memory, so that no command makes this again."
    return Section("How to make it again", (Text((said,)),))


def _provenance(result: SimilarityMatrix) -> tuple[tuple[str, str], ...]:
    hashes = [("x, hash of the weights", result.x.hash), ("y, hash of the weights", result.y.hash)]
    hashes.append(("images, hash", str(result.images["hash"])))
    return (*hashes, *settings_pairs(result.settings, result.versions, FORMAT))
