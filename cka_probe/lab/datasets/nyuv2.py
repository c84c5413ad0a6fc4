"""NYU Depth v2 (Silberman, Hoiem, Kohli & Fergus 2012): indoor colour with measured depth.

It lies on disks in three layouts, recognised by what is at the root:

1. `nyu_depth_v2_labeled.mat`, with `splits.mat` beside it for "train" and "test" (see `nyuv2_mat`).
2. The folders of BTS, AdaBins and MIM-Depth, at the root or in `nyu_depth_v2` below it:
   `<scene>/rgb_00045.jpg` with `<scene>/sync_depth_00045.png` for "train" and the same below
   `official_splits/test/` for "test". Where there are list files (`nyu_train.txt`, `nyu_test.txt`; lines of
   "rgb depth [focal]") they say which frames; otherwise every pair is taken.
3. `images/` and `depth_mm/` with the same names. Here "test" is the last third of the sorted names and
   "train" the rest: NYU numbers its frames scene by scene, so a cut through the list leaves hardly a room on
   both sides, where every third frame would put the neighbours of each test frame into training.

Depth is 16-bit PNG in millimetres. K is taken from `cam.txt` beside a frame or `intrinsics.json` at the root,
and otherwise is that of the Kinect NYU was taken with, for the size the frame is stored at. Labels are of 13 or 40
classes, where they are there: see `nyuv2_frames` for files, `nyuv2_mat` for the .mat file.
"""

import os
from functools import lru_cache
from pathlib import Path

from cka_probe.errors import DataError
from cka_probe.images.classes import NYU13
from cka_probe.images.datasets import Dataset, check_split
from cka_probe.images.reading import SUFFIXES
from cka_probe.lab.datasets.frames import Frame, Frames
from cka_probe.lab.datasets.intrinsics import NYUV2, read_camera
from cka_probe.lab.datasets.nyuv2_frames import CLASSES, Pair, beside_images, beside_scene, paired_frames
from cka_probe.lab.datasets.nyuv2_mat import MAT, LabeledMat

LISTS = {
    "train": ("nyu_train.txt", "train_list.txt", "nyudepthv2_train_files_with_gt.txt"),
    "test": ("nyu_test.txt", "test_list.txt", "nyudepthv2_test_files_with_gt.txt"),
}
BELOW = {"train": (".", "sync", "train"), "test": ("official_splits/test", ".", "test")}


def nyuv2(root: str | Path, split: str = "all", *, classes: int = 0) -> Dataset:
    """Return NYU Depth v2, in whichever of its three layouts it lies at `root`.

    Args:
        root: The folder (or the .mat file itself).
        split: "train", "test", or "all", which is both.
        classes: 13 or 40 classes of labels, which then must be there; 0: 13 where there are labels.

    Returns:
        A dataset that gives `image`, `depth`, `K` and what is there of `labels`, `instances` and `world_T_target`.

    Raises:
        UnknownNameError: There is no split of that name anywhere.
        DataError: None of the layouts is there, or something in it is missing or broken.
    """
    root = Path(root)
    check_split(split, ("train", "test", "all"), f"NYU Depth v2 at {root}")
    if classes not in (0, *CLASSES):
        raise DataError(f"classes={classes}: expected 13 or 40")
    if not root.exists():
        raise DataError(f"expected NYU Depth v2 at {root}, found nothing there; check the path")
    mat = root if root.is_file() else root / MAT
    if mat.is_file():
        return LabeledMat(mat, split, classes)
    if (root / "images").is_dir() and (root / "depth_mm").is_dir():
        pairs = _cut(_pairs_by_stem(root), split)
        return _frames(root, paired_frames(root, pairs, classes, beside_images, _camera_at(root)), classes)
    base = root / "nyu_depth_v2" if (root / "nyu_depth_v2").is_dir() else root
    frames = []
    for part in ("train", "test") if split == "all" else (split,):
        pairs = _scene_pairs(root, base, part)
        frames += paired_frames(root, pairs, classes, beside_scene) if pairs else []
    if not frames:
        raise DataError(_what_was_expected(root, base, split))
    return _frames(root, frames, classes)


