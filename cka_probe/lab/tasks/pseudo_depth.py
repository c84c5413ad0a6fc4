"""Depth from video and from the predictions of another network: pseudo-depth pre-training as in SC-DepthV3.

    L = alpha L_photometric + beta L_consistency + gamma L_normal + delta L_ranking + epsilon L_relative

The first two losses are those of geometric pre-training (`tasks.reconstruction`); smoothness and the rectify network
are omitted. Where objects move or texture is missing, video contains no information, and the pseudo-depth of a network
that was trained on other images supplies it. Pseudo-depth is known up to a scale and a shift per image, so only its
shape is used: surface normals (`losses.normal_matching`); which of two pixels is farther, above all where the frames
disagree (`losses.depth_ranking`); and how sharply normals change at edges (`losses.relative_normal`). Each of these
modules says what its loss cannot see, and how a wrong shift misleads it.

The shift may be large: in files of LeReS's format the nearest pixel of each image is next to 0. Depth of rooms minus
its minimum has an abs_rel of 0.29 after median scaling, a constant 0.31, depth minus a quarter of its minimum 0.04.
`nearest` replaces the shift of the data by that of a scene whose depths span a given ratio; it is not part of the
published method, and 0 disables it.

Pairs of pixels are drawn in the loss from torch's global generator, which the trainer seeds in each step and process,
so that a resumed run draws the same pairs. The ranking loss decreases when all depths grow, and neither the photometric
nor the consistency loss changes if motion grows with them: the unit of depth drifts and has no meaning, and evaluation
scales by medians. Where depths are small their differences are small, and the ranking loss pulls almost evenly at all
pairs, correctly ordered ones included; `ranked_mean` fixes the unit. It is not part of the published method either. (A
free depth map of rooms went from an abs_rel of 0.35 to 0.31 in 250 steps of the three losses at a mean of 0.2, and to
0.14 at a mean of 3.)

Sun, Bian, Zhan, Yin, Reid & Shen, "SC-DepthV3: Robust Self-supervised Monocular Depth Estimation for Dynamic Scenes",
TPAMI 2023; weights as in its published code and as in MeSa's equation 5.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cka_probe.images.sample import Sample
from cka_probe.lab.geometry import normals_from_depth
from cka_probe.lab.losses import (
    confident_depth_ranking,
    edge_aware_relative_normal,
    normal_matching,
    pairs_across_edges,
    pairs_to_rank,
)
from cka_probe.lab.tasks.reconstruction import VideoHead, VideoTask, reconstruct
from cka_probe.lab.tasks.task import check_options
from cka_probe.models.backbone import Backbone

PARTS = ("photometric", "consistency", "normal_matching", "depth_ranking", "relative_normal")
"""Names of the parts of the loss, and of their weights: alpha to epsilon."""

SIDE = 256
"""Pixels, the shorter side of the images in which SC-DepthV3 measures distances from edges."""


@dataclass(frozen=True)
class PseudoDepth(VideoTask):
    """Explain each frame by the others, and follow the shape of pseudo-depth.

    Its head continues from that of geometric pre-training, without the rectify network, unless a stage sets
    `reset_head`.

    Attributes:
        normal_matching: Weight gamma.
        depth_ranking: Weight delta.
        relative_normal: Weight epsilon.
        nearest: Ratio of the nearest to the farthest pseudo-depth of an image, which determines the shift; 0 keeps the
            shift of the data.
        ratio: Least ratio of the pseudo-depths of two pixels for the pair to be ranked.
        ranked_mean: Mean that the predicted depth of each image is scaled to before ranking; 0 does not scale.
        reach: Scale of the distances from edges, 1 being 3 to 19 pixels; 0 takes the shorter side over 256.

    All others are as in `VideoTask`; `photometric` is alpha, `consistency` is beta.
    """

    name: ClassVar[str] = "pseudo_depth"
    continues: ClassVar[frozenset[str]] = frozenset({"geometric"})

    normal_matching: float = 0.1
    depth_ranking: float = 0.1
    relative_normal: float = 0.1
    nearest: float = 0.0
    ratio: float = 1.15
    ranked_mean: float = 0.0
    reach: float = 0.0

    def __post_init__(self):
        weights = {name: getattr(self, name) for name in PARTS}
        checks = [
            ("weights of 0 or more", weights, min(weights.values()) >= 0),
            ("`nearest` in [0, 1)", self.nearest, 0 <= self.nearest < 1),
            ("a `ratio` above 1", self.ratio, self.ratio > 1),
            ("a `reach` of 0 or more", self.reach, self.reach >= 0),
            ("a `ranked_mean` of 0 or more", self.ranked_mean, self.ranked_mean >= 0),
        ]
        check_options(self.name, checks)
        super().__post_init__()

    @property
    def needs(self) -> frozenset[str]:
        """Return the fields that it reads."""
        return super().needs | {"pseudo_depth"}

    def loss(self, backbone: Backbone, head: VideoHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and its parts; pairs come from torch's global generator."""
        frames = reconstruct(backbone, head, batch, self)
        pseudo = with_nearest(batch["pseudo_depth"], self.nearest) if self.nearest else batch["pseudo_depth"]
        normals, pseudo_normals = (normals_from_depth(depth, batch["K"]) for depth in (frames.depth, pseudo))
        ranked, scaled = pairs_to_rank(frames.agreement), frames.depth
        if self.ranked_mean:
            scaled = self.ranked_mean * scaled / scaled.mean((1, 2, 3), keepdim=True)
        across = pairs_across_edges(batch["image"], pseudo, pseudo_normals, self.reach or min(self.size) / SIDE)
        parts = {
            "photometric": frames.photometric,
            "consistency": frames.consistency,
            "normal_matching": normal_matching(normals, pseudo_normals),
            "depth_ranking": confident_depth_ranking(scaled, pseudo, ranked, self.ratio),
            "relative_normal": edge_aware_relative_normal(normals, pseudo_normals, across),
        }
        loss = sum(getattr(self, name) * part for name, part in parts.items())
        return loss, {name: part.detach() for name, part in parts.items()}


def with_nearest(pseudo_depth: Tensor, nearest: float) -> Tensor:
    """Return pseudo-depth, shifted in each image so that its nearest is a given share of its farthest.

    Up to scale, the result is the same for all increasing affine maps of the pseudo-depth.

    Args:
        pseudo_depth: (n, 1, H, W) float, up to scale and shift; 0 = none.
        nearest: The share, in (0, 1).

    Returns:
        Same shape; 0 where it was 0. An image of constant depth is returned unchanged.
    """
    known = pseudo_depth > 0
    far = pseudo_depth.amax((1, 2, 3), keepdim=True)
    near = torch.where(known, pseudo_depth, far).amin((1, 2, 3), keepdim=True)
    shift = torch.where(near < far, (nearest * far - near) / (1 - nearest), 0.0)
    return torch.where(known, pseudo_depth + shift, 0.0)
