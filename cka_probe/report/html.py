"""A page as one self-contained HTML document: no network, no other file, the same bytes for the same page.

The document stays below `MAX_BYTES`, so that it can be sent by mail: figures are embedded at lower quality until it
fits, and an error names the largest blocks if it never does. Jinja escapes every text. The Content-Security-Policy
allows only the style and the script of the page itself.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markupsafe import Markup, escape

from cka_probe.errors import OutputError
from cka_probe.files import atomic_write
from cka_probe.plotting import style
from cka_probe.report import images, matrix, tables
from cka_probe.report.blocks import Block, FigureBlock, MatrixBlock, Page, TableBlock, Thumbnails

MAX_BYTES = 3_000_000
MAX_EMBEDDED = 300_000  # bytes of a download outside the page's folder
INLINE = re.compile(r"`([^`]+)`|\*\*(\S(?:[^*]*\S)?)\*\*")


@dataclass(frozen=True)
class Download:
    """A link to a file: its label, its address, and its file name."""

    label: str
    address: str
    name: str


def render(page: Page, folder: str | Path | None = None) -> str:
    """Return the page as one HTML document.

    Args:
        page: Its content.
        folder: The folder of the document; downloads in it or below it are linked instead of embedded.

    Returns:
        At most `MAX_BYTES` as UTF-8.

    Raises:
        OutputError: It is larger, however small the images; the largest blocks are named.
        DataError: An image cannot be read.
    """
    directory = None if folder is None else Path(folder)
    blocks = [block for section in page.sections for block in section.blocks]
    ids = UniqueIds("contents", "warnings", "provenance", "main")
    anchors = [ids.new(f"{_kind(block)} {getattr(block, 'name', '')}") for block in blocks]
    exact = sum(matrix.exact_length(block) for block in blocks if isinstance(block, MatrixBlock)) <= matrix.MAX_EXACT
    rendered: list[Markup] = []
    document = ""
    for quality in images.QUALITIES:
        rendered = [
            _render_block(block, anchor, directory, quality, exact)
            if not rendered or isinstance(block, FigureBlock)
            else rendered[index]
            for index, (block, anchor) in enumerate(zip(blocks, anchors, strict=True))
        ]
        document = _document(page, rendered)
        if len(document.encode("utf-8")) <= MAX_BYTES:
            return document
    raise OutputError(_too_large(len(document.encode("utf-8")), blocks, rendered))


def save_page(page: Page, path: str | Path) -> Path:
    """Write the page.

    Args:
        page: Its content.
        path: `*.html`; files in its folder are linked instead of embedded.

    Returns:
        The path of the file.

    Raises:
        OutputError: The page is too large or cannot be written.
    """
    path = Path(path)
    document = render(page, path.parent)
    with atomic_write(path) as temporary:
        temporary.write_text(document, encoding="utf-8", newline="\n")
    return path


def _render_block(block: Block, anchor: str, folder: Path | None, quality: images.Quality, exact: bool) -> Markup:
    content: Any = None
    if isinstance(block, TableBlock):
        content = tables.table_of(block.frame)
    elif isinstance(block, FigureBlock):
        content = images.embed(block.image, quality)
    elif isinstance(block, Thumbnails):
        content = [images.thumbnail(image) for image in block.images]
    elif isinstance(block, MatrixBlock):
        content = matrix.view_of(block, exact)
    downloads = list(_downloads(getattr(block, "downloads", ()), folder))
    template = _TEMPLATES.get_template("matrix.html" if isinstance(block, MatrixBlock) else "block.html")
    return Markup(template.render(kind=_kind(block), block=block, id=anchor, content=content, downloads=downloads))


def _kind(block: Block) -> str:
    return type(block).__name__.removesuffix("Block").lower()


def _downloads(paths: Iterable[str | Path], folder: Path | None) -> Iterator[Download]:
    """Yield a link for each file: to the file where it lies in the page's folder, else to its bytes."""
    for path in map(Path, paths):
        if folder is not None and path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            address = quote(path.resolve().relative_to(folder.resolve()).as_posix())
        elif path.is_file() and path.stat().st_size <= MAX_EMBEDDED:
            media_type = images.MEDIA_TYPES.get(path.suffix, "application/octet-stream")
            address = images.data_uri(path.read_bytes(), media_type)
        else:
            size = f"{path.stat().st_size} bytes elsewhere" if path.is_file() else "no such file"
            raise OutputError(
                f"expected {path.name} in the page's folder, or of at most {MAX_EMBEDDED} bytes to embed it; found "
                f"{size}; write the page into the folder of its figures"
            )
        yield Download(path.suffix[1:].upper() or path.name, address, path.name)