def _frames(root: Path, frames: list[Frame], classes: int) -> Frames:
    """Return single frames as a dataset."""
    labelled = all("labels" in frame.fields for frame in frames)
    found = CLASSES[classes or len(NYU13)] if labelled else None
    return Frames([[frame] for frame in frames], where=f"NYU Depth v2 at {root}", classes=found)


def _what_was_expected(root: Path, base: Path, split: str) -> str:
    """Return the message for a root in which no frame was found."""
    if split != "all" and any(_scene_pairs(root, base, part) for part in LISTS):
        return (
            f"no split {split!r} in NYU Depth v2 at {root}: expected {' or '.join(LISTS[split][:1])} or frames "
            f"below {BELOW[split][0]}; use the split 'all', or add them"
        )
    found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "an empty folder"
    return (
        f"expected NYU Depth v2 at {root}: {MAT}, or nyu_depth_v2/<scene>/rgb_*.jpg with sync_depth_*.png, "
        f"or images/ with depth_mm/; found {found}; give the folder that holds one of these"
    )


def _scene_pairs(root: Path, base: Path, part: str) -> list[Pair]:
    """Return the frames of one part of layout 2: those its list names, or every pair there is."""
    for folder in dict.fromkeys((root, base)):
        for name in LISTS[part]:
            if (folder / name).is_file():
                return _listed_pairs(folder / name, base, part)
    test = base / "official_splits"
    if part == "test":
        return _pairs_by_number(test / "test")
    return [pair for pair in _pairs_by_number(base) if test not in pair.image.parents]


def _pairs_by_number(folder: Path) -> list[Pair]:
    """Return every rgb_NAME with the sync_depth_NAME.png beside it, sorted by path."""
    pairs = []
    for depth in sorted(folder.rglob("sync_depth_*.png")):
        stem = depth.stem.replace("sync_depth_", "rgb_")
        found = [path for path in depth.parent.glob(f"{stem}.*") if path.suffix.lower() in SUFFIXES]
        pairs += [Pair(path, depth) for path in found[:1]]
    return pairs


def _listed_pairs(path: Path, base: Path, part: str) -> list[Pair]:
    """Return the frames a list file names, all of which must be there.

    A line is "rgb depth [focal]"; some lists begin a path with a slash and some do not, and some are relative
    to a folder below the base.
    """
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for line in lines:
        if len(line) < 2:
            raise DataError(f"{path}: expected lines of 'rgb depth [focal]', found {' '.join(line)!r}; mend the list")
    names = [(line[0].lstrip("/"), line[1].lstrip("/")) for line in lines]
    places = [base / below for below in BELOW[part]]
    # one image decides for the list: looking for each of 24 231 in every place is slow on a network disk
    place = next((place for place in places if names and (place / names[0][0]).is_file()), places[0])
    pairs = [Pair(place / image, place / depth) for image, depth in names]
    there = lru_cache(maxsize=None)(lambda folder: frozenset(os.listdir(folder)) if folder.is_dir() else frozenset())
    for file in (file for pair in pairs for file in (pair.image, pair.depth)):
        if file.name not in there(file.parent):
            raise DataError(f"{path} names {file}, which is not there; complete the data or shorten the list")
    return pairs


def _pairs_by_stem(root: Path) -> list[Pair]:
    """Return the frames of layout 3, sorted by name; an image without depth is an error."""
    images = sorted(path for path in (root / "images").iterdir() if path.suffix.lower() in SUFFIXES)
    depths = {path.stem: path for path in (root / "depth_mm").glob("*.png")}
    for image in images:
        if image.stem not in depths:
            raise DataError(f"expected {root / 'depth_mm' / image.stem}.png for {image}, found none; add or remove")
    if not images:
        raise DataError(f"no images in {root / 'images'}: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return [Pair(image, depths[image.stem]) for image in images]


def _cut(pairs: list[Pair], split: str) -> list[Pair]:
    """Return the part of layout 3 that is meant: the last third is "test"."""
    cut = len(pairs) - len(pairs) // 3
    return {"train": pairs[:cut], "test": pairs[cut:], "all": pairs}[split]


def _camera_at(root: Path) -> dict[str, float]:
    """Return the camera of layout 3: one for all frames."""
    path = root / "intrinsics.json"
    return read_camera(path) if path.is_file() else NYUV2
