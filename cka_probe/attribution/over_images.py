"""Grad-CAM of several checkpoints over the same images: maps, and how well they follow the outlines of classes.

Each network sees an image as it was trained to: squeezed whole to its size, or the middle of it, as large as its
proportions allow. Labels go the same way (nearest), so that a map and the labels it is held against are of the same
pixels, those of the network's input: checkpoints of different input size are compared at the network's resolution of
each. Where a network takes any size, images are shown as they are stored.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import interpolate

from cka_probe import registry
from cka_probe.attribution.alignment import alignment, boundaries, ceiling, controls
from cka_probe.attribution.attributions import COLUMNS, MEANT, SIGNED, UNLABELLED, Attributions
from cka_probe.attribution.grad_cam import Maps, grad_cam
from cka_probe.attribution.networks import EvaluationModel
from cka_probe.attribution.saved_maps import SavedMap, held, prediction_of
from cka_probe.errors import DataError, OutOfMemoryError
from cka_probe.images.datasets import Dataset, batches_of_one_size, open_with_field, read_samples
from cka_probe.images.sample import Sample
from cka_probe.images.sampling import sample_indices
from cka_probe.images.stream import image_hash, list_hash
from cka_probe.models.checkpoint import versions
from cka_probe.models.devices import pick_device, usual_batch
from cka_probe.progress import Progress
from cka_probe.similarity.resampling import RESAMPLES

DEPTH, CLASS, LABELS = "depth", "class", "segmentation"
TRUTH = {DEPTH: "depth", CLASS: "category"}
"""The field that a prediction is of, by the kind of target, besides labels, which are read wherever they are."""


@dataclass(frozen=True)
class Rules:
    """What is attributed, and how alignment is counted.

    Attributes:
        num: So many images, drawn by the seed; `None` for all.
        seed: Of the choice of images, and of the bootstrap.
        tolerance: Pixels of the network's input; how far from a boundary still counts as one.
        resamples: Of the bootstrap.
        log_softmax: Whether log-softmax is taken in place of logits.

    Raises:
        DataError: One of them cannot be.
    """

    num: int | None = 8
    seed: int = 0
    tolerance: float = 1.0
    resamples: int = RESAMPLES
    log_softmax: bool = False

    def __post_init__(self):
        for name in ("num", "resamples"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise DataError(f"expected {name} of at least 1, found {count}")
        if not 0 <= self.tolerance < np.inf:
            raise DataError(f"expected a tolerance of 0 pixels or more, found {self.tolerance}")


@dataclass(frozen=True)
class _Request:
    """All that is the same for every checkpoint."""

    dataset: Dataset
    indices: list[int]
    names: list[str]
    needs: frozenset[str]
    layer: str
    target: str
    rules: Rules
    device: torch.device
    hold: frozenset[int]
    progress: Callable[[int], None]
    hashes: list[str] = field(default_factory=list)

    @property
    def words(self) -> tuple[str, ...]:
        """Names of the classes of whole images."""
        return getattr(getattr(self.dataset, "classes", None), "names", ()) if "category" in self.needs else ()


def attribute(
    checkpoints: Mapping[str, str | Path],
    data: str | Path | Dataset,
    layer: str | int = "first",
    target: str = LABELS,
    *,
    rules: Rules | None = None,
    device: str = "auto",
    hold: int = 0,
    progress: Progress | None = None,
) -> tuple[Attributions, dict[str, list[SavedMap]]]:
    """Return the maps of checkpoints over images, and how well they follow the outlines of classes.

    Args:
        checkpoints: As each is called here, to a checkpoint of `ckaprobe train` or any reference `load` takes.
        data: A dataset, or what `open_dataset` takes for one. Without labels there are no numbers of alignment.
        layer: As of `grad_cam`.
        target: As of `grad_cam`; the class behind a colon may be said by its name in the data's vocabulary.
        rules: Which images, and how alignment is counted.
        device: `auto`, `cpu`, `cuda` …
        hold: Of how many images the maps are returned, spread evenly over the list; -1 for all.
        progress: Called with the number of maps made so far and in all.

    Returns:
        The result, and by checkpoint the maps that are held.

    Raises:
        CheckpointError: A model cannot be loaded.
        DataError: There is no checkpoint; images do not fit; the target is not what a network puts out.
        LayerError: A network has no such layer.
        UnknownNameError: There is no such target or class.
        OutOfMemoryError: A batch does not fit.
    """
    rules, progress = rules or Rules(), progress or (lambda _done, _total: None)
    if not checkpoints:
        raise DataError("expected at least one checkpoint, found none; give some")
    dataset, source = open_with_field(data, "image", "a folder of images")
    indices = sorted(sample_indices(len(dataset), rules.num, rules.seed))
    names, total = [dataset.describe(index) for index in indices], len(indices) * len(checkpoints)
    progress(0, total)
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    request = _Request(
        dataset,
        indices,
        names,
        frozenset({"image", "labels", TRUTH.get(target.partition(":")[0], "labels")}) & dataset.gives,
        str(layer),
        _numbered(target, dataset),
        rules,
        pick_device(device),
        evenly_spaced(len(indices), hold),
        count,
    )
    rows, kept, models = [], {}, {}
    for name, reference in checkpoints.items():
        own, kept[name], models[name] = _of_one(request, reference)
        rows += [{"checkpoint": name} | row for row in own]
    settings = {"layer": request.layer, "target": target} | asdict(rules)
    seen = {"source": source, "hash": list_hash(request.hashes), "num": len(names)}
    labelled = {"labels": "labels" in dataset.gives}
    table = pd.DataFrame(rows, columns=COLUMNS)
    return Attributions(table, models, seen | labelled, settings, versions()), kept


def evenly_spaced(count: int, wanted: int) -> frozenset[int]:
    """Return `wanted` places of a list (-1: all), evenly spread and none at its ends.

    >>> sorted(evenly_spaced(10, 2)), sorted(evenly_spaced(2, 5))
    ([2, 7], [0, 1])
    """
    wanted = count if wanted < 0 else min(wanted, count)
    return frozenset(int((place + 0.5) * count / wanted) for place in range(wanted))


def _numbered(target: str, dataset: Dataset) -> str:
    """Return a target with its class as a number, where it was said by its name in the vocabulary of the data."""
    kind, colon, word = target.partition(":")
    names = getattr(getattr(dataset, "classes", None), "names", ())
    if not word or word.isdigit() or not names:
        return target
    return f"{kind}{colon}{registry.get({name: number for number, name in enumerate(names)}, word, 'class')}"


def _of_one(request: _Request, reference: str | Path) -> tuple[list[dict[str, Any]], list[SavedMap], dict[str, Any]]:
    """Return a checkpoint's rows, the maps that are held, and what it is."""
    model = EvaluationModel.loaded(reference, request.device)
    rows: list[dict[str, Any]] = []
    kept: list[SavedMap] = []
    layer: dict[str, Any] = {}
    for some, maps in _mapped(request, model):
        for place, sample in enumerate(some):
            number = len(rows)
            rows.append({"image": request.names[number]} | _row(request, sample, maps, place))
            if number in request.hold:
                kept.append(held(sample, request.names[number], maps, place, request.words))
        layer = layer or {"layer": maps.layer, "layer_size": list(maps.signed.shape[1:]), "size": list(maps.size)}
    return rows, kept, model.described() | layer


