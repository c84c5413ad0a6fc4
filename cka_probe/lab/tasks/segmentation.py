"""The class of every pixel from one image: the fine-tuning that shows whether depth pre-training helps.

Encoder, one of four networks on top, cross-entropy over the labelled pixels of the batch,

    L = - 1/|V| sum_{(i, j) in V} log softmax(z(i, j))_{y(i, j)},    V = {y != 255}

as in Lao et al., "On the Viability of Monocular Depth Pre-training for Semantic Segmentation", ECCV 2024. The whole
image is scaled to the network's size, its labels by nearest neighbour, and mirrored one time in two; there is no other
augmentation. With `crop` a box of that size is cut out unscaled, with `area` a box of a random size is scaled, and
`color_jitter` changes its colours. The networks, from the largest to the smallest:

| name | reads | is |
|---|---|---|
| `skip` | every map of the pyramid | Monodepth2's decoder, and one more convolution at full size |
| `deeplab` | the last map, at stride 16 | DeepLabV3: pooling over several distances, 3 x 3, 1 x 1 |
| `dpt` | four blocks of a vision transformer | DPT's decoder, and two more convolutions |
| `linear` | the last map | one 1 x 1 convolution, a linear probe of the encoder |

They are built from the encoder and the number of classes. All but `dpt` take the maps of a pyramid, fine to coarse, and
return logits (n, classes, h, w), float32, at the stride of the map they read; the task scales them to the size of the
image. `skip` and `deeplab` continue with the decoder of a depth pre-training that had the same, except for
the last convolution; otherwise all their weights are new.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from cka_probe import registry
from cka_probe.images.classes import CITYSCAPES
from cka_probe.images.sample import IGNORE, Sample
from cka_probe.lab.evaluation.segmentation import confusion_matrices, mean_iou, pixel_accuracy
from cka_probe.lab.tasks.decoders import (
    DPT_BLOCKS,
    DeepLabHead,
    DptHead,
    Maps,
    SkipDecoder,
    at_scales,
    maps,
    output_layers,
)
from cka_probe.lab.tasks.task import check_labels, check_options, check_sides
from cka_probe.lab.transforms import resized
from cka_probe.lab.transforms.augment import bicubic_labels, random_view, resize_or_crop, vary_colors
from cka_probe.models.backbone import Backbone


class SkipHead(nn.Module):
    """Monodepth2's decoder under the name `decoder`, and logits from its finest features."""

    def __init__(self, maps: Maps, classes: int):
        super().__init__()
        self.decoder = SkipDecoder(maps)
        self.to_logits = output_layers(self.decoder, classes, scales=(1,))

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return logits at stride 1."""
        return at_scales(self.to_logits, self.decoder(pyramid))[1]


class LinearProbe(nn.Module):
    """One 1 x 1 convolution on the last map."""

    def __init__(self, maps: Maps, classes: int):
        super().__init__()
        self.to_logits = nn.Conv2d(maps[-1][0], classes, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return logits at the last map's stride."""
        return self.to_logits(pyramid[-1]).float()


NETWORKS: dict[str, Callable[[Backbone, int], nn.Module]] = {
    "skip": lambda backbone, classes: SkipHead(maps(backbone), classes),
    "deeplab": lambda backbone, classes: DeepLabHead(maps(backbone), classes),
    "dpt": DptHead,
    "linear": lambda backbone, classes: LinearProbe(maps(backbone), classes),
}

CONTINUES = {"skip": frozenset({"monodepth", "lidar"}), "deeplab": frozenset({"lidar"})}
"""Tasks of depth that may have a network's decoder."""


