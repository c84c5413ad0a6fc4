"""What results and fingerprints show in a notebook, and which files are none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.matrices import result_of
from torch import nn

import cka_probe
from cka_probe.comparison.results import Side, SimilarityMatrix, notes_of
from cka_probe.documents import plain, write_document
from cka_probe.errors import DataError


def recorded(rows, columns):
    """A result with all settings that a summary names."""
    result = result_of(rows, columns)
    return replace(result, settings={**result.settings, "features": "flatten"})


def test_a_notebook_shows_the_values_by_layer():
    result = recorded(3, 4)
    html = result._repr_html_()
    assert html.count("<tr") == 1 + 3
    assert f"{result.values[2, 3]:.3f}" in html
    assert "CKA over" in html


def test_a_long_matrix_is_cut_in_the_middle():
    assert recorded(60, 60)._repr_html_().count("<td>") <= 25 * 25


def test_names_are_escaped():
    result = recorded(2, 2)
    name = "<script>alert(1)</script>"
    marked = replace(
        result, x=replace(result.x, reference=name), rows=(replace(result.rows[0], name=name), result.rows[1])
    )
    assert "<script>" not in marked._repr_html_()
    assert "&lt;script&gt;" in marked._repr_html_()


def test_a_fingerprint_shows_its_layers_and_not_its_grams():
    print_ = cka_probe.fingerprint(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), torch.randn(8, 6), layers="0,1")
    assert "2 layers, 8 images" in repr(print_)
    assert print_._repr_html_().count("<tr") >= 3
    assert "tensor(" not in repr(print_) + print_._repr_html_()


def test_a_note_on_several_models_is_given_once():
    sides = {
        name: Side(name, "resnet18", "", {}, notes=("of all", f"of {name}"[:5])) for name in ("first", "fine", "b")
    }
    assert notes_of(sides) == [("all models", "of all"), ("first, fine", "of fi"), ("b", "of b")]
    del sides["b"]
    assert notes_of(sides)[0] == ("first, fine", "of all")


def test_a_document_is_what_json_writes_with_an_indent_of_one(tmp_path):
    values = {
        "a": [],
        "b": {},
        "c": [[0.1, None], [1e-300, 3]],
        "d": {"é": "x\n", "f": [True, -0.0]},
        "g": 1.0,
        "h": None,
    }
    text = json.dumps(values, indent=1, ensure_ascii=False)
    assert write_document(tmp_path / "a.json", values).read_text(encoding="utf-8") == text + "\n"
    matrix = np.array([[0.25, np.nan], [np.inf, -np.inf]])
    assert plain({"m": matrix, "n": np.eye(2, dtype=bool)}) == {
        "m": [[0.25, None], [None, None]], "n": [[True, False], [False, True]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("", "num_examples", 10**400),
        ("images", "source", []),
        ("images", "hash_y", {}),
        ("settings", "estimator", {}),
        ("settings", "measure", 3),
        ("settings", "range", [0, None]),
        ("settings", "range", [{}, 1]),
    ],
)
def test_values_that_no_result_has_are_one_line(tmp_path, part, key, value):
    model = nn.Sequential(nn.Linear(4, 3))
    path = cka_probe.compare(model, model, torch.randn(8, 4), layers="*").save(tmp_path / "result.json")
    document = json.loads(path.read_text())
    (document[part] if part else document)[key] = value
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"result.json: expected .*, found a damaged file"):
        SimilarityMatrix.load(path)
