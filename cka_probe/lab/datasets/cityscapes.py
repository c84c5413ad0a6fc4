"""Cityscapes (Cordts et al. 2016): streets of 50 cities with fine labels, stereo and disparity.

    <root>/leftImg8bit/<split>/<city>/<city>_000000_000019_leftImg8bit.png       city, sequence, frame
    <root>/rightImg8bit/…_rightImg8bit.png                                       the right camera's
    <root>/leftImg8bit_sequence/…                                                the video around each image
    <root>/gtFine/…_gtFine_{labelIds,labelTrainIds,instanceIds}.png              or gtCoarse/…_gtCoarse_…
    <root>/disparity/…_disparity.png        16 bits: 0 = not measured, else d = (p - 1) / 256 pixels
    <root>/camera/…_camera.json             fx, fy, u0, v0, baseline

Only the images are required. Depth is z = fx baseline / d; d = 0 means "very far", but not how far, and counts as not
measured too. The camera is that of the stored images: if the images were made smaller and the camera file was not
changed, its centre lies outside of them, which is an error.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.files import read_json
from cka_probe.images.classes import CITYSCAPES, CITYSCAPES_IDS
from cka_probe.images.reading import find_images, image_size, read_aligned_image
from cka_probe.lab.datasets import fields
from cka_probe.lab.datasets.frames import PARTNER, STEREO, Frame, Frames, parse_sources
from cka_probe.lab.datasets.numbers import camera_matrix, rigid, runs

LEFT = "leftImg8bit"
SPLITS, EXTRA = ("train", "val", "test"), "train_extra"
STEPS = 256
"""Steps of a disparity map for a pixel."""


def cityscapes(root: str | Path, split: str = "all", *, sources: str = "", coarse: bool = False) -> Frames:
    """Return Cityscapes.

    Args:
        root: The folder of `leftImg8bit`.
        split: "train", "val", "test", where they exist, or "all" of these. The labels of the real "test" are empty.
            "train_extra" are its 20 000 images without fine labels; all but "test" have coarse ones.
        sources: Offsets in frames (of `leftImg8bit` and `leftImg8bit_sequence`), and "s" for the right camera.
        coarse: Whether labels and instances are those of `gtCoarse`, which have to exist.

    Returns:
        A dataset that gives `image` and, where they exist, `labels`, `instances`, `depth`, `K`, `sources` and
        `source_T_target`.

    Raises:
        UnknownNameError: There is no such split.
        DataError: The folders are missing, or a file exists for some images only.
    """
    root = Path(root)
    where, offsets = f"Cityscapes at {root}", parse_sources(sources)
    fields.check_folder(root, "Cityscapes")
    splits = [name for name in (*SPLITS, *([EXTRA] if split == EXTRA else [])) if (root / LEFT / name).is_dir()]
    if not splits:
        raise DataError(f"expected {where}: {LEFT}/train/<city>/*_{LEFT}.png; found no {LEFT}/train, val or test")
    parts = [root / LEFT / name for name in fields.chosen_splits(split, splits, where)]
    annotations = "gtCoarse" if coarse else "gtFine"
    if coarse and not (root / annotations).is_dir():
        raise DataError(f"expected the coarse labels of {where} in {annotations}, found none; fetch or omit coarse=")
    scenes = [scene for part in parts for scene in _scenes(root, part, annotations, offsets, where)]
    return Frames(scenes, offsets, where, CITYSCAPES)


def _scenes(root: Path, part: Path, annotations: str, sources: tuple[int | str, ...], where: str) -> list[list[Frame]]:
    """Return the frames of a split, by video where neighbours are wanted."""
    images = [path for path in find_images(part) if path.stem.endswith(f"_{LEFT}")]
    frames = _frames(root, images, annotations, where)
    if all(source == STEREO for source in sources):
        return [[frame] for frame in frames]
    videos: dict[str, dict[int, Frame]] = {}
    for image, frame in zip(images, frames, strict=True):
        videos.setdefault(_video(image), {})[_number(image)] = frame
    sequence = root / f"{LEFT}_sequence" / part.name
    for path in find_images(sequence) if sequence.is_dir() else ():
        if _video(path) in videos:
            neighbour = Frame(
                path.relative_to(root).as_posix(), {"image": partial(read_aligned_image, path)}, target=False
            )
            videos[_video(path)].setdefault(_number(path), neighbour)
    return [scene for video in videos.values() for scene in runs(video)]


def _video(image: Path) -> str:
    """Return the city and sequence of an image."""
    return image.stem.rsplit("_", 2)[0]


def _number(image: Path) -> int:
    """Return an image's frame number."""
    number = image.stem.split("_")[-2:-1]
    if not number or not number[0].isdigit():
        raise DataError(f"{image}: expected a name like aachen_000000_000019_{LEFT}.png; rename or remove it")
    return int(number[0])


