"""Depth from video, stereo or both, without measured depth: the objective of Monodepth2.

    L = 1/4 sum_s [ mean_u min_k e_k(u) + smoothness / s  L_smooth(sigma_s, I_s) ],    strides s = 1, 2, 4, 8

e_k are the photometric errors of the sources, warped onto the target by depth and pose at full size for every scale,
and, with `auto_mask`, of the unwarped sources (`losses.minimum`); the error is 0.85 (1 - SSIM) / 2 + 0.15 |I - I'| over
3 x 3 pixels. L_smooth is that of the disparity over its mean, at its own size (`losses.smoothness`). Pixels that leave
the image are compared with its border, as published: usually a source on the other side explains them better.

`PoseNet` predicts the motion of the camera from two images in order of time. The pose of a stereo partner is known, and
with it the unit: predictions times `unit` are metres, and 5.4 turns a baseline of 0.54 m into Monodepth2's 0.1. The
networks see jittered colours, the loss original ones.

Untrained weights predict a depth of about 0.2, of the order of the motion that an untrained `PoseNet` predicts; with
small and few images, what `tasks.geometric` says on how motion is learned applies here too.

Godard, Mac Aodha, Firman & Brostow, "Digging into Self-Supervised Monocular Depth Estimation", ICCV 2019.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from cka_probe.errors import DataError
from cka_probe.images.sample import Sample
from cka_probe.lab.evaluation.depth import errors_with_constant_baseline
from cka_probe.lab.geometry import axis_angle_matrix, inverse_pose, pose_matrix, warp
from cka_probe.lab.losses import NOISE, minimum_error, photometric_error, smoothness
from cka_probe.lab.tasks.decoders import at_full_size
from cka_probe.lab.tasks.disparity import DisparityHead, DisparityTask, PoseNet, published_trunks
from cka_probe.lab.tasks.task import check_options
from cka_probe.lab.transforms import color_jittered, uniform
from cka_probe.lab.transforms.augment import resize_or_crop
from cka_probe.models.backbone import Backbone

SOURCES = ("video", "stereo", "video_stereo")

WINDOW = 3
"""Side of SSIM's window, pixels."""


