"""Read numbers from text files: tables, camera poses, camera matrices, and frame numbers in file names.

Every number that a dataset stores as text is parsed here, so a short line, a word in place of a number, or a NaN is
reported with its file and line.

A **pose** is `world_T_camera`, (4, 4): it maps points from camera axes (x right, y down, z forward) to the scene's,
in metres. KITTI writes the first three rows (12 numbers a line), other datasets all four (16); TUM RGB-D a position
and a unit quaternion. Both are checked to be rotations, which catches most mistakes in the order of the numbers.

The **camera matrix** belongs to the size at which an image is stored:

    K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]    in pixels; the centre of the first pixel is (0, 0)

Resizing an image from W to W' pixels gives f' = s f and c' = s (c + 1/2) - 1/2 with s = W' / W, because resizing
preserves the image's border, which lies half a pixel before the first centre.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.files import read_json
from cka_probe.images.reading import image_size, is_hidden
from cka_probe.lab.geometry import scaled_K


def read_lines(path: str | Path, what: str) -> list[tuple[int, str]]:
    """Return the lines of a text file with their numbers, from 1, except blank ones and those that begin with `#`.

    Args:
        path: The file.
        what: What the lines are, for messages ("poses").

    Raises:
        DataError: The file is missing, or no text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"expected {what} at {path}, found no file that can be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected {what} as text, found other bytes; fetch it again") from error
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def path_below(folder: Path, name: str, where: str) -> Path:
    """Return the path of a name that a list gives, below a folder.

    Args:
        folder: The folder.
        name: The name.
        where: The list and line, for messages.

    Raises:
        DataError: The path is absolute, or leads out of the folder by "..".
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{where}: expected a path below {folder}, found {name}; fix the list")
    return folder / name


def parse_numbers(text: str, columns: Collection[int], where: str, what: str) -> list[float]:
    """Return the numbers of a line, separated by blanks or commas.

    Args:
        text: The line.
        columns: Permitted counts of numbers, (12, 16) for either; empty for any.
        where: The file and line, for messages.
        what: What the numbers are, for messages.

    Raises:
        DataError: There are more or fewer, or one is no finite number.
    """
    words = text.replace(",", " ").split()
    if columns and len(words) not in columns:
        counts = " or ".join(map(str, columns))
        raise DataError(f"{where}: expected {counts} numbers ({what}), found {len(words)}; fix the line")
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise DataError(f"{where}: expected numbers ({what}), found {text[:60]!r}; fix the line") from error
    if not np.isfinite(numbers).all():
        raise DataError(f"{where}: expected finite numbers ({what}), found {text[:60]!r}; fix or remove the line")
    return numbers


def read_numbers(path: str | Path, columns: Collection[int], what: str) -> np.ndarray:
    """Return the numbers of a file, one row per line.

    Args:
        path: The file.
        columns: Permitted counts of numbers per line; all lines have the same.
        what: What the numbers are, for messages ("poses").

    Returns:
        (lines, columns) float64.

    Raises:
        DataError: The file is missing or empty, or a line contains something else.
    """
    rows = [(line, parse_numbers(text, columns, f"{path}, line {line}", what)) for line, text in read_lines(path, what)]
    if not rows:
        raise DataError(f"{path}: expected {what}, found no line; fetch it again or remove it")
    first = len(rows[0][1])
    for line, row in rows:
        if len(row) != first:
            raise DataError(f"{path}, line {line}: expected {first} numbers as above, found {len(row)}; fix the line")
    return np.array([row for _, row in rows], dtype=np.float64)


def read_named_numbers(path: str | Path, sizes: Mapping[str, int], what: str) -> dict[str, np.ndarray]:
    """Return some numbers by name, from lines as in the calibrations of KITTI: "P_rect_02: 7.2e+02 …".

    Args:
        path: The file.
        sizes: The names to read, with their counts of numbers; the file may contain others.
        what: What the file is, for messages ("a calibration").

    Returns:
        By name, (size,) float64.

    Raises:
        DataError: The file is missing, a name is missing, or a line contains something else.
    """
    lines = {}
    for number, line in read_lines(path, what):
        name, _, rest = line.replace(":", " ", 1).partition(" ")
        lines[name] = (rest, f"{path}, line {number}")
    values = {}
    for name, size in sizes.items():
        if name not in lines:
            names = ", ".join(lines) or "nothing"
            raise DataError(f"{path}: expected a line '{name}:' with {size} numbers, found {names}; fetch it again")
        text, where = lines[name]
        values[name] = np.array(parse_numbers(text, (size,), where, name))
    return values


T = TypeVar("T")


def numbered(folder: Path, suffixes: tuple[str, ...] = (".jpeg", ".jpg", ".png")) -> dict[int, str]:
    """Return the files of a folder by number, in order; PNG takes precedence over JPEG. A missing folder has none."""
    if not folder.is_dir():
        return {}
    paths = {}
    for name in sorted(os.listdir(folder)):  # strings, not paths: a drive has up to 100 000 files
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in suffixes or is_hidden(name):
            continue
        if not (stem.isascii() and stem.isdigit()):
            raise DataError(f"expected files named by their frame's number in {folder}, found {name}; remove it")
        paths[int(stem)] = os.path.join(folder, name)
    return dict(sorted(paths.items()))


def runs(frames: Mapping[int, T]) -> list[list[T]]:
    """Return frames in order, split where a number is missing: the frames on both sides are no neighbours.

    >>> runs({1: "a", 2: "b", 4: "c"})
    [['a', 'b'], ['c']]
    """
    scenes: list[list[T]] = []
    for number in sorted(frames):
        if number - 1 not in frames:
            scenes.append([])
        scenes[-1].append(frames[number])
    return scenes


TOLERANCE = 0.01
"""Largest distance of R Rᵀ from the identity: some files have only four digits."""


def read_poses(path: str | Path, count: int | None = None, *, at_least: int = 0) -> np.ndarray:
    """Return one pose for each image.

    Args:
        path: A text file; each line has 12 or 16 numbers, the first three or all four rows of a pose.
        count: Number of poses; by default any number.
        at_least: Smallest number of poses.

    Returns:
        (count, 4, 4) float64.

    Raises:
        DataError: The file is missing, a line is no pose, or there is another number of lines.
    """
    rows = read_numbers(path, (12, 16), "a pose by rows")
    if len(rows) < at_least or count not in (None, len(rows)):
        expected = at_least if count is None else count
        raise DataError(f"{path}: expected {expected} poses, one per image, found {len(rows)}; complete or remove it")
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, : rows.shape[1] // 4] = rows.reshape(len(rows), -1, 4)
    check_poses(poses, path)
    return poses


def check_poses(poses: np.ndarray, path: str | Path) -> None:
    """Check that matrices (n, 4, 4) are rotations with a translation.

    Raises:
        DataError: One is not; the message counts it from 1.
    """
    R = poses[:, :3, :3]
    wrong = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max((1, 2)) > TOLERANCE
    wrong |= (np.linalg.det(R) < 0) | (np.abs(poses[:, 3] - [0, 0, 0, 1]).max(1) > TOLERANCE)
    if wrong.any():
        raise DataError(
            f"{path}: expected matrices of motions by rows, found one that is no rotation with a translation "
            f"(matrix {int(wrong.argmax()) + 1}); write rotations with determinant 1 and a last row of 0 0 0 1"
        )


def rigid(
    rotation: ArrayLike = ((1, 0, 0), (0, 1, 0), (0, 0, 1)), translation: ArrayLike = (0.0, 0.0, 0.0)
) -> np.ndarray:
    """Return a rigid motion, (4, 4) float64, of a rotation (3, 3) and a translation (3,); by default of neither."""
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation, translation
    return motion


def pose_from_quaternion(position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Return a pose, (4, 4) float64.

    Args:
        position: (3,) metres.
        quaternion: (4,) x, y, z, w; of about unit length.

    >>> pose_from_quaternion(np.zeros(3), np.array([0, 0, 1, 0]))[:2, :2]  # half a turn about z
    array([[-1.,  0.],
           [ 0., -1.]])
    """
    return rigid(Rotation.from_quat(quaternion).as_matrix(), position)


