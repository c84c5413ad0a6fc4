"""Kept predictions as the rows of a picture: depth, errors and edges of several models beside the truth.

What is drawn is what was scored: the prediction that `evaluate` kept, brought to the truth in the same way, and
Canny's edges with the same thresholds. No model is needed, and models that ran on different machines can stand side by
side.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from cka_probe.data import open_dataset
from cka_probe.data.dataset import Dataset
from cka_probe.errors import DataError
from cka_probe.evaluation.boundaries import predicted_edges
from cka_probe.evaluation.predictions import read_prediction
from cka_probe.evaluation.protocol import FLOOR, Protocol, brought_to_truth
from cka_probe.figures.depth_panel import TRUTH, DepthRow
from cka_probe.lookup import lookup
from cka_probe.scores import Scores


def telling_pictures(scores: Scores, num: int, measure: str = "abs_rel") -> list[str]:
    """Return the names of pictures from the best to the worst by a measure, evenly spaced by rank.

    Args:
        scores: Of one model.
        num: How many; fewer where fewer have a value.
        measure: A column of the table.

    Raises:
        UnknownNameError: There is no such column.
        DataError: `num` is below 1.
    """
    if num < 1:
        raise DataError(f"expected at least one picture to show, found {num}")
    ranked = lookup(dict(scores.table.items()), measure, "measure").dropna().sort_values(kind="stable").index
    places = np.linspace(0, len(ranked) - 1, min(num, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]


def depth_rows(
    data: str | Path | Dataset, kept: Mapping[str, str | Path], names: list[str], protocol: Protocol
) -> tuple[DepthRow, ...]:
    """Return a row for each picture, with every model's depth and its edges.

    Args:
        data: What the predictions are of; it has depth.
        kept: Model, as it is to be called, to the folder that `evaluate` kept its predictions in.
        names: Of the pictures.
        protocol: Its `cap` and crop say what the prediction is scaled by, `scaling` how, `canny` where edges are.

    Raises:
        UnknownNameError: There is no such picture in the data.
        DataError: A prediction is not there or has another size.
    """
    dataset = open_dataset(data) if isinstance(data, str | Path) else data
    places = {dataset.describe(index): index for index in range(len(dataset))}
    return tuple(_row(dataset[lookup(places, name, "picture")], kept, name, protocol) for name in names)


def _row(sample: Mapping[str, torch.Tensor], kept: Mapping[str, str | Path], name: str, protocol: Protocol) -> DepthRow:
    """Return one picture's row."""
    image, depth = (sample[field] for field in ("image", "depth"))
    edges = {TRUTH: sample["edges"][0].numpy()} if "edges" in sample else {}
    predictions = {}
    for model, folder in kept.items():
        predicted = torch.from_numpy(read_prediction(folder, name))[None]
        if predicted.shape != depth.shape:
            raise DataError(
                f"{name}: expected a prediction of the picture's size {tuple(depth.shape[1:])} in {folder}, found "
                f"{tuple(predicted.shape[1:])}; run the evaluation again"
            )
        brought = brought_to_truth(predicted, sample, protocol, name)[0]
        predictions[model] = brought.clamp(min=FLOOR).numpy()
        edges[model] = predicted_edges(brought.numpy(), protocol.canny)
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return DepthRow(name, pixels, depth[0].numpy(), predictions, edges)
