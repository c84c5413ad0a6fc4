"""The camera matrix K of an image, for the size it is stored at.

    K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]    in pixels; the centre of the first pixel is (0, 0)

An image resized from W to W' pixels has f' = s f and c' = s (c + 1/2) - 1/2 with s = W' / W, because what a
resize keeps in place is the image's border, which lies half a pixel before the first centre.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.reading import image_size
from cka_probe.lab.geometry import scaled_K

NYUV2 = {"width": 640, "height": 480, "fx": 518.8579, "fy": 519.4696, "cx": 325.5824, "cy": 253.7362}
FOUR = ("fx", "fy", "cx", "cy")
CENTRE = ("cx", "cy")
"""May lie outside of an image that was cut out of a larger one."""


def camera_matrix(camera: dict[str, float], height: int, width: int) -> Tensor:
    """Return K for an image of `height` x `width` pixels.

    Args:
        camera: `fx`, `fy`, `cx`, `cy` in pixels of an image of `width` x `height` (this size when absent).
        height: Rows of the stored image.
        width: Columns of the stored image.

    Returns:
        (3, 3) float32.

    >>> camera_matrix(NYUV2, 240, 320)[0]
    tensor([259.4290,   0.0000, 162.5412])
    """
    K = torch.tensor(
        [[camera["fx"], 0.0, camera["cx"]], [0.0, camera["fy"], camera["cy"]], [0.0, 0.0, 1.0]], dtype=torch.float64
    )
    of = (camera.get("height", height), camera.get("width", width))
    return scaled_K(K, of, (height, width)).float()


def camera_of(camera: dict[str, float], image: str | Path) -> Tensor:
    """Return K for the size an image is stored at, (3, 3) float32.

    Args:
        camera: As `camera_matrix` takes it; without `width` and `height` it is of the stored image itself.
        image: The image's file, of which only the size is read, and only where it is needed.

    Raises:
        DataError: The image cannot be read.
    """
    height, width = image_size(image) if "width" in camera or "height" in camera else (1, 1)
    return camera_matrix(camera, height, width)


def read_camera(path: Path) -> dict[str, float]:
    """Return the numbers of an `intrinsics.json` (fx, fy, cx, cy; width and height) or a 3 x 3 `cam.txt`.

    The nine numbers of a `cam.txt` may be divided by blanks or commas.

    Raises:
        DataError: It cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            said = json.loads(text)
            camera = {name: float(said[name]) for name in NYUV2 if name in said or name in FOUR}
        else:
            K = np.array(text.replace(",", " ").split(), dtype=float).reshape(3, 3)
            camera = dict(zip(FOUR, map(float, (K[0, 0], K[1, 1], K[0, 2], K[1, 2])), strict=True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        wanted = "fx, fy, cx, cy" if path.suffix == ".json" else "the nine numbers of a 3 x 3 matrix"
        raise DataError(f"{path}: expected {wanted}, found something else ({error!r}); mend or remove it") from error
    if path.suffix != ".json" and not np.allclose(K[[1, 2, 2], [0, 0, 1]], 0):
        raise DataError(f"{path}: expected [fx 0 cx; 0 fy cy; 0 0 1] by rows, found {K.ravel().tolist()}; mend it")
    wrong = [name for name, value in camera.items() if not np.isfinite(value) or (name not in CENTRE and value <= 0)]
    if wrong:
        raise DataError(f"{path}: expected {wrong[0]} in pixels, found {camera[wrong[0]]:g}; mend it")
    return camera
