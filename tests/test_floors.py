"""Who may import whom (docs/architecture.md), what an import may load, and that these tests can fail."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import ROOT

FLOORS = {
    "errors": 0,
    "progress": 0,
    "registry": 0.1,
    "files": 0.2,
    "documents": 0.3,
    "similarity": 1,
    "models": 1,
    "images": 1,
    "comparison": 2,
    "monitoring": 3,
    "plotting": 3,
    "attribution": 3.5,
    "lab": 4,
    "report": 4,
    "papers": 5,
    "__init__": 6,
}
"""Rooms of `cka_probe` by floor: a module imports rooms below its own when it is imported, and none beside or above.
Within a function, and for type checkers, it may import any: that is how the instrument reaches the lab."""

HEAVY = {"h5py", "lmdb", "skimage", "segmentation_models_pytorch", "accelerate", "matplotlib"}
OWN_MODULES = 80
"""How many modules of `cka_probe` the public verbs of the instrument may load; eleven are measures."""


def imported_at_once(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported, blocks for type checkers left out."""
    statements = list(tree.body)
    while statements:
        node = statements.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            statements += node.orelse
            continue
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            statements += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def imports(source: str) -> set[str]:
    """Return the rooms of cka_probe that a source imports when it is imported itself."""
    names: list[str] = []
    for node in imported_at_once(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("cka_probe.")} & FLOORS.keys()


def violations(room: str, source: str) -> set[str]:
    """Return the rooms a file of `room` must not import and does."""
    return {other for other in imports(source) if other != room and FLOORS[other] >= FLOORS[room]}


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
    assert violations("report", "try:\n    import cka_probe.lab.tasks\nexcept ImportError:\n    pass") == {"lab"}
    assert violations("report", "def f():\n    import cka_probe.lab.tasks") == set()
    assert violations("report", "if TYPE_CHECKING:\n    import cka_probe.lab.tasks") == set()


@pytest.mark.parametrize("path", sorted((ROOT / "ckaprobe_cli").glob("*.py")), ids=lambda path: path.name)
def test_the_command_line_loads_the_library_only_inside_commands(path):
    for node in imported_at_once(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            name = getattr(node, "module", None) or node.names[0].name
            assert name.split(".")[0] not in ("cka_probe", "torch", "numpy", "matplotlib")


def test_figures_never_see_torch():
    for path in (ROOT / "cka_probe" / "plotting").glob("*.py"):
        assert "torch" not in {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_library_loads_nothing_of_it():
    loaded = loaded_by("import cka_probe")
    assert not loaded & {"torch", "pandas", *HEAVY}
    assert {name for name in loaded if name.startswith("cka_probe")} == {"cka_probe"}


def test_the_instrument_loads_neither_the_lab_nor_what_only_the_lab_needs():
    loaded = loaded_by("import cka_probe\ncka_probe.compare, cka_probe.fingerprint, cka_probe.load, cka_probe.record")
    own = {name for name in loaded if name.startswith("cka_probe")}
    assert len(own) <= OWN_MODULES
    assert not {name for name in own if name.split(".")[1:2] in (["lab"], ["papers"])}
    assert not loaded & HEAVY


def test_help_loads_no_torch():
    statement = "from typer.testing import CliRunner\nfrom ckaprobe_cli import app\nCliRunner().invoke(app, ['--help'])"
    assert not {"torch", "numpy", "matplotlib", "pandas", "cka_probe"} & loaded_by(statement)


def test_what_is_loaded_would_be_found():
    assert {"h5py", "cka_probe.lab"} <= loaded_by("import h5py, cka_probe.lab")
