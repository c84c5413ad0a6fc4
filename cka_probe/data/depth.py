"""Read a depth map kept as a 16-bit picture, the way most depth datasets keep one."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cka_probe.errors import DataError


def read_depth(path: str | Path, unit: float = 0.001) -> Tensor:
    """Return a depth map.

    Args:
        path: A 16-bit grey PNG; 0 means that nothing was measured.
        unit: Metres per step: 0.001 for millimetres.

    Returns:
        (1, H, W) float32 in metres; 0 = not measured.

    Raises:
        DataError: It cannot be read, or is not 16 bits deep.
    """
    try:
        with Image.open(path) as file:
            if not file.mode.startswith("I"):  # "I;16", or "I" from Pillow before 11.3
                raise DataError(
                    f"{path}: expected a 16-bit depth map, found mode {file.mode!r} (8 bits); "
                    "give the raw depth, not a picture of it"
                )
            steps = np.array(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"unreadable depth map {path}: {error}; mend or remove it and its picture") from error
    return torch.from_numpy(steps.astype(np.float64) * unit).float()[None]
