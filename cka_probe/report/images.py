"""Images made small enough to stand in a page, with no loss that an eye would find.

A figure is brought to at most twice the pixels it is shown at, and written as PNG with a palette or as WebP: the
smaller of those that stay within `LEAST_PSNR` of it. Thumbnails are images, so JPEG.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from cka_probe.errors import DataError
from cka_probe.report.escaping import data_uri

LEAST_PSNR = 42.0  # dB; thin coloured lines and small letters stay as they were
SHOWN_PER_INCH = 150  # CSS pixels: figures are designed for print, where a reader is closer
THUMBNAIL = 96  # pixels, longer side
TYPES = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".pdf": "application/pdf",
    ".csv": "text/csv",
    ".json": "application/json",
}


@dataclass(frozen=True)
class Squeeze:
    """How small an image must become.

    Attributes:
        width: Pixels across, at most.
        psnr: Decibels to the image of that size that are enough.
        qualities: Of WebP, tried in order; the last is taken where none is enough.
    """

    width: int = 1400
    psnr: float = LEAST_PSNR
    qualities: tuple[int, ...] = (60, 75, 90, 96)


SQUEEZES = (
    Squeeze(),
    Squeeze(1100, 38.0, (50, 75, 85)),
    Squeeze(900, 34.0, (40, 70)),
    Squeeze(700, 30.0, (30, 50)),
    Squeeze(480, 27.0, (20, 35)),
)
"""What is tried, in order, until a page fits."""


@dataclass(frozen=True)
class Shown:
    """An image for the template: its address, and width and height in CSS pixels (0 where the file says none)."""

    address: str
    width: int = 0
    height: int = 0


def shown(image: str | Path | bytes, squeeze: Squeeze) -> Shown:
    """Return an image as it stands in a page.

    Args:
        image: A file, or its bytes.
        squeeze: How small it must become.

    Raises:
        DataError: It cannot be read, or is no image.
    """
    content = _content(image)
    if content.lstrip()[:5] in (b"<?xml", b"<svg ", b"<svg\n"):
        return Shown(data_uri(content, TYPES[".svg"]))
    try:
        with Image.open(io.BytesIO(content)) as opened:
            inch = float(opened.info.get("dpi", (0,))[0])
            image = _flat(opened)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"expected an image (PNG, JPEG, WebP or SVG), found {_name(image)}: {error}") from error
    width = round(image.width / inch * SHOWN_PER_INCH) if inch >= 100 else image.width
    height = round(width * image.height / image.width)
    pixels = min(image.width, squeeze.width, max(2 * width, 480))
    if pixels < image.width:
        image = image.resize((pixels, max(1, round(pixels * image.height / image.width))), Image.Resampling.LANCZOS)
    return Shown(_smallest(image, squeeze), width, height)


def thumbnail(image: np.ndarray) -> Shown:
    """Return a small JPEG of (H, W, 3) uint8."""
    image = Image.fromarray(np.ascontiguousarray(image))
    image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL), Image.Resampling.LANCZOS)
    return Shown(data_uri(_written(image, "JPEG", quality=82, optimize=True), "image/jpeg"), *image.size)


def _content(image: str | Path | bytes) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"expected an image at {image}, found: {error.strerror}; draw it again") from error


def _name(image: str | Path | bytes) -> str:
    return f"{len(image)} bytes" if isinstance(image, bytes) else Path(image).name


def _flat(image: Image.Image) -> Image.Image:
    """Return RGB on white: a page in the dark would otherwise shine through the paper."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _smallest(image: Image.Image, squeeze: Squeeze) -> str:
    """Return the smaller of both encodings that are near enough; the best lossy one where neither is."""
    kept = []
    palette = image.quantize(256, dither=Image.Dither.NONE)
    if _psnr(image, palette.convert("RGB")) >= squeeze.psnr:
        kept.append(("image/png", _written(palette, "PNG", optimize=True)))
    for quality in squeeze.qualities:
        content = _written(image, "WEBP", quality=quality, method=4)
        with Image.open(io.BytesIO(content)) as decoded:
            near = _psnr(image, decoded.convert("RGB")) >= squeeze.psnr
        if near or (quality == squeeze.qualities[-1] and not kept):
            kept.append(("image/webp", content))
            break
    kind, content = min(kept, key=lambda one: len(one[1]))
    return data_uri(content, kind)


def _written(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def _psnr(image: Image.Image, other: Image.Image) -> float:
    """Return decibels over what is drawn: much white paper would forgive spoilt lines."""
    first, second = (np.asarray(one, np.float32) for one in (image, other))
    drawn = (first < 255).any(axis=2) | (second < 255).any(axis=2)
    error = float(np.square(first - second)[drawn].mean()) if drawn.any() else 0.0
    return 10 * np.log10(255**2 / error) if error else np.inf
