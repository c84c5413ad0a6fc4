"""The paper's claims, each with the number that tests it, ours about the released code, and ours about layers.

A claim is put so that its statistic (`estimates`) is above 0 if it is true. All in `CLAIMS` are tested, and p-values
corrected for all of them together. `BESIDE` are taken in another way and are not tested.

"Classification" is that of procedural objects wherever a study draws its own data: it stands where the paper has
ImageNet, and is not called so. "Depth" is from video; depth after classification is the paper's "Depth".
"""

from cka_probe.attribution.columns import CONTROLS
from cka_probe.papers.cells import mean_diagonal
from cka_probe.papers.claims import CKA, Claim, TestedClaim, judge_each
from cka_probe.papers.depth_to_semantic import estimates
from cka_probe.papers.depth_to_semantic.alignment import STEM, beats, follows
from cka_probe.papers.depth_to_semantic.cases import QUIRKS, Case, quirked
from cka_probe.papers.depth_to_semantic.evidence import Evidence
from cka_probe.papers.depth_to_semantic.questions import (
    Question,
    between,
    changed,
    find,
    gains,
    least_gain,
    of_curves,
)
from cka_probe.papers.estimate import Estimate

POINTS = "points"

NONE, CLASSES, VIDEO, BOTH, FLOW = (
    Case(arm) for arm in ("none", "classification", "video", "video_classification", "flow")
)
FROZEN = {arm: Case(arm, mode="frozen") for arm in ("none", "classification", "video", "video_classification", "flow")}


def _gain(name: str, statement: str, cases: tuple[Case, Case], figure: str, **more: str) -> Claim:
    """Return the claim that the first of two cases has more of the main score, or of `measure`."""
    question = gains(*cases, more.get("measure", estimates.MAIN))
    return Claim(name, statement, POINTS, f"scores_{figure}", question, more.get("of", ""))


def _twice(name: str, statement: str, cases: tuple[Case, Case], figure: str) -> tuple[Claim, Claim]:
    """Return a claim about mIoU and the same about pixel accuracy."""
    return (
        _gain(name, f"{statement}, in mIoU", cases, figure),
        _gain(f"{name}_accuracy", f"{statement}, in pixel accuracy", cases, figure, measure="accuracy"),
    )


def _cases(arms: str, **how: object) -> tuple[Case, Case]:
    first, second = arms.split()
    return Case(first, **how), Case(second, **how)


def _follows(name: str, statement: str, worse: Case, measure: str = "ap", of: str = "") -> Claim:
    """Return the claim that the maps of depth have more of a measure than those of another case."""
    return Claim(name, statement, POINTS, STEM, follows(VIDEO, worse, measure), of)


SIZES = tuple((Case("video", num=num), Case("none", num=num)) for num in (4, 0, 64))
SIZES_CLASSES = tuple((Case("video", num=num), Case("classification", num=num)) for num in (4, 0, 64))
CITY = {"data": "cityscapes", "network": "deeplab"}

PAPER = (
    *_twice("depth_none", "Depth pre-training helps: depth > none", (VIDEO, NONE), "table1"),
    *_twice("depth_classes", "Depth > classification", (VIDEO, CLASSES), "table1"),
    *_twice("classes_none", "Classification > none", (CLASSES, NONE), "table1"),
    *_twice("both_classes", "Depth after classification > classification", (BOTH, CLASSES), "table1"),
    *_twice("both_video", "Depth after classification > depth alone", (BOTH, VIDEO), "table1"),
    _gain("frozen_classes", "Frozen, classification is worse than nothing: none > classification",
          (FROZEN["none"], FROZEN["classification"]), "table1"),
    _gain("frozen_depth", "Frozen, depth > none", (FROZEN["video"], FROZEN["none"]), "table1"),
    _gain("frozen_both", "Frozen, depth after classification > none",
          (FROZEN["video_classification"], FROZEN["none"]), "table1"),
    _gain("frozen_depth_classes", "Frozen, depth > classification", (FROZEN["video"], FROZEN["classification"]),
          "table1"),
    _gain("flow_hurts", "Optical flow hurts: none > flow", (NONE, FLOW), "table4"),
    _gain("flow_hurts_frozen", "Optical flow hurts when frozen: none > flow", (FROZEN["none"], FROZEN["flow"]),
          "figure7"),
    _gain("stereo_video", "Depth learnt from stereo > from video", _cases("stereo video"), "table2"),
    _gain("lidar_stereo", "Measured depth > depth learnt from stereo", _cases("lidar stereo"), "table2"),
    _gain("encoder_only", "The encoder alone helps: depth without its decoder > none",
          (Case("video", mode="encoder"), NONE), "table3"),
    _gain("encoder_only_both", "The encoder alone helps after classification: depth without its decoder > none",
          (Case("video_classification", mode="encoder"), NONE), "table3"),
    _gain("decoder_helps", "The decoder helps too: depth with its decoder > without",
          (BOTH, Case("video_classification", mode="encoder")), "table3"),
    Claim("faster_none", "Depth converges faster than none: area under the held-out mIoU", POINTS, "curves_table1",
          of_curves(estimates.area_gain, VIDEO, NONE)),
    Claim("faster_classes", "Depth converges faster than classification: area under the held-out mIoU", POINTS,
          "curves_table1", of_curves(estimates.area_gain, VIDEO, CLASSES)),
    _gain("city_depth", "On Cityscapes' layout, depth > classification", _cases("cityscapes_depth classification",
          **CITY), "table5"),
    _gain("city_cropped", "Depth learnt on random crops > on full frames", _cases("cityscapes_cropped "
          "cityscapes_depth", **CITY), "table5"),
    _gain("low_resolution", "Pre-trained at twice the resolution of fine-tuning, depth still helps: depth > none",
          _cases("video none", size="low"), "figure5"),
    _gain("high_resolution", "Pre-trained at half the resolution of fine-tuning, depth fails: none > depth",
          _cases("none video", size="high"), "figure5"),
    Claim("every_size", "Depth > none at every training-set size: the least gain", POINTS, "sizes", least_gain(SIZES)),
    Claim("every_size_classes", "Depth > classification at every training-set size: the least gain", POINTS, "sizes",
          least_gain(SIZES_CLASSES)),
    _follows("maps_none", "Grad-CAM maps follow the outlines of classes better: depth > none", NONE),
    _follows("maps_classes", "Grad-CAM maps follow the outlines of classes better: depth > classification", CLASSES),
    _gain("rooms", "In rooms, depth > classification", _cases("rooms_depth classification", data="rooms"), "figure8"),
)  # fmt: skip
"""What the paper says."""

