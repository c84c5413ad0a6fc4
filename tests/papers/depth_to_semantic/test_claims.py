"""The statistics of Depth-to-Semantic by hand, and the claims of a study."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers.attributions import IMAGES as MAP_IMAGES
from helpers.semantic_study import (
    IMAGES,
    iou_of,
    judged,
    maps_of,
    matrix,
    page,
    scores,
    study,
    study_with_maps,
)

from cka_probe.errors import DataError
from cka_probe.papers.depth_to_semantic import claims as statistics
from cka_probe.papers.depth_to_semantic.claims import NO_MAP
from cka_probe.papers.depth_to_semantic.report import (
    PAPER,
)
from cka_probe.papers.depth_to_semantic.study import TABLES, Case, SemanticEvidence
from cka_probe.papers.depth_to_semantic.tables import (
    absences,
    cases_of,
)
from cka_probe.papers.page import Report

NONE, VIDEO, ROOMS = Case("none"), Case("video"), Case("none", data="rooms")


def curve(*values, steps=(10, 20, 40), name="miou_subset"):
    return pd.DataFrame({"step": steps, name: values})


def test_a_gain_is_the_difference_in_points_with_and_without_an_interval():
    better, worse = scores(VIDEO, 0.8, spread=0.05), scores(NONE, 0.6, spread=0.02)
    estimate = statistics.gain(better, worse, statistics.MAIN)
    assert estimate.value == pytest.approx(100 * (iou_of(0.8) - iou_of(0.6)), abs=0.05)
    assert estimate.low < estimate.value < estimate.high
    bare = statistics.gain(better, worse, statistics.MAIN, interval=False)
    assert (bare.value, math.isnan(bare.low)) == (estimate.value, True)
    assert statistics.gain(worse, better, statistics.MAIN, interval=False).value == -bare.value


def test_cross_entropy_is_in_nats_and_the_main_score_without_a_subset_is_over_all_classes():
    assert statistics.value_of(scores(NONE, 0.5), "cross_entropy").value == pytest.approx(math.log(2))
    rooms = scores(ROOMS, 0.6)
    assert statistics.named(rooms, statistics.MAIN) == "miou"
    assert statistics.value_of(rooms, statistics.MAIN).value == pytest.approx(100 * iou_of(0.6), abs=0.05)
    assert statistics.value_of(rooms, "miou_subset").undefined == "no image has miou_subset"


def test_a_gain_over_other_images_is_an_error():
    better, worse = scores(VIDEO, 0.8), scores(NONE, 0.6)
    object.__setattr__(worse, "images", tuple(f"other{i}" for i in range(IMAGES)))
    for interval in (True, False):
        with pytest.raises(DataError, match="same images"):
            statistics.gain(better, worse, "accuracy", interval)


def test_the_area_gain_by_hand_and_of_a_curve_that_is_only_sooner():
    # areas: (10 (0.2 + 0.6) / 2 + 20 (0.6 + 0.8) / 2) / 30 = 0.6 and (10 · 0.4 / 2 + 20 · 1.2 / 2) / 30 = 0.4667
    estimate = statistics.area_gain(curve(0.2, 0.6, 0.8), curve(0.0, 0.4, 0.8))
    assert estimate.value == pytest.approx(100 * (0.6 - 14 / 30))
    assert statistics.area_gain(curve(0.3, 0.3, 0.3), curve(0.1, 0.1, 0.1)).value == pytest.approx(20)


def test_a_collinear_step_does_not_change_an_area():
    steps, values = np.array([0.0, 10.0, 40.0]), np.array([0.0, 0.5, 0.8])
    finer, between = np.array([0.0, 5.0, 10.0, 20.0, 40.0]), np.array([0.0, 0.25, 0.5, 0.6, 0.8])
    assert statistics.area(finer, between) == pytest.approx(statistics.area(steps, values))


def test_sooner_by_hand():
    # the level is 0.9 · 0.6 = 0.54: between 10 and 20 at 0.3 … 0.6 it is at 18, between 20 and 40 at 0.4 … 0.6 at 34
    estimate = statistics.sooner(curve(0.3, 0.6, 0.6), curve(0.1, 0.4, 0.6))
    assert estimate.value == pytest.approx(100 * (34 - 18) / 40)
    assert statistics.sooner(curve(0.1, 0.4, 0.6), curve(0.1, 0.4, 0.6)).value == 0
    assert "not reached" in statistics.sooner(curve(0.1, 0.2, 0.3), curve(0.1, 0.4, 0.6)).undefined


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (curve(0.1, 0.2, 0.3, steps=(10, 20, 30)), "same two or more steps"),
        (curve(0.1, math.nan, 0.3), "not a number"),
        (curve(0.1, 0.2, 0.3, name="accuracy"), "no mIoU"),
    ],
)
def test_curves_that_cannot_be_compared_give_the_reason(other, why):
    for statistic in (statistics.area_gain, statistics.sooner):
        assert why in statistic(curve(0.1, 0.2, 0.3), other).undefined


def along(*points):
    return pd.DataFrame(points, columns=["step", "miou", "accuracy"])


def test_the_accuracy_at_equal_miou_by_hand():
    # Both pass through mIoUs of 0.2 to 0.4, where the accuracies are miou + 0.4 and, for a run that also falls
    # back and whose levels are those it first reaches, 0.5 miou + 0.3. The mean difference is 0.5 * 0.3 + 0.1 = 0.25.
    better = along((10, 0.2, 0.6), (20, 0.5, 0.9))
    worse = along((10, 0.1, 0.35), (20, 0.3, 0.45), (30, 0.15, 0.9), (40, 0.4, 0.5), (50, 0.2, 0.1))
    steps, levels = worse["step"].to_numpy(float), np.linspace(0.2, 0.4, statistics.LEVELS)
    first = [statistics.reached(steps, worse["miou"].to_numpy(), level) for level in levels]
    expected = 100 * (np.mean(levels + 0.4) - np.mean(np.interp(first, steps, worse["accuracy"])))
    assert statistics.accuracy_at_equal_miou(better, worse).value == pytest.approx(expected)
    straight = along((10, 0.1, 0.35), (40, 0.4, 0.5))
    assert statistics.accuracy_at_equal_miou(better, straight).value == pytest.approx(25.0)
    assert statistics.accuracy_at_equal_miou(better, better).value == 0


def test_runs_without_an_miou_in_common_have_no_accuracy_at_equal_miou():
    low, high = along((10, 0.1, 0.3), (20, 0.2, 0.4)), along((10, 0.3, 0.5), (20, 0.4, 0.6))
    assert "in common" in statistics.accuracy_at_equal_miou(high, low).undefined
    assert "was measured" in statistics.accuracy_at_equal_miou(high, curve(0.1, 0.2, 0.3)).undefined
    assert "not a number" in statistics.accuracy_at_equal_miou(high, along((10, math.nan, 0.3))).undefined


def test_random_crops_are_compared_on_training_images_and_on_validation_images(tmp_path):
    full, cropped = (Case(arm, "cityscapes", "deeplab") for arm in ("cityscapes_depth", "cityscapes_cropped"))
    writer = study(tmp_path)
    for case, training, validation in ((full, 0.7, 0.6), (cropped, 0.8, 0.5)):
        writer.run(case, validation)
        writer.training_scores(case, training)
    rows = judged(tmp_path)
    assert rows["city_cropped_training"].value == pytest.approx(10, abs=0.1)
    assert rows["city_cropped_validation"].value == pytest.approx(10, abs=0.1)


def test_layers_by_hand():
    diagonal = [0.9] * 5 + [0.5] * 4
    assert statistics.change(matrix(diagonal, "a", "b")).value == pytest.approx(1 - (4.5 + 2) / 9)
    estimate = statistics.earlier_more_similar(matrix(diagonal, "a", "b"))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.4, 0.4 - 0.02, 0.4 + 0.02))
    assert statistics.earlier_more_similar(matrix([1.0] * 9, "a", "b")).value == 0
    assert math.isnan(statistics.earlier_more_similar(matrix(diagonal, "a", "b", undefined=(3,))).value)


@pytest.mark.slow
def test_one_trial_decides_nothing(tmp_path):
    study(tmp_path)
    text = page(tmp_path)
    assert "nothing is decided by one trial" in text
    assert "undecided (one trial)" in text
    assert "| holds" not in text
    row = judged(tmp_path)["depth_none"]
    assert row.low < row.value < row.high  # the bootstrap over images


def test_trials_of_one_seed_decide_for_one_pretraining(tmp_path):
    study(tmp_path, trials=(0, 1, 2), jitter=0.01)
    rows = judged(tmp_path)
    assert rows["depth_none"].verdict == "holds"
    assert set(rows["depth_none"].runs) == {0, 1, 2}
    assert rows["classes_none"].verdict_text == "undecided (equal trials: not different runs)"
    values = [100 * (iou_of(0.8 + 0.01 * trial) - iou_of(0.6)) for trial in range(3)]
    assert rows["depth_none"].value == pytest.approx(np.mean(values), abs=0.05)
    assert "over 3 trials of one pre-training" in page(tmp_path)


def test_trials_of_several_seeds_are_averaged_first(tmp_path):
    study(tmp_path, trials=(0, 1), seeds=(0, 1), jitter=0.004)
    row = judged(tmp_path)["depth_none"]
    trials = [[100 * (iou_of(0.8 + 0.004 * (trial + 10 * seed)) - iou_of(0.6)) for trial in (0, 1)] for seed in (0, 1)]
    assert list(row.runs.values()) == pytest.approx(np.mean(trials, 1), abs=0.05)
    assert "over 2 seeds, the trials of a seed averaged first" in page(tmp_path)


def test_a_diverged_run_differs_from_one_that_was_not_run(tmp_path):
    writer = study(tmp_path)
    writer.run(Case("none", size="high"), 0.6)
    writer.diverged(Case("video_classification", size="high"))
    row = judged(tmp_path)["high_resolution"]
    assert row.verdict == "undefined"
    assert "the loss of video_classification~kitti~skip~all~high stopped being a number" in row.reason
    lines = absences(SemanticEvidence.load(tmp_path))
    assert any(
        "loss stopped being a number: depth after classification, larger images (1 of 1)" in line for line in lines
    )
    assert "flow" not in " ".join(line for line in lines if line.startswith("table2"))
    assert "table5: nothing of it" in lines


def test_faults_of_the_released_code_follow_the_same_case_without(tmp_path):
    names = [case.name for case in cases_of("quirks")]
    assert set(TABLES["quirks"]) <= set(cases_of("quirks"))
    assert names.index(Case("video").name) < names.index(Case("video", quirks=("unmirrored",)).name)
    writer = study(tmp_path)
    assert "--protocol" not in page(tmp_path)
    writer.run(Case("video", quirks=("unmirrored",)), 0.7)
    assert judged(tmp_path)["quirk_unmirrored"].value == pytest.approx(100 * (iou_of(0.8) - iou_of(0.7)), abs=0.05)
    assert "--protocol released --out OUT" in page(tmp_path)


def test_the_claims_are_paired_differences_of_average_precision_in_points(tmp_path):
    study_with_maps(tmp_path)
    result = maps_of()
    row = judged(tmp_path)["maps_none"]
    expected = result.difference(Case("video").name, Case("none").name)
    assert (row.value, row.low, row.high) == pytest.approx(tuple(100 * expected[e] for e in ("value", "low", "high")))
    assert row.verdict_text == "undecided (one seed)"
    edges = judged(tmp_path)["maps_edges"].value
    table = result.of(Case("video").name)
    assert edges == pytest.approx(100 * (table["ap"] - table["ap_edges"]).mean())


def test_each_seed_is_a_run_of_the_maps(tmp_path):
    study_with_maps(tmp_path, seeds=(0, 1, 2))
    row = judged(tmp_path)["maps_classes_signed"]
    assert len(row.runs) == 3
    assert np.isfinite(row.runs[2])
    assert row.runs[0] != row.runs[1]


@pytest.mark.slow
def test_maps_that_are_all_zero_are_undefined(tmp_path):
    evidence = study_with_maps(tmp_path, maps_of(zero=range(MAP_IMAGES)))
    row = judged(tmp_path)["maps_none"]
    assert (row.verdict, row.reason) == ("undefined", f"seed 0: {NO_MAP}")
    assert judged(tmp_path)["maps_none_signed"].verdict == "undecided"
    text = Report.of(PAPER, evidence).page()
    assert 'Cannot be tested: "Grad-CAM maps follow the outlines of classes better: depth > none"' in text
