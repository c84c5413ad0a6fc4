"""The paper's claims, each with the statistic that tests it, ours about the released code, and ours about layers.

Statistics are defined in `evidence`; a claim holds if its own is above 0. All in `CLAIMS` are tested, and p-values are
corrected for all of them together. `CONTROLS` are measured in another way and are not tested.

"Classification" is that of procedural objects wherever a study generates its own data: it replaces the paper's
ImageNet, and is not called so. "Depth" is from video; depth after classification is the paper's "Depth".

A statistic of scores is computed on every run (seed and trial), one of encoders or maps on every seed, because these
are compared after the first trial. Whether Grad-CAM maps follow the outlines of classes is measured by how well the
steepness of a map finds the boundaries of the labels (`attribution.alignment`), compared with chance and with the
image's own edges: a map that only copies edges is as good as these.
"""

from collections.abc import Callable, Sequence

from cka_probe.attribution.attributions import CONTROLS as MAP_CONTROLS
from cka_probe.attribution.attributions import Attributions
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.papers.claims import CKA, Claim, Statistic
from cka_probe.papers.depth_to_semantic import evidence as statistics
from cka_probe.papers.depth_to_semantic.evidence import MAIN, SemanticEvidence
from cka_probe.papers.depth_to_semantic.study import QUIRKS, Case, cases_of_arms, quirked
from cka_probe.papers.evidence import Estimate, RunKey, least, mean_diagonal, undefined

FIGURE = "figure6"
"""Stem of the figure of maps."""


NO_MAP = "no test image has a map that is not zero"


def measured(case: Case, measure: str) -> Statistic:
    """Return how much of a measure a case has."""

    def compute(evidence: SemanticEvidence, run: RunKey, interval: bool) -> Estimate | None:
        scores = evidence.scores(case, run)
        return _diverged(evidence, run, case) if scores is None else statistics.value_of(scores, measure, interval)

    return Statistic(compute)


def gains(better: Case, worse: Case, measure: str = MAIN) -> Statistic:
    """Return how much more of a measure one case has than another."""

    def compute(evidence: SemanticEvidence, run: RunKey, interval: bool) -> Estimate | None:
        first, second = evidence.scores(better, run), evidence.scores(worse, run)
        if first is None or second is None:
            return _diverged(evidence, run, better, worse)
        return statistics.gain(first, second, measure, interval)

    return Statistic(compute)


def least_gain(pairs: Sequence[tuple[Case, Case]]) -> Statistic:
    """Return how much more of the main score the first of each pair has at least."""
    pair_gains = [gains(*pair) for pair in pairs]

    def compute(evidence: SemanticEvidence, run: RunKey, interval: bool) -> Estimate | None:
        values = [gain.compute(evidence, run, interval) for gain in pair_gains]
        available = [value for value in values if value is not None]
        return least(available) if len(available) == len(values) else None

    return Statistic(compute)


def of_curves(statistic: Callable[..., Estimate], better: Case, worse: Case) -> Statistic:
    """Return a statistic of two curves of validation."""

    def compute(evidence: SemanticEvidence, run: RunKey, interval: bool) -> Estimate | None:
        if failed := _diverged(evidence, run, better, worse):
            return failed
        curves = [evidence.curves(case, run)[1] for case in (better, worse)]
        return None if any(table is None for table in curves) else statistic(*curves)

    return Statistic(compute)


def changed(arm: str, statistic: Callable[[SimilarityMatrix], Estimate], mode: str = "all") -> Statistic:
    """Return a statistic of an arm before and after fine-tuning."""

    def compute(evidence: SemanticEvidence, run: RunKey, interval: bool) -> Estimate | None:
        matrix = evidence.similarity(run.seed, arm, evidence.tuned(run.seed, arm, mode))
        return None if matrix is None else statistic(matrix)

    return Statistic(compute, per_seed=True)


def between(x: str, y: str, statistic: Callable[..., Estimate], *whens: str) -> Statistic:
    """Return a statistic of two arms, "before" or "after" fine-tuning, or both."""

    def compute(evidence: SemanticEvidence, run: RunKey, interval: bool) -> Estimate | None:
        matrices = [arm_similarity(evidence, run.seed, x, y, when) for when in whens]
        return None if any(matrix is None for matrix in matrices) else statistic(*matrices)

    return Statistic(compute, per_seed=True)


def arm_similarity(evidence: SemanticEvidence, seed: int, x: str, y: str, when: str) -> SimilarityMatrix | None:
    """Return the similarity of two arms "before" or "after" fine-tuning, or `None`."""
    models = (x, y) if when == "before" else (evidence.tuned(seed, x), evidence.tuned(seed, y))
    return evidence.similarity(seed, *models)


