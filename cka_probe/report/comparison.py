"""The page of `ckaprobe compare`: two models, the images, and how similar their layers are.

The page also shows other measures, computed from the fingerprints next to the result. Fingerprints of another model, of
other images or without one of the layers are not used, and the page says so. Which measures are computed depends on the
amount of work and never on a clock, so that the same folder gives the same page.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.comparison.compare import compare_fingerprints
from cka_probe.comparison.explanation import influential_images
from cka_probe.comparison.family import family_facts
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.results import FORMAT, ROWS, Axis, Side, SimilarityMatrix, notes_of
from cka_probe.comparison.warnings import warnings_for
from cka_probe.errors import CkaProbeError, DataError
from cka_probe.images.reading import UNREADABLE, opened
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.plotting import figures_of
from cka_probe.report.blocks import (
    Block,
    Facts,
    Heading,
    MatrixBlock,
    Page,
    TableBlock,
    Text,
    Thumbnails,
    command_of,
    figures_in,
    format_value,
    model_name,
    provenance_of,
)
from cka_probe.report.explanations import reasons_of
from cka_probe.similarity import ESTIMATORS
from cka_probe.similarity.measures import MEASURES

STRIP, STRIP_Y, INFLUENTIAL = "images.jpg", "images_y.jpg", "influential.jpg"
TIMES = " \N{MULTIPLICATION SIGN} "
CAPTIONS = {
    "heatmap": "Similarity of every layer of x (rows) with every layer of y (columns).",
    "profile": "The diagonal with its 95 % intervals, and the level of chance.",
    "uncertainty": "The uncertainty of each cell: the half-width of its 95 % interval.",
}
"""Captions of the figures in a result's folder, by the stem of their files."""
PERMUTATIONS = {"cka": 200, "rsa": 50, "mutual_knn": 50, "procrustes": 0}
"""Measures that are computed for the page alone, and the permutations of their null."""
MAX_WORK = {"cka": 1e12, "rsa": 2e8, "mutual_knn": 2e8, "procrustes": 5e7}
"""Cells times the cubes of the batch sizes up to which a measure is computed for the page alone. For 9 x 9 layers and
batches of 64 on one busy core: both CKAs of 512 images take 1 s, RSA 6 s, mutual k-NN 3 s; Procrustes of 128 images
takes 11 s, and three times that with 50 permutations."""


def read(folder: Path) -> Page:
    """Return the page of a comparison.

    Raises:
        DataError: A file of it has another format.
    """
    result = SimilarityMatrix.load(folder / "result.json")
    prints, problem = prints_of(folder, result)
    further = [SimilarityMatrix.load(path) for path in sorted(folder.glob("measures/*/result.json"))]
    stored = {result_title(other): other for other in (result, *further)}
    results, notes = measures_of(prints, stored) if prints else (stored, [problem])
    reasons = reasons_of(prints, result) if prints else []
    names, images = [side.name or model_name(side.reference) for side in (result.x, result.y)], result.images
    hashes = (
        ("x, hash of the weights", result.x.hash),
        ("y, hash of the weights", result.y.hash),
        *hashes_of_images(result),
    )
    omitted = f", {len(images['skipped'])} unreadable ones omitted" if images.get("skipped") else ""
    mean = f", mean of {result.trainings_text}" if result.trainings_text else ""
    return Page(
        title=f"{names[0]}, layer by layer" if result.x == result.y else f"{names[0]} and {names[1]}, layer by layer",
        blocks=(
            Heading("Similarity"),
            Text(summary(result)),
            MatrixBlock(results, reasons=reasons, thumbnails=_influential(folder, prints, result) if reasons else {}),
            Text("\n\n".join(notes)),
            *_diagonal(result),
            Heading("What was compared"),
            Facts(_facts(result)),
            *_thumbnails(folder, result),
            Heading("Layers"),
            *_layers(result),
            *figures_in(folder, "Figures", CAPTIONS, figures_of(result)),
            *provenance_of(command_of(folder, "result.json"), hashes, result.settings, result.versions, FORMAT),
        ),
        subtitle=f"{result_title(result)}{mean}, of {len(result.rows)} layers of x with {len(result.columns)} of y "
        f"over {result.images_text}{omitted}.",
        warnings=tuple(warnings_for(result)),
        label="Comparison",
    )


def prints_of(folder: Path, result: SimilarityMatrix) -> tuple[list[Fingerprint], str]:
    """Return the fingerprints of x and y that a result was computed from, or none and why.

    Args:
        folder: May hold `x.fingerprint` and `y.fingerprint`.
        result: The comparison.
    """
    hash_x, hash_y = result.images_hashes
    sides = {"x": (result.x, result.rows, hash_x), "y": (result.y, result.columns, hash_y)}
    if missing := [f"`{name}.fingerprint`" for name in sides if not (folder / f"{name}.fingerprint").is_file()]:
        return [], f"Not in the result's folder: {' and '.join(missing)}. Only the stored result is shown."
    if result.settings.get("num_features"):
        return [], "The features were sampled. Only the stored result is shown."
    if "groups" in result.images:
        return [], "The images are in groups, which fingerprints do not hold. Only the stored result is shown."
    fingerprints = []
    for name, (side, axes, images_hash) in sides.items():
        fingerprint = Fingerprint.load(folder / f"{name}.fingerprint")
        if problem := _mismatch(result, side, axes, images_hash, fingerprint):
            return [], f"`{name}.fingerprint` {problem}: only the stored result is shown."
        fingerprints.append(fingerprint.subset(LayerMap(tuple(Layer(axis.name, axis.module) for axis in axes))))
    return fingerprints, ""


