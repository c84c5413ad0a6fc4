"""The scales of Depth-to-Semantic: which arms and cases are run, on which data."""

from dataclasses import replace

import pytest
from helpers.semantic_run import CASES, tiny

from cka_probe.errors import UnknownNameError
from cka_probe.images.classes import CITYSCAPES, NYU13
from cka_probe.lab.scenes import Settings
from cka_probe.papers.depth_to_semantic.claims import CLAIMS
from cka_probe.papers.depth_to_semantic.recipes import (
    PRETRAINED_ON,
    data_of,
    labelled_data,
    pretraining_recipe,
)
from cka_probe.papers.depth_to_semantic.run import is_compared, model_pairs
from cka_probe.papers.depth_to_semantic.study import ARMS, DECLARATIONS, LABELLED, QUIRKS, SCALES, TABLES, Case
from cka_probe.report.study import MATRICES


@pytest.fixture
def scale(tmp_path):
    """The smallest scale."""
    return tiny(tmp_path)


@pytest.mark.parametrize("name", SCALES)
def test_a_scale_has_a_stage_for_every_arm_and_no_scene_twice(name):
    scale = SCALES[name]
    names = {stage.name for stage in pretraining_recipe(scale, 0, (), {}).stages}
    assert set(scale.arms) - {"none"} <= names
    assert set(data_of(scale, ())) <= set(PRETRAINED_ON)
    seeds = [scene.seed for scene in scale.scenes.values()]
    assert len(seeds) == len(set(seeds))
    if scale.scenes:
        cases = scale.with_tables(["all"]).cases()
        assert set(scale.scenes) == {*PRETRAINED_ON, *labelled_data(case.data for case in cases)}
        assert isinstance(scale.scenes["kitti"], Settings)


def test_the_protocol_released_only_adds_quirks():
    scale = SCALES["gpu"]
    paper, released = scale.cases(), scale.cases("released")
    assert released[: len(paper)] == paper
    assert {quirk for case in released[len(paper) :] for quirk in case.quirks} == set(QUIRKS)
    assert not any(case.quirks for case in paper)
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        scale.cases("papre")


def test_tables_select_what_is_run():
    scale = SCALES["demo"]
    assert scale.with_tables(["figure3"]).cases() == tuple(case for case in TABLES["figure3"] if case.num <= 64)
    assert SCALES["paper"].with_tables(["figure3"]).cases() == TABLES["figure3"]
    everything = set(scale.with_tables(["all"]).cases())
    assert everything > set(scale.cases())
    assert {case.arm for case in everything} == set(ARMS) - {*scale.without, *DECLARATIONS["from_files"]}
    with pytest.raises(UnknownNameError, match="no table 'tabel1'; did you mean 'table1'"):
        scale.with_tables(["table2", "tabel1"])


def test_the_scale_of_the_claims_has_the_cases_of_the_main_ones():
    main = {"depth_none", "depth_classes", "classes_none", "frozen_depth", "frozen_classes", "frozen_depth_classes"}
    main |= {"flow_hurts", "flow_hurts_frozen", "stereo_none", "lidar_none", "stereo_classes", "lidar_classes"}
    names = [claim.statistic.names for claim in CLAIMS if claim.name in main]
    assert len(names) == len(main)
    assert {Case.of(name) for pair in names for name in pair} == set(SCALES["claims"].cases())


def test_arms_can_be_left_out(scale):
    assert scale.arms == ("none", "classification", "lidar")
    assert scale.cases() == CASES
    alone = replace(scale, without=(*scale.without, "classification", "lidar"))
    assert alone.arms == ("none",)
    assert pretraining_recipe(alone, 0, (), {}).stages == ()
    assert data_of(scale, ()) == ("objects", "kitti")


def test_the_seven_classes_are_those_of_the_paper():
    names = ["road", "sidewalk", "building", "vegetation", "terrain", "sky", "car"]
    for data, vocabulary in {"kitti": CITYSCAPES, "cityscapes": CITYSCAPES, "rooms": NYU13}.items():
        assert LABELLED[data]["classes"] == len(vocabulary.names)
        assert [vocabulary.names[number] for number in LABELLED[data].get("subset", [])] == names * (data != "rooms")


def test_the_page_of_a_study_shows_matrices_that_the_study_writes():
    cases = SCALES["paper"].cases()
    pairs = model_pairs({case.arm for case in cases}, [case for case in cases if is_compared(case)])
    assert MATRICES["depth-to-semantic"].keys() <= {f"{x}~~{y}" for x, y in pairs}
