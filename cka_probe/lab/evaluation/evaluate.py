"""Evaluation of a model on a dataset: `Scores` of depth or of a classifier, `LabelScores` of segmentation, or
`DetectionScores` of objects.

Depth is predicted for the whole image at its own size (`evaluation.sliding_window`) and scored by the dataset's
protocol (`evaluation.protocol`). Models without metric scale are aligned to the ground truth, image by image, unless
`scaling` is set: geometric and pseudo-depth pre-training and Monodepth2 from video by the median; the teacher, whose
shift is undefined too and which sees squeezed images, by scale and shift. The result records which.

A segmentation network sees an image as in its training: the whole image at the network's size, or, after training on
unscaled boxes, windows of that size with as few overlaps as leave no gap, whose logits are averaged where they overlap.
They are compared with the labels at one of two resolutions:

    "image"     logits are scaled to the size of the labels (bilinear); the class is the largest of them there
    "network"   labels are scaled to the size of the network (nearest), as in Lao et al. (ECCV 2024)

The second ignores details finer than the network's pixels, so scores of the two must not be compared.

In a process group, each process calls `evaluate` and scores its share of the images; all return the same scores. The
first writes what describes saved predictions.

A classifier may be any file or reference that `load` takes; see `evaluation.classification`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from cka_probe.attribution.networks import Network, network_of
from cka_probe.comparison.ranks import current_ranks
from cka_probe.errors import CheckpointError, DataError
from cka_probe.images.classes import Classes, numbered
from cka_probe.images.datasets import Dataset, open_with_field, sample_indices
from cka_probe.images.sample import IGNORE, Sample
from cka_probe.lab.evaluation.classification import score_classes
from cka_probe.lab.evaluation.detection_scores import DetectionScores, score_detections
from cka_probe.lab.evaluation.image_run import ImageRun
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.predictions import (
    LABELS,
    check_names,
    save_label_prediction,
    save_prediction,
    write_manifest,
)
from cka_probe.lab.evaluation.protocol import (
    FINE,
    ClassProtocol,
    DepthProtocol,
    DetectionProtocol,
    LabelProtocol,
    image_scores,
)
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.lab.evaluation.segmentation import confusion_matrices
from cka_probe.lab.evaluation.sliding_window import predict_whole, window_starts
from cka_probe.lab.transforms.augment import resize_or_crop
from cka_probe.models.checkpoint import Checkpoint, Trained, file_hash, load_trained, read_header, versions
from cka_probe.models.devices import pick_device, usual_batch
from cka_probe.models.load import weights_hash
from cka_probe.progress import ProgressSpec, reporting
from cka_probe.similarity.resampling import RESAMPLES

PREDICTS = {
    "depth": ("none", 2),
    "geometric": ("median", 2),
    "pseudo_depth": ("median", 2),
    "teacher": ("affine", 0),
    "monodepth": ("median", 0),
    "lidar": ("none", 0),
}
"""Tasks that predict depth, with their default scaling and crops."""
METRIC = ("stereo", "video_stereo")
"""Sources of `monodepth` that give metric scale, by the measured baseline."""
SEGMENTS = ("segmentation",)
"""Tasks that predict the class of each pixel."""
DETECTS = ("detection",)
"""Tasks that predict objects."""
CLASSIFIES = ("classification",)
"""Tasks that predict the class of an image."""
FIELDS: dict[type, tuple[str, str]] = {
    DepthProtocol: ("depth", "nyuv2:DIR:test or ibims1:DIR"),
    LabelProtocol: ("labels", "kitti_semantics:DIR or camvid:DIR:test"),
    DetectionProtocol: ("boxes", "coco_instances:DIR:val or cityscapes_instances:DIR:val"),
    ClassProtocol: ("category", "a folder with a folder for each class, or imagenet:DIR:val"),
}
"""The field that is predicted, and examples of datasets that have it."""
DEFAULT_SIZE = (224, 224)


def evaluate(
    checkpoint: str | Path | nn.Module,
    data: str | Path | Dataset,
    *,
    batch: int | None = None,
    device: str = "auto",
    keep: str | Path | None = None,
    progress: ProgressSpec = None,
    num: int | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    flip_test: bool | None = None,
    crop: str | None = None,
    cap: tuple[float, float] | None = None,
    scaling: str | None = None,
    crops: int | None = None,
    feathered: bool | None = None,
    canny: tuple[float, float] | None = None,
    resolution: str | None = None,
    classes: str | Path | None = None,
    arch: str | None = None,
    encoder: str | None = None,
    base: str | Path | None = None,
    size: int | str | Sequence[int] | None = None,
) -> Scores | LabelScores | DetectionScores:
    """Return the scores of a model that predicts depth, objects, the class of each pixel, or that of the image.

    Args:
        checkpoint: A checkpoint of `ckaprobe train`, of a task in `PREDICTS`, of `segmentation`,
            `detection` or `classification`; or
            a classifier: any other reference that `load` takes, or a module.
        data: A dataset with depth, labels or categories, or what `open_dataset` takes for one: `nyuv2:DIR:test`,
            `ibims1:DIR`, `imagenet:DIR:val`. For a classifier also a folder with a folder for each class; of its splits
            `val` is taken, else `test`.
        batch: Images in a forward pass, each with all its windows; by default as many as usually fit the device.
        device: `auto`, `cpu`, `cuda` …
        keep: A folder for the predictions of pixels; see `evaluation.predictions`.
        progress: True for a bar on stderr, or a function called as `progress(images_done, total)`.
        num: Number of images, drawn with `seed`; None for all.
        seed: Of the choice of images and of the bootstrap.
        resamples: Of the bootstrap.
        flip_test: Whether to average predictions with those of the mirrored image; by default only for depth.
        crop: For depth: the box that counts, `none`, `eigen` (NYUv2, KITTI) or `garg` (KITTI); by default as usual for
            the dataset, like `cap`.
        cap: For depth: (least, most) metres that count.
        scaling: For depth: a name in `protocol.SCALINGS`; by default as usual for the task, like `crops`.
        crops: For depth: windows along the longer side of an image, 0 for the whole image squeezed.
        feathered: For depth: whether to blend windows where they overlap.
        canny: For depth: low and high threshold of the edge detector.
        resolution: For labels: `image` (default; logits are scaled to the labels) or `network` (the reverse).
        classes: For a classifier: a text file with its classes, one a line, in the order of its outputs.
        arch: For a classifier, like `encoder`, `base` and `size`: as in `load` and `compare`.
        encoder: Encoder in a file with several.
        base: Model that a LoRA adapter was trained on.
        size: Input size in place of its own.

    Returns:
        A row or a matrix for each image, in the dataset's order.

    Raises:
        CheckpointError: The file is not such a checkpoint, or its predictions are not finite.
        DataError: The dataset lacks the field, has no valid pixel or other classes, or an option is out of range.
        UnknownNameError: The protocol has no such option.
        OutOfMemoryError: A batch does not fit.
    """
    header = _header(checkpoint)
    if batch is not None and batch < 1:
        raise DataError(f"expected at least one image in a batch, found {batch}")
    options: dict[str, Any] = {
        "flip_test": flip_test,
        "crop": crop,
        "cap": cap,
        "scaling": scaling,
        "crops": crops,
        "feathered": feathered,
        "canny": canny,
        "resolution": resolution,
        "classes": classes,
    }
    options = {name: value for name, value in options.items() if value is not None}
    options |= {"num": num, "seed": seed, "resamples": resamples}
    protocol = _protocol(header, data, options)
    target = pick_device(device)
    if keep is not None and isinstance(protocol, ClassProtocol | DetectionProtocol):
        raise DataError("expected no folder for predictions, as only those of pixels are saved; omit it")
    if isinstance(protocol, ClassProtocol):
        network = _classifier(checkpoint, arch, encoder, base, size)
        images = _images(protocol, data) | {"device": target}
        network.to(target)
        batch = batch or usual_batch(target, protocol.views, network.size or DEFAULT_SIZE)
        with reporting(progress) as report:
            return score_classes(ImageRun(**images, batch=batch, progress=report), network, protocol)
    if not (arch is encoder is base is size is None):
        raise DataError("expected no arch, encoder, base or size for a checkpoint of `ckaprobe train`; omit them")
    images = _images(protocol, data) | {"device": target}
    if keep is not None:
        check_names(images["names"])
    trained = load_trained(str(checkpoint))
    trained.backbone.to(target)
    trained.head.to(target)
    model: dict[str, Any] = {"checkpoint": str(checkpoint), "header": header, "trained": trained, "keep": keep}
    batch = batch or usual_batch(target, protocol.views, trained.task.size)
    with reporting(progress) as report:
        run = _Evaluation(**images, **model, batch=batch, progress=report)
        if isinstance(protocol, DetectionProtocol):
            return _score_objects(run, protocol)
        return _score_depth(run, protocol) if isinstance(protocol, DepthProtocol) else _score_labels(run, protocol)


def _images(
    protocol: DepthProtocol | LabelProtocol | DetectionProtocol | ClassProtocol, data: str | Path | Dataset
) -> dict[str, Any]:
    """Return the dataset of an evaluation, its source, and the indices and names of the images to score."""
    field, example = FIELDS[type(protocol)]
    dataset, source = open_with_field(_of_classes(data) if field == "category" else data, field, example)
    indices = sorted(sample_indices(len(dataset), protocol.num, protocol.seed))
    names = [dataset.describe(index) for index in indices]
    return {"dataset": dataset, "source": source, "indices": indices, "names": names}


def _classifier(
    checkpoint: str | Path | nn.Module,
    arch: str | None,
    encoder: str | None,
    base: str | Path | None,
    size: int | str | Sequence[int] | None,
) -> Network:
    """Return the classifier of a reference or module."""
    network = network_of(checkpoint, arch=arch, encoder=encoder, base=base, size=size)
    if network.no_prediction:
        raise CheckpointError(
            f"{checkpoint}: expected a classifier, or a checkpoint of `ckaprobe train` that predicts depth or classes; "
            f"{network.no_prediction}: give a file with its head"
        )
    return network


@dataclass(frozen=True, kw_only=True)
class _Evaluation(ImageRun):
    """A trained model on its device, and the images that it is scored on."""

    checkpoint: str
    header: Checkpoint
    trained: Trained
    keep: str | Path | None

    def predict(self, images: Tensor) -> Tensor:
        """Return the prediction of the task for images of the network's size."""
        return self.trained.task.predict(self.trained.backbone, self.trained.head, images)

    def describe_model(self) -> dict[str, Any]:
        """Return what a result records about the model."""
        return {
            "reference": self.checkpoint,
            "hash": file_hash(self.checkpoint),
            "backbone_hash": weights_hash(self.trained.backbone.model),
            "stage": self.header.stage,
            "task": self.header.task,
            "architecture": self.header.architecture,
            "size": list(self.trained.task.size),
            "step": self.header.step,
            "seed": self.header.seed,
        }


