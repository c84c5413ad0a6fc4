"""Runs are read by stage, and those that differ only in their seed are one arm."""

import pandas as pd
import pytest
from helpers.figures_of_lines import log, validation
from helpers.runs import write_run

from cka_probe.errors import DataError
from cka_probe.plotting.runs import read_run, read_runs


def test_runs_are_read_by_stage_and_seeds_are_one_arm(tmp_path):
    places = [write_run(tmp_path / f"full_seed{seed}", seed) for seed in (0, 1)]
    places.append(write_run(tmp_path / "frozen", 0, arm="frozen"))
    stages = read_runs(places)
    assert list(stages) == ["geometric", "depth"]  # in the recipe's order
    assert [run.arm for run in stages["depth"]] == ["full", "full", "frozen"]
    pd.testing.assert_frame_equal(stages["depth"][1].log, log(1))
    pd.testing.assert_frame_equal(stages["depth"][1].validation, validation(1, "abs_rel"))


def test_a_stage_and_a_log_are_runs_too(tmp_path):
    run = write_run(tmp_path / "full_0", 0)
    for place in (run / "depth", run / "depth/log.csv"):
        ((stage, (found,)),) = read_runs([place]).items()
        assert (stage, found.arm) == ("depth", "full")


def test_arms_of_one_name_are_told_apart(tmp_path):
    places = [write_run(tmp_path / part / "run_0", 0, arm=part) for part in "abc"]
    names = [run.arm for run in read_runs(places)["depth"]]
    assert len(set(names)) == 3
    assert names[0] == "run"


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(DataError, match=r"expected a log.csv, .* found none at "):
        read_runs([tmp_path])
    broken = tmp_path / "run/depth/log.csv"
    broken.parent.mkdir(parents=True)
    for text, message in (("", "expected a log of"), ("a,b\n1,2\n", "column 'step'"), ("step,b\n1,x\n", "numbers")):
        broken.write_text(text)
        with pytest.raises(DataError, match=message):
            read_run(broken, "a")
    broken.write_text("step,loss\n1,0.5\n")
    (tmp_path / "run/recipe.json").write_text("{")
    with pytest.raises(DataError, match=r"expected a recipe.json of `ckaprobe train`"):
        read_runs([broken])
