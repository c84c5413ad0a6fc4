"""Image classification from labels: the supervised counterpart of the self-supervised tasks.

Encoder, mean over its last feature map, one linear layer, cross-entropy:

    L = -sum_k t_k log softmax(z)_k,    t_k = (1 - s) [k = category] + s / K

with K classes and label smoothing s (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016). A training
view is a box with a random share of the image's area, mirrored one time in two, as usual for classifiers.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cka_probe.errors import DataError, RecipeError
from cka_probe.images.sample import Sample
from cka_probe.lab.tasks.augment import crop_and_flip, image_size
from cka_probe.lab.tasks.decoders import last_map
from cka_probe.lab.transforms import flips, random_area
from cka_probe.models.backbone import Backbone, Preprocessing


class LinearHead(nn.Linear):
    """(n, channels, h, w) -> (n, classes): the mean over places, then one linear layer, which starts near 0."""

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
        if self.classes < 2:
            raise RecipeError(f"classification: expected `classes` of 2 or more, found {self.classes}")
        if not 0 <= self.label_smoothing < 1:
            raise RecipeError(
                f"classification: expected `label_smoothing` in [0, 1), found {self.label_smoothing}; Swin takes 0.1"
            )
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise RecipeError(f"classification: expected `scale` = [least, most] in (0, 1], found {list(self.scale)}")

    def head(self, backbone: Backbone) -> nn.Module:
        """Return the linear layer."""
        return LinearHead(last_map(backbone)[0], self.classes)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `category` () int64.

        Raises:
            DataError: The category is not one of the classes.
        """
        image, category = sample["image"], sample["category"]
        if not 0 <= category < self.classes:
            raise DataError(
                f"classification: expected a category from 0 to {self.classes - 1}, found {int(category)}; set the "
                "stage's options.classes to the number of classes of its data"
            )
        if train:
            box = random_area(*image_size(image), generator, self.scale)
            image = crop_and_flip({"image": image}, box, self.size, flip=flips(generator))["image"]
        else:
            image = Preprocessing(self.size).fit(image)
        return {"image": image, "category": category}

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy in nats, mean over the batch, and the accuracy."""
        logits = self.predict(backbone, head, batch["image"])
        loss = F.cross_entropy(logits, batch["category"], label_smoothing=self.label_smoothing)
        return loss, {"correct": _correct(logits, batch["category"]).mean()}

    def evaluate(self, backbone: Backbone, head: nn.Module, batch: Sample) -> dict[str, Tensor]:
        """Return per image whether the prediction is correct, 0 or 1, and the cross-entropy in nats, without
        label smoothing.
        """
        logits = self.predict(backbone, head, batch["image"])
        return {
            "correct": _correct(logits, batch["category"]),
            "cross_entropy": F.cross_entropy(logits, batch["category"], reduction="none"),
        }

    def predict(self, backbone: Backbone, head: nn.Module, images: Tensor) -> Tensor:
        """Return logits, (n, classes) float32, of images (n, 3, h, w) in [0, 1]."""
        return head(backbone.features(images))


def _correct(logits: Tensor, category: Tensor) -> Tensor:
    """Return 1 where the largest logit is the category's, else 0, (n,) float32."""
    return (logits.argmax(1) == category).to(torch.float32)
