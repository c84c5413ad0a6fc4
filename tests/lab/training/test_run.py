"""Training: a run equals itself interrupted, split or repeated; its files say what they are."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.processes import run_in_processes
from PIL import Image
from torch.utils.data import get_worker_info

from cka_probe.errors import (
    CheckpointError,
    CkaProbeError,
    CkaProbeWarning,
    DataError,
    OutputError,
    RecipeError,
    TrainingError,
)
from cka_probe.files import HOST
from cka_probe.images.datasets import DATASETS
from cka_probe.lab.tasks.masked import Masked
from cka_probe.lab.training import read_recipe, run_recipe
from cka_probe.lab.training.trainer import RESUME_POINTS
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import Checkpoint, load_trained, read_checkpoint, read_header, save_checkpoint

RECIPE = """
name = "test"
architecture = "swinv2_micro"
size = 64
[options]
depths = [1, 1, 2, 1]
[data]
rooms = "rooms"
[stages.masked]
task = "masked"
data = "memory:{rooms}:train"
validation = "memory:{rooms}:val"
steps = 4
batch = 2
lr = 1e-3
warmup = 1
log_every = 1
save_every = 2
[stages.masked.options]
cell = 16
[stages.depth]
task = "depth"
data = "memory:{rooms}:train"
validation = "memory:{rooms}:val"
steps = 2
batch = 2
lr = 1e-3
"""


class Memory:
    gives = frozenset({"image", "depth", "K"})
    read: list[int] = []  # noqa: RUF012

    def __init__(self, path, split):
        self.split = split

    def __len__(self):
        return 5 if self.split == "train" else 3

    def __getitem__(self, index):
        Memory.read.append(index)
        generator = torch.Generator().manual_seed(index)
        image = (255 * torch.rand(3, 70, 90, generator=generator)).round() / 255
        return {"image": image, "depth": 1 + 4 * torch.rand(1, 70, 90, generator=generator), "K": torch.eye(3)}

    def image(self, index):
        return self[index]["image"]


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    monkeypatch.setitem(DATASETS, "memory", Memory)
    Memory.read = []


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "test.toml"
    path.write_text(RECIPE)
    return lambda *overrides: read_recipe(path, overrides)


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def stopping_at(stage, step):
    def progress(name, done, steps, scalars):
        if (name, done) == (stage, step):
            signal.raise_signal(signal.SIGINT)

    return progress


def test_a_run_writes_what_it_says_and_its_checkpoints_rebuild_their_models(recipe, tmp_path):
    out = tmp_path / "run"
    seen = []
    paths = run_recipe(recipe(), out, device="cpu", progress=lambda *step: seen.append(step))
    assert paths == [out / "masked.safetensors", out / "depth.safetensors"]
    assert sorted(hashes(out)) == [
        "depth.safetensors", "depth/log.csv", "depth/validation.csv",
        "masked.safetensors", "masked/log.csv", "masked/validation.csv", "recipe.json",
    ]  # fmt: skip
    assert [step[:3] for step in seen] == [("masked", i, 4) for i in (1, 2, 3, 4)] + [("depth", i, 2) for i in (1, 2)]
    assert list(rows(out / "masked/log.csv")[0]) == ["step", "lr", "loss", "gradient"]
    assert {"abs_rel", "delta1", "silog"} <= set(rows(out / "depth/validation.csv")[0])
    backbone, head, header = read_checkpoint(paths[1])
    assert (header.stage, header.task, header.step, header.architecture) == ("depth", "depth", 2, "swinv2_micro")
    assert header.parent == hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert list(header.recipe["stages"]) == ["masked", "depth"]
    assert read_header(paths[0]).parent == ""
    assert backbone(torch.rand(1, 3, 64, 64)).isfinite().all()
    assert head
    depth = load_trained(paths[1])
    assert depth.task.predict(depth.backbone, depth.head, torch.rand(2, 3, 64, 64)).shape == (2, 1, 64, 64)
    assert load_trained(paths[0]).task == Masked((64, 64), cell=16)


def test_a_backbone_alone_has_no_head_to_load(tmp_path):
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=64), size=64)
    header = Checkpoint("resnet18", {"size": 64}, (0.5,) * 3, (0.5,) * 3)
    save_checkpoint(tmp_path / "alone.safetensors", backbone, None, header)
    with pytest.raises(CheckpointError, match=r"expected a checkpoint with a head, found a backbone alone"):
        load_trained(tmp_path / "alone.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "step"), [("masked", 2), ("masked", 3), ("masked", 4), ("depth", 1)])
def test_interrupted_and_resumed_is_bit_for_bit_the_same(recipe, tmp_path, stage, step):
    run_recipe(recipe(), tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt, match=f"stopped after step {step} .* of stage '{stage}'"):
        run_recipe(recipe(), tmp_path / "parts", device="cpu", progress=stopping_at(stage, step))
    assert (tmp_path / "parts" / stage / "resume.pt").exists()
    run_recipe(recipe(), tmp_path / "parts", device="cpu")
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


@pytest.mark.slow
def test_killed_between_resume_points_goes_back_to_the_last_one(recipe, tmp_path):
    class Killed(Exception):
        pass

    def kill(name, step, steps, scalars):
        if step == 4:
            raise Killed

    run_recipe(recipe(), tmp_path / "whole", device="cpu")
    with pytest.raises(Killed):
        run_recipe(recipe(), tmp_path / "parts", device="cpu", progress=kill)
    assert [row["step"] for row in rows(tmp_path / "parts/masked/log.csv")] == ["1", "2", "3"]
    run_recipe(recipe(), tmp_path / "parts", device="cpu")
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", RESUME_POINTS)
def test_killed_while_it_removes_its_resume_points_leaves_none(recipe, tmp_path, monkeypatch, name):
    class Killed(BaseException):
        pass

    def kill(path, **options):
        if path == tmp_path / "parts/masked" / name:
            raise Killed
        unlink(path, **options)

    unlink = Path.unlink
    run_recipe(recipe(), tmp_path / "whole", device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", kill)
        with pytest.raises(Killed):
            run_recipe(recipe(), tmp_path / "parts", device="cpu")
    assert (tmp_path / "parts/masked.safetensors").exists()
    assert (tmp_path / "parts/masked" / name).exists()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    for folder in ("parts", "parts/masked"):
        (tmp_path / folder / f".{int(dead.stdout)}@{HOST}.resume.pt").mkdir()
    run_recipe(recipe(), tmp_path / "parts", device="cpu")
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")
    assert not list((tmp_path / "parts").rglob(".*@*"))


def test_finished_stages_are_not_run_again(recipe, tmp_path):
    run_recipe(recipe(), tmp_path / "run", device="cpu")
    before = hashes(tmp_path / "run")
    Memory.read = []
    run_recipe(recipe(), tmp_path / "run", device="cpu", progress=lambda *step: pytest.fail("ran a step"))
    assert not Memory.read
    assert hashes(tmp_path / "run") == before


def test_another_recipe_in_the_same_folder_is_refused(recipe, tmp_path):
    run_recipe(recipe("masked.steps=1", "depth.steps=1"), tmp_path / "run", device="cpu")
    with pytest.raises(OutputError, match=r"stages\.masked\.steps is 1 there and 4 here; choose another --out"):
        run_recipe(recipe(), tmp_path / "run", device="cpu")
    (tmp_path / "run/recipe.json").unlink()
    with pytest.raises(OutputError, match=r"holds masked.safetensors, but not its recipe.json"):
        run_recipe(recipe(), tmp_path / "run", device="cpu")


def test_a_run_of_a_version_that_knew_fewer_keys_goes_on(recipe, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe(), tmp_path / "run", device="cpu", progress=stopping_at("masked", 2))
    path = tmp_path / "run/recipe.json"
    table = json.loads(path.read_text())
    for key in ("drop_path", "accumulate", "undecayed"):
        del table["stages"]["masked"][key]
    path.write_text(json.dumps(table))
    with pytest.raises(OutputError, match=r"stages\.masked\.accumulate is 1 there and 2 here"):
        run_recipe(recipe("masked.accumulate=2"), tmp_path / "run", device="cpu")
    assert len(run_recipe(recipe(), tmp_path / "run", device="cpu")) == 2


@pytest.mark.slow
def test_a_seed_changes_everything_and_a_cache_nothing(recipe, tmp_path):
    def weights(*overrides):
        out = tmp_path / "-".join(overrides or ("plain",))
        paths = run_recipe(recipe("masked.steps=2", "depth.steps=1", *overrides), out, device="cpu")
        return read_checkpoint(paths[0])[0].state_dict()

    plain, other, cached = weights(), weights("seed=1"), weights("masked.cache=true")
    assert all(torch.equal(plain[name], cached[name]) for name in plain)
    assert not torch.equal(plain["model.patch_embed.proj.weight"], other["model.patch_embed.proj.weight"])


def test_a_loss_that_is_no_number_stops_with_one_line_and_no_resume_point(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(Masked, "target", lambda self, backbone, batch: batch["image"] * float("nan"))
    expected = r"stage 'masked', step 1: expected a finite loss, found nan; try --set masked\.lr=0\.0003"
    with pytest.raises(TrainingError, match=expected):
        run_recipe(recipe(), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run/masked/resume.pt").exists()


def test_a_broken_resume_point_says_what_to_do(recipe, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe(), tmp_path / "run", device="cpu", progress=stopping_at("masked", 2))
    (tmp_path / "run/masked/resume.pt").write_bytes(b"broken")
    with pytest.raises(OutputError, match=r"expected a resume point of this stage, .* delete it to start again"):
        run_recipe(recipe(), tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("masked/resume.pt", {}, r"resume.pt: expected a resume point of this stage, found: KeyError"),
        ("masked/log.csv", b"", r"log.csv: expected the log of this stage, found: .*; delete it"),
        ("masked/log.csv", b"step,loss\n\xff,1\n", r"log.csv: expected the log of this stage, found: .*; delete it"),
        ("masked/log.csv", b"step,loss\nx,1\n", r"log.csv: expected the log of this stage, found: .*; delete it"),
        ("recipe.json", b"{", r"recipe.json: expected JSON, found"),
        ("recipe.json", b"[" * 100_000, r"recipe.json: expected JSON, found: JSON that is nested too deeply"),
        ("recipe.json", b"\xff", r"expected a recipe at .*recipe.json, found"),
    ],
)
def test_damaged_files_of_an_interrupted_run_are_one_line(recipe, tmp_path, name, content, message):
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe(), tmp_path / "run", device="cpu", progress=stopping_at("masked", 2))
    path = tmp_path / "run" / name
    if isinstance(content, dict):
        torch.save({key: value for key, value in torch.load(path).items() if key != "step"}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(CkaProbeError, match=message):
        run_recipe(recipe(), tmp_path / "run", device="cpu")


@pytest.mark.slow
def test_where_a_resume_point_is_damaged_the_one_before_is_used_and_this_is_said(recipe, tmp_path):
    whole = run_recipe(recipe("masked.save_every=1"), tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe("masked.save_every=1"), tmp_path / "run", device="cpu", progress=stopping_at("masked", 3))
    last = tmp_path / "run/masked/resume.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.warns(CkaProbeWarning, match=r"resume.pt: expected a resume point .*; resuming from .*previous.pt"):
        paths = run_recipe(recipe("masked.save_every=1"), tmp_path / "run", device="cpu")
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in whole]
    assert not list((tmp_path / "run/masked").glob("resume*"))


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "^a process that reads images died"),
        (
            lambda: (_ for _ in ()).throw(DataError("unreadable image a.jpg: gone; replace it")),
            "^unreadable image a.jpg",
        ),
    ],
)
def test_what_happens_in_reading_processes_is_one_line(recipe, tmp_path, monkeypatch, fail, message):
    read = Memory.__getitem__
    monkeypatch.setattr(
        Memory, "__getitem__", lambda self, index: fail() if get_worker_info() and index else read(self, index)
    )
    with pytest.raises(DataError, match=message) as caught:
        run_recipe(recipe(), tmp_path / "run", device="cpu", workers=1)
    assert "\\n" not in str(caught.value)


def test_data_without_what_a_task_needs_is_refused_before_anything_is_written(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(Memory, "gives", frozenset({"image"}))
    with pytest.raises(RecipeError, match=r"stages\.depth: task 'depth' needs depth, image, .* has no depth"):
        run_recipe(recipe(), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def write_images(folder, count=5):
    folder.mkdir()
    for index in range(count):
        pixels = torch.randint(256, (70, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))
        Image.fromarray(pixels.numpy()).save(folder / f"{index}.png")
    return folder


TORCHRUN = """
import sys
from cka_probe.lab.training import read_recipe, run_recipe
from cka_probe.lab.training.trainer import RESUME_POINTS
recipe, images, out = sys.argv[1:]
run_recipe(read_recipe(recipe, [f"data.images={images}"]), out, device="cpu")
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path):
    masked = RECIPE.split("[stages.depth]")[0].replace("memory:{rooms}:train", "folder:{images}")
    masked = masked.replace("memory:{rooms}:val", "folder:{images}").replace('rooms = "rooms"', 'images = ""')
    (tmp_path / "recipe.toml").write_text(masked)
    images = write_images(tmp_path / "images")
    run_recipe(read_recipe(tmp_path / "recipe.toml", [f"data.images={images}"]), tmp_path / "one", device="cpu")
    run_in_processes(TORCHRUN, tmp_path, "recipe.toml", images, "two")
    one, two = (rows(tmp_path / run / "masked/log.csv") for run in ("one", "two"))
    assert len(one) == len(two) == 4
    for a, b in zip(one, two, strict=True):
        assert {k: float(v) for k, v in a.items()} == pytest.approx({k: float(v) for k, v in b.items()}, rel=1e-3)
    weights = [read_checkpoint(tmp_path / run / "masked.safetensors")[0].state_dict() for run in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=2e-3, rtol=0)


