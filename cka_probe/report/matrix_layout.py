"""Where everything in the drawn matrix stands, in CSS pixels; the same for every result and view of one matrix.

Layer 0 is at the top left, x goes down and y to the right, as in the static figure. The template draws the frame of
names from this and the script fills the cells, so that neither computes a place the other could disagree with.
"""

from dataclasses import dataclass

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.plotting import labels

MAP = 600  # the longer side of a large map
LARGEST = 46  # a cell with a number in it
LETTER = 11  # size of names
MOST_NUMBERS = 12  # layers on the longer side, above which cells have no room for numbers
MOST_STRETCH = 3  # a matrix of few layers against many has oblong cells, at most so much
NAMES = 13.0  # em for a layer's name and index
BAR = 12


@dataclass(frozen=True)
class Layout:
    """Places, in pixels from the top left.

    Attributes:
        cell: Width and height of a cell.
        left: Of the first cell.
        top: Of the first cell.
        map: Width and height of all cells.
        size: Of the whole drawing.
        rows: (y, name) to write beside the rows.
        columns: (x, name) to write below the columns.
        upright: Names below are indices and need not be turned.
        numbers: Cells have room for numbers.
        names: Models on the rows and on the columns.
        images: "n = 128 images".
    """

    cell: tuple[float, float]
    left: float
    top: float
    map: tuple[float, float]
    size: tuple[float, float]
    rows: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, str], ...]
    upright: bool
    numbers: bool
    names: tuple[str, str]
    images: str


def layout_of(result: SimilarityMatrix) -> Layout:
    """Return the places for a result's layers."""
    wide, high = _cell(*result.values.shape)
    same = [axis.name for axis in result.rows] == [axis.name for axis in result.columns]
    row_names = _named(result.rows)
    column_names = [str(index) for index in range(len(result.columns))] if same else _named(result.columns)
    left, top = _round(36 + _widest(row_names)), 26
    across, down = _round(len(result.columns) * wide), _round(len(result.rows) * high)
    below = LETTER + 6 if same else _widest(column_names) + 8
    return Layout(
        cell=(wide, high),
        left=left,
        top=top,
        map=(across, down),
        size=(_round(left + across + 84), _round(top + max(down, 110) + below + 24)),
        rows=_every(row_names, high, top, 12.5),
        columns=_every(column_names, wide, left, 16 if same and len(column_names) > 9 else 12.5),
        upright=same,
        numbers=max(result.values.shape) <= MOST_NUMBERS,
        names=labels.model_names(result, room=max(14.0, min(across, down) / LETTER)),
        images=labels.images_line(result),
    )


def _cell(rows: int, columns: int) -> tuple[float, float]:
    """Return width and height of a cell: square where there are as many rows as columns.

    >>> _cell(9, 9), _cell(120, 120), _cell(2, 120)
    ((46.0, 46.0), (5.0, 5.0), (5.0, 15.0))
    """
    wide, high = (min(LARGEST, MAP / count) for count in (columns, rows))
    return _round(min(wide, MOST_STRETCH * high)), _round(min(high, MOST_STRETCH * wide))


def _named(axes) -> list[str]:
    index = labels.width(f"  {len(axes)}")
    return labels.numbered(labels.short_names([axis.name for axis in axes], NAMES - index))


def _widest(names: list[str]) -> float:
    return max(map(labels.width, names)) * LETTER


def _every(names: list[str], space: float, start: float, needed: float) -> tuple[tuple[float, str], ...]:
    step = labels.step_for(space, needed)
    return tuple((_round(start + (index + 0.5) * space), names[index]) for index in range(0, len(names), step))


def _round(value: float) -> float:
    return round(float(value), 2)
