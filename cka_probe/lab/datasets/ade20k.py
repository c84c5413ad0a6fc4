"""ADE20K's scene parsing benchmark (Zhou et al. 2017): 150 classes of everyday scenes.

    <root>/{images,annotations}/{training,validation}/ADE_train_00000001.{jpg,png}
    <root>/objectInfo150.txt          names, where it is there (tab-separated: Idx, Ratio, Train, Val, Stuff, Name)

The root is `ADEChallengeData2016` or the folder that holds it. In the files 0 is everything else and the classes
begin at 1: 0 is ignored here and 1 … 150 become 0 … 149.
"""

from pathlib import Path

from cka_probe.errors import DataError
from cka_probe.images.classes import ADE150, Classes, table
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import find_images
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.fields import check_folder, each, list_frames, partners, read_labels
from cka_probe.lab.datasets.frames import Frame, Frames
from cka_probe.lab.datasets.numbers import read_lines

FOLDER = "ADEChallengeData2016"
NUMBERING = table({**{number: number - 1 for number in range(1, 151)}, 0: IGNORE, IGNORE: IGNORE})
_SPLITS = {"train": "training", "val": "validation"}
_NAMES = ("objectInfo150.txt", "objectInfo.txt")


def ade20k(root: str | Path, split: str = "all") -> Frames:
    """Return ADE20K.

    Args:
        root: `ADEChallengeData2016`, or the folder that holds it.
        split: "train", "val", or "all", which is both.

    Returns:
        A dataset that gives `image` and, where they are there, `labels` of 150 classes.

    Raises:
        UnknownNameError: There is no such split.
        DataError: The folders are not there, or some images have no labels.
    """
    root = Path(root)
    check_folder(root, "ADE20K")
    base = root / FOLDER if (root / FOLDER).is_dir() else root
    splits = [name for name, folder in _SPLITS.items() if (base / "images" / folder).is_dir()]
    if not splits:
        raise DataError(f"expected ADE20K at {root}: images/training and annotations/training; found neither there")
    check_split(split, [*splits, "all"], f"ADE20K at {root}")
    frames = [frame for name in splits if split in (name, "all") for frame in _frames(root, base, _SPLITS[name])]
    return Frames([[frame] for frame in frames], where=f"ADE20K at {root}", classes=_classes(base))


def _frames(root: Path, base: Path, folder: str) -> list[Frame]:
    """Return the frames of a split, with labels where it has some."""
    images = find_images(base / "images" / folder)
    labels = partners(images, lambda path: base / "annotations" / folder / f"{path.stem}.png", f"ADE20K at {root}")
    return list_frames(root, images, {"labels": each(read_labels, labels, numbering=NUMBERING)})


def _classes(base: Path) -> Classes:
    """Return the classes with the names of the file that says them, else with numbers."""
    path = next((base / name for name in _NAMES if (base / name).is_file()), None)
    if path is None:
        return ADE150
    rows = [line.split("\t") for _, line in read_lines(path, "ADE20K's names")][1:]
    numbers = [row[0].strip() for row in rows]
    if numbers != [str(number) for number in range(1, 151)] or any(len(row) < 2 for row in rows):
        raise DataError(
            f"{path}: expected a line of titles and 150 of tabs between number, …, name, numbered from 1, found "
            f"{len(rows)} lines; fix or remove it"
        )
    return Classes(tuple(row[-1].split(",")[0].split(";")[0].strip() for row in rows))
