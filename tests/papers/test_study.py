"""The folder and the data of a study."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cka_probe.errors import DataError, OutputError, RecipeError
from cka_probe.lab.tasks.task import least_images
from cka_probe.lab.training import read_recipe
from cka_probe.lab.training.run import check_processes
from cka_probe.lab.training.sampling import num_parts, step_batches
from cka_probe.models.checkpoint import versions
from cka_probe.papers.depth_to_semantic.recipes import Trial, labelled_data, pretraining_recipe, tuning_recipe
from cka_probe.papers.depth_to_semantic.study import LABELLED
from cka_probe.papers.depth_to_semantic.study import SCALES as SEMANTIC
from cka_probe.papers.mesa.study import SCALES as MESA
from cka_probe.papers.mesa.study import TRAINED_ON
from cka_probe.papers.study import RunContext, StudyPaths, describe_study, open_study, split_counts


def test_data_with_a_path_is_not_generated(tmp_path):
    given = {name: f"somewhere/{name}" for name in TRAINED_ON}
    description = describe_study("mesa", "demo", given, (), False)
    paths = open_study(StudyPaths(tmp_path), description, TRAINED_ON, {}, 1, RunContext())
    assert paths == given
    assert not (tmp_path / "data").exists()


def test_a_study_goes_on_with_other_settings_and_versions_but_not_with_another_scale(tmp_path, monkeypatch):
    study = StudyPaths(tmp_path)
    description = describe_study("mesa", "demo", {}, ["mp.lr=1"], False)
    study.check(description)
    assert not (tmp_path / "study.json").exists()
    study.claim(description)
    monkeypatch.setattr("cka_probe.papers.study.versions", lambda: {"torch": "99.0"})
    study.claim(describe_study("mesa", "demo", {}, ["mp.lr=2"], False))
    note = json.loads((tmp_path / "study.json").read_text())
    assert note["settings"] == ["mp.lr=2"]
    assert note["versions"]["torch"] == f"{versions()['torch']}, 99.0"
    assert study.checkpoint(3, "mp") == Path(tmp_path) / "seed3" / "mp.safetensors"
    with pytest.raises(OutputError, match="scale is 'demo' there and 'gpu' here"):
        study.check(describe_study("mesa", "gpu", {}, [], False))


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b"[]", b"[" * 100_000, b'{"versions": []}', b'{"versions": {"torch": 2}}']
)
def test_a_damaged_note_is_one_line(tmp_path, content):
    (tmp_path / "study.json").write_bytes(content)
    with pytest.raises(DataError, match=r"expected (what is studied|versions of packages).*, found"):
        StudyPaths(tmp_path).claim(describe_study("mesa", "demo", {}, [], False))


def test_the_numbers_of_images_of_a_study_stay(tmp_path):
    counts, others = split_counts(["num=64", "mp.num=8", "each= 10"], ("num", "each"))
    assert (counts, others) == ({"num": 64, "each": 10}, ["mp.num=8"])
    for text in ("num=3", "num=many", "num"):
        with pytest.raises(RecipeError, match=rf"--set {text}: expected a number of images, at least 4"):
            split_counts([text], ("num",))
    one, other = (describe_study("mesa", "demo", {}, [], False, numbers) for numbers in (counts, {}))
    StudyPaths(tmp_path / "one").claim(one)
    StudyPaths(tmp_path / "other").claim(other)
    for folder, description in (("one", other), ("other", one)):
        with pytest.raises(OutputError, match=r"counts is .* there and .* here"):
            StudyPaths(tmp_path / folder).check(description)
    whole = MESA["paper"].read("mesa_paper", [f"data.{name}=x" for name in TRAINED_ON])
    few = replace(MESA["paper"], each=7).read("mesa_paper", [f"data.{name}=x" for name in TRAINED_ON])
    assert few.stages[0].data == ("lsun:x:train?each=7&categories=bedroom,dining_room,living_room,kitchen",)
    assert few.stages[1:] == whole.stages[1:]


def recipes_of_both_papers():
    """Yield (scale, recipe) of every training of both papers."""
    for name, scale in MESA.items():
        yield f"mesa {name}", read_recipe(scale.recipe, [f"data.{data}=x" for data in TRAINED_ON])
        if scale.teacher:
            yield f"mesa {name}", read_recipe(scale.teacher, [*scale.teacher_settings, "data.rooms=x"])
    paths = dict.fromkeys(labelled_data(LABELLED), "x")
    for name, scale in SEMANTIC.items():
        yield f"depth-to-semantic {name}", pretraining_recipe(scale, 0, (), {})
        for case in scale.cases("released"):
            yield f"depth-to-semantic {name}", tuning_recipe(scale, Trial(case, 1e-3, 0, 0), "x", paths, ())


@pytest.mark.parametrize("processes", range(1, 17))
def test_every_batch_holds_for_any_number_of_processes_or_is_refused_at_once(processes):
    for scale, recipe in recipes_of_both_papers():
        for stage in recipe.stages:
            least = least_images(stage.build_task())
            if stage.batch < least * processes:
                with pytest.raises(
                    RecipeError, match=rf"stages\.{stage.name}\.batch: expected at least .* start at most"
                ):
                    check_processes(stage, processes)
                continue
            check_processes(stage, processes)
            part = stage.batch // num_parts(stage.batch, stage.accumulate, processes, least)
            shares = [step_batches(range(2 * stage.batch), part, rank, processes) for rank in range(processes)]
            assert sorted(p for share in shares for batch in share for p in batch) == [*range(2 * stage.batch)], scale
            sizes = {rank: {len(batch) for batch in share} for rank, share in enumerate(shares)}
            assert all(len(size) == 1 and min(size) >= least for size in sizes.values()), scale


@pytest.mark.parametrize("scale", ["mesa paper", "depth-to-semantic paper"])
def test_the_scale_of_the_papers_runs_on_eight_gpus(scale):
    for name, recipe in recipes_of_both_papers():
        if name == scale:
            for stage in recipe.stages:
                check_processes(stage, 8)
