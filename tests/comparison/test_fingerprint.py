"""A fingerprint that is damaged or absurd is refused in one line, before memory is asked for."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from cka_probe.comparison.compare import fingerprint
from cka_probe.comparison.fingerprint import Fingerprint, is_fingerprint
from cka_probe.errors import FingerprintError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("prints") / "a.fingerprint"
    return fingerprint(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.randn(8, 4), layers="*").save(path)


def rewritten(source, path, tensors=None, **changes):
    with safe_open(source, framework="pt") as file:
        header = json.loads(file.metadata()["ckaprobe"])
        old = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    header = {name: value for name, value in (header | changes).items() if value != "absent"}
    save_file(old if tensors is None else tensors, path, metadata={"ckaprobe": json.dumps(header)})
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"side": "absent"},
        {"side": [1]},
        {"layers": [[1]]},
        {"layers": 3},
        {"settings": {"unknown": 1}},
        {"images": None},
        {"rms": ["a", "b"]},
        {"rms": [10**400, 1.0]},
        {"shapes": [[3]]},
        {"undefined": [""]},
        {"undefined": ["", 3]},
        {"images": [[]] * 8},
        {"skipped": [None]},
        {"settings": {"seed": {}}},
        {"settings": {"size": 3}},
    ],
)
def test_headers_that_are_not_those_of_a_fingerprint(saved, tmp_path, changes):
    with pytest.raises(FingerprintError, match="found a damaged one"):
        Fingerprint.load(rewritten(saved, tmp_path / "a", **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"index": []},
        {"index": 0},
        {"count": 1.0},
        {"squares": []},
        {"squares": [[1.0]]},
        {"squares": [[{}, 1.0]]},
        {"squares": [[10**400, 1.0]]},
        {"constant": "a"},
        {"constant": {"0": "a"}},
        {"not_finite": [None]},
    ],
)
def test_shards_that_are_none(saved, tmp_path, changes):
    shard = {"index": 1, "count": 2, "squares": [[1.0, 1.0]], "not_finite": [], "constant": {}, "images": []} | changes
    with pytest.raises(FingerprintError, match="found a damaged one"):
        Fingerprint.load(rewritten(saved, tmp_path / "a", shard=shard), shard=True)
    with pytest.raises(FingerprintError, match="expected a whole fingerprint, found"):
        Fingerprint.load(rewritten(saved, tmp_path / "a", shard=shard))


@pytest.mark.parametrize(
    "grams",
    [
        torch.zeros(0, (1 << 17) * ((1 << 17) + 1) // 2, dtype=torch.float64),
        torch.zeros(2, 7, dtype=torch.float64),
        torch.zeros(2, 36, dtype=torch.int8),
        torch.zeros(36, dtype=torch.float64),
        torch.zeros((), dtype=torch.float64),
    ],
)
def test_grams_of_other_shapes(saved, tmp_path, grams):
    with pytest.raises(FingerprintError, match=r"grams.00000 is \w+ of shape"):
        Fingerprint.load(rewritten(saved, tmp_path / "a", tensors={"grams.00000": grams}))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -1e200])
def test_grams_that_are_not_numbers_or_too_large(saved, tmp_path, value):
    with safe_open(saved, framework="pt") as file:
        grams = file.get_tensor("grams.00000")
    grams[1, 5] = value
    with pytest.raises(FingerprintError, match="a layer with products of activations that none has"):
        Fingerprint.load(rewritten(saved, tmp_path / "a", tensors={"grams.00000": grams}))


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, "{", "null"])
def test_other_json_is_no_fingerprint(tmp_path, text):
    save_file({"a": torch.zeros(1)}, tmp_path / "a", metadata={"ckaprobe": text})
    assert not is_fingerprint(tmp_path / "a")


def test_it_is_read_as_it_was_written(saved):
    again = Fingerprint.load(saved)
    assert again.grams[0].shape == (2, 8, 8)
    assert torch.equal(again.grams[0], again.grams[0].mT)
