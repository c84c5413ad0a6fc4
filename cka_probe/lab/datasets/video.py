"""Videos in folders, with whatever is known about them, and RGB-D sequences.

**A video** is a folder:

    images/  or frames/, left/, rgb/, color/     the frames; in the order of their names, numbers by value
    intrinsics.json                              fx, fy, cx, cy, width, height; or K.txt or cam.txt, 3 x 3
    poses.txt                                    camera to world, 12 or 16 numbers a line, one line a frame
    depth_mm/  or depth/, sparse_depth/          16-bit depth of the same names
    right/                                       the other camera of a rectified pair, of the same names;
                                                 `baseline_m` in intrinsics.json says how far to the right it is

Only the frames are required. `depth_mm` and `depth` (deep-video-mvs, ScanNet) are millimetres, `sparse_depth` (a laser
scan) is 1/256 m, unless `per_metre` says otherwise; 65535, which some datasets write for "not measured", counts as 0.

The root is one video or holds several. "test" is the last third of each video and "train" what comes before: frames
between two frames of the training set would not test anything.

**RGB-D sequences** have measured depth in every frame, in one of two layouts:

1. TUM RGB-D (Sturm et al. 2012):

       rgb.txt, depth.txt      "timestamp file" a line, seconds; `#` starts a comment
       groundtruth.txt         "timestamp tx ty tz qx qy qz qw" a line: colour camera to world, metres
       depth/*.png             16 bits, 5000 steps per metre, registered to the colour camera

2. A video with depth, as above.

TUM recorded colour, depth and motion at different times, so each image gets the depth map and the pose nearest in
time, if within 0.02 s, as in the benchmark's own tool. An image without depth serves as a source for its neighbours
but not as a target; an image without a pose is omitted, and the video is cut there. K is read from an
`intrinsics.json` next to the lists if it exists; otherwise it is the benchmark's calibration of freiburg1, freiburg2
or freiburg3, as the folder is named, or its default of 525 pixels. The images of freiburg1 and freiburg2 contain lens
distortion, which K does not describe.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.files import read_json
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import images_in, is_hidden, read_aligned_image
from cka_probe.lab.datasets.fields import each, list_frames, read_depth, same_names
from cka_probe.lab.datasets.frames import PARTNER, Frame, Frames, parse_sources
from cka_probe.lab.datasets.numbers import (
    TOLERANCE,
    camera_of,
    parse_numbers,
    path_below,
    pose_from_quaternion,
    read_camera,
    read_lines,
    read_numbers,
    read_poses,
)

IMAGES = ("images", "frames", "left", "rgb", "color")
DEPTHS = {"depth_mm": 1000, "depth": 1000, "sparse_depth": 256}
"""Folders of depth, with their steps per metre."""
CAMERA_FILES = ("intrinsics.json", "K.txt", "cam.txt")
NOTHING = 65535


def video(root: str | Path, split: str = "all", *, sources: str = "", per_metre: int = 0) -> Frames:
    """Return videos with whatever is known about them.

    Args:
        root: The folder of one video, or of several.
        split: "train", "test" (the last third of each) or "all".
        sources: Sources of each sample: offsets in frames, and "s" for the right camera: "-1,1,s".
        per_metre: Steps per metre of the depth; 0 for those of its folder.

    Raises:
        UnknownNameError: No dataset has a split of this name.
        DataError: There is no video, or a file of one is missing or broken.
    """
    root, where = Path(root), f"videos at {root}"
    check_split(split, ("train", "test", "all"), where)
    folders = _sequences(root, is_video)
    if not folders:
        raise DataError(f"expected {where} as a folder {', '.join(IMAGES[:-1])} or color of images, found none")
    scenes = [_video_frames(folder, root, per_metre) for folder in folders]
    return Frames(_part(scenes, split), parse_sources(sources), where)


def rgbd(root: str | Path, split: str = "all", *, sources: str = "", per_metre: int = 0) -> Frames:
    """Return RGB-D sequences.

    Args:
        root: The folder of one sequence, or of several.
        split: "train", "test" (the last third of each) or "all".
        sources: Sources of each sample, as offsets in frames: "-1,1".
        per_metre: Steps per metre of the depth; 0 for those of the layout (TUM 5000, otherwise millimetres).

    Raises:
        UnknownNameError: No dataset has a split of this name.
        DataError: There is no sequence, or a file of one is missing or broken.
    """
    root, where = Path(root), f"RGB-D sequences at {root}"
    check_split(split, ("train", "test", "all"), where)
    folders = _sequences(root, _has_depth)
    if not folders:
        raise DataError(
            f"expected {where}: rgb.txt with depth.txt, or images/ with depth_mm/ or depth/, found neither; "
            "give the folder that holds one of these, or open a video without depth as 'video:'"
        )
    scenes = []
    for folder in folders:
        scenes += _tum_scenes(folder, root, per_metre) if is_tum(folder) else [_video_frames(folder, root, per_metre)]
    return Frames(_part(scenes, split), parse_sources(sources), where)


def is_video(folder: Path) -> bool:
    """Return whether a folder has frames, in one of `IMAGES`."""
    return any(images_in(folder / name) for name in IMAGES)


def is_tum(folder: Path) -> bool:
    """Return whether a folder is a sequence of TUM RGB-D."""
    return (folder / "rgb.txt").is_file() and (folder / "depth.txt").is_file()


def _has_depth(folder: Path) -> bool:
    """Return whether a folder is an RGB-D sequence."""
    return is_tum(folder) or (is_video(folder) and any((folder / name).is_dir() for name in DEPTHS))


def _sequences(root: Path, is_one: Callable[[Path], bool]) -> list[Path]:
    """Return the root if it is a sequence, otherwise the folders in it that are, sorted by name."""
    if is_one(root):
        return [root]
    folders = [path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)] if root.is_dir() else []
    return sorted(path for path in folders if is_one(path))


def _part(scenes: list[list[Frame]], split: str) -> list[list[Frame]]:
    """Return the frames of a split of each video."""
    if split == "all":
        return scenes
    cuts = [len(scene) - len(scene) // 3 for scene in scenes]
    parts = [scene[:cut] if split == "train" else scene[cut:] for scene, cut in zip(scenes, cuts, strict=True)]
    return [part for part in parts if part]


def _check_steps(per_metre: int, example: int) -> None:
    """Refuse a negative number of steps per metre."""
    if per_metre < 0:
        raise DataError(f"per_metre={per_metre}: expected steps per metre, found a negative number; try {example}")


def _video_frames(folder: Path, root: Path, per_metre: int) -> list[Frame]:
    """Return the frames of a video in order; names are relative to the root."""
    _check_steps(per_metre, 1000)
    images = sorted(next(images for name in IMAGES if (images := images_in(folder / name))), key=_by_value)
    camera, fields = _camera(folder), {}
    if camera:
        fields["K"] = each(camera_of, [camera] * len(images), images)
    if (folder / "poses.txt").is_file():
        fields["world_T_target"] = each(torch.tensor, read_poses(folder / "poses.txt", len(images)).tolist())
    if name := next((name for name in DEPTHS if (folder / name).is_dir()), None):
        unit = 1 / (per_metre or DEPTHS[name])
        fields["depth"] = each(read_depth, same_names(folder / name, images), unit=unit, nothing=NOTHING)
    if (folder / "right").is_dir():
        partner_T_target = torch.eye(4)
        partner_T_target[0, 3] = -_baseline(folder / "intrinsics.json")
        fields[PARTNER[0]] = each(read_aligned_image, same_names(folder / "right", images))
        fields[PARTNER[1]] = each(torch.clone, [partner_T_target] * len(images))
    return list_frames(root, images, fields)


def _by_value(path: Path) -> list[str | int]:
    """Return a sorting key that puts frame 2 before frame 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", path.stem)]


