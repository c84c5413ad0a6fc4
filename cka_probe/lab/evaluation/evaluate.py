"""A checkpoint and a dataset in, `Scores` of depth or `LabelScores` of segmentation out.

Labels are scored as `evaluation.labels` describes. For depth, the image is predicted whole and at its own size
(`evaluation.sliding_window`), scored by the dataset's protocol (`evaluation.protocol`), and the values of every image
are returned. Models without metric scale are aligned to the ground truth, image by image, unless `scaling` is set:
geometric and pseudo-depth pre-training and Monodepth2 from video by the median, the teacher, whose shift is undefined
too and which sees squeezed images, by scale and shift. The result states which.
"""

from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import CheckpointError, DataError
from cka_probe.images.datasets import Dataset, batches_of_one_size, open_with_field, read_samples
from cka_probe.images.sample import Sample
from cka_probe.images.sampling import sample_indices
from cka_probe.images.stream import image_hash
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.labels import SEGMENTS, label_scores
from cka_probe.lab.evaluation.predictions import check_names, save_prediction, write_manifest
from cka_probe.lab.evaluation.protocol import FINE, Protocol, image_scores
from cka_probe.lab.evaluation.request import EvaluationRequest, describe_images
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.lab.evaluation.sliding_window import predict_whole
from cka_probe.models.checkpoint import Checkpoint, Trained, load_trained, read_header, versions
from cka_probe.models.devices import pick_device, predicting, usual_batch
from cka_probe.progress import Progress
from cka_probe.similarity.resampling import RESAMPLES

PREDICTS = {
    "depth": ("none", 2),
    "geometric": ("median", 2),
    "pseudo_depth": ("median", 2),
    "teacher": ("affine", 0),
    "monodepth": ("median", 0),
    "lidar": ("none", 0),
}
"""Tasks that predict depth, with the scaling and the crops where nothing is said."""

METRIC = ("stereo", "video_stereo")
"""What of `monodepth` knows the metre, by a baseline that was measured."""


def evaluate(
    checkpoint: str | Path,
    data: str | Path | Dataset,
    *,
    batch: int | None = None,
    device: str = "auto",
    keep: str | Path | None = None,
    progress: Progress | None = None,
    num: int | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    flip_test: bool | None = None,
    eigen_crop: bool | None = None,
    cap: tuple[float, float] | None = None,
    scaling: str | None = None,
    crops: int | None = None,
    feathered: bool | None = None,
    canny: tuple[float, float] | None = None,
    resolution: str | None = None,
) -> Scores | LabelScores:
    """Return the scores of a model that predicts depth or the class of each pixel.

    Args:
        checkpoint: Of ours, of a task in `PREDICTS` or of `segmentation`.
        data: A dataset with depth or labels, or what `open_dataset` takes for one: `nyuv2:DIR:test`, `ibims1:DIR`.
        batch: Images in a forward pass, of as many windows as are made of each; by default as many as a usual device
            has room for.
        device: `auto`, `cpu`, `cuda` …
        keep: A folder for the predictions; see `evaluation.predictions`.
        progress: Called with the number of images scored so far and in all, at the start and after each batch.
        num: At most so many images, drawn by `seed`; None for all.
        seed: Of the choice of images, and of the bootstrap.
        resamples: Of the bootstrap.
        flip_test: Whether predictions are averaged with those of the mirrored image; by default of depth only.
        eigen_crop: Of depth: whether the border is left out; by default as is usual for the dataset, like `cap`.
        cap: Of depth: (least, most) metres that count.
        scaling: Of depth: a name in `protocol.SCALINGS`; by default as is usual for the task, like `crops`.
        crops: Of depth: windows along the longer side of an image, 0 for the whole image squeezed.
        feathered: Of depth: whether windows fade into each other.
        canny: Of depth: low and high threshold of the detector of depth edges.
        resolution: Of labels: `image` (default; logits are scaled to the labels) or `network` (the other way).

    Returns:
        A row or a matrix for each image, in the dataset's order.

    Raises:
        CheckpointError: The file is no checkpoint of ours, predicts neither, or predicts what is not finite.
        DataError: The dataset lacks what is predicted, nothing of it can be scored, its classes are others, or the
            rules make no sense.
        UnknownNameError: There is no such rule.
        OutOfMemoryError: A batch does not fit.
    """
    header = _header(checkpoint)
    request = EvaluationRequest(checkpoint, header, data, batch, device, keep, progress or (lambda _done, _total: None))
    options = {
        "flip_test": flip_test,
        "eigen_crop": eigen_crop,
        "cap": cap,
        "scaling": scaling,
        "crops": crops,
        "feathered": feathered,
        "canny": canny,
        "resolution": resolution,
    }
    rules: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    rules |= {"num": num, "seed": seed, "resamples": resamples}
    return label_scores(request, rules) if header.task in SEGMENTS else _depth_scores(request, rules)