def measures_of(
    fingerprints: Sequence[Fingerprint], stored: dict[str, SimilarityMatrix]
) -> tuple[dict[str, SimilarityMatrix], list[str]]:
    """Return stored results and, from their fingerprints, the same comparison by other measures.

    Args:
        fingerprints: From `prints_of`.
        stored: Comparisons of these by their name in the page's switch, the main one first.

    Returns:
        Results by their name in the page's switch, and sentences: which measures are missing and why, and which were
        computed for the page.
    """
    result, results = next(iter(stored.values())), dict(stored)
    skipped, computed = [], []
    work = result.values.size * sum(float(stack.shape[-1]) ** 3 for stack in fingerprints[0].grams)
    methods = {(other.settings.get("measure", "cka"), other.settings.get("estimator")) for other in stored.values()}
    for name, count in PERMUTATIONS.items():
        measure = MEASURES[name]
        for estimator in ESTIMATORS if measure.sums else (None,):
            if (name, estimator) in methods:
                continue
            if work > MAX_WORK[name]:
                skipped.append(measure.title)
                continue
            options: dict[str, Any] = {"estimator": estimator} if estimator else {}
            try:
                other = compare_fingerprints(
                    *fingerprints, pair=result.pairing or None, measure=name, permutations=count, **options
                )
            except CkaProbeError as error:
                skipped.append(f"{measure.title} ({error})")
                continue
            results[result_title(other)] = other
            computed.append(f"{result_title(other)}, with {count or 'no'} permutations")
    notes = [f"Computed for this page, from the fingerprints: {'; '.join(computed)}."] if computed else []
    if skipped:
        notes.append(f"Not computed for this page: {', '.join(skipped)}; use `ckaprobe compare --measure`.")
    return results, notes


def result_title(result: SimilarityMatrix) -> str:
    """Return a result's name in the switch: its measure, and the estimator of CKA."""
    settings = result.settings
    measure = settings.get("measure", "cka")
    name = "CKA" if measure == "cka" else str(settings.get("title", measure))
    return f"{name}, {settings['estimator']}" if settings.get("estimator") else name


def _mismatch(
    result: SimilarityMatrix, side: Side, axes: tuple[Axis, ...], images_hash: str, fingerprint: Fingerprint
) -> str:
    """Return why a result was not computed from a fingerprint, or ""."""
    if fingerprint.side.hash != side.hash:
        return "is of another model than the result"
    if fingerprint.images_hash != images_hash:
        return "is of other images than the result"
    if fingerprint.settings.features != result.settings["features"]:
        return "is of other features than the result"
    absent = [axis.module for axis in axes if axis.module not in fingerprint.layers.modules]
    return f"lacks the layer {absent[0]}" if absent else ""


def summary(result: SimilarityMatrix) -> str:
    """Return the most and the least similar pair of layers: on the diagonal, or of all pairs."""
    square = len(result.rows) == len(result.columns)
    values = np.diagonal(result.values) if square else result.values
    if not np.isfinite(values).any():
        return f"No cell {'on the diagonal ' if square else ''}has a value; see the warnings."
    cells = []
    for position in (np.nanargmax(values), np.nanargmin(values)):
        index = [int(part) for part in np.unravel_index(position, values.shape)]
        cells.append(_cell(result, index[0], index[-1]))
    missing = int((~np.isfinite(values)).sum())
    pairs = "pair of layers at the same position" if square else "pair of layers"
    undefined = f" {missing} of {values.size} are undefined." if missing else ""
    ends = f"The most similar {pairs} is {cells[0]}, the least similar {cells[1]}."
    return f"{ends}{undefined} Rows are x, columns are y."


def _cell(result: SimilarityMatrix, row: int, column: int) -> str:
    """Return the layers, value and interval of one cell."""
    names = dict.fromkeys((result.rows[row].name, result.columns[column].name))
    value, low, high = (matrix[row, column] for matrix in (result.values, result.low, result.high))
    interval = f" [{low:.3f}, {high:.3f}]" if np.isfinite([low, high]).all() else ""
    return f"{' and '.join(f'`{name}`' for name in names)} at {value:.3f}{interval}"


