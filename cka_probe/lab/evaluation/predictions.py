"""Predictions kept on disk, so that images of them can be drawn later without the model.

    FOLDER/<name with __ for />.npz    `depth` (H, W) float32, exactly as predicted and not yet scaled
    FOLDER/<name with __ for />.png    labels (H, W), numbers of classes with their colours as a palette
    FOLDER/predictions.json            which image each file is of, which model made them, of which data

Depth in 16-bit millimetres would be smaller; but what was rounded has other edges (a prediction quantised so moves
the boundary errors of iBims-1), and a model up to scale has no millimetres.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cka_probe.errors import DataError
from cka_probe.files import atomic_write
from cka_probe.images.classes import Classes
from cka_probe.lab.datasets.fields import read_labels

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


def keep_prediction(folder: str | Path, name: str, depth: np.ndarray) -> Path:
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


def keep_labels(folder: str | Path, name: str, labels: np.ndarray, classes: Classes) -> Path:
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


def read_kept_labels(folder: str | Path, name: str) -> np.ndarray:
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


def note_predictions(
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
