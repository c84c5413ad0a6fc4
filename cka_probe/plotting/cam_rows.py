"""What a panel of Grad-CAM maps is made of: images with their maps, and the rows they are drawn in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.plotting import colouring

PREDICTS = {"labels": "labels", "depth": "depth", "category": "class", "": ""}
"""What networks predict, with the word beside it."""

ROOM, LINE = 0.1, 0.13  # inches: above a network, and of a line of small letters

Predicted = np.ndarray | str


@dataclass(frozen=True)
class CamColumn:
    """One image with its maps.

    Attributes:
        name: What the dataset calls it.
        image: (H, W, 3) uint8, as the first network saw it.
        maps: Network to (h, w) in [0, 1].
        truth: (h, w) numbers of classes, 255 = no label; (h, w) metres, 0 = not measured; the name of a class; or None.
        predictions: Network to what it predicts, of the kind of the truth; {} where they predict nothing.
        class_maps: Network to class to (h, w) in [0, 1].
        signed: Network to its map before the ReLU, (h, w) in [-1, 1], 0 where that is; {}: it is not shown.
        notes: Network to a few words above its map.
    """

    name: str
    image: np.ndarray
    maps: Mapping[str, np.ndarray]
    truth: Predicted | None = None
    predictions: Mapping[str, Predicted] = field(default_factory=dict)
    class_maps: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    signed: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CamPanel:
    """What is drawn.

    Attributes:
        columns: At least one; all with the same networks, in the order of the first.
        predicts: "labels", "depth", "category" or "".
        names: Of class 0, 1, … of labels.
        colours: (classes, 3) RGB of each, 0 … 255.
        classes: Names of those whose own maps are shown.
        footnote: A sentence below everything: what the notes are.
    """

    columns: Sequence[CamColumn]
    predicts: str = ""
    names: Sequence[str] = ()
    colours: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    classes: Sequence[str] = ()
    footnote: str = ""


@dataclass(frozen=True)
class Row:
    """One row of panels.

    Attributes:
        word: What it is.
        cells: A map, labels, depth, words or None for each column.
        kind: "image", "map", "signed", "labels", "depth" or "category".
        model: The network, where a new one begins with this row.
        notes: A few words above each panel.
    """

    word: str
    cells: Sequence[Predicted | None]
    kind: str
    model: str = ""
    notes: Sequence[str] = ()

    def height(self, width: float) -> float:
        """Return the inches of its panels, without the line of notes above them."""
        shapes = [cell.shape for cell in self.cells if isinstance(cell, np.ndarray)]
        return max((width * shape[0] / shape[1] for shape in shapes), default=LINE)

    @property
    def air(self) -> float:
        """Return the inches above its panels."""
        return ROOM * bool(self.model) + (LINE if any(self.notes) else 0.0)


def rows_of(panel: CamPanel) -> list[Row]:
    """Return all rows, from above."""
    each = panel.columns
    rows = [Row("image", [column.image for column in each], "image")]
    if any(column.truth is not None for column in each):
        rows.append(Row("truth", [column.truth for column in each], panel.predicts))
    for model in each[0].maps:
        notes = [column.notes.get(model, "") for column in each]
        rows.append(Row("map", [column.maps[model] for column in each], "map", model, notes))
        if each[0].signed:
            rows.append(Row("before the ReLU", [column.signed[model] for column in each], "signed"))
        for name in panel.classes:
            rows.append(Row(f"map of {name}", [column.class_maps[model][name] for column in each], "map"))
        if panel.predicts:
            predicted = [column.predictions[model] for column in each]
            rows.append(Row(f"predicted {PREDICTS[panel.predicts]}", predicted, panel.predicts))
    return rows


def check(panel: CamPanel) -> None:
    """Check that there is something to draw, of the same networks everywhere, and that numbers are what they say.

    Raises:
        DataError: It is not so.
        UnknownNameError: There is no such class, or nothing of the kind is predicted.
    """
    registry.get(PREDICTS, panel.predicts, "kind of prediction")
    if not panel.columns or not panel.columns[0].maps:
        raise DataError("expected at least one image and one network, found none; give some")
    for name in panel.classes:
        registry.get(dict.fromkeys(panel.names), name, "class")
    if np.shape(panel.colours) != (len(panel.names), 3):
        raise DataError(f"expected a colour for each of {len(panel.names)} classes, found {np.shape(panel.colours)}")
    models = list(panel.columns[0].maps)
    for column in panel.columns:
        parts = [("maps", column.maps)] + [("predictions", column.predictions)] * bool(panel.predicts)
        parts += [("maps before the ReLU", column.signed)] * bool(panel.columns[0].signed)
        for name in panel.classes:
            parts.append((f"maps of {name}", [model for model, own in column.class_maps.items() if name in own]))
        for what, there in parts:
            if sorted(there) != sorted(models):
                found = ", ".join(there) or "none"
                raise DataError(f"{column.name}: expected {what} of {', '.join(models)}, found {found}; give all")
        _check_values(panel, column)


def _check_values(panel: CamPanel, column: CamColumn) -> None:
    """Check that maps are maps and labels classes."""
    maps = [*column.maps.values(), *(own[name] for own in column.class_maps.values() for name in panel.classes)]
    if any(shown.ndim != 2 or not ((shown >= 0) & (shown <= 1)).all() for shown in maps):
        raise DataError(f"{column.name}: expected maps (height, width) in [0, 1], found another; scale them first")
    for found in labels_of(panel, column):
        wrong = found[(found != colouring.IGNORE) & ((found < 0) | (found >= len(panel.names)))]
        if wrong.size:
            raise DataError(
                f"{column.name}: expected labels below {len(panel.names)}, or {colouring.IGNORE}, found {wrong[0]}; "
                "give its own classes"
            )


def labels_of(panel: CamPanel, column: CamColumn) -> list[np.ndarray]:
    """Return all labels of a column."""
    there = [column.truth, *column.predictions.values()] if panel.predicts == "labels" else []
    return [found for found in there if found is not None]