def _frames(root: Path, images: list[Path], annotations: str, where: str) -> list[Frame]:
    """Return the frame of each image with all its fields."""

    def paths(folder: str, ending: str, kind: str) -> list[Path] | None:
        def path(image: Path) -> Path:
            name = image.stem.removesuffix(f"_{LEFT}") + ending
            return root / folder / image.relative_to(root / LEFT).parent / name

        return fields.partners(images, path, where, kind)

    labels, numbering = paths(annotations, f"_{annotations}_labelIds.png", "label"), CITYSCAPES_IDS
    if labels is None:
        labels = paths(annotations, f"_{annotations}_labelTrainIds.png", "label")
        numbering = fields.plain_numbering(len(CITYSCAPES))
    cameras = paths("camera", "_camera.json", "camera")
    right = paths("rightImg8bit", f"_rightImg8bit{images[0].suffix}", "right image") if images else None
    readers = {
        "labels": fields.each(fields.read_labels, labels, numbering=numbering),
        "instances": fields.each(read_things, paths(annotations, f"_{annotations}_instanceIds.png", "instances")),
        "K": fields.each(_intrinsics, cameras, images),
        "depth": fields.each(_depth, paths("disparity", "_disparity.png", "disparity"), cameras),
    }
    if cameras and right:
        readers |= {PARTNER[0]: fields.each(read_aligned_image, right), PARTNER[1]: fields.each(_right_T_left, cameras)}
    return fields.list_frames(root, images, readers)


def read_things(path: Path) -> Tensor:
    """Return the number of the object at each pixel, 1000 id + number, (H, W) int64; 0 = none."""
    numbers = fields.read_labels(path)
    return numbers.masked_fill(numbers < 1000, 0)


def _camera(path: Path) -> dict[str, float]:
    """Return fx, fy, cx, cy and baseline (metres) of a camera file."""
    try:
        document = read_json(path)
        values = [document["intrinsic"][name] for name in ("fx", "fy", "u0", "v0")]
        values = [float(value) for value in (*values, document["extrinsic"]["baseline"])]
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected intrinsic fx, fy, u0, v0 and extrinsic baseline, found something else ({error!r}); "
            "fetch it again"
        ) from error
    camera = dict(zip(("fx", "fy", "cx", "cy", "baseline"), values, strict=True))
    if not (min(camera["fx"], camera["fy"], camera["baseline"]) > 0 and np.isfinite(values).all()):
        raise DataError(f"{path}: expected focal lengths and a baseline above 0, found {camera}; fetch it again")
    return camera


def _intrinsics(path: Path, image: Path) -> Tensor:
    """Return K, (3, 3)."""
    camera, (height, width) = _camera(path), image_size(image)
    if not (0 <= camera["cx"] < width and 0 <= camera["cy"] < height):
        raise DataError(
            f"{path}: expected the camera of the {width}x{height} pixels of {image}, found its centre at "
            f"{camera['cx']:g}, {camera['cy']:g}; scale the camera with the images, or give the full-size ones"
        )
    return camera_matrix({name: camera[name] for name in ("fx", "fy", "cx", "cy")}, height, width)


def _depth(path: Path, camera: Path) -> Tensor:
    """Return depth from disparity, (1, H, W) float32 metres; 0 = not measured."""
    disparity = (fields.read_steps(path).astype(np.float64) - 1) / STEPS
    intrinsics = _camera(camera)
    depth = np.zeros_like(disparity)
    np.divide(intrinsics["fx"] * intrinsics["baseline"], disparity, out=depth, where=disparity > 0)
    return torch.from_numpy(depth).float()[None]


def _right_T_left(camera: Path) -> Tensor:
    """Return the pose from the left to the right camera, (4, 4): a point at x is at x - baseline in the right one."""
    return torch.from_numpy(rigid(translation=(-_camera(camera)["baseline"], 0.0, 0.0))).float()
