"""The training folders of SC-Depth (Bian et al. 2021, 2023): videos with a camera, depth and pseudo-depth.

    training/train.txt, val.txt           the scenes of each split, a folder's name a line (or Train.txt, Val.txt)
    training/<scene>/*.jpg (or .png)      frames; sorted by name they are a video
    training/<scene>/cam.txt              3 x 3 K of the stored images
    training/<scene>/depth/*.png          16 bits, `per_metre` steps a metre: 5000 for NYU, 1000 for TUM and Bonn
                          or *.npz        sparse metres (KITTI, DDAD)
    training/<scene>/leres_depth/*.png    16 bits, another network's depth up to scale and shift: `pseudo_depth`
    training/<scene>/poses.txt            camera to world, 16 numbers a line, one line a frame
    training/<scene>/frame_index.txt      which frames are used, counted from 0, one a line
    testing/color/*, testing/depth/*      single images with depth: the split "test"

Only the frames and `cam.txt` have to be there; a field is given when every scene has it. Where there is a
`frame_index.txt`, a frame's neighbours are those of the shortened video: leaving out frames in which the camera
hardly moved is what the file is for.

The split "all" is "train" and "val", or every folder with a `cam.txt` where there are no lists. The images for
testing have no camera and no neighbours, and come only when they are asked for.
"""

from pathlib import Path

import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import images_in
from cka_probe.lab.datasets.fields import each, list_frames, read_depth, read_pseudo_depth, read_sparse_depth
from cka_probe.lab.datasets.frames import Frame, Frames, parse_sources
from cka_probe.lab.datasets.numbers import camera_matrix, read_camera, read_lines, read_numbers, read_poses

LISTS = {"train": ("train.txt", "Train.txt"), "val": ("val.txt", "Val.txt")}


def sc_depth(root: str | Path, split: str = "all", *, sources: str = "", per_metre: int = 5000) -> Frames:
    """Return videos in SC-Depth's layout.

    Args:
        root: The folder that holds `training`, or `training` itself.
        split: "train", "val", "test" or "all".
        sources: Neighbours that each sample brings along, as offsets in frames: "-1,1".
        per_metre: Steps a metre of 16-bit depth: 5000 for NYU, 1000 for TUM and Bonn.

    Raises:
        UnknownNameError: There is no split of that name anywhere.
        DataError: The layout is not there, or something in it is missing or broken.
    """
    root = Path(root)
    where, training = _where(root), _training(root)
    if per_metre <= 0:
        raise DataError(f"per_metre={per_metre}: expected steps a metre, as 5000 for NYU")
    lists = _lists(training)
    testing = (root.parent if root.name == "training" else root) / "testing"
    check_split(split, [*lists, *(["test"] if testing.is_dir() else []), "all"], where)
    if split == "test":
        scenes = [[frame] for frame in _test_frames(testing, 1 / per_metre)]
    else:
        folders = _scenes(training, list(lists.values()) if split == "all" else [lists[split]], where)
        scenes = [_scene_frames(folder, training, 1 / per_metre) for folder in folders]
    return Frames(scenes, parse_sources(sources), where)


def scene_folders(root: str | Path) -> list[Path]:
    """Return the folder of every scene for training and validation, as the split "all" has them.

    Args:
        root: The folder that holds `training`, or `training` itself.

    Raises:
        DataError: There are none, or one is missing.
    """
    training = _training(Path(root))
    return _scenes(training, list(_lists(training).values()), _where(Path(root)))


def _where(root: Path) -> str:
    """Return what messages call the data."""
    return f"SC-Depth's folders at {root}"


def _training(root: Path) -> Path:
    """Return the folder of the scenes."""
    return root / "training" if (root / "training").is_dir() else root


def _lists(training: Path) -> dict[str, Path]:
    """Return the lists of scenes that there are, by split."""
    found = {
        split: next((training / name for name in names if (training / name).is_file()), None)
        for split, names in LISTS.items()
    }
    return {split: path for split, path in found.items() if path}


def _scenes(training: Path, lists: list[Path], where: str) -> list[Path]:
    """Return the folders that lists name, all of which must be there; without a list every folder with a camera."""
    if not lists:
        folders = sorted(path.parent for path in training.glob("*/cam.txt"))
        if not folders:
            raise DataError(f"expected {where}: training/<scene>/cam.txt with images beside it, found none")
        return folders
    folders = []
    for path in lists:
        for line, name in read_lines(path, "names of scenes"):
            folder = training / name.strip("/")
            if not folder.is_dir():
                raise DataError(f"{path}, line {line}: names {folder}, which is not there; complete the data")
            folders.append(folder)
    return list(dict.fromkeys(folders))


def _scene_frames(folder: Path, training: Path, unit: float) -> list[Frame]:
    """Return a scene's frames, those its frame_index.txt names or all."""
    images = images_in(folder)
    if not images:
        raise DataError(f"no images in {folder}: expected frames beside cam.txt; complete the data")
    K = camera_matrix(read_camera(folder / "cam.txt"), 1, 1)  # of the stored size, so there is nothing to scale
    fields = {
        "K": each(torch.clone, [K] * len(images)),
        "depth": each(_read_depth, _beside(folder, "depth", images), unit=unit),
        "pseudo_depth": each(read_pseudo_depth, _beside(folder, "leres_depth", images)),
    }
    if (folder / "poses.txt").is_file():
        fields["world_T_target"] = each(torch.tensor, read_poses(folder / "poses.txt", len(images)).tolist())
    frames = list_frames(training, images, fields)
    return [frames[index] for index in _frame_index(folder / "frame_index.txt", len(frames))]


def _frame_index(path: Path, count: int) -> list[int]:
    """Return which frames are used."""
    if not path.is_file():
        return list(range(count))
    numbers = read_numbers(path, (1,), "numbers of frames")[:, 0]
    wrong = (numbers < 0) | (numbers >= count) | (numbers % 1 != 0)
    if wrong.any():
        raise DataError(f"{path}: expected whole numbers from 0 to {count - 1}, found {numbers[wrong][0]:g}; fix it")
    return [int(number) for number in numbers]


def _beside(folder: Path, name: str, images: list[Path]) -> list[Path] | None:
    """Return the files of `folder/name`, one per image, or None if there is no such folder.

    They are paired in the order of their names, as SC-Depth does it; names that do agree must agree in pairs.
    """
    below = folder / name
    if not below.is_dir():
        return None
    found = sorted((path for path in below.iterdir() if path.suffix in (".png", ".npz")), key=lambda path: path.stem)
    stems, wanted = {path.stem for path in found}, {path.stem for path in images}
    if stems & wanted and stems != wanted:
        odd = min(stems ^ wanted)
        raise DataError(f"{below}: expected one file for each image of {folder}, found {odd} on one side only; fix")
    if len(found) != len(images):
        raise DataError(
            f"{below}: expected {len(images)} files as there are images in {folder}, found {len(found)}; "
            "complete or remove them"
        )
    return found


def _read_depth(path: Path, unit: float) -> Tensor:
    """Return a depth map, (1, H, W) metres."""
    return read_sparse_depth(path) if path.suffix == ".npz" else read_depth(path, unit)


def _test_frames(testing: Path, unit: float) -> list[Frame]:
    """Return the images for testing, each on its own."""
    images = images_in(testing / "color")
    if not images:
        raise DataError(f"no images in {testing / 'color'}: expected the split 'test' there; complete the data")
    depth = each(_read_depth, _beside(testing, "depth", images), unit=unit)
    return list_frames(testing.parent, images, {"depth": depth})
