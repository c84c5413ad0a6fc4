"""A file is read or refused in one line: random changes, made-up documents, pickles that run code."""

import builtins
import cProfile
import importlib
import json
import os
import pathlib
import pickle
import runpy
import shutil
import subprocess
import sys
import timeit

import numpy as np
import pytest
import torch
from helpers.damaged_files import TARGETS
from helpers.fuzzing import attack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import CheckpointError, CkaProbeError, DataError, RecipeError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.datasets.coco import object_mask
from cka_probe.lab.training.recipe import parse_json, parse_toml, recipe_of
from cka_probe.models.checkpoints import inspect_file, load_file

TRIES = 20
"""Of each kind: more than 1000 in all. `benchmarks/hard_use/fuzz.py` makes as many as one likes."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged tags
@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused_in_one_line(name, tmp_path):
    assert attack(name, TRIES, 7, tmp_path / "fuzz") == []


def test_a_thousand_changes_are_tried():
    assert TRIES * len(TARGETS) >= 1000


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=9), parts, max_size=4),
    max_leaves=12,
)
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def one_line(error):
    assert str(error)
    assert str(error).isprintable()


@QUICK
@given(DOCUMENTS)
def test_no_document_is_a_recipe_by_chance(document):
    with pytest.raises(CkaProbeError) as caught:
        recipe_of(parse_json(json.dumps(document), "a.json"))
    one_line(caught.value)


@QUICK
@given(st.text(max_size=60))
def test_no_text_is_a_recipe_by_chance(text):
    with pytest.raises(RecipeError) as caught:
        recipe_of(parse_toml(text, "a.toml"))
    one_line(caught.value)


@QUICK
@given(DOCUMENTS)
def test_no_document_is_a_result_by_chance(tmp_path, document):
    (tmp_path / "result.json").write_text(json.dumps(document))
    with pytest.raises(DataError) as caught:
        SimilarityMatrix.load(tmp_path / "result.json")
    one_line(caught.value)


@QUICK
@given(st.text(max_size=60))
def test_a_list_names_images_or_is_refused(tmp_path, text):
    (tmp_path / "list.txt").write_text(text, "utf-8", errors="replace")
    with pytest.raises(DataError) as caught:
        open_dataset(f"folder:{tmp_path}?list=list.txt")
    one_line(caught.value)


@QUICK
@given(st.binary(max_size=200))
def test_no_bytes_are_weights_by_chance(tmp_path, data):
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        inspect_file(tmp_path / "a.pth")
    one_line(caught.value)


@QUICK
@given(st.lists(st.integers(0, 9), max_size=8) | st.text("0123456789:;<=>?@ABCDEFGHIJKLMNO", max_size=8))
def test_run_lengths_are_a_mask_of_the_size_or_refused(counts):
    try:
        assert object_mask({"size": [3, 4], "counts": counts}, (3, 4)).shape == (3, 4)
    except (ValueError, IndexError, OverflowError) as error:
        assert str(error)  # noqa: PT017


class Payload:
    """What a pickle calls when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def module_at(folder, mark):
    (folder / "hostile_module.py").write_text(f"open({str(mark)!r}, 'w').close()")
    return "hostile_module"


PAYLOADS = {
    "os.system": lambda mark: Payload(os.system, f"touch {mark}"),
    "os.open": lambda mark: Payload(os.open, str(mark), os.O_CREAT),
    "os.mkdir": lambda mark: Payload(os.mkdir, str(mark)),
    "os.symlink": lambda mark: Payload(os.symlink, "/", str(mark)),
    "subprocess": lambda mark: Payload(subprocess.run, ("touch", str(mark))),
    "Popen": lambda mark: Payload(subprocess.check_call, ["touch", str(mark)]),
    "eval": lambda mark: Payload(eval, f"open({str(mark)!r}, 'w').close()"),
    "exec": lambda mark: Payload(exec, f"open({str(mark)!r}, 'w').close()"),
    "open": lambda mark: Payload(builtins.open, str(mark), "w"),
    "import": lambda mark: Payload(importlib.import_module, module_at(mark.parent, mark)),
    "__import__": lambda mark: Payload(builtins.__import__, module_at(mark.parent, mark)),
    "runpy": lambda mark: Payload(runpy.run_path, str(mark.parent / f"{module_at(mark.parent, mark)}.py")),
    "timeit": lambda mark: Payload(timeit.timeit, f"open({str(mark)!r}, 'w').close()", "pass", timeit.default_timer, 1),
    "cProfile": lambda mark: Payload(cProfile.run, f"open({str(mark)!r}, 'w').close()", str(mark)),
    "Path.touch": lambda mark: Payload(pathlib.Path.touch, mark),
    "write_text": lambda mark: Payload(pathlib.Path.write_text, mark, "x"),
    "copy": lambda mark: Payload(shutil.copy, __file__, str(mark)),
    "np.save": lambda mark: Payload(np.save, f"{mark}", np.zeros(1)),
    "np.savetxt": lambda mark: Payload(np.savetxt, f"{mark}", np.zeros(1)),
    "torch.save": lambda mark: Payload(torch.save, {}, str(mark)),
}

CONTAINERS = {
    "zip": ("a.pth", lambda path, value: torch.save(value, path)),
    "legacy": ("a.pth", lambda path, value: torch.save(value, path, _use_new_zipfile_serialization=False)),
    "pickle": ("a.pkl", lambda path, value: path.write_bytes(pickle.dumps(value))),
    "npz": ("a.npz", lambda path, value: np.savez(path, a=np.array([value["args"]], object))),
    "index": (".metadata", lambda path, value: path.write_bytes(pickle.dumps(value))),
}
UNSAFE = {
    "zip": lambda path: torch.load(path, weights_only=False),
    "legacy": lambda path: torch.load(path, weights_only=False),
    "pickle": lambda path: pickle.loads(path.read_bytes()),
    "npz": lambda path: np.load(path, allow_pickle=True)["a"],
    "index": lambda path: pickle.loads(path.read_bytes()),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.filterwarnings("ignore")  # of the unsafe way, about files that are left open
def test_no_payload_of_a_pickle_runs(payload, container, tmp_path, monkeypatch):
    """Each is read the unsafe way afterwards, to prove that it is live."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "hostile_module", raising=False)
    mark = tmp_path / "ran.npy"
    name, save = CONTAINERS[container]
    save(tmp_path / name, {"state_dict": {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "args": PAYLOADS[payload](mark)})
    for read in (inspect_file, load_file):
        with pytest.raises(CheckpointError) as caught:
            read(tmp_path / name)
        one_line(caught.value)
    assert not os.path.lexists(mark)
    UNSAFE[container](tmp_path / name)
    assert os.path.lexists(mark), "not live: this test would prove nothing"
