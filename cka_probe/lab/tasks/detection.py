"""Objects with their boxes, classes and masks: Mask R-CNN (He et al., ICCV 2017), torchvision's, on any encoder.

An encoder with one map, a vision transformer, gets the simple feature pyramid of Li et al., "Exploring Plain Vision
Transformer Backbones for Object Detection" (ECCV 2022): from the one map at stride 16, by deconvolutions and pooling,
maps at strides 4, 8, 16 and 32, each followed by a 1 x 1 and a 3 x 3 convolution of 256 channels with layer norms. An
encoder with several maps gets a feature pyramid network (Lin et al., CVPR 2017). A map of stride 64 is added for
proposals.

Strides have to be those of the boxes: where patches have 14 pixels, images are scaled by 14 / 16 before the encoder.

A training view is scaled by a random factor (`scale`; 1 = as large as fits), and a random part of the network's size
is cut out of it, or it is filled up with black; half are mirrored. Elsewhere an image is as large as fits. Boxes of
which a view shows less than a pixel are left out; crowds are neither taught nor scored as objects.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from timm.layers import LayerNorm2d
from torch import Generator, Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork, box_iou
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from cka_probe.errors import DataError, RecipeError
from cka_probe.images.sample import OBJECTS, Sample
from cka_probe.lab.tasks.decoders import Maps, maps
from cka_probe.lab.tasks.task import NO_OBJECT, check_options
from cka_probe.lab.transforms import flipped
from cka_probe.lab.transforms.views import fitting, flips, placed, uniform
from cka_probe.models.backbone import Backbone

WIDTH, STRIDE = 256, 16
"""Channels of the pyramid, and the stride of a plain transformer's map in it."""

ANCHORS = tuple((side,) for side in (32, 64, 128, 256, 512))
"""Sides of the anchors at each stride, pixels."""

SURE, OVERLAP = 0.5, 0.5
"""Least score and least overlap of what `recall50` and `precision50` count."""

Boxes = dict[str, Tensor]
"""`boxes` (N, 4), `labels` (N,) from 0 and, if detected, `scores` (N,), highest first."""


class SimplePyramid(nn.Module):
    """One map at stride 16 -> maps at strides 4, 8, 16 and 32."""

    def __init__(self, channels: int):
        super().__init__()
        half, quarter = channels // 2, channels // 4
        up = nn.ConvTranspose2d(channels, half, 2, stride=2)
        twice = nn.Sequential(up, LayerNorm2d(half), nn.GELU(), nn.ConvTranspose2d(half, quarter, 2, stride=2))
        scales = {4: (twice, quarter), 8: (nn.ConvTranspose2d(channels, half, 2, stride=2), half)}
        scales |= {16: (nn.Identity(), channels), 32: (nn.MaxPool2d(2), channels)}
        self.branches = nn.ModuleList(
            nn.Sequential(
                scale,
                nn.Conv2d(before, WIDTH, 1, bias=False),
                LayerNorm2d(WIDTH),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
                LayerNorm2d(WIDTH),
            )
            for scale, before in scales.values()
        )

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Return the maps, fine to coarse."""
        return [branch(pyramid[-1]) for branch in self.branches]


class ConvolutionalPyramid(nn.Module):
    """Maps at strides 4 to 32 -> maps of 256 channels, by a feature pyramid network; finer ones are not used."""

    def __init__(self, maps: Maps):
        super().__init__()
        self.used = [number for number, (_, stride) in enumerate(maps) if stride >= 4]
        self.network = FeaturePyramidNetwork([maps[number][0] for number in self.used], WIDTH)

    def forward(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Return the maps, fine to coarse."""
        used = OrderedDict((str(number), pyramid[number]) for number in self.used)
        return list(self.network(used).values())


