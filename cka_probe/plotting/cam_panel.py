"""Grad-CAM maps of several networks: a column for each image, rows for the truth, the maps and the predictions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib import figure as mpl
from matplotlib.axes import Axes

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.plotting import colouring, labels, style
from cka_probe.plotting.figure import add_legend, inches
from cka_probe.plotting.image_grid import Scale, Tile, add_scales, class_keys, draw_tiles, wrapped
from cka_probe.plotting.predictions import UNLABELLED, check_labels

PREDICTS = {"labels": "labels", "depth": "depth", "category": "class", "": ""}
"""What networks predict, and the word for it."""
MAPS = "viridis"
"""Colours of maps, light for high; none is a colour of depth."""
OVERLAY = 0.7
"""Opacity of a map over its image where the map is 1; it falls with the root of the map, to 0."""
SIGNED = "PuOr_r"
"""Colours of maps before the ReLU: purple against, white for nothing, orange for."""
NAMES, PANEL, NARROWEST, SMALLEST = 1.1, 1.5, 0.8, 0.7
"""Inches: the column of names; a panel of few, of many, and on a narrow page."""
TALLEST = 9.4
"""Inches: height of the page, while panels are not too small."""
ZERO = "zero everywhere"

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
        backgrounds: Network to the image as it saw it, (h, w, 3) uint8, below its maps; {}: maps are drawn alone.
    """

    name: str
    image: np.ndarray
    maps: Mapping[str, np.ndarray]
    truth: Predicted | None = None
    predictions: Mapping[str, Predicted] = field(default_factory=dict)
    class_maps: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    signed: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    backgrounds: Mapping[str, np.ndarray] = field(default_factory=dict)

    def map_tile(self, map: np.ndarray, model: str, title: str = "") -> Tile:
        """Return a map over its image, if it has one."""
        background = self.backgrounds.get(model)
        smooth, words = background is not None, "" if map.any() else ZERO
        return Tile(overlaid(map, background), smooth, words, title)


class Row(NamedTuple):
    """One row of panels: what it is, its tiles, and the network, where a new one begins with this row."""

    word: str
    tiles: Sequence[Tile]
    model: str = ""

    def aspect(self, panel: float) -> float:
        """Return the height of its panels by their width of so many inches, with room for the name of a network."""
        shapes = [tile.rgba.shape for tile in self.tiles if tile.rgba is not None]
        return max([0.48 / panel if self.model else 0.13, *(shape[0] / shape[1] for shape in shapes)])


