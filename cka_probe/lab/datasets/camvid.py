"""CamVid (Brostow et al. 2009): streets of Cambridge from a car, labelled at 1 Hz, one part of them at 15 Hz.

It exists in three forms, which are recognised by what is at the root:

1. `{train,val,test}/images/` with `labels/` next to it, and `video15hz/` alike; `classes.json` names the numbers (see
   `fields`), which otherwise are those of form 2.
2. That of SegNet (Badrinarayanan et al. 2017): `{train,val,test}/` with `{train,val,test}annot/` of the same names, 11
   classes and 11 = void. An optional list `train.txt` (lines of an image and its labels) selects images; only the names
   in it count, because its folders are those of another machine.
3. That of the authors: `701_StillsRaw_full/` with colour drawings in `LabeledApproved_full/<name>_L.png`, and
   `label_colors.txt` (lines of "64 128 64 Animal"): 31 classes, and Void, which is ignored. It has no splits.

Frames are named by video and number ("0016E5_07959"). Neighbours are frames of one video at its usual distance, so
frames with a gap between them are no neighbours.
"""

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import CAMVID11, RGB, Classes, table
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import images_in
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets import fields
from cka_probe.lab.datasets.frames import Frame, Frames, parse_sources
from cka_probe.lab.datasets.numbers import read_lines

VIDEO = "video15hz"
_SPLITS = ("train", "val", "test")
_STILLS, _DRAWN = "701_StillsRaw_full", "LabeledApproved_full"
_SEGNET = table({**{number: number for number in range(11)}, 11: IGNORE, IGNORE: IGNORE})
_NAME = re.compile(r"(.+)_f?(\d+)")


def camvid(root: str | Path, split: str = "all", *, sources: str = "", video: bool = False) -> Frames:
    """Return CamVid, in any of its forms.

    Args:
        root: The folder.
        split: "train", "val" or "test" if they exist, or "all" of them.
        sources: Offsets in frames, by commas: of 1 s, or of 1/15 s with `video`.
        video: Whether to read the labelled video, which has no splits.

    Returns:
        A dataset that gives `image`, `sources` and, if they exist, `labels`, whose numbers `classes` names.

    Raises:
        UnknownNameError: There is no such split.
        DataError: The folder has none of the forms, some images have no labels, or a file is broken.
    """
    root = Path(root)
    where, offsets = f"CamVid at {root}", parse_sources(sources)
    fields.check_folder(root, "CamVid")
    if (root / _STILLS).is_dir():
        check_split(split, ["all"], where)
        frames, classes = _drawn(root, where)
        return Frames(_by_video(frames), offsets, where, classes)
    if video and not (root / VIDEO / "images").is_dir():
        raise DataError(f"expected the video of {where} in {VIDEO}/images, found none; omit video=true")
    folders = [name for name in _SPLITS if (root / name).is_dir()]
    if not folders and not video:
        raise DataError(
            f"expected {where}: train/images with train/labels, or train with trainannot, or {_STILLS} with {_DRAWN}; "
            "found none of them; give their folder"
        )
    parts = fields.chosen_splits(split, () if video else folders, where) or [VIDEO]
    numbering, classes = _SEGNET, CAMVID11
    if (root / "classes.json").is_file():
        numbering, classes = fields.read_classes(root / "classes.json")
        classes = CAMVID11 if classes.names == CAMVID11.names else classes  # which also has colours
    frames = [frame for name in parts for frame in _frames(root, name, numbering, where)]
    return Frames(_by_video(frames), offsets, where, classes)


def _frames(root: Path, part: str, numbering: np.ndarray, where: str) -> list[Frame]:
    """Return the frames of a split, in form 1 or 2."""
    nested = (root / part / "images").is_dir()
    images_at = root / part / "images" if nested else root / part
    labels_at = root / part / "labels" if nested else root / f"{part}annot"
    images = images_in(images_at)
    listed = root / f"{part}.txt"
    if listed.is_file():
        images = _listed(listed, images)
    if not images:
        raise DataError(f"{where}: no images in {images_at}; complete the data")
    labels = fields.partners(images, lambda path: labels_at / f"{path.stem}.png", where)
    return fields.list_frames(root, images, {"labels": fields.each(fields.read_labels, labels, numbering=numbering)})


