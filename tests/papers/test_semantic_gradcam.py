"""Figure 6 in a study: its claims are those of the maps, of the same weights and images, or are not run."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.attributions import IMAGES, attributions, rows
from helpers.semantic_study import Writer

from cka_probe.attribution.saved_maps import SavedMap, save_maps
from cka_probe.errors import DataError
from cka_probe.papers.claims import judge_claims
from cka_probe.papers.depth_to_semantic.claims import CLAIMS, NO_MAP
from cka_probe.papers.depth_to_semantic.evidence import SemanticEvidence
from cka_probe.papers.depth_to_semantic.figures import draw_maps
from cka_probe.papers.depth_to_semantic.page import PAPER, maps_note
from cka_probe.papers.depth_to_semantic.study import Case
from cka_probe.papers.depth_to_semantic.tables import alignment_rows
from cka_probe.papers.figures import FigureWriter
from cka_probe.papers.page import Report

ARMS = ("none", "classification", "video")


def found_of(zero=(), seed=0):
    """Maps of three arms over the test images, as their scores say that these are."""
    tables = [rows(Case(arm).name, number + 10 * seed, zero) for number, arm in enumerate(ARMS)]
    result = attributions(*tables)
    models = {name: model | {"hash": f"{name}/{seed}/0"} for name, model in result.models.items()}
    return replace(result, models=models, data={**result.data, "hash": "the test of kitti"})


def study(folder, result=None, seeds=(0,)):
    writer = Writer(folder)
    for seed in seeds:
        for arm in ARMS:
            writer.run(Case(arm), 0.7, seed)
        (result or found_of(seed=seed)).save(writer.places.gradcam(seed))
    return SemanticEvidence.load(folder)


def judged(evidence):
    return {row.name: row for row in judge_claims(evidence, CLAIMS)}


def test_the_claims_are_paired_differences_of_average_precision_in_points(tmp_path):
    evidence, result = study(tmp_path), found_of()
    row = judged(evidence)["maps_none"]
    expected = result.difference(Case("video").name, Case("none").name)
    assert (row.value, row.low, row.high) == pytest.approx(tuple(100 * expected[e] for e in ("value", "low", "high")))
    assert row.verdict_text == "undecided (one seed)"
    edges = judged(evidence)["maps_edges"].value
    own = result.of(Case("video").name)
    assert edges == pytest.approx(100 * (own["ap"] - own["ap_edges"]).mean())


def test_several_seeds_are_runs(tmp_path):
    evidence = study(tmp_path, seeds=(0, 1, 2))
    row = judged(evidence)["maps_classes_signed"]
    assert len(row.runs) == 3
    assert np.isfinite(row.runs[2])
    assert row.runs[0] != row.runs[1]


def test_the_table_has_each_arm_with_its_controls(tmp_path):
    table = alignment_rows(study(tmp_path)).set_index(["arm", "measure"])
    assert table.loc[("no pre-training", "map"), "value"] == pytest.approx(
        100 * found_of().mean(Case("none").name, "ap")["value"]
    )
    assert table.loc[("no pre-training", "map"), "over"] == "images"
    assert table.loc[("depth after classification", "map"), "state"] == "not run"
    assert table.loc[("depth from video", "map, correlation"), "value"] < 1  # no percent


def test_maps_that_are_all_zero_have_no_number_and_say_so(tmp_path):
    evidence = study(tmp_path, found_of(zero=range(IMAGES)))
    row = judged(evidence)["maps_none"]
    assert (row.verdict, row.reason) == ("undefined", f"seed 0: {NO_MAP}")
    assert judged(evidence)["maps_none_signed"].verdict == "undecided"
    text = Report.of(PAPER, evidence).page()
    assert 'Cannot be tested: "Grad-CAM maps follow the outlines of classes better: depth > none"' in text


def test_without_maps_the_page_says_not_run(tmp_path):
    writer = Writer(tmp_path)
    writer.run(Case("none"), 0.6)
    evidence = SemanticEvidence.load(tmp_path)
    assert judged(evidence)["maps_none"].verdict == "not run"
    assert maps_note(evidence) == "Not run."
    drawn = draw_maps(evidence, FigureWriter(tmp_path))
    assert (list(drawn.paths), len(drawn.missing)) == ([], 4)
    text = Report.of(PAPER, evidence).page()
    assert "do Grad-CAM maps follow the outlines of classes?\n\nNot run.\n" in text


def test_the_figure_is_drawn_from_what_was_kept(tmp_path):
    evidence, random = study(tmp_path), np.random.default_rng(0)
    for arm in ARMS:
        one = SavedMap("street/003.png", random.integers(0, 256, (64, 96, 3), dtype=np.uint8),
                   random.integers(0, 19, (64, 96)), random.random((64, 96), dtype=np.float32),
                   random.normal(size=(32, 48)).astype(np.float32), None, random.integers(0, 19, (64, 96)))  # fmt: skip
        save_maps([one], evidence.paths.maps(0, Case(arm).name))
    drawn = draw_maps(evidence, FigureWriter(tmp_path / "figures"))
    assert [path.name for path in drawn.paths] == ["figure6.png", "figure6.pdf"]
    assert all(path.stat().st_size > 10_000 for path in drawn.paths)
    assert list(drawn.missing) == ["depth after classification"]


@pytest.mark.parametrize(("changed", "said"), [("hash", "tuned weights of none~kitti"), ("images", "test images")])
def test_maps_of_other_weights_or_images_are_refused(tmp_path, changed, said):
    result = found_of()
    if changed == "hash":
        name = Case("none").name
        result = replace(result, models={**result.models, name: {**result.models[name], "hash": "other"}})
    else:
        result = replace(result, data={**result.data, "hash": "others"})
    evidence = study(tmp_path, result)
    with pytest.raises(DataError, match=f"is of another run: its {said}"):
        evidence.gradcam(0)
