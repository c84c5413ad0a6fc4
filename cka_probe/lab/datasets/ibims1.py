"""iBims-1 (Koch et al. 2018): a hundred rooms with depth from a laser scanner, planes and occluding edges.

It exists in two forms, which are recognised by their files (at the root, or in `ibims1_core_mat` or
`ibims1_core_raw` below it):

    imagelist.txt, <name>.mat             a MATLAB struct `data` for each image; depth in metres
    imagelist.txt, rgb/<name>.png and     a folder for each field, and `calib/<name>.txt` with fx, fy, cx, cy;
        depth/<name>.png, edges/ …        depth in 16 bits, v · 50 / 65535 m; parameters in `mask_wall/<name>.txt`

Both have the image, depth (0 = none), `edges`, `mask_invalid` and `mask_transp` (1 = may be used; `valid` is
both), `mask_wall`, `mask_table` and `mask_floor` (the number of a plane from 1; 0 = none: `planes`) and the parameters
of the planes, one row per plane, of which columns 4 to 6, counted from 0, are the unit normal.

Two conventions are converted to those of a sample:

1. The calibration in the struct is K transposed, and pixels are counted from 1, as in MATLAB; so does the evaluation of
   the authors, X = (c - cx) d / fx with c = 1 for the first column. In a sample the first column is 0:

       cx = calib[2, 0] - 1,    cy = calib[2, 1] - 1

2. Normals are in axes x right, y forward, z up. Those of a sample are in x right, y down, z forward, (n_x, -n_z, n_y),
   and point to the camera.

The splits "test" and "all" are the same: iBims-1 is for testing.
"""

import zlib
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat
from scipy.io.matlab import MatReadError
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import is_hidden, read_aligned_image
from cka_probe.lab.datasets.fields import opened_image, read_labels, read_steps
from cka_probe.lab.datasets.frames import Frame, Frames
from cka_probe.lab.datasets.numbers import read_lines, read_numbers

LIST = "imagelist.txt"
PLANES = ("wall", "table", "floor")
PARAMETERS = tuple(f"mask_{plane}_paras" for plane in PLANES)
MASKS = ("edges", "mask_invalid", "mask_transp", *(f"mask_{plane}" for plane in PLANES))
VARIABLES = ("rgb", "depth", "calib", *MASKS, *PARAMETERS)
COLUMNS = 7
NORMAL = slice(4, 7)
UNIT = 50 / 65535
UNREADABLE = (OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, MatReadError, zlib.error)
"""What scipy raises for a file that is cut short, not MATLAB's, or of version 7.3."""

Read = Callable[[str], np.ndarray]
"""Returns one of `VARIABLES`, depth in metres and the calibration as (fx, fy, cx, cy)."""


def ibims1(root: str | Path, split: str = "all") -> Frames:
    """Return iBims-1.

    Args:
        root: The folder of one of the two forms, or the folder that holds it.
        split: "test" or "all", which are the same.

    Raises:
        UnknownNameError: No dataset has a split of this name.
        DataError: The folder has neither form, or something in it is missing or broken.
    """
    root, where = Path(root), f"iBims-1 at {root}"
    check_split(split, ("test", "all"), where)
    folders = [root, root / "ibims1_core_mat", root / "ibims1_core_raw"]
    folder = next((folder for folder in folders if any(folder.glob("[!.]*.mat")) or (folder / "rgb").is_dir()), None)
    if folder is None:
        raise DataError(
            f"expected {where}: ibims1_core_mat/<name>.mat or ibims1_core_raw/rgb/<name>.png, found neither"
        )
    pattern = "*.mat" if any(folder.glob("[!.]*.mat")) else "rgb/*.png"
    files = {path.stem: path for path in sorted(folder.glob(pattern)) if not is_hidden(path.name)}
    scenes = []
    for name, line in _names(root, folder, files).items():
        if name not in files:
            file = folder / pattern.replace("*", name)
            raise DataError(f"{line}: names {file}, which does not exist; complete the data or shorten the list")
        read = partial(_read_struct, str(files[name])) if pattern == "*.mat" else partial(_read_file, folder, name)
        fields = {field: partial(make, read, str(files[name])) for field, make in FIELDS.items()}
        scenes.append([Frame(name, fields)])
    return Frames(scenes, (), where)


def _names(root: Path, folder: Path, files: dict[str, Path]) -> dict[str, str]:
    """Return the names of the images, each with its line in the list; without a list, those of all files."""
    path = next((place / LIST for place in (folder, root) if (place / LIST).is_file()), None)
    if path is None:
        return {name: str(file) for name, file in files.items()}
    return {name: f"{path}, line {line}" for line, name in read_lines(path, "names of images")}


def _read_struct(path: str, name: str) -> np.ndarray:
    """Return a variable of the first form."""
    try:
        modified = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise DataError(f"{path}: expected a MATLAB file, found none that can be read ({error.strerror})") from error
    value = _struct(path, modified)[name]
    return np.array([value[0, 0], value[1, 1], value[2, 0], value[2, 1]]) if name == "calib" else value


@lru_cache(maxsize=2)
def _struct(path: str, modified: int) -> dict[str, np.ndarray]:
    """Return all variables of a struct; cached, because one file holds all fields of a sample.

    Args:
        path: The .mat file.
        modified: Its modification time, so that a changed file is read again.
    """
    try:
        data = loadmat(path)["data"][0, 0]
        variables = {name: data[name] for name in data.dtype.names}
    except UNREADABLE as error:
        raise DataError(
            f"{path}: expected a MATLAB file (v5) with a struct 'data', found one that does not open ({error}); "
            "fetch it again"
        ) from error
    missing = [name for name in VARIABLES if name not in variables]
    if missing:
        names = ", ".join(variables)
        raise DataError(f"{path}: expected {', '.join(missing)} in 'data', found {names}; fetch it again")
    if variables["calib"].shape != (3, 3):
        raise DataError(f"{path}: expected calib of 3 x 3, found {variables['calib'].shape}; fetch it again")
    return variables


