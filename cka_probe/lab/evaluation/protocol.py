"""Protocols: how predictions are made and scored, and the scores of one depth prediction.

Defaults depend on the dataset: NYUv2 is scored inside Eigen's crop and up to 10 m, iBims-1 wherever depth was measured
and may be used, up to its 50 m. Predictions are not clamped, except that those not above 0, which have no logarithm,
are raised to a millimetre; the column `floored` counts the valid pixels for which this happened.

iBims-1's own measures (boundaries, planes, near or far) are added if a sample has the fields for them. In that case the
errors after scaling to the median of the truth are added as `NAME_median`: published tables seldom say which they show,
and boundaries and planes do not depend on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import CheckpointError, DataError
from cka_probe.lab.evaluation.depth import CROPS, depth_errors, median, median_scaled, outside_rows, valid_depth
from cka_probe.lab.evaluation.ibims1_errors import (
    PLANARITY,
    THRESHOLDS,
    boundary_errors,
    check_thresholds,
    directed_errors,
    plane_errors,
)
from cka_probe.lab.evaluation.scores import MEDIAN, OUTSIDE
from cka_probe.lab.losses import least_squares_aligned
from cka_probe.similarity.resampling import RESAMPLES

P = TypeVar("P", bound="EvaluationProtocol")

FLOOR = 1e-3
"""Metres: predictions are raised to this before a logarithm."""
SCALINGS = {
    "none": "as predicted, in metres",
    "median": "times median(depth) / median(prediction), image by image",
    "affine": "by the scale (0 or more) and shift of the least-squares fit to the truth, image by image",
}
RESOLUTIONS = {"image": "logits are scaled to the labels", "network": "labels are scaled to the network"}
FINE = frozenset({"edges", "planes", "normals", "K"})
"""Fields that iBims-1's own measures need."""
DEFAULTS = {
    "nyuv2": ("eigen_nyuv2", (1e-3, 10.0)),
    "ibims1": ("none", (0.0, np.inf)),
    "kitti": ("none", (1e-3, 80.0)),
}
OTHER_DEFAULTS = ("none", (1e-3, 10.0))
"""Crop and cap of the other datasets."""
EIGEN = "eigen"
"""Short for `eigen_nyuv2` or `eigen_kitti`, on these datasets."""


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """What the protocols of all predictions have in common.

    Attributes:
        flip_test: Whether to average predictions (of classes: logits) with those of the mirrored image.
        num: Number of images, drawn with `seed`; `None` for all.
        resamples: Of the bootstrap.
        seed: Of the bootstrap and of the choice of images.
    """

    flip_test: bool = False
    num: int | None = None
    resamples: int = RESAMPLES
    seed: int = 0

    @classmethod
    def of(cls: type[P], options: Mapping[str, Any]) -> P:
        """Return the protocol with these options.

        Raises:
            DataError: An option is out of range.
            UnknownNameError: There is no such option.
        """
        known = {field.name: field for field in fields(cls)}
        for name in options:
            registry.get(known, name, "rule")
        return cls(**options)

    def __post_init__(self):
        for name, minimum in {"num": 1, "crops": 0, "resamples": 1}.items():
            count = getattr(self, name, None)
            if count is not None and count < minimum:
                raise DataError(f"expected {name} of at least {minimum}, found {count}")

    @property
    def views(self) -> int:
        """Views of an image in one forward pass."""
        return 2 if self.flip_test else 1


