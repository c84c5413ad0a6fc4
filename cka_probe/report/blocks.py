"""The content of a page, without HTML: sections of paragraphs, facts, tables, figures and matrices.

The reader of a folder builds these values; `html.render` turns them into one document. The same values give the same
bytes, so nothing here knows the time, the machine or the folder of the page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".svg")
"""Suffixes of images that a browser shows, in order of preference."""
DOWNLOAD_SUFFIXES = (".pdf", ".svg")
"""Suffixes of other files of the same figure, offered as downloads."""
CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


@dataclass(frozen=True)
class Paragraph:
    """One paragraph of plain text.

    Attributes:
        text: `code` and **strong** are marked up as in Markdown; nothing else is markup.
    """

    text: str


@dataclass(frozen=True)
class Markdown:
    """Text of a report, rendered by markdown-it-py. Raw HTML and images in it are not rendered.

    Attributes:
        source: CommonMark.
    """

    source: str


@dataclass(frozen=True)
class Facts:
    """Names and their values: a description list.

    Attributes:
        pairs: (name, value), in order.
    """

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class NumberText:
    """A cell that shows text and is sorted by a number, such as "0.214 ± 0.019".

    Attributes:
        text: Marked up as in a `Paragraph`; the CSV has it without the marks.
        number: The sort key; NaN is sorted last.
    """

    text: str
    number: float

    def __str__(self) -> str:
        return self.text.replace("**", "").replace("`", "")


@dataclass(frozen=True, eq=False)
class TableBlock:
    """A table that readers can sort and download as CSV.

    Attributes:
        frame: Columns in order; the index is not shown. Numbers are right-aligned, NaN is a dash.
        caption: A sentence.
        name: File name of the download, without suffix.
    """

    frame: pd.DataFrame
    caption: str
    name: str


@dataclass(frozen=True)
class FigureBlock:
    """An image with its caption.

    Attributes:
        image: A file (`*.png`, `*.jpg`, `*.webp`, `*.svg`), or the bytes of one.
        caption: A sentence, also used as the alternative text.
        name: File name of the download, without suffix.
        downloads: Files of the same figure. Those in the page's folder or below it are linked, others embedded.
    """

    image: str | Path | bytes
    caption: str
    name: str
    downloads: tuple[str | Path, ...] = ()

    @classmethod
    def from_file(cls, image: Path, caption: str) -> "FigureBlock":
        """Return an image file with the other files of the same figure as downloads."""
        others = [image.with_suffix(suffix) for suffix in DOWNLOAD_SUFFIXES if suffix != image.suffix]
        return cls(image, caption, image.stem, tuple(path for path in others if path.is_file()))


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Small images side by side.

    Attributes:
        images: (H, W, 3) uint8 each.
        captions: One per image.

    Raises:
        DataError: The number of captions differs, or an image has another shape or dtype.
    """

    images: tuple[np.ndarray, ...]
    captions: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.captions):
            raise DataError(f"expected {len(self.images)} captions of thumbnails, found {len(self.captions)}")
        for image in self.images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise DataError(f"expected thumbnails (H, W, 3) uint8, found {image.shape} {image.dtype}")


@dataclass(frozen=True, eq=False)
class MatrixBlock:
    """The interactive matrix: one layout, and a switch between measures.

    Attributes:
        results: By their name in the switch ("CKA, unbiased"), all with the same layers; the first is shown first.
        name: File name of the downloads, without suffix.
        downloads: Files of the same results, as in `FigureBlock`; a large matrix is rounded in the page, and only
            these have every digit.

    Raises:
        DataError: There is no result, or two of them have different layers.
    """

    results: Mapping[str, SimilarityMatrix]
    name: str = "result"
    downloads: tuple[str | Path, ...] = ()

    def __post_init__(self) -> None:
        if not self.results:
            raise DataError("expected at least one result for a matrix, found none; omit the matrix")
        first = next(iter(self.results))
        for name, result in self.results.items():
            if modules(result) != modules(self.results[first]):
                raise DataError(
                    f"expected the same layers in all results of a matrix, found other layers in {name!r} than in "
                    f"{first!r}; use one matrix for each"
                )


Block = Paragraph | Markdown | Facts | TableBlock | FigureBlock | Thumbnails | MatrixBlock


@dataclass(frozen=True, eq=False)
class Section:
    """A heading and the blocks under it.

    Attributes:
        title: The heading.
        blocks: In order.
        intro: A paragraph under the heading.
    """

    title: str
    blocks: tuple[Block, ...]
    intro: str = ""


@dataclass(frozen=True, eq=False)
class Page:
    """One page.

    Attributes:
        title: The heading of the page.
        subtitle: One sentence under it.
        sections: In order.
        warnings: Sentences to read before quoting a number, in a box at the top.
        provenance: (name, value) at the foot: hashes of models and images, settings, versions.
        command: The command that reproduces the result.
        label: Prefix of its sections where it is one of several on a page.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    command: str = ""
    label: str = ""


def modules(result: SimilarityMatrix) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the module paths of the layers of both sides."""
    return tuple(axis.module for axis in result.rows), tuple(axis.module for axis in result.columns)


def figures_in(folder: Path, captions: Mapping[str, str]) -> tuple[FigureBlock, ...]:
    """Return the figures of a folder, by the captions of their file stems and in their order."""
    figures = []
    for stem, caption in captions.items():
        paths = [path for suffix in IMAGE_SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
        figures += [FigureBlock.from_file(path, caption) for path in paths[:1]]
    return tuple(figures)


def model_name(reference: str) -> str:
    """Return a model's short name: a checkpoint's file stem, or any other reference in full.

    >>> model_name("runs/first_road/masked.safetensors"), model_name("random:swinv2_micro:1")
    ('masked', 'random:swinv2_micro:1')
    """
    path = Path(reference)
    return path.stem if path.suffix in CHECKPOINT_SUFFIXES else reference


def folder_name(folder: Path) -> str:
    """Return a folder's own name, whatever the working directory."""
    return folder.resolve().name


def format_value(value: Any) -> str:
    """Return a setting as text.

    >>> format_value([64, 96]), format_value(None), format_value(True), format_value(0.00025), format_value({"a": 1})
    ('64, 96', 'not given', 'yes', '0.00025', 'a 1')
    """
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_value, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings_pairs(
    settings: Mapping[str, Any], versions: Mapping[str, Any], file_format: str
) -> tuple[tuple[str, str], ...]:
    """Return settings, versions and file format of a result for the foot of a page."""
    pairs = [(str(name).replace("_", " "), format_value(value)) for name, value in settings.items()]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (*pairs, ("versions", packages or "not recorded"), ("format", file_format))
