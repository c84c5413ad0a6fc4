"""A checkpoint and how it is shown images, whatever its task."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cka_probe.images.sample import Sample
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import Checkpoint, file_hash, read_header
from cka_probe.models.checkpoints.reading import is_safetensors
from cka_probe.models.load import load, weights_hash
from cka_probe.models.trained import Trained, load_trained

WHOLE = ("segmentation", "monodepth", "lidar", "flow", "inpainting", "teacher")
"""Tasks whose images are squeezed whole to the network's size, or cut out unscaled where they were trained so."""
BACKWARD = 2
"""How many times the memory of a forward pass is counted where gradients are taken."""


@dataclass(frozen=True)
class EvaluationModel:
    """A network on its device.

    Attributes:
        reference: What it was called.
        network: As `grad_cam` takes it.
        header: What stands at the beginning of a checkpoint with a head, else `None`.
        device: Where it is.
    """

    reference: str
    network: Trained | Backbone
    header: Checkpoint | None
    device: torch.device

    @classmethod
    def loaded(cls, reference: str | Path, device: torch.device) -> "EvaluationModel":
        """Load a checkpoint with its head, or what else a reference means.

        Raises:
            CheckpointError: It cannot be loaded.
        """
        path, header = Path(reference), None
        if path.is_file() and is_safetensors(path):
            header = read_header(path)
        header = header if header is not None and header.task else None
        network = load(reference) if header is None else load_trained(path)
        for part in [network] if header is None else [network.backbone, network.head]:
            part.to(device)
        return cls(str(reference), network, header, device)

    @property
    def task(self) -> str:
        """The name of its task, or ""."""
        return self.header.task if self.header else ""

    @property
    def backbone(self) -> nn.Module:
        """The encoder."""
        return self.network.backbone if isinstance(self.network, Trained) else self.network

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of its input, pixels; `None`: it takes what comes."""
        return self.backbone.preprocessing.size

    @property
    def squeezed(self) -> bool:
        """Whether it sees images as tasks in `WHOLE` do."""
        return self.task in WHOLE

    def view(self, sample: Sample) -> Sample:
        """Return what the network sees of a sample, with all its fields.

        Raises:
            DataError: The image is smaller than a box that is cut out unscaled.
        """
        if self.size is None:
            return sample
        from cka_probe.lab.tasks.augment import (  # the lab knows how it trained its networks
            crop_and_flip,
            resize_or_crop,
        )
        from cka_probe.lab.transforms import largest

        if self.squeezed:
            return resize_or_crop(sample, self.size, None, crop=self._unscaled)
        return crop_and_flip(sample, largest(*sample["image"].shape[-2:], self.size, 0.5, 0.5), self.size)

    def batch(self, usual: Callable[[torch.device, int, tuple[int, int]], int]) -> int:
        """Return how many images are shown at once."""
        return usual(self.device, BACKWARD, self.size) if self.size else 1

    def described(self) -> dict[str, Any]:
        """Return what a result says of the model."""
        views = "stored" if self.size is None else "middle" if not self.squeezed else "whole"
        said = {"reference": self.reference, "architecture": self.backbone.origin.architecture, "task": self.task}
        said |= {"view": "box" if self._unscaled else views, "notes": list(self.backbone.origin.notes)}
        if self.header is None:
            return said | {"hash": weights_hash(self.backbone.model), "stage": "", "seed": None}
        return said | {"hash": file_hash(self.reference), "stage": self.header.stage, "seed": self.header.seed}

    @property
    def _unscaled(self) -> bool:
        """Whether it was trained on unscaled boxes."""
        return self.squeezed and bool(getattr(self.network.task, "crop", False))
