"""Notebooks run from top to bottom in a kernel of their own, define nothing that belongs in the library, and are kept
with outputs that are of their code, small, and the same on any machine."""

import ast
import base64
import importlib.util
import io
import subprocess
import sys
from itertools import pairwise

import nbformat
import pytest
from helpers.paths import ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

FOLDER = ROOT / "notebooks"
SPEC = importlib.util.spec_from_file_location("notebooks_run", FOLDER / "run.py")
run = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(run)

NOTEBOOKS = run.notebooks()
MOST_CODE_CELLS = 12
INSTALL = """try:
    import cka_probe
except ModuleNotFoundError:  # as in Colab
    %pip install --quiet "cka-probe[train]"
    import cka_probe
"""
AGAIN = "run `make notebooks`"
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def kept(path):
    return nbformat.read(path, as_version=4)


def with_output(output, source="1"):
    notebook = new_notebook(cells=[new_code_cell(source, outputs=[output])])
    notebook.metadata["ckaprobe"] = {"code": run.hash_of_code(notebook)}
    return notebook


def test_there_are_four_notebooks():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@each_notebook
def test_a_notebook_runs(path, tmp_path):
    """In a process of its own: warnings are errors in this one, and a kernel's sockets are closed when it likes."""
    command = [sys.executable, FOLDER / "run.py", path.stem, "--short", "--to", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1100)
    assert done.returncode == 0, done.stderr
    now, before = kept(tmp_path / path.name), kept(path)
    assert [shape_of(cell) for cell in run.code_cells(now)] == [shape_of(cell) for cell in run.code_cells(before)]


def shape_of(cell):
    """Return of what kinds a cell's outputs are: numbers may differ from machine to machine, these may not."""
    return [(output.output_type, sorted(output.get("data", {}))) for output in cell.outputs]


@each_notebook
def test_what_is_kept_is_what_this_code_put_out(path):
    notebook = kept(path)
    nbformat.validate(notebook)
    assert notebook.metadata["ckaprobe"]["code"] == run.hash_of_code(notebook), f"code has changed: {AGAIN}"
    numbers = [cell.execution_count for cell in run.code_cells(notebook)]
    assert numbers == list(range(1, len(numbers) + 1)), f"not run from top to bottom: {AGAIN}"


@each_notebook
def test_nothing_kept_tells_of_a_machine_or_is_noise(path):
    notebook = kept(path)
    assert run.faults(notebook) == []
    assert {key: notebook.metadata[key] for key in run.METADATA} == run.METADATA
    assert path.stat().st_size <= run.MOST_BYTES
    assert all(not cell.metadata for cell in notebook.cells)
    assert not [text for text in run.texts(notebook) if "Warning" in text or "%|" in text]


@each_notebook
def test_images_are_there_and_show_something(path):
    images = run.images(kept(path))
    assert images
    for image in images:
        opened = Image.open(io.BytesIO(image))
        assert min(opened.size) >= 200
        assert len(opened.convert("RGB").getcolors(maxcolors=1 << 24)) > 10
        assert run.plain_png(image) == image  # nothing about when or by what it was made


@each_notebook
def test_a_notebook_defines_nothing_and_every_part_is_introduced(path):
    cells = kept(path).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert len(code) <= MOST_CODE_CELLS
    for source in code:
        plain = "\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("!", "%")))
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        assert not [node for node in ast.walk(ast.parse(plain)) if isinstance(node, kinds)]
    assert cells[0].cell_type == "markdown"
    assert all(words in cells[0].source for words in ("# ", "**What it shows.**", "**What it takes.**"))
    assert not [one for one, two in pairwise(cells) if one.cell_type == two.cell_type == "code"]


@each_notebook
def test_the_first_cell_installs_the_package_where_it_is_missing(path):
    assert run.code_cells(kept(path))[0].source.startswith(INSTALL)


def test_two_checkpoints_are_compared_in_five_cells():
    assert len(run.code_cells(kept(FOLDER / "01_compare_two_checkpoints.ipynb"))) == 5


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (new_output("stream", name="stderr", text="a warning"), "on stderr: a warning"),
        (new_output("error", ename="ValueError", evalue="no"), "ValueError: no"),
        (new_output("stream", name="stdout", text="saved to /tmp/x/y"), "tells of a machine"),
        (new_output("execute_result", data={"text/html": f"<b>{sys.prefix}/lib</b>"}), "tells of a machine"),
        (new_output("stream", name="stdout", text="x" * run.MOST_BYTES), "bytes, of at most"),
    ],
    ids=["stderr", "error", "path", "interpreter", "large"],
)
def test_what_is_not_to_be_kept_is_found(output, words):
    assert any(words in fault for fault in run.faults(with_output(output)))


def test_a_change_of_code_is_seen_and_one_of_prose_is_not():
    notebook = with_output(new_output("stream", name="stdout", text="fine"))
    assert run.faults(notebook) == []
    before = run.hash_of_code(notebook)
    notebook.cells.append(nbformat.v4.new_markdown_cell("prose"))
    assert run.hash_of_code(notebook) == before
    notebook.cells[0].source = "2"
    assert run.hash_of_code(notebook) != before


def test_cleaning_twice_is_cleaning_once():
    colours = Image.linear_gradient("L").convert("RGB")
    file = io.BytesIO()
    colours.save(file, "PNG")
    image = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "<Figure>"}
    once = run.cleaned(with_output(new_output("display_data", data=image)))
    first = nbformat.writes(once)
    assert nbformat.writes(run.cleaned(once)) == first
    assert "<Figure>" not in first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["05"], "no notebook 05; there are 01_compare_two_checkpoints, 02_nine_layers"),
        (["--short"], "--short writes no notebook in its place"),
    ],
)
def test_wrong_arguments_are_refused(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert message in capsys.readouterr().err
