"""Predictions saved by `evaluate`, and the panels that show them next to the ground truth.

    FOLDER/<name with __ for />.npz    `depth` (H, W) float32, exactly as predicted and not yet scaled
    FOLDER/<name with __ for />.png    labels (H, W), class numbers with their colours as a palette
    FOLDER/predictions.json            the image of each file, the model that made them, and the data

Depth in 16-bit millimetres would be smaller, but rounding moves depth edges (and with them the boundary errors of
iBims-1), and a model up to scale has no millimetres.

Panels need no model, so models that ran on different machines can be shown together. They show what was scored:
the saved prediction, aligned to the ground truth in the same way, and Canny's edges with the same thresholds.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
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
    from cka_probe.plotting.depth_panel import DepthRow
    from cka_probe.plotting.label_panel import LabelPanel, LabelRow

FORMAT = "ckaprobe-predictions/1"
NOTE = "predictions.json"
DEPTH, LABELS = ".npz", ".png"
"""How the files of the two kinds of predictions end."""
UNITS = {
    DEPTH: "as the model predicts it: metres, or depth up to scale; not scaled to the truth",
    LABELS: "numbers of classes, as the data set's vocabulary numbers them",
}


def prediction_path(folder: str | Path, name: str, suffix: str = DEPTH) -> Path:
    """Return where the prediction of an image is kept.

    >>> prediction_path("kept", "office/rgb_00001.jpg").name
    'office__rgb_00001.jpg.npz'
    """
    return Path(folder) / f"{name.replace('/', '__')}{suffix}"


def check_names(names: Sequence[str]) -> None:
    """Check that no two images would be kept in one file.

    Raises:
        DataError: They would.
    """
    seen: dict[Path, str] = {}
    for name in names:
        other = seen.setdefault(prediction_path("", name), name)
        if other is not name:
            raise DataError(
                f"expected images whose names differ in more than '/' and '__' to keep predictions, found {other!r} "
                f"and {name!r}; rename one"
            )


def save_prediction(folder: str | Path, name: str, depth: np.ndarray) -> Path:
    """Write the prediction of an image, (H, W) float32 in the model's unit, and return the path.

    Raises:
        OutputError: It cannot be written there.
    """
    path = prediction_path(folder, name)
    with atomic_write(path) as beside:
        np.savez_compressed(beside, depth=depth.astype(np.float32))
    return path


def read_prediction(folder: str | Path, name: str) -> np.ndarray:
    """Return the prediction of an image, (H, W) float32 in the model's unit, not scaled.

    Raises:
        DataError: There is none, or the file is no prediction.
    """
    path = prediction_path(folder, name)
    try:
        with open(path, "rb") as file, np.load(file) as arrays:  # numpy leaves a broken archive open
            return arrays["depth"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"expected the kept prediction of {name!r} at {path}, found {error}; run `ckaprobe evaluate` with --keep"
        ) from error


def save_label_prediction(folder: str | Path, name: str, labels: np.ndarray, classes: Classes) -> Path:
    """Write the predicted classes of an image, (H, W) whole numbers below 255, and return the path.

    Raises:
        OutputError: It cannot be written there.
    """
    path = prediction_path(folder, name, LABELS)
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(np.array(classes.colours, np.uint8).tobytes())
    with atomic_write(path) as beside:
        image.save(beside)
    return path


def read_label_prediction(folder: str | Path, name: str) -> np.ndarray:
    """Return the predicted classes of an image, (H, W) int64.

    Raises:
        DataError: There are none, or the file is no image of numbers.
    """
    path = prediction_path(folder, name, LABELS)
    if not path.is_file():
        raise DataError(
            f"expected the kept prediction of {name!r} at {path}, found none; run `ckaprobe evaluate` with --keep"
        )
    return read_labels(path).numpy()


def write_manifest(
    folder: str | Path,
    names: Sequence[str],
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    suffix: str = DEPTH,
) -> Path:
    """Write which image each file is of, by which model, and return the path.

    Raises:
        OutputError: It cannot be written there.
    """
    path = Path(folder) / NOTE
    document = {
        "format": FORMAT,
        "unit": UNITS[suffix],
        "model": dict(model),
        "data": dict(data),
        "images": {name: prediction_path("", name, suffix).name for name in names},
    }
    with atomic_write(path) as beside:
        beside.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


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
    table = scores.table() if isinstance(scores, LabelScores) else scores.table
    column = registry.get(dict(table.items()), measure or ("miou" if of_labels else "abs_rel"), "measure").dropna()
    higher = (describe_label_measure if of_labels else describe_measure)(str(column.name)).better == "higher"
    ranked = column.sort_values(kind="stable", ascending=not higher).index
    places = np.linspace(0, len(ranked) - 1, min(num, len(ranked))).round().astype(int)
    return [ranked[place] for place in places]


def label_rows(
    data: str | Path | Dataset,
    kept: Mapping[str, str | Path],
    names: Sequence[str],
    parts: Sequence[str] = ("labels", "wrong"),
) -> "LabelPanel":
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
    from cka_probe.plotting.label_panel import LabelPanel  # matplotlib is loaded only to draw

    return LabelPanel(rows, classes.names, np.array(classes.colours), parts)


def depth_rows(
    data: str | Path | Dataset, kept: Mapping[str, str | Path], names: list[str], protocol: DepthProtocol
) -> "tuple[DepthRow, ...]":
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


def _label_row(sample: Mapping[str, torch.Tensor], kept: Mapping[str, str | Path], name: str) -> "LabelRow":
    """Return one image's row of labels."""
    from cka_probe.plotting.label_panel import LabelRow

    predictions = {model: read_label_prediction(folder, name) for model, folder in kept.items()}
    height, width = next(iter(predictions.values())).shape if predictions else sample["labels"].shape
    truth = resized({"labels": sample["labels"]}, (height, width))["labels"].numpy()
    return LabelRow(name, _pixels(sample["image"]), truth, predictions)


def _maps(row: "LabelRow") -> tuple[np.ndarray, ...]:
    return (row.truth, *row.predictions.values())


def _pixels(image: torch.Tensor) -> np.ndarray:
    """Return an image (3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _row(
    sample: Mapping[str, torch.Tensor], kept: Mapping[str, str | Path], name: str, protocol: DepthProtocol
) -> "DepthRow":
    """Return one image's row."""
    from cka_probe.plotting.depth_panel import TRUTH, DepthRow

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
