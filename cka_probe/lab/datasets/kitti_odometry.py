"""KITTI odometry (Geiger, Lenz & Urtasun 2012): 22 drives in stereo, the first eleven with exact poses.

    sequences/NN/image_0/000000.png …, image_1     grey cameras, left and right
    sequences/NN/image_2/000000.png …, image_3     colour cameras, left and right
    sequences/NN/calib.txt                         P0 … P3, 12 numbers each; Tr: scanner to camera 0
    sequences/NN/velodyne/000000.bin …             laser scans, where they were fetched
    poses/NN.txt                                   12 numbers a line: left grey camera to where it was first

Root may hold `sequences`, or a `dataset` that does, as the archives unpack. All cameras are rectified: their axes
are the same, and camera i sees a point of camera 0 shifted by t_i, P_i = K [I | t_i]. So its pose is

    world_T_i = world_T_0 · shift(-t_i)

"train" is the sequences 00 to 08 and "test" 09 and 10, as in Zhou et al. 2017 and after them; "all" is all there
are. The pose is given when each sequence that is read has one.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import read_aligned_image
from cka_probe.lab.datasets.frames import PARTNER, STEREO, Frame, Frames, parse_sources
from cka_probe.lab.datasets.kitti import RectifiedCamera, camera_from_projection, scan_depth
from cka_probe.lab.datasets.numbers import camera_of, check_poses, numbered, read_named_numbers, read_poses, rigid, runs

SEQUENCES = {"train": range(9), "test": range(9, 11)}


def kitti_odometry(
    root: str | Path, split: str = "all", *, sources: str = "", sequence: str = "", colour: bool = True
) -> Frames:
    """Return KITTI odometry, seen by the left camera.

    Args:
        root: The folder that holds `sequences` (or `dataset/sequences`).
        split: "train", "test" or "all".
        sources: Sources of each sample: offsets in frames, and "s" for the right camera: "-1,1,s".
        sequence: A single sequence: "09".
        colour: Whether to read cameras 2 and 3, and not the grey ones, 0 and 1.

    Raises:
        UnknownNameError: No dataset has a split of this name.
        DataError: The folder has another layout, or something in it is missing or broken.
    """
    root, where = Path(root), f"KITTI odometry at {root}"
    check_split(split, ("train", "test", "all"), where)
    base = root / "dataset" if (root / "dataset" / "sequences").is_dir() else root
    names = {folder.parent.name: folder.parent for folder in sorted(base.glob("sequences/[!.]*/calib.txt"))}
    in_split = {f"{number:02d}" for number in SEQUENCES[split]} if split != "all" else set(names)
    folders = [folder for name, folder in names.items() if name in in_split and sequence in ("", name)]
    if not folders:
        request = f"sequence {sequence}" if sequence else f"sequences of {split!r}"
        raise DataError(
            f"expected {request} as sequences/NN/calib.txt in {where}, found {', '.join(names) or 'none'}; "
            "complete the data"
        )
    offsets = parse_sources(sources)
    scenes = [scene for folder in folders for scene in _scenes(base, folder, 2 if colour else 0, offsets)]
    return Frames(scenes, offsets, where)


def _scenes(base: Path, folder: Path, camera: int, sources: tuple[int | str, ...]) -> list[list[Frame]]:
    """Return the frames of a sequence, split where a number is missing."""
    images, partners = (numbered(folder / f"image_{number}") for number in (camera, camera + 1))
    if not images:
        raise DataError(f"no images in {folder / f'image_{camera}'}: fetch them, or choose with colour=true or false")
    left, right = (_camera(folder / "calib.txt", number) for number in (camera, camera + 1))
    poses = _poses(base / "poses" / f"{folder.name}.txt", max(images) + 1, left)
    scans = numbered(folder / "velodyne", (".bin",))
    camera_T_scanner = rigid(translation=left.offset) @ _scanner(folder / "calib.txt") if scans else None
    partner_T_target = torch.from_numpy(rigid(translation=right.offset - left.offset)).float()
    frames = {}
    for number, image in images.items():
        fields = {"image": partial(read_aligned_image, image), "K": partial(camera_of, left.intrinsics, image)}
        if poses is not None:
            fields["world_T_target"] = partial(torch.tensor, poses[number].tolist())
        if camera_T_scanner is not None and number in scans:
            fields["depth"] = partial(scan_depth, scans[number], camera_T_scanner, left.intrinsics, image)
        if number in partners:
            fields[PARTNER[0]] = partial(read_aligned_image, partners[number])
            fields[PARTNER[1]] = partial(torch.clone, partner_T_target)
        elif STEREO in sources:
            raise DataError(f"no partner of {image} in image_{camera + 1}: add it, or omit 's'")
        frames[number] = Frame(Path(image).relative_to(base).as_posix(), fields)
    return runs(frames)


def _camera(path: Path, number: int) -> RectifiedCamera:
    """Return one of the four cameras, for images of the stored size."""
    return camera_from_projection(read_named_numbers(path, {f"P{number}": 12}, "a calibration")[f"P{number}"], path)


def _scanner(path: Path) -> np.ndarray:
    """Return the motion from the laser scanner to camera 0, (4, 4)."""
    rows = read_named_numbers(path, {"Tr": 12}, "a calibration")["Tr"].reshape(3, 4)
    motion = rigid(rows[:, :3], rows[:, 3])
    check_poses(motion[None], path)
    return motion


def _poses(path: Path, count: int, camera: RectifiedCamera) -> np.ndarray | None:
    """Return at least `count` poses `world_T_camera`, (frames, 4, 4); None for a sequence without published poses."""
    return read_poses(path, at_least=count) @ rigid(translation=-camera.offset) if path.is_file() else None
