"""Predictions saved by `evaluate`, and the panels that show them next to the ground truth.

    FOLDER/<name with __ for />.npz    `depth` (H, W) float32, exactly as predicted, not scaled
    FOLDER/<name with __ for />.png    labels (H, W), class numbers with their colours as a palette
    FOLDER/predictions.json            the image of each file, the model, and the data

Depth in 16-bit millimetres would be smaller, but rounding moves depth edges (and with them the boundary errors of
iBims-1), and a model up to scale has no millimetres.

Panels need no model, so models that ran on different machines can be shown together. They show what was scored:
the saved prediction, aligned to the ground truth in the same way, and Canny's edges with the same thresholds.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.files import atomic_write
from cka_probe.images.classes import Classes, numbered
from cka_probe.images.datasets import Dataset, open_dataset
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.fields import read_labels
from cka_probe.lab.evaluation.ibims1_errors import predicted_edges
from cka_probe.lab.evaluation.label_scores import LabelScores, describe_label_measure
from cka_probe.lab.evaluation.protocol import FLOOR, DepthProtocol, align_to_ground_truth
from cka_probe.lab.evaluation.scores import Scores, describe_measure
from cka_probe.lab.transforms import resized

if TYPE_CHECKING:
    from cka_probe.plotting.predictions import LabelPanel, PredictionRow

FORMAT = "ckaprobe-predictions/1"
NOTE = "predictions.json"
DEPTH, LABELS = ".npz", ".png"
"""Suffixes of the files of the two kinds of predictions."""
UNITS = {
    DEPTH: "as the model predicts it: metres, or depth up to scale; not scaled to the truth",
    LABELS: "numbers of classes, as in the dataset's vocabulary",
}


def prediction_path(folder: str | Path, name: str, suffix: str = DEPTH) -> Path:
    """Return the path of the saved prediction of an image.

    >>> prediction_path("kept", "office/rgb_00001.jpg").name
    'office__rgb_00001.jpg.npz'
    """
    return Path(folder) / f"{name.replace('/', '__')}{suffix}"


def check_names(names: Sequence[str]) -> None:
    """Raise `DataError` if the predictions of two images would be saved in one file."""
    first: dict[Path, str] = {}
    for name in names:
        other = first.setdefault(prediction_path("", name), name)
        if other is not name:
            raise DataError(
                f"expected images whose names differ in more than '/' and '__' to save predictions, found {other!r} "
                f"and {name!r}; rename one"
            )


def save_prediction(folder: str | Path, name: str, depth: np.ndarray) -> Path:
    """Write the prediction of an image, (H, W) float32 in the model's unit, and return the path.

    Raises:
        OutputError: The path cannot be written.
    """
    path = prediction_path(folder, name)
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, depth=depth.astype(np.float32))
    return path


def read_prediction(folder: str | Path, name: str) -> np.ndarray:
    """Return the prediction of an image, (H, W) float32 in the model's unit.

    Raises:
        DataError: There is none, or the file is not a prediction.
    """
    path = prediction_path(folder, name)
    try:
        with open(path, "rb") as file, np.load(file) as arrays:  # numpy does not close a broken archive
            return arrays["depth"]
    except Exception as error:  # a damaged archive can fail in any way
        raise DataError(
            f"expected the saved prediction of {name!r} at {path}, found {error}; run `ckaprobe evaluate` with --keep"
        ) from error


def save_label_prediction(folder: str | Path, name: str, labels: np.ndarray, classes: Classes) -> Path:
    """Write the predicted classes of an image, (H, W) whole numbers below 255, and return the path.

    Raises:
        OutputError: The path cannot be written.
    """
    path = prediction_path(folder, name, LABELS)
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(np.array(classes.colours, np.uint8).tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary)
    return path


def read_label_prediction(folder: str | Path, name: str) -> np.ndarray:
    """Return the predicted classes of an image, (H, W) int64.

    Raises:
        DataError: There are none, or the file is not an image of class numbers.
    """
    path = prediction_path(folder, name, LABELS)
    if not path.is_file():
        raise DataError(
            f"expected the saved prediction of {name!r} at {path}, found none; run `ckaprobe evaluate` with --keep"
        )
    return read_labels(path).numpy()


def write_manifest(
    folder: str | Path,
    names: Sequence[str],
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    suffix: str = DEPTH,
) -> Path:
    """Write the image of each file, the model and the data, and return the path.

    Raises:
        OutputError: The path cannot be written.
    """
    path = Path(folder) / NOTE
    document = {
        "format": FORMAT,
        "unit": UNITS[suffix],
        "model": dict(model),
        "data": dict(data),
        "images": {name: prediction_path("", name, suffix).name for name in names},
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def representative_images(scores: Scores | LabelScores, num: int, measure: str = "") -> list[str]:
    """Return the names of images from the best to the worst by a measure, evenly spaced by rank.

    Args:
        scores: The scores of one model.
        num: Number of images; fewer if fewer have a value.
        measure: A column of the table; by default abs_rel for depth, miou for labels.

    Raises:
        UnknownNameError: There is no such column.
        DataError: `num` is below 1.
    """
    if num < 1:
        raise DataError(f"expected at least one image to show, found {num}")
    if isinstance(scores, LabelScores):
        table, main, describe = scores.table(), "miou", describe_label_measure
    else:
        table, main, describe = scores.table, "abs_rel", describe_measure
    column = registry.get(dict(table.items()), measure or main, "measure").dropna()
    higher = describe(str(column.name)).better == "higher"
    ranked = column.sort_values(kind="stable", ascending=not higher).index
    return [ranked[i] for i in np.linspace(0, len(ranked) - 1, min(num, len(ranked))).round().astype(int)]


def label_rows(
    data: str | Path | Dataset,
    folders: Mapping[str, str | Path],
    names: Sequence[str],
    parts: Sequence[str] = ("labels", "wrong"),
) -> "LabelPanel":
    """Return a panel with a row for each image: its labels, and those that each model predicts.

    Labels are shown at the size of the predictions (nearest), at which they were scored.

    Args:
        data: The dataset of the predictions, or what `open_dataset` takes for it; it has labels.
        folders: By the name of a model, the folder in which `evaluate` saved its predictions.
        names: The names of the images.
        parts: What to show of each model, of "labels", "wrong".

    Raises:
        UnknownNameError: The data has no such image.
        DataError: A prediction is missing, or those of two models differ in size.
    """
    from cka_probe.plotting.predictions import LabelPanel, PredictionRow  # loads matplotlib

    dataset, rows = open_dataset(data) if isinstance(data, str | Path) else data, []
    for name, sample in _samples(dataset, names):
        predictions = {model: read_label_prediction(folder, name) for model, folder in folders.items()}
        height, width = next(iter(predictions.values())).shape if predictions else sample["labels"].shape
        truth = resized({"labels": sample["labels"]}, (height, width))["labels"].numpy()
        rows.append(PredictionRow(name, _pixels(sample["image"]), truth, predictions))
    maps = [labels for row in rows for labels in (row.truth, *row.predictions.values())]
    count = 1 + max((int(labels[labels != IGNORE].max(initial=0)) for labels in maps), default=0)
    classes = getattr(dataset, "classes", None) or numbered(count)
    return LabelPanel(tuple(rows), classes.names, np.array(classes.colours), parts)


def depth_rows(
    data: str | Path | Dataset, folders: Mapping[str, str | Path], names: Sequence[str], protocol: DepthProtocol
) -> "tuple[PredictionRow, ...]":
    """Return a row for each image, with every model's depth and its edges.

    Args:
        data: The dataset of the predictions, or what `open_dataset` takes for it; it has depth.
        folders: By the name of a model, the folder in which `evaluate` saved its predictions.
        names: The names of the images.
        protocol: The protocol by which they were scored: cap, crop, scaling and thresholds of edges.

    Raises:
        UnknownNameError: The data has no such image.
        DataError: A prediction is missing or has another size.
    """
    from cka_probe.plotting.predictions import TRUTH, PredictionRow  # loads matplotlib

    dataset, rows = open_dataset(data) if isinstance(data, str | Path) else data, []
    for name, sample in _samples(dataset, names):
        depth, predictions = sample["depth"], {}
        edges = {TRUTH: sample["edges"][0].numpy()} if "edges" in sample else {}
        for model, folder in folders.items():
            predicted = torch.from_numpy(read_prediction(folder, name))[None]
            if predicted.shape != depth.shape:
                raise DataError(
                    f"{name}: expected a prediction of the image's size {tuple(depth.shape[1:])} in {folder}, found "
                    f"{tuple(predicted.shape[1:])}; run the evaluation again"
                )
            aligned = align_to_ground_truth(predicted, sample, protocol, name)[0]
            predictions[model] = aligned.clamp(min=FLOOR).numpy()
            edges[model] = predicted_edges(aligned.numpy(), protocol.canny)
        rows.append(PredictionRow(name, _pixels(sample["image"]), depth[0].numpy(), predictions, edges))
    return tuple(rows)


def _samples(dataset: Dataset, names: Sequence[str]) -> Iterator[tuple[str, Mapping[str, torch.Tensor]]]:
    """Yield the named images of a dataset."""
    indices = {dataset.describe(index): index for index in range(len(dataset))}
    for name in names:
        yield name, dataset[registry.get(indices, name, "image")]


def _pixels(image: torch.Tensor) -> np.ndarray:
    """Return an image (3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
