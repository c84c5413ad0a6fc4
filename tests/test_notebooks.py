"""Notebooks run from top to bottom, define nothing that belongs in the library, and are kept without outputs."""

import json
from pathlib import Path

import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def code_of(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path):
    matplotlib.use("Agg")
    names = {}
    for cell in code_of(path):
        exec(compile("".join(cell["source"]), path.name, "exec"), names)
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_defines_nothing_and_keeps_no_output(path):
    for cell in code_of(path):
        assert not [line for line in cell["source"] if line.lstrip().startswith(("def ", "class "))]
        assert cell["outputs"] == []
