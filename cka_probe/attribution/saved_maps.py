"""Maps of single images for figures and files, and the panel that shows them: images across, networks down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch.nn.functional import interpolate

from cka_probe import registry
from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.grad_cam import Maps
from cka_probe.errors import DataError
from cka_probe.files import atomic_write
from cka_probe.images.classes import Classes, numbered
from cka_probe.images.sample import IGNORE, Sample

if TYPE_CHECKING:
    from cka_probe.plotting.cam_panel import CamColumn, CamPanel


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


def save_maps(maps: Sequence[SavedMap], path: str | Path) -> Path:
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
    arrays: dict[str, Any] = {"names": np.array([one.name for one in maps])}
    for field in FIELDS:
        values = [getattr(one, field) for one in maps]
        if values[0] is not None:
            arrays[field] = np.stack(values)
    path = Path(path)
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def load_maps(path: str | Path) -> list[SavedMap]:
    """Read what `save_maps` wrote.

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


FOOTNOTE = (
    "AP: average precision of the map's steepness for label boundaries within {tolerance:g} px, in brackets that of "
    "chance. A map says where, not how much."
)
SIGNED_NOTE = "Before the ReLU, orange speaks for what is scored and purple against it."


def panel_of(
    result: Attributions,
    held: Mapping[str, Sequence[SavedMap]],
    vocabulary: Classes | None = None,
    classes: Sequence[str] = (),
    *,
    signed: bool = False,
) -> "CamPanel":
    """Return the panel of the maps that are held.

    Args:
        result: What they are of.
        held: By checkpoint, of the same images.
        vocabulary: Names and colours of labels; by default their numbers.
        classes: Names of classes whose own maps are shown too, of the target `segmentation`.
        signed: Whether maps are shown before their ReLU too.

    Raises:
        DataError: No maps are held, or there are none of single classes; networks predict different kinds of things;
            `signed` is asked of maps without a gradient.
        UnknownNameError: There is no such class.
    """
    from cka_probe.plotting.cam_panel import CamPanel  # matplotlib is loaded only to draw

    if signed and result.settings["target"] == "none":
        raise DataError(
            "expected a target with a gradient for maps before their ReLU, found none, which takes no gradient, so "
            "nothing in its maps speaks for or against; leave --signed out"
        )
    kinds = {_kind(one.prediction) for maps in held.values() for one in maps}
    if len(kinds) != 1:
        raise DataError(f"expected maps of networks that predict one kind of thing, found {len(kinds)}; hold some maps")
    predicts, first = kinds.pop(), next(iter(held.values()))
    vocabulary = _vocabulary(vocabulary, held) if predicts == "labels" else Classes(())
    numbers = {name: number for number, name in enumerate(vocabulary.names)}
    wanted = {name: registry.get(numbers, name, "class") for name in classes}
    columns = tuple(
        _column({name: maps[place] for name, maps in held.items()}, result, predicts, wanted)
        for place in range(len(first))
    )
    if signed:
        own = [{name: maps[place].before_relu() for name, maps in held.items()} for place in range(len(first))]
        columns = tuple(replace(column, signed=maps) for column, maps in zip(columns, own, strict=True))
    note = FOOTNOTE.format(tolerance=result.settings["tolerance"]) if result.data["labels"] else ""
    note = " ".join([note] * bool(note) + [SIGNED_NOTE] * signed)
    return CamPanel(
        columns, predicts, vocabulary.names, np.array(vocabulary.colours).reshape(-1, 3), tuple(wanted), note
    )


def _column(
    maps: Mapping[str, SavedMap], result: Attributions, predicts: str, wanted: Mapping[str, int]
) -> "CamColumn":
    """Return one image with the maps of all networks."""
    from cka_probe.plotting.cam_panel import CamColumn

    first = next(iter(maps.values()))
    return CamColumn(
        first.name,
        first.image,
        maps={name: one.shown for name, one in maps.items()},
        truth=first.truth if _kind(first.truth) == predicts else None,
        predictions={name: one.prediction for name, one in maps.items() if one.prediction is not None},
        class_maps={
            name: {word: one.of_class(number) for word, number in wanted.items()} for name, one in maps.items()
        },
        notes={name: _note(result, name, first.name) for name in maps},
    )


def _note(result: Attributions, checkpoint: str, image: str) -> str:
    """Return how well a map follows boundaries, or ""."""
    row = result.of(checkpoint).loc[image]
    return f"AP {row['ap']:.2f} ({row['chance']:.2f})" if np.isfinite(row["ap"]) else ""


def _kind(value: np.ndarray | str | None) -> str:
    """Return what kind of thing a prediction is, as `CamPanel.predicts` has it."""
    if value is None or isinstance(value, str):
        return "" if value is None else "category"
    return "labels" if value.dtype.kind in "iu" else "depth"


def _vocabulary(classes: Classes | None, held: Mapping[str, Sequence[SavedMap]]) -> Classes:
    """Return the classes, or as many numbered ones as are drawn where fewer are known."""
    drawn = [value for maps in held.values() for one in maps for value in (one.prediction, one.truth)]
    labels = [value for value in drawn if isinstance(value, np.ndarray) and value.dtype.kind in "iu"]
    most = max((int(value[value != IGNORE].max(initial=0)) for value in labels), default=0)
    return classes if classes is not None and len(classes) > most else numbered(most + 1)