def _listed(path: Path, images: list[Path]) -> list[Path]:
    """Return the images that a list names; the folders in it are ignored."""
    by_name = {image.name: image for image in images}
    listed = []
    for number, line in read_lines(path, "a list of CamVid's images"):
        name = line.split()[0].rsplit("/", 1)[-1]
        if name not in by_name:
            raise DataError(f"{path}, line {number}: names {name}, which is not in {path.with_suffix('')}; complete it")
        listed.append(by_name[name])
    return sorted(listed)


def _by_video(frames: list[Frame]) -> list[list[Frame]]:
    """Return frames by video, split where two are farther apart than usual."""
    videos: dict[str, dict[int, Frame]] = {}
    for frame in frames:
        folder, name = frame.name.rsplit("/", 1)  # the splits share videos and must not become neighbours
        match = _NAME.fullmatch(name.rsplit(".", 1)[0])
        if match is None:
            raise DataError(f"expected a name of video and number, as 0016E5_07959, found {frame.name}; rename it")
        videos.setdefault(f"{folder}/{match[1]}", {})[int(match[2])] = frame
    scenes: list[list[Frame]] = []
    for video in videos.values():
        numbers = sorted(video)
        step = int(np.diff(numbers).min()) if len(numbers) > 1 else 1
        for index, number in enumerate(numbers):
            if index == 0 or number - numbers[index - 1] != step:
                scenes.append([])
            scenes[-1].append(video[number])
    return scenes


def _drawn(root: Path, where: str) -> tuple[list[Frame], Classes]:
    """Return the frames of form 3, and its classes."""
    colours, names = _read_colours(root / "label_colors.txt")
    classes = [index for index, name in enumerate(names) if name.lower() != "void"]
    numbering = np.full(len(names), IGNORE, np.int64)
    numbering[classes] = np.arange(len(classes))
    images = images_in(root / _STILLS)
    drawings = fields.partners(images, lambda path: root / _DRAWN / f"{path.stem}_L.png", where)
    readers = {"labels": fields.each(read_drawn, drawings, colours=colours, numbering=numbering)}
    meaning = Classes(tuple(names[index] for index in classes), tuple(colours[index] for index in classes))
    return fields.list_frames(root, images, readers), meaning


def read_drawn(path: Path, colours: tuple[RGB, ...], numbering: np.ndarray) -> Tensor:
    """Return labels that were drawn in colours.

    Args:
        path: An image of 8-bit RGB, kept without loss.
        colours: RGB of each class.
        numbering: (len(colours),) int64: the class that each colour means.

    Returns:
        (H, W) int64.

    Raises:
        DataError: It cannot be read, is no such image, or has another colour in it.
    """
    with fields.opened_image(path, "labels") as file:
        if file.mode not in ("RGB", "P") or file.format == "JPEG":
            raise DataError(f"{path}: expected labels drawn in colours, found {file.format} of mode {file.mode!r}")
        pixels = np.array(file.convert("RGB")).astype(np.int64)
    packed, known = (np.asarray(rgb) @ np.array([1 << 16, 1 << 8, 1]) for rgb in (pixels, colours))
    order = np.argsort(known)
    classes = order[np.searchsorted(known[order], packed).clip(max=len(known) - 1)]
    unknown = known[classes] != packed
    if unknown.any():
        colour = tuple(pixels[unknown][0].tolist())
        raise DataError(
            f"{path}: expected {len(colours)} colours of classes, found {colour}, which is none; fix it or their list"
        )
    return torch.from_numpy(fields.renumbered(classes, numbering, path))


def _read_colours(path: Path) -> tuple[tuple[RGB, ...], list[str]]:
    """Return the colours and names in a `label_colors.txt`."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        colours = tuple((int(line[0]), int(line[1]), int(line[2])) for line in lines)
        names = [" ".join(line[3:]) for line in lines]
        if not lines or not all(names) or not all(0 <= value <= 255 for colour in colours for value in colour):
            raise ValueError("a line without a name, or a colour beyond 255")
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: expected lines of '64 128 64 Animal', found something else ({error})") from error
    return colours, names
