"""Saved maps of single images: for files, and for the panel that draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from cka_probe import registry
from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.grad_cam import Maps, to_heatmaps
from cka_probe.errors import DataError
from cka_probe.files import atomic_write
from cka_probe.images.classes import Classes, numbered
from cka_probe.images.sample import IGNORE, Sample

if TYPE_CHECKING:
    from cka_probe.plotting.cam_panel import CamColumn, CamPanel

REQUIRED, OPTIONAL = ("image", "heatmap", "signed"), ("truth", "per_class", "prediction")
FOOTNOTE = (
    "AP: average precision of the map's steepness for label boundaries within {tolerance:g} px, in brackets that of "
    "chance. A map says where, not how much."
)
SIGNED_NOTE = "Before the ReLU, orange speaks for what is scored and purple against it."


@dataclass(frozen=True, eq=False)
class SavedMap:
    """The map of one image.

    Attributes:
        name: The name of the image.
        image: (H, W, 3) uint8, as the network saw it.
        truth: (H, W) int64 labels, 255 = ignore; (H, W) float32 metres, 0 = not measured; the name of a class; or None.
        heatmap: (H, W) float32 in [0, 1].
        signed: (h, w) float32, before the ReLU, at the layer's resolution.
        per_class: (K, h, w) float32, which sum to `signed`; None except for the target `segmentation`.
        prediction: (H, W) int64 labels, (H, W) float32 depth, the name of a class, or None.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray | str | None
    heatmap: np.ndarray
    signed: np.ndarray
    per_class: np.ndarray | None
    prediction: np.ndarray | str | None

    @classmethod
    def of_batch(
        cls, name: str, sample: Sample, maps: Maps, index: int, categories: Sequence[str], classes: Sequence[str]
    ) -> "SavedMap":
        """Return the map of one image of a batch.

        Args:
            name: The name of the image.
            sample: What the network saw: `image`, and `labels`, `depth` or `category` if they are known.
            maps: The maps of the batch.
            index: The position of the image in the batch.
            categories: The names of the true classes of whole images.
            classes: The names of the network's classes.
        """
        truth: np.ndarray | str | None = None
        if "category" in sample:
            truth = class_name(int(sample["category"]), categories)
        elif "depth" in sample:
            truth = sample["depth"][0].numpy()
        elif "labels" in sample:
            truth = sample["labels"].numpy()
        prediction: np.ndarray | str | None = None
        if maps.predictions is not None:
            value = maps.predictions[index]
            prediction = class_name(int(value), classes) if value.dim() == 0 else value.numpy()
        return cls(
            name,
            image=(sample["image"] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy(),
            truth=truth,
            heatmap=to_heatmaps(maps.positive[index, None], maps.size)[0].numpy(),
            signed=maps.signed[index].numpy(),
            per_class=None if maps.per_class is None else maps.per_class[index].numpy(),
            prediction=prediction,
        )

    def resized(self) -> np.ndarray:
        """Return the map before its ReLU in the size of the image, (H, W) float32."""
        signed = torch.from_numpy(self.signed)[None, None]
        return interpolate(signed, self.heatmap.shape, mode="bilinear", align_corners=False)[0, 0].numpy()

    def before_relu(self) -> np.ndarray:
        """Return the map before its ReLU, (H, W) float32, divided by its largest magnitude: in [-1, 1], 0 stays 0."""
        signed = self.resized()
        return signed / max(float(np.abs(signed).max()), np.finfo(np.float32).tiny)

    def of_class(self, number: int) -> np.ndarray:
        """Return the map of one class, (H, W) float32 in [0, 1].

        Raises:
            DataError: There are no maps of single classes.
        """
        if self.per_class is None:
            raise DataError("expected maps of single classes, found none; use the target segmentation")
        return to_heatmaps(torch.from_numpy(self.per_class[number])[None].clamp_min(0), self.heatmap.shape)[0].numpy()


def class_name(number: int, categories: Sequence[str]) -> str:
    """Return the name of a class of whole images, or its number if it has none.

    >>> class_name(1, ["cat", "dog"]), class_name(7, ["cat", "dog"])
    ('dog', 'class 7')
    """
    return categories[number] if number < len(categories) else f"class {number}"


def save_maps(maps: Sequence[SavedMap], path: str | Path) -> Path:
    """Write one checkpoint's maps as .npz: `names` (n,) and the stacked fields of `SavedMap` that are not None.

    Args:
        maps: Maps of images of one size.
        path: `*.npz`.

    Returns:
        The path written.

    Raises:
        DataError: There are no maps, or they differ in size.
        OutputError: The path cannot be written.
    """
    sizes = {one.signed.shape + one.heatmap.shape for one in maps}
    if len(sizes) != 1:
        raise DataError(
            f"expected maps of one size to save in {path}, found {len(sizes)} sizes; use a network with an input size, "
            "or images of one size"
        )
    arrays: dict[str, Any] = {"names": np.array([one.name for one in maps])}
    for field in (*REQUIRED, *OPTIONAL):
        values = [getattr(one, field) for one in maps]
        if values[0] is not None:
            arrays[field] = np.stack(values)
    path = Path(path)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def load_maps(path: str | Path) -> list[SavedMap]:
    """Read what `save_maps` wrote.

    Raises:
        DataError: The file does not exist, or does not hold maps.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        names = arrays.pop("names").tolist()
    except Exception as error:  # a damaged archive can fail in any way
        raise DataError(f"expected maps that `ckaprobe gradcam --keep` wrote at {path}, found: {error}") from error
    if not {*REQUIRED} <= arrays.keys() <= {*REQUIRED, *OPTIONAL} or any(len(a) != len(names) for a in arrays.values()):
        raise DataError(
            f"{path}: expected maps of `ckaprobe gradcam --keep`, found {', '.join(arrays)}; run the command again"
        )
    columns = {field: [str(a) if a.ndim == 0 else a for a in array] for field, array in arrays.items()}
    return [
        SavedMap(name, **dict.fromkeys(OPTIONAL) | {field: values[index] for field, values in columns.items()})
        for index, name in enumerate(names)
    ]


def panel_of(
    result: Attributions,
    maps: Mapping[str, Sequence[SavedMap]],
    vocabulary: Classes | None = None,
    classes: Sequence[str] = (),
    *,
    signed: bool = False,
    overlay: bool = True,
) -> "CamPanel":
    """Return the panel that draws saved maps: images across, networks down.

    Args:
        result: The result that the maps belong to.
        maps: By checkpoint, of the same images.
        vocabulary: Names and colours of labels; by default their numbers.
        classes: Names of classes whose own maps are drawn too, for the target `segmentation`.
        signed: Whether to draw the maps before their ReLU too.
        overlay: Whether to draw each map over the image in grey, or alone.

    Raises:
        DataError: There are no maps, or none of single classes; networks predict different kinds of things; `signed`
            is set for maps without a gradient.
        UnknownNameError: There is no such class.
    """
    from cka_probe.plotting.cam_panel import CamPanel  # loads matplotlib

    if signed and result.settings["target"] == "none":
        raise DataError(
            "expected a target with a gradient for maps before their ReLU, found none, which takes no gradient; omit "
            "--signed"
        )
    kinds = {_kind(one.prediction) for saved in maps.values() for one in saved}
    if len(kinds) != 1:
        raise DataError(f"expected maps of networks that predict one kind of thing, found {len(kinds)}; save some maps")
    predicts = kinds.pop()
    vocabulary = _complete_vocabulary(vocabulary, maps) if predicts == "labels" else Classes(())
    numbers = {name: number for number, name in enumerate(vocabulary.names)}
    drawn_classes = {name: registry.get(numbers, name, "class") for name in classes}
    columns = tuple(
        _column(dict(zip(maps, column, strict=True)), result, predicts, drawn_classes, signed, overlay)
        for column in zip(*maps.values(), strict=True)
    )
    notes = [FOOTNOTE.format(tolerance=result.settings["tolerance"])] * bool(result.data["labels"])
    footnote = " ".join([*notes, *[SIGNED_NOTE] * signed])
    colours = np.array(vocabulary.colours).reshape(-1, 3)
    return CamPanel(columns, predicts, vocabulary.names, colours, tuple(drawn_classes), footnote)


def _column(
    maps: Mapping[str, SavedMap],
    result: Attributions,
    predicts: str,
    classes: Mapping[str, int],
    signed: bool,
    overlay: bool,
) -> "CamColumn":
    """Return one image with the maps of all networks."""
    from cka_probe.plotting.cam_panel import CamColumn

    first = next(iter(maps.values()))
    rows = {name: result.of(name).loc[first.name] for name in maps}
    return CamColumn(
        first.name,
        first.image,
        maps={name: one.heatmap for name, one in maps.items()},
        truth=first.truth if _kind(first.truth) == predicts else None,
        predictions={name: one.prediction for name, one in maps.items() if one.prediction is not None},
        class_maps={name: {word: one.of_class(k) for word, k in classes.items()} for name, one in maps.items()},
        signed={name: one.before_relu() for name, one in maps.items()} if signed else {},
        notes={
            name: f"AP {row['ap']:.2f} ({row['chance']:.2f})" if np.isfinite(row["ap"]) else ""
            for name, row in rows.items()
        },
        backgrounds={name: one.image for name, one in maps.items()} if overlay else {},
    )


def _kind(value: np.ndarray | str | None) -> str:
    """Return the kind of a prediction, as in `CamPanel.predicts`."""
    if value is None or isinstance(value, str):
        return "" if value is None else "category"
    return "labels" if value.dtype.kind in "iu" else "depth"


def _complete_vocabulary(classes: Classes | None, maps: Mapping[str, Sequence[SavedMap]]) -> Classes:
    """Return the classes, or numbered ones if labels have more."""
    values = [value for saved in maps.values() for one in saved for value in (one.prediction, one.truth)]
    labels = [value for value in values if isinstance(value, np.ndarray) and value.dtype.kind in "iu"]
    count = 1 + max((int(value[value != IGNORE].max(initial=0)) for value in labels), default=0)
    return classes if classes is not None and len(classes) >= count else numbered(count)