NYUV2 = {"width": 640, "height": 480, "fx": 518.8579, "fy": 519.4696, "cx": 325.5824, "cy": 253.7362}
FOUR = ("fx", "fy", "cx", "cy")
CENTRE = ("cx", "cy")
"""These may lie outside of an image that was cut out of a larger one."""


def camera_matrix(camera: dict[str, float], height: int, width: int) -> Tensor:
    """Return K for an image of `height` x `width` pixels.

    Args:
        camera: `fx`, `fy`, `cx`, `cy` in pixels of an image of `width` x `height`, by default of this size.
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
    size = (int(camera.get("height", height)), int(camera.get("width", width)))
    return scaled_K(K, size, (height, width)).float()


def camera_of(camera: dict[str, float], image: str | Path) -> Tensor:
    """Return K for the size at which an image is stored, (3, 3) float32.

    Args:
        camera: As for `camera_matrix`; without `width` and `height` it is that of the stored image.
        image: The file of the image; only its size is read, and only if needed.

    Raises:
        DataError: The image cannot be read.
    """
    height, width = image_size(image) if "width" in camera or "height" in camera else (1, 1)
    return camera_matrix(camera, height, width)


def read_camera(path: Path) -> dict[str, float]:
    """Return the numbers of an `intrinsics.json` (fx, fy, cx, cy; width and height) or a 3 x 3 `cam.txt`.

    The nine numbers of a `cam.txt` may be separated by blanks or commas.

    Raises:
        DataError: The file cannot be read, or contains something else.
    """
    is_json = path.suffix == ".json"
    K = np.eye(3)
    try:
        if is_json:
            document = read_json(path)
            camera = {name: float(document[name]) for name in NYUV2 if name in document or name in FOUR}
        else:
            text = path.read_text(encoding="utf-8")
            K = np.array(text.replace(",", " ").split(), dtype=float).reshape(3, 3)
            camera = dict(zip(FOUR, map(float, (K[0, 0], K[1, 1], K[0, 2], K[1, 2])), strict=True))
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, AttributeError) as error:
        content = "fx, fy, cx, cy" if is_json else "the nine numbers of a 3 x 3 matrix"
        raise DataError(f"{path}: expected {content}, found something else ({error!r}); fix or remove it") from error
    if not np.allclose(K[[1, 2, 2], [0, 0, 1]], 0):
        raise DataError(f"{path}: expected [fx 0 cx; 0 fy cy; 0 0 1] by rows, found {K.ravel().tolist()}; fix it")
    for name, value in camera.items():
        if not np.isfinite(value) or (name not in CENTRE and value <= 0):
            raise DataError(f"{path}: expected {name} in pixels, found {value:g}; fix it")
    return camera
