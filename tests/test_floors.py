"""Who may import whom (DESIGN.md, section 3), what an import may load, and that these tests can fail."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "errors": 0,
    "lookup": 0.1,
    "writing": 0.1,
    "documents": 0.2,
    "resampling": 0.2,
    "label_sums": 0.2,
    "similarity": 1,
    "losses": 1,
    "results": 1,
    "scores": 1,
    "label_scores": 1.1,
    "cautions": 1.1,
    "difference_results": 1.05,
    "models": 2,
    "data": 2,
    "geometry": 1,
    "figures": 2,
    "tables": 1,
    "fingerprint": 3.0,
    "capture": 3.1,
    "compare": 3.2,
    "tasks": 3,
    "evaluation": 2.9,
    "scoring": 3.25,
    "attribution": 3.3,
    "differences": 3.25,
    "evaluate": 3.3,
    "pseudo_depth": 3.3,
    "training": 4,
    "reproduce": 4.5,
    "report": 4.6,
    "__init__": 5,
}
"""Rooms of `cka_probe` by floor. Everything may raise an error; within floor 3 a fingerprint is captured, captured ones
are compared, and a task's evaluation needs the metrics."""

ON_REQUEST = {("results", "figures")}
"""`SimilarityMatrix.heatmap()` draws itself, and loads matplotlib only then."""


def imports(source: str) -> set[str]:
    """Return the rooms of cka_probe that a source imports, wherever in it."""
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module else []
        rooms |= {name.split(".")[1] for name in names if name.startswith("cka_probe.")}
    return rooms & FLOORS.keys()


def violations(room: str, source: str) -> set[str]:
    """Return the rooms a file of `room` must not import and does."""
    return {
        other
        for other in imports(source)
        if other != room and FLOORS[other] >= FLOORS[room] and (room, other) not in ON_REQUEST
    }


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "cka_probe").parts[0].removesuffix(".py")


FILES = sorted((ROOT / "cka_probe").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    room = room_of(path)
    assert room in FLOORS, f"{room} stands on no floor"
    assert violations(room, path.read_text(encoding="utf-8")) == set()


def test_an_import_upwards_would_be_found():
    assert violations("similarity", "from cka_probe.models.load import load") == {"models"}
    assert violations("figures", "def f():\n    import cka_probe.data.stream") == {"data"}


@pytest.mark.parametrize("path", sorted((ROOT / "cli").glob("*.py")), ids=lambda path: path.name)
def test_the_command_line_loads_the_library_only_inside_commands(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [getattr(node, "module", None) or node.names[0].name for node in top]
    assert not [name for name in names if name.split(".")[0] in ("cka_probe", "torch", "numpy", "matplotlib")]


def test_figures_never_see_torch():
    for path in (ROOT / "cka_probe" / "figures").glob("*.py"):
        assert "torch" not in {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }


def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_library_loads_no_matplotlib():
    assert "matplotlib" not in loaded_by("import cka_probe")


def test_help_loads_no_torch():
    statement = "from typer.testing import CliRunner\nfrom ckaprobe_cli import app\nCliRunner().invoke(app, ['--help'])"
    assert not {"torch", "numpy", "matplotlib", "pandas", "cka_probe"} & loaded_by(statement)


def test_what_is_loaded_would_be_found():
    assert {"torch", "matplotlib"} <= loaded_by("import torch, matplotlib")
