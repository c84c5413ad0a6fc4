"""What `evaluate` was asked to do, and what its results say of model and images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cka_probe.errors import DataError
from cka_probe.images.datasets import Dataset
from cka_probe.images.stream import list_hash
from cka_probe.models.checkpoint import Checkpoint, Trained, file_hash
from cka_probe.models.load import weights_hash
from cka_probe.progress import Progress


@dataclass(frozen=True)
class EvaluationRequest:
    """What `evaluate` was asked to do, whatever the task.

    Attributes:
        checkpoint: Its file.
        header: What stands at its beginning.
        data: A dataset, or what `open_dataset` takes for one.
        batch: Images in a forward pass; None: as many as a usual device has room for.
        device: `auto`, `cpu`, `cuda` …
        keep: A folder for the predictions, or None.
        progress: Called with the number of images scored so far, and of all.
    """

    checkpoint: str | Path
    header: Checkpoint
    data: str | Path | Dataset
    batch: int | None
    device: str
    keep: str | Path | None
    progress: Progress

    def __post_init__(self):
        if self.batch is not None and self.batch < 1:
            raise DataError(f"expected at least one image in a batch, found {self.batch}")

    def described(self, trained: Trained) -> dict[str, Any]:
        """Return what a result says of the model."""
        return {
            "reference": str(self.checkpoint),
            "hash": file_hash(self.checkpoint),
            "backbone_hash": weights_hash(trained.backbone.model),
            "stage": self.header.stage,
            "task": self.header.task,
            "architecture": self.header.architecture,
            "size": list(trained.task.size),
            "step": self.header.step,
            "seed": self.header.seed,
        }


def describe_images(source: str, hashes: list[str]) -> dict[str, Any]:
    """Return what a result records about its images: their source, one hash of their contents, and their number."""
    return {"source": source, "hash": list_hash(hashes), "num": len(hashes)}
