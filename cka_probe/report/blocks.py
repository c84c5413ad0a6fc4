"""The content of a page, without HTML: headings, texts, facts, tables, figures and matrices.

The reader of a folder builds these values; `html.render` turns them into one document. The same values give the same
bytes, so nothing here knows the time, the machine or the folder of the page.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.comparison.atlas import Atlas
from cka_probe.comparison.names import FILE_SUFFIXES
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting.figure import Figure

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".svg")
"""Suffixes of images that a browser shows, in order of preference."""
COMMANDS = "commands.txt"
"""File in a folder with the command of each result in it."""
FOLDERS = re.compile(r"(?:(?<=^)|(?<=[\s:=('\"]))(?:~|[A-Za-z]:)?[/\\](?:[^/\\\s:'\"]+[/\\])*(?=[^/\\\s:'\"]+)")
"""The folders of an absolute path, up to its last name: after a space, a colon, `=`, a bracket or a quote."""


@dataclass(frozen=True)
class Heading:
    """The heading of the blocks up to the next one.

    `code` and **strong** are marked up as in Markdown, here and in every caption, cell, fact and warning.
    """

    text: str


@dataclass(frozen=True)
class Text:
    """CommonMark with tables. Raw HTML, images and links to local files in it are not rendered."""

    source: str


@dataclass(frozen=True)
class Facts:
    """Names and their values, in order: a description list."""

    pairs: tuple[tuple[str, str], ...]


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
        image: A file (PNG, JPEG, WebP or SVG), or the bytes of one.
        caption: A sentence, or "". It is also the alternative text; without one, the name is.
        name: File name of the image, without suffix.
        downloads: Files of the same figure, linked if they are in the page's folder or below it.
        figure: What is drawn for the formats that no file has, and for a venue.
    """

    image: Path | bytes
    caption: str
    name: str
    downloads: tuple[Path, ...] = ()
    figure: Figure | None = None

    @classmethod
    def from_file(cls, image: Path, caption: str, figure: Figure | None = None) -> "FigureBlock":
        """Return an image file with all files of the same figure as downloads."""
        files = [image.with_suffix(suffix) for suffix in (".pdf", ".svg", ".png")]
        return cls(image, caption, image.stem, tuple(path for path in files if path.is_file()), figure)


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Small images side by side, (H, W, 3) uint8 each, numbered from 1."""

    images: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class MatrixBlock:
    """The interactive matrix, with a switch between measures.

    Attributes:
        results: By their name in the switch ("CKA, unbiased"), all with the same layers; the first is shown first.
        name: File name of the downloads, without suffix.
        summary: If given, the matrix is folded below this line, which a `ModelsBlock` links to by `name`.
        reasons: What carries each cell of the first result, from `reasons_of`; empty if that is not known.
        thumbnails: Images that carry some cell, by number, (H, W, 3) uint8.

    Raises:
        DataError: There is no result, or two of them have different layers.
    """

    results: Mapping[str, SimilarityMatrix]
    name: str = "result"
    summary: str = ""
    reasons: Sequence[Sequence[Mapping[str, Any] | None]] = ()
    thumbnails: Mapping[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.results:
            raise DataError("expected at least one result for a matrix, found none; omit the matrix")
        first = next(iter(self.results))
        others = [name for name, result in self.results.items() if modules(result) != modules(self.results[first])]
        if others:
            raise DataError(
                f"expected the same layers in all results of a matrix, found other layers in {others[0]!r} than in "
                f"{first!r}; use one matrix for each"
            )


@dataclass(frozen=True, eq=False)
class ModelsBlock:
    """The matrix of models, each cell a link to the matrix of its layers.

    Attributes:
        atlas: The models.
        links: Names of the `MatrixBlock` of each two models, i < j, on the same page; others have no link.
    """

    atlas: Atlas
    links: Mapping[tuple[int, int], str]


Block = Heading | Text | Facts | TableBlock | FigureBlock | Thumbnails | MatrixBlock | ModelsBlock


@dataclass(frozen=True, eq=False)
class Page:
    """One page.

    Attributes:
        title: The heading of the page.
        blocks: Its content, in order.
        subtitle: One sentence under the title.
        warnings: Sentences to read before quoting a number, in a box at the top.
        label: Prefix of its headings where it is one of several on a page.
        max_bytes: Largest size of its document; None for that of most pages.
    """

    title: str
    blocks: tuple[Block, ...]
    subtitle: str = ""
    warnings: tuple[str, ...] = ()
    label: str = ""
    max_bytes: int | None = None


def modules(result: SimilarityMatrix) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the module paths of the layers of both sides."""
    return tuple(axis.module for axis in result.rows), tuple(axis.module for axis in result.columns)


def figures_in(
    folder: Path, title: str, captions: Mapping[str, str], figures: Mapping[str, Figure] | None = None
) -> tuple[Block, ...]:
    """Return a heading and the figures of a folder, by the captions of their file stems; nothing without figures.

    `figures` are those that can be drawn again, by the same names.
    """
    blocks: list[Block] = []
    for stem, caption in captions.items():
        paths = [path for suffix in IMAGE_SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
        blocks += [FigureBlock.from_file(path, caption, (figures or {}).get(stem)) for path in paths[:1]]
    return (Heading(title), *blocks) if blocks else ()


def model_name(reference: str) -> str:
    """Return a model's short name: a checkpoint's file stem, or any other reference in full.

    >>> model_name("runs/first_road/masked.safetensors"), model_name("random:swinv2_micro:1")
    ('masked', 'random:swinv2_micro:1')
    """
    path = Path(reference)
    return path.stem if path.suffix in FILE_SUFFIXES else reference


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


def without_folders(value: Any, digits: int | None = None) -> Any:
    """Return a JSON value without the folders of absolute paths in its texts, which are private.

    Args:
        value: Text, numbers, or lists and tables of them.
        digits: Round numbers to so many significant digits.

    >>> without_folders(["nyuv2:/srv/data/nyuv2:test", "runs/a.safetensors", 0.12345], 3)
    ['nyuv2:…/nyuv2:test', 'runs/a.safetensors', 0.123]
    """
    if isinstance(value, str):
        return FOLDERS.sub("…/", value)
    if isinstance(value, float) and digits is not None:
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {name: without_folders(item, digits) for name, item in value.items()}
    return [without_folders(item, digits) for item in value] if isinstance(value, list | tuple) else value


def command_of(folder: Path, file: str) -> str:
    """Return the command that wrote a file of a folder, as `commands.txt` there records it, or ""."""
    try:
        lines = (folder / COMMANDS).read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    command = dict(line.split(": ", 1) for line in lines if ": " in line).get(file)
    return f"{command} --out {shlex.quote(folder.resolve().name)}" if command else ""


def provenance_of(
    command: str, hashes: Iterable[tuple[str, str]], settings: Mapping[str, Any], versions: Mapping[str, str], form: str
) -> tuple[Block, ...]:
    """Return the last section of a result's page.

    Args:
        command: What reproduces the result, or "" if that is not recorded.
        hashes: Of models and images, by what they are of.
        settings: Of the result.
        versions: Of packages.
        form: Of the result's file.
    """
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    pairs = [(name.replace("_", " "), format_value(value)) for name, value in settings.items()]
    return (
        Heading("Provenance"),
        Text(
            f"Reproduce this result with:\n\n```\n{command}\n```"
            if command
            else "No command of this result is recorded: it was not made by the command line."
        ),
        Facts((*hashes, *pairs, ("versions", packages or "not recorded"), ("format", form))),
    )
