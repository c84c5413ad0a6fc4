"""Dependencies are declared and used, and the base ones are enough for the instrument."""

import ast
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from helpers.paths import ROOT
from PIL import Image

from cka_probe.registry import EXTRAS

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORT_NAMES = {
    "markdown-it-py": "markdown_it",
    "pillow": "PIL",
    "scikit-image": "skimage",
    "segmentation-models-pytorch": "segmentation_models_pytorch",
}
"""Distributions whose package has another name."""


def packages(requirements):
    names = [re.match(r"[\w-]+", requirement)[0] for requirement in requirements if "cka-probe[" not in requirement]
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


BASE = packages(PROJECT["dependencies"])
EXTRA = PROJECT["optional-dependencies"]
OPTIONAL = packages(EXTRA["train"] + EXTRA["transformers"] + EXTRA["monitoring"])


def imported(*folders):
    """Return the third-party packages that the modules below some folders import, wherever in them."""
    names = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"cka_probe", "ckaprobe_cli", "tomllib"}


@pytest.mark.slow
def test_every_dependency_is_imported_and_every_import_is_a_dependency():
    assert imported("cka_probe", "ckaprobe_cli") == BASE | OPTIONAL


def test_every_optional_package_names_its_extra():
    assert set(EXTRAS) == OPTIONAL
    for package, extra in EXTRAS.items():
        assert package in packages(PROJECT["optional-dependencies"][extra])


def test_the_instrument_imports_no_optional_package_but_that_of_its_folders_and_of_its_metric():
    instrument = [path.name for path in (ROOT / "cka_probe").iterdir() if path.is_dir()]
    rooms = [f"cka_probe/{name}" for name in instrument if name not in ("lab", "papers", "__pycache__")]
    assert imported(*rooms) & OPTIONAL == {"transformers", "torchmetrics"}


WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from ckaprobe_cli import main
for words in {commands}:
    sys.argv = ["ckaprobe", *words]
    try:
        main()
    except SystemExit as end:
        print(words[0], "ended with", end.code or 0)
"""


@pytest.mark.slow
def test_the_base_dependencies_are_enough_to_compare_report_draw_inspect_and_map(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(8):
        pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "weights.pth")
    model = ["random:resnet18", "random:resnet18:1"]
    commands = [
        ["compare", *model, "--data", "images", "--num", "8", "--permutations", "20", "--out", "compared"],
        ["report", "compared"],
        ["draw", "compared/result.json", "--format", "svg"],
        ["layers", model[0]],
        ["inspect", "weights.pth"],
        ["gradcam", model[0], "--data", "images", "--num", "2", "--target", "none", "--out", "maps"],
        ["train", "--recipe", "demo", "--out", "run"],
    ]
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(names=OPTIONAL, commands=commands)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    ends = [line for line in run.stdout.splitlines() if " ended with " in line]
    expected = [f"{words[0]} ended with {2 if words[0] == 'train' else 0}" for words in commands]
    assert ends == expected, run.stderr
    assert "pip install 'cka-probe[train]'" in run.stderr.splitlines()[-1]
