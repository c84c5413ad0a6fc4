"""A page as one self-contained HTML document: no network, no other file, the same bytes for the same page.

The document stays below `MAX_BYTES`, so that it can be sent by mail: figures are embedded at lower quality until it
fits, and an error names the largest blocks if it never does. Jinja escapes every text. The Content-Security-Policy
allows only the style and the script of the page itself.
"""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markupsafe import Markup, escape

from cka_probe.errors import OutputError
from cka_probe.files import atomic_write
from cka_probe.report import images, matrix, tables
from cka_probe.report.blocks import Block, FigureBlock, Heading, MatrixBlock, ModelsBlock, Page

MAX_BYTES = 3_000_000
GENERATOR = '<meta name="generator" content="ckaprobe">'
"""What every page has in its first `HEAD` characters."""
HEAD = 2000
INLINE = re.compile(r"`([^`]+)`|\*\*(\S(?:[^*]*\S)?)\*\*")
POLICY = "default-src 'none'; img-src data:; script-src {}; style-src {}; base-uri 'none'; form-action 'none'"


def check_replaceable(path: Path) -> None:
    """Check that a path is free or has a page of ckaprobe.

    Raises:
        OutputError: It has another file.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        if GENERATOR not in file.read(HEAD):
            raise OutputError(
                f"expected a page of ckaprobe or no file at {path}, found another file; choose another path with "
                "--out, or --force to replace it"
            )


def save_page(page: Page, path: Path, venue: str | None = None) -> Path:
    """Write the page, with its figures drawn for a venue.

    Raises:
        OutputError: The page is too large or cannot be written.
        DataError: An image cannot be read.
    """
    document = render(page, path.parent, venue)
    with atomic_write(path) as temporary:
        temporary.write_text(document, encoding="utf-8", newline="\n")
    return path


def render(page: Page, folder: Path | None = None, venue: str | None = None) -> str:
    """Return the page as one HTML document.

    Args:
        page: Its content.
        folder: The folder of the document; downloads in it or below it are linked, others omitted.
        venue: Of `plotting.style.VENUES`, whose column or page the figures that are downloaded are as wide as.

    Returns:
        At most `MAX_BYTES`, or the page's own limit, as UTF-8.

    Raises:
        OutputError: It is larger, however small the images; the largest blocks are named.
        DataError: An image cannot be read.
    """
    limit = page.max_bytes or MAX_BYTES
    slugs = (re.sub("[^a-z0-9]+", "-", _title(block).lower()) for block in page.blocks)
    blocks = {f"{slug}-{index}": block for index, (slug, block) in enumerate(zip(slugs, page.blocks, strict=True))}
    matrices = [block for block in page.blocks if isinstance(block, MatrixBlock)]
    exact = sum(map(matrix.exact_length, matrices)) <= matrix.MAX_EXACT
    template = _TEMPLATES.get_template("block.html")
    figures = {name: block for name, block in blocks.items() if isinstance(block, FigureBlock)}
    files = images.figure_files(figures, folder, venue)
    html: dict[str, str] = {}
    size = 0
    for quality in images.QUALITIES:
        for name, block in blocks.items():
            if name not in html or isinstance(block, FigureBlock):
                html[name] = template.render(id=name, block=block, quality=quality, exact=exact, files=files.get(name))
        document = _document(page, blocks, html)
        size = len(document.encode("utf-8"))
        if size <= limit:
            return document
    largest = sorted(blocks, key=lambda name: -len(html[name]))[:3]
    names = (f"{_title(blocks[name])!r} {len(html[name]) / 1e6:.1f} MB" for name in largest)
    raise OutputError(
        f"expected a page of at most {limit / 1e6:g} MB, found {size / 1e6:.2f} MB with its images at the lowest "
        f"quality; largest: {', '.join(names)}; omit some, or write several pages"
    )


def _kind(block: Block) -> str:
    return type(block).__name__.removesuffix("Block").lower()


def _title(block: Block) -> str:
    """Return what a block is called in ids and messages."""
    return block.text if isinstance(block, Heading) else f"{_kind(block)} {getattr(block, 'name', '')}".strip()


def _document(page: Page, blocks: dict[str, Block], html: dict[str, str]) -> str:
    style, *scripts = (
        _LOADER.get_source(_TEMPLATES, name)[0] for name in ("page.css", "page.js", "matrix.js", "models.js", "why.js")
    )
    script = f'"use strict";\n(() => {{\n{"".join(scripts)}start();\n}})();\n'
    return _TEMPLATES.get_template("page.html").render(
        page=page,
        headings=[(name, block.text) for name, block in blocks.items() if isinstance(block, Heading)],
        content=Markup("".join(html.values())),
        style=style,
        script=script,
        policy=POLICY.format(_digest(script), _digest(style)),
        scales=matrix.SCALES if any(isinstance(block, MatrixBlock | ModelsBlock) for block in page.blocks) else None,
    )


def _digest(text: str) -> str:
    """Return the source expression of a Content-Security-Policy that allows an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


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


def _adapt_tokens(state: StateCore) -> None:
    """Remove links to local files, as the page may be moved, and inline styles, which its policy does not allow."""
    for token in (token for block in state.tokens for token in (block, *(block.children or ()))):
        if token.type == "link_open" and not str(token.attrs["href"]).startswith(("http://", "https://")):
            token.attrs = {}
        elif str(token.attrs.pop("style", "")).endswith("right"):
            token.attrs["class"] = "number"


def _markdown_parser() -> MarkdownIt:
    """Return a parser of CommonMark with tables, without raw HTML and images."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.core.ruler.push("adapt_tokens", _adapt_tokens)
    parser.add_render_rule("image", lambda *_: "")
    opening = '<div class="table-item scroll" tabindex="0" role="group" aria-label="Table">\n<table class="data">\n'
    parser.add_render_rule("table_open", lambda *_: opening)
    parser.add_render_rule("table_close", lambda *_: "</table>\n</div>\n")
    return parser


MARKDOWN = _markdown_parser()


def script_json(value: Any) -> Markup:
    """Return JSON that is safe in a `<script>`: without `<`, `>`, `&` and NaN.

    >>> script_json({"name": "</script><!--"})
    Markup('{"name":"\\\\u003c/script\\\\u003e\\\\u003c!--"}')
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


_LOADER = PackageLoader("cka_probe.report")
_TEMPLATES = Environment(
    loader=_LOADER, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_TEMPLATES.filters |= {
    "inline": inline,
    "kind": _kind,
    "embed": images.embed,
    "thumbnail": images.thumbnail,
    "table": tables.table_of,
    "matrix": matrix.view_of,
    "models": matrix.models_view_of,
    "markdown": lambda source: Markup(MARKDOWN.render(source)),
    "script_json": script_json,
}