def _score_depth(run: _Evaluation, protocol: DepthProtocol) -> Scores:
    """Return the scores of a model that predicts depth."""

    def predict(batch: list[Sample]) -> Tensor:
        return predict_whole(
            run.predict,
            torch.stack([sample["image"] for sample in batch]).to(run.device),
            run.trained.task.size,
            crops=protocol.crops or 0,
            flip_test=protocol.flip_test,
            feathered=protocol.feathered,
        ).cpu()

    def score(name: str, sample: Sample, depth: Tensor) -> dict[str, float]:
        if run.keep is not None:
            save_prediction(run.keep, name, depth[0].numpy())
        return image_scores(depth, sample, protocol, name)

    fields = frozenset({"image", "depth", "valid"}) | (FINE if run.dataset.gives >= FINE else frozenset())
    rows = run.results(fields, score, predict)
    table = pd.DataFrame(rows, index=run.names).astype(np.float64)
    if table["abs_rel"].isna().all():
        least, most = protocol.depth_range
        raise DataError(
            f"expected measured depth between {least} and {most} m in {run.source}, found no valid pixel in "
            f"{len(rows)} images; check the unit of its depth, the cap and the crop"
        )
    model, data = run.describe_model(), run.describe()
    if run.keep is not None and current_ranks().index == 0:
        write_manifest(run.keep, run.names, model, data)
    packages = versions() | {name: version(name) for name in ("scikit-image", "scipy")}
    return Scores(table, model, data, protocol.recorded(), packages)


