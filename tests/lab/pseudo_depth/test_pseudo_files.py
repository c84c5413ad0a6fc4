"""Pseudo-depth as files: LeReS's format to the step, resumed, kept, refused; teachers of ours and of transformers."""

import json
from argparse import Namespace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.depth_models import save_model
from helpers.folders import contents
from typer.testing import CliRunner

from cka_probe.errors import CheckpointError, DataError, OutputError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.datasets.fields import read_steps
from cka_probe.lab.pseudo_depth import Source, open_source, write_pseudo_depth
from cka_probe.lab.scenes import Settings, make_scenes
from cka_probe.lab.scenes.layouts.files import write_affine_depth
from ckaprobe_cli import app

SIZE = (72, 96)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("teacher") / "teacher.safetensors")


@pytest.fixture
def data(tmp_path):
    """Return videos of rooms: 4 scenes of 2 frames for training and validation, without the stand-in."""
    root = make_scenes(tmp_path / "rooms", Settings("rooms", 4, 2, SIZE, 5, layout="sc_depth"))
    for path in root.glob("training/*/leres_depth/*"):
        path.unlink()
    for folder in root.glob("training/*/leres_depth"):
        folder.rmdir()
    return root


def written(root):
    return {name: data for name, data in contents(root).items() if "leres" in name}


def flat_source(name="flat", seen=None):
    """Return a source whose depth is the row's number, and that notes the images it is shown."""

    def depth(images):
        if seen is not None:
            seen.extend(images)
        return [torch.arange(float(len(image[0]))).view(-1, 1).expand(image.shape[1:]) for image in images]

    return Source({"source": name}, depth)


def test_a_file_is_leres_format_to_the_step(tmp_path):
    depth = np.array([[2.0, 5.0], [3.0, 2.5]])
    write_affine_depth(tmp_path / "depth.png", depth)
    expected = np.round(60000 * (depth - 2 + 0.01) / 3.01)
    np.testing.assert_array_equal(read_steps(tmp_path / "depth.png"), expected)
    assert expected.tolist() == [[199, 60000], [20133, 10166]]


def test_the_generators_stand_in_is_what_it_was(tmp_path):
    """The steps of the format are pinned: sets that were made before are made again."""
    write_affine_depth(tmp_path / "depth.png", 1 + np.arange(48.0).reshape(6, 8) ** 1.5)
    steps = read_steps(tmp_path / "depth.png")
    assert sha256(steps.astype("<u2").tobytes()).hexdigest() == PINNED


PINNED = "c8a1be8c359e21e3ef767dd2a61ab5b6f488ef9b4c13263fc657ba4cb7af7fa3"


@pytest.mark.slow
def test_every_image_for_training_gets_its_depth(teacher, data):
    told = []
    folders = write_pseudo_depth(teacher, f"scdepth:{data}", progress=lambda done, total: told.append((done, total)))
    frames = open_dataset(f"scdepth:{data}")
    assert "pseudo_depth" in frames.gives
    assert told == [(0, 8), (2, 8), (4, 8), (6, 8), (8, 8)]
    assert sorted(folder.parent.name for folder in folders) == sorted(
        {frames.describe(i).split("/")[0] for i in range(8)}
    )
    source = open_source(teacher)
    for index in range(len(frames)):
        sample = frames.some(index, {"pseudo_depth"})
        pseudo = sample["pseudo_depth"][0].double()
        assert pseudo.shape == SIZE
        assert pseudo.max() == 60000
        raw = source.depth([sample["image"]])[0].double()
        assert np.corrcoef(raw.flatten(), pseudo.flatten())[0, 1] > 0.99999  # affine: nothing else has changed
    note = json.loads((folders[0] / "source.json").read_text())
    assert note["task"] == "teacher"
    assert len(note["sha256"]) == 64
    assert str(data) not in (folders[0] / "source.json").read_text()


def test_depth_of_any_scale_and_shift_gives_the_same_files(data):
    def scaled(factor, shift):
        row = flat_source()
        return Source(row.note, lambda images: [factor * depth + shift for depth in row.depth(images)])

    write_pseudo_depth(flat_source(), f"scdepth:{data}")
    first = written(data)
    for factor, shift in ((1024.0, 0.0), (0.25, 8.0)):
        for folder in data.glob("training/*/leres_depth"):
            (folder / "source.json").unlink()
        write_pseudo_depth(scaled(factor, shift), f"scdepth:{data}", overwrite=True)
        assert written(data) == first


def test_an_interrupted_run_goes_on(data):
    write_pseudo_depth(flat_source(), f"scdepth:{data}")
    undisturbed = written(data)
    write_pseudo_depth(flat_source("other"), f"scdepth:{data}", overwrite=True)
    others = written(data)
    seen, calls = [], []

    def failing(images):
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return flat_source(seen=seen).depth(images)

    with pytest.raises(KeyboardInterrupt):
        write_pseudo_depth(Source({"source": "flat"}, failing), f"scdepth:{data}", overwrite=True)
    half = written(data)
    finished = {name for name in undisturbed if half[name] == undisturbed[name] and "source.json" in name}
    assert len(finished) == 1, "one scene is through; the others are as they were, and whole"
    assert sum(half.get(name) == value for name, value in others.items() if "source.json" in name) == 3
    making = next(data.glob("training/*/.leres_depth.making"))
    torn = making / ".99@elsewhere.000000.png" / "000000.png"  # as a killed run leaves it
    torn.parent.mkdir()
    torn.write_bytes(b"torn")
    told = []
    write_pseudo_depth(
        flat_source(seen=seen), f"scdepth:{data}", overwrite=True, progress=lambda done, total: told.append(done)
    )
    assert written(data) == undisturbed
    assert len(seen) == 8, "nothing was asked twice"
    assert told == [2, 4, 6, 8]


