"""Image classification from labels: the supervised counterpart of the self-supervised tasks.

Encoder, mean over its last feature map, one linear layer, cross-entropy:

    L = -sum_k t_k log softmax(z)_k,    t_k = (1 - s) [k = category] + s / K

with K classes and label smoothing s (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016). A training
view is a box with a random share of the image's area, mirrored one time in two, as usual for classifiers.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cka_probe.errors import DataError
from cka_probe.images.sample import Sample
from cka_probe.lab.tasks.decoders import maps
from cka_probe.lab.tasks.task import check_options
from cka_probe.lab.transforms.augment import random_view
from cka_probe.models.backbone import Backbone, Preprocessing


class LinearHead(nn.Linear):
    """(n, channels, h, w) -> (n, classes): the mean over positions, then a linear layer of small initial weights."""

    def __init__(self, channels: int, classes: int):
        super().__init__(channels, classes)
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return logits, float32."""
        return super().forward(feature_map.mean((-2, -1))).float()


@dataclass(frozen=True)
class Classification:
    """Name an image's class.

    Attributes:
        size: Height and width of the network's input, pixels.
        classes: Number of classes; categories are 0 to classes - 1.
        label_smoothing: Share of the target that is spread evenly over all classes.
        scale: Least and most share of an image's area that a training view shows.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image", "category"})

    size: tuple[int, int]
    classes: int
    label_smoothing: float = 0.0
    scale: tuple[float, float] = (0.08, 1.0)

    def __post_init__(self):
        checks = [
            ("`classes` of 2 or more", self.classes, self.classes >= 2),
            ("`label_smoothing` in [0, 1), 0.1 for Swin", self.label_smoothing, 0 <= self.label_smoothing < 1),
            ("`scale` = [least, most] in (0, 1]", list(self.scale), 0 < self.scale[0] <= self.scale[1] <= 1),
        ]
        check_options("classification", checks)

    def head(self, backbone: Backbone) -> nn.Module:
        """Return the linear layer."""
        return LinearHead(maps(backbone)[-1][0], self.classes)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `category` () int64.

        Raises:
            DataError: The category is not one of the classes.
        """
        category = sample["category"]
        if not 0 <= category < self.classes:
            raise DataError(
                f"classification: expected a category from 0 to {self.classes - 1}, found {int(category)}; set the "
                "stage's options.classes to the number of classes of its data"
            )
        image = {"image": sample["image"]}
        if train:
            return random_view(image, self.size, generator, self.scale) | {"category": category}
        return {"image": Preprocessing(self.size).fit(image["image"]), "category": category}

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy in nats, mean over the batch, and the accuracy."""
        logits = self.predict(backbone, head, batch["image"])
        loss = F.cross_entropy(logits, batch["category"], label_smoothing=self.label_smoothing)
        return loss, {"correct": (logits.argmax(1) == batch["category"]).float().mean()}

    def evaluate(self, backbone: Backbone, head: nn.Module, batch: Sample) -> dict[str, Tensor]:
        """Return whether each image is classified correctly, 1 or 0, and its unsmoothed cross-entropy in nats."""
        logits = self.predict(backbone, head, batch["image"])
        return {
            "correct": (logits.argmax(1) == batch["category"]).float(),
            "cross_entropy": F.cross_entropy(logits, batch["category"], reduction="none"),
        }

    def predict(self, backbone: Backbone, head: nn.Module, images: Tensor) -> Tensor:
        """Return logits, (n, classes) float32, of images (n, 3, h, w) in [0, 1]."""
        return head(backbone.features(images))
