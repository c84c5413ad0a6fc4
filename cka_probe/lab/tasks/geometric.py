"""Depth and motion from video alone, without measured depth: geometric pre-training as in SC-DepthV2.

    L = photometric L_P + consistency L_G + smoothness L_S  [+ L_t + L_c with `rectify`]

The depth of each frame (encoder and `DisparityDecoder`) and the motion between frames (`PoseNet`) have to explain every
frame by the others; see `tasks.reconstruction`. Hand-held cameras mostly rotate, and rotation contains no information
on depth. With `rectify`, a second network therefore first rotates each source until only translation is left; it is
trained by two losses of its own (`losses.rectification`).

In trials at 64 pixels a pose network with random weights learned nothing with `auto_mask` and `min_select` on, as
published, and learned the direction of motion with both off. A likely reason: of two sources on either side, one always
fits better for a wrong direction, and both options let only the better one count. Begin without them, or with
`pose_weights` of ImageNet, as the original does. A high learning rate destroys the decoder in the same trials (1e-3:
its ELUs saturate), after which depth stays constant; 3e-4 to 5e-4 with gradients clipped at 1 worked.

Bian et al., "Auto-Rectify Network for Unsupervised Indoor Depth Estimation", TPAMI 2022; weights as in its published
code.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from cka_probe.images.sample import Sample
from cka_probe.lab.geometry import rotation_matrix, warp
from cka_probe.lab.losses import less_rotation, recognised_rotation, smoothness
from cka_probe.lab.tasks.disparity import PoseNet, published_trunks
from cka_probe.lab.tasks.reconstruction import VideoHead, VideoTask, reconstruct
from cka_probe.lab.tasks.task import check_options
from cka_probe.models.backbone import Backbone

TRUSTED = (0.02, 0.1)
"""Range of the mean angle, radians, of predicted rotations that the rectify network is asked to recognise."""

DRAWN = 0.05
"""Largest angle, radians, of the random rotations that replace all others."""


@dataclass(frozen=True)
class Geometric(VideoTask):
    """Explain each frame by the others.

    Attributes:
        smoothness: Weight of the smoothness loss.
        rectify: Whether a network first rotates the sources.

    All others are as in `VideoTask`.
    """

    name: ClassVar[str] = "geometric"

    smoothness: float = 0.1
    rectify: bool = False

    def __post_init__(self):
        weights = (self.photometric, self.consistency, self.smoothness)
        checks = [
            ("weights of 0 or more", weights, min(weights) >= 0),
            ("learned poses with `rectify`", self.poses, not (self.rectify and self.poses == "known")),
        ]
        check_options(self.name, checks)
        super().__post_init__()

    def head(self, backbone: Backbone) -> VideoHead:
        """Return decoder, pose network and, with `rectify`, rectify network."""
        head = super().head(backbone)
        if self.rectify:
            head.rectify = PoseNet(outputs=3, scale=1.0, halved=True)
        return head

    def published(self) -> dict[str, Tensor]:
        """Return the weights that a new head begins with, those of the rectify network among them."""
        return super().published() | published_trunks(self.pose_weights, ["rectify"] if self.rectify else [])

    def loss(self, backbone: Backbone, head: VideoHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and its parts."""
        batch, visible, costs = self._rectified(head, batch)
        frames = reconstruct(backbone, head, batch, self, visible)
        smooth = smoothness(frames.depth, batch["image"])
        loss = self.photometric * frames.photometric + self.consistency * frames.consistency + self.smoothness * smooth
        parts = {"photometric": frames.photometric, "consistency": frames.consistency, "smoothness": smooth} | costs
        return loss + sum(costs.values()), {name: part.detach() for name, part in parts.items()}

    def evaluate(
        self, backbone: Backbone, head: VideoHead, batch: Sample, visible: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return what `VideoTask.evaluate` returns, of rectified sources with `rectify`."""
        batch, rectified, _ = self._rectified(head, batch)
        return super().evaluate(backbone, head, batch, visible if rectified is None else rectified)

    def _rectified(self, head: VideoHead, batch: Sample) -> tuple[Sample, Tensor | None, dict[str, Tensor]]:
        """Return the batch with rotated sources, which of their pixels show the scene, and the rectify losses."""
        if head.rectify is None:
            return batch, None, {}
        sources, shape = batch["sources"].flatten(0, 1), batch["sources"].shape[:2]
        target = batch["image"].repeat_interleave(shape[1], 0)
        K = batch["K"].repeat_interleave(shape[1], 0)
        before = head.rectify(target, sources)
        images, visible = rotated(sources, before, K)
        after = head.rectify(target, images)

        size = before.detach().abs().mean(1, keepdim=True)
        trusted = (size > TRUSTED[0]) & (size < TRUSTED[1])
        applied = torch.where(trusted, before.detach(), (2 * torch.rand_like(before) - 1) * DRAWN)
        to_recognise = torch.where(trusted[..., None, None], images, rotated(sources, applied, K)[0])
        losses = {
            "less_rotation": less_rotation(before, after),
            "recognised": recognised_rotation(head.rectify(to_recognise, sources), applied),
        }
        return batch | {"sources": images.unflatten(0, shape)}, visible.unflatten(0, shape), losses


def rotated(images: Tensor, angles: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images that rotated cameras would take.

    Args:
        images: (n, 3, H, W).
        angles: (n, 3) radians; `rotation_matrix` of them takes the rotated camera's axes to the image's.
        K: (n, 3, 3).

    Returns:
        Images (n, 3, H, W), and which of their pixels are inside the given images, (n, 1, H, W) bool.
    """
    T = pad(rotation_matrix(angles), (0, 1, 0, 1))
    T = T + pad(T.new_ones(1, 1), (3, 0, 3, 0))  # without translation every depth gives the same image
    warped, _, inside = warp(images, torch.ones_like(images[:, :1]), K, T)
    return warped, inside
