"""The sequences of the TUM RGB-D benchmark (Sturm et al. 2012).

    rgb.txt, depth.txt      "timestamp file" a line, seconds; `#` begins a remark
    groundtruth.txt         "timestamp tx ty tz qx qy qz qw" a line: colour camera to world, metres
    depth/*.png             16 bits, 5000 steps a metre, registered to the colour camera

Colour, depth and motion were recorded each at its own times, so each image is given the depth map and the pose
nearest to it in time, if within 0.02 s, as the benchmark's own tool has it. An image without depth is a source of
its neighbours and no target; an image without a pose is left out, and the video is cut there.

K is that of `intrinsics.json` beside the lists if there is one, otherwise the benchmark's calibration of freiburg1,
freiburg2 or freiburg3, whichever the folder's name says, and otherwise its default, 525 pixels. The images of
freiburg1 and freiburg2 are as the lens drew them: K does not know about that distortion.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.reading import read_image
from cka_probe.lab.datasets.depth import read_depth
from cka_probe.lab.datasets.frames import Frame
from cka_probe.lab.datasets.intrinsics import camera_of
from cka_probe.lab.datasets.numbers import parse_numbers, read_lines, read_numbers
from cka_probe.lab.datasets.poses import TOLERANCE, pose_from_quaternion
from cka_probe.lab.datasets.video import camera_beside

PER_METRE = 5000
APART = 0.02
"""Seconds between an image and what is taken to belong to it, at most."""
SIZE = {"width": 640, "height": 480}
CAMERAS = {
    "freiburg1": {"fx": 517.3, "fy": 516.5, "cx": 318.6, "cy": 255.3},
    "freiburg2": {"fx": 520.9, "fy": 521.0, "cx": 325.1, "cy": 249.7},
    "freiburg3": {"fx": 535.4, "fy": 539.2, "cx": 320.1, "cy": 247.6},
}
DEFAULT = {"fx": 525.0, "fy": 525.0, "cx": 319.5, "cy": 239.5}


def is_tum(folder: Path) -> bool:
    """Return whether a folder holds a sequence of the benchmark."""
    return (folder / "rgb.txt").is_file() and (folder / "depth.txt").is_file()


def tum_scenes(folder: Path, root: Path, per_metre: int = 0) -> list[list[Frame]]:
    """Return the frames of a sequence, cut where a pose is missing.

    Args:
        folder: The sequence.
        root: What names are relative to.
        per_metre: Steps a metre of the depth; 0: 5000.

    Raises:
        DataError: A list is missing or broken, or names what is not there.
    """
    if per_metre < 0:
        raise DataError(f"per_metre={per_metre}: expected steps a metre, as {PER_METRE}")
    times, images = _stamped(folder / "rgb.txt")
    depth_times, depths = _stamped(folder / "depth.txt")
    poses = folder / "groundtruth.txt"
    pose_times, motions = _motions(poses) if poses.is_file() else (np.zeros(0), [])
    camera = camera_beside(folder) or _camera(folder.resolve().name)
    scenes: list[list[Frame]] = [[]]
    for time, image in zip(times, images, strict=True):
        known: dict[str, Callable[[], Tensor]] = {
            "image": partial(read_image, image),
            "K": partial(camera_of, camera, image),
        }
        if (depth := _nearest(depth_times, time)) is not None:
            known["depth"] = partial(read_depth, depths[depth], 1 / (per_metre or PER_METRE))
        if (pose := _nearest(pose_times, time)) is not None:
            known["world_T_target"] = partial(torch.tensor, motions[pose].tolist())
        elif motions:
            scenes.append([])
            continue
        scenes[-1].append(Frame(image.relative_to(root).as_posix(), known, target=depth is not None))
    return [scene for scene in scenes if scene]


def _stamped(path: Path) -> tuple[np.ndarray, list[Path]]:
    """Return a list's times in seconds, in order, and its files, all of which must be there."""
    found = []
    for line, text in read_lines(path, "a time and a file a line"):
        words, here = text.split(), f"{path}, line {line}"
        if len(words) != 2:
            raise DataError(f"{here}: expected 'timestamp file', found {text[:80]!r}; mend the list")
        file = path.parent / words[1]
        if not file.is_file():
            raise DataError(f"{here}: names {file}, which is not there; complete the data or shorten the list")
        found.append((parse_numbers(words[0], (1,), here, "a time in seconds")[0], file))
    if not found:
        raise DataError(f"{path}: expected lines of 'timestamp file', found none; fetch it again")
    found.sort()
    return np.array([time for time, _ in found]), [file for _, file in found]


def _motions(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the times in seconds, in order, and poses (4, 4)."""
    rows = read_numbers(path, (8,), "timestamp tx ty tz qx qy qz qw")
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    lengths = np.linalg.norm(rows[:, 4:], axis=1)
    worst = int(np.abs(lengths - 1).argmax())
    if abs(lengths[worst] - 1) > TOLERANCE:
        raise DataError(
            f"{path}: expected unit quaternions qx qy qz qw, found one of length {lengths[worst]:.3g} at "
            f"{rows[worst, 0]:.6f} s; mend or remove the line"
        )
    return rows[:, 0], [pose_from_quaternion(row[1:4], row[4:]) for row in rows]


def _nearest(times: np.ndarray, time: float) -> int | None:
    """Return which of `times`, in order, is nearest, if it is near enough."""
    if not len(times):
        return None
    after = int(np.searchsorted(times, time))
    best = min((place for place in (after - 1, after) if 0 <= place < len(times)), key=lambda i: abs(times[i] - time))
    return best if abs(times[best] - time) <= APART else None


def _camera(name: str) -> dict[str, float]:
    """Return the benchmark's camera, by the name of the sequence."""
    return SIZE | next((camera for known, camera in CAMERAS.items() if known in name), DEFAULT)
