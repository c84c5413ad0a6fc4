"""Segmentation by several models next to the truth.

One row for each image: the image, its labels, and for each model the classes it predicts and where these are wrong,
with the share of labelled pixels that are. Classes have the colours of their vocabulary; those on the page are
explained below. Pixels without a label are hatched: nobody is right or wrong there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import figure as mpl

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.plotting import colouring
from cka_probe.plotting.figure import add_legend
from cka_probe.plotting.image_grid import Columns, Row, Tile, class_keys, colour_keys, dimmed, hatch_key

PARTS = {"labels": "predicted", "wrong": "wrong"}
"""What can be shown of a model, with the words above it."""
WRONG = (230, 97, 0)
"""Colour of what is wrong; on dim grey, bright for readers with any colour vision."""
WRONG_KEY, UNLABELLED = "predicted wrongly", "not labelled"


@dataclass(frozen=True)
class LabelRow:
    """One image with its labels.

    Attributes:
        name: What the dataset calls it.
        image: (H, W, 3) uint8.
        truth: (h, w) numbers of classes, 255 = no label.
        predictions: Model to (h, w) numbers of classes.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LabelPanel:
    """Labels of some images.

    Attributes:
        rows: At least one; all with the same models, in the order of the first.
        names: Of class 0, 1, …
        colours: (classes, 3) RGB of each, 0 … 255.
        parts: What is shown of each model, of "labels", "wrong".

    Raises:
        DataError: There is no row, no model or no part; shapes of a row differ; a number is not a class.
        UnknownNameError: No such part.
    """

    rows: Sequence[LabelRow]
    names: Sequence[str]
    colours: np.ndarray
    parts: Sequence[str] = ("labels", "wrong")

    def __post_init__(self) -> None:
        if not self.rows or not self.parts or not self.rows[0].predictions:
            raise DataError("expected at least one image, one model and one part to show of it, found none; give some")
        for part in self.parts:
            registry.get(PARTS, part, "part of a label panel")
        classes, models = len(self.names), list(self.rows[0].predictions)
        if np.shape(self.colours) != (classes, 3):
            raise DataError(
                f"expected a colour for each of {classes} classes, found {np.shape(self.colours)}; add some"
            )
        for row in self.rows:
            if sorted(row.predictions) != sorted(models):
                raise DataError(
                    f"{row.name}: expected labels of {', '.join(models)}, found {', '.join(row.predictions)}"
                )
            for name, numbers in {"the truth": row.truth, **row.predictions}.items():
                if numbers.shape != row.truth.shape:
                    raise DataError(
                        f"{row.name}: {name} is {numbers.shape} and the truth {row.truth.shape}; resize one of them"
                    )
                wrong = numbers[(numbers != colouring.IGNORE) & ((numbers < 0) | (numbers >= classes))]
                if wrong.size:
                    raise DataError(
                        f"{row.name}: expected {name} below {classes}, or {colouring.IGNORE}, found {wrong[0]}; give "
                        "its own classes"
                    )

    @property
    def _columns(self) -> Columns:
        return Columns(list(self.rows[0].predictions), [PARTS[part] for part in self.parts])

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return self._columns.width

    @property
    def narrowest(self) -> float:
        """Least width in print, inches."""
        return self._columns.narrowest

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        self._columns.draw_rows(figure, [self._row(row) for row in self.rows], ("image", "truth"))
        maps = [numbers for row in self.rows for numbers in (row.truth, *row.predictions.values())]
        keys = class_keys(maps, self.names, np.asarray(self.colours))
        keys += colour_keys({WRONG_KEY: WRONG} if "wrong" in self.parts else {})
        unlabelled = any((numbers == colouring.IGNORE).any() for numbers in maps)
        add_legend(figure, keys + ([hatch_key(UNLABELLED)] if unlabelled else []))

    def _row(self, row: LabelRow) -> Row:
        """Return one image, its labels, and what the models predict."""
        colours, image = np.asarray(self.colours), row.image / 255
        of_models: dict[str, list[Tile]] = {}
        for model, predicted in row.predictions.items():
            share = share_wrong(predicted, row.truth)
            note = f"{100 * share:.1f} %" if np.isfinite(share) else ""
            tiles = {
                "labels": Tile(colouring.classes(predicted, colours)),
                "wrong": Tile(_wrong_over(image, predicted, row.truth), note=note),
            }
            of_models[model] = [tiles[part] for part in self.parts]
        truth = Tile(colouring.classes(row.truth, colours))
        return Row(row.name, (Tile(colouring.opaque(image), smooth=True), truth), of_models)


def share_wrong(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of labelled pixels that are predicted wrongly; NaN without one.

    >>> share_wrong(np.array([[0, 1, 1]]), np.array([[0, 0, 255]]))
    0.5
    """
    labelled = truth != colouring.IGNORE
    return float((predicted != truth)[labelled].mean()) if labelled.any() else float("nan")


def _wrong_over(image: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return what is wrong over the dimmed image, transparent where there is no label."""
    down, across = (  # the image may be finer than its labels, or coarser
        ((np.arange(new) + 0.5) * old // new).astype(int) for new, old in zip(truth.shape, image.shape[:2], strict=True)
    )
    colours = dimmed(image[down][:, across])
    labelled = truth != colouring.IGNORE
    colours[labelled & (predicted != truth)] = np.array(WRONG) / 255
    return colouring.where(labelled, colours)
