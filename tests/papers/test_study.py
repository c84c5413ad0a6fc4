"""The folder and the data of a study."""

from pathlib import Path

import pytest

from cka_probe.errors import OutputError
from cka_probe.papers.mesa.study import NEEDED
from cka_probe.papers.study import StudyPaths, prepare_data


def test_data_with_a_path_is_not_generated(tmp_path):
    paths = {name: f"somewhere/{name}" for name in NEEDED}
    assert prepare_data(NEEDED, paths, {}, tmp_path / "data") == paths
    assert not (tmp_path / "data").exists()


def test_paths_of_a_study_and_its_description(tmp_path):
    study = StudyPaths(tmp_path)
    study.claim({"seeds": 1, "settings": ("a",)})
    study.claim({"seeds": 1, "settings": ["a"]})
    assert study.checkpoint(3, "mp") == Path(tmp_path) / "seed3" / "mp.safetensors"
    with pytest.raises(OutputError, match="seeds is 1 there and 2 here"):
        study.claim({"seeds": 2, "settings": ["a"]})
