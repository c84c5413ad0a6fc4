"""The file formats of the layouts: the same data gives the same bytes on any machine and at any time.

Depth is stored in 16-bit images as `round(depth / unit)`. Depths beyond 65535 units do not fit and become 0, not
measured, because a clipped depth would be wrong.
"""

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES, CITYSCAPES_IDS
from cka_probe.images.sample import IGNORE

STEPS = 2**16 - 1
FARTHEST = 60000  # steps, of the farthest point in a file of affine depth
_HEADER = b"MATLAB 5.0 MAT-file, written by ckaprobe"  # that of scipy contains the time of day


def write_image(path: Path, pixels: NDArray[np.unsignedinteger[Any]]) -> None:
    """Write (H, W, 3) uint8 RGB, or (H, W) numbers of 8 or 16 bits, in the format of the path's suffix.

    A JPEG has quality 95, without chroma subsampling. The folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)


def in_steps(depth: NDArray[np.floating], unit: float) -> NDArray[np.uint16]:
    """Return depth in whole steps of `unit` metres; 0 where there is none or it does not fit."""
    steps = np.round(np.asarray(depth, np.float64) / unit)
    return np.where(np.isfinite(steps) & (steps <= STEPS), steps, 0).astype(np.uint16)


def write_depth(path: Path, depth: NDArray[np.floating], unit: float) -> None:
    """Write (H, W) metres as a 16-bit PNG of steps of `unit`; exact to half a step."""
    write_image(path, in_steps(depth, unit))


def write_affine_depth(path: Path, depth: NDArray[np.floating]) -> None:
    """Write (H, W) depth without a unit as LeReS does: minus its minimum, plus 0.01, and 60000 for the farthest."""
    shifted = depth - depth.min() + 0.01
    write_image(path, np.round(shifted / shifted.max() * FARTHEST).astype(np.uint16))


def write_flow(path: Path, flow: NDArray[np.floating], known: NDArray[np.bool_]) -> None:
    """Write optical flow as KITTI does: red and green are 64 (u, v) + 2^15, blue is 1 where it is known.

    Args:
        path: A PNG of three channels of 16 bits, which Pillow cannot write.
        flow: (H, W, 2) pixels to the right and down; exact to 1/128, up to 512.
        known: (H, W) where the flow is known; NaN counts as unknown.
    """
    steps = np.round(np.nan_to_num(flow, nan=np.inf).astype(np.float64) * 64 + 2**15)
    known = known & ((steps >= 0) & (steps <= STEPS)).all(axis=2)
    pixels = np.ascontiguousarray(np.dstack([np.where(known[..., None], steps, 0), known]).astype(">u2"))
    height, width = known.shape
    rows = np.zeros((height, 1 + 6 * width), np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = pixels.view(np.uint8).reshape(height, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, body in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows.tobytes(), 6)),
            (b"IEND", b""),
        ):
            file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))


def write_mat(path: Path, variables: Mapping[str, object]) -> None:
    """Write a MATLAB v5 file, compressed."""
    buffer = io.BytesIO()
    savemat(buffer, dict(variables), do_compression=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_HEADER.ljust(116) + buffer.getvalue()[116:])


def write_text(path: Path, text: str) -> None:
    """Write text with line feeds on all platforms."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def write_matrix(path: Path, rows: NDArray[np.floating]) -> None:
    """Write numbers, one row per line, with 13 significant digits."""
    write_text(path, "".join(f"{numbers(row)}\n" for row in np.atleast_2d(rows)))


def numbers(values: NDArray[np.floating]) -> str:
    """Return numbers in scientific notation with 12 decimals, separated by spaces."""
    return " ".join(f"{value + 0.0:.12e}" for value in np.ravel(values))


FIRST_THING = CITYSCAPES.names.index("person")
"""The first class of things: persons, riders and vehicles are counted one by one, all classes before are not."""


def counted(kinds: NDArray[np.integer], pieces: NDArray[np.integer], most: int) -> NDArray[np.int64]:
    """Return the number of the object at each pixel, counted from 1 for each kind; 0 = none.

    Args:
        kinds: (H, W) kind of the object; 0 = none.
        pieces: (H, W) number of the piece in the scene; 0 = none.
        most: Largest number of objects of one kind in the format.

    Raises:
        DataError: There are more.
    """
    objects = np.zeros(kinds.shape, np.int64)
    counted_pixels = (kinds > 0) & (pieces > 0)
    for kind in np.unique(kinds[counted_pixels]):
        pixels = counted_pixels & (kinds == kind)
        members, numbers = np.unique(pieces[pixels], return_inverse=True)
        if len(members) > most:
            raise DataError(
                f"expected at most {most} things of one kind in an image, found {len(members)}; use another layout"
            )
        objects[pixels] = numbers.ravel() + 1
    return objects


def street_things(labels: NDArray[np.uint8], pieces: NDArray[np.integer], most: int) -> NDArray[np.int64]:
    """Return `counted` of the persons and vehicles of a street; labels (H, W) are indices into `CITYSCAPES`."""
    kinds = np.where((labels >= FIRST_THING) & (labels != IGNORE), labels, 0)
    return counted(kinds, pieces, most)


def ids_of(labels: NDArray[np.uint8], none: int) -> NDArray[np.uint8]:
    """Return labels (H, W) of the 19 training classes as ids 0 ... 33, and `none` without a class."""
    table = np.full(256, none, np.uint8)
    for number, label in enumerate(CITYSCAPES_IDS[:34]):
        if label != IGNORE:
            table[label] = number
    return table[labels]