def _document(page: Page, rendered: Sequence[Markup]) -> str:
    sheet = _asset("page.css")
    script = '"use strict";\n(() => {\n' + _asset("page.js") + _asset("matrix.js") + "start();\n})();\n"
    ids, blocks = UniqueIds(), iter(rendered)
    sections = [
        {"section": section, "anchor": f"s-{ids.new(section.title)}", "html": [next(blocks) for _ in section.blocks]}
        for section in page.sections
    ]
    return _TEMPLATES.get_template("page.html").render(
        page=page,
        sections=sections,
        style=sheet,
        script=script,
        policy=content_security_policy(script, sheet),
        has_matrix=any(isinstance(block, MatrixBlock) for section in page.sections for block in section.blocks),
    )


def _asset(name: str) -> str:
    return (files("cka_probe.report") / "templates" / name).read_text(encoding="utf-8")


def _too_large(size: int, blocks: Sequence[Block], rendered: Sequence[str]) -> str:
    largest = sorted(zip(rendered, blocks, strict=True), key=lambda pair: -len(pair[0]))[:3]
    names = (f"{_kind(block)} {getattr(block, 'name', '')!r} {len(html) / 1e6:.1f} MB" for html, block in largest)
    return (
        f"expected a page of at most {MAX_BYTES / 1e6:g} MB, found {size / 1e6:.2f} MB with its images at the lowest "
        f"quality; largest: {', '.join(names)}; omit some, or write several pages"
    )


def inline(text: str) -> Markup:
    """Return escaped text with `code` and **strong** marked up.

    >>> inline("`a<b` is **less**")
    Markup('<code>a&lt;b</code> is <strong>less</strong>')
    """
    text, html, end = str(text), Markup(), 0
    for match in INLINE.finditer(text):
        tag = Markup("<code>{}</code>") if match[1] else Markup("<strong>{}</strong>")
        html += escape(text[end : match.start()]) + tag.format(match[1] or match[2])
        end = match.end()
    return html + escape(text[end:])


def markdown_parser() -> MarkdownIt:
    """Return a parser of CommonMark with tables, without raw HTML, images in text, and links to local files."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", lambda *_: "")
    parser.core.ruler.push("local_links", _remove_local_links)
    return parser


def _remove_local_links(state: StateCore) -> None:
    """Replace links to local files by their text: the page may be moved away from them."""
    for token in state.tokens:
        children, local = [], False
        for child in token.children or ():
            if child.type == "link_open":
                local = not str(child.attrs["href"]).startswith(("http://", "https://"))
            if not (local and child.type in ("link_open", "link_close")):
                children.append(child)
        token.children = children if token.children is not None else None


def _render_markdown(source: str) -> Markup:
    return Markup(markdown_parser().render(source))


def script_json(value: Any) -> Markup:
    """Return JSON that is safe in a `<script>`: without `<`, `>`, `&` and NaN.

    >>> script_json({"name": "</script><!--"})
    Markup('{"name":"\\\\u003c/script\\\\u003e\\\\u003c!--"}')
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def content_security_policy(script: str, style_sheet: str) -> str:
    """Return the Content-Security-Policy of a document with this script and style that requests nothing."""
    rules: Mapping[str, str] = {
        "default-src": "'none'",
        "img-src": "data:",
        "script-src": f"'sha256-{_digest(script)}'",
        "style-src": f"'sha256-{_digest(style_sheet)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


class UniqueIds:
    """The ids of one document, made from titles and never repeated.

    >>> ids = UniqueIds()
    >>> ids.new("CKA, unbiased"), ids.new("CKA (unbiased)"), ids.new("?")
    ('cka-unbiased', 'cka-unbiased-2', 'part')
    """

    def __init__(self, *reserved: str) -> None:
        self._ids = set(reserved)

    def new(self, title: str) -> str:
        """Return a new id from the title's ASCII letters and digits."""
        stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "part"
        number, name = 1, stem
        while name in self._ids:
            number += 1
            name = f"{stem}-{number}"
        self._ids.add(name)
        return name


_TEMPLATES = Environment(
    loader=PackageLoader("cka_probe.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"inline": inline, "markdown": _render_markdown, "script_json": script_json}
_TEMPLATES.globals |= {
    "digits": matrix.DIGITS,
    "scales": {"values": matrix.color_scale(style.COLOURS), "widths": matrix.color_scale(style.WIDTHS)},
}
