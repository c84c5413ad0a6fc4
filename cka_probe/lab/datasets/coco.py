"""COCO (Lin et al. 2014), comma10k and other images with labels next to them, in four forms.

1. "masks": `images/**` with `masks/**` or `labels/**` of the same names (.png), and `classes.json` (see `fields`).
   Where `images` has folders train, val or test, these are the splits. The ids of COCO have gaps (12 is no category);
   the classes are renumbered in their order, and "unlabeled" is ignored.
2. "stuff": COCO-Stuff (Caesar et al. 2018), with `stuffthingmaps/{train2017,val2017}/*.png` and perhaps `labels.txt`
   (lines of "1: person"). The pixels hold the category id minus one, 255 where nothing is labelled; the eleven ids that
   name no category are omitted and the 171 others are renumbered in their order: 0 … 79 are things, 80 … 170 stuff.
3. "panoptic" (Kirillov et al. 2019): `annotations/panoptic_{train2017,val2017}.json` and PNGs in a folder of that name,
   whose pixels are R + 256 G + 65 536 B = the id of a segment; 0 is no segment and ignored. The 133 categories of the
   file are renumbered in their order. Objects are the segments of things that are no crowds.
4. "instances": `annotations/instances_{train2017,val2017}.json`, polygons and run lengths of the objects of 80
   categories. Class 0 is the background, the categories follow in their order. Pixels of two objects are ignored, as in
   torchvision's training of segmentation. Polygons cover the pixels that COCO's own tools give them.

In forms 2 to 4 the images are `{train2017,val2017}/*.jpg`, at the root or in `images`. A root with several forms needs
`?form=`.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.files import read_json
from cka_probe.images.classes import Classes, table
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets import fields
from cka_probe.lab.datasets.frames import Frames
from cka_probe.lab.datasets.labelled import images_and_labels, labelled_frames
from cka_probe.lab.datasets.numbers import read_lines

_NO_CATEGORY = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})
CATEGORIES = tuple(number for number in range(1, 183) if number not in _NO_CATEGORY)
"""COCO-Stuff's 171 category ids."""

STUFF = table({**{number - 1: index for index, number in enumerate(CATEGORIES)}, IGNORE: IGNORE})
"""(256,) int64: from a pixel of COCO-Stuff to its class."""

_YEARS = {"train": "train2017", "val": "val2017"}

FORMS = {
    "masks": ("masks", "labels"),
    "stuff": ("stuffthingmaps",),
    "panoptic": tuple(f"annotations/panoptic_{year}.json" for year in _YEARS.values()),
    "instances": tuple(f"annotations/instances_{year}.json" for year in _YEARS.values()),
}
"""Files and folders, one of which a root of each form has."""

MOST_PIXELS = 1 << 27
"""Of an image, by the size that a JSON states."""


def coco(root: str | Path, split: str = "all", *, form: str = "") -> Frames:
    """Return images with their labels.

    Args:
        root: The folder.
        split: "train", "val" or "test" if there are such folders, or "all".
        form: A name in `FORMS`; by default that of the root.

    Returns:
        A dataset that gives `image`, if they exist `labels`, whose numbers `classes` names, and in the forms "panoptic"
        and "instances" `instances`.

    Raises:
        UnknownNameError: There is no such split or form.
        DataError: The folder has no form, or several and none is named, a file of it is missing or broken, or some
            images have no labels.
    """
    root, where = Path(root), f"the images at {root}"
    fields.check_folder(root, "images with masks")
    forms = [name for name, paths in FORMS.items() if any((root / path).exists() for path in paths)]
    if form:
        registry.get(FORMS, form, "form of COCO")
    if form and form not in forms:
        raise DataError(
            f"expected {' or '.join(FORMS[form])} at {root}, found neither; complete the data or omit form="
        )
    if len(forms) > 1 and not form:
        raise DataError(f"expected labels of one form at {root}, found {' and '.join(forms)}; add ?form={forms[0]}")
    form = form or (forms or ["masks"])[0]
    if form == "stuff":
        return _coco_stuff(root, split, where)
    if form in ("panoptic", "instances"):
        return _from_json(root, split, form)
    masks = next((root / name for name in FORMS["masks"] if (root / name).is_dir()), None)
    if masks is None or not (root / "images").is_dir():
        raise DataError(
            f"expected images/ with masks/ or labels/, or train2017/ with stuffthingmaps/ or annotations/, at {root}; "
            f"found {', '.join(sorted(path.name for path in root.iterdir())[:5]) or 'nothing'}; give their folder"
        )
    if not (root / "classes.json").is_file():
        raise DataError(f'expected {root / "classes.json"} with what the labels mean, {{"0": "road", …}}; write it')
    numbering, classes = fields.read_classes(root / "classes.json")
    splits = [name for name in ("train", "val", "test") if (root / "images" / name).is_dir()]
    names = fields.chosen_splits(split, splits, where) if splits or split != "all" else ["."]
    parts = [images_and_labels(root / "images" / name, masks / name) for name in names]
    return labelled_frames(root, parts, where, numbering, classes)


