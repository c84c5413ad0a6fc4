"""Matrices in a page: the data that its script reads, and what is shown of it."""

import base64
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from helpers.matrices import result_of
from matplotlib import colormaps
from matplotlib.colors import to_hex

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.report.blocks import MatrixBlock, Page, without_folders
from cka_probe.report.html import MAX_BYTES, render
from cka_probe.report.matrix import DIGITS, batches_of, color_scale


def script_data(document):
    """Return what the script of a page reads."""
    data = re.search(r'class="matrix-data">(.*?)</script>', document, re.DOTALL)[1]
    content = json.loads(data)
    if "packed" in content:
        content = json.loads(zlib.decompress(base64.b64decode(content["packed"])))
    return content


def test_the_script_reads_the_result_itself(tmp_path):
    result = result_of(9, 7, undefined=(2,))
    content = script_data(render(Page("a", (MatrixBlock({"one": result}),))))
    assert content["exact"]
    path = tmp_path / "loaded.json"
    path.write_text(json.dumps(content["results"][0]["document"]))
    loaded = SimilarityMatrix.load(path)
    np.testing.assert_array_equal(loaded.values, result.values)
    np.testing.assert_array_equal(loaded.terms["xy"], result.terms["xy"])
    assert loaded.rows == result.rows


@pytest.mark.parametrize("layers", [9, 61, 120])
def test_pages_of_any_size_fit(layers):
    results = {"one": result_of(layers, layers, undefined=(3,)), "two": result_of(layers, layers, seed=1)}
    document = render(Page("a", (MatrixBlock(results),)))
    assert len(document.encode()) < {9: 250_000, 61: 600_000, 120: MAX_BYTES}[layers]
    values = np.array(script_data(document)["results"][1]["document"]["values"], float)
    np.testing.assert_allclose(values, results["two"].values, rtol=0.6 * 10.0 ** (1 - DIGITS))


def test_terms_are_shown_only_where_they_give_the_values():
    result = result_of()
    assert batches_of(result) == "ratio"
    assert batches_of(replace(result, terms={})) == ""
    assert batches_of(replace(result, terms=result.terms | {"xy": 1.01 * result.terms["xy"]})) == ""
    ones = {"xx": np.ones((2, 9)), "yy": np.ones((2, 9))}
    mean = np.average(result.terms["xy"], axis=0, weights=result.terms["weights"])
    settings = result.settings | {"measure": "rsa", "estimator": None}
    assert batches_of(replace(result, values=mean, terms=result.terms | ones, settings=settings)) == "mean"


def test_results_of_other_layers_need_a_matrix_each():
    with pytest.raises(DataError, match="found other layers in 'b' than in 'a'; use one matrix for each"):
        MatrixBlock({"a": result_of(4, 4), "b": result_of(4, 5)})
    with pytest.raises(DataError, match="at least one result"):
        MatrixBlock({})


def test_folders_of_a_machine_are_omitted():
    assert without_folders("nyuv2:/srv/data/nyuv2:test") == "nyuv2:…/nyuv2:test"
    assert without_folders("/home/me/a.pth and C:\\mine\\b.pth") == "…/a.pth and …/b.pth"
    assert without_folders("runs/a.pth, 3/4, ../shared/x") == "runs/a.pth, 3/4, ../shared/x"
    assert without_folders({"a": ["~/b/c", 3]}) == {"a": ["…/c", 3]}


def test_the_scale_is_that_of_the_static_figure():
    assert [f"#{color}" for color in color_scale("magma")] == [to_hex(colormaps["magma"](step)) for step in range(256)]