@pytest.mark.slow
def test_a_stage_starts_from_a_file_and_takes_the_head_of_its_own_task(recipe, tmp_path):
    first = run_recipe(recipe("masked.steps=1", "depth.steps=1"), tmp_path / "first", device="cpu")
    _, head, _ = read_checkpoint(first[0])
    short = ("masked.steps=1", "masked.lr=1e-12", "depth.steps=1")
    again = recipe(f"masked.start={first[0]}", "depth.start=random", *short)
    second = run_recipe(again, tmp_path / "second", device="cpu")
    backbone, carried, header = read_checkpoint(second[0])
    assert header.parent == hashlib.sha256(first[0].read_bytes()).hexdigest()
    assert read_header(second[1]).parent == ""
    assert all(torch.allclose(head[name], carried[name], atol=1e-9) for name in head)
    before = read_checkpoint(first[0])[0].state_dict()
    assert all(torch.allclose(before[name], value, atol=1e-9) for name, value in backbone.state_dict().items())


@pytest.mark.slow
def test_a_stage_starts_from_a_foreign_file(tmp_path):
    torch.manual_seed(0)
    model = ARCHITECTURES["resnet18"].build(size=64)
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    overrides = ("architecture=resnet18", "masked.steps=1", "depth.steps=1", "masked.lr=1e-12")
    path = tmp_path / "foreign.toml"
    path.write_text(RECIPE.replace("[options]\ndepths = [1, 1, 2, 1]\n", ""))
    ours = read_recipe(path, [f"masked.start={tmp_path / 'theirs.pth'}", *overrides])
    paths = run_recipe(ours, tmp_path / "run", device="cpu")
    trained = read_checkpoint(paths[0])[0].model.state_dict()
    assert all(
        torch.allclose(trained[name], value, atol=1e-6)
        for name, value in model.state_dict().items()
        if "running" not in name and "num_batches" not in name
    )


