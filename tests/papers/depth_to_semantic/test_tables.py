"""The tables of a study of Depth-to-Semantic."""

import math
from collections import Counter

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
    MEASURES,
    MINUS,
    OBJECT_MEASURES,
    PUBLISHED,
    WITHOUT_SUBSET,
    alignment_rows,
    case_rows,
    difference_rows,
    divergence_rows,
    labels_of,
    measures_of,
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
    assert "| depth after classification, frozen | – / 46.53 | – / 74.42 | not run |" in text
    assert "- Table 1, resnet18: no pre-training; " in text


def test_published_numbers_belong_to_cases_and_measures_and_one_case_has_one_number():
    shown = {case.name for cases in TABLES.values() for case in cases}
    linked = [cell for cell in PUBLISHED if cell.key]
    assert {name.removesuffix("@training") for cell in linked for name in cell.key.split(MINUS)} <= shown
    assert {measure for cell in linked for measure in cell.measures} <= {*MEASURES, *WITHOUT_SUBSET, *OBJECT_MEASURES}
    numbers = {}
    for cell in linked:
        assert numbers.setdefault((cell.key, cell.measures, cell.encoder), cell.value) == cell.value


def test_every_printed_cell_is_there():
    counts = {"Table 1": 40, "Table 2": 6, "Table 3": 16, "Table 4": 12, "Table 5": 32, "Table 6": 21, "Table 7": 18}
    cells = Counter(cell.table for cell in PUBLISHED)
    assert {table: cells[table] for table in counts} == counts
    assert len({cell[:4] for cell in PUBLISHED}) == len(PUBLISHED)
    percents = [cell for cell in PUBLISHED if cell.unit.startswith("percent") and cell.text]
    assert all(-10 < cell.value < 100 for cell in percents)
    miou = [cell.value for cell in PUBLISHED if cell.table == "Table 1" and "mIoU" in cell.column]
    accuracy = [cell.value for cell in PUBLISHED if cell.table == "Table 1" and "P.Acc" in cell.column]
    assert (min(miou), max(miou), min(accuracy), max(accuracy)) == (21.93, 50.92, 52.32, 77.34)


def test_differences_that_the_paper_prints_are_those_of_its_cells():
    cells = {(cell.key, cell.measures, cell.encoder): cell.value for cell in PUBLISHED if cell.key}
    differences = {key: value for key, value in cells.items() if MINUS in key[0]}
    assert len(differences) == 8
    for (names, measures, encoder), value in differences.items():
        better, worse = (cells[name, measures, encoder] for name in names.split(MINUS))
        assert value == pytest.approx(better - worse)


def test_ours_are_next_to_the_differences_that_the_paper_prints(tmp_path):
    study(tmp_path)
    rows = difference_rows(SemanticEvidence.load(tmp_path)).set_index(["arm", "measure"])
    row = rows.loc[("depth from video − no pre-training", "miou_subset")]
    assert row["paper"] == 4.65
    assert row["value"] == pytest.approx(100 * (iou_of(0.8) - iou_of(0.6)), abs=0.05)
    assert "| depth from video − no pre-training | 23.81 [" in page(tmp_path)


def test_a_number_is_of_the_encoder_of_the_study_or_of_the_only_one_of_the_table():
    assert published("table4", Case("flow"), "miou_subset", "resnet18").value == 42.72  # Table 4 is of ResNet-50 only
    assert published("table4", Case("none"), "miou_subset", "resnet18").value == 44.66  # and so is all of its column
    assert published("figure7", Case("flow"), "miou_subset", "resnet18").value == 38.47
    assert published("table1", Case("video"), "miou_subset", "resnet50").value == 49.90
    assert published("table1", Case("video"), "miou_subset", "resnet34") is None
    assert published("quirks", Case("video"), "miou_subset", "resnet18") is None
    probe = Case.of("depth_anything~voc~linear~frozen")
    assert published("table6_vit", probe, "miou", "dinov2_large").value == 87.3
    assert published("table6_vit", Case.of("mae~voc~dpt"), "miou", "vit_large") is None  # a dash
    assert published("table3_vit", Case.of("dpt_depth~dpt"), "accuracy", "vit_large").value == 81.94


def test_objects_are_next_to_the_papers_fractions():
    cell = published("table7", Case.of("depth_anything~coco_objects~maskrcnn"), "map50", "dinov2_large")
    assert (cell.value, cell.unit) == (0.720, "fraction")
    assert measures_of(TABLES["table7"]) == OBJECT_MEASURES
    assert list(labels_of("table7").values())[1] == "ADE20K: Depth Anything"


def test_every_case_of_a_table_has_a_different_name(monkeypatch):
    monkeypatch.setitem(TABLES, "mixed", (Case("lidar", mode="frozen"), Case("lidar", network="linear", mode="frozen")))
    for table in TABLES:
        names = list(labels_of(table).values())
        assert len(set(names)) == len(names), table
    assert list(labels_of("mixed").values())[1] == "measured depth (LiDAR), frozen, linear layer"


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
