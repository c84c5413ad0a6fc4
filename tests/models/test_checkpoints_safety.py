"""Nothing in a file is run, and what cannot be loaded is refused in one line that says what to do."""

import argparse
import json
import os
import pickle
import tarfile
import zipfile
from dataclasses import asdict
from datetime import date

import pytest
import torch
from helpers import foreign
from helpers.model_files import VIT, same, transformers_folder
from helpers.trainers import save_small_model
from PIL import Image
from safetensors.torch import load_file as read_safetensors
from safetensors.torch import save_file

from cka_probe.errors import CheckpointError, CkaProbeError
from cka_probe.models.checkpoint import load_trained, read_header
from cka_probe.models.checkpoints import inspect_file, load_file


def refusal(path, **options):
    with pytest.raises(CheckpointError) as caught:
        load_file(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Evaluates(Runs):
    def __reduce__(self):
        return eval, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("trap", "named"), [(Runs, "system"), (Evaluates, "eval")])
def test_a_pickle_that_runs_a_command_is_refused_and_does_not(tmp_path, trap, named, zipped):
    mark = tmp_path / "it-ran"
    command = f"touch {mark}" if trap is Runs else f"__import__('pathlib').Path({str(mark)!r}).touch()"
    whole = {"state_dict": {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "args": trap(command)}
    torch.save(whole, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    message = refusal(tmp_path / "a.pth")
    assert named in message
    assert "which was not run" in message
    with pytest.raises(CheckpointError, match=named):
        inspect_file(tmp_path / "a.pth")
    assert not mark.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert mark.exists(), "the trap must be one: torch without weights_only falls into it"


def test_a_bare_pickle_that_runs_a_command_is_refused(tmp_path):
    mark = tmp_path / "it-ran"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": Runs(f"touch {mark}")}, protocol=2))
    refusal(tmp_path / "a.pkl")
    assert not mark.exists()


def test_what_others_allowed_is_not_allowed_here_and_is_put_back(tmp_path):
    class_of_ours = foreign.randomised  # any callable that somebody declared safe
    torch.serialization.add_safe_globals([class_of_ours])
    try:
        before = set(torch.serialization.get_safe_globals())
        torch.save({"x": _Calls()}, tmp_path / "a.pth")
        assert "randomised" in refusal(tmp_path / "a.pth")
        assert set(torch.serialization.get_safe_globals()) == before
    finally:
        torch.serialization.clear_safe_globals()


class _Calls:
    def __reduce__(self):
        return foreign.randomised, (None,)


def test_a_whole_module_is_refused_by_the_name_of_its_class(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth")
    assert "torch.nn.modules.linear.Linear" in message
    assert "state_dict()" in message


def test_harmless_company_is_no_hindrance(tmp_path):
    state = foreign.resnet().state_dict()
    whole = {
        "model": state,
        "args": argparse.Namespace(lr=0.1),
        "size": torch.Size([3]),
        "on": date(2024, 1, 1),
    }
    torch.save(whole, tmp_path / "a.pt")
    assert load_file(tmp_path / "a.pt").origin.architecture == "resnet18"


@pytest.mark.parametrize("keep", [0.5, 0.97])
@pytest.mark.parametrize("suffix", ["pth", "safetensors", "legacy"])
def test_a_truncated_file(tmp_path, keep, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "legacy":
        foreign.sc_sfm(path, foreign.resnet())
    else:
        foreign.timm_file(path, foreign.resnet(), head=False)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    assert "again" in refusal(path)


def _text(path):
    path.write_text("epoch,loss\n1,0.5\n")


def _image(path):
    Image.new("RGB", (8, 8)).save(path, format="PNG")


def _page(path):
    path.write_text("<!DOCTYPE html><html>Sign in</html>")


def _pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")


def _empty(path):
    path.write_bytes(b"")


def _random(path):
    path.write_bytes(bytes(range(256)))


def _other_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mono_640x192/encoder.pth", b"")


def _tar(path):
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, arcname="a.py")


def _no_tensors(path):
    torch.save({"epoch": 3}, path)


def _a_list(path):
    torch.save([torch.zeros(3)], path)


def _itself(path):
    loop = {}
    loop["loop"] = loop
    torch.save(loop, path)


def _pair(path):
    torch.save({"conv1.weight": torch.zeros(64, 6, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)}, path)


def _script(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("a/data.pkl", b"")


@pytest.mark.parametrize(
    ("write", "found"),
    [
        (_text, "a text file"),
        (_image, "a PNG image"),
        (_page, "a web page"),
        (_pointer, "git-lfs pointer"),
        (_empty, "an empty file"),
        (_random, "other data"),
        (_other_zip, "unpack it"),
        (_tar, "tar archive"),
        (_no_tensors, "dict of epoch"),
        (_a_list, "found a list"),
        (_itself, "state_dict"),
        (_pair, "6 channels"),
        (_script, "TorchScript"),
    ],
)
def test_what_is_no_encoder_is_named(tmp_path, write, found):
    path = tmp_path / "a.pth"
    write(path)
    assert found in refusal(path)


def test_a_missing_file_and_a_folder_that_is_no_monodepth2_folder(tmp_path):
    assert "no such file" in refusal(tmp_path / "missing.pth")
    assert "encoder.pth" in refusal(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert "notes.txt" in refusal(tmp_path)


def test_suffixes_do_not_decide(tmp_path):
    model = foreign.resnet()
    torch.save(model.state_dict(), tmp_path / "a.safetensors")
    save_file(dict(model.state_dict()), tmp_path / "a.pth")
    for path in (tmp_path / "a.safetensors", tmp_path / "a.pth"):
        assert load_file(path).origin.architecture == "resnet18"


def test_damage_of_every_kind_is_one_line(tmp_path):
    """Flip bytes of a small pickle all over: it loads or is refused, and never anything else."""
    torch.save({"a": torch.zeros(2), "b": {"c": 1}}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "a.pth").read_bytes()
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0x15
        path = tmp_path / "b.pth"
        path.write_bytes(damaged)
        refusal(path)


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"size": 64, "depths": [1, 1, 1 << 24, 1]}},
        {"options": {"size": 1 << 40}},
        {"options": {"nonsense": 1}},
        {"options": []},
        {"architecture": 1e308},
        {"architecture": "no such"},
        {"mean": ["a", 0, 0]},
        {"task": None},
        {"task_options": {"cell": 1 << 60}},
        {"unknown": 1},
    ],
)
def test_a_header_that_does_not_fit_its_tensors_is_one_line(tmp_path, change):
    path = save_small_model(tmp_path / "a.safetensors")
    header = asdict(read_header(path)) | change
    save_file(read_safetensors(path), path, metadata={"ckaprobe": json.dumps(header)})
    with pytest.raises(CkaProbeError) as caught:
        load_trained(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("preprocessor_config.json", [], "preprocessor_config.json: expected an object, found"),
        ("preprocessor_config.json", "{", "preprocessor_config.json: expected JSON, found another file"),
        ("preprocessor_config.json", {"image_mean": ["a", 0, 0]}, "expected numbers as image_mean and image_std"),
        ("preprocessor_config.json", {"image_std": {"a": 1}}, "expected numbers as image_mean and image_std"),
        ("config.json", {"num_hidden_layers": 1 << 40}, r"expected a config.json of the file, found one of \d+ layers"),
        ("config.json", {"qkv_bias": "a"}, "expected a model of transformers"),
        ("model.safetensors.index.json", {"weight_map": {"a": None}}, "None"),
    ],
)
def test_a_folder_of_transformers_with_other_files_is_one_line(tmp_path, name, change, message):
    folder = transformers_folder("ViTModel", VIT, same("layers.2"), shards="100KB").make(tmp_path).path
    content = json.loads((folder / name).read_text())
    text = change if isinstance(change, str) else json.dumps(content | change if isinstance(change, dict) else change)
    (folder / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_file(folder)
