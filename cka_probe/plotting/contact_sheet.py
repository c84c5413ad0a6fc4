"""A contact sheet of a data set: some of its samples, each field in colours next to the image.

One row for each sample, or several samples next to each other where they have few fields. All depth on a sheet has one
scale, and so has all flow; what was not measured, is ignored or not known is hatched.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib import figure as mpl
from matplotlib.artist import Artist

from cka_probe.errors import DataError
from cka_probe.plotting import colouring, labels, style
from cka_probe.plotting.figure import add_legend, inches
from cka_probe.plotting.image_grid import (
    Tile,
    add_scales,
    class_keys,
    colour_keys,
    depth_scale,
    draw_tiles,
)

DPI = 200
WIDEST, PANEL, NARROWEST = 12.0, 1.15, 0.5
"""Inches: a sheet of very many fields; a panel of 4:3, unless there are very many; and on a narrow page."""
BORDER = 0.25
"""Inches that the borders and the names of samples take."""
ROWS, MOST_SOURCES = 6, 4
SHORTEST = 2.5
"""Em of the name of a sample after its category; a shorter one says nothing."""
TALLEST = 1.4
"""Height of a panel by its width; taller images are drawn smaller."""
NO_VALUE = "no value"
"""What hatching stands for: not measured, ignored, not known, or no such field."""


@dataclass(frozen=True)
class SampleTile:
    """One sample on the sheet.

    Attributes:
        name: What the dataset calls it.
        fields: Its fields as numpy arrays, as `cka_probe.images.samples` has them; those it lacks are hatched.
    """

    name: str
    fields: Mapping[str, np.ndarray]

    @property
    def aspect(self) -> float:
        """Height of its image by its width; 3:4 where it has none."""
        shapes = [value.shape for name, value in self.fields.items() if name in FIELDS]
        return shapes[0][-2] / shapes[0][-1] if shapes else 0.75

    def value(self, name: str, number: int) -> np.ndarray | None:
        """Return a field, of `sources` one; None where the sample lacks it."""
        value = self.fields.get(name)
        if name == "sources" and value is not None:
            return value[number] if number < len(value) else None
        return value


@dataclass(frozen=True)
class ContactSheet:
    """Samples of a data set.

    Attributes:
        title: The line above.
        tiles: The samples, at least one.
        names: Of the classes in `labels`.
        colours: Of these, RGB in 0 … 255.
        categories: Names of the classes in `category`; without, their numbers are written.

    Raises:
        DataError: The sheet has no sample, or none with a field that can be drawn.
    """

    title: str
    tiles: Sequence[SampleTile]
    names: Sequence[str] = ()
    colours: Sequence[tuple[int, int, int]] = ()
    categories: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self._columns:
            raise DataError(f"expected samples with one of {', '.join(FIELDS)} for a contact sheet, found none")

    @cached_property
    def _columns(self) -> list[tuple[str, int, str]]:
        """(field, number of the source or 0, header) of each panel that at least one of the samples has."""
        columns = []
        for name, (header, _) in FIELDS.items():
            values = [tile.fields[name] for tile in self.tiles if name in tile.fields]
            if name != "sources":
                columns += [(name, 0, header)] if values else []
                continue
            count = min(max(map(len, values), default=0), MOST_SOURCES)
            columns += [(name, number, header if count == 1 else f"{header} {number + 1}") for number in range(count)]
        return columns

    @property
    def _least(self) -> float:
        """The inches that a sample should have; wide images need more to be seen."""
        aspect = float(np.median([tile.aspect for tile in self.tiles]))
        return len(self._columns) * PANEL * max(1.0, 0.75 / aspect) ** 0.5

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return min(max(style.PAGE, 0.9 * self._least), WIDEST)

    @property
    def narrowest(self) -> float:
        """Least width in print, inches."""
        return max(style.COLUMN, BORDER + len(self._columns) * NARROWEST)

    def _maps(self, name: str) -> list[np.ndarray]:
        return [tile.fields[name] for tile in self.tiles if name in tile.fields]

    @cached_property
    def depth(self) -> tuple[float, float] | None:
        """Metres of the lightest and the darkest colour; None: there is no depth."""
        depth = np.concatenate([value[value > 0] for value in self._maps("depth")] or [np.empty(0)])
        return (float(np.quantile(depth, 0.01)), float(np.quantile(depth, 0.99))) if depth.size else None

    @cached_property
    def flow(self) -> float:
        """Pixels at full strength; 0: there is no flow."""
        flow = np.concatenate([np.hypot(*value).ravel() for value in self._maps("flow")] or [np.empty(0)])
        flow = flow[~np.isnan(flow)]
        return max(float(np.quantile(flow, 0.99)), 0.1) if flow.size else 0.0

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure, as many samples next to each other as it has room for."""
        fields, width = len(self._columns), inches(figure)
        abreast = max(1, int(width / self._least))
        abreast = min(abreast, len(self.tiles)) if fields > 1 else abreast
        groups = [self.tiles[start : start + abreast] for start in range(0, len(self.tiles), abreast)]
        tallest = 1.0 if abreast > 1 else TALLEST  # one tall image would leave its neighbours in empty paper
        aspects = [min(max(tile.aspect for tile in group), tallest) for group in groups]
        panel = (width - BORDER) / (abreast * fields)
        lines = [[tile for sample in group for tile in self._tiles(sample, panel)] for group in groups]
        lines[0] += [Tile()] * (abreast * fields - len(lines[0]))  # an image alone is no larger than one of many
        axes = draw_tiles(figure, lines, aspects, panel)
        for line, group, aspect in zip(axes, groups, aspects, strict=True):
            for ax, sample in zip(line[::fields], group, strict=False):
                caption = self._caption(sample, style.em(0.95 * panel * (aspect if fields > 1 else 1.0)))
                (ax.set_ylabel if fields > 1 else ax.set_title)(caption, fontsize=style.small())
        if fields > 1:
            for ax, (_, _, header) in zip(axes[0], self._columns * abreast, strict=False):
                ax.set_title(labels.wrapped(header, style.em(0.94 * panel)), fontsize=style.small())
        figure.suptitle(labels.cut(self.title, style.em(0.97 * width, style.TEXT)), x=0.01, ha="left")
        if self.depth:
            sparse = any(0 < (value > 0).mean() < colouring.SPARSE for value in self._maps("depth"))
            add_scales(figure, axes, [depth_scale(self.depth, "depth (m)" + ", points enlarged" * sparse)], panel)
        add_legend(figure, self._keys(), hatched=NO_VALUE)

    def _tiles(self, sample: SampleTile, panel: float) -> list[Tile]:
        """Return the fields of one sample."""
        tiles = []
        for field, number, _ in self._columns:
            value = sample.value(field, number)
            if value is None:
                tiles.append(Tile(hatched=True))
                continue
            value = colouring.thick_lines(value[0], panel)[None] if field == "edges" else value
            tiles.append(Tile(FIELDS[field][1](value, self), smooth=field in ("image", "sources")))
        return tiles

    def _caption(self, tile: SampleTile, room: float) -> str:
        """Return a sample's name, after its category if it has one, in so many em."""
        if "category" not in tile.fields:
            return labels.cut(tile.name, room)
        number = int(tile.fields["category"])
        category = str(self.categories[number] if number < len(self.categories) else number)
        rest = room - labels.width(f"{category}  ")
        return f"{category}  {labels.cut(tile.name, rest)}" if rest > SHORTEST else labels.cut(category, room)

    def _keys(self) -> list[Artist]:
        """Return what the legend explains."""
        keys = class_keys(self._maps("labels"), self.names, np.array(self.colours, float).reshape(-1, 3))
        if self._maps("normals"):
            axes = np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1]], float).T[:, None]
            colours = 255 * colouring.directions(axes)[0, :, :3]
            words = ("normal to the right", "upwards", "to the camera")
            keys += colour_keys(dict(zip(words, colours, strict=True)))
        if self.flow:
            directions = np.array([[1, 0, -1, 0, 0], [0, 1, 0, -1, 0]], float)[:, None]
            names = (f"flow of {self.flow:.3g} px to the right", "down", "to the left", "up", "no motion")
            keys += colour_keys(dict(zip(names, 255 * colouring.motion(directions, 1.0)[0, :, :3], strict=True)))
        return keys