class Neck(nn.Module):
    """From the maps of an encoder to those that Mask R-CNN reads, by name."""

    out_channels = WIDTH

    def __init__(self, maps: Maps):
        super().__init__()
        self.pyramid = SimplePyramid(maps[0][0]) if len(maps) == 1 else ConvolutionalPyramid(maps)
        self.last = LastLevelMaxPool()

    def forward(self, pyramid: Sequence[Tensor]) -> "OrderedDict[str, Tensor]":
        """Return maps at strides 4, 8, 16, 32 and 64."""
        outputs = [output.float() for output in self.pyramid(pyramid)]
        outputs, names = self.last(outputs, outputs, [str(number) for number in range(len(outputs))])
        return OrderedDict(zip(names, outputs, strict=True))


class DetectionHead(nn.Module):
    """Neck, region proposals and the heads of boxes and masks."""

    def __init__(self, maps: Maps, classes: int):
        super().__init__()
        anchors = AnchorGenerator(ANCHORS, ((0.5, 1.0, 2.0),) * len(ANCHORS))
        network = MaskRCNN(Neck(maps), classes + 1, rpn_anchor_generator=anchors)  # class 0 is the background
        self.neck, self.proposals, self.heads = network.backbone, network.rpn, network.roi_heads

    def forward(
        self, pyramid: Sequence[Tensor], images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return detections, in evaluation, and losses, in training."""
        features = self.neck(pyramid)
        height, width = images.shape[-2:]
        listed = ImageList(images.float(), [(height, width)] * len(images))
        boxes, losses = self.proposals(listed, features, targets)
        sizes = listed.image_sizes
        if targets is not None:
            return [], losses | self.heads(features, boxes, sizes, targets)[1]
        scores, offsets = self.heads.box_predictor(self.heads.box_head(self.heads.box_roi_pool(features, boxes, sizes)))
        parts = self.heads.postprocess_detections(scores, offsets, boxes, sizes)  # without masks, which are not scored
        return [dict(zip(("boxes", "scores", "labels"), row, strict=True)) for row in zip(*parts, strict=True)], {}


@dataclass(frozen=True)
class Detection:
    """Find the objects of each class.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, and for a vision transformer of its
            patches too.
        classes: Number of classes.
        scale: Least and greatest factor by which a training image is scaled; 1 = as large as fits.
        flip: Whether a training view is mirrored one time in two.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image", *OBJECTS})
    multiple: ClassVar[int] = 32

    size: tuple[int, int]
    classes: int
    scale: tuple[float, float] = (0.1, 2.0)
    flip: bool = True

    def __post_init__(self):
        tiled = not any(side % self.multiple for side in self.size)
        checks = [
            ("`classes` of 1 or more", self.classes, self.classes >= 1),
            ("`scale` = [least, most] above 0", list(self.scale), 0 < self.scale[0] <= self.scale[1]),
            (f"sides that are multiples of {self.multiple}", f"{self.size[0]} x {self.size[1]}", tiled),
        ]
        check_options("detection", checks)

    def head(self, backbone: Backbone) -> nn.Module:
        """Return pyramid, proposals and heads.

        Raises:
            RecipeError: The encoder's maps have other strides.
        """
        described = maps(backbone)
        strides = [stride for _, stride in described]
        if len(strides) > 1 and strides[-4:] != [4, 8, 16, 32]:
            raise RecipeError(
                f"detection: expected an encoder with one map, or with maps at strides 4, 8, 16 and 32, found {strides}"
                "; train a vision transformer, a Swin or a ResNet"
            )
        return DetectionHead(described, self.classes)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1], `boxes`, `box_classes`, `box_crowds` and `box_masks`.

        Raises:
            DataError: A class is not one of `classes`.
        """
        classes = sample["box_classes"]
        if len(wrong := classes[(classes < 0) | (classes >= self.classes)]):
            raise DataError(
                f"detection: expected classes from 0 to {self.classes - 1}, found {int(wrong[0])}; set the stage's "
                "options.classes to the number of classes of its data"
            )
        scale, down, across, mirrored = 1.0, 0.0, 0.0, False
        if train:
            scale, down, across = uniform(generator, *self.scale), uniform(generator), uniform(generator)
            mirrored = flips(generator) and self.flip
        view = placed({name: sample[name] for name in self.needs}, self.size, scale, down, across)
        view = flipped(view) if mirrored else view
        sides = view["boxes"][:, 2:] - view["boxes"][:, :2]
        shown = (sides >= 1).all(1) & view["box_masks"].any(-1).any(-1) & ~view["box_crowds"]
        return {"image": view["image"]} | {name: view[name][shown] for name in OBJECTS}

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the five losses of Mask R-CNN, and each."""
        targets = [
            {"boxes": objects["boxes"], "labels": objects["labels"] + 1, "masks": objects["masks"].to(torch.uint8)}
            for objects in truths(batch)
        ]
        _, losses = head(self._pyramid(backbone, batch["image"]), batch["image"], targets)
        total = torch.stack([*losses.values()]).sum()
        return total, {name.removeprefix("loss_"): loss.detach() for name, loss in losses.items()}

    def evaluate(self, backbone: Backbone, head: nn.Module, batch: Sample) -> dict[str, Tensor]:
        """Return `counts` (n, 1, 3) int64 for `summary`: objects, detections that are sure, and those that are right.

        A detection is right if its class is, and it overlaps by half an object that no better one has found.
        """
        rows = []
        for truth, found in zip(truths(batch), self.predict(backbone, head, batch["image"]), strict=True):
            sure = {name: values[found["scores"] >= SURE] for name, values in found.items()}
            rows.append((len(truth["labels"]), len(sure["labels"]), num_right(sure, truth)))
        return {"counts": torch.tensor(rows)[:, None]}

    def summary(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return recall50 and precision50 of sure detections over all images; NaN without any.

        Args:
            sums: `counts`, (1, 3).
        """
        objects, detections, right = sums["counts"][0].tolist()
        ratio = lambda of: right / of if of else float("nan")  # noqa: E731
        return {"recall50": ratio(objects), "precision50": ratio(detections)}

    def predict(self, backbone: Backbone, head: nn.Module, images: Tensor) -> list[Boxes]:
        """Return what is detected in images (n, 3, h, w) in [0, 1] of the network's size."""
        detections, _ = head(self._pyramid(backbone, images), images)
        return [
            {"boxes": found["boxes"], "labels": found["labels"] - 1, "scores": found["scores"]} for found in detections
        ]

    def detect(self, backbone: Backbone, head: nn.Module, images: Tensor) -> list[Boxes]:
        """Return what is detected in images (n, 3, H, W) in [0, 1] of any size, in their pixels."""
        height, width = images.shape[-2:]
        inputs = torch.stack([placed({"image": image}, self.size)["image"] for image in images.cpu()])
        factor = fitting(height, width, self.size)
        scales = [max(1, round(factor * width)) / width, max(1, round(factor * height)) / height]
        detections = self.predict(backbone, head, inputs.to(images.device))
        limits = images.new_tensor([width, height] * 2)
        for found in detections:
            found["boxes"] = torch.minimum(found["boxes"] / found["boxes"].new_tensor(scales * 2), limits)
        return detections

    def _pyramid(self, backbone: Backbone, images: Tensor) -> tuple[Tensor, ...]:
        """Return the encoder's maps, with a single one at stride 16 of these images."""
        described = maps(backbone)
        if len(described) > 1 or described[0][1] == STRIDE:
            return backbone.pyramid(images)
        size = [side // STRIDE * described[0][1] for side in images.shape[-2:]]
        return backbone.pyramid(interpolate(images, size, mode="bilinear", align_corners=False, antialias=True))


def truths(batch: Sample) -> list[Boxes]:
    """Return the objects of each image of a batch, without what fills them up; with their `masks`."""
    names = {"boxes": "boxes", "labels": "box_classes", "masks": "box_masks"}
    real = batch["box_classes"] != NO_OBJECT
    return [{name: batch[field][number][real[number]] for name, field in names.items()} for number in range(len(real))]


def num_right(found: Boxes, truth: Boxes) -> int:
    """Return how many detections, best first, each find another object of their class."""
    overlaps = box_iou(found["boxes"], truth["boxes"])
    overlaps[found["labels"][:, None] != truth["labels"]] = 0
    right = 0
    for row in overlaps:
        if len(row) and row.max() >= OVERLAP:
            right += 1
            overlaps[:, row.argmax()] = 0
    return right