def _coco_stuff(root: Path, split: str, where: str) -> Frames:
    """Return COCO-Stuff."""
    base, maps = root / "images" if (root / "images").is_dir() else root, root / "stuffthingmaps"
    splits = [name for name, folder in _YEARS.items() if (base / folder).is_dir()]
    folders = [_YEARS[name] for name in fields.chosen_splits(split, splits, f"COCO-Stuff at {root}")]
    parts = [images_and_labels(base / folder, maps / folder) for folder in folders]
    return labelled_frames(root, parts, where, STUFF, _stuff_classes(root / "labels.txt"))


def _stuff_classes(path: Path) -> Classes:
    """Return the classes of COCO-Stuff, named as in `labels.txt`, or by id without such a file."""
    if not path.is_file():
        return Classes(tuple(map(str, CATEGORIES)))
    lines = read_lines(path, "the names of COCO's categories")
    matches = (re.fullmatch(r"(\d+):\s*(.+)", line) for _, line in lines)
    names = {match[1]: match[2] for match in matches if match}
    lacking = [number for number in CATEGORIES if str(number) not in names]
    if lacking:
        raise DataError(f"{path}: expected lines of '1: person' for 171 categories, none for {lacking[0]}; fix it")
    return Classes(tuple(names[str(number)] for number in CATEGORIES))


def _from_json(root: Path, split: str, form: str) -> Frames:
    """Return the images of the forms "panoptic" and "instances"."""
    base = root / "images" if (root / "images").is_dir() else root
    where = f"COCO's {form} at {root}"
    files = {name: root / "annotations" / f"{form}_{year}.json" for name, year in _YEARS.items()}
    splits = [name for name, file in files.items() if file.is_file() and (base / _YEARS[name]).is_dir()]
    frames, names = [], None
    for name in fields.chosen_splits(split, splits, where):
        path, folder = files[name], base / _YEARS[name]
        try:
            document = read_json(path)
            categories = {int(row["id"]): str(row["name"]) for row in document["categories"]}
            numbering = {number: index for index, number in enumerate(sorted(categories))}
            readers = (
                _panoptic(document, numbering, path) if form == "panoptic" else _instances(document, numbering, path)
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: expected images, annotations and categories as COCO's {form} has them, found something else "
                f"({type(error).__name__}: {str(error)[:80]}); fetch it again"
            ) from error
        titles = tuple(categories[number] for number in sorted(categories))
        if names not in (None, titles):
            raise DataError(f"{path}: expected the categories of {files['train']}, found others; fetch both again")
        names, images = titles, _listed_images(folder, readers, path)
        columns = {field: [readers[image.name][field] for image in images] for field in ("labels", "instances")}
        frames += fields.list_frames(root, images, columns)
    titles = (*(["background"] if form == "instances" else []), *(names or ()))
    return Frames([[frame] for frame in frames], where=where, classes=Classes(titles))