def _depth_scores(request: EvaluationRequest, rules: dict[str, Any]) -> Scores:
    """Return the scores of a model that predicts depth."""
    protocol = _protocol(request.header, request.data, rules)
    dataset, source = open_with_field(request.data, "depth", "nyuv2:DIR:test or ibims1:DIR")
    places = sorted(sample_indices(len(dataset), protocol.num, protocol.seed))
    names = [dataset.describe(index) for index in places]
    if request.keep is not None:
        check_names(names)
    model = _Model.loaded(request, protocol)
    needs = frozenset({"image", "depth", "valid"}) | (FINE if dataset.gives >= FINE else frozenset())
    rows: list[dict[str, float]] = []
    hashes: list[str] = []
    request.progress(0, len(places))
    for some in batches_of_one_size(read_samples(dataset, places, needs), model.batch):
        for sample, depth in zip(some, model.depths(some), strict=True):
            name = names[len(rows)]
            rows.append(image_scores(depth, sample, protocol, name))
            hashes.append(image_hash(sample["image"]))
            if request.keep is not None:
                save_prediction(request.keep, name, depth[0].numpy())
        request.progress(len(rows), len(places))
    table = pd.DataFrame(rows, index=names).astype(np.float64)
    if table["abs_rel"].isna().all():
        least, most = protocol.depth_range
        raise DataError(
            f"expected measured depth between {least} and {most} m in {source}, found not one valid pixel in "
            f"{len(rows)} images; check the unit of its depth, the cap and the crop"
        )
    described, read = request.described(model.trained), describe_images(source, hashes)
    if request.keep is not None:
        write_manifest(request.keep, names, described, read)
    packages = versions() | {name: version(name) for name in ("scikit-image", "scipy")}
    return Scores(table, described, read, protocol.recorded(), packages)


@dataclass(frozen=True)
class _Model:
    """A trained model on its device, and how it is shown images."""

    trained: Trained
    protocol: Protocol
    batch: int
    device: torch.device

    @classmethod
    def loaded(cls, request: EvaluationRequest, protocol: Protocol) -> "_Model":
        where, trained = pick_device(request.device), load_trained(request.checkpoint)
        views = max(protocol.crops or 0, 1) * (2 if protocol.flip_test else 1)
        trained.backbone.to(where)
        trained.head.to(where)
        return cls(trained, protocol, request.batch or usual_batch(where, views, trained.task.size), where)

    def depths(self, some: list[Sample]) -> Tensor:
        """Return the depth of images of one size, (n, 1, H, W) float32 on the CPU."""
        images = torch.stack([sample["image"] for sample in some]).to(self.device)
        task: Any = self.trained.task  # in `PREDICTS`, so it has `predict`
        backbone, head = self.trained.backbone, self.trained.head
        with predicting(self.device, len(some)):
            return predict_whole(
                lambda windows: task.predict(backbone, head, windows),
                images,
                task.size,
                crops=self.protocol.crops or 0,
                flip_test=self.protocol.flip_test,
                feathered=self.protocol.feathered,
            ).cpu()


def _header(checkpoint: str | Path) -> Checkpoint:
    """Return the header of a checkpoint whose predictions can be scored."""
    header, found = None, "another file"
    try:
        header = read_header(checkpoint)
    except SafetensorError as error:
        found = f"a damaged file ({error})"
    if header is not None and header.task in (*PREDICTS, *SEGMENTS):
        return header
    if header is not None:
        found = f"one of the task {header.task!r}" if header.task else "a backbone alone"
    raise CheckpointError(
        f"{checkpoint}: expected a checkpoint of `ckaprobe train` whose task predicts depth ({', '.join(PREDICTS)}) or "
        f"labels ({', '.join(SEGMENTS)}), found {found}; train a stage of one of these tasks with it"
    )


def _protocol(header: Checkpoint, data: Any, rules: dict[str, Any]) -> Protocol:
    """Return the rules, with what was left open as is usual for task and dataset."""
    known = {field.name: field for field in fields(Protocol)}
    for name in rules:
        registry.get(known, name, "rule")
    protocol = Protocol(**rules).for_dataset(str(data).partition(":")[0] if isinstance(data, str | Path) else "")
    scaling, crops = PREDICTS[header.task]
    if header.task_options.get("sources") in METRIC:
        scaling = "none"
    return replace(
        protocol,
        scaling=scaling if protocol.scaling is None else protocol.scaling,
        crops=crops if protocol.crops is None else protocol.crops,
    )
