"""A segmentation checkpoint and a dataset with labels in, `LabelScores` out.

A network sees an image as it saw those it was trained on: the whole of it at the network's size, or, after training on
unscaled boxes, windows of that size as close as it takes to leave no gap, the logits averaged where they overlap. What
is compared then is a matter of resolution:

    "image"   logits are scaled to the size of the labels (bilinear), and the class is the largest of them there
    "network"   labels are scaled to the size of the network (nearest), as in Lao et al. (ECCV 2024)

The second forgives what is finer than the network's pixels; the two are not to be compared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from cka_probe import registry
from cka_probe.errors import CheckpointError, DataError
from cka_probe.images.classes import Classes, numbered
from cka_probe.images.datasets import batches_of_one_size, open_with_field, read_samples
from cka_probe.images.sample import IGNORE, Sample
from cka_probe.images.sampling import sample_indices
from cka_probe.images.stream import image_hash
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.predictions import LABELS, check_names, save_label_prediction, write_manifest
from cka_probe.lab.evaluation.request import EvaluationRequest, describe_images
from cka_probe.lab.evaluation.segmentation import confusion_matrices
from cka_probe.lab.evaluation.sliding_window import window_starts
from cka_probe.lab.transforms.augment import resize_or_crop
from cka_probe.models.checkpoint import Trained, load_trained, versions
from cka_probe.models.devices import pick_device, predicting, usual_batch
from cka_probe.similarity.resampling import RESAMPLES

if TYPE_CHECKING:
    from cka_probe.lab.tasks.segmentation import Segmentation

SEGMENTS = ("segmentation",)
"""Tasks that predict the class of each pixel."""

RESOLUTIONS = {
    "image": "logits are scaled to the labels",
    "network": "labels are scaled to the network",
}


@dataclass(frozen=True)
class LabelRules:
    """How labels are predicted and scored.

    Attributes:
        resolution: A name in `RESOLUTIONS`.
        flip_test: Whether logits are averaged with those of the mirrored image.
        num: So many images, drawn from `seed`; `None` for all.
        resamples: Of the bootstrap.
        seed: Of the bootstrap, and of the choice of images.

    Raises:
        DataError: One of them cannot be.
        UnknownNameError: There is no such resolution.
    """

    resolution: str = "image"
    flip_test: bool = False
    num: int | None = None
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self):
        registry.get(RESOLUTIONS, self.resolution, "resolution")
        for name in ("num", "resamples"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise DataError(f"expected {name} of at least 1, found {count}")


def label_scores(request: EvaluationRequest, options: Mapping[str, Any]) -> LabelScores:
    """Return the scores of a model that predicts the class of each pixel.

    Args:
        request: Which model, which data.
        options: Fields of `LabelRules`.

    Raises:
        CheckpointError: It predicts what is not finite.
        DataError: The dataset has no labels, none in the chosen images, or other classes than the model.
        UnknownNameError: There is no such rule.
    """
    rules = _rules_of(options)
    dataset, source = open_with_field(request.data, "labels", "kitti_semantics:DIR or camvid:DIR:test")
    model = _Model.loaded(request, rules)
    classes = _classes(getattr(dataset, "classes", None), model.task.classes, source)
    places = sorted(sample_indices(len(dataset), rules.num, rules.seed))
    names = [dataset.describe(index) for index in places]
    if request.keep is not None:
        check_names(names)
    each = read_samples(dataset, places, frozenset({"image", "labels"}))
    confusion, entropies, hashes = _read_and_compared(request, model, each, names, classes)
    if not confusion.any():
        raise DataError(f"expected labelled pixels in {source}, found none in {len(names)} images; give another split")
    described, read = request.described(model.trained), describe_images(source, hashes)
    if request.keep is not None:
        write_manifest(request.keep, names, described, read, LABELS)
    settings = asdict(rules) | {"views": "windows" if model.task.crop else "whole"}
    return LabelScores(
        confusion,
        entropies,
        tuple(names),
        _distinct(classes.names),
        tuple(model.task.subset),
        model=described,
        data=read,
        settings=settings,
        versions=versions(),
    )


def _read_and_compared(
    request: EvaluationRequest, model: "_Model", each: Iterator[Sample], names: list[str], classes: Classes
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return confusions (n, K, K), cross-entropies (n,) and hashes of images; save predictions if requested."""
    found: list[tuple[np.ndarray, float]] = []
    hashes: list[str] = []
    request.progress(0, len(names))
    for some in batches_of_one_size(each, model.batch):
        of_these = names[len(found) : len(found) + len(some)]
        for name, (matrix, entropy, predicted) in zip(of_these, model.compared(some, of_these), strict=True):
            found.append((matrix, entropy))
            if request.keep is not None:
                save_label_prediction(request.keep, name, predicted, classes)
        hashes += [image_hash(sample["image"]) for sample in some]
        request.progress(len(found), len(names))
    confusion, entropies = (np.array(part) for part in zip(*found, strict=True))
    return confusion, entropies, hashes