@dataclass(frozen=True, kw_only=True)
class LabelProtocol(EvaluationProtocol):
    """How labels are predicted and scored.

    Attributes:
        resolution: A name in `RESOLUTIONS`.

    All others are as in `EvaluationProtocol`.

    Raises:
        DataError: One of them is out of range.
        UnknownNameError: There is no such resolution.
    """

    resolution: str = "image"

    def __post_init__(self):
        registry.get(RESOLUTIONS, self.resolution, "resolution")
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class DetectionProtocol(EvaluationProtocol):
    """How objects are detected and scored; there is no average over views.

    Raises:
        DataError: One of them is out of range.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.flip_test:
            raise DataError("expected no flip_test for objects, whose boxes have no mean, found it; omit it")


@dataclass(frozen=True, kw_only=True)
class ClassProtocol(EvaluationProtocol):
    """How classes of whole images are predicted and scored.

    Attributes:
        classes: A text file with the network's classes, one a line, in the order of its outputs.

    All others are as in `EvaluationProtocol`.

    Raises:
        DataError: One of them is out of range.
    """

    classes: str | Path | None = None

    def recorded(self) -> dict[str, Any]:
        """Return the settings of a result."""
        return vars(self) | {"classes": None if self.classes is None else str(self.classes)}


@dataclass(frozen=True, kw_only=True)
class DepthProtocol(EvaluationProtocol):
    """How depth is predicted and scored; `None` is the default of the dataset or the task.

    Attributes:
        crop: The box that counts, a name in `CROPS`, or `eigen` for that of the dataset.
        cap: Metres; only depths above the first and below the second count. The second may be infinite.
        scaling: A name in `SCALINGS`.
        crops: Windows along an image's longer side, 0 for the whole image squeezed; see `sliding_window`.
        feathered: Whether to blend windows where they overlap; published numbers use plain means, which have seams.
        canny: Low and high threshold of the edge detector.

    All others are as in `EvaluationProtocol`, with `flip_test` by default.

    Raises:
        DataError: One of them is out of range.
        UnknownNameError: There is no such crop or scaling.
    """

    flip_test: bool = True
    crop: str | None = None
    cap: tuple[float, float] | None = None
    scaling: str | None = None
    crops: int | None = None
    feathered: bool = False
    canny: tuple[float, float] = THRESHOLDS

    def __post_init__(self):
        if self.cap is not None and not 0 <= self.cap[0] < self.cap[1]:
            raise DataError(f"expected a cap (least, most) in metres with 0 <= least < most, found {self.cap}")
        if self.crop is not None:
            registry.get(CROPS | {EIGEN: None}, self.crop, "crop")
        if self.scaling is not None:
            registry.get(SCALINGS, self.scaling, "scaling")
        check_thresholds(self.canny)
        super().__post_init__()

    @property
    def views(self) -> int:
        """Views of an image in one forward pass."""
        return max(self.crops or 0, 1) * super().views

    @property
    def depth_range(self) -> tuple[float, float]:
        """Metres: `cap`, or that of a dataset without a convention."""
        return OTHER_DEFAULTS[1] if self.cap is None else self.cap

    def for_dataset(self, name: str) -> "DepthProtocol":
        """Return the protocol with the defaults of a dataset, named as in `DATASETS`, for crop and cap.

        Raises:
            DataError: The dataset has no crop of Eigen et al.
        """
        crop, cap = DEFAULTS.get(name, OTHER_DEFAULTS)
        crop = crop if self.crop is None else f"{EIGEN}_{name}" if self.crop == EIGEN else self.crop
        if crop not in CROPS:
            raise DataError(
                f"expected eigen_nyuv2 or eigen_kitti as crop for {name or 'this dataset'}, found {EIGEN}, which is "
                "short for the one of NYUv2 or of KITTI; name one"
            )
        return replace(self, crop=crop, cap=cap if self.cap is None else self.cap)

    @classmethod
    def from_recorded(cls, settings: Mapping[str, Any]) -> "DepthProtocol":
        """Return the protocol that a result was made by, from its `settings`."""
        least, most = settings["cap"]
        options = {field.name: settings[field.name] for field in fields(cls)}
        return cls(**options | {"cap": (least, np.inf if most is None else most), "canny": tuple(settings["canny"])})

    def recorded(self) -> dict[str, Any]:
        """Return the settings of a result; the end of an infinite cap is `None`."""
        least, most = self.depth_range
        return vars(self) | {"cap": [least, most if np.isfinite(most) else None], "floor": FLOOR}


def image_scores(depth_predicted: Tensor, sample: Mapping[str, Tensor], protocol: DepthProtocol, name: str) -> dict:
    """Return every measure of one image.

    Args:
        depth_predicted: (1, H, W) float32 on the CPU, metres or up to scale.
        sample: `depth`, `valid` if the dataset has it, and all of `FINE` for iBims-1's measures.
        protocol: With all defaults filled in.
        name: The name of the image, for messages.

    Returns:
        Name in `scores.MEASURES`, perhaps followed by `_median`, to value; NaN if undefined for the image.

    Raises:
        CheckpointError: The prediction is not finite, or must be scaled and is not positive.
        DataError: Depth and image differ in size.
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
    if (crop := protocol.crop or "none") != "none":
        uncropped = _valid(sample, replace(protocol, crop="none"))
        scores[OUTSIDE] = _errors(scaled, depth, uncropped & outside_rows(depth, crop), False)["abs_rel"]
    if fine:
        by_median = _errors(_scaled(depth_predicted, depth, valid, "median", name), depth, valid, fine)
        scores |= {f"{measure}{MEDIAN}": value for measure, value in by_median.items() if measure != "floored"}
        scores |= _fine_errors(scaled, sample, protocol)
    return scores