def _listed_images(folder: Path, listed: Mapping[str, Any], path: Path) -> list[Path]:
    """Return the images of a folder, all of which a file has to list, and the other way round."""
    images = {image.name: image for image in images_and_labels(folder, folder)[0]}
    if odd := sorted(images.keys() ^ listed.keys()):
        side = "is not listed" if odd[0] in images else f"is not in {folder}"
        raise DataError(
            f"{path}: expected the {len(images)} images of {folder}, found {len(odd)} in one only, first: {odd[0]} "
            f"{side}; complete the data or the file"
        )
    return [images[name] for name in sorted(images)]


Readers = dict[str, dict[str, "fields.Reader"]]
"""Of the fields of an image, by the image's name."""


def _panoptic(document: Mapping[str, Any], numbering: Mapping[int, int], path: Path) -> Readers:
    """Return the readers of labels and objects of each image."""
    images = {row["id"]: str(row["file_name"]) for row in document["images"]}
    things = {row["id"] for row in document["categories"] if row["isthing"]}
    readers: Readers = {}
    for row in document["annotations"]:
        segments = {0: (IGNORE, 0)}
        for segment in row["segments_info"]:
            kind = segment["category_id"]
            is_object = kind in things and not segment.get("iscrowd", 0)
            segments[int(segment["id"])] = (numbering[kind], len(segments) if is_object else 0)
        png = path.with_suffix("") / Path(str(row["file_name"])).name
        ids, values = tuple(segments), tuple(segments.values())
        readers[images[row["image_id"]]] = {
            field: partial(read_segments, png, ids, values, column=column)
            for column, field in enumerate(("labels", "instances"))
        }
    return readers


def read_segments(path: Path, ids: tuple[int, ...], values: tuple[tuple[int, int], ...], column: int) -> Tensor:
    """Return a value of the segment at each pixel of a panoptic PNG.

    Args:
        path: The PNG.
        ids: The segments.
        values: Values of each of these.
        column: The value to return.

    Returns:
        (H, W) int64.

    Raises:
        DataError: It cannot be read, or has another segment.
    """
    with fields.opened_image(path, "labels") as file:
        if file.mode != "RGB" or file.format != "PNG":
            raise DataError(
                f"{path}: expected ids of segments as an RGB PNG, found {file.format} of mode {file.mode!r}"
            )
        pixels = np.array(file).astype(np.int64) @ np.array([1, 1 << 8, 1 << 16])
    order = np.argsort(ids)
    known = np.asarray(ids)[order]
    index = np.searchsorted(known, pixels).clip(max=len(known) - 1)
    if (unknown := known[index] != pixels).any():
        raise DataError(
            f"{path}: expected the {len(ids) - 1} segments in its JSON, found {pixels[unknown][0]}; fetch both again"
        )
    return torch.from_numpy(np.asarray(values, np.int64)[order[index], column])


