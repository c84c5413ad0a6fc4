"""The rules by which a depth prediction is scored, and the scores of one image by them.

The dataset decides what is usual: NYUv2 is scored inside Eigen's crop and up to 10 m, iBims-1 wherever it was
measured and may be used, up to its 50 m. No prediction is clamped, but one that is not above 0 has no logarithm: it
is raised to a millimetre, and how many valid pixels that touched is a column of its own.

iBims-1's own measures (boundaries, planes, near or far) are added where a sample has what they need. There, errors
after scaling to the median of the truth stand beside those without, as `NAME_median`: tables in print seldom say
which they show, and boundaries and planes do not depend on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import CheckpointError, DataError
from cka_probe.lab.evaluation.depth import depth_errors, median_scaled, valid_depth
from cka_probe.lab.evaluation.ibims1_errors import (
    PLANARITY,
    THRESHOLDS,
    boundary_errors,
    check_thresholds,
    directed_errors,
    plane_errors,
)
from cka_probe.lab.evaluation.scores import MEDIAN
from cka_probe.lab.losses import least_squares_aligned
from cka_probe.similarity.resampling import RESAMPLES

FLOOR = 1e-3
"""Metres: the least prediction that a logarithm is taken of."""

SCALINGS = {
    "none": "as predicted, in metres",
    "median": "times median(depth) / median(prediction), image by image",
    "affine": "by the scale, of 0 or more, and the shift that bring it nearest to the truth, image by image",
}
FINE = frozenset({"edges", "planes", "normals", "K"})
"""Fields that iBims-1's own measures need."""


@dataclass(frozen=True)
class Protocol:
    """How predictions are made and scored; `None` is what is usual for the dataset, or for the task.

    Attributes:
        eigen_crop: Whether the border is left out, as is the convention for NYUv2.
        cap: Metres; only depths above the first and below the second count. The second may be infinite.
        scaling: A name in `SCALINGS`.
        flip_test: Whether each prediction is averaged with that of the mirrored image.
        crops: Windows along an image's longer side, 0 for the whole image squeezed; see `sliding_window`.
        feathered: Whether windows fade into each other; published numbers are of plain means, which step at seams.
        canny: Low and high threshold of the detector of depth edges.
        num: So many images, drawn from `seed`; `None` for all.
        resamples: Of the bootstrap.
        seed: Of the bootstrap, and of the choice of images.

    Raises:
        DataError: One of them cannot be.
    """

    eigen_crop: bool | None = None
    cap: tuple[float, float] | None = None
    scaling: str | None = None
    flip_test: bool = True
    crops: int | None = None
    feathered: bool = False
    canny: tuple[float, float] = THRESHOLDS
    num: int | None = None
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self):
        if self.cap is not None and not 0 <= self.cap[0] < self.cap[1]:
            raise DataError(f"expected a cap (least, most) in metres with 0 <= least < most, found {self.cap}")
        if self.scaling is not None:
            registry.get(SCALINGS, self.scaling, "scaling")
        check_thresholds(self.canny)
        for name, least in (("num", 1), ("crops", 0), ("resamples", 1)):
            count = getattr(self, name)
            if count is not None and count < least:
                raise DataError(f"expected {name} of at least {least}, found {count}")

    @property
    def depth_range(self) -> tuple[float, float]:
        """Metres: `cap`, or that of a dataset without a convention."""
        return OTHERWISE[1] if self.cap is None else self.cap

    def for_dataset(self, name: str) -> "Protocol":
        """Return these rules with what was left open as is usual for a dataset, named as in `DATASETS`."""
        eigen_crop, cap = USUAL.get(name, OTHERWISE)
        return replace(
            self,
            eigen_crop=eigen_crop if self.eigen_crop is None else self.eigen_crop,
            cap=cap if self.cap is None else self.cap,
        )

    @classmethod
    def from_recorded(cls, settings: Mapping[str, Any]) -> "Protocol":
        """Return the rules that a result was made by, from its `settings`."""
        least, most = settings["cap"]
        kept = {field.name: settings[field.name] for field in fields(cls)}
        return cls(**kept | {"cap": (least, np.inf if most is None else most), "canny": tuple(settings["canny"])})

    def recorded(self) -> dict[str, Any]:
        """Return the rules as a result keeps them; a cap without an upper end ends in `None`."""
        least, most = self.depth_range
        return vars(self) | {"cap": [least, most if np.isfinite(most) else None], "floor": FLOOR}


USUAL = {"nyuv2": (True, (1e-3, 10.0)), "ibims1": (False, (0.0, np.inf)), "kitti": (False, (1e-3, 80.0))}
OTHERWISE = (False, (1e-3, 10.0))