def _diverged(evidence: SemanticEvidence, run: RunKey, *cases: Case) -> Estimate | None:
    """Return an undefined estimate if the loss of a run stopped being a number; else `None`."""
    failed = [case.name for case in cases if evidence.diverged(case, run)]
    return undefined(f"the loss of {' and '.join(failed)} stopped being a number") if failed else None


def of_map(case: Case, measure: str) -> Statistic:
    """Return how much of a measure the maps of a case have, mean over images."""
    return _of_maps(lambda result: result.mean(case.name, measure), measure, case)


def follows(better: Case, worse: Case, measure: str = "ap") -> Statistic:
    """Return how much more of a measure the maps of one case have than those of another, in pairs."""
    return _of_maps(lambda result: result.difference(better.name, worse.name, measure), measure, better, worse)


def beats(case: Case, control: str) -> Statistic:
    """Return how much better a map finds boundaries than "chance", or one of the controls, in pairs."""

    return _of_maps(lambda result: result.difference(case.name, control), "ap", case)


def _of_maps(row: Callable[[Attributions], dict[str, float]], measure: str, *cases: Case) -> Statistic:
    """Return a statistic of the maps of some cases: a row with value, low, high, num."""

    def compute(evidence: SemanticEvidence, run: RunKey, interval: bool) -> Estimate | None:
        result = evidence.gradcam(run.seed)
        if result is None or any(case.name not in result.models for case in cases):
            return None
        numbers, factor = row(result), 1.0 if measure.startswith("correlation") else 100.0
        if not numbers["num"]:
            return undefined(NO_MAP)
        value, low, high = (factor * float(numbers[end]) for end in ("value", "low", "high"))
        return Estimate(value, low, high)

    return Statistic(compute, per_seed=True)


POINTS = "points"


NONE, CLASSES, VIDEO, BOTH, FLOW = (
    Case(arm) for arm in ("none", "classification", "video", "video_classification", "flow")
)


FROZEN = {arm: Case(arm, mode="frozen") for arm in ("none", "classification", "video", "video_classification", "flow")}


def _gain(name: str, statement: str, cases: tuple[Case, Case], figure: str, measure: str = MAIN, of: str = "") -> Claim:
    """Return the claim that the first of two cases has more of the main score, or of `measure`."""
    return Claim(name, statement, POINTS, f"scores_{figure}", gains(*cases, measure), of)


def _twice(name: str, statement: str, cases: tuple[Case, Case], figure: str) -> tuple[Claim, Claim]:
    """Return a claim about mIoU and the same about pixel accuracy."""
    return (
        _gain(name, f"{statement}, in mIoU", cases, figure),
        _gain(f"{name}_accuracy", f"{statement}, in pixel accuracy", cases, figure, measure="accuracy"),
    )


def _pair(arms: str, data: str = "kitti", network: str = "skip", size: str = "") -> tuple[Case, Case]:
    first, second = cases_of_arms(arms, data, network, size=size)
    return first, second


def _follows(name: str, statement: str, worse: Case, measure: str = "ap", of: str = "") -> Claim:
    """Return the claim that the maps of depth have more of a measure than those of another case."""
    return Claim(name, statement, POINTS, FIGURE, follows(VIDEO, worse, measure), of)


SIZES = tuple((Case("video", num=num), Case("none", num=num)) for num in (4, 0, 64))


