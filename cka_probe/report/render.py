"""A page as one self-contained HTML document: no network, no other file, the same bytes for the same page."""

import base64
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cka_probe.report.page import Page
from cka_probe.writing import replacing

_TEMPLATES = Environment(
    loader=PackageLoader("cka_probe.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(page: Page, folder: str | Path | None = None) -> str:
    """Return the page as one HTML document.

    Args:
        page: What to say.
        folder: Where the document will stand; files in it are linked and not embedded.
    """
    return _TEMPLATES.get_template("page.html").render(page=page, kind=lambda item: type(item).__name__, data=_data)


def save_page(page: Page, path: str | Path) -> Path:
    """Write the page to `path` and return it."""
    path = Path(path)
    document = render(page, path.parent)
    with replacing(path) as beside:
        beside.write_text(document, encoding="utf-8")
    return path


def _data(picture: str | Path | bytes) -> str:
    content = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")