def stated_size(image: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """Return the height and width of an image in a file of annotations.

    Raises:
        DataError: No image that can be read is of this size.
    """
    size = (int(image["height"]), int(image["width"]))
    if min(size) < 1 or size[0] * size[1] > MOST_PIXELS:
        raise DataError(f"{path}: expected the height and width of images, found {size}; fetch it again")
    return size


def _instances(document: Mapping[str, Any], numbering: Mapping[int, int], path: Path) -> Readers:
    """Return the readers of labels and objects of each image."""
    objects: dict[int, list[tuple[int, bool, Any]]] = {row["id"]: [] for row in document["images"]}
    for row in document["annotations"]:
        kind = numbering[row["category_id"]] + 1
        objects[row["image_id"]].append((kind, bool(row.get("iscrowd", 0)), row["segmentation"]))
    readers: Readers = {}
    for row in document["images"]:
        size = stated_size(row, path)
        read = partial(read_objects, tuple(objects[row["id"]]), size, f"{path}, image {row['id']}")
        readers[str(row["file_name"])] = {
            field: partial(read, column=column) for column, field in enumerate(("labels", "instances"))
        }
    return readers


def read_objects(objects: Iterable[tuple[int, bool, Any]], size: tuple[int, int], where: str, column: int) -> Tensor:
    """Return the class of the object at each pixel (column 0), or its number among those that are no crowds (1).

    Args:
        objects: Class, whether it is a crowd, and COCO's `segmentation` of each.
        size: Height and width.
        where: The file and image, for messages.
        column: 0 or 1.

    Returns:
        (H, W) int64; 0 without an object; classes of pixels in several objects are 255.

    Raises:
        DataError: A segmentation is broken.
    """
    values, count = np.zeros((2, *size), np.int64), np.zeros(size, np.int64)
    for number, (kind, is_crowd, segmentation) in enumerate(objects, 1):
        try:
            mask = object_mask(segmentation, size)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            raise DataError(
                f"{where}: expected polygons or run lengths within {size[1]}x{size[0]} pixels for object {number}, "
                f"found something else ({str(error)[:80]}); fetch it again"
            ) from error
        values[:, mask] = np.array([[kind], [0 if is_crowd else number]])
        count += mask
    values[0, count > 1] = IGNORE
    return torch.from_numpy(values[column])


def object_mask(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels (H, W), bool, of COCO's polygons, or of its run lengths, as a list or compressed."""
    if isinstance(segmentation, list):
        masks = [_polygon_mask(np.asarray(polygon, np.float64), size) for polygon in segmentation]
        return np.any([np.zeros(size, bool), *masks], axis=0)
    counts = segmentation["counts"]
    lengths = np.asarray(_decompressed(counts) if isinstance(counts, str) else counts, np.int64)
    height, width = (int(side) for side in segmentation["size"])
    if (height, width) != size or lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"run lengths of {height} x {width}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T


def _decompressed(text: str) -> list[int]:
    """Return run lengths from COCO's text: six bits a letter, differences to the last but one from the third on."""
    counts: list[int] = []
    number = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = shift = 0
    return counts


def _polygon_mask(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a polygon x1, y1, x2, y2, … as COCO's tools do.

    They walk along its border in fifths of a pixel and note in which row it crosses each column of pixel centres; a
    pixel is inside if an odd number of crossings lies before it, column by column.
    """
    height, width = size
    if corners.ndim != 1 or len(corners) < 6 or len(corners) % 2 or not np.abs(corners).max() < 1 << 16:
        raise ValueError("a polygon without three corners, or far outside of its image")
    points = (5 * corners.reshape(-1, 2) + 0.5).astype(np.int64)
    path = np.concatenate([_line(a, b) for a, b in zip(points, np.roll(points, -1, 0), strict=True)])
    before, after = path[:-1], path[1:]
    crossing = before[:, 0] != after[:, 0]
    column = (np.minimum(before[:, 0], after[:, 0])[crossing] + 0.5) / 5 - 0.5
    row = np.ceil(((np.minimum(before[:, 1], after[:, 1])[crossing] + 0.5) / 5 - 0.5).clip(0, height))
    inside = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    places = (column[inside] * height + row[inside]).astype(np.int64)
    crossings = np.bincount(places, minlength=height * width + 1)[: height * width]
    return (crossings.cumsum() % 2 == 1).reshape(width, height).T


def _line(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the whole points (n, 2) from one to another, a step of 1 along the longer axis."""
    across, down = np.abs(end - start)
    axis = 0 if across >= down else 1
    steps = max(across, down)
    low, high = (end, start) if start[axis] > end[axis] else (start, end)  # rounded the same in both directions
    along = np.arange(steps + 1)
    slope = (high[1 - axis] - low[1 - axis]) / steps if steps else 0.0
    points = np.empty((steps + 1, 2), np.int64)
    points[:, axis] = low[axis] + along
    points[:, 1 - axis] = (low[1 - axis] + slope * along + 0.5).astype(np.int64)
    return points[::-1] if low is end else points
