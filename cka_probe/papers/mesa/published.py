"""What the paper says, as far as it is vouched for.

When this was written the paper's tables were not at hand: of their numbers, those stand here that its text or a source
beside it gives, each with where it is from. Everything else is `None`, drawn as a dash: no number is recalled, and none
is worked out from others.

Which of our arms a number belongs beside follows from the images: Table 1 and the row of Xie et al. it begins with
are pre-trained on ImageNet, Table 3 on LSUN (inferred: the paper's §3.4 names LSUN for all, which Table 1's first row,
equal to a network trained on ImageNet, cannot be).

Khan, Liang, Wang, Yang & Lou, MeSa, PMLR 243:116-132, 2024 (arXiv 2310.04551); Xie et al., Revealing the Dark Secrets
of Masked Image Modeling, CVPR 2023.
"""

from dataclasses import dataclass

SOURCE = "Khan et al., PMLR 243:116-132, 2024"

ABSENT = "The paper's tables were not at hand when this was written; no number is given from memory."


@dataclass(frozen=True)
class Published:
    """A number of the paper.

    Attributes:
        value: In the measure's own unit.
        source: Where in the paper, and how sure.
    """

    value: float
    source: str


FIRST_ROW = 'Table 1, row "MP", taken over from Xie et al'

IN_DISTRIBUTION = {
    ("mp_imagenet_depth", "rmse"): Published(0.287, f"{FIRST_ROW}; what the abstract's 17.1 % are counted from"),
    ("mp_imagenet_depth", "abs_rel"): Published(0.083, FIRST_ROW),
    ("mp_imagenet_depth", "log10"): Published(0.035, FIRST_ROW),
    ("sp_imagenet_depth", "rmse"): Published(0.265, "Table 1, where it ends; taken for the row of all three stages"),
    ("sp_depth", "rmse"): Published(0.238, "Table 3, LSUN; 17.1 % below 0.287"),
}
"""NYUv2, by fine-tuned stage and measure."""

OUT_OF_DISTRIBUTION: dict[tuple[str, str], Published] = {}
"""iBims-1, by fine-tuned stage and measure: no cell of Table 2 is vouched for, only its ranges."""

RANGES = {"abs_rel": (0.082, 0.089), "dbe_comp": (19.0, 30.0)}
"""Table 2, least and largest over its rows; from 10 upwards dbe_comp can only be the unbounded one (v0.9)."""

BY_PLACE = {"in": IN_DISTRIBUTION, "out": OUT_OF_DISTRIBUTION}


def published(place: str, stage: str, measure: str) -> Published | None:
    """Return the paper's number for a fine-tuned stage, or `None` where none is vouched for.

    Args:
        place: "in" or "out".
        stage: Of the fine-tuned checkpoint.
        measure: In `scores.MEASURES`.

    >>> published("in", "sp_depth", "rmse").value
    0.238
    """
    return BY_PLACE[place].get((stage, measure))