@dataclass(frozen=True)
class CamPanel:
    """Grad-CAM maps of some images.

    Attributes:
        columns: At least one; all with the same networks, in the order of the first.
        predicts: "labels", "depth", "category" or "".
        names: Of class 0, 1, … of labels.
        colours: (classes, 3) RGB of each, 0 … 255.
        classes: Names of those whose own maps are shown.
        footnote: A sentence below everything: what the notes are.

    Raises:
        DataError: There is no image or no network; networks differ between images; a map or a number is not valid.
        UnknownNameError: There is no such class, or nothing of the kind is predicted.
    """

    columns: Sequence[CamColumn]
    predicts: str = ""
    names: Sequence[str] = ()
    colours: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    classes: Sequence[str] = ()
    footnote: str = ""

    def __post_init__(self) -> None:
        registry.get(PREDICTS, self.predicts, "kind of prediction")
        if not self.columns or not self.columns[0].maps:
            raise DataError("expected at least one image and one network, found none; give some")
        for name in self.classes:
            registry.get(dict.fromkeys(self.names), name, "class")
        first = self.columns[0]
        for column in self.columns:
            parts: dict[str, Collection[str]] = {"maps": column.maps}
            parts |= {"predictions": column.predictions} if self.predicts else {}
            parts |= {"images below maps": column.backgrounds} if first.backgrounds else {}
            parts |= {"maps before the ReLU": column.signed} if first.signed else {}
            for name in self.classes:
                parts[f"maps of {name}"] = [model for model, maps in column.class_maps.items() if name in maps]
            for part, networks in parts.items():
                if sorted(networks) != sorted(first.maps):
                    names = ", ".join(networks) or "none"
                    raise DataError(
                        f"{column.name}: expected {part} of {', '.join(first.maps)}, found {names}; give all"
                    )
            self._check_values(column)

    def _check_values(self, column: CamColumn) -> None:
        """Check that maps are maps and labels classes."""
        maps = [*column.maps.values(), *(maps[name] for maps in column.class_maps.values() for name in self.classes)]
        if any(map.ndim != 2 or not ((map >= 0) & (map <= 1)).all() for map in maps):
            raise DataError(f"{column.name}: expected maps (height, width) in [0, 1], found another; scale them first")
        for name, image in column.backgrounds.items():
            if (shape := column.maps[name].shape) != (size := image.shape[:2]):
                raise DataError(
                    f"{column.name}: expected an image of {size} below a map of {shape}; resize one of them"
                )
        for numbers in self._labels(column):
            check_labels({f"{column.name}: expected labels": numbers}, self.names, self.colours)

    def _labels(self, column: CamColumn) -> list[np.ndarray]:
        """Return the true and predicted labels of an image."""
        maps = [column.truth, *column.predictions.values()] if self.predicts == "labels" else []
        return [numbers for numbers in maps if isinstance(numbers, np.ndarray)]

    @property
    def width(self) -> float:
        """Width in print, inches: narrower where the rows would not fit on a page, though not below 0.8 a panel."""
        count = len(self.columns)
        panel = (TALLEST - 1.3 - 0.13 * len(self._rows)) / sum(row.aspect(PANEL) for row in self._rows)
        panel = max(min(PANEL, panel, (style.PAGE - NAMES) / count), NARROWEST)
        return max(style.COLUMN, NAMES + count * panel)

    @property
    def narrowest(self) -> float:
        """Least width in print, inches."""
        return max(style.COLUMN, NAMES + len(self.columns) * SMALLEST)

    @cached_property
    def _rows(self) -> list[Row]:
        """All rows, from above."""
        each = self.columns
        images = [Tile(colouring.opaque(one.image / 255), smooth=True, title=one.name) for one in each]
        rows = [Row("image", images)]
        if any(one.truth is not None for one in each):
            rows.append(Row("truth", [self._tile(one.truth) for one in each]))
        for model in each[0].maps:
            maps = [one.map_tile(one.maps[model], model, one.notes.get(model, "")) for one in each]
            rows.append(Row("map", maps, model))
            if each[0].signed:
                signed = [Tile(colormaps[SIGNED]((one.signed[model] + 1) / 2)) for one in each]
                rows.append(Row("before the ReLU", signed))
            for name in self.classes:
                maps = [one.map_tile(one.class_maps[model][name], model) for one in each]
                rows.append(Row(f"map of {name}", maps))
            if self.predicts:
                predicted = [self._tile(one.predictions[model]) for one in each]
                rows.append(Row(f"predicted {PREDICTS[self.predicts]}", predicted))
        return rows

    def _tile(self, predicted: Predicted | None) -> Tile:
        """Return what is true or predicted."""
        if not isinstance(predicted, np.ndarray):
            return Tile(words="not known" if predicted is None else predicted)
        if self.predicts == "depth":
            return Tile(colouring.own_inverse_depth(predicted[None]))
        return Tile(colouring.classes(predicted, np.asarray(self.colours)))

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        panel = (inches(figure) - NAMES) / len(self.columns)
        aspects = [row.aspect(panel) for row in self._rows]
        axes = draw_tiles(figure, [row.tiles for row in self._rows], aspects, panel)
        for ax, row in zip(axes[:, 0], self._rows, strict=True):
            _name(ax, row, panel)
        add_scales(figure, axes, self._scales(), panel)
        numbers = [map for column in self.columns for map in self._labels(column)]
        keys = class_keys(numbers, self.names, np.asarray(self.colours))
        footnote = labels.filled(self.footnote.split(), style.em(0.94 * inches(figure)))
        hatched = "not measured" if self.predicts == "depth" else UNLABELLED
        add_legend(figure, keys, title="\n".join(footnote), hatched=hatched)

    def _scales(self) -> list[Scale]:
        """Return what the colours of maps and depth mean."""
        ramp, overlay = np.linspace(0, 1, 256), bool(self.columns[0].backgrounds)
        colours = overlaid(ramp[None], np.full((1, 256, 3), 128) if overlay else None)[0]
        words = f"map{' over its image' * overlay}, each on its own scale"
        scales = [Scale(colours, [("0", 0), ("1", 1)], words)]
        if self.columns[0].signed:
            ticks = [("\N{MINUS SIGN}1", 0.0), ("0", 0.5), ("1", 1.0)]
            scales.append(Scale(colormaps[SIGNED](ramp), ticks, "before the ReLU, each on its own"))
        if self.predicts == "depth":
            bar = colouring.inverse_depth(1 / np.linspace(1, 0.1, 256)[None, None], 1.0, 10.0)[0]
            scales.append(Scale(bar, [("near", 0), ("far", 1)], "depth, each over its own range"))
        return scales


def overlaid(map: np.ndarray, background: np.ndarray | None) -> np.ndarray:
    """Return a map in colours, (H, W, 4) in [0, 1], over an image in grey unless that is `None` or the map is 0.

    Args:
        map: (H, W) in [0, 1].
        background: (H, W, 3) uint8.
    """
    colours: np.ndarray = colormaps[MAPS](map)
    if background is not None and map.any():
        grey = (background / 255) @ np.array([0.299, 0.587, 0.114])
        opacity = OVERLAY * np.sqrt(map)[..., None]
        colours[..., :3] = opacity * colours[..., :3] + (1 - opacity) * grey[..., None]
    return colours


def _name(ax: Axes, row: Row, panel: float) -> None:
    """Write what a row is to its left, and at its top the network that begins with it."""
    where: dict[str, Any] = {"rotation": 0, "ha": "right", "fontsize": style.small()}
    if not row.model:
        ax.set_ylabel(row.word, va="center", **where)
        return
    ax.set_ylabel(row.word, va="bottom", y=0, **where)
    lines = max(1, int((panel * row.aspect(panel) * 72 - 8) / 8.5))
    top: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "top"}
    name = wrapped(row.model, NAMES - 0.1, min(lines, 3))
    ax.annotate(name, (0, 1), xytext=(-style.points(2), 0), weight="bold", **top)
