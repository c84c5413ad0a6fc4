"""What a page says, without a word of HTML: sections of texts, facts, tables, images and matrices.

Whoever reads a folder builds these values; `render` turns them into one document. The same values give the same
bytes, so nothing here knows the time, the machine or the folder it stands in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError


@dataclass(frozen=True)
class Text:
    """Paragraphs of plain text.

    Attributes:
        paragraphs: One string each; what stands between backticks is set as code, between two pairs of stars as
            strong, and nothing else is markup.
    """

    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Bullets:
    """A list.

    Attributes:
        entries: One string each, set as the paragraphs of a `Text` are.
    """

    entries: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Commands, or what they print, as they stand: in a fixed width, lines and spaces kept.

    Attributes:
        text: One or more lines.
    """

    text: str


@dataclass(frozen=True)
class Facts:
    """Names and what they are: a definition list.

    Attributes:
        pairs: (name, value), in order.
    """

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Worded:
    """A cell of a table that is read as words and sorted by a number, such as "0.214 ± 0.019".

    Attributes:
        text: The words, marked as those of a `Text` are; the CSV has them without the marks.
        number: What a sort compares; NaN stands last.
    """

    text: str
    number: float

    def __str__(self) -> str:
        return self.text.replace("**", "").replace("`", "")


@dataclass(frozen=True, eq=False)
class TableItem:
    """A table that readers can sort and take away as CSV.

    Attributes:
        frame: Columns in order; the index is not shown. Numbers stand right, NaN is a dash; a `Worded` is both.
        caption: A sentence.
        name: File name of the download, without suffix.
    """

    frame: pd.DataFrame
    caption: str
    name: str


@dataclass(frozen=True)
class FigureItem:
    """An image with its caption.

    Attributes:
        image: A file (`*.png`, `*.jpg`, `*.webp`, `*.svg`), or the bytes of one.
        caption: A sentence; also what a screen reader says in the image's place.
        name: File name of the download, without suffix.
        downloads: Files of the same figure. One in the page's folder, or below it, is linked; another is embedded.
    """

    image: str | Path | bytes
    caption: str
    name: str
    downloads: tuple[str | Path, ...] = ()


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Small images side by side.

    Attributes:
        images: (H, W, 3) uint8 each.
        captions: One for each, said by a screen reader and shown on hover.

    Raises:
        DataError: As many captions as images are needed, and images of this shape and dtype.
    """

    images: tuple[np.ndarray, ...]
    captions: tuple[str, ...]

    def __post_init__(self):
        if len(self.images) != len(self.captions):
            raise DataError(
                f"expected a caption for each of {len(self.images)} thumbnails, found {len(self.captions)}; "
                "give one each"
            )
        for image in self.images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise DataError(
                    f"expected thumbnails (H, W, 3) uint8, found {image.shape} {image.dtype}; convert them first"
                )


@dataclass(frozen=True, eq=False)
class MatrixItem:
    """The interactive matrix: one layout, and a switch between what was measured.

    Attributes:
        results: By what the switch calls them ("CKA, unbiased"), all with the same layers on both sides; the first
            is shown first.
        name: File name of the downloads, without suffix.
        downloads: Files of the same results, as in `FigureItem`; a large matrix is rounded in the page, and only
            these have every digit.

    Raises:
        DataError: There is no result, or two of them have different layers.
    """

    results: Mapping[str, SimilarityMatrix]
    name: str = "result"
    downloads: tuple[str | Path, ...] = ()

    def __post_init__(self):
        if not self.results:
            raise DataError("expected at least one result for a matrix, found none; leave the matrix out")
        first = next(iter(self.results))
        for label, result in self.results.items():
            if _layers(result) != _layers(self.results[first]):
                raise DataError(
                    f"expected the same layers in all results of one matrix, found others in {label!r} than in "
                    f"{first!r}; make a matrix of each"
                )


def _layers(result: SimilarityMatrix) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(axis.module for axis in result.rows), tuple(axis.module for axis in result.columns)


Item = Text | Bullets | Code | Facts | TableItem | FigureItem | Thumbnails | MatrixItem


@dataclass(frozen=True, eq=False)
class Section:
    """A heading and what stands under it.

    Attributes:
        title: The heading.
        items: In order.
        anchor: What links to it end in; by default made of the title.
        intro: A paragraph under the heading.
    """

    title: str
    items: tuple[Item, ...]
    anchor: str = ""
    intro: str = ""


@dataclass(frozen=True, eq=False)
class Page:
    """One page.

    Attributes:
        title: What was looked at.
        subtitle: One sentence under it.
        sections: In order.
        cautions: Sentences to read before quoting a number, in a box at the top.
        provenance: (name, value) at the foot: hashes of models and images, settings, versions.
        command: What makes the result again, exactly.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    cautions: tuple[str, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    command: str = ""