RELEASED = tuple(QUIRKS)


def _quirk(quirk: str) -> Claim:
    """Return the claim that a fault of the released code lowers the score; or raises it, where freezing is undone."""
    clean, faulty = quirked(quirk)
    raised = quirk == "unfrozen_encoder"
    statement = f"{QUIRKS[quirk][0].upper()}{QUIRKS[quirk][1:]}: this {'raises' if raised else 'lowers'} the mIoU"
    return _gain(f"quirk_{quirk}", statement, (faulty, clean) if raised else (clean, faulty), "quirks")


def _released(name: str, statement: str, cases: tuple[Case, Case]) -> Claim:
    faulty = tuple(Case(case.arm, mode=case.mode, quirks=RELEASED) for case in cases)
    return _gain(f"released_{name}", f"With all faults of the released code: {statement}", faulty, "quirks")


CODE = (
    *map(_quirk, QUIRKS),
    _released("depth", "depth > none", (VIDEO, NONE)),
    _released("frozen", "frozen classification is worse than nothing", (FROZEN["none"], FROZEN["classification"])),
)
"""What the faults of the released code do here; neither paper nor code says so."""


def _closer(before, after) -> Estimate:
    """Return how much more alike two arms are after fine-tuning than before, over all layers, in CKA."""
    return mean_diagonal(after) - mean_diagonal(before)


def _parting(when: str) -> Question:
    return between("video", "classification", estimates.parting, when)


LAYERS = (
    Claim("later_changes", "Fine-tuning changes the later half of depth's layers more", CKA, "before_after",
          changed("video", estimates.later_change_more)),
    Claim("part_late", "Depth and classification part ways late: earlier layers are more alike than later ones", CKA,
          "parting", _parting("before")),
    Claim("tuned_closer", "Fine-tuning on the same labels makes depth and classification more alike", CKA, "parting",
          between("video", "classification", _closer, "before", "after")),
)  # fmt: skip
"""What neither paper nor code asks."""

GROUPS = {
    "claims": ("The paper's claims", PAPER),
    "claims_code": ("The faults of the released code", CODE),
    "claims_layers": ("Layers", LAYERS),
}
"""Claims by the stem of their figure."""

CLAIMS = (*PAPER, *CODE, *LAYERS)
"""What is tested."""

BESIDE = (
    Claim("faster_none_level", "… in percent of training, until 0.9 of the other's last mIoU is reached", "%",
          "curves_table1", of_curves(estimates.sooner, VIDEO, NONE), "faster_none"),
    Claim("faster_classes_level", "… in percent of training, until 0.9 of the other's last mIoU is reached", "%",
          "curves_table1", of_curves(estimates.sooner, VIDEO, CLASSES), "faster_classes"),
    _follows("maps_none_signed", "… before their ReLU", NONE, "ap_signed", "maps_none"),
    Claim("maps_chance", "… depth's maps > chance", POINTS, STEM, beats(VIDEO, "chance"), "maps_none"),
    Claim("maps_edges", "… depth's maps > the edges of the image", POINTS, STEM, beats(VIDEO, CONTROLS["edges"]),
          "maps_none"),
    _follows("maps_classes_signed", "… before their ReLU", CLASSES, "ap_signed", "maps_classes"),
    _gain("flow_classes", "… and against classification: classification > flow", (CLASSES, FLOW), "table4",
          of="flow_hurts"),
    Claim("later_changes_classes", "… of classification's", CKA, "before_after",
          changed("classification", estimates.later_change_more), "later_changes"),
    Claim("later_changes_none", "… of the untrained network's", CKA, "before_after",
          changed("none", estimates.later_change_more), "later_changes"),
    Claim("frozen_changes", "… frozen: change of depth's layers, which is 0 if frozen is frozen", CKA, "before_after",
          changed("video", estimates.change, "frozen"), "later_changes"),
    Claim("part_late_tuned", "… after fine-tuning", CKA, "parting", _parting("after"), "part_late"),
    Claim("part_late_none", "… depth and the untrained network", CKA, "parting",
          between("none", "video", estimates.parting, "before"), "part_late"),
)  # fmt: skip
"""What is shown beside the claims, and not tested."""


def judge_claims(evidence: Evidence) -> list[TestedClaim]:
    """Return every claim with what stands beside it, in order, p-values corrected for the claims.

    Raises:
        DataError: A file is broken or of another study.
    """
    return judge_each(CLAIMS, BESIDE, lambda claim: find(evidence, claim.ask))
