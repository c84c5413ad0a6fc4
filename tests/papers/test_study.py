"""The folder and the data of a study."""

from pathlib import Path

import pytest

from cka_probe.errors import OutputError
from cka_probe.papers.mesa.study import NEEDED
from cka_probe.papers.study import RunContext, StudyPaths, open_study


def test_data_with_a_path_is_not_generated(tmp_path):
    given = {name: f"somewhere/{name}" for name in NEEDED}
    paths = open_study(StudyPaths(tmp_path), "mesa", "demo", (), NEEDED, given, {}, 1, RunContext())
    assert paths == given
    assert not (tmp_path / "data").exists()


def test_paths_of_a_study_and_its_description(tmp_path):
    study = StudyPaths(tmp_path)
    study.claim({"seeds": 1, "settings": ("a",)})
    study.claim({"seeds": 1, "settings": ["a"]})
    assert study.checkpoint(3, "mp") == Path(tmp_path) / "seed3" / "mp.safetensors"
    with pytest.raises(OutputError, match="seeds is 1 there and 2 here"):
        study.claim({"seeds": 2, "settings": ["a"]})