def _read_file(folder: Path, stem: str, name: str) -> np.ndarray:
    """Return a variable of the second form."""
    if name == "calib":
        path = folder / "calib" / f"{stem}.txt"
        numbers = read_numbers(path, (1, 4), "fx, fy, cx, cy").ravel()
        if len(numbers) != 4:
            raise DataError(f"{path}: expected fx, fy, cx, cy, found {len(numbers)} numbers; fetch it again")
        return numbers
    if name.endswith("_paras"):
        path = folder / name.removesuffix("_paras") / f"{stem}.txt"
        if not path.is_file() or not read_lines(path, "planes"):
            return np.zeros((0, COLUMNS))  # an image without such a plane; _normals checks that it has none
        return read_numbers(path, (), "the parameters of a plane")
    path = folder / name / f"{stem}.png"
    if name == "rgb":
        return (read_aligned_image(path) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return read_steps(path) * UNIT if name == "depth" else _mask(path)


def _mask(path: Path) -> np.ndarray:
    """Return the numbers of a mask; MATLAB stores true and false in one bit."""
    with opened_image(path, "mask") as file:
        if file.mode == "1":
            return np.array(file).astype(np.int64)
    return read_labels(path).numpy()


def _image(read: Read, where: str) -> Tensor:
    """Return the image, (3, H, W)."""
    pixels = read("rgb")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DataError(f"{where}: expected rgb of (H, W, 3) bytes, found {pixels.shape} {pixels.dtype}; fix it")
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)


def _depth(read: Read, where: str) -> Tensor:
    """Return depth, (1, H, W) metres; NaN and infinity count as not measured."""
    return torch.from_numpy(np.nan_to_num(read("depth"), nan=0, posinf=0, neginf=0).astype(np.float32))[None]


def _K(read: Read, where: str) -> Tensor:
    """Return K, with the centre of the first pixel at (0, 0)."""
    fx, fy, cx, cy = (float(number) for number in read("calib"))
    if not (fx > 1 and fy > 1 and cx > 1 and cy > 1):
        raise DataError(f"{where}: expected fx, fy, cx, cy in pixels (calib: K transposed), found {fx, fy, cx, cy}")
    return torch.tensor([[fx, 0, cx - 1], [0, fy, cy - 1], [0, 0, 1]])


def _edges(read: Read, where: str) -> Tensor:
    """Return occluding edges, (1, H, W) bool."""
    return torch.from_numpy(read("edges") != 0)[None]


def _valid(read: Read, where: str) -> Tensor:
    """Return which pixels may be scored, (1, H, W) bool."""
    return torch.from_numpy((read("mask_invalid") != 0) & (read("mask_transp") != 0))[None]


def _planes(read: Read, where: str) -> Tensor:
    """Return numbers of walls, tables and floors, (3, H, W)."""
    return torch.from_numpy(np.stack([read(f"mask_{plane}") for plane in PLANES]).astype(np.int64))


def _normals(read: Read, where: str) -> Tensor:
    """Return the normal of the plane at each pixel, (3, H, W); 0 = no plane."""
    planes = _planes(read, where).numpy()
    height, width = planes.shape[1:]
    down, across = np.mgrid[:height, :width]
    grid = np.stack([across, down, np.ones_like(down)]).reshape(3, -1)
    rays = np.linalg.solve(_K(read, where).double().numpy(), grid)
    normals = np.zeros((3, height * width), np.float32)
    for plane, mask in zip(PLANES, planes.reshape(3, -1), strict=True):
        rows = _rows(read(f"mask_{plane}_paras"), f"{where}, mask_{plane}_paras", int(mask.max()))
        for number in np.unique(mask[mask > 0]):
            right, forward, up = rows[number - 1, NORMAL]
            normal, pixels = np.array([right, -up, forward]), mask == number
            sign = -np.sign((normal @ rays[:, pixels]).sum()) or 1.0  # towards the camera
            normals[:, pixels] = (sign * normal / np.linalg.norm(normal))[:, None]
    return torch.from_numpy(normals.reshape(3, height, width))


def _rows(parameters: np.ndarray, where: str, count: int) -> np.ndarray:
    """Return the parameters of at least `count` planes as rows; MATLAB stores a single row as one axis."""
    rows = np.atleast_2d(np.asarray(parameters, np.float64)) if np.size(parameters) else np.zeros((0, COLUMNS))
    if len(rows) < count or rows.shape[1] < COLUMNS:
        raise DataError(f"{where}: expected {count} planes of {COLUMNS} numbers, found {rows.shape}; fetch it again")
    length = np.linalg.norm(rows[:, NORMAL], axis=1)
    if len(rows) and not (np.abs(length - 1) < 0.01).all():
        raise DataError(f"{where}: expected unit normals in columns 4 to 6, found lengths {length.round(2).tolist()}")
    return rows


FIELDS: dict[str, Callable[[Read, str], Tensor]] = {
    "image": _image,
    "depth": _depth,
    "K": _K,
    "planes": _planes,
    "normals": _normals,
    "edges": _edges,
    "valid": _valid,
}