def _camera(folder: Path) -> dict[str, float] | None:
    """Return the camera of a sequence, or None if it has no file."""
    path = next((folder / name for name in CAMERA_FILES if (folder / name).is_file()), None)
    return read_camera(path) if path else None


def _baseline(path: Path) -> float:
    """Return the distance from the left to the right camera, in metres."""
    try:
        baseline = float(read_json(path)["baseline_m"])
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected baseline_m (metres) because of the folder right, found none ({error!r}); add it"
        ) from error
    if not 0 < baseline < 1e6:
        raise DataError(f"{path}: expected baseline_m in metres, found {baseline:g}; fix it")
    return baseline


PER_METRE = 5000
MAX_LAG = 0.02
"""Maximum difference in seconds between an image and the depth or pose that belongs to it."""
SIZE = {"width": 640, "height": 480}
CAMERAS = {
    "freiburg1": {"fx": 517.3, "fy": 516.5, "cx": 318.6, "cy": 255.3},
    "freiburg2": {"fx": 520.9, "fy": 521.0, "cx": 325.1, "cy": 249.7},
    "freiburg3": {"fx": 535.4, "fy": 539.2, "cx": 320.1, "cy": 247.6},
}
DEFAULT = {"fx": 525.0, "fy": 525.0, "cx": 319.5, "cy": 239.5}


