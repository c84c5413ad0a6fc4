"""RGB-D sequences: images with measured depth in every frame, in one of two layouts.

1. TUM RGB-D (Sturm et al. 2012):

       rgb.txt, depth.txt      "timestamp file" a line, seconds; `#` starts a comment
       groundtruth.txt         "timestamp tx ty tz qx qy qz qw" a line: colour camera to world, metres
       depth/*.png             16 bits, 5000 steps per metre, registered to the colour camera

2. A video folder with depth, see `video`: `images/` with `depth_mm/` or `depth/`, a camera as `intrinsics.json`,
   `K.txt` or `cam.txt`, and `poses.txt` where the poses are known.

The root is one sequence or holds several. "test" is the last third of each sequence, "train" what comes before.

TUM recorded colour, depth and motion at different times, so each image gets the depth map and the pose nearest in
time, if within 0.02 s, as in the benchmark's own tool. An image without depth serves as a source for its neighbours
but not as a target; an image without a pose is omitted, and the video is cut there. K is read from an
`intrinsics.json` next to the lists if it exists; otherwise it is the benchmark's calibration of freiburg1, freiburg2
or freiburg3, as the folder is named, or its default of 525 pixels. The images of freiburg1 and freiburg2 contain lens
distortion, which K does not describe.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import read_aligned_image
from cka_probe.lab.datasets.fields import read_depth
from cka_probe.lab.datasets.frames import Frame, Frames, parse_sources
from cka_probe.lab.datasets.numbers import (
    TOLERANCE,
    camera_of,
    parse_numbers,
    pose_from_quaternion,
    read_lines,
    read_numbers,
)
from cka_probe.lab.datasets.video import DEPTHS, camera_beside, cut, find_sequences, is_video, video_frames


def rgbd(root: str | Path, split: str = "all", *, sources: str = "", per_metre: int = 0) -> Frames:
    """Return RGB-D sequences.

    Args:
        root: A sequence's folder, or one that holds several.
        split: "train", "test" (the last third of each) or "all".
        sources: Neighbours that each sample brings along, as offsets in frames: "-1,1".
        per_metre: Steps a metre of the depth; 0: as the form has it (TUM 5000, otherwise millimetres).

    Raises:
        UnknownNameError: There is no split of that name anywhere.
        DataError: There is no sequence, or something in one is missing or broken.
    """
    root, where = Path(root), f"RGB-D sequences at {root}"
    check_split(split, ("train", "test", "all"), where)
    folders = find_sequences(root, _is_sequence)
    if not folders:
        raise DataError(
            f"expected {where}: rgb.txt with depth.txt, or images/ with depth_mm/ or depth/, found neither; "
            "give the folder that holds one of these, or open a video without depth as 'video:'"
        )
    scenes = []
    for folder in folders:
        scenes += tum_scenes(folder, root, per_metre) if is_tum(folder) else [video_frames(folder, root, per_metre)]
    return Frames(cut(scenes, split), parse_sources(sources), where)


def _is_sequence(folder: Path) -> bool:
    """Return whether a folder is an RGB-D sequence."""
    return is_tum(folder) or (is_video(folder) and any((folder / name).is_dir() for name in DEPTHS))


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
            "image": partial(read_aligned_image, image),
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
            raise DataError(f"{here}: expected 'timestamp file', found {text[:80]!r}; fix the list")
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
            f"{rows[worst, 0]:.6f} s; fix or remove the line"
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
