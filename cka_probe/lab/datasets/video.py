"""A video in a folder, with whatever is known of it beside the frames.

    images/  or frames/, left/, rgb/, color/     the frames; in the order of their names, numbers by value
    intrinsics.json                              fx, fy, cx, cy, width, height; or K.txt or cam.txt, 3 x 3
    poses.txt                                    camera to world, 12 or 16 numbers a line, one line a frame
    depth_mm/  or depth/, sparse_depth/          16-bit depth of the same names
    right/                                       the other camera of a rectified pair, of the same names;
                                                 `baseline_m` in intrinsics.json says how far to the right it is

Only the frames have to be there. `depth_mm` and `depth` (deep-video-mvs, ScanNet) are millimetres, `sparse_depth`
(a laser scan) is 1/256 m, unless `per_metre` says otherwise; 65535, which some write for "nothing", is nothing.

Root may be such a folder or hold several. "test" is the last third of each video and "train" what comes before:
frames that lie between two frames of training would be no test.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch

from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import images_in, is_hidden, read_image
from cka_probe.lab.datasets.fields import each, list_frames, read_depth
from cka_probe.lab.datasets.frames import PARTNER, Frame, Frames, parse_sources
from cka_probe.lab.datasets.numbers import camera_of, read_camera, read_poses

IMAGES = ("images", "frames", "left", "rgb", "color")
DEPTHS = {"depth_mm": 1000, "depth": 1000, "sparse_depth": 256}
"""Folders of depth, with their steps a metre."""
CAMERAS = ("intrinsics.json", "K.txt", "cam.txt")
NOTHING = 65535


def video(root: str | Path, split: str = "all", *, sources: str = "", per_metre: int = 0) -> Frames:
    """Return videos with whatever is known of them.

    Args:
        root: A video's folder, or one that holds several.
        split: "train", "test" (the last third of each) or "all".
        sources: What each sample brings along: offsets in frames, and "s" for the right camera: "-1,1,s".
        per_metre: Steps a metre of the depth; 0: as its folder's name says.

    Raises:
        UnknownNameError: There is no split of that name anywhere.
        DataError: There is no video, or something beside it is missing or broken.
    """
    root, where = Path(root), f"videos at {root}"
    check_split(split, ("train", "test", "all"), where)
    folders = find_sequences(root, is_video)
    if not folders:
        raise DataError(f"expected {where} as a folder {', '.join(IMAGES[:-1])} or color of images, found none")
    scenes = [video_frames(folder, root, per_metre) for folder in folders]
    return Frames(cut(scenes, split), parse_sources(sources), where)


def find_sequences(root: Path, is_one: Callable[[Path], bool]) -> list[Path]:
    """Return the root if it is a sequence, and otherwise those folders in it that are, sorted by name."""
    if is_one(root):
        return [root]
    folders = [path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)] if root.is_dir() else []
    return sorted(path for path in folders if is_one(path))


def is_video(folder: Path) -> bool:
    """Return whether there are frames in a folder of a name we know."""
    return any(images_in(folder / name) for name in IMAGES)


def cut(scenes: list[list[Frame]], split: str) -> list[list[Frame]]:
    """Return the part of each video that is meant."""
    if split == "all":
        return scenes
    places = [len(scene) - len(scene) // 3 for scene in scenes]
    parts = [scene[:at] if split == "train" else scene[at:] for scene, at in zip(scenes, places, strict=True)]
    return [part for part in parts if part]


def video_frames(folder: Path, root: Path, per_metre: int = 0) -> list[Frame]:
    """Return a video's frames in order.

    Args:
        folder: The video.
        root: What names are relative to.
        per_metre: Steps a metre of the depth; 0: as its folder's name says.

    Raises:
        DataError: Something beside the frames is missing or broken.
    """
    if per_metre < 0:
        raise DataError(f"per_metre={per_metre}: expected steps a metre, as 1000 for millimetres")
    images = next(found for name in IMAGES if (found := images_in(folder / name)))
    images.sort(key=_by_value)
    camera, fields = camera_beside(folder), {}
    if camera:
        fields["K"] = each(camera_of, [camera] * len(images), images)
    if (folder / "poses.txt").is_file():
        fields["world_T_target"] = each(torch.tensor, read_poses(folder / "poses.txt", len(images)).tolist())
    if name := next((name for name in DEPTHS if (folder / name).is_dir()), None):
        unit = 1 / (per_metre or DEPTHS[name])
        fields["depth"] = each(read_depth, _same_names(folder / name, images), unit=unit, nothing=NOTHING)
    if (folder / "right").is_dir():
        partner_T_target = torch.eye(4)
        partner_T_target[0, 3] = -_baseline(folder / "intrinsics.json")
        fields[PARTNER[0]] = each(read_image, _same_names(folder / "right", images))
        fields[PARTNER[1]] = each(torch.clone, [partner_T_target] * len(images))
    return list_frames(root, images, fields)


def camera_beside(folder: Path) -> dict[str, float] | None:
    """Return the camera of a video, or None where nothing says it."""
    path = next((folder / name for name in CAMERAS if (folder / name).is_file()), None)
    return read_camera(path) if path else None


def _by_value(path: Path) -> list[str | int]:
    """Return what sorts frame 2 before frame 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", path.stem)]


def _same_names(folder: Path, images: list[Path]) -> list[Path]:
    """Return the file of each image's name in a folder, all of which must be there."""
    there = {path.stem: path for path in images_in(folder)}
    for image in images:
        if image.stem not in there:
            raise DataError(f"expected {folder / image.stem}.* for {image}, found none; add or remove")
    return [there[image.stem] for image in images]


def _baseline(path: Path) -> float:
    """Return how far to the right of the left camera the right one is, in metres."""
    try:
        baseline = float(json.loads(path.read_text(encoding="utf-8"))["baseline_m"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected baseline_m (metres) because of the folder right, found none ({error!r}); add it"
        ) from error
    if not 0 < baseline < float("inf"):
        raise DataError(f"{path}: expected baseline_m in metres, found {baseline:g}; fix it")
    return baseline
