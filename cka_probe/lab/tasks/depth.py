"""Depth in metres from one image: the task that pre-trained encoders are fine-tuned for.

An encoder, a light decoder on its last feature map and the scale-invariant logarithmic loss, as in Xie et al.,
"Revealing the Dark Secrets of Masked Image Modeling" (CVPR 2023). A view is the largest box with the network's aspect
ratio, at a random position along the longer side, mirrored one time in two: any other scale would change the focal
length, and with it the apparent size of a metre. For a network of 480 x 480 on images of 640 x 480 these are the crops
of Xie et al., at the stored scale; `crop = "native"` shows smaller networks boxes at the stored scale too.

Two more of their augmentations are off by default: `cut_depth = 0.25` and `color_jitter = 0.5` are their values, in
their order: the band of depth is pasted first, and is cropped and jittered with the image.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn

from cka_probe import registry
from cka_probe.errors import RecipeError
from cka_probe.images.sample import Sample
from cka_probe.lab.evaluation.depth import depth_errors, valid_depth
from cka_probe.lab.losses import silog
from cka_probe.lab.tasks.decoders import DepthDecoder, maps
from cka_probe.lab.tasks.task import check_options
from cka_probe.lab.transforms import flips, largest, native, uniform
from cka_probe.lab.transforms.augment import crop_and_flip, cut_depth, image_size, jitter_colors
from cka_probe.models.backbone import Backbone

BOXES = {"largest": largest, "native": native}
"""Box of an image that a view shows, of (height, width, size, down, across)."""


@dataclass(frozen=True)
class Depth:
    """Predict metres.

    Attributes:
        size: Height and width of the network's input, pixels.
        min_depth: Metres; nearer measurements are ignored.
        max_depth: Metres; farther measurements are ignored, and no prediction is farther.
        variance_focus: Of the loss: 0 penalises a common factor fully, 1 not at all.
        width: Channels of the decoder's wide part; 0 takes the width of the patch embedding, or 64.
        flip_test: Whether evaluation averages the prediction with that of the mirrored image.
        crop: "largest", scaled to the network's size, or "native", of that size as it is stored.
        cut_depth: Probability that a training view has a band of its depth in the image.
        color_jitter: Probability of each of three changes of colour of a training view.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image", "depth"})

    size: tuple[int, int]
    min_depth: float = 1e-3
    max_depth: float = 10.0
    variance_focus: float = 0.5
    width: int = 0
    flip_test: bool = True
    crop: str = "largest"
    cut_depth: float = 0.0
    color_jitter: float = 0.0

    def __post_init__(self):
        near, far = self.min_depth, self.max_depth
        checks = [
            ("0 < min_depth < max_depth", f"{near} and {far}", 0 < near < far),
            ("`variance_focus` in [0, 1]", self.variance_focus, 0 <= self.variance_focus <= 1),
            ("`cut_depth`, a probability, in [0, 1]", self.cut_depth, 0 <= self.cut_depth <= 1),
            ("`color_jitter`, a probability, in [0, 1]", self.color_jitter, 0 <= self.color_jitter <= 1),
        ]
        check_options("depth", checks)
        registry.get(BOXES, self.crop, "crop")

    def head(self, backbone: Backbone) -> nn.Module:
        """Return the decoder."""
        channels, stride = maps(backbone)[-1]
        if stride != 32:
            raise RecipeError(f"depth: expected an encoder of stride 32, found {stride}; train a Swin or a ResNet")
        embedding = getattr(backbone.model, "patch_embed", None)
        width = self.width or (64 if embedding is None else embedding.proj.out_channels)
        return DepthDecoder(channels, width, self.max_depth)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `depth` (1, h, w) metres, 0 = not measured."""
        fields = {name: sample[name] for name in ("image", "depth")}
        if train and self.cut_depth and uniform(generator) < self.cut_depth:
            fields["image"] = cut_depth(fields["image"], fields["depth"], self.max_depth, generator)
        down, across = (uniform(generator), uniform(generator)) if train else (0.5, 0.5)
        box = BOXES[self.crop](*image_size(fields["image"]), self.size, down, across)
        cut = crop_and_flip(fields, box, self.size, flip=train and flips(generator))
        if train and self.color_jitter:
            cut["image"] = jitter_colors(cut["image"], self.color_jitter, generator)
        return cut

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss over the batch's valid pixels, and abs_rel, which is NaN if there are none."""
        depth, predicted = batch["depth"], self.predict(backbone, head, batch["image"])
        valid = self.valid(depth)
        relative = (predicted - depth).abs() / depth.clamp(min=self.min_depth) * valid
        abs_rel = relative.sum() / valid.sum()
        return silog(predicted, depth, valid, self.variance_focus), {"abs_rel": abs_rel.detach()}

    def evaluate(self, backbone: Backbone, head: nn.Module, batch: Sample) -> dict[str, Tensor]:
        """Return the depth errors per image, without any scaling to the truth."""
        predicted = self.predict(backbone, head, batch["image"])
        if self.flip_test:
            predicted = (predicted + self.predict(backbone, head, batch["image"].flip(-1)).flip(-1)) / 2
        predicted = predicted.clamp(min=self.min_depth)  # a logarithm follows
        return depth_errors(predicted, batch["depth"], self.valid(batch["depth"]))

    def predict(self, backbone: Backbone, head: nn.Module, images: Tensor) -> Tensor:
        """Return depth in metres, (n, 1, h, w) float32, of images (n, 3, h, w) in [0, 1]."""
        return head(backbone.features(images))

    def valid(self, depth: Tensor) -> Tensor:
        """Return which pixels are within the depth range, bool."""
        return valid_depth(depth, self.min_depth, self.max_depth)
