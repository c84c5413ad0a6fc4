"""Which classes are in a view, learnt from labels: classification in the domain that is fine-tuned on.

Encoder, mean over its last feature map, one linear layer, binary cross-entropy of each class (logit z, target t):

    L = mean over images and classes of log(1 + e^z) - t z,    t = [n_k / n >= least]

where n_k of the n labelled pixels of the view are of class k. It is a control. An arm that learnt to name objects
differs from one that learnt the depth of streets in two ways: its task is classification, and its images are others.
This one classifies on the images of the depth arms, at image level and with no decoder. It uses labels, those that
segmentation is trained on, if only whether a class is there: it is no self-supervised arm, and no table may call it so.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cka_probe.errors import DataError
from cka_probe.images.sample import IGNORE, Sample
from cka_probe.lab.tasks.augment import crop_and_flip, image_size
from cka_probe.lab.tasks.classification import LinearHead
from cka_probe.lab.tasks.decoders import last_map
from cka_probe.lab.tasks.task import check_options
from cka_probe.lab.transforms import flips, random_area
from cka_probe.models.backbone import Backbone


@dataclass(frozen=True)
class SceneClass:
    """Say which classes a view shows.

    Attributes:
        size: Height and width of the network's input, pixels.
        classes: How many there are; labels are 0 to classes - 1, and 255 where nothing is said.
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
        return LinearHead(last_map(backbone)[0], self.classes)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `present` (classes,) float32: 1, 0, or NaN, not known.

        Raises:
            DataError: A label is none of the classes.
        """
        fields = {name: sample[name] for name in ("image", "labels")}
        shape = image_size(fields["image"])
        box, flip = (0, 0, *shape), False
        if train:
            box = random_area(*shape, generator, self.scale, self.size[1] / self.size[0])
            flip = flips(generator)
        seen = crop_and_flip(fields, box, self.size, flip=flip)
        return {"image": seen["image"], "present": self.present(seen["labels"])}

    def present(self, labels: Tensor) -> Tensor:
        """Return which classes cover at least `least` of the labelled pixels, (classes,) float32; NaN without any.

        Args:
            labels: (h, w) int64, 255 = ignore.
        """
        known = labels[labels != IGNORE]
        if len(known) and not 0 <= known.min() <= known.max() < self.classes:
            wrong = known[(known < 0) | (known >= self.classes)][0]
            raise DataError(
                f"scene_class: expected labels from 0 to {self.classes - 1} or {IGNORE}, found {int(wrong)}; set the "
                "stage's options.classes to the number of classes of its data"
            )
        shares = torch.bincount(known, minlength=self.classes) / len(known)
        return torch.where(shares.isnan(), shares, (shares >= self.least).float())

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy in nats, mean over images and classes, and the share that is right beside it."""
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
        """Return the balanced accuracy, and what knowing nothing of an image but how often each class is there gives.

        The balanced accuracy of a class is the mean of the shares of images with and without it that are told right;
        its mean is over the classes that some images have and others have not, NaN where there is none. A constant
        answer has 0.5; its least cross-entropy, that of each class's rate p, is -p log p - (1 - p) log (1 - p).

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
    """Return the cross-entropy of each image and class, (n, classes); 0 where nothing is known."""
    losses = F.binary_cross_entropy_with_logits(logits, present.nan_to_num(), reduction="none")
    return losses * ~present.isnan()