def _score_labels(run: _Evaluation, protocol: LabelProtocol) -> LabelScores:
    """Return the scores of a model that predicts the class of each pixel."""
    task = run.trained.task
    if task.crop and protocol.resolution == "network":
        raise DataError(
            "expected resolution 'image' for a model that was trained on unscaled boxes, found 'network', which would "
            "show it images of another scale; omit it"
        )
    classes = _classes(getattr(run.dataset, "classes", None), task.classes, run.source)

    def prepare(sample: Sample) -> Sample:
        return sample if task.crop else resize_or_crop(sample, task.size, None)

    def predict(batch: list[Sample]) -> Tensor:
        images = torch.stack([prepare(sample)["image"] for sample in batch]).to(run.device)
        return _logits(run, images, protocol.flip_test)

    def score(name: str, sample: Sample, logits: Tensor) -> tuple[np.ndarray, float]:
        stored = sample if protocol.resolution == "image" else prepare(sample)
        labels = stored["labels"].to(run.device)
        if logits.shape[-2:] != labels.shape:
            logits = interpolate(logits[None], labels.shape, mode="bilinear", align_corners=False)[0]
        matrix, entropy, predicted = _compare(logits, labels, name)
        if run.keep is not None:
            save_label_prediction(run.keep, name, predicted, classes)
        return matrix, entropy

    results = run.results(frozenset({"image", "labels"}), score, predict)
    matrices, entropies = zip(*results, strict=True)
    confusion = np.array(matrices)
    if not confusion.any():
        raise DataError(
            f"expected labelled pixels in {run.source}, found none in {len(run.names)} images; use another split"
        )
    model, data = run.describe_model(), run.describe()
    if run.keep is not None and current_ranks().index == 0:
        write_manifest(run.keep, run.names, model, data, LABELS)
    settings = asdict(protocol) | {"views": "windows" if task.crop else "whole"}
    names, subset = _distinct(classes.names), tuple(task.subset)
    return LabelScores(
        confusion, np.array(entropies), tuple(run.names), names, subset, model, data, settings, versions()
    )