def test_a_run_killed_between_its_last_two_steps_goes_on(data, monkeypatch):
    write_pseudo_depth(flat_source("other"), f"scdepth:{data}")
    scene = min(data.glob("training/*/leres_depth")).parent
    rename, names = Path.rename, []

    def killed(self, target):
        names.append(self.name)
        if self.name == ".leres_depth.making":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            write_pseudo_depth(flat_source(), f"scdepth:{data}", overwrite=True)
    assert names == ["leres_depth", ".leres_depth.making"]
    write_pseudo_depth(flat_source(), f"scdepth:{data}", overwrite=True)
    assert not list(scene.glob(".leres*"))
    assert {json.loads(path.read_text())["source"] for path in data.rglob("source.json")} == {"flat"}


def test_a_run_killed_before_it_removes_what_it_replaced_does_so_when_it_is_run_again(data, monkeypatch):
    def killed(path, **_):
        assert path.name == ".leres_depth.old"
        raise KeyboardInterrupt

    write_pseudo_depth(flat_source("other"), f"scdepth:{data}")
    with monkeypatch.context() as patch:
        patch.setattr("cka_probe.lab.pseudo_depth.shutil", Namespace(rmtree=killed))
        with pytest.raises(KeyboardInterrupt):
            write_pseudo_depth(flat_source(), f"scdepth:{data}", overwrite=True)
    assert list(data.rglob(".leres_depth.old"))
    write_pseudo_depth(flat_source(), f"scdepth:{data}", overwrite=True)
    assert not list(data.rglob(".leres*"))


@pytest.mark.slow
def test_what_the_same_source_wrote_is_kept_and_another_is_refused(teacher, data, tmp_path):
    write_pseudo_depth(teacher, f"scdepth:{data}")
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    told = []
    write_pseudo_depth(teacher, f"scdepth:{data}", progress=lambda done, total: told.append((done, total)))
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    assert told == [(8, 8)]
    other = save_model(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(OutputError, match=r"expected no leres_depth in .*found one of another source; set --overwrite"):
        write_pseudo_depth(other, f"scdepth:{data}")
    first = written(data)
    write_pseudo_depth(other, f"scdepth:{data}", overwrite=True)
    assert not {value for name, value in written(data).items() if name in first} & set(first.values())


def test_files_of_unknown_origin_are_not_written_over(teacher, data):
    folder = min(data.glob("training/*/cam.txt")).with_name("leres_depth")
    folder.mkdir()
    (folder / "000000.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="found one of unknown origin; set --overwrite to replace it"):
        write_pseudo_depth(teacher, f"scdepth:{data}")
    assert not [path for path in data.rglob("*leres*") if path != folder], "nothing is begun before all is clear"
    write_pseudo_depth(teacher, f"scdepth:{data}", overwrite=True)
    assert len(open_dataset(f"scdepth:{data}").some(0, {"pseudo_depth"})["pseudo_depth"].unique()) > 100


def test_an_image_more_or_less_makes_the_scene_anew(data):
    write_pseudo_depth(flat_source(), f"scdepth:{data}")
    image = min(data.glob("training/*/000001.jpg"))
    image.unlink()
    write_pseudo_depth(flat_source(), f"scdepth:{data}")
    assert sorted(path.name for path in image.with_name("leres_depth").iterdir()) == ["000000.png", "source.json"]


def test_a_constant_is_written_and_no_number_is_refused(data):
    def of(value):
        return Source({"source": str(value)}, lambda images: [torch.full(p.shape[1:], value) for p in images])

    write_pseudo_depth(of(3.0), f"scdepth:{data}")
    assert (read_steps(next(data.glob("training/*/leres_depth/*.png"))) == 60000).all()
    with pytest.raises(CheckpointError, match=r"000000\.jpg: expected depth from the source, found NaN or infinity"):
        write_pseudo_depth(of(float("nan")), f"scdepth:{data}", overwrite=True)


def test_only_scdepths_folders_have_a_place_for_it(data, tmp_path):
    for wrong in (data, f"nyuv2:{data}", "scdepth:"):
        with pytest.raises(DataError, match=r"expected scdepth:DIR, found .*; only SC-Depth.s folders"):
            write_pseudo_depth(flat_source(), wrong)
    with pytest.raises(DataError, match=r"training/<scene>/cam.txt with images next to it, found none"):
        write_pseudo_depth(flat_source(), f"scdepth:{tmp_path / 'nowhere'}")
    for image in min(data.glob("training/*/cam.txt")).parent.glob("*.jpg"):
        image.unlink()
    with pytest.raises(DataError, match=r"no images in .*: expected frames next to cam\.txt"):
        write_pseudo_depth(flat_source(), f"scdepth:{data}")
    assert not list(data.rglob("*leres*"))


@pytest.mark.slow
def test_the_command(teacher, data, tmp_path):
    words = ["data", "pseudo-depth", str(teacher), f"scdepth:{data}", "--device", "cpu"]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    assert [Path(line).is_dir() for line in run.stdout.split()] == [True] * 4
    files = written(data)
    write_pseudo_depth(teacher, f"scdepth:{data}", overwrite=True)
    assert written(data) == files
    words[2] = str(save_model(tmp_path / "masked.safetensors", "masked"))
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 2
    assert "expected a model that gives depth (task teacher, depth" in run.stderr
    assert "found task 'masked'" in run.stderr
