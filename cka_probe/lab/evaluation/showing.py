"""Kept predictions as the rows of an image: depth, errors and edges, or labels, of several models beside the truth.

What is drawn is what was scored: the prediction that `evaluate` kept, brought to the truth in the same way, and
Canny's edges with the same thresholds. No model is needed, and models that ran on different machines can stand side by
side.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.classes import numbered
from cka_probe.images.datasets import Dataset, open_dataset
from cka_probe.images.sample import IGNORE
from cka_probe.lab.evaluation.boundaries import predicted_edges
from cka_probe.lab.evaluation.label_scores import LabelScores, describe_label_measure
from cka_probe.lab.evaluation.predictions import read_kept_labels, read_prediction
from cka_probe.lab.evaluation.protocol import FLOOR, Protocol, align_to_ground_truth
from cka_probe.lab.evaluation.scores import Scores, describe_measure
from cka_probe.lab.transforms import resized
from cka_probe.plotting.depth_panel import TRUTH, DepthRow
from cka_probe.plotting.label_panel import PARTS, LabelPanel, LabelRow


def representative_images(scores: Scores | LabelScores, num: int, measure: str = "") -> list[str]:
    """Return the names of images from the best to the worst by a measure, evenly spaced by rank.

    Args:
        scores: Of one model.
        num: How many; fewer where fewer have a value.
        measure: A column of the table; by default abs_rel of depth, miou of labels.

    Raises:
        UnknownNameError: There is no such column.
        DataError: `num` is below 1.
    """
    if num < 1:
        raise DataError(f"expected at least one image to show, found {num}")
    of_labels = isinstance(scores, LabelScores)
    table = scores.table() if of_labels else scores.table
    column = registry.get(dict(table.items()), measure or ("miou" if of_labels else "abs_rel"), "measure").dropna()
    higher = (describe_label_measure if of_labels else describe_measure)(str(column.name)).better == "higher"
    ranked = column.sort_values(kind="stable", ascending=not higher).index
    places = np.linspace(0, len(ranked) - 1, min(num, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]


def label_rows(
    data: str | Path | Dataset,
    kept: Mapping[str, str | Path],
    names: Sequence[str],
    parts: Sequence[str] = tuple(PARTS),
) -> LabelPanel:
    """Return a panel with a row for each image: its labels, and those that each model predicts.

    Labels are shown at the size of the predictions (nearest), which is that at which they were scored.

    Args:
        data: What the predictions are of; it has labels.
        kept: Model, as it is to be called, to the folder that `evaluate` kept its predictions in.
        names: Of the images.
        parts: What is shown of each model, of "labels", "wrong".

    Raises:
        UnknownNameError: There is no such image in the data.
        DataError: A prediction is not there, or two models' are of different sizes.
    """
    dataset = open_dataset(data) if isinstance(data, str | Path) else data
    places = {dataset.describe(index): index for index in range(len(dataset))}
    rows = tuple(_label_row(dataset[registry.get(places, name, "image")], kept, name) for name in names)
    count = 1 + max((int(found[found != IGNORE].max(initial=0)) for row in rows for found in _maps(row)), default=0)
    classes = getattr(dataset, "classes", None) or numbered(count)
    return LabelPanel(rows, classes.names, np.array(classes.colours), parts)


def depth_rows(
    data: str | Path | Dataset, kept: Mapping[str, str | Path], names: list[str], protocol: Protocol
) -> tuple[DepthRow, ...]:
    """Return a row for each image, with every model's depth and its edges.

    Args:
        data: What the predictions are of; it has depth.
        kept: Model, as it is to be called, to the folder that `evaluate` kept its predictions in.
        names: Of the images.
        protocol: Its `cap` and crop say what the prediction is scaled by, `scaling` how, `canny` where edges are.

    Raises:
        UnknownNameError: There is no such image in the data.
        DataError: A prediction is not there or has another size.
    """
    dataset = open_dataset(data) if isinstance(data, str | Path) else data
    places = {dataset.describe(index): index for index in range(len(dataset))}
    return tuple(_row(dataset[registry.get(places, name, "image")], kept, name, protocol) for name in names)


def _label_row(sample: Mapping[str, torch.Tensor], kept: Mapping[str, str | Path], name: str) -> LabelRow:
    """Return one image's row of labels."""
    predictions = {model: read_kept_labels(folder, name) for model, folder in kept.items()}
    size = next(iter(predictions.values())).shape if predictions else tuple(sample["labels"].shape)
    truth = resized({"labels": sample["labels"]}, size)["labels"].numpy()
    return LabelRow(name, _pixels(sample["image"]), truth, predictions)


def _maps(row: LabelRow) -> tuple[np.ndarray, ...]:
    return (row.truth, *row.predictions.values())


def _pixels(image: torch.Tensor) -> np.ndarray:
    """Return an image (3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _row(sample: Mapping[str, torch.Tensor], kept: Mapping[str, str | Path], name: str, protocol: Protocol) -> DepthRow:
    """Return one image's row."""
    image, depth = (sample[field] for field in ("image", "depth"))
    edges = {TRUTH: sample["edges"][0].numpy()} if "edges" in sample else {}
    predictions = {}
    for model, folder in kept.items():
        predicted = torch.from_numpy(read_prediction(folder, name))[None]
        if predicted.shape != depth.shape:
            raise DataError(
                f"{name}: expected a prediction of the image's size {tuple(depth.shape[1:])} in {folder}, found "
                f"{tuple(predicted.shape[1:])}; run the evaluation again"
            )
        brought = align_to_ground_truth(predicted, sample, protocol, name)[0]
        predictions[model] = brought.clamp(min=FLOOR).numpy()
        edges[model] = predicted_edges(brought.numpy(), protocol.canny)
    return DepthRow(name, _pixels(image), depth[0].numpy(), predictions, edges)
