"""Which classes are in a view, learned from labels: classification in the domain of the fine-tuning.

Encoder, mean over its last feature map, one linear layer, binary cross-entropy of each class (logit z, target t):

    L = mean over images and classes of log(1 + e^z) - t z,    t = [n_k / n >= least]

where n_k of the n labelled pixels of the view are of class k. It is a control. An arm that was trained to classify
objects differs from one that was trained on the depth of streets in two ways: the task and the images. This one
classifies the images of the depth arms, at image level and without a decoder. It uses the labels that segmentation is
trained on, if only the presence of classes, and must not be called self-supervised.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cka_probe.images.sample import IGNORE, Sample
from cka_probe.lab.tasks.classification import LinearHead
from cka_probe.lab.tasks.decoders import maps
from cka_probe.lab.tasks.task import check_labels, check_options
from cka_probe.lab.transforms.augment import random_view, resize_or_crop
from cka_probe.models.backbone import Backbone


@dataclass(frozen=True)
class SceneClass:
    """Predict which classes a view contains.

    Attributes:
        size: Height and width of the network's input, pixels.
        classes: Number of classes; labels are 0 to classes - 1, and 255 where unknown.
        least: Share of the labelled pixels from which a class counts as present.
        scale: Least and most share of an image's area that a training view shows.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image", "labels"})

    size: tuple[int, int]
    classes: int
    least: float = 0.005
    scale: tuple[float, float] = (0.2, 1.0)

    def __post_init__(self):
        checks = [
            (f"`classes` of 1 to {IGNORE}", self.classes, 1 <= self.classes <= IGNORE),
            ("`least` in (0, 1]", self.least, 0 < self.least <= 1),
            ("`scale` = [least, most] in (0, 1]", list(self.scale), 0 < self.scale[0] <= self.scale[1] <= 1),
        ]
        check_options("scene_class", checks)

    def head(self, backbone: Backbone) -> nn.Module:
        """Return the linear layer."""
        return LinearHead(maps(backbone)[-1][0], self.classes)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `present` (classes,) float32: 1, 0, or NaN where unknown.

        Raises:
            DataError: A label is not one of the classes.
        """
        fields = {name: sample[name] for name in ("image", "labels")}
        if train:
            ratio = self.size[1] / self.size[0]
            view = random_view(fields, self.size, generator, self.scale, ratio=ratio)
        else:
            view = resize_or_crop(fields, self.size, None)
        return {"image": view["image"], "present": self.present(view["labels"])}

    def present(self, labels: Tensor) -> Tensor:
        """Return which classes cover at least `least` of the labelled pixels, (classes,) float32; NaN without any.

        Args:
            labels: (h, w) int64, 255 = ignore.
        """
        check_labels("scene_class", labels, self.classes)
        known = labels[labels != IGNORE]
        shares = torch.bincount(known, minlength=self.classes) / len(known)
        return torch.where(shares.isnan(), shares, (shares >= self.least).float())

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy in nats, mean over images and classes, and the share of correct predictions."""
        logits, present = self.predict(backbone, head, batch["image"]), batch["present"]
        known = ~present.isnan()
        count = known.sum().clamp(min=1)
        right = ((logits > 0) == (present > 0.5)) & known
        return _losses(logits, present).sum() / count, {"correct": right.sum() / count}

    def evaluate(self, backbone: Backbone, head: nn.Module, batch: Sample) -> dict[str, Tensor]:
        """Return each image's cross-entropy in nats, (n,), and `present`, (n, classes, 2, 2): [truth, prediction]."""
        logits, present = self.predict(backbone, head, batch["image"]), batch["present"]
        known = ~present.isnan()
        both = 2 * (present > 0.5).long() + (logits > 0).long()
        counted = F.one_hot(both, 4) * known[..., None]
        cross_entropy = _losses(logits, present).mean(1)
        return {
            "cross_entropy": torch.where(known.any(1), cross_entropy, torch.nan),
            "present": counted.unflatten(-1, (2, 2)),
        }

    def summary(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the balanced accuracy, and the scores of the best constant prediction.

        The balanced accuracy of a class is the mean of the shares of correctly classified images with and without it.
        It is averaged over the classes that some images contain and others do not; NaN without any. A constant
        prediction has 0.5; its least cross-entropy, at each class's rate p, is -p log p - (1 - p) log (1 - p).

        Args:
            sums: `present`, (classes, 2, 2), summed over all images.
        """
        counts = sums["present"].double()
        images = counts.sum(2)
        right = counts.diagonal(dim1=1, dim2=2) / images
        rates = images / images.sum(1, keepdim=True)
        entropy = torch.special.entr(rates).sum(1)
        return {
            "balanced_accuracy": right.mean(1).nanmean().item(),
            "balanced_accuracy_constant": 0.5,
            "cross_entropy_constant": entropy.nanmean().item(),
            "varying": int((images > 0).all(1).sum()),
        }

    def predict(self, backbone: Backbone, head: nn.Module, images: Tensor) -> Tensor:
        """Return logits, (n, classes) float32, of images (n, 3, h, w) in [0, 1]."""
        return head(backbone.features(images))


def _losses(logits: Tensor, present: Tensor) -> Tensor:
    """Return the cross-entropy of each image and class, (n, classes); 0 where unknown."""
    losses = F.binary_cross_entropy_with_logits(logits, present.nan_to_num(), reduction="none")
    return losses * ~present.isnan()
