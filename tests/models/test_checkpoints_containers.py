"""Weights in the containers that other projects use, and what is refused before memory is asked for."""

import json
import os
import pickle
import sys
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from helpers import foreign
from safetensors.torch import save_file, save_model

from cka_probe.errors import CheckpointError
from cka_probe.models.checkpoints import load_file
from cka_probe.models.checkpoints.reading import read_contents, weights_file

STATE = {"conv1.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "bn1.num_batches_tracked": torch.tensor(3)}
ARRAYS = {name: tensor.numpy() for name, tensor in STATE.items()}


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        read_contents(weights_file(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _detectron2(path):
    path.write_bytes(pickle.dumps({"model": OrderedDict(ARRAYS), "__author__": "FAIR", "matching_heuristics": True}))


def _python2(path):
    path.write_bytes(pickle.dumps({"model": ARRAYS}, protocol=2))


def _fortran(path):
    path.write_bytes(pickle.dumps({"model": {k: array.astype(">f4", order="F") for k, array in ARRAYS.items()}}))


def _plain_tensors(path):
    path.write_bytes(pickle.dumps(OrderedDict(STATE)))


def _saved_arrays(path):
    torch.save({"model": ARRAYS, "epoch": 3}, path)


def _npz(path):
    with open(path, "wb") as file:
        np.savez(file, **{f"model/{name}": array for name, array in ARRAYS.items()})


@pytest.mark.parametrize("write", [_detectron2, _python2, _fortran, _plain_tensors, _saved_arrays, _npz])
def test_arrays_and_pickles_of_any_kind(tmp_path, write):
    write(tmp_path / "a.pkl")
    contents = read_contents(tmp_path / "a.pkl")
    assert {name.removeprefix("model.") for name in contents.tensors} == STATE.keys()
    for name, tensor in contents.tensors.items():
        assert torch.equal(tensor, STATE[name.removeprefix("model.")].to(tensor.dtype))


def test_arrays_next_to_tensors_are_no_weights(tmp_path):
    torch.save({"state_dict": STATE, "curve": np.ones(3)}, tmp_path / "a.ckpt")
    assert read_contents(tmp_path / "a.ckpt").tensors.keys() == {f"state_dict.{name}" for name in STATE}


def test_the_bfloat16_of_jax(tmp_path):
    bits = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    np.savez(tmp_path / "a.npz", scale=bits.view(torch.int16).numpy().view("V2"))
    assert torch.equal(read_contents(tmp_path / "a.npz").tensors["scale"], bits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_small_floats(tmp_path, dtype):
    save_file({"weight": torch.ones(2, 2).to(dtype)}, tmp_path / "a.safetensors")
    assert read_contents(tmp_path / "a.safetensors").tensors["weight"].dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float64])
def test_a_model_of_any_precision_is_float32(tmp_path, dtype):
    state = {n: v.to(dtype) if v.is_floating_point() else v for n, v in foreign.resnet().state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    for name, tensor in load_file(tmp_path / "a.pth").model.state_dict().items():
        torch.testing.assert_close(tensor, state[name].float() if tensor.is_floating_point() else state[name])


def test_one_of_several_names_of_a_tensor_gives_the_others(tmp_path):
    model = foreign.resnet()
    model.layer1[1].conv1.weight = model.layer1[0].conv1.weight
    save_model(model, str(tmp_path / "a.safetensors"))
    assert len(read_contents(tmp_path / "a.safetensors").tensors) == len(model.state_dict())
    loaded = load_file(tmp_path / "a.safetensors").model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("whole", [True, False])
def test_a_model_in_several_parts(tmp_path, whole):
    state = {name: tensor.clone() for name, tensor in foreign.resnet().state_dict().items()}
    names, parts = sorted(state), {}
    for index in (0, 1):
        part = f"model-0000{index + 1}-of-00002.safetensors"
        save_file({name: state[name] for name in names[index::2]}, tmp_path / part)
        parts |= dict.fromkeys(names[index::2], part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": parts}))
    if whole:
        for path in (tmp_path, index):
            assert torch.equal(load_file(path).model.state_dict()["conv1.weight"], state["conv1.weight"])
    else:
        (tmp_path / parts[names[0]]).unlink()
        assert f"{parts[names[0]]}: expected weights" in refusal(tmp_path)
        index.write_text(json.dumps({"weight_map": {"a": "../a.pth"}}))
        assert "names of files next to it" in refusal(tmp_path)
        index.write_text("[]")
        assert "with a weight_map" in refusal(tmp_path)


def test_values_of_namespaces(tmp_path):
    foreign.dino(tmp_path / "a.pth", foreign.resnet())
    assert read_contents(tmp_path / "a.pth").values["args.arch"] == "resnet18"


class Named:
    def __reduce__(self):
        return os.system, ("true",)


def _command(path):
    path.write_bytes(pickle.dumps({"model": {**ARRAYS, "a": Named()}}))


def _object_array(path):
    np.savez(path, a=np.array([None, 1]))


def _bomb(path):
    with open(path, "wb") as file:
        np.savez_compressed(file, a=np.zeros(1 << 25, np.float32))


def _expanded(path):
    torch.save({"conv1.weight": torch.zeros(1).expand(1 << 34)}, path)


def _pickled_too_large(path):
    data = pickle.dumps({"w": torch.zeros(4)}, protocol=2).replace(b"K\x04\x85", b"K\x09\x85")
    path.write_bytes(data)


def _sparse(path):
    torch.save({"w": torch.eye(3).to_sparse()}, path)


def _scaled(path):
    torch.save({"w.weight": torch.zeros(2), "w.SCB": torch.zeros(2)}, path)


def _integers(path):
    torch.save({"w.weight": torch.zeros(2, 2, dtype=torch.int8)}, path)


def _packed(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao.quantization is deprecated
        layer = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(torch.nn.Linear(2, 2)), {torch.nn.Linear})
    torch.save(layer.state_dict(), path)


def _torchao(path):
    with foreign.a_module("torchao.quantization", Int8Tensor=type("Int8Tensor", (), {})):
        torch.save({"w.weight": sys.modules["torchao.quantization"].Int8Tensor()}, path)


def _program(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/archive_format", b"pt2")


def _keras(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"")


def _pipe(path):
    os.mkfifo(path)


def _bytes(start):
    return lambda path: path.write_bytes(start + bytes(40))


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="found a device or a pipe"):
        load_file(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("name", "write", "content"),
    [
        ("a.pkl", _command, "asks for 'posix.system', which was not run"),
        ("a.npz", _object_array, "NumPy arrays of numbers"),
        ("a.npz", _bomb, "bytes in a file of"),
        ("a.pth", _expanded, "'conv1.weight' of shape (17179869184,)"),
        ("a.pkl", _pickled_too_large, "larger than its storage of 16 bytes"),
        ("a.pth", _sparse, "dense"),
        ("a.pth", _scaled, "quantised"),
        ("a.pth", _integers, "found quantised ones ('w.weight')"),
        ("a.pth", _packed, "found quantised ones"),
        ("a.pth", _torchao, "found quantised ones of torchao"),
        ("a.pt2", _program, "torch.save(program.state_dict, FILE)"),
        ("a.keras", _keras, "a model of Keras"),
        ("a.pth", _pipe, "a device or a pipe"),
        ("a.gguf", _bytes(b"GGUF"), "a GGUF file"),
        ("a.h5", _bytes(b"\x89HDF"), "an HDF5 file, as Keras has"),
        ("a.onnx", _bytes(b"\x08\x07"), "an ONNX model"),
        ("a.msgpack", _bytes(b"\x81"), "JAX or TensorFlow"),
        ("a.npy", _bytes(b"\x93NUMPY"), "one NumPy array"),
    ],
)
def test_what_is_refused_says_what_to_give_instead(tmp_path, name, write, content):
    write(tmp_path / name)
    assert content in refusal(tmp_path / name)