def _score_objects(run: _Evaluation, protocol: DetectionProtocol) -> DetectionScores:
    """Return the scores of a model that predicts objects."""
    task: Any = run.trained.task
    classes = _classes(getattr(run.dataset, "classes", None), task.classes, run.source)
    detect = partial(task.detect, run.trained.backbone, run.trained.head)
    return score_detections(run, detect, _distinct(classes.names), run.describe_model(), asdict(protocol))


def _logits(run: _Evaluation, images: Tensor, flip_test: bool) -> Tensor:
    """Return the logits (n, K, H, W) of images (n, 3, H, W) at least as large as the network's input."""
    size, shape = run.trained.task.size, images.shape[-2:]
    if shape[0] < size[0] or shape[1] < size[1]:
        raise DataError(
            f"expected images of at least {size[1]}x{size[0]} pixels for a model that was trained on unscaled boxes of "
            f"that size, found {shape[1]}x{shape[0]}; use images of the size it was trained on"
        )
    total = images.new_zeros(len(images), run.trained.task.classes, *shape, dtype=torch.float32)
    count = images.new_zeros(shape)
    for top in window_starts(shape[0], size[0], 1):
        for left in window_starts(shape[1], size[1], 1):
            window = (..., slice(top, top + size[0]), slice(left, left + size[1]))
            logits = run.predict(images[window]).float()
            if flip_test:
                logits = (logits + run.predict(images[window].flip(-1)).float().flip(-1)) / 2
            total[window] += logits
            count[window] += 1
    return total / count


