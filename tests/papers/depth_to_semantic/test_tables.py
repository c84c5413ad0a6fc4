"""The tables of a study of Depth-to-Semantic."""

import math

import pytest
from helpers.semantic_study import (
    PARTING,
    Writer,
    iou_of,
    maps_of,
    page,
    study,
    study_with_maps,
)

from cka_probe.papers.depth_to_semantic.study import TABLES, Case, SemanticEvidence
from cka_probe.papers.depth_to_semantic.tables import (
    PUBLISHED,
    alignment_rows,
    case_rows,
    divergence_rows,
    labels_of,
    pair_rows,
    published,
)


def test_a_table_has_the_papers_numbers_where_they_are_verified(tmp_path):
    study(tmp_path)
    rows = case_rows(SemanticEvidence.load(tmp_path), "table1").set_index(["case", "measure"])
    first = rows.loc[(Case("none").name, "accuracy")]
    assert (first["paper"], first["value"]) == (70.75, pytest.approx(60.0))
    assert math.isnan(rows.loc[(Case("none").name, "cross_entropy"), "paper"])
    assert rows.loc[(Case("video", mode="frozen").name, "miou_subset"), "state"] == "not run"
    assert rows.loc[(Case("none").name, "miou"), "value"] == pytest.approx(100 * iou_of(0.6), abs=0.05)  # no 0 for pole
    assert "not run" in (text := page(tmp_path))
    assert "- 46.53 (depth after classification, frozen, miou_subset): Table 1" in text


def test_published_numbers_belong_to_cases_of_their_tables():
    shown = {case.name for cases in TABLES.values() for case in cases}
    assert {row for table, row, _ in PUBLISHED if not table} <= shown
    assert {row for table, row, _ in PUBLISHED if table} <= {case.name for case in TABLES["table4"]}
    assert published("table4", Case("flow"), "miou_subset").value == 42.72  # of ResNet-50, not Figure 7's
    assert published("figure7", Case("flow"), "miou_subset").value == 38.47


def test_every_case_of_a_table_has_a_different_name(monkeypatch):
    monkeypatch.setitem(TABLES, "mixed", (Case("lidar", mode="frozen"), Case("lidar", network="linear", mode="frozen")))
    for table in TABLES:
        names = list(labels_of(table).values())
        assert len(set(names)) == len(names), table
    assert list(labels_of("mixed").values())[1] == "measured depth (LiDAR), frozen, one linear layer on the last map"


def test_two_arms_diverge_where_their_similarity_falls_most(tmp_path):
    Writer(tmp_path).similarity("classification", "video", PARTING)
    rows = divergence_rows(pair_rows(SemanticEvidence.load(tmp_path)))
    (row,) = rows.to_dict("records")
    assert row["arms"] == "procedural object classification and depth from video"
    assert row["parts_at"] == "layer2.0 \N{RIGHTWARDS ARROW} layer2.1"
    assert row["fall"] == pytest.approx(0.6)


def test_the_table_has_each_arm_with_its_controls(tmp_path):
    table = alignment_rows(study_with_maps(tmp_path)).set_index(["arm", "measure"])
    assert table.loc[("no pre-training", "map"), "value"] == pytest.approx(
        100 * maps_of().mean(Case("none").name, "ap")["value"]
    )
    assert table.loc[("no pre-training", "map"), "over"] == "images"
    assert table.loc[("depth after classification", "map"), "state"] == "not run"
    assert table.loc[("depth from video", "map, correlation"), "value"] < 1  # no percent
