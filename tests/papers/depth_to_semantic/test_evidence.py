"""What is read of a study of Depth-to-Semantic, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.semantic_study import maps_of, matrix, study, study_with_maps

from cka_probe.errors import DataError
from cka_probe.papers.claims import judge_claims
from cka_probe.papers.depth_to_semantic.claims import CLAIMS
from cka_probe.papers.depth_to_semantic.study import Case, SemanticEvidence
from cka_probe.papers.depth_to_semantic.tables import (
    case_rows,
)


def test_files_of_another_study_are_an_error(tmp_path):
    writer = study(tmp_path)
    with pytest.raises(DataError, match="expected a study with a folder seed<k>"):
        SemanticEvidence.load(tmp_path / "nowhere")
    writer.run(Case("lidar"), 0.7, images="others")
    with pytest.raises(DataError, match=r"its test images of kitti .* are not those of"):
        judge_claims(SemanticEvidence.load(tmp_path), CLAIMS)
    writer.run(Case("lidar"), 0.7)
    folder = writer.paths.tuned(0, Case("lidar"), 0.001, 0)
    (folder / "recipe.json").write_text('{"seed": 7}', "utf-8")
    with pytest.raises(DataError, match="its drawn training images of trial 0, seed 0"):
        case_rows(SemanticEvidence.load(tmp_path), "table2")
    writer.study(paper="mesa")
    with pytest.raises(DataError, match=r'expected a study of depth-to-semantic .* found one of "mesa"'):
        SemanticEvidence.load(tmp_path)


def test_similarities_are_checked_for_their_weights_and_read_in_either_order(tmp_path):
    writer = study(tmp_path)
    writer.similarity("none", "video", np.linspace(1, 0.2, 9))
    evidence = SemanticEvidence.load(tmp_path)
    assert evidence.similarity(0, "video", "none").x == evidence.similarity(0, "none", "video").x
    matrix(0.5, "none", "flow", seed=3).save(writer.paths.similarity(0, "none", "flow"))
    with pytest.raises(DataError, match="weights of none, seed 0"):
        evidence.similarity(0, "none", "flow")
    assert evidence.similarity(0, "lidar", "flow") is None


@pytest.mark.parametrize(("change", "message"), [("hash", "tuned weights of none~kitti"), ("images", "test images")])
def test_maps_of_other_weights_or_images_are_refused(tmp_path, change, message):
    result = maps_of()
    if change == "hash":
        name = Case("none").name
        result = replace(result, models={**result.models, name: {**result.models[name], "hash": "other"}})
    else:
        result = replace(result, data={**result.data, "hash": "others"})
    evidence = study_with_maps(tmp_path, result)
    with pytest.raises(DataError, match=f"is of another run: its {message}"):
        evidence.gradcam(0)
