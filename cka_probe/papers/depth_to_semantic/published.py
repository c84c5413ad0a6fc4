"""What the paper says, as far as it is vouched for, in percent.

Numbers stand beside the case of ours that does what the paper's row does; where the paper's row is of another network
or another pre-training, the table says so. What has no case of ours is listed in `WITHOUT`. Everything else is a dash:
no number is recalled, and none is worked out from others.

The paper pre-trains on ImageNet where we, unless a user gives it, pre-train on procedural objects: its "ImageNet"
stands beside our object classification, and its "Depth", which is depth after ImageNet, beside depth after that.

Lao, Yang, Wang, Park, Lu, Wong & Soatto, "On the Viability of Monocular Depth Pre-training for Semantic Segmentation",
ECCV 2024.
"""

from dataclasses import dataclass

from cka_probe.papers.depth_to_semantic.cases import Case

SOURCE = "Lao et al., On the Viability of Monocular Depth Pre-training for Semantic Segmentation, ECCV 2024"

ABSENT = "Where there is a dash, no number of the paper was at hand; none is given from memory."


@dataclass(frozen=True)
class Published:
    """A number of the paper.

    Attributes:
        value: Percent.
        source: Where in the paper, and how sure.
    """

    value: float
    source: str


def _both(miou: float, accuracy: float, source: str) -> dict[str, Published]:
    return {"miou_subset": Published(miou, source), "accuracy": Published(accuracy, source)}


def _miou(value: float, source: str) -> dict[str, Published]:
    return {"miou_subset": Published(value, source)}


RESNET18 = {
    Case("none"): _both(41.35, 70.75, "Table 1, ResNet-18, none"),
    Case("classification"): _both(45.15, 72.39, "Table 1, ResNet-18, ImageNet"),
    Case("video"): _both(46.00, 72.43, "Table 1, ResNet-18, Depth-Rand; Table 2, video"),
    Case("video_classification"): _both(50.20, 76.39, "Table 1, ResNet-18, Depth (after ImageNet)"),
    Case("none", mode="frozen"): _miou(41.24, "Table 1, ResNet-18, none, frozen"),
    Case("classification", mode="frozen"): _miou(33.33, "Table 1, ResNet-18, ImageNet, frozen"),
    Case("video", mode="frozen"): _miou(43.02, "Table 1, ResNet-18, Depth-Rand, frozen"),
    Case("video_classification", mode="frozen"): _miou(46.53, "Table 1, ResNet-18, Depth (after ImageNet), frozen"),
    Case("stereo"): _miou(49.11, "Table 2, stereo"),
    Case("lidar"): _miou(52.78, "Table 2, LiDAR"),
    Case("video_classification", mode="encoder"): _both(
        46.69, 75.04, "Table 3, depth, encoder only; taken to be that of its Table 1's Depth"
    ),
    Case("flow"): _miou(38.47, "Figure 7, fine-tuned"),
    Case("flow", mode="frozen"): _miou(32.19, "Figure 7, frozen"),
    Case("video", size="low"): _miou(48.54, "text on resolution; which of its depth arms is not known here"),
}
"""Seven classes of KITTI, by case."""

RESNET50 = {
    Case("inpainting"): _miou(47.18, "Table 4, ResNet-50, inpainting, which it calls MAE"),
    Case("flow"): _miou(42.72, "Table 4, ResNet-50, optical flow"),
    Case("contrastive"): _miou(37.04, "Table 4, ResNet-50, MoCo v2 on ImageNet"),
}
"""Its Table 4 is of ResNet-50."""

WITHOUT = {
    "table4": "Its Table 4, of ResNet-50, has rows without one of ours: segmentation of COCO 51.28, depth 50.92, DINO "
    "44.19."
}
"""Rows of the paper that no case of ours stands beside, by table."""

BY_TABLE = {"table4": RESNET50, "quirks": {}}
"""What is not `RESNET18`."""


def published(table: str, case: Case, measure: str) -> Published | None:
    """Return the paper's number for a case in one of its tables, or `None` where none is vouched for.

    >>> published("table1", Case("none"), "accuracy").value
    70.75
    >>> published("table4", Case("none"), "accuracy") is None
    True
    """
    return BY_TABLE.get(table, RESNET18).get(case, {}).get(measure)
