"""Depth from video and from another network's guess: pseudo-depth pre-training as in SC-DepthV3.

    L = alpha L_photometric + beta L_consistency + gamma L_normal + delta L_ranking + epsilon L_relative

The first two are those of geometric pre-training (`tasks.reconstruction`); its smoothness and its rectify network
are gone. Where things move or nothing has texture, video says nothing, and there the pseudo-depth of a network
that was trained on other images speaks. It is known up to a scale and a shift, other ones in each image, so
only its shape is taken: how surfaces are turned (`losses.normal_matching`), which of two pixels is farther, above
all where the frames contradict each other (`losses.depth_ranking`), and how sharply surfaces turn at edges
(`losses.relative_normal`). What each of the three cannot see, and where a false shift misleads it, they say.

The shift may be large: files in LeReS's format have the nearest pixel of each image next to 0. Depth of rooms
less its minimum has an abs_rel of 0.29 after median scaling, where a constant has 0.31 and depth less a quarter of
its minimum 0.04. `nearest` replaces whatever shift the data have by that of a scene whose depths span a given
ratio; it is no part of the published method, and 0 leaves it out.

Pairs of pixels are drawn in the loss, from torch's global generator: the trainer seeds it anew in each step and
process, so a run that is resumed draws as if it had never stopped. The ranking loss falls when all depth grows,
and neither photometric nor consistency loss minds if motion grows with it: the unit of the depth drifts and means
nothing. Evaluation scales by medians. Where depth is small its differences are, and
the ranking loss pulls almost evenly at all pairs, those that are in order too; `ranked_mean` gives it a unit in
which it can be content, and is no part of the published method either. (A free depth map of rooms came from an
abs_rel of 0.35 to 0.31 in 250 steps of the three losses at a mean of 0.2, and to 0.14 at a mean of 3.)

Sun, Bian, Zhan, Yin, Reid & Shen, "SC-DepthV3: Robust Self-supervised Monocular Depth Estimation for Dynamic
Scenes", TPAMI 2023; weights as in its published code and as in MeSa's equation 5.
"""

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Generator, Tensor

from cka_probe.errors import RecipeError
from cka_probe.images.sample import Sample
from cka_probe.lab.geometry import normals_from_depth
from cka_probe.lab.losses import (
    confident_depth_ranking,
    edge_aware_relative_normal,
    normal_matching,
    pairs_across_edges,
    pairs_to_rank,
)
from cka_probe.lab.tasks.geometric import Geometric, GeometricHead, video_view
from cka_probe.lab.tasks.reconstruction import reconstruct
from cka_probe.models.backbone import Backbone

PARTS = ("photometric", "consistency", "normal_matching", "depth_ranking", "relative_normal")
"""Names of the parts of the loss, and of their weights: alpha to epsilon."""

SIDE = 256
"""Pixels, the shorter side of the images in which SC-DepthV3 measures distances from edges."""


