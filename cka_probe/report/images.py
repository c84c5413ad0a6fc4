"""Images small enough to be embedded in a page, without visible loss.

A figure is reduced to at most twice its displayed size and encoded as PNG with a palette or as WebP: the smaller
encoding whose peak signal-to-noise ratio is high enough. Thumbnails are JPEG.
"""

import base64
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from cka_probe.errors import DataError

CSS_PIXELS_PER_INCH = 150  # figures are designed for print, which is read from closer
THUMBNAIL = 96  # CSS pixels, longer side
MEDIA_TYPES = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".pdf": "application/pdf",
    ".csv": "text/csv",
    ".json": "application/json",
}


class Quality(NamedTuple):
    """How much an image may be reduced.

    Attributes:
        width: Maximum width in pixels.
        psnr: Minimum peak signal-to-noise ratio in dB, against the image of that size.
        webp: Qualities of WebP, tried in order; the last is used where none is enough.
    """

    width: int
    psnr: float
    webp: tuple[int, ...]


QUALITIES = (
    Quality(1400, 42.0, (60, 75, 90, 96)),
    Quality(1100, 38.0, (50, 75, 85)),
    Quality(900, 34.0, (40, 70)),
    Quality(700, 30.0, (30, 50)),
    Quality(480, 27.0, (20, 35)),
)
"""Tried in order until the page is small enough."""


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
        return EmbeddedImage(data_uri(content, MEDIA_TYPES[".svg"]))
    try:
        with Image.open(io.BytesIO(content)) as file:
            dots_per_inch = float(file.info.get("dpi", (0,))[0])
            image = _on_white(file)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        name = f"{len(source)} bytes" if isinstance(source, bytes) else source.name
        raise DataError(f"expected an image (PNG, JPEG, WebP or SVG), found {name}: {error}") from error
    width = round(image.width / dots_per_inch * CSS_PIXELS_PER_INCH) if dots_per_inch >= 100 else image.width
    height = round(width * image.height / image.width)
    pixels = min(image.width, quality.width, max(2 * width, 480))
    if pixels < image.width:
        image = image.resize((pixels, max(1, round(pixels * image.height / image.width))), Image.Resampling.LANCZOS)
    return EmbeddedImage(_smallest_encoding(image, quality), width, height)


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


def _on_white(image: Image.Image) -> Image.Image:
    """Return RGB on white, which stays readable on a dark page."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _smallest_encoding(image: Image.Image, quality: Quality) -> str:
    """Return the smallest of the encodings that are close enough, or the best WebP if none is."""
    palette = image.quantize(256, dither=Image.Dither.NONE)
    encodings = [("image/png", encode(palette, "PNG", optimize=True), _psnr(image, palette.convert("RGB")))]
    for webp in quality.webp:
        content = encode(image, "WEBP", quality=webp, method=4)
        with Image.open(io.BytesIO(content)) as decoded:
            encodings.append(("image/webp", content, _psnr(image, decoded.convert("RGB"))))
        if encodings[-1][2] >= quality.psnr:
            break  # a better quality is a larger file
    close = [encoding for encoding in encodings if encoding[2] >= quality.psnr] or encodings[-1:]
    media_type, content, _ = min(close, key=lambda encoding: len(encoding[1]))
    return data_uri(content, media_type)


def _psnr(image: Image.Image, other: Image.Image) -> float:
    """Return dB over the pixels that are not white in both: white paper would hide damaged lines."""
    first, second = np.asarray(image, np.float32), np.asarray(other, np.float32)
    drawn = (first < 255).any(axis=2) | (second < 255).any(axis=2)
    error = float(np.square(first - second)[drawn].mean()) if drawn.any() else 0.0
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
