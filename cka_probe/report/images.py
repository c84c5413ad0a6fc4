"""Images small enough to be embedded in a page, and the files of figures that it offers.

A figure is reduced to at most twice its displayed size and encoded as WebP: without loss, unless it is a photograph.
Thumbnails are JPEG.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image, UnidentifiedImageError

from cka_probe.errors import DataError
from cka_probe.images.reading import FORMATS
from cka_probe.plotting.figure import Figure, save, width_and_scale
from cka_probe.report.blocks import FigureBlock

MEDIA_TYPES = {"pdf": "application/pdf", "svg": "image/svg+xml", "png": "image/png"}
"""Formats of the figures that a page offers."""

CSS_PIXELS_PER_INCH = 150  # figures are designed for print, which is read from closer
THUMBNAIL = 96  # CSS pixels, longer side


class Quality(NamedTuple):
    """How much an image may be reduced: its maximum width in pixels, and the quality of a lossy encoding."""

    width: int
    webp: int


QUALITIES = (Quality(1400, 85), Quality(1100, 75), Quality(900, 65), Quality(700, 50), Quality(480, 35))
"""Tried in order until the page is small enough."""


MAX_FILES = 1_500_000
"""Characters of the figures' files that a page embeds."""


class FigureFiles(NamedTuple):
    """The downloads of a figure for the template.

    Attributes:
        links: (label, address, file name) of each.
        note: How wide they are, or which are missing.
    """

    links: list[tuple[str, str, str]]
    note: str


class EmbeddedImage(NamedTuple):
    """An image for the template: its data URI, and its width and height in CSS pixels (0 if the file has none)."""

    address: str
    width: int = 0
    height: int = 0


def embed(source: Path | bytes, quality: Quality) -> EmbeddedImage:
    """Return an image as it is embedded in a page.

    Args:
        source: A file, or its bytes.
        quality: How much it may be reduced.

    Raises:
        DataError: It cannot be read, or is not an image.
    """
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise DataError(f"expected an image at {error.filename}, found: {error.strerror}; draw it again") from error
    if content.lstrip()[:5] in (b"<?xml", b"<svg ", b"<svg\n"):
        return EmbeddedImage(data_uri(content, "image/svg+xml"))
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:
            dots_per_inch = float(file.info.get("dpi", (0,))[0])
            layer = file.convert("RGBA")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        name = f"{len(content)} bytes" if isinstance(source, bytes) else source.name
        raise DataError(f"expected an image (PNG, JPEG, WebP or SVG), found {name}: {error}") from error
    image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")  # for dark pages
    width = round(image.width / dots_per_inch * CSS_PIXELS_PER_INCH) if dots_per_inch >= 100 else image.width
    height = round(width * image.height / image.width)
    pixels = min(image.width, quality.width, max(2 * width, 480))
    if pixels < image.width:
        image = image.resize((pixels, max(1, round(pixels * image.height / image.width))), Image.Resampling.LANCZOS)
    lossless, lossy = (encode(image, "WEBP", lossless=True, method=3), encode(image, "WEBP", quality=quality.webp))
    is_photograph = len(lossy) < len(lossless) / 2
    return EmbeddedImage(data_uri(lossy if is_photograph else lossless, "image/webp"), width, height)


def figure_files(
    blocks: Mapping[str, FigureBlock], folder: Path | None, venue: str | None = None
) -> dict[str, FigureFiles]:
    """Return the PDF, SVG and PNG of each figure: the files in the page's folder, and drawn and embedded what it lacks.

    Args:
        blocks: Figures by name.
        folder: Of the page. Files in it or below it are linked.
        venue: Draw and embed all of them as wide as a column or page there; files are linked only of figures that
            cannot be drawn again.
    """
    root, space, downloads = folder.resolve() if folder else None, MAX_FILES, {}
    for name, block in blocks.items():
        paths = [path.resolve() for path in block.downloads if root and path.resolve().is_relative_to(root)]
        linked = {} if venue and block.figure else {path.suffix[1:]: path for path in paths}
        drawn = _draw(block.figure, [form for form in MEDIA_TYPES if form not in linked], venue) if block.figure else {}
        links, missing = [], []
        for form, media_type in MEDIA_TYPES.items():
            if form in linked:
                links.append((form.upper(), quote(linked[form].relative_to(root or "").as_posix()), linked[form].name))
            elif form in drawn:
                address = data_uri(drawn[form], media_type)
                if len(address) > space:
                    missing.append(form.upper())
                    continue
                space -= len(address)
                links.append((form.upper(), address, f"{block.name}{f'_{venue}' * bool(venue)}.{form}"))
        notes = []
        if venue and block.figure:
            notes = [f"{math.prod(width_and_scale(block.figure, venue=venue)):.3g} inches wide, for {venue}."]
        if missing:
            notes.append(f"{' and '.join(missing)}: too large for this page; use `ckaprobe draw`.")
        downloads[name] = FigureFiles(links, " ".join(notes))
    return downloads


def _draw(figure: Figure, forms: Sequence[str], venue: str | None) -> dict[str, bytes]:
    """Return a figure as the bytes of files, by format."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"figure.{form}" for form in forms]
        return {path.suffix[1:]: path.read_bytes() for path in (save(figure, paths, venue=venue) if paths else ())}


def thumbnail(pixels: np.ndarray) -> EmbeddedImage:
    """Return a small JPEG of (H, W, 3) uint8."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL), Image.Resampling.LANCZOS)
    return EmbeddedImage(data_uri(encode(image, "JPEG", quality=82, optimize=True), "image/jpeg"), *image.size)


def data_uri(content: bytes, media_type: str) -> str:
    """Return bytes as a data URI.

    >>> data_uri(b"a", "text/csv")
    'data:text/csv;base64,YQ=='
    """
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    """Return an image as the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()