@dataclass(frozen=True)
class Segmentation:
    """Name the class of each pixel.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, at least 64, for the skip network.
        classes: Number of classes; labels are 0 to classes - 1, and 255 for unlabelled pixels.
        network: In `NETWORKS`.
        subset: Numbers of the classes of `miou_subset`, in addition to `miou` over all; may be empty.
        flip: Whether a training view is mirrored one time in two.
        crop: Whether a view is an unscaled box of the network's size: random in training, the middle otherwise.
        color_jitter: How much brightness, contrast and saturation of a training view vary (`augment.vary_colors`).
        area: Least and most share of the image's area that a training view shows, a random box scaled to the network's
            size; () for the whole image.
        bicubic_labels: Whether to scale training labels as `augment.bicubic_labels` does. Labels for evaluation are
            not, in contrast to the released code, so that the score shows the effect of the fault.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image", "labels"})

    size: tuple[int, int]
    classes: int
    network: str = "skip"
    subset: tuple[int, ...] = ()
    flip: bool = True
    crop: bool = False
    color_jitter: float = 0.0
    area: tuple[float, ...] = ()
    bicubic_labels: bool = False

    def __post_init__(self):
        registry.get(NETWORKS, self.network, "network")
        if self.network == "skip":
            check_sides("segmentation with network 'skip'", self.size)
        checks = [
            (f"`classes` from 2 to {IGNORE}", self.classes, 2 <= self.classes <= IGNORE),
            (
                f"a `subset` of the classes 0 to {self.classes - 1}, each once",
                list(self.subset),
                len(set(self.subset)) == len(self.subset) and set(self.subset) <= set(range(self.classes)),
            ),
            (
                f"`bicubic_labels` for the {len(CITYSCAPES)} classes of Cityscapes and KITTI alone",
                f"{self.classes} classes",
                not self.bicubic_labels or self.classes == len(CITYSCAPES),
            ),
            ("`color_jitter` in [0, 1]", self.color_jitter, 0 <= self.color_jitter <= 1),
            (
                "`area` = [least, most] in (0, 1]",
                list(self.area),
                not self.area or (len(self.area) == 2 and 0 < self.area[0] <= self.area[1] <= 1),
            ),
            ("`area` or `crop`", "both", not (self.area and self.crop)),
            ("`bicubic_labels` or `crop`, which scales nothing", "both", not (self.bicubic_labels and self.crop)),
        ]
        check_options("segmentation", checks)

    @property
    def continues(self) -> frozenset[str]:
        """Return the tasks whose decoder it can continue with, if it is of the same network: those of depth."""
        return CONTINUES.get(self.network, frozenset())

    @property
    def carries(self) -> tuple[str, ...]:
        """Return the prefix of the decoder's weights."""
        return ("context.",) if self.network == "deeplab" else ("decoder.",)

    @property
    def least_images(self) -> int:
        """Images at a time that its loss needs: DeepLabV3 normalises one value of each over the batch."""
        return 2 if self.network == "deeplab" else 1

    def head(self, backbone: Backbone) -> nn.Module:
        """Return the network on top of this encoder.

        Raises:
            RecipeError: The network cannot read the encoder's maps.
        """
        return NETWORKS[self.network](backbone, self.classes)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `labels` (h, w) int64, 255 = ignore.

        Raises:
            DataError: A label is not a class, or the image is smaller than the crop.
        """
        fields = {name: sample[name] for name in ("image", "labels")}
        check_labels("segmentation", fields["labels"], self.classes)
        if train and self.bicubic_labels:
            fields = resized(fields, self.size) | {"labels": bicubic_labels(fields["labels"], self.size)}
        if train and self.area:
            (height, width), (least, most) = self.size, self.area
            view = random_view(fields, self.size, generator, (least, most), ratio=width / height, mirror=self.flip)
        else:
            view = resize_or_crop(fields, self.size, generator if train else None, crop=self.crop, mirror=self.flip)
        if train and self.color_jitter:
            view["image"] = vary_colors(view["image"], self.color_jitter, generator)
        return view

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy in nats, mean over the batch's labelled pixels (0 without any), and accuracy."""
        logits, labels = self.predict(backbone, head, batch["image"]), batch["labels"]
        labelled = (labels != IGNORE).sum().clamp(min=1)
        right = (logits.argmax(1) == labels).sum() / labelled
        return cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum") / labelled, {"accuracy": right}

    def evaluate(self, backbone: Backbone, head: nn.Module, batch: Sample) -> dict[str, Tensor]:
        """Return cross_entropy (nats), accuracy_per_image, miou_per_image and confusion, for `summary`.

        (n,) float64 each, NaN for an image without labels, and (n, classes, classes) int64 [truth, prediction].
        """
        logits, labels = self.predict(backbone, head, batch["image"]), batch["labels"]
        confusion = confusion_matrices(logits.argmax(1), labels, self.classes).cpu()
        pixels = cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").cpu().double()
        values = {
            "cross_entropy": pixels.sum((1, 2)) / confusion.sum((1, 2)),
            "accuracy_per_image": pixel_accuracy(confusion),
            "miou_per_image": mean_iou(confusion),
        }
        if self.subset:
            values["miou_subset_per_image"] = mean_iou(confusion, self.subset)
        return values | {"confusion": confusion}

    def summary(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return miou, miou_subset where there is a subset, and accuracy, over all images.

        Args:
            sums: `confusion`, (classes, classes).
        """
        confusion = sums["confusion"]
        subset = {"miou_subset": float(mean_iou(confusion, self.subset))} if self.subset else {}
        return {"miou": float(mean_iou(confusion)), **subset, "accuracy": float(pixel_accuracy(confusion))}

    def predict(self, backbone: Backbone, head: nn.Module, images: Tensor) -> Tensor:
        """Return logits, (n, classes, h, w) float32, of images (n, 3, h, w) in [0, 1]."""
        reads_blocks = self.network == "dpt"
        logits = head(backbone.block_maps(images, DPT_BLOCKS) if reads_blocks else backbone.pyramid(images))
        size = images.shape[-2:]
        return logits if logits.shape[-2:] == size else interpolate(logits, size, mode="bilinear", align_corners=False)
