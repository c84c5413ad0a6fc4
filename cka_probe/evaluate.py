"""A checkpoint and a dataset with depth in, `Scores` out.

The picture is predicted whole and at its own size (`tasks.whole`), scored by the dataset's protocol
(`evaluation.protocol`), and every picture's values are kept. Models that were never shown a metre are brought to the
truth, picture by picture, unless it is said otherwise: geometric and pseudo-depth pre-training by its median, the
teacher, which knows no shift either and sees pictures squeezed, by scale and shift. The result says which.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from torch import Tensor

from cka_probe.capture import pick_device
from cka_probe.data import open_dataset
from cka_probe.data.dataset import Dataset
from cka_probe.errors import CheckpointError, DataError, OutOfMemoryError
from cka_probe.evaluation.predictions import check_names, keep_prediction, note_predictions
from cka_probe.evaluation.protocol import FINE, Protocol, picture_scores
from cka_probe.lookup import lookup
from cka_probe.models.checkpoint import Checkpoint, file_hash, read_header, versions
from cka_probe.models.files.reading import first_bytes
from cka_probe.models.load import weights_hash
from cka_probe.models.recording import full_float32
from cka_probe.scores import Scores
from cka_probe.tasks.task import Sample
from cka_probe.tasks.trained import Trained, load_trained
from cka_probe.tasks.whole import predict_whole

PREDICTS = {"depth": ("none", 2), "geometric": ("median", 2), "pseudo_depth": ("median", 2), "teacher": ("affine", 0)}
"""Tasks that predict depth, with the scaling and the crops where nothing is said."""

READERS = 2
"""Threads that decode pictures, ahead of the model."""

PIXELS = {"cuda": 1 << 22, "cpu": 1 << 20}
"""Of all windows in one forward pass, by device: eighteen, or four, of 480 x 480."""

Progress = Callable[[int, int | None], None]


def evaluate(
    checkpoint: str | Path,
    data: str | Path | Dataset,
    *,
    batch: int | None = None,
    device: str = "auto",
    keep: str | Path | None = None,
    progress: Progress | None = None,
    **rules: Any,
) -> Scores:
    """Return the scores of a model that predicts depth.

    Args:
        checkpoint: Of ours, of a task in `PREDICTS`.
        data: A dataset with depth, or what `open_dataset` takes for one: `nyuv2:DIR:test`, `ibims1:DIR`.
        batch: Pictures in a forward pass, of as many windows as `crops` and `flip_test` make of each; by default as
            many as a usual device has room for.
        device: `auto`, `cpu`, `cuda` …
        keep: A folder for the predictions; see `evaluation.predictions`.
        progress: Called as `progress(pictures_more, total)` at the start and after each batch.
        **rules: Any field of `Protocol`: `eigen_crop`, `cap`, `scaling`, `flip_test`, `crops`, `feathered`,
            `canny`, `num`, `resamples`, `seed`. By default what is usual for the dataset and the task.

    Returns:
        One row a picture, in the dataset's order.

    Raises:
        CheckpointError: The file is no checkpoint of ours, predicts no depth, or predicts no finite depth.
        DataError: The dataset has no depth, no picture has a valid pixel, or the rules make no sense.
        OutOfMemoryError: A batch does not fit.
    """
    header = _depth_header(checkpoint)
    protocol = _protocol(header, data, rules)
    dataset, source = _dataset(data)
    if batch is not None and batch < 1:
        raise DataError(f"expected at least one picture in a batch, found {batch}")
    chosen = np.sort(np.random.default_rng(protocol.seed).permutation(len(dataset))[: protocol.num]).tolist()
    names = [dataset.describe(index) for index in chosen]
    if keep is not None:
        check_names(names)
    model = _Model.loaded(checkpoint, device, protocol, batch)
    described = _described(checkpoint, header, model.trained)
    rows, done = [], progress or (lambda _more, _total: None)
    done(0, len(chosen))
    for samples in _batches(_samples(dataset, chosen), model.batch):
        for sample, depth in zip(samples, model.depths(samples), strict=True):
            name = names[len(rows)]
            rows.append(picture_scores(depth, sample, protocol, name))
            if keep is not None:
                keep_prediction(keep, name, depth[0].numpy())
        done(len(samples), len(chosen))
    table = pd.DataFrame(rows, index=names).astype(np.float64)
    if table["abs_rel"].isna().all():
        raise DataError(
            f"expected measured depth between {protocol.cap[0]} and {protocol.cap[1]} m in {source}, found not one "
            f"valid pixel in {len(rows)} pictures; check the unit of its depth, the cap and the crop"
        )
    read = {"source": source, "hash": sha256("\n".join(names).encode()).hexdigest(), "num": len(names)}
    if keep is not None:
        note_predictions(keep, names, described, read)
    packages = versions() | {name: version(name) for name in ("scikit-image", "scipy")}
    return Scores(table, described, read, protocol.recorded(), packages)


@dataclass(frozen=True)
class _Model:
    """A trained model on its device, and how it is shown pictures."""

    trained: Trained
    protocol: Protocol
    batch: int
    device: torch.device

    @classmethod
    def loaded(cls, path: str | Path, device: str, protocol: Protocol, batch: int | None) -> "_Model":
        where, trained = pick_device(device), load_trained(path)
        views = max(protocol.crops, 1) * (2 if protocol.flip_test else 1) * np.prod(trained.task.size)
        usual = PIXELS.get(where.type, PIXELS["cpu"]) // int(views)
        trained.backbone.to(where)
        trained.head.to(where)
        return cls(trained, protocol, batch or min(max(usual, 1), 16), where)

    def depths(self, samples: list[Sample]) -> Tensor:
        """Return the depth of pictures of one size, (n, 1, H, W) float32 on the CPU."""
        images = torch.stack([sample["image"] for sample in samples]).to(self.device)
        task, backbone, head = self.trained.task, self.trained.backbone, self.trained.head
        try:
            with torch.inference_mode(), full_float32(self.device):
                depth = predict_whole(
                    lambda windows: task.predict(backbone, head, windows),
                    images,
                    task.size,
                    crops=self.protocol.crops,
                    flip_test=self.protocol.flip_test,
                    feathered=self.protocol.feathered,
                )
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"out of memory with {len(samples)} pictures in a batch; try --batch {max(len(samples) // 2, 1)}"
            ) from error
        return depth.cpu()


def _depth_header(checkpoint: str | Path) -> Checkpoint:
    """Return the header of a checkpoint that predicts depth."""
    header, found = None, "another file"
    if first_bytes(Path(checkpoint))[8:9] == b"{":  # how safetensors begin, after a length
        try:
            header = read_header(checkpoint)
        except SafetensorError as error:
            found = f"a damaged file ({error})"
    if header is not None and header.task in PREDICTS:
        return header
    if header is not None:
        found = f"one of the task {header.task!r}" if header.task else "a backbone alone"
    raise CheckpointError(
        f"{checkpoint}: expected a checkpoint of `ckaprobe train` whose task predicts depth ({', '.join(PREDICTS)}), "
        f"found {found}; train a stage of one of these tasks with it"
    )


def _protocol(header: Checkpoint, data: Any, rules: dict[str, Any]) -> Protocol:
    """Return the rules, with what was left open as is usual for task and dataset."""
    known = {field.name: field for field in fields(Protocol)}
    for name in rules:
        lookup(known, name, "rule")
    protocol = Protocol(**rules).for_dataset(str(data).partition(":")[0] if isinstance(data, str | Path) else "")
    scaling, crops = PREDICTS[header.task]
    return replace(
        protocol,
        scaling=scaling if protocol.scaling is None else protocol.scaling,
        crops=crops if protocol.crops is None else protocol.crops,
    )


def _dataset(data: str | Path | Dataset) -> tuple[Dataset, str]:
    """Return a dataset with depth, and where it comes from."""
    named = isinstance(data, str | Path)
    dataset, source = (open_dataset(data), str(data)) if named else (data, type(data).__name__)
    missing = {"image", "depth"} - dataset.gives
    if missing:
        raise DataError(
            f"expected a dataset with depth, found {source}, which gives {', '.join(sorted(dataset.gives))}; "
            "give one as nyuv2:DIR:test or ibims1:DIR"
        )
    return dataset, source


def _samples(dataset: Dataset, chosen: list[int]) -> Iterator[Sample]:
    """Yield the samples that are chosen, read ahead, with the fields that a score needs."""
    needs = frozenset({"image", "depth", "valid"}) | (FINE if dataset.gives >= FINE else frozenset())

    def read(index: int) -> Sample:
        sample = dataset.some(index, needs) if hasattr(dataset, "some") else dataset[index]
        return {name: sample[name] for name in needs & sample.keys()}

    following = iter(chosen)
    with ThreadPoolExecutor(READERS) as readers:
        reading = deque(readers.submit(read, index) for index in islice(following, 8 * READERS))
        while reading:
            sample = reading.popleft().result()
            reading.extend(readers.submit(read, index) for index in islice(following, 1))
            yield sample


def _batches(samples: Iterator[Sample], batch: int) -> Iterator[list[Sample]]:
    """Yield neighbours of one size, at most `batch` of them."""
    waiting: list[Sample] = []
    for sample in samples:
        if waiting and (len(waiting) == batch or waiting[0]["image"].shape != sample["image"].shape):
            yield waiting
            waiting = []
        waiting.append(sample)
    if waiting:
        yield waiting


def _described(checkpoint: str | Path, header: Checkpoint, trained: Trained) -> dict[str, Any]:
    """Return what a result says of the model."""
    return {
        "reference": str(checkpoint),
        "hash": file_hash(checkpoint),
        "backbone_hash": weights_hash(trained.backbone.model),
        "stage": header.stage,
        "task": header.task,
        "architecture": header.architecture,
        "size": list(trained.task.size),
        "step": header.step,
        "seed": header.seed,
    }
