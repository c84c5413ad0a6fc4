"""Each frame of a short video as the others show it: what SC-Depth's versions 1 to 3 have in common.

Depth of the target and of every source, motion between the target and every source, both ways. With S sources there
are 2 S ordered pairs (a, b), each of them a map of errors in the image a:

    I'_a(u) = I_b(pi(b_T_a D_a(u) K^-1 u)),  D'_b(u) likewise, z(u) the depth of that point seen from b
    error   = photometric(I_a, I'_a) * (1 - D_diff),  D_diff = |z - D'_b| / (z + D'_b) (the weight has no gradient)
    valid   = the point is in front of b, inside its image, and moving the pixel was better than leaving it:
              mean_c |I_a - I'_a| < mean_c |I_a - I_b|   (the auto-mask of Monodepth2)

Per pixel only the best map counts, so that what one source hides another explains; then the photometric and the
geometry consistency loss are means over the valid pixels.

Where this departs from the published code: D_diff is clamped and points behind a camera are masked (there it turns
negative); the identity motion is the identity; validity is a question of geometry, not of colour; a map that is not
valid at a pixel is not chosen there if another is; too few valid pixels are a share of the image, not 100.

Bian et al., IJCV 2021 and TPAMI 2022; Godard, Mac Aodha, Firman & Brostow, ICCV 2019.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from cka_probe.images.sample import Sample
from cka_probe.lab.geometry import inverse_pose, warp
from cka_probe.lab.losses import depth_difference, photometric_error, valid_mean
from cka_probe.lab.tasks.pose_network import pose_matrix
from cka_probe.models.backbone import Backbone


class VideoHead(Protocol):
    """What is trained with the encoder."""

    @property
    def depth(self) -> nn.Module:
        """From the pyramid to depth, (n, 1, h, w)."""
        ...

    @property
    def pose(self) -> nn.Module | None:
        """From two images to a motion, (n, 6); `None` if poses are known."""
        ...


@dataclass(frozen=True)
class ReconstructionOptions:
    """Options of the photometric comparison.

    Attributes:
        window: Side of SSIM's window, pixels.
        auto_mask: Whether pixels that were better left where they are do not count.
        min_select: Whether only the best map counts at each pixel; otherwise all valid ones do.
        least_valid: Share of the pixels that has to be valid for a loss other than 0.
        known_poses: Take `source_T_target` of the batch instead of the pose network's.
    """

    window: int = 7
    auto_mask: bool = True
    min_select: bool = True
    least_valid: float = 1e-3
    known_poses: bool = False


@dataclass(frozen=True)
class ErrorMaps:
    """The 2 S maps: for each source the target's, then for each source its own.

    Attributes:
        depth: (n, 1, h, w) of the target, up to scale.
        error: (n, 2 S, h, w) photometric, weighted by agreement.
        difference: (n, 2 S, h, w) D_diff.
        visible: (n, 2 S, h, w) bool, the geometry's say.
        valid: (n, 2 S, h, w) bool, the auto-mask's too.
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
    backbone: Backbone,
    head: VideoHead,
    batch: Sample,
    options: ReconstructionOptions | None = None,
    seen: Tensor | None = None,
) -> Reconstruction:
    """Return depth of the target and the losses over all pairs.

    Args:
        backbone: Of a kind with a pyramid.
        head: With `depth` (`DisparityDecoder`) and `pose` (`PoseNet`).
        batch: `image` (n, 3, h, w) and `sources` (n, S, 3, h, w) in [0, 1], `K` (n, 3, 3); `source_T_target`
            (n, S, 4, 4) with known poses only.
        options: How; by default as published.
        seen: (n, S, 1, h, w) bool, which pixels of the sources are images at all; all by default.
    """
    options = options or ReconstructionOptions()
    maps = error_maps(backbone, head, batch, options, seen)
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
    backbone: Backbone, head: VideoHead, batch: Sample, options: ReconstructionOptions, seen: Tensor | None = None
) -> ErrorMaps:
    """Return the maps of all pairs; arguments as of `reconstruct`."""
    target, sources = batch["image"], batch["sources"]
    n, num_sources, _, height, width = sources.shape
    frames = torch.cat([target[:, None], sources], 1)  # (n, 1 + S, 3, h, w)
    depths = head.depth(backbone.pyramid(frames.flatten(0, 1))).unflatten(0, frames.shape[:2])  # (n, 1 + S, 1, h, w)
    if seen is None:
        seen = torch.ones_like(sources[:, :, :1], dtype=torch.bool)
    there = torch.cat([torch.ones_like(seen[:, :1]), seen], 1)

    first, second = _pairs(num_sources)
    a, b = frames[:, first].flatten(0, 1), frames[:, second].flatten(0, 1)
    b_T_a = _poses(head, batch, options, a, b)
    depth_a, depth_b = depths[:, first].flatten(0, 1), depths[:, second].flatten(0, 1)
    # what is read at the same places is read at once
    field = torch.cat([b, depth_b, there[:, second].flatten(0, 1).to(b.dtype)], 1)
    read, z, visible = warp(field, depth_a, batch["K"].repeat_interleave(2 * num_sources, 0), b_T_a)
    image, read_depth, read_there = read[:, :3], read[:, 3:4], read[:, 4:]
    visible = visible & there[:, first].flatten(0, 1) & (read_there > 0.999)

    difference = depth_difference(z, read_depth, visible)
    error = photometric_error(a, image, options.window) * (1 - difference.detach())
    valid = visible
    if options.auto_mask:
        moved, left = ((a - other).abs().mean(1, keepdim=True) for other in (image, b))
        valid = visible & ((moved < left) | ~there[:, second].flatten(0, 1))  # unseen: no better left there
    error, difference, visible, valid = (
        m.reshape(n, 2 * num_sources, height, width) for m in (error, difference, visible, valid)
    )
    return ErrorMaps(depths[:, 0], error, difference, visible, valid)


def selected(maps: ErrorMaps) -> tuple[Tensor, Tensor, Tensor]:
    """Return error, D_diff and validity, (n, 1, h, w) each, of the best valid map at each pixel."""
    best = torch.where(maps.valid, maps.error.detach(), torch.inf).argmin(1, keepdim=True)
    return maps.error.gather(1, best), maps.difference.gather(1, best), maps.valid.gather(1, best)


def _pairs(num_sources: int) -> tuple[list[int], list[int]]:
    """Return which frames are a and which are b; frame 0 is the target, and its maps come first."""
    sources = list(range(1, num_sources + 1))
    zeros = [0] * num_sources
    return zeros + sources, sources + zeros


def _poses(head: VideoHead, batch: Sample, options: ReconstructionOptions, a: Tensor, b: Tensor) -> Tensor:
    """Return b_T_a of all pairs (a, b), (2 n S, 4, 4)."""
    if options.known_poses or head.pose is None:
        source_T_target = batch["source_T_target"]
        return torch.cat([source_T_target, inverse_pose(source_T_target)], 1).flatten(0, 1)
    return pose_matrix(head.pose(a, b))