@dataclass(frozen=True)
class Monodepth(DisparityTask):
    """Explain a frame by its neighbours in time, by its stereo partner, or by both.

    Attributes:
        sources: "video", neighbours in time; "stereo", the partner; "video_stereo", the neighbours, then the partner.
        offsets: Times of the neighbours, in frames from the target, in the order of the data, as in its
            `?sources=-1,1`. Without effect for "stereo".
        auto_mask: Whether to ignore pixels that unwarped sources explain better.
        min_select: Whether only the best source counts at each pixel; otherwise their mean.
        smoothness: Weight at the finest scale.
        unit: Metres per unit of the network, which a stereo partner determines; without effect for "video".
        jitter: Probability that the networks see jittered colours.
        truth: Whether the data has `depth`, which only evaluation then reads.
        pose_weights: ResNet-18 that the pose network begins with (`published_trunks`); "" for random weights.

    All others are as in `DisparityTask`.
    """

    name: ClassVar[str] = "monodepth"
    unit_of_depth: ClassVar[str] = "the network's own unit"
    continues: ClassVar[tuple[str, ...]] = ("lidar",)

    sources: str = "video"
    offsets: tuple[int, ...] = (-1, 1)
    auto_mask: bool = True
    min_select: bool = True
    smoothness: float = 1e-3
    unit: float = 5.4
    jitter: float = 0.5
    truth: bool = False
    pose_weights: str = ""

    def __post_init__(self):
        super().__post_init__()
        checks = [
            (f"`sources` out of {', '.join(SOURCES)}", self.sources, self.sources in SOURCES),
            ("`offsets` other than 0, at least one", list(self.offsets), self.offsets and 0 not in self.offsets),
            ("a weight `smoothness` of 0 or more", self.smoothness, self.smoothness >= 0),
            ("`unit` above 0 metres", self.unit, self.unit > 0),
            ("`jitter`, a probability, in [0, 1]", self.jitter, 0 <= self.jitter <= 1),
        ]
        check_options(self.name, checks)

    @property
    def stereo(self) -> bool:
        """Return whether the last source is the stereo partner, so that depth is in metres."""
        return self.sources != "video"

    @property
    def neighbours(self) -> tuple[int, ...]:
        """Return the times of the sources whose poses are learned, in frames from the target."""
        return () if self.sources == "stereo" else self.offsets

    @property
    def needs(self) -> frozenset[str]:
        """Return the fields that it reads."""
        known = {"source_T_target"} if self.stereo else set()
        return frozenset({"image", "sources", "K"} | known | ({"depth"} if self.truth else set()))

    def pose_network(self) -> PoseNet | None:
        """Return the pose network; `None` where no poses are learned."""
        return PoseNet() if self.neighbours else None

    def published(self) -> dict[str, Tensor]:
        """Return the weights that a new head begins with in place of random ones, by name."""
        return published_trunks(self.pose_weights, ["pose"] if self.neighbours else [])

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return the needed fields at network size, and the images as the networks see them.

        Returns:
            `image`, `sources` in [0, 1], `K` in the view's pixels, poses and depth in metres; where colours may be
            jittered, `inputs` (1 + S, 3, h, w) in [0, 1], the target and its sources as the networks see them.

        Raises:
            DataError: The sources are not those of the options, or the pose of the stereo partner is unknown.
        """
        fields = {name: sample[name] for name in self.needs}
        self._check(fields)
        crop = resize_or_crop(fields, self.size, generator if train else None, crop=self.crop, mirror=self.flip)
        if not (train and self.jitter):
            return crop
        frames = {"image": crop["image"], "sources": crop["sources"]}
        if uniform(generator) < self.jitter:
            frames = color_jittered(frames, generator, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
        return crop | {"inputs": torch.cat([frames["image"][None], frames["sources"]])}

    def loss(self, backbone: Backbone, head: DisparityHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean over the scales, and its parts: photometric and smoothness loss.

        A third value is `left`, the share of the pixels that the auto-mask ignores at the finest scale.
        """
        inputs = self._inputs(batch)
        sigmas = head(backbone.pyramid(inputs[:, 0]))
        poses = self._poses(head, inputs, batch)
        unmoved = self.unmoved(batch) if self.auto_mask else None
        whole, photometric, smooth, shares = at_full_size(sigmas), [], [], []
        for stride, sigma in sigmas.items():
            depth = self.range.depth(whole[stride])
            noisy = None if unmoved is None else unmoved + NOISE * torch.randn_like(unmoved)
            error, left = minimum_error(self.explained(batch, depth, poses), noisy, self.min_select)
            photometric.append(error.mean())
            shares.append(left.float().mean())
            image = _smaller(batch["image"], sigma)
            smooth.append(self.smoothness / stride * smoothness(sigma, image, unit=1.0))
        parts = {"photometric": torch.stack(photometric).mean(), "smoothness": torch.stack(smooth).mean()}
        loss = parts["photometric"] + parts["smoothness"]
        return loss, {name: part.detach() for name, part in parts.items()} | {"left": shares[0]}

    def explained(self, batch: Sample, depth: Tensor, poses: Tensor) -> Tensor:
        """Return the photometric error of each source, warped onto the target.

        Args:
            batch: `image` (n, 3, h, w), `sources` (n, S, 3, h, w), `K` (n, 3, 3).
            depth: (n, 1, h, w) of the target, in the network's unit.
            poses: `source_T_target` (n, S, 4, 4), in the same unit.

        Returns:
            (n, S, h, w) in [0, 1].
        """
        sources = batch["sources"]
        depth, K = (field.repeat_interleave(sources.shape[1], 0) for field in (depth, batch["K"]))
        warped, _, _ = warp(sources.flatten(0, 1), depth, K, poses.flatten(0, 1))
        return self._errors(batch, warped.unflatten(0, sources.shape[:2]))

    def unmoved(self, batch: Sample) -> Tensor:
        """Return the photometric error of each unwarped source, (n, S, h, w) in [0, 1]."""
        return self._errors(batch, batch["sources"])

    def evaluate(self, backbone: Backbone, head: DisparityHead, batch: Sample) -> dict[str, Tensor]:
        """Return the photometric error of each image at the finest scale and the share that the auto-mask ignores.

        The error is over all pixels, masked ones included. With `truth`, also abs_rel and delta1 after median scaling
        and those of a constant, and with a stereo partner those in metres (`evaluation.depth`).
        """
        inputs = self._inputs(batch)
        sigma = head(backbone.pyramid(inputs[:, 0]))[1]
        depth = self.range.depth(sigma)
        errors = self.explained(batch, depth, self._poses(head, inputs, batch))
        _, left = minimum_error(errors, self.unmoved(batch), self.min_select)
        error, _ = minimum_error(errors, None, self.min_select)
        values = {"photometric": error.mean((1, 2, 3)), "left": left.float().mean((1, 2, 3))}
        if not self.truth:
            return values
        return values | errors_with_constant_baseline(self._metres(depth), batch["depth"], metres=self.stereo)

    def predict(self, backbone: Backbone, head: DisparityHead, images: Tensor) -> Tensor:
        """Return depth, (n, 1, h, w) float32, of images (n, 3, h, w) in [0, 1].

        From video alone it is known up to scale; with a stereo partner it is in metres at the focal length of the
        training data.
        """
        return self._metres(self.range.depth(head(backbone.pyramid(images))[1]))

    def _metres(self, depth: Tensor) -> Tensor:
        return depth * self.unit if self.stereo else depth

    def _check(self, fields: Sample) -> None:
        """Check that a sample has the sources of the options."""
        expected, found = len(self.neighbours) + self.stereo, len(fields["sources"])
        spec = ",".join([*map(str, self.neighbours), *(["s"] if self.stereo else [])])
        if expected != found:
            raise DataError(
                f"monodepth: expected {expected} sources for sources={self.sources!r}, found {found}; open the data "
                f"with ?sources={spec}, or set the task's offsets"
            )
        if self.stereo and not fields["source_T_target"][-1].isfinite().all():
            raise DataError(
                "monodepth: expected a known pose of the stereo partner as the last source, found none; open the data "
                f"with ?sources={spec}"
            )

    @staticmethod
    def _inputs(batch: Sample) -> Tensor:
        """Return the target and its sources as the networks see them, (n, 1 + S, 3, h, w)."""
        return batch["inputs"] if "inputs" in batch else torch.cat([batch["image"][:, None], batch["sources"]], 1)

    def _poses(self, head: DisparityHead, inputs: Tensor, batch: Sample) -> Tensor:
        """Return `source_T_target` of every source in the network's unit, (n, S, 4, 4)."""
        poses = []
        if self.neighbours and head.pose is not None:
            frames = inputs[:, 1 : 1 + len(self.neighbours)]
            pairs = [  # earlier, later
                (frame, inputs[:, 0]) if offset < 0 else (inputs[:, 0], frame)
                for offset, frame in zip(self.neighbours, frames.unbind(1), strict=True)
            ]
            motion = head.pose(*(torch.cat(side) for side in zip(*pairs, strict=True)))
            later_T_earlier = pose_matrix(motion, axis_angle_matrix).chunk(len(pairs))
            for offset, pose in zip(self.neighbours, later_T_earlier, strict=True):
                poses.append(inverse_pose(pose) if offset < 0 else pose)
        if self.stereo:
            known = batch["source_T_target"][:, -1].clone()
            known[:, :3, 3] /= self.unit
            poses.append(known)
        return torch.stack(poses, 1)

    def _errors(self, batch: Sample, images: Tensor) -> Tensor:
        """Return the photometric errors of images (n, S, 3, h, w), (n, S, h, w)."""
        target = batch["image"].repeat_interleave(images.shape[1], 0)
        errors = photometric_error(target, images.flatten(0, 1), WINDOW, unit=1.0)
        return errors.view(*images.shape[:2], *images.shape[-2:])


def _smaller(image: Tensor, like: Tensor) -> Tensor:
    """Return an image at the size of a map."""
    size = like.shape[-2:]
    return image if image.shape[-2:] == size else interpolate(image, size, mode="area")