def test_what_a_stage_cannot_start_from(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"stages\.masked\.start: expected random or a file.*, found 'nothing'"):
        run_recipe(recipe("masked.start=nothing"), tmp_path / "run", device="cpu")
    with pytest.raises(RecipeError, match=r"stages\.depth\.start: expected random, masked or a file.*, found 'depth'"):
        run_recipe(recipe("depth.start=depth"), tmp_path / "run", device="cpu")
    with pytest.raises(RecipeError, match=r"recipe\.options: swinv2_micro does not take .*deepths"):
        run_recipe(recipe("options.deepths=3"), tmp_path / "run", device="cpu")


def test_a_device_that_is_not_there(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"expected a device of auto, cpu.*, found 'abacus'; omit --device"):
        run_recipe(recipe(), tmp_path / "run", device="abacus")


def test_the_command_prints_the_checkpoints_and_says_what_is_wrong_in_one_line(tmp_path):
    from typer.testing import CliRunner

    from ckaprobe_cli import app

    path = tmp_path / "test.toml"
    path.write_text(RECIPE)
    command = ["train", "--recipe", str(path), "--out", str(tmp_path / "run"), "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--set", "masked.steps=1", "--set", "depth.steps=1"])
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(tmp_path / "run" / f"{name}.safetensors") for name in ("masked", "depth")]
    wrong = CliRunner().invoke(app, [*command, "--set", "masked.stps=1"])
    assert wrong.exit_code == 2
    assert wrong.stderr.splitlines()[-1].startswith("ckaprobe: stages.masked: unknown key 'stps'")
    assert "Traceback" not in wrong.output


def test_precision_may_change_from_stage_to_stage(recipe, tmp_path):
    paths = run_recipe(
        recipe("masked.precision=bf16", "masked.steps=2", "depth.steps=1"), tmp_path / "run", device="cpu"
    )
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in read_checkpoint(paths[1])[0].parameters())
    assert 0 < float(rows(tmp_path / "run/masked/validation.csv")[-1]["reconstruction"]) < 3


@pytest.mark.slow
def test_workers_that_read_ahead_change_nothing(recipe, tmp_path):
    for workers in (0, 2):
        run_recipe(recipe("depth.steps=1"), tmp_path / str(workers), device="cpu", workers=workers)
    assert hashes(tmp_path / "0") == hashes(tmp_path / "2")