def _diagonal(result: SimilarityMatrix) -> tuple[Block, ...]:
    """Return the table of the diagonal of a square matrix."""
    if len(result.rows) != len(result.columns):
        return ()
    table = result.diagonal().reset_index().drop(columns=["rms_x", "rms_y"])
    if [axis.name for axis in result.rows] != [axis.name for axis in result.columns]:
        table.insert(2, "layer of y", [axis.name for axis in result.columns])
        table = table.rename(columns={"layer": "layer of x"})
    table["p"] = np.diagonal(result.p_values)
    table = table.rename(columns={"null": "chance (95 %)"})
    caption = "Each layer of x with the layer of y at the same position: value, ends of the 95 % interval, chance, p."
    return Heading("Layer by layer"), TableBlock(table, caption, "diagonal")


def _facts(result: SimilarityMatrix) -> tuple[tuple[str, str], ...]:
    return (
        ("x, rows", describe_side(result.x)),
        ("y, columns", describe_side(result.y)),
        *_facts_of_images(result),
        *family_facts(result.family),
        *(("omitted", str(name)) for name in result.images.get("skipped") or ()),
        *((f"note on {names}", note) for names, note in notes_of({"x": result.x, "y": result.y})),
    )


def _facts_of_images(result: SimilarityMatrix) -> tuple[tuple[str, str], ...]:
    """Return how many images were compared, and from where."""
    images = result.images
    if not result.pairing:
        return ((result.examples, result.images_text),)
    return (
        ("images of x", f"{result.num_examples} from {images['source']}"),
        ("images of y", f"{result.num_examples} from {images['source_y']}, paired with those of x by {result.pairing}"),
    )


def hashes_of_images(result: SimilarityMatrix) -> tuple[tuple[str, str], ...]:
    """Return the hashes of the lists of images, for the provenance of a page."""
    if result.pairing:
        return tuple(zip(("images of x, hash", "images of y, hash"), result.images_hashes, strict=True))
    return ((f"{result.examples}, hash", result.images_hashes[0]),)


def _thumbnails(folder: Path, result: SimilarityMatrix) -> tuple[Block, ...]:
    """Return the first images, those of x and those of y if these differ; nothing where features were compared."""
    if result.images["source"] == ROWS:
        return ()
    if not result.pairing:
        return (thumbnails_of(folder / STRIP),)
    return (
        Text(f"x saw images from {result.images['source']}:"),
        thumbnails_of(folder / STRIP),
        Text(f"y saw images from {result.images['source_y']}:"),
        thumbnails_of(folder / STRIP_Y),
    )


def _influential(folder: Path, prints: Sequence[Fingerprint], result: SimilarityMatrix) -> dict[int, np.ndarray]:
    """Return the images that carry some cell, by number, if they were saved."""
    block = thumbnails_of(folder / INFLUENTIAL)
    if not isinstance(block, Thumbnails):
        return {}
    numbers = influential_images(prints[0], prints[1], str(result.settings["estimator"]))
    return dict(zip(numbers, block.images, strict=True)) if len(numbers) == len(block.images) else {}


def describe_side(side: Side) -> str:
    """Return a model's reference, architecture and input in one line."""
    size, mean, std = (side.preprocessing.get(name) for name in ("size", "mean", "std"))
    size = TIMES.join(map(str, size)) if isinstance(size, list | tuple) else size
    text = f"{side.label} ({side.architecture})" + (f", input {size} pixels" if size else "")
    return f"{text}; mean {format_value(mean)}, std {format_value(std)}" if size and mean and std else text


def thumbnails_of(path: Path) -> Block:
    """Return the images of a strip of squares, or a sentence that they are missing."""
    if not path.is_file():
        return Text(f"The images are not shown: the result's folder has no `{path.name}`.")
    try:
        with opened(path) as file:
            strip = np.asarray(file.convert("RGB"))
    except UNREADABLE as error:
        raise DataError(f"{path}: expected a strip of images, found {error}; delete it or compare again") from error
    side = strip.shape[0]
    squares = tuple(strip[:, left : left + side] for left in range(0, strip.shape[1] - side + 1, side))
    return Thumbnails(squares) if squares else Text(f"The images are not shown: `{path.name}` is not a row of squares.")


def _layers(result: SimilarityMatrix) -> tuple[Block, ...]:
    """Return the layers of both sides, in one table where they are the same."""
    rows, columns = (layer_frame(axes) for axes in (result.rows, result.columns))
    unit = f"rms is the root mean square of the variation over {result.examples}, in the layer's own units."
    if rows.drop(columns="rms").equals(columns.drop(columns="rms")):
        both = rows.rename(columns={"rms": "rms in x"}).assign(**{"rms in y": columns["rms"]})
        return (TableBlock(both, f"The layers of both. {unit}", "layers"),)
    return (
        TableBlock(rows, f"The layers of x. {unit}", "layers_x"),
        TableBlock(columns, f"The layers of y. {unit}", "layers_y"),
    )


def layer_frame(axes: tuple[Axis, ...]) -> pd.DataFrame:
    """Return one row per layer: index, layer, module, shape, rms."""
    return pd.DataFrame(
        {
            "index": range(len(axes)),
            "layer": [axis.name for axis in axes],
            "module": [axis.module for axis in axes],
            "shape": [TIMES.join(map(str, axis.shape)) for axis in axes],
            "rms": [axis.rms for axis in axes],
        }
    )
