"""The training folders of SC-Depth (Bian et al. 2021, 2023): videos with a camera, depth and pseudo-depth.

    training/train.txt, val.txt           the scenes of each split, a folder per line (or Train.txt, Val.txt)
    training/<scene>/*.jpg (or .png)      the frames of a video, sorted by name
    training/<scene>/cam.txt              3 x 3 K of the stored images
    training/<scene>/depth/*.png          16 bits, `per_metre` steps per metre: 5000 for NYU, 1000 for TUM and Bonn
                          or *.npz        sparse metres (KITTI, DDAD)
    training/<scene>/leres_depth/*.png    16 bits, depth of another network up to scale and shift: `pseudo_depth`
    training/<scene>/poses.txt            camera to world, 16 numbers per line, one line per frame
    training/<scene>/frame_index.txt      which frames are used, counted from 0, one per line
    testing/color/*, testing/depth/*      single images with depth: the split "test"

Only the frames and `cam.txt` are required; a field is given if every scene has it. With a `frame_index.txt`, neighbours
are those of the shortened video: the file omits frames in which the camera hardly moves.

The split "all" is "train" and "val", or every folder with a `cam.txt` if there are no lists. The images for testing
have no camera and no neighbours, and are only in the split "test".
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import images_in, is_hidden
from cka_probe.lab.datasets.fields import each, list_frames, read_depth, read_pseudo_depth, read_sparse_depth
from cka_probe.lab.datasets.frames import Frame, Frames, parse_sources
from cka_probe.lab.datasets.numbers import camera_matrix, path_below, read_camera, read_lines, read_numbers, read_poses

LISTS = {"train": ("train.txt", "Train.txt"), "val": ("val.txt", "Val.txt")}


def sc_depth(root: str | Path, split: str = "all", *, sources: str = "", per_metre: int = 5000) -> Frames:
    """Return videos in the layout of SC-Depth.

    Args:
        root: The folder that holds `training`, or `training` itself.
        split: "train", "val", "test" or "all".
        sources: Sources of each sample, as offsets in frames: "-1,1".
        per_metre: Steps per metre of 16-bit depth: 5000 for NYU, 1000 for TUM and Bonn.

    Raises:
        UnknownNameError: No dataset has a split of this name.
        DataError: The folder has another layout, or something in it is missing or broken.
    """
    root = Path(root)
    where, training = f"SC-Depth's folders at {root}", _training(root)
    if per_metre <= 0:
        raise DataError(f"per_metre={per_metre}: expected steps per metre, as 5000 for NYU")
    lists = _lists(training)
    testing = (root.parent if root.name == "training" else root) / "testing"
    check_split(split, [*lists, *(["test"] if testing.is_dir() else []), "all"], where)
    if split == "test":
        scenes = [[frame] for frame in _test_frames(testing, 1 / per_metre)]
    else:
        folders = scene_folders(root, list(lists) if split == "all" else [split])
        scenes = [_scene_frames(folder, training, 1 / per_metre) for folder in folders]
    return Frames(scenes, parse_sources(sources), where)


def scene_folders(root: str | Path, splits: Sequence[str] = tuple(LISTS)) -> list[Path]:
    """Return the folders of the scenes of some splits, or without lists every folder with a camera.

    Args:
        root: The folder that holds `training`, or `training` itself.
        splits: "train", "val" or both; those without a list are ignored.

    Raises:
        DataError: There are none, or one is missing.
    """
    training = _training(Path(root))
    lists = [path for split, path in _lists(training).items() if split in splits]
    if not lists:
        folders = sorted(path.parent for path in training.glob("[!.]*/cam.txt"))
        if not folders:
            raise DataError(
                f"expected SC-Depth's folders at {root}: training/<scene>/cam.txt with images next to it, found none"
            )
        return folders
    folders = []
    for path in lists:
        for line, name in read_lines(path, "names of scenes"):
            folder = path_below(training, name.strip("/"), f"{path}, line {line}")
            if not folder.is_dir():
                raise DataError(f"{path}, line {line}: names {folder}, which does not exist; complete the data")
            folders.append(folder)
    return list(dict.fromkeys(folders))


def _training(root: Path) -> Path:
    """Return the folder of the scenes."""
    return root / "training" if (root / "training").is_dir() else root


def _lists(training: Path) -> dict[str, Path]:
    """Return the lists of scenes that exist, by split."""
    paths = {split: [training / name for name in names] for split, names in LISTS.items()}
    return {split: next(filter(Path.is_file, files)) for split, files in paths.items() if any(map(Path.is_file, files))}


def _scene_frames(folder: Path, training: Path, unit: float) -> list[Frame]:
    """Return the frames of a scene that its frame_index.txt lists, or all."""
    images = images_in(folder)
    if not images:
        raise DataError(f"no images in {folder}: expected frames next to cam.txt; complete the data")
    K = camera_matrix(read_camera(folder / "cam.txt"), 1, 1)  # of the stored size: nothing to scale
    fields = {
        "K": each(torch.clone, [K] * len(images)),
        "depth": each(_read_depth, _paired(folder, "depth", images), unit=unit),
        "pseudo_depth": each(read_pseudo_depth, _paired(folder, "leres_depth", images)),
    }
    if (folder / "poses.txt").is_file():
        fields["world_T_target"] = each(torch.tensor, read_poses(folder / "poses.txt", len(images)).tolist())
    frames = list_frames(training, images, fields)
    return [frames[index] for index in _frame_index(folder / "frame_index.txt", len(frames))]


def _frame_index(path: Path, count: int) -> list[int]:
    """Return the indices of the frames to use."""
    if not path.is_file():
        return list(range(count))
    indices = read_numbers(path, (1,), "numbers of frames")[:, 0]
    wrong = (indices < 0) | (indices >= count) | (indices % 1 != 0)
    if wrong.any():
        raise DataError(f"{path}: expected whole numbers from 0 to {count - 1}, found {indices[wrong][0]:g}; fix it")
    return [int(index) for index in indices]


def _paired(folder: Path, name: str, images: list[Path]) -> list[Path] | None:
    """Return the files of `folder/name`, one per image, or None if there is no such folder.

    They are paired in the order of their names, as in SC-Depth; if some names agree, all have to.
    """
    maps = folder / name
    if not maps.is_dir():
        return None
    files = (path for path in maps.iterdir() if path.suffix in (".png", ".npz") and not is_hidden(path.name))
    paths = sorted(files, key=lambda path: path.stem)
    map_names, image_names = {path.stem for path in paths}, {path.stem for path in images}
    if map_names & image_names and map_names != image_names:
        odd = min(map_names ^ image_names)
        raise DataError(f"{maps}: expected one file for each image of {folder}, found {odd} on one side only; fix")
    if len(paths) != len(images):
        raise DataError(
            f"{maps}: expected {len(images)} files, one per image of {folder}, found {len(paths)}; "
            "complete or remove them"
        )
    return paths


def _read_depth(path: Path, unit: float) -> Tensor:
    """Return a depth map, (1, H, W) metres."""
    return read_sparse_depth(path) if path.suffix == ".npz" else read_depth(path, unit)


def _test_frames(testing: Path, unit: float) -> list[Frame]:
    """Return the images for testing."""
    images = images_in(testing / "color")
    if not images:
        raise DataError(f"no images in {testing / 'color'}: expected the split 'test' there; complete the data")
    depth = each(_read_depth, _paired(testing, "depth", images), unit=unit)
    return list_frames(testing.parent, images, {"depth": depth})