def align_to_ground_truth(
    depth_predicted: Tensor, sample: Mapping[str, Tensor], protocol: DepthProtocol, name: str
) -> Tensor:
    """Return a prediction as it is scored: scaled, or scaled and shifted, to fit the pixels that count.

    Args:
        depth_predicted: (1, H, W) float32 on the CPU.
        sample: `depth`, and `valid` if the dataset has it.
        protocol: With all defaults filled in.
        name: The name of the image, for messages.

    Returns:
        (1, H, W) metres.

    Raises:
        CheckpointError: It must be scaled and is not positive.
    """
    return _scaled(depth_predicted, sample["depth"], _valid(sample, protocol), protocol.scaling, name)


def _valid(sample: Mapping[str, Tensor], protocol: DepthProtocol) -> Tensor:
    """Return the pixels that count, (1, H, W) bool."""
    valid = valid_depth(sample["depth"], *protocol.depth_range, protocol.crop or "none")
    return valid & sample["valid"] if "valid" in sample else valid


def _scaled(depth_predicted: Tensor, depth: Tensor, valid: Tensor, scaling: str | None, name: str) -> Tensor:
    """Return the prediction aligned to the truth as `SCALINGS` describes."""
    if scaling == "none" or not valid.any():
        return depth_predicted
    maps = (depth_predicted[None], depth[None], valid[None])
    if scaling == "affine":
        return least_squares_aligned(*maps, positive=True)[0]
    if (middle := median(depth_predicted[valid])) <= 0:
        raise CheckpointError(
            f"{name}: expected depth above 0 to scale, found a median of {middle:.3g}; "
            "this model does not predict depth up to scale"
        )
    return median_scaled(*maps)[0]


def _errors(depth_predicted: Tensor, depth: Tensor, valid: Tensor, directed: bool) -> dict[str, float]:
    """Return the errors of depth and of the side of 3 m over the valid pixels."""
    raised = depth_predicted.clamp(min=FLOOR)
    errors = depth_errors(raised[None], depth[None], valid[None])
    scores = {measure: value.item() for measure, value in errors.items()}
    if directed:
        scores |= directed_errors(depth_predicted, depth, valid)
    return scores | {"floored": float(((depth_predicted < FLOOR) & valid).sum())}


def _fine_errors(depth_predicted: Tensor, sample: Mapping[str, Tensor], protocol: DepthProtocol) -> dict[str, float]:
    """Return the errors of boundaries and planes, which depend on a shift of the prediction but not on its scale."""
    predicted = depth_predicted[0].numpy()
    boundaries = boundary_errors(predicted, sample["edges"][0].numpy(), protocol.canny)
    depth = (sample["depth"] * sample.get("valid", torch.tensor(True)))[0].numpy()
    planes = plane_errors(predicted, depth, *(sample[field].numpy() for field in ("planes", "normals", "K")))
    means = {name: float(planes[name].mean()) for name in PLANARITY}  # NaN without a plane
    return boundaries | means | {"planes": float(planes[PLANARITY[0]].notna().sum())}
