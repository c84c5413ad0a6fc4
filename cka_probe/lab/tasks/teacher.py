"""A teacher: depth up to scale and shift from one image, learned from the measured depth of other images.

It stands in for the network LeReS (Yin et al., "Learning to Recover 3D Scene Shape from a Single Image", CVPR
2021), whose depth maps pseudo-depth pre-training needs; its predictions are written as files
(`cka_probe.lab.pseudo_depth`). It has to be trained on other scenes than those it labels, of another style:

    L = L_affine + gradient_matching L_gradient          (`losses.affine`)

The loss does not depend on a unit, so a view may be any part of an image in any shape: a box with a random share of
its area, resized to the network's size, mirrored one time in two, with jittered colours. Evaluation resizes the whole
image, as LeReS and the labelling do.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from cka_probe.images.sample import Sample
from cka_probe.lab.evaluation.depth import depth_errors, valid_depth
from cka_probe.lab.losses import affine_invariant, gradient_matching, least_squares_aligned
from cka_probe.lab.losses.affine import ALIGNMENTS
from cka_probe.lab.tasks.decoders import maps
from cka_probe.lab.tasks.disparity import DisparityDecoder
from cka_probe.lab.tasks.task import check_options, check_sides
from cka_probe.lab.transforms.augment import jitter_colors, random_view, resize_or_crop
from cka_probe.models.backbone import Backbone

NEAREST, FARTHEST = 0.1, 10.0
"""Range of the decoder, in its own unit: the depths of a room differ by less than a factor of 100."""

SCORES = ("abs_rel", "delta1")


@dataclass(frozen=True)
class Teacher:
    """Predict depth up to scale and shift; larger is farther.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, at least 64.
        alignment: Of predictions with the ground truth in the loss, a name in `losses.affine.ALIGNMENTS`.
        trim: Share of an image's pixels, those of the largest errors, to ignore.
        gradient_matching: Weight of the second part of the loss, which sharpens edges; that of the first is 1.
        scales: Of gradient matching, each half as fine as the one before.
        scale: Least and most share of an image's area that a training view shows.
        colours: Probability of each of three colour changes of a training view.
        min_depth: Metres; nearer measurements are ignored.
        max_depth: Metres; farther ones are ignored.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image", "depth"})

    size: tuple[int, int]
    alignment: str = "median"
    trim: float = 0.0
    gradient_matching: float = 0.5
    scales: int = 4
    scale: tuple[float, float] = (0.4, 1.0)
    colours: float = 0.5
    min_depth: float = 1e-3
    max_depth: float = 10.0

    def __post_init__(self):
        check_sides("teacher", self.size)
        checks = [
            (f"`alignment` out of {', '.join(ALIGNMENTS)}", self.alignment, self.alignment in ALIGNMENTS),
            ("`trim` in [0, 1)", self.trim, 0 <= self.trim < 1),
            ("a weight `gradient_matching` of 0 or more", self.gradient_matching, self.gradient_matching >= 0),
            ("at least one of `scales`", self.scales, self.scales >= 1),
            ("`scale` = [least, most] in (0, 1]", list(self.scale), 0 < self.scale[0] <= self.scale[1] <= 1),
            ("`colours` in [0, 1]", self.colours, 0 <= self.colours <= 1),
            ("`min_depth` above 0 and below `max_depth`", self.min_depth, 0 < self.min_depth < self.max_depth),
        ]
        check_options("teacher", checks)

    def head(self, backbone: Backbone) -> nn.Module:
        """Return the decoder, which reads every map of the pyramid, for sharp edges."""
        return DisparityDecoder(maps(backbone), NEAREST, FARTHEST)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `depth` (1, h, w) metres, 0 = not measured."""
        fields = {name: sample[name] for name in ("image", "depth")}
        if not train:
            return resize_or_crop(fields, self.size, None)
        view = random_view(fields, self.size, generator, self.scale)
        return view | {"image": jitter_colors(view["image"], self.colours, generator)}

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum, and its parts before weighting."""
        inputs = (self.predict(backbone, head, batch["image"]), batch["depth"], self.valid(batch["depth"]))
        affine = affine_invariant(*inputs, alignment=self.alignment, trim=self.trim)
        matching = gradient_matching(*inputs, alignment=self.alignment, scales=self.scales)
        parts = {"affine_invariant": affine.detach(), "gradient_matching": matching.detach()}
        return affine + self.gradient_matching * matching, parts

    def evaluate(self, backbone: Backbone, head: nn.Module, batch: Sample) -> dict[str, Tensor]:
        """Return abs_rel and delta1 per image, after the scale (of 0 or more) and shift that fit the truth best.

        `abs_rel_constant` and `delta1_constant` are those of the mean depth of each image, the baseline.
        """
        depth, valid = batch["depth"], self.valid(batch["depth"])
        predicted = self.predict(backbone, head, batch["image"])
        values: dict[str, Tensor] = {}
        for prediction, suffix in ((predicted, ""), (torch.zeros_like(depth), "_constant")):
            aligned = least_squares_aligned(prediction, depth, valid, positive=True).clamp(min=self.min_depth)
            errors = depth_errors(aligned, depth, valid)
            values |= {f"{name}{suffix}": errors[name] for name in SCORES}
        return values

    def predict(self, backbone: Backbone, head: nn.Module, images: Tensor) -> Tensor:
        """Return depth up to scale and shift, (n, 1, h, w) float32, larger = farther, of images (n, 3, h, w)."""
        return head(backbone.pyramid(images))

    def valid(self, depth: Tensor) -> Tensor:
        """Return which pixels are within the depth range, bool."""
        return valid_depth(depth, self.min_depth, self.max_depth)