def fitting(tile: SampleTile) -> int:
    """Return how many samples like this one make six rows; six if it has no fields, since its frame is broken."""
    if not tile.fields:
        return ROWS
    sheet = ContactSheet("", [tile])
    return ROWS * max(1, int(style.PAGE / sheet._least))


FIELDS: dict[str, tuple[str, Callable[[np.ndarray, ContactSheet], np.ndarray]]] = {
    "image": ("image", lambda value, _: colouring.image(value)),
    "sources": ("source", lambda value, _: colouring.image(value)),
    "depth": ("depth", lambda value, sheet: colouring.inverse_depth(value, *(sheet.depth or (1, 2)))),
    "pseudo_depth": ("pseudo depth", lambda value, _: colouring.own_inverse_depth(value)),
    "labels": ("labels", lambda value, sheet: colouring.classes(value, np.reshape(sheet.colours, (-1, 3)))),
    "instances": ("instances", lambda value, _: colouring.pieces(value)),
    "planes": ("planes", lambda value, _: colouring.planes(value)),
    "normals": ("normals", lambda value, _: colouring.directions(value)),
    "edges": ("depth edges", lambda value, _: colouring.yes_no(value)),
    "flow": ("flow", lambda value, sheet: colouring.motion(value, sheet.flow or 1)),
    "occluded": ("occluded", lambda value, _: colouring.yes_no(value)),
    "valid": ("valid (white)", lambda value, _: colouring.yes_no(~value)),
}
"""The fields that are drawn, in the order of their columns: words above, and from a map and its sheet to RGBA."""
