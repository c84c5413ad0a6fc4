"""A page as one self-contained HTML document: no network, no other file, the same bytes for the same page.

The document stays below `MOST_BYTES`, so that it can be sent by mail: images are written smaller step by step, and
what still does not fit is named. Its Content-Security-Policy lets nothing in and runs the one script it came with.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from cka_probe.errors import OutputError
from cka_probe.files import atomic_write
from cka_probe.plotting import style
from cka_probe.report import images, matrix, tables
from cka_probe.report.escaping import Anchors, data_uri, policy, script_json, with_code
from cka_probe.report.page import FigureItem, Item, MatrixItem, Page, TableItem, Thumbnails

MOST_BYTES = 3_000_000
MOST_EMBEDDED = 300_000  # of a file to be downloaded that does not lie beside the page
SCRIPTS = ("numbers.js", "tables.js", "cells.js", "pins.js", "matrix.js", "page.js")

_TEMPLATES = Environment(
    loader=PackageLoader("cka_probe.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"code": with_code, "script_json": script_json}


@dataclass(frozen=True)
class Download:
    """A link to a file: what it is called, where it is, and the name it gets."""

    label: str
    address: str
    name: str


@dataclass(frozen=True)
class Part:
    """One item on its way into the template: its kind, its id, the item, and what was made of it."""

    kind: str
    anchor: str
    item: Item
    made: Any = None
    downloads: tuple[Download, ...] = ()


def render(page: Page, folder: str | Path | None = None) -> str:
    """Return the page as one HTML document.

    Args:
        page: What to say.
        folder: Where the document will stand; downloads in it or below it are linked and not embedded.

    Returns:
        At most `MOST_BYTES` as UTF-8.

    Raises:
        OutputError: It is larger, however small the images; what is too large is named.
        DataError: An image cannot be read.
    """
    items = [item for section in page.sections for item in section.items]
    exact = sum(matrix.exact_length(item) for item in items if isinstance(item, MatrixItem)) <= matrix.MOST_EXACT
    drawn = {id(item): matrix.drawn(item, exact) for item in items if isinstance(item, MatrixItem)}
    for squeeze in images.SQUEEZES:
        parts = _parts(page, drawn, squeeze, None if folder is None else Path(folder))
        document = _document(page, parts)
        if len(document.encode("utf-8")) <= MOST_BYTES:
            return document
    raise OutputError(_too_large(len(document.encode("utf-8")), parts))


def save_page(page: Page, path: str | Path) -> Path:
    """Write the page.

    Args:
        page: What to say.
        path: `*.html`; files in its folder are linked and not embedded.

    Returns:
        The path written.

    Raises:
        OutputError: The page is too large, or the place cannot be written to.
    """
    path = Path(path)
    document = render(page, path.parent)
    with atomic_write(path) as beside:
        beside.write_text(document, encoding="utf-8", newline="\n")
    return path


def _parts(page: Page, drawn: dict[int, Any], squeeze: images.Squeeze, folder: Path | None) -> list[list[Part]]:
    """Return the parts of each section."""
    anchors = Anchors()
    for name in ("contents", "cautions", "provenance", "main"):
        anchors.of(name)
    return [[_part(item, drawn, squeeze, folder, anchors) for item in section.items] for section in page.sections]


def _part(item: Item, drawn: dict[int, Any], squeeze: images.Squeeze, folder: Path | None, anchors: Anchors) -> Part:
    kind = type(item).__name__
    anchor, made = anchors.of(f"{kind.removesuffix('Item')} {getattr(item, 'name', '')}"), None
    if isinstance(item, TableItem):
        made = tables.table_of(item.frame)
    elif isinstance(item, FigureItem):
        made = images.shown(item.image, squeeze)
    elif isinstance(item, Thumbnails):
        made = tuple(images.thumbnail(image) for image in item.images)
    elif isinstance(item, MatrixItem):
        made = drawn[id(item)]
    return Part(kind, anchor, item, made, tuple(_downloads(getattr(item, "downloads", ()), folder)))


def _downloads(paths: Iterable[str | Path], folder: Path | None) -> Iterable[Download]:
    """Return a link for each file: to the file where it lies with the page, to its bytes where it does not."""
    for path in map(Path, paths):
        label = path.suffix[1:].upper() or path.name
        if folder is not None and path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            address = quote(path.resolve().relative_to(folder.resolve()).as_posix())
        elif path.is_file() and path.stat().st_size <= MOST_EMBEDDED:
            address = data_uri(path.read_bytes(), images.TYPES.get(path.suffix, "application/octet-stream"))
        else:
            found = f"one of {path.stat().st_size} bytes elsewhere" if path.is_file() else "none"
            raise OutputError(
                f"expected {path.name} beside the page, or a file of at most {MOST_EMBEDDED} bytes to put into it; "
                f"found {found}; write the page into the folder of its figures"
            )
        yield Download(label, address, path.name)


def _document(page: Page, parts: list[list[Part]]) -> str:
    sheet = _asset("page.css")
    script = '"use strict";\n(() => {\n' + "".join(map(_asset, SCRIPTS)) + "})();\n"
    anchors = Anchors()
    sections = [
        {"title": section.title, "intro": section.intro, "parts": found, "anchor": section.anchor or section.title}
        for section, found in zip(page.sections, parts, strict=True)
    ]
    for section in sections:
        section["anchor"] = f"s-{anchors.of(section['anchor'])}"
    return _TEMPLATES.get_template("page.html").render(
        page=page,
        sections=sections,
        style=sheet,
        script=script,
        policy=policy(script, sheet),
        scales={"values": matrix.scale(style.COLOURS), "widths": matrix.scale(style.WIDTHS)},
        digits=matrix.DIGITS,
        has_matrix=any(part.kind == "MatrixItem" for found in parts for part in found),
    )


def _asset(name: str) -> str:
    return files("cka_probe.report").joinpath("templates", name).read_text(encoding="utf-8")


def _too_large(size: int, parts: list[list[Part]]) -> str:
    weighed = sorted(((_weight(part), part) for found in parts for part in found), key=lambda one: -one[0])
    named = [(part.kind, getattr(part.item, "name", ""), weight) for weight, part in weighed[:3]]
    largest = ", ".join(f"{kind} {name!r} {weight / 1e6:.1f} MB" for kind, name, weight in named)
    return (
        f"expected a page of at most {MOST_BYTES / 1e6:g} MB, found {size / 1e6:.2f} MB with its images as small "
        f"as can be; largest: {largest}; leave some out or make a page of each"
    )


def _weight(part: Part) -> int:
    """Return about how many characters a part takes in the document."""
    return len(repr(part.made)) + sum(len(download.address) for download in part.downloads)
