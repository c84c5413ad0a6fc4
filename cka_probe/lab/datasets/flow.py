"""Read optical flow as KITTI keeps it (Menze & Geiger 2015): a PNG of three channels of 16 bits.

    u = (R - 2^15) / 64 pixels to the right,    v = (G - 2^15) / 64 pixels down,    B = 1 where it is known

KITTI has it twice: `flow_occ` of every pixel that was measured, `flow_noc` only of those that are seen in the next
frame too. What is in the first and not in the second is occluded.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cka_probe.errors import DataError

BIG_ENDIAN = "RGB;16B"
"""What Pillow calls a PNG's three channels of 16 bits."""


def read_flow(path: str | Path) -> Tensor:
    """Return optical flow.

    Args:
        path: A PNG of three channels of 16 bits.

    Returns:
        (2, H, W) float32 pixels right and down; NaN where it is not known.

    Raises:
        DataError: It cannot be read, or is another kind of image.
    """
    numbers = _channels(path)
    flow = (numbers[:2] - (1 << 15)).float() / 64
    return flow.masked_fill(numbers[2:] == 0, torch.nan)


def read_occluded(of_all: str | Path, of_seen: str | Path) -> Tensor:
    """Return which pixels are hidden or outside in the next frame.

    Args:
        of_all: The flow of every pixel that was measured (`flow_occ`).
        of_seen: The flow of those that are seen in the next frame too (`flow_noc`).

    Returns:
        (1, H, W) bool; False also where nothing is known.

    Raises:
        DataError: One cannot be read, or they differ in size.
    """
    known, seen = (_channels(path)[2:] != 0 for path in (of_all, of_seen))
    if known.shape != seen.shape:
        raise DataError(
            f"{of_seen}: expected {known.shape[2]}x{known.shape[1]} pixels as in {of_all}, found "
            f"{seen.shape[2]}x{seen.shape[1]}; fetch both again"
        )
    return known & ~seen


def _channels(path: str | Path) -> Tensor:
    """Return the three channels as they are stored, (3, H, W) int32."""
    first, second = (_bytes(path, order) for order in (BIG_ENDIAN, "RGB;16L"))
    numbers = first.astype(np.int32) * 256 + second
    return torch.from_numpy(np.ascontiguousarray(numbers.transpose(2, 0, 1)))


def _bytes(path: str | Path, order: str) -> np.ndarray:
    """Return one byte of each number, (H, W, 3) uint8: the first, or with the other byte order the second.

    Pillow makes 8 bits of 16 by keeping the byte it takes for the more significant one. Told that the numbers are
    little-endian, which in a PNG they are not, it keeps the other: two readings give the whole.
    """
    try:
        with Image.open(path) as file:
            if len(file.tile) != 1 or file.tile[0][3] != BIG_ENDIAN:
                raise DataError(
                    f"{path}: expected flow as a PNG of 3 channels of 16 bits, found {file.format} of mode "
                    f"{file.mode!r}; give the flow itself, not a drawing of it"
                )
            file.tile = [(*file.tile[0][:3], order)]
            return np.array(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"unreadable flow {path}: {error}; mend or remove it") from error
