"""Depth and motion from video alone, without a measured metre: geometric pre-training as in SC-DepthV2.

    L = photometric L_P + consistency L_G + smoothness L_S  [+ L_t + L_c with `rectify`]

Depth of each frame (encoder and `DisparityDecoder`) and motion between frames (`PoseNet`) have to explain every
frame by the others; see `tasks.reconstruction`. Depth comes out up to one scale for all images. With `rectify`
a second network first turns each source until only translation is left, as hand-held cameras mostly rotate, and
rotation says nothing about depth; two losses of its own teach it (`losses.rectification`).

A pose network that starts from chance learnt nothing in trials at 64 pixels with `auto_mask` and `min_select` on, as
published, and learnt the direction of motion with both off. A likely reason: of two sources on either side one always
looks better for a wrong direction, and both options let only the better one count. Begin without them, or with pose
weights that know better, as the original does. A high rate kills the decoder in the same trials (1e-3; its ELUs end
where they have no slope), and depth is then a constant for good; 3e-4 to 5e-4 with gradients clipped at 1 did not.

A view is the largest box with the network's ratio of sides at a random place, each side cut by up to 1.15 on its
own, mirrored one time in two; K follows. Bian et al., "Auto-Rectify Network for Unsupervised Indoor Depth
Estimation", TPAMI 2022; weights as in its published code.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from cka_probe.images.sample import Sample
from cka_probe.lab.evaluation.depth import depth_errors, median_scaled, valid_depth
from cka_probe.lab.geometry import warp
from cka_probe.lab.losses import less_rotation, recognised_rotation, smoothness, valid_mean_each
from cka_probe.lab.tasks.augment import crop_and_flip, image_size
from cka_probe.lab.tasks.decoders import skip_maps
from cka_probe.lab.tasks.disparity import DisparityDecoder
from cka_probe.lab.tasks.pose_network import PoseNet, rotation_matrix
from cka_probe.lab.tasks.reconstruction import Reconstruction, ReconstructionOptions, error_maps, reconstruct, selected
from cka_probe.lab.tasks.task import check_options
from cka_probe.lab.transforms import flips, largest, uniform
from cka_probe.models.backbone import Backbone

TRUSTED = (0.02, 0.1)
"""Radians, mean over the angles: rotations found by the rectify network that it can be asked to find again."""

DRAWN = 0.05
"""Radians: angles drawn in their stead are at most this large."""


class GeometricHead(nn.Module):
    """What is trained beside the encoder.

    Attributes:
        depth: From the pyramid to depth.
        pose: From two images to six numbers; `None` if poses are known.
        rectify: From two images to three angles; `None` if nothing is rectified.
    """

    def __init__(self, depth: DisparityDecoder, pose: PoseNet | None, rectify: PoseNet | None = None):
        super().__init__()
        self.depth, self.pose, self.rectify = depth, pose, rectify


@dataclass(frozen=True)
class Geometric:
    """Explain each frame by the others.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, at least 64.
        photometric: Weight.
        consistency: Weight.
        smoothness: Weight.
        window: Side of SSIM's window, pixels.
        auto_mask: Whether pixels that were better left where they are do not count.
        min_select: Whether only the best map counts at each pixel.
        least_valid: Share of the pixels that has to be valid for a loss other than 0.
        rectify: Whether sources are first turned by a network that learns to.
        min_depth: Nearest depth that can be said, in the network's own unit.
        max_depth: Farthest.
        start: Depth that untrained weights say.
        crop: How much a side is cut at most, at least 1.
        poses: "learned", or "known": `source_T_target` as measured, to find out whether it is depth or motion that
            does not learn. Not geometric pre-training, whose point is to need no measurement.
        truth: Whether the data has `depth`, which evaluation (and nothing else) then reads.
    """

    size: tuple[int, int]
    photometric: float = 1.0
    consistency: float = 0.1
    smoothness: float = 0.1
    window: int = 7
    auto_mask: bool = True
    min_select: bool = True
    least_valid: float = 1e-3
    rectify: bool = False
    min_depth: float = 0.1
    max_depth: float = 100.0
    start: float = 0.2
    crop: float = 1.15
    poses: str = "learned"
    truth: bool = False

    def __post_init__(self):
        weights = (self.photometric, self.consistency, self.smoothness)
        checks = [
            ("sides that are multiples of 32, at least 64", self.size, all(s >= 64 and s % 32 == 0 for s in self.size)),
            ("weights of 0 or more", weights, min(weights) >= 0),
            ("an odd `window`", self.window, self.window >= 1 and self.window % 2 == 1),
            ("`least_valid` in [0, 1)", self.least_valid, 0 <= self.least_valid < 1),
            ("`min_depth` above 0", self.min_depth, self.min_depth > 0),
            (f"`max_depth` above {self.min_depth}", self.max_depth, self.max_depth > self.min_depth),
            ("`start` between the two depths", self.start, self.min_depth < self.start < self.max_depth),
            ("`crop` of at least 1", self.crop, self.crop >= 1),
            ("`poses` learned or known", self.poses, self.poses in ("learned", "known")),
            ("learned poses with `rectify`", self.poses, not (self.rectify and self.poses == "known")),
        ]
        check_options("geometric", checks)

    @property
    def needs(self) -> frozenset[str]:
        """Return the fields that are read."""
        known = {"source_T_target"} if self.poses == "known" else set()
        return frozenset({"image", "sources", "K"} | known | ({"depth"} if self.truth else set()))

    @property
    def reconstruction(self) -> ReconstructionOptions:
        """Return how images are compared."""
        return ReconstructionOptions(
            self.window, self.auto_mask, self.min_select, self.least_valid, self.poses == "known"
        )

    def head(self, backbone: Backbone) -> GeometricHead:
        """Return decoder, pose network and, if asked for, rectify network."""
        return GeometricHead(
            DisparityDecoder(skip_maps(backbone, "geometric"), self.min_depth, self.max_depth, self.start),
            PoseNet() if self.poses == "learned" else None,
            PoseNet(outputs=3, scale=1.0, halved=True) if self.rectify else None,
        )

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return the needed fields at network size: images in [0, 1], K in the view's pixels, depth in metres."""
        fields = {name: sample[name] for name in self.needs}
        return video_view(fields, self.size, self.crop, generator if train else None)

    def loss(self, backbone: Backbone, head: GeometricHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and its parts."""
        batch, seen, turning = self._rectified(head, batch)
        found: Reconstruction = reconstruct(backbone, head, batch, self.reconstruction, seen)
        smooth = smoothness(found.depth, batch["image"])
        loss = self.photometric * found.photometric + self.consistency * found.consistency + self.smoothness * smooth
        parts = {"photometric": found.photometric, "consistency": found.consistency, "smoothness": smooth} | turning
        return loss + sum(turning.values()), {name: part.detach() for name, part in parts.items()}

    def evaluate(self, backbone: Backbone, head: GeometricHead, batch: Sample) -> dict[str, Tensor]:
        """Return per image the photometric error, and with `truth` abs_rel and delta1 after median scaling.

        Beside them `abs_rel_constant`, what a constant depth has, which a depth that learned something is below.
        """
        batch, seen, _ = self._rectified(head, batch)
        found = error_maps(backbone, head, batch, self.reconstruction, seen)
        error, _, valid = selected(found) if self.min_select else (found.error, found.difference, found.valid)
        values = {"photometric": valid_mean_each(error, valid)}
        if not self.truth:
            return values
        truth = batch["depth"]
        valid = valid_depth(truth, self.min_depth, self.max_depth)
        errors = depth_errors(median_scaled(found.depth, truth, valid), truth, valid)
        constant = depth_errors(median_scaled(torch.ones_like(truth), truth, valid), truth, valid)
        return values | {
            "abs_rel": errors["abs_rel"],
            "delta1": errors["delta1"],
            "abs_rel_constant": constant["abs_rel"],
        }

    def predict(self, backbone: Backbone, head: GeometricHead, images: Tensor) -> Tensor:
        """Return depth up to scale, (n, 1, h, w) float32, of images (n, 3, h, w) in [0, 1]."""
        return head.depth(backbone.pyramid(images))

    def _rectified(self, head: GeometricHead, batch: Sample) -> tuple[Sample, Tensor | None, dict[str, Tensor]]:
        """Return the batch with turned sources, which of their pixels were seen, and what the turning costs."""
        if head.rectify is None:
            return batch, None, {}
        sources, shape = batch["sources"].flatten(0, 1), batch["sources"].shape[:2]
        target = batch["image"].repeat_interleave(shape[1], 0)
        K = batch["K"].repeat_interleave(shape[1], 0)
        before = head.rectify(target, sources)
        turned, seen = rotated(sources, before, K)
        after = head.rectify(target, turned)

        size = before.detach().abs().mean(1, keepdim=True)
        trusted = (size > TRUSTED[0]) & (size < TRUSTED[1])
        applied = torch.where(trusted, before.detach(), (2 * torch.rand_like(before) - 1) * DRAWN)
        again = torch.where(trusted[..., None, None], turned, rotated(sources, applied, K)[0])
        costs = {
            "less_rotation": less_rotation(before, after),
            "recognised": recognised_rotation(head.rectify(again, sources), applied),
        }
        return batch | {"sources": turned.unflatten(0, shape)}, seen.unflatten(0, shape), costs


def video_view(sample: Sample, size: tuple[int, int], crop: float, generator: Generator | None) -> Sample:
    """Return a view of a sample and all its fields.

    Args:
        sample: Fields of `cka_probe.images.sample`, `image` among them.
        size: Height and width of the view, pixels.
        crop: How much a side is cut at most, each on its own, at least 1.
        generator: What the view is drawn from; without one it is the middle, uncut and not mirrored.
    """
    shape = image_size(sample["image"])
    if generator is None:
        return crop_and_flip(sample, largest(*shape, size, 0.5, 0.5), size)
    top, left, height, width = largest(*shape, size, uniform(generator), uniform(generator))
    h, w = (max(1, round(side / uniform(generator, 1.0, crop))) for side in (height, width))
    top, left = (
        first + round(uniform(generator) * (side - cut)) for first, side, cut in ((top, height, h), (left, width, w))
    )
    return crop_and_flip(sample, (top, left, h, w), size, flip=flips(generator))


def rotated(images: Tensor, angles: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Return what cameras see that are turned on the spot.

    Args:
        images: (n, 3, H, W).
        angles: (n, 3) radians; `rotation_matrix` of them takes the turned camera's axes to the image's.
        K: (n, 3, 3).

    Returns:
        Images (n, 3, H, W), and which of their pixels the old ones show, (n, 1, H, W) bool.
    """
    T = torch.nn.functional.pad(rotation_matrix(angles), (0, 1, 0, 1))
    T = T + torch.nn.functional.pad(T.new_ones(1, 1), (3, 0, 3, 0))  # no translation: any depth will do
    turned, _, seen = warp(images, torch.ones_like(images[:, :1]), K, T)
    return turned, seen