def _mapped(request: _Request, model: EvaluationModel) -> Iterator[tuple[list[Sample], Maps]]:
    """Yield batches as the network sees them, and their maps."""
    for some in batches_of_one_size(_views(request, model), model.batch(usual_batch)):
        images = torch.stack([sample["image"] for sample in some]).to(request.device)
        try:
            maps = grad_cam(model.network, images, request.layer, request.target, log_softmax=request.rules.log_softmax)
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"out of memory with {len(some)} images of {images.shape[-1]}x{images.shape[-2]} in a batch; try "
                "--device cpu"
            ) from error
        yield some, maps
        request.progress(len(some))


def _views(request: _Request, model: EvaluationModel) -> Iterator[Sample]:
    """Yield samples as a network sees them; the first network's pass hashes the images as they are stored."""
    for sample in read_samples(request.dataset, request.indices, request.needs):
        if len(request.hashes) < len(request.indices):
            request.hashes.append(image_hash(sample["image"]))
        yield model.view(sample)


def _row(request: _Request, sample: Sample, maps: Maps, place: int) -> dict[str, Any]:
    """Return the numbers of one image."""
    predicted = prediction_of(maps, place, request.words)
    row: dict[str, Any] = dict.fromkeys(MEANT, np.nan)
    row |= {"boundary": 0.0, "counted": 0.0, "score": float(maps.scores[place])}
    row |= {"zero": float(maps.empty[place]), "predicted": predicted if isinstance(predicted, str) else ""}
    if "labels" not in sample:
        return row | {"undefined": UNLABELLED}
    of = boundaries(sample["labels"].numpy(), request.rules.tolerance)
    found = alignment(maps.shown()[place].double().numpy(), of)
    row |= {"correlation": found.correlation, "ap": found.ap, "undefined": found.undefined, "chance": of.share}
    height, width = maps.signed.shape[1:]
    layer_size = (height, width)
    row["ceiling"] = ceiling(sample["labels"].numpy(), of, layer_size)
    row |= {"boundary": float(of.there[of.counted].sum()), "counted": float(of.counted.sum())}
    signed = interpolate(maps.signed[place, None, None], maps.size, mode="bilinear", align_corners=False)[0, 0]
    others = controls(sample["image"].permute(1, 2, 0).numpy(), layer_size)
    for name, other in ({SIGNED: signed.double().numpy()} | others).items():
        beside = alignment(other, of)
        row |= {f"correlation_{name}": beside.correlation, f"ap_{name}": beside.ap}
    return row