def image_scores(depth_predicted: Tensor, sample: Mapping[str, Tensor], protocol: Protocol, name: str) -> dict:
    """Return every measure of one image.

    Args:
        depth_predicted: (1, H, W) float32 on the CPU, metres or up to scale.
        sample: `depth`, `valid` if the dataset has it, and all of `FINE` for iBims-1's measures.
        protocol: Nothing in it left open.
        name: Of the image, for messages.

    Returns:
        Name in `scores.MEASURES`, or with `_median` behind it, to value; NaN where the image says nothing.

    Raises:
        CheckpointError: The prediction is not finite, or is to be scaled and not positive.
        DataError: Depth is of another size than the image.
    """
    depth = sample["depth"]
    if depth.shape != depth_predicted.shape:
        raise DataError(
            f"{name}: expected depth of the image's size {tuple(depth_predicted.shape[-2:])}, found "
            f"{tuple(depth.shape[-2:])}; register one to the other first"
        )
    if not depth_predicted.isfinite().all():
        raise CheckpointError(f"{name}: expected a finite depth at every pixel, found NaN or infinity; train it again")
    valid = _valid(sample, protocol)
    scaled = _scaled(depth_predicted, depth, valid, protocol.scaling, name)
    fine = sample.keys() >= FINE
    scores = _errors(scaled, depth, valid, fine)
    if fine:
        by_median = _errors(_scaled(depth_predicted, depth, valid, "median", name), depth, valid, fine)
        scores |= {f"{measure}{MEDIAN}": value for measure, value in by_median.items() if measure != "floored"}
        scores |= _fine_errors(scaled, sample, protocol)
    return scores


def align_to_ground_truth(
    depth_predicted: Tensor, sample: Mapping[str, Tensor], protocol: Protocol, name: str
) -> Tensor:
    """Return a prediction as it is scored: scaled, or scaled and shifted, by the pixels that count.

    Args:
        depth_predicted: (1, H, W) float32 on the CPU.
        sample: `depth`, and `valid` if the dataset has it.
        protocol: Nothing in it left open.
        name: Of the image, for messages.

    Returns:
        (1, H, W) metres.

    Raises:
        CheckpointError: It is to be scaled and not positive.
    """
    return _scaled(depth_predicted, sample["depth"], _valid(sample, protocol), protocol.scaling, name)


def _valid(sample: Mapping[str, Tensor], protocol: Protocol) -> Tensor:
    """Return which pixels count, (1, H, W) bool."""
    valid = valid_depth(sample["depth"], *protocol.depth_range, bool(protocol.eigen_crop))
    return valid & sample["valid"] if "valid" in sample else valid


def _scaled(depth_predicted: Tensor, depth: Tensor, valid: Tensor, scaling: str | None, name: str) -> Tensor:
    """Return the prediction brought to the truth in one of the ways of `SCALINGS`."""
    if scaling == "none" or not valid.any():
        return depth_predicted
    maps = (depth_predicted[None], depth[None], valid[None])
    if scaling == "affine":
        return least_squares_aligned(*maps, positive=True)[0]
    if depth_predicted[valid].median() <= 0:
        raise CheckpointError(
            f"{name}: expected depth above 0 to scale, found a median of {depth_predicted[valid].median():.3g}; "
            "this model does not predict depth up to scale"
        )
    return median_scaled(*maps)[0]


def _errors(depth_predicted: Tensor, depth: Tensor, valid: Tensor, directed: bool) -> dict[str, float]:
    """Return the errors of depth, and on which side of 3 m it is, over the valid pixels."""
    raised = depth_predicted.clamp(min=FLOOR)
    errors = depth_errors(raised[None], depth[None], valid[None])
    scores = {measure: value.item() for measure, value in errors.items()}
    if directed:
        scores |= directed_errors(depth_predicted, depth, valid)
    return scores | {"floored": float(((depth_predicted < FLOOR) & valid).sum())}


def _fine_errors(depth_predicted: Tensor, sample: Mapping[str, Tensor], protocol: Protocol) -> dict[str, float]:
    """Return the errors of boundaries and planes; the prediction's scale does not matter to them, a shift does."""
    predicted = depth_predicted[0].numpy()
    boundaries = boundary_errors(predicted, sample["edges"][0].numpy(), protocol.canny)
    depth = (sample["depth"] * sample.get("valid", torch.tensor(True)))[0].numpy()
    found = plane_errors(predicted, depth, *(sample[field].numpy() for field in ("planes", "normals", "K")))
    means = {name: float(found[name].mean()) for name in PLANARITY}  # NaN without a plane
    return boundaries | means | {"planes": float(found[PLANARITY[0]].notna().sum())}
