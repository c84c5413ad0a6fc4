"""Read a depth map the way datasets keep one: mostly a 16-bit image of so many steps a metre.

| dataset | file | metres |
|---|---|---|
| NYU Depth v2, ScanNet, 7-Scenes | 16-bit PNG | v / 1000 (7-Scenes: 65535 = none) |
| TUM RGB-D; NYU as SC-Depth has it | 16-bit PNG | v / 5000 |
| KITTI depth | 16-bit PNG | v / 256 |
| iBims-1 | 16-bit PNG | v · 50 / 65535 |
| SUN RGB-D | 16-bit PNG, bits turned by three | ((v >> 3) or (v << 13)) / 1000 |
| KITTI and DDAD as SC-Depth has them | sparse matrix, .npz | v |
"""

import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.sparse import load_npz
from torch import Tensor

from cka_probe.errors import DataError


def read_depth(path: str | Path, unit: float = 0.001, nothing: int = 0) -> Tensor:
    """Return a depth map.

    Args:
        path: A 16-bit grey PNG; 0 means that nothing was measured.
        unit: Metres per step: 0.001 for millimetres.
        nothing: Another value that means the same (65535 in 7-Scenes).

    Returns:
        (1, H, W) float32 in metres; 0 = not measured.

    Raises:
        DataError: It cannot be read, or is not 16 bits deep.
    """
    steps = read_steps(path).astype(np.float64)
    steps[steps == nothing] = 0
    return torch.from_numpy(steps * unit).float()[None]


def read_steps(path: str | Path) -> np.ndarray:
    """Return the numbers of a 16-bit image as they are stored, (H, W).

    Raises:
        DataError: It cannot be read, or is not 16 bits deep.
    """
    try:
        with Image.open(path) as file:
            if not file.mode.startswith("I"):  # "I;16", or "I" from Pillow before 11.3
                raise DataError(
                    f"{path}: expected a 16-bit depth map, found mode {file.mode!r} (8 bits); "
                    "give the raw depth, not an image of it"
                )
            return np.array(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"unreadable depth map {path}: {error}; mend or remove it and its image") from error


def read_pseudo_depth(path: str | Path) -> Tensor:
    """Return what another network took depth to be, in no unit: (1, H, W) float32, 0 = none.

    Args:
        path: A 16-bit grey PNG. It is read as it is: its scale and its shift are unknown, from frame to frame
            too, so dividing it by anything would only pretend to a unit.

    Raises:
        DataError: It cannot be read, or is not 16 bits deep.
    """
    return torch.from_numpy(read_steps(path).astype(np.float32))[None]


def read_sun_depth(path: str | Path) -> Tensor:
    """Return a depth map of SUN RGB-D, whose 16 bits are turned left by three: (1, H, W) float32 in metres.

    Raises:
        DataError: It cannot be read, or is not 16 bits deep.
    """
    turned = read_steps(path).astype(np.uint16)
    millimetres = (turned >> 3) | (turned << 13)
    return torch.from_numpy(millimetres.astype(np.float64) * 0.001).float()[None]


def read_sparse_depth(path: str | Path) -> Tensor:
    """Return a depth map kept as a sparse matrix of metres: (1, H, W) float32, 0 = not measured.

    Args:
        path: An .npz file of `scipy.sparse`.

    Raises:
        DataError: It is none.
    """
    try:
        with Path(path).open("rb") as file:  # numpy leaves a file open that it cannot read
            metres = load_npz(file).toarray()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected a sparse matrix of scipy (.npz), found something else ({error})") from error
    return torch.from_numpy(metres.astype(np.float32))[None]