def _compare(logits: Tensor, labels: Tensor, name: str) -> tuple[np.ndarray, float, np.ndarray]:
    """Return confusion (K, K), cross-entropy (nats; NaN without a label) and classes (H, W) of one image."""
    if not logits.isfinite().all():
        raise CheckpointError(f"{name}: expected finite logits at every pixel, found NaN or infinity; train it again")
    predicted = logits.argmax(0)
    try:
        matrix = confusion_matrices(predicted[None], labels[None], len(logits))[0]
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    pixels = cross_entropy(logits[None], labels[None], ignore_index=IGNORE, reduction="none").double()
    entropy = pixels.sum() / (labels != IGNORE).sum()  # 0 / 0 is NaN
    return matrix.cpu().numpy(), float(entropy), predicted.cpu().numpy()


def _header(checkpoint: str | Path | nn.Module) -> Checkpoint | None:
    """Return the header of a checkpoint whose predictions can be scored; `None` for any other reference."""
    if isinstance(checkpoint, nn.Module) or not Path(checkpoint).is_file():
        return None
    header = read_header(checkpoint)
    if header is None or header.task in (*PREDICTS, *SEGMENTS, *DETECTS, *CLASSIFIES):
        return header
    content = f"one of the task {header.task!r}" if header.task else "a backbone alone"
    raise CheckpointError(
        f"{checkpoint}: expected a classifier, or a checkpoint of `ckaprobe train` of a task of depth "
        f"({', '.join(PREDICTS)}) or classes ({', '.join((*SEGMENTS, *DETECTS, *CLASSIFIES))}), found {content}; train "
        "a stage of one of these tasks"
    )


def _protocol(
    header: Checkpoint | None, data: str | Path | Dataset, options: dict[str, Any]
) -> DepthProtocol | LabelProtocol | DetectionProtocol | ClassProtocol:
    """Return the protocol of what a model predicts."""
    if header is None or header.task in CLASSIFIES:
        return ClassProtocol.of(options)
    if header.task in DETECTS:
        return DetectionProtocol.of(options)
    return LabelProtocol.of(options) if header.task in SEGMENTS else _depth_protocol(header, data, options)


def _of_classes(data: str | Path | Dataset) -> str | Path | Dataset:
    """Return a folder with folders of classes as the dataset that it is, of one split if it has some."""
    if not isinstance(data, str | Path) or not Path(data).is_dir():
        return data
    split = next((name for name in ("val", "test") if (Path(data) / name).is_dir()), "")
    return f"imagenet:{data}:{split}" if split else f"imagenet:{data}"


def _depth_protocol(header: Checkpoint, data: str | Path | Dataset, options: dict[str, Any]) -> DepthProtocol:
    """Return the protocol, with the defaults of the task and the dataset for options that are not set."""
    name = str(data).partition(":")[0] if isinstance(data, str | Path) else ""
    protocol = DepthProtocol.of(options).for_dataset(name)
    scaling, crops = PREDICTS[header.task]
    if header.task_options.get("sources") in METRIC:
        scaling = "none"
    return replace(
        protocol,
        scaling=scaling if protocol.scaling is None else protocol.scaling,
        crops=crops if protocol.crops is None else protocol.crops,
    )


def _classes(classes: Classes | None, count: int, source: str) -> Classes:
    """Return the vocabulary of a dataset, which must have the model's number of classes."""
    classes = numbered(count) if classes is None else classes
    if len(classes) != count:
        raise DataError(
            f"expected a dataset with the model's {count} classes, found {source} with {len(classes)} "
            f"({', '.join(classes.names[:4])} …); evaluate on data with the labels of its training data"
        )
    return classes


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names, with the number of the class after those that several classes share."""
    return tuple(f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names))
