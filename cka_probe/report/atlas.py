"""The page of `ckaprobe compare` of several models: their matrix, every pair a click away, and layers over checkpoints.

The matrices of pairs are folded. A page holds as many as fit into `MAX_CELLS`: those with the first model and with the
previous one before the others. The rest have their own folders, which the page names.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cka_probe.comparison.atlas import FILE, FORMAT, PAIRS, Atlas
from cka_probe.comparison.correspondence import DIAGONAL, RULES
from cka_probe.comparison.results import SimilarityMatrix, notes_of
from cka_probe.comparison.trajectory import SETTLED
from cka_probe.comparison.warnings import atlas_warnings
from cka_probe.plotting import figures_of
from cka_probe.plotting.atlas import ATLAS_FIGURES
from cka_probe.report.blocks import (
    Block,
    Facts,
    Heading,
    MatrixBlock,
    ModelsBlock,
    Page,
    TableBlock,
    Text,
    command_of,
    figures_in,
    provenance_of,
)
from cka_probe.report.comparison import STRIP, describe_side, hashes_of_images, layer_frame, result_title, thumbnails_of
from cka_probe.report.matrix import MAX_EXACT, exact_length

CAPTIONS = {
    "tree": "The models in the order of their clustering: average linkage of the distances `sqrt(2 (1 - s))`.",
    "map": "The models as points at their distances, by classical multidimensional scaling; ellipses are 95 % over "
    "resamples of the images, lines are training runs.",
}
OVER_CHECKPOINTS = {
    "curves": "Similarity of each layer to the same layer of the first, the previous and the last model, with 95 % "
    "intervals.",
}
"""Captions of the figures in the folder, by the stem of their files."""
MAX_CELLS = 20_000
"""Cells of the matrices of a page, about 2 MB."""
MAX_BYTES = 5_000_000
"""Largest size of the page; the matrix of 50 models at 12 depths takes 1 MB of it."""
MODEL_CELLS = 2.5
"""What a cell of the matrix of models takes of `MAX_CELLS`."""
MATRIX_CELLS = 300
"""What the frame of a matrix adds to its cells in the size of a page."""


def read(folder: Path) -> Page:
    """Return the page of several compared models.

    Raises:
        DataError: A file of it is missing or has another format.
    """
    atlas = Atlas.load(folder)
    first = atlas.first
    pairs = _pair_blocks(atlas, folder.resolve().name)
    models = list(zip(atlas.names, atlas.models, strict=True))
    hashes = [(f"{name}, hash of the weights", side.hash) for name, side in models]
    if len({*atlas.images_hashes}) == 1:
        hashes += hashes_of_images(first)
    else:
        named = zip(atlas.names, atlas.images_hashes, strict=True)
        hashes += [(f"images of {name}, hash", images_hash) for name, images_hash in named]
    facts = [(name, describe_side(replace(side, name=""))) for name, side in models]
    facts.append((first.examples if len({*atlas.sources}) == 1 else "images", atlas.images_text))
    facts += [("omitted", str(name)) for name in first.images.get("skipped") or ()]
    facts += [(f"note on {names}", note) for names, note in notes_of(dict(models))]
    return Page(
        title=f"{len(atlas.names)} models, every two compared",
        blocks=(
            Heading("Models"),
            Text(_summary(atlas)),
            ModelsBlock(atlas, {pair: block.name for pair, block in pairs.items()}),
            *_extremes(atlas),
            *figures_in(folder, "Groups of models", CAPTIONS, figures_of(atlas, ATLAS_FIGURES)),
            *_settling(atlas),
            *_curves(folder, atlas),
            Heading("Layer by layer"),
            Text(_pairs_text(atlas, len(pairs))),
            *pairs.values(),
            TableBlock(_pair_frame(atlas), f"Every two models: the {RULES[atlas.rule]}.", "pairs"),
            Heading("What was compared"),
            Facts(tuple(facts)),
            *([] if first.examples == "rows" else [thumbnails_of(folder / STRIP)]),
            Heading("Layers"),
            *_layers(atlas),
            *provenance_of(command_of(folder, FILE), hashes, first.settings, first.versions, FORMAT),
        ),
        subtitle=f"{result_title(first)}, over {atlas.images_text}.",
        warnings=atlas_warnings(atlas),
        label="Models",
        max_bytes=MAX_BYTES,
    )


def _summary(atlas: Atlas) -> str:
    """Return what a cell is, and the most and the least similar two models."""
    rule = f"A cell is the {RULES[atlas.rule]}. A click on it opens the matrix of layers."
    table = atlas.to_frame().dropna(subset=["value"])
    if not len(table):
        return f"{rule} No pair has a value; see the warnings."
    ends = []
    for row in (table["value"].idxmax(), table["value"].idxmin()):
        pair = table.loc[row]
        ends.append(f"`{pair['x']}` and `{pair['y']}` at {pair['value']:.3f} [{pair['low']:.3f}, {pair['high']:.3f}]")
    return f"{rule} The most similar models are {ends[0]}, the least similar {ends[1]}."


def _pair_frame(atlas: Atlas) -> pd.DataFrame:
    table = atlas.to_frame().drop(columns=["index_x", "index_y"])
    return table.drop(columns=["layers_x", "layers_y"]) if atlas.rule == DIAGONAL else table


def _pair_blocks(atlas: Atlas, name: str) -> dict[tuple[int, int], MatrixBlock]:
    """Return the folded matrices of pairs that a page has room for, in the order of the pairs."""
    blocks, room = {}, MAX_CELLS - MODEL_CELLS * len(atlas.names) ** 2
    for i, j in sorted(atlas.results, key=lambda pair: (pair[0] > 0, pair[1] - pair[0] > 1)):
        result = atlas.results[i, j]
        room -= result.values.size + MATRIX_CELLS
        if room >= 0:
            blocks[i, j] = MatrixBlock(
                {result_title(result): result},
                f"{name}-{i}-{j}",
                f"{atlas.names[i]} and {atlas.names[j]}{_value(atlas, i, j)}",
            )
    if sum(map(exact_length, blocks.values())) > MAX_EXACT:
        blocks = {pair: _without_terms(block) for pair, block in blocks.items()}
    return {pair: blocks[pair] for pair in atlas.results if pair in blocks}


def _without_terms(block: MatrixBlock) -> MatrixBlock:
    """Return a matrix without the terms of batches, which are most of its size, and without the bands of rows."""
    results: dict[str, SimilarityMatrix] = {
        name: replace(
            result, terms={}, family={key: entry for key, entry in result.family.items() if not key.startswith("row")}
        )
        for name, result in block.results.items()
    }
    return replace(block, results=results)


def _value(atlas: Atlas, i: int, j: int) -> str:
    value, low, high = (float(matrix[i, j]) for matrix in (atlas.values, atlas.low, atlas.high))
    return f": {value:.3f} [{low:.3f}, {high:.3f}]" if np.isfinite([value, low, high]).all() else ": undefined"


def _pairs_text(atlas: Atlas, count: int) -> str:
    """Return where the matrices of pairs are, of which a page holds `count`."""
    text = "Rows are the model that is named first, columns the second."
    missing = len(atlas.results) - count
    if missing:
        text += (
            f" {missing} of {len(atlas.results)} pairs are not in this page; `ckaprobe report {PAIRS}/I-J` makes the "
            "page of models I and J."
        )
    return text


def _curves(folder: Path, atlas: Atlas) -> tuple[Block, ...]:
    """Return the figure and the table of layers over models, nothing where the layers differ."""
    if not len(atlas.curves):
        return ()
    figures = figures_in(folder, "Over checkpoints", OVER_CHECKPOINTS, figures_of(atlas, ATLAS_FIGURES))
    table = atlas.curves.drop(columns=["layer_index"]).rename(
        columns=lambda name: name.replace("_value", "").replace("_", ", ")
    )
    caption = "Each layer against the same layer of the first, the previous and the last model."
    return (*(figures or (Heading("Over checkpoints"),)), TableBlock(table, caption, "curves"))


def _extremes(atlas: Atlas) -> tuple[Block, ...]:
    """Return the most and the least similar two models at every depth."""
    rows = []
    for depth in range(len(atlas.depths)):
        values, low, high = atlas.at_depth(depth)
        table = [(values[pair], pair) for pair in atlas.results if np.isfinite(values[pair])]
        row = {"layer": atlas.depth_name(depth)}
        for name, end in (("most alike", max(table, default=None)), ("least alike", min(table, default=None))):
            if end is not None:
                value, (i, j) = end
                row |= {name: f"{atlas.names[i]} and {atlas.names[j]}"}
                row |= {f"{name}, value": f"{value:.3f} [{low[i, j]:.3f}, {high[i, j]:.3f}]"}
        rows.append(row)
    return (TableBlock(pd.DataFrame(rows), "The most and the least similar two models, layer by layer.", "extremes"),)


def _settling(atlas: Atlas) -> tuple[Block, ...]:
    """Return when each layer of each training run settled."""
    if not len(atlas.settling):
        return ()
    caption = (
        f"The first step from which on each layer stays at least {SETTLED} similar to its state at the last "
        "checkpoint, and its similarity there. A dash: not before the last checkpoint."
    )
    table = atlas.settling.drop(columns="layer_index")
    return Heading("When layers settled"), TableBlock(table, caption, "settling")


def _layers(atlas: Atlas) -> tuple[Block, ...]:
    """Return the layers of each model, of models with the same layers in one table."""
    unit = f"rms is the root mean square of the variation over {atlas.first.examples}, in the layer's own units."
    tables: dict[str, list[int]] = {}
    frames = [layer_frame(atlas.axes(index)) for index in range(len(atlas.names))]
    for index, frame in enumerate(frames):
        tables.setdefault(frame.drop(columns="rms").to_csv(), []).append(index)
    blocks = []
    for models in tables.values():
        table = frames[models[0]].drop(columns="rms")
        for index in models:
            table[f"rms in {atlas.names[index]}"] = frames[index]["rms"]
        names = "all models" if len(tables) == 1 else ", ".join(atlas.names[index] for index in models)
        blocks.append(TableBlock(table, f"The layers of {names}. {unit}", f"layers_{models[0]}"))
    return tuple(blocks)
