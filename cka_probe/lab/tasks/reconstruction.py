"""Tasks that explain each frame of a short video by the others: what SC-Depth's versions 1 to 3 share.

The networks predict the depth of the target and of every source, and the motion between the target and every source,
both ways. With S sources there are 2 S ordered pairs (a, b), each with a map of errors in the image a:

    I'_a(u) = I_b(pi(b_T_a D_a(u) K^-1 u)),  D'_b(u) likewise, z(u) the depth of that point seen from b
    error   = photometric(I_a, I'_a) * (1 - D_diff),  D_diff = |z - D'_b| / (z + D'_b) (the weight has no gradient)
    valid   = the point is in front of b and inside its image, and warping explains the pixel better than no motion:
              mean_c |I_a - I'_a| < mean_c |I_a - I_b|   (the auto-mask of Monodepth2)

Only the best map counts at each pixel, so that one source explains what another occludes. The photometric and the
geometry consistency loss are means over the valid pixels. Depth is known up to one scale for all images.

Differences from the published code: D_diff is clamped and points behind a camera are masked (D_diff is negative there);
the identity motion is the identity; validity depends on geometry, not on colour; a map that is invalid at a pixel is
not selected there if another is valid; the least number of valid pixels is a share of the image, not 100.

A training view is the largest box with the network's aspect ratio at a random position, each side shortened by a factor
of up to `crop`, mirrored one time in two; K is adjusted.

Bian et al., IJCV 2021 and TPAMI 2022; Godard, Mac Aodha, Firman & Brostow, ICCV 2019.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from cka_probe.images.sample import Sample
from cka_probe.lab.evaluation.depth import depth_errors, median_scaled, valid_depth
from cka_probe.lab.geometry import inverse_pose, pose_matrix, warp
from cka_probe.lab.losses import depth_difference, photometric_error, valid_mean, valid_mean_each
from cka_probe.lab.tasks.decoders import maps
from cka_probe.lab.tasks.disparity import DisparityDecoder, PoseNet, published_trunks
from cka_probe.lab.tasks.task import check_options, check_sides
from cka_probe.lab.transforms import flips, largest, uniform
from cka_probe.lab.transforms.augment import crop_and_flip, image_size
from cka_probe.models.backbone import Backbone


class VideoHead(nn.Module):
    """The networks that are trained with the encoder.

    Attributes:
        depth: From the pyramid to depth.
        pose: From two images to six numbers; `None` if poses are known.
        rectify: From two images to three angles; `None` if sources are not rectified.
    """

    def __init__(self, depth: DisparityDecoder, pose: PoseNet | None, rectify: PoseNet | None = None):
        super().__init__()
        self.depth, self.pose, self.rectify = depth, pose, rectify


@dataclass(frozen=True)
class VideoTask:
    """Options and networks that `Geometric` and `PseudoDepth` share.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, at least 64.
        photometric: Weight of the photometric loss.
        consistency: Weight of the geometry consistency loss.
        window: Side of SSIM's window, pixels.
        auto_mask: Whether to ignore pixels that no motion explains better.
        min_select: Whether only the best map counts at each pixel; otherwise all valid maps do.
        least_valid: Least share of valid pixels for a loss other than 0.
        min_depth: Nearest depth that can be predicted, in the network's own unit.
        max_depth: Farthest.
        start: Depth that untrained weights predict.
        crop: Largest factor by which a side of the view is shortened, at least 1.
        poses: "learned", or "known": the measured `source_T_target`, to find out whether depth or motion fails to
            learn. With known poses it is not pre-training from video alone.
        truth: Whether the data has `depth`, which only evaluation then reads.
        pose_weights: ResNet-18 that the pose network and the rectify network begin with (`published_trunks`); "" for
            random weights.
    """

    name: ClassVar[str] = "video"

    size: tuple[int, int]
    photometric: float = 1.0
    consistency: float = 0.1
    window: int = 7
    auto_mask: bool = True
    min_select: bool = True
    least_valid: float = 1e-3
    min_depth: float = 0.1
    max_depth: float = 100.0
    start: float = 0.2
    crop: float = 1.15
    poses: str = "learned"
    truth: bool = False
    pose_weights: str = ""

    def __post_init__(self):
        check_sides(self.name, self.size)
        checks = [
            ("an odd `window`", self.window, self.window >= 1 and self.window % 2 == 1),
            ("`least_valid` in [0, 1)", self.least_valid, 0 <= self.least_valid < 1),
            ("`min_depth` above 0", self.min_depth, self.min_depth > 0),
            (f"`max_depth` above {self.min_depth}", self.max_depth, self.max_depth > self.min_depth),
            ("`start` between the two depths", self.start, self.min_depth < self.start < self.max_depth),
            ("`crop` of at least 1", self.crop, self.crop >= 1),
            ("`poses` learned or known", self.poses, self.poses in ("learned", "known")),
        ]
        check_options(self.name, checks)

    @property
    def needs(self) -> frozenset[str]:
        """Return the fields that it reads."""
        known = {"source_T_target"} if self.poses == "known" else set()
        return frozenset({"image", "sources", "K"} | known | ({"depth"} if self.truth else set()))

    def head(self, backbone: Backbone) -> VideoHead:
        """Return decoder and pose network."""
        depth = DisparityDecoder(maps(backbone), self.min_depth, self.max_depth, self.start)
        return VideoHead(depth, PoseNet() if self.poses == "learned" else None)

    def published(self) -> dict[str, Tensor]:
        """Return the weights that a new head begins with in place of random ones, by name."""
        return published_trunks(self.pose_weights, ["pose"] if self.poses == "learned" else [])

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return the needed fields at network size: images in [0, 1], K in the view's pixels, depth in metres."""
        fields = {name: sample[name] for name in self.needs}
        shape = image_size(sample["image"])
        if not train:
            return crop_and_flip(fields, largest(*shape, self.size, 0.5, 0.5), self.size)
        top, left, height, width = largest(*shape, self.size, uniform(generator), uniform(generator))
        h, w = (max(1, round(side / uniform(generator, 1.0, self.crop))) for side in (height, width))
        top, left = (
            first + round(uniform(generator) * (side - cut))
            for first, side, cut in ((top, height, h), (left, width, w))
        )
        return crop_and_flip(fields, (top, left, h, w), self.size, flip=flips(generator))

    def evaluate(
        self, backbone: Backbone, head: VideoHead, batch: Sample, visible: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the photometric error of each image, and with `truth` abs_rel and delta1 after median scaling.

        `abs_rel_constant` is the error of a constant depth, the baseline. `visible` is as of `reconstruct`.
        """
        maps = error_maps(backbone, head, batch, self, visible)
        error, _, valid = selected(maps) if self.min_select else (maps.error, maps.difference, maps.valid)
        values = {"photometric": valid_mean_each(error, valid)}
        if not self.truth:
            return values
        truth = batch["depth"]
        valid = valid_depth(truth, self.min_depth, self.max_depth)
        errors = depth_errors(median_scaled(maps.depth, truth, valid), truth, valid)
        constant = depth_errors(median_scaled(torch.ones_like(truth), truth, valid), truth, valid)
        names = {"abs_rel": errors["abs_rel"], "delta1": errors["delta1"], "abs_rel_constant": constant["abs_rel"]}
        return values | names

    def predict(self, backbone: Backbone, head: VideoHead, images: Tensor) -> Tensor:
        """Return depth up to scale, (n, 1, h, w) float32, of images (n, 3, h, w) in [0, 1]."""
        return head.depth(backbone.pyramid(images))


@dataclass(frozen=True)
class ErrorMaps:
    """The 2 S maps: those of the target, one for each source, then that of each source.

    Attributes:
        depth: (n, 1, h, w) of the target, up to scale.
        error: (n, 2 S, h, w) photometric, weighted by agreement.
        difference: (n, 2 S, h, w) D_diff.
        visible: (n, 2 S, h, w) bool: the point is in front of the other camera and inside its image.
        valid: (n, 2 S, h, w) bool: visible, and not masked by the auto-mask.
    """

    depth: Tensor
    error: Tensor
    difference: Tensor
    visible: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Reconstruction:
    """Depth and losses of a batch.

    Attributes:
        depth: (n, 1, h, w) of the target, up to scale, with gradient.
        photometric: Scalar, the photometric loss.
        consistency: Scalar, the geometry consistency loss.
        agreement: (n, 1, h, w) mean over the sources of 1 - D_diff where the geometry is valid, 1 elsewhere; without
            gradient. Low where things move.
    """

    depth: Tensor
    photometric: Tensor
    consistency: Tensor
    agreement: Tensor


def reconstruct(
    backbone: Backbone, head: VideoHead, batch: Sample, options: VideoTask, visible: Tensor | None = None
) -> Reconstruction:
    """Return depth of the target and the losses over all pairs.

    Args:
        backbone: With a pyramid of feature maps.
        head: Predicts depth and motion.
        batch: `image` (n, 3, h, w) and `sources` (n, S, 3, h, w) in [0, 1], `K` (n, 3, 3); `source_T_target`
            (n, S, 4, 4) with known poses only.
        options: Of the comparison: `window`, `auto_mask`, `min_select`, `least_valid`, `poses`.
        visible: (n, S, 1, h, w) bool, which pixels of the sources show the scene; all by default.
    """
    maps = error_maps(backbone, head, batch, options, visible)
    error, difference, valid = selected(maps) if options.min_select else (maps.error, maps.difference, maps.valid)
    num_sources = batch["sources"].shape[1]  # the first maps are those of the target
    agreement = torch.where(maps.visible, 1 - maps.difference, 1.0)[:, :num_sources].mean(1, keepdim=True)
    return Reconstruction(
        depth=maps.depth,
        photometric=valid_mean(error, valid, options.least_valid),
        consistency=valid_mean(difference, valid, options.least_valid),
        agreement=agreement.detach(),
    )


def error_maps(
    backbone: Backbone, head: VideoHead, batch: Sample, options: VideoTask, visible: Tensor | None = None
) -> ErrorMaps:
    """Return the maps of all pairs; arguments as of `reconstruct`."""
    target, sources = batch["image"], batch["sources"]
    n, num_sources, _, height, width = sources.shape
    frames = torch.cat([target[:, None], sources], 1)  # (n, 1 + S, 3, h, w)
    depths = head.depth(backbone.pyramid(frames.flatten(0, 1))).unflatten(0, frames.shape[:2])  # (n, 1 + S, 1, h, w)
    if visible is None:
        visible = torch.ones_like(sources[:, :, :1], dtype=torch.bool)
    scene = torch.cat([torch.ones_like(visible[:, :1]), visible], 1)  # (n, 1 + S, 1, h, w)

    targets, others = [0] * num_sources, list(range(1, num_sources + 1))
    first, second = targets + others, others + targets  # the maps of the target come first
    (a, b), (depth_a, depth_b), (scene_a, scene_b) = (
        (field[:, first].flatten(0, 1), field[:, second].flatten(0, 1)) for field in (frames, depths, scene)
    )
    # one warp samples all fields of b
    fields = torch.cat([b, depth_b, scene_b.to(b.dtype)], 1)
    K = batch["K"].repeat_interleave(2 * num_sources, 0)
    warped, z, inside = warp(fields, depth_a, K, _poses(head, batch, options, a, b))
    image, depth_there, scene_there = warped[:, :3], warped[:, 3:4], warped[:, 4:]
    inside = inside & scene_a & (scene_there > 0.999)

    difference = depth_difference(z, depth_there, inside)
    error = photometric_error(a, image, options.window) * (1 - difference.detach())
    valid = inside
    if options.auto_mask:
        moved, still = ((a - other).abs().mean(1, keepdim=True) for other in (image, b))
        valid = inside & ((moved < still) | ~scene_b)  # still cannot be judged where b shows no scene
    error, difference, inside, valid = (
        field.reshape(n, 2 * num_sources, height, width) for field in (error, difference, inside, valid)
    )
    return ErrorMaps(depths[:, 0], error, difference, inside, valid)


def selected(maps: ErrorMaps) -> tuple[Tensor, Tensor, Tensor]:
    """Return error, D_diff and validity, (n, 1, h, w) each, of the best valid map at each pixel."""
    best = torch.where(maps.valid, maps.error.detach(), torch.inf).argmin(1, keepdim=True)
    return maps.error.gather(1, best), maps.difference.gather(1, best), maps.valid.gather(1, best)


def _poses(head: VideoHead, batch: Sample, options: VideoTask, a: Tensor, b: Tensor) -> Tensor:
    """Return b_T_a of all pairs (a, b), (2 n S, 4, 4)."""
    if options.poses == "known" or head.pose is None:
        source_T_target = batch["source_T_target"]
        return torch.cat([source_T_target, inverse_pose(source_T_target)], 1).flatten(0, 1)
    return pose_matrix(head.pose(a, b))