def _tum_scenes(folder: Path, root: Path, per_metre: int) -> list[list[Frame]]:
    """Return the frames of a sequence of TUM RGB-D, split where a pose is missing."""
    _check_steps(per_metre, PER_METRE)
    times, images = _stamped(folder / "rgb.txt")
    depth_times, depths = _stamped(folder / "depth.txt")
    poses = folder / "groundtruth.txt"
    pose_times, motions = _motions(poses) if poses.is_file() else (np.zeros(0), [])
    name = folder.resolve().name
    camera = _camera(folder) or SIZE | next((camera for key, camera in CAMERAS.items() if key in name), DEFAULT)
    scenes: list[list[Frame]] = [[]]
    for time, image in zip(times, images, strict=True):
        depth, pose = _nearest(depth_times, time), _nearest(pose_times, time)
        if motions and pose is None:
            scenes.append([])
            continue
        fields: dict[str, Callable[[], Tensor]] = {
            "image": partial(read_aligned_image, image),
            "K": partial(camera_of, camera, image),
        }
        if depth is not None:
            fields["depth"] = partial(read_depth, depths[depth], 1 / (per_metre or PER_METRE))
        if pose is not None:
            fields["world_T_target"] = partial(torch.tensor, motions[pose].tolist())
        scenes[-1].append(Frame(image.relative_to(root).as_posix(), fields, target=depth is not None))
    return [scene for scene in scenes if scene]


def _stamped(path: Path) -> tuple[np.ndarray, list[Path]]:
    """Return the times of a list in seconds, sorted, and its files, all of which have to exist."""
    rows = []
    for line, text in read_lines(path, "a time and a file per line"):
        words, where = text.split(), f"{path}, line {line}"
        if len(words) != 2:
            raise DataError(f"{where}: expected 'timestamp file', found {text[:80]!r}; fix the list")
        file = path_below(path.parent, words[1], where)
        if not file.is_file():
            raise DataError(f"{where}: names {file}, which does not exist; complete the data or shorten the list")
        rows.append((parse_numbers(words[0], (1,), where, "a time in seconds")[0], file))
    if not rows:
        raise DataError(f"{path}: expected lines of 'timestamp file', found none; fetch it again")
    rows.sort()
    return np.array([time for time, _ in rows]), [file for _, file in rows]


def _motions(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the times of poses in seconds, sorted, and the poses (4, 4)."""
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
    """Return the index of the nearest of some sorted times, or None if it is not near enough."""
    if not len(times):
        return None
    after = int(np.searchsorted(times, time))
    best = min((index for index in (after - 1, after) if 0 <= index < len(times)), key=lambda i: abs(times[i] - time))
    return best if abs(times[best] - time) <= MAX_LAG else None