@dataclass(frozen=True)
class PseudoDepth:
    """Explain each frame by the others, and take the shape of what is given.

    Its head goes on with that of geometric pre-training, less the rectify network, unless a stage says
    `reset_head`. All options that `Geometric` has too mean the same.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, at least 64.
        photometric: Weight alpha.
        consistency: Weight beta.
        normal_matching: Weight gamma.
        depth_ranking: Weight delta.
        relative_normal: Weight epsilon.
        nearest: Share of an image's farthest pseudo-depth that its nearest is taken to be, which sets the shift; 0
            leaves the data's own.
        ratio: How many times farther one pixel has to be in the pseudo-depth for a pair to be ranked.
        ranked_mean: Mean that the predicted depth of each image is brought to before its pixels are ranked, so
            that scale does not count; 0 ranks it as it is.
        reach: Scale of the distances from edges, 1 being 3 to 19 pixels; 0 takes the shorter side over 256.
        window: Side of SSIM's window, pixels.
        auto_mask: Whether pixels that were better left where they are do not count.
        min_select: Whether only the best map counts at each pixel.
        least_valid: Share of the pixels that has to be valid for a photometric and a consistency loss.
        min_depth: Nearest depth that can be said, in the network's own unit.
        max_depth: Farthest.
        start: Depth that untrained weights say.
        crop: How much a side is cut at most, at least 1.
        poses: "learned" or "known".
        truth: Whether the data has `depth`, which evaluation (and nothing else) then reads.
    """

    continues: ClassVar[frozenset[str]] = frozenset({"geometric"})

    size: tuple[int, int]
    photometric: float = 1.0
    consistency: float = 0.1
    normal_matching: float = 0.1
    depth_ranking: float = 0.1
    relative_normal: float = 0.1
    nearest: float = 0.0
    ratio: float = 1.15
    ranked_mean: float = 0.0
    reach: float = 0.0
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

    def __post_init__(self):
        weights = {name: getattr(self, name) for name in PARTS}
        if min(weights.values()) < 0:
            raise RecipeError(f"pseudo_depth: expected weights of 0 or more, found {weights}")
        if not 0 <= self.nearest < 1:
            raise RecipeError(f"pseudo_depth: expected `nearest` in [0, 1), found {self.nearest}")
        if not self.ratio > 1:
            raise RecipeError(f"pseudo_depth: expected a `ratio` above 1, found {self.ratio}")
        for name in ("reach", "ranked_mean"):
            if getattr(self, name) < 0:
                raise RecipeError(f"pseudo_depth: expected a `{name}` of 0 or more, found {getattr(self, name)}")
        try:
            _ = self.geometric
        except RecipeError as error:
            raise RecipeError(f"pseudo_depth, as {error}") from error

    @property
    def geometric(self) -> Geometric:
        """Return the task that learns the same from video alone."""
        return Geometric(**{f.name: getattr(self, f.name) for f in fields(Geometric) if hasattr(self, f.name)})

    @property
    def needs(self) -> frozenset[str]:
        """Return the fields that are read."""
        return self.geometric.needs | {"pseudo_depth"}

    def head(self, backbone: Backbone) -> GeometricHead:
        """Return decoder and pose network."""
        return self.geometric.head(backbone)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return the needed fields at network size, as geometric pre-training does."""
        inputs = {name: sample[name] for name in self.needs}
        return video_view(inputs, self.size, self.crop, generator if train else None)

    def loss(self, backbone: Backbone, head: GeometricHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and its parts; pairs come from torch's global generator."""
        found = reconstruct(backbone, head, batch, self.geometric.reconstruction)
        pseudo = with_nearest(batch["pseudo_depth"], self.nearest) if self.nearest else batch["pseudo_depth"]
        normals, pseudo_normals = (normals_from_depth(depth, batch["K"]) for depth in (found.depth, pseudo))
        ranked, scaled = pairs_to_rank(found.agreement), found.depth
        if self.ranked_mean:
            scaled = self.ranked_mean * scaled / scaled.mean((1, 2, 3), keepdim=True)
        across = pairs_across_edges(batch["image"], pseudo, pseudo_normals, self.reach or min(self.size) / SIDE)
        parts = {
            "photometric": found.photometric,
            "consistency": found.consistency,
            "normal_matching": normal_matching(normals, pseudo_normals),
            "depth_ranking": confident_depth_ranking(scaled, pseudo, ranked, self.ratio),
            "relative_normal": edge_aware_relative_normal(normals, pseudo_normals, across),
        }
        loss = sum(getattr(self, name) * part for name, part in parts.items())
        return loss, {name: part.detach() for name, part in parts.items()}

    def evaluate(self, backbone: Backbone, head: GeometricHead, batch: Sample) -> dict[str, Tensor]:
        """Return what geometric pre-training returns: the two are to be compared."""
        return self.geometric.evaluate(backbone, head, batch)

    def predict(self, backbone: Backbone, head: GeometricHead, images: Tensor) -> Tensor:
        """Return depth up to scale, (n, 1, h, w) float32, of images (n, 3, h, w) in [0, 1]."""
        return self.geometric.predict(backbone, head, images)


def with_nearest(pseudo_depth: Tensor, nearest: float) -> Tensor:
    """Return pseudo-depth shifted, in each image, so that its nearest is a given share of its farthest.

    What comes out is the same, up to scale, for all increasing affine maps of what goes in.

    Args:
        pseudo_depth: (n, 1, H, W) float, up to scale and shift; 0 = none.
        nearest: The share, in (0, 1).

    Returns:
        Same shape; 0 where it was 0. An image that is as far everywhere is left as it is.
    """
    known = pseudo_depth > 0
    far = pseudo_depth.amax((1, 2, 3), keepdim=True)
    near = torch.where(known, pseudo_depth, far).amin((1, 2, 3), keepdim=True)
    shift = torch.where(near < far, (nearest * far - near) / (1 - nearest), 0.0)
    return torch.where(known, pseudo_depth + shift, 0.0)
