"""Maps that are held after their numbers were taken, for figures and files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch.nn.functional import interpolate

from cka_probe.attribution.maps import Maps
from cka_probe.errors import DataError
from cka_probe.files import atomic_write
from cka_probe.images.sample import Sample


@dataclass(frozen=True, eq=False)
class SavedMap:
    """One image's map.

    Attributes:
        name: Of the image.
        image: (H, W, 3) uint8, as the network saw it.
        truth: (H, W) int64 labels, 255 = ignore; (H, W) float32 metres, 0 = not measured; the name of a class; or None.
        shown: (H, W) float32 in [0, 1].
        signed: (h, w) float32, before the ReLU, at the layer's resolution.
        per_class: (K, h, w) float32, which sum to `signed`; None but for the target `segmentation`.
        prediction: (H, W) int64 labels, (H, W) float32 depth, the name of a class, or None.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray | str | None
    shown: np.ndarray
    signed: np.ndarray
    per_class: np.ndarray | None
    prediction: np.ndarray | str | None

    def before_relu(self) -> np.ndarray:
        """Return the map before its ReLU, (H, W) float32 in [-1, 1] by its greatest magnitude; 0 stays 0."""
        signed = torch.from_numpy(self.signed)[None, None]
        whole = interpolate(signed, self.shown.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
        return whole / max(float(np.abs(whole).max()), np.finfo(np.float32).tiny)

    def of_class(self, number: int) -> np.ndarray:
        """Return the map of one class, (H, W) float32 in [0, 1].

        Raises:
            DataError: There are no maps of single classes.
        """
        if self.per_class is None:
            raise DataError(
                "expected maps of single classes, which the target segmentation has, found none; ask for it"
            )
        signed = torch.from_numpy(self.per_class[number])[None]
        nothing = torch.full((1,), torch.nan)
        return Maps("", "", signed, None, nothing, None, self.shown.shape).shown()[0].numpy()


def held(sample: Sample, name: str, maps: Maps, place: int, words: Sequence[str]) -> SavedMap:
    """Return what one image's map is, out of those of a batch.

    Args:
        sample: What the network saw: `image`, and `labels`, `depth` or `category` where they are known.
        name: Of the image.
        maps: Of the batch.
        place: Of the image in it.
        words: Names of the classes of whole images.
    """
    image = (sample["image"] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    one = replace(maps, signed=maps.signed[place : place + 1], per_class=None)
    per_class = None if maps.per_class is None else maps.per_class[place].numpy()
    return SavedMap(
        name,
        image,
        _truth(sample, words),
        one.shown()[0].numpy(),
        maps.signed[place].numpy(),
        per_class,
        prediction_of(maps, place, words),
    )


def prediction_of(maps: Maps, place: int, words: Sequence[str]) -> np.ndarray | str | None:
    """Return what was predicted of one image: labels, depth, the name of a class, or None."""
    if maps.predictions is None:
        return None
    found = maps.predictions[place]
    return class_name(int(found), words) if found.dim() == 0 else found.numpy()


def class_name(number: int, words: Sequence[str]) -> str:
    """Return the name of a class of whole images, or its number where it has none.

    >>> class_name(1, ["cat", "dog"]), class_name(7, ["cat", "dog"])
    ('dog', 'class 7')
    """
    return words[number] if number < len(words) else f"class {number}"


FIELDS = ("image", "shown", "signed", "truth", "per_class", "prediction")


def save_held(maps: Sequence[SavedMap], path: str | Path) -> Path:
    """Write one checkpoint's maps as a .npz: names (n,) and the fields of `SavedMap`, stacked; not those that are None.

    Args:
        maps: Of images of one size.
        path: `*.npz`.

    Returns:
        The path written.

    Raises:
        DataError: There is none, or they differ in size.
        OutputError: It cannot be written there.
    """
    if len({one.signed.shape + one.shown.shape for one in maps}) != 1:
        raise DataError(
            f"expected maps of one size to keep in {path}, found {len({one.shown.shape for one in maps})} sizes; give "
            "a network with an input size, or images of one size"
        )
    arrays = {"names": np.array([one.name for one in maps])}
    for field in FIELDS:
        values = [getattr(one, field) for one in maps]
        if values[0] is not None:
            arrays[field] = np.stack(values)
    path = Path(path)
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def load_held(path: str | Path) -> list[SavedMap]:
    """Read what `save_held` wrote.

    Raises:
        DataError: The file is not there, or is another's.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        names, optional = arrays["names"].tolist(), set(FIELDS[3:])
        lacking = {"image", "shown", "signed"} - arrays.keys()
    except (OSError, ValueError, KeyError, AttributeError, BadZipFile) as error:
        raise DataError(f"expected maps that `ckaprobe gradcam --keep` wrote at {path}, found: {error}") from error
    if lacking or not arrays.keys() <= {"names", *FIELDS} or any(len(array) != len(names) for array in arrays.values()):
        raise DataError(f"{path}: expected maps of `ckaprobe gradcam --keep`, found {', '.join(arrays)}; make it again")
    empty = dict.fromkeys(optional)
    return [
        SavedMap(name, **empty | {field: _opened(array[place]) for field, array in arrays.items() if field != "names"})
        for place, name in enumerate(names)
    ]


def _opened(value: np.ndarray) -> np.ndarray | str:
    """Return what was stacked: a map, or a word."""
    return str(value) if value.ndim == 0 else value


def _truth(sample: Sample, words: Sequence[str]) -> np.ndarray | str | None:
    """Return what is known of an image, of what a network may predict."""
    if "category" in sample:
        return class_name(int(sample["category"]), words)
    if "depth" in sample:
        return sample["depth"][0].numpy()
    return sample["labels"].numpy() if "labels" in sample else None