SIZES_CLASSES = tuple((Case("video", num=num), Case("classification", num=num)) for num in (4, 0, 64))


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
    _gain("stereo_video", "Depth learnt from stereo > from video", _pair("stereo video"), "table2"),
    _gain("lidar_stereo", "Measured depth > depth learnt from stereo", _pair("lidar stereo"), "table2"),
    _gain("encoder_only", "The encoder alone helps: depth without its decoder > none",
          (Case("video", mode="encoder"), NONE), "table3"),
    _gain("encoder_only_both", "The encoder alone helps after classification: depth without its decoder > none",
          (Case("video_classification", mode="encoder"), NONE), "table3"),
    _gain("decoder_helps", "The decoder helps too: depth with its decoder > without",
          (BOTH, Case("video_classification", mode="encoder")), "table3"),
    Claim("faster_none", "Depth converges faster than none: area under the held-out mIoU", POINTS, "curves_table1",
          of_curves(statistics.area_gain, VIDEO, NONE)),
    Claim("faster_classes", "Depth converges faster than classification: area under the held-out mIoU", POINTS,
          "curves_table1", of_curves(statistics.area_gain, VIDEO, CLASSES)),
    _gain("city_depth", "On Cityscapes' layout, depth > classification", _pair("cityscapes_depth classification",
          "cityscapes", "deeplab"), "table5"),
    _gain("city_cropped", "Depth learnt on random crops > on full frames", _pair("cityscapes_cropped "
          "cityscapes_depth", "cityscapes", "deeplab"), "table5"),
    _gain("low_resolution", "Pre-trained at twice the resolution of fine-tuning, depth still helps: depth > none",
          _pair("video none", size="low"), "figure5"),
    _gain("high_resolution", "Pre-trained at half the resolution of fine-tuning, depth fails: none > depth",
          _pair("none video", size="high"), "figure5"),
    Claim("every_size", "Depth > none at every training-set size: the least gain", POINTS, "sizes", least_gain(SIZES)),
    Claim("every_size_classes", "Depth > classification at every training-set size: the least gain", POINTS, "sizes",
          least_gain(SIZES_CLASSES)),
    _follows("maps_none", "Grad-CAM maps follow the outlines of classes better: depth > none", NONE),
    _follows("maps_classes", "Grad-CAM maps follow the outlines of classes better: depth > classification", CLASSES),
    _gain("rooms", "In rooms, depth > classification", _pair("rooms_depth classification", data="rooms"), "figure8"),
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
    first, second = (Case(case.arm, mode=case.mode, quirks=RELEASED) for case in cases)
    return _gain(f"released_{name}", f"With all faults of the released code: {statement}", (first, second), "quirks")


CODE = (
    *map(_quirk, QUIRKS),
    _released("depth", "depth > none", (VIDEO, NONE)),
    _released("frozen", "frozen classification is worse than nothing", (FROZEN["none"], FROZEN["classification"])),
)
"""What the faults of the released code do here; neither paper nor code says so."""


def _closer(before: SimilarityMatrix, after: SimilarityMatrix) -> Estimate:
    """Return how much more similar two arms are after fine-tuning than before, over all layers, in CKA."""
    return mean_diagonal(after) - mean_diagonal(before)


def _divergence(when: str) -> Statistic:
    return between("video", "classification", statistics.layer_divergence, when)


LAYERS = (
    Claim("later_changes", "Fine-tuning changes the later half of depth's layers more", CKA, "before_after",
          changed("video", statistics.later_change_more)),
    Claim("part_late", "Depth and classification part ways late: earlier layers are more alike than later ones", CKA,
          "parting", _divergence("before")),
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
"""The claims that are tested."""


CONTROLS = (
    Claim("faster_none_level", "… in percent of training, until 0.9 of the other's last mIoU is reached", "%",
          "curves_table1", of_curves(statistics.sooner, VIDEO, NONE), "faster_none"),
    Claim("faster_classes_level", "… in percent of training, until 0.9 of the other's last mIoU is reached", "%",
          "curves_table1", of_curves(statistics.sooner, VIDEO, CLASSES), "faster_classes"),
    _follows("maps_none_signed", "… before their ReLU", NONE, "ap_signed", "maps_none"),
    Claim("maps_chance", "… depth's maps > chance", POINTS, FIGURE, beats(VIDEO, "chance"), "maps_none"),
    Claim("maps_edges", "… depth's maps > the edges of the image", POINTS, FIGURE, beats(VIDEO, MAP_CONTROLS["edges"]),
          "maps_none"),
    _follows("maps_classes_signed", "… before their ReLU", CLASSES, "ap_signed", "maps_classes"),
    _gain("flow_classes", "… and against classification: classification > flow", (CLASSES, FLOW), "table4",
          of="flow_hurts"),
    Claim("later_changes_classes", "… of classification's", CKA, "before_after",
          changed("classification", statistics.later_change_more), "later_changes"),
    Claim("later_changes_none", "… of the untrained network's", CKA, "before_after",
          changed("none", statistics.later_change_more), "later_changes"),
    Claim("frozen_changes", "… frozen: change of depth's layers, which is 0 if frozen is frozen", CKA, "before_after",
          changed("video", statistics.change, "frozen"), "later_changes"),
    Claim("part_late_tuned", "… after fine-tuning", CKA, "parting", _divergence("after"), "part_late"),
    Claim("part_late_none", "… depth and the untrained network", CKA, "parting",
          between("none", "video", statistics.layer_divergence, "before"), "part_late"),
)  # fmt: skip
"""What is shown with the claims, and not tested."""