@dataclass(frozen=True)
class _Model:
    """A trained model on its device, and how it is shown images."""

    trained: Trained
    rules: LabelRules
    batch: int
    device: torch.device

    @classmethod
    def loaded(cls, request: EvaluationRequest, rules: LabelRules) -> "_Model":
        where, trained = pick_device(request.device), load_trained(request.checkpoint)
        if cast("Segmentation", trained.task).crop and rules.resolution == "network":
            raise DataError(
                "expected resolution 'image' for a model that was trained on unscaled boxes, found 'network', which "
                "would show it images of another scale; leave it out"
            )
        trained.backbone.to(where)
        trained.head.to(where)
        views = 2 if rules.flip_test else 1
        return cls(trained, rules, request.batch or usual_batch(where, views, trained.task.size), where)

    @property
    def task(self) -> "Segmentation":
        """The task, which is one of `SEGMENTS`."""
        return cast("Segmentation", self.trained.task)

    def compared(self, some: list[Sample], names: list[str]) -> list[tuple[np.ndarray, float, np.ndarray]]:
        """Return of each image confusion (K, K), cross-entropy (nats, NaN without a label) and classes (H, W)."""
        task = self.task
        found: list[tuple[np.ndarray, float, np.ndarray]] = []
        seen = some if task.crop else [resize_or_crop(sample, task.size, None) for sample in some]
        with predicting(self.device, len(some)):
            all_logits = self._logits(torch.stack([sample["image"] for sample in seen]).to(self.device))
            for shown, stored, logits, name in zip(seen, some, all_logits, names, strict=True):
                labels = (shown if self.rules.resolution == "network" else stored)["labels"].to(self.device)
                if logits.shape[-2:] != labels.shape:
                    logits = interpolate(logits[None], labels.shape, mode="bilinear", align_corners=False)[0]
                found.append(_compared(logits, labels, name))
        return found

    def _logits(self, images: Tensor) -> Tensor:
        """Return the logits (n, K, H, W) of images (n, 3, H, W) at least as large as the network."""
        size, shape = self.trained.task.size, images.shape[-2:]
        if shape[0] < size[0] or shape[1] < size[1]:
            raise DataError(
                f"expected images of at least {size[1]}x{size[0]} pixels for a model that was trained on unscaled "
                f"boxes of that size, found {shape[1]}x{shape[0]}; give the images it was trained on at their size"
            )
        total = images.new_zeros(len(images), self.task.classes, *shape, dtype=torch.float32)
        count = images.new_zeros(shape)
        for top in window_starts(shape[0], size[0], 1):
            for left in window_starts(shape[1], size[1], 1):
                window = (..., slice(top, top + size[0]), slice(left, left + size[1]))
                total[window] += self._straight_and_mirrored(images[window])
                count[window] += 1
        return total / count

    def _straight_and_mirrored(self, images: Tensor) -> Tensor:
        """Return the logits of images of the network's size, averaged with those of the mirror images if requested."""
        backbone, head = self.trained.backbone, self.trained.head
        logits = self.task.predict(backbone, head, images).float()
        if not self.rules.flip_test:
            return logits
        return (logits + self.task.predict(backbone, head, images.flip(-1)).float().flip(-1)) / 2


def _rules_of(options: Mapping[str, Any]) -> LabelRules:
    """Return rules by their names."""
    known = {field.name: field for field in fields(LabelRules)}
    for name in options:
        registry.get(known, name, "rule")
    return LabelRules(**options)


def _compared(logits: Tensor, labels: Tensor, name: str) -> tuple[np.ndarray, float, np.ndarray]:
    """Return what logits (K, H, W) and labels (H, W) of one image say of each other, and the classes they are."""
    if not logits.isfinite().all():
        raise CheckpointError(f"{name}: expected finite logits at every pixel, found NaN or infinity; train it again")
    predicted = logits.argmax(0)
    try:
        matrix = confusion_matrices(predicted[None], labels[None], len(logits))[0]
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    pixels = cross_entropy(logits[None], labels[None], ignore_index=IGNORE, reduction="none").double()
    entropy = pixels.sum() / (labels != IGNORE).sum()  # 0 / 0 is the NaN that is meant
    return matrix.cpu().numpy(), float(entropy), predicted.cpu().numpy()


def _classes(classes: Classes | None, count: int, source: str) -> Classes:
    """Return the vocabulary of a dataset, which is the model's too."""
    classes = numbered(count) if classes is None else classes
    if len(classes) != count:
        raise DataError(
            f"expected a dataset with the model's {count} classes, found {source} with {len(classes)} "
            f"({', '.join(classes.names[:4])} …); evaluate on data that is labelled like its training data"
        )
    return classes


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names, those that several classes share with the class's number behind."""
    return tuple(f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names))
