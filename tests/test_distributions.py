"""The wheel and the sdist, also installed, and the files of a release: recipe, workflows, image, citation."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from helpers.paths import ROOT
from PIL import Image

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"matplotlib": "matplotlib-base", "seaborn": "seaborn-base", "torch": "pytorch"}
"""Packages that conda-forge has by another name."""
REFERENCE_TYPES = {"article", "book", "conference-paper", "report", "software", "thesis"}
WORKFLOWS = ROOT / ".github" / "workflows"


def read_yaml(path):
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def tracked(*folders):
    """Return the files of a commit, or of what will be one: tracked ones that exist, and new ones."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *folders]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return {name for name in names if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The folder of a wheel and an sdist, built from a copy of the tracked files."""
    folder = tmp_path_factory.mktemp("distributions")
    for name in tracked("cka_probe", "ckaprobe_cli", *(path.name for path in ROOT.iterdir() if path.is_file())):
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    out = folder / "dist"
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, folder / "source"]
    build = subprocess.run(command, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    return out


@pytest.fixture(scope="module")
def environment(distributions, tmp_path_factory):
    """The scripts of a new environment of the wheel, which finds its dependencies, gigabytes, in this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    scripts = folder / "bin"
    query = [scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    Path(packages, "present.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    (wheel,) = distributions.glob("*.whl")
    command = [scripts / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--ignore-installed", wheel], check=True)
    return scripts


def clean_environment(scripts, **variables):
    """Return the variables of a shell in which an environment is active and nothing of this checkout is on a path."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    return inherited | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"} | variables


@pytest.mark.slow
def test_the_distributions_hold_the_tracked_files_and_are_valid(distributions):
    names = tracked("cka_probe", "ckaprobe_cli")
    assert {"cka_probe/py.typed", "cka_probe/report/templates/page.css"} <= names
    (wheel,), (sdist,) = distributions.glob("*.whl"), distributions.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        contents = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert contents == names
    with tarfile.open(sdist) as archive:
        contents = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert names | {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "pyproject.toml"} <= contents
    assert not [name for name in contents if name.startswith("tests/")]
    check = [sys.executable, "-m", "twine", "check", "--strict", wheel, sdist]
    result = subprocess.run(check, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def write_inputs(folder, words):
    """Write what the words of commands name: weights of small networks, and folders of images after `--data`."""
    names = [word.replace("*", str(step)) for word in words if word.endswith(".pth") for step in (1, 2, 3)]
    for seed, name in enumerate(dict.fromkeys(names)):
        torch.manual_seed(seed)
        (folder / name).parent.mkdir(exist_ok=True)
        torch.save(timm.create_model("resnet18", num_classes=0).state_dict(), folder / name)
    draw = np.random.default_rng(0)
    for name in {after for word, after in pairwise(words) if word in ("--data", "--data-y")}:
        (folder / name).mkdir()
        for number in range(8):
            pixels = draw.integers(0, 256, (48, 48, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.slow
def test_the_commands_of_the_readme_run_in_an_empty_environment(environment, tmp_path):
    block = re.search(r"```sh\n(pip install .*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[1]
    commands = [line for line in block.splitlines() if line.startswith("ckaprobe ")]
    assert len(commands) >= 5
    write_inputs(tmp_path, " ".join(commands).split())
    variables = clean_environment(environment, HF_HUB_OFFLINE="1")
    for command in commands:
        shell = ["bash", "-c", command]
        run = subprocess.run(shell, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert run.returncode == 0, (command, run.stderr)
    assert (tmp_path / "comparison" / "index.html").is_file()
    assert (tmp_path / "comparison" / "heatmap.pdf").is_file()
    version = json.loads((tmp_path / "comparison" / "result.json").read_text())["versions"]["cka-probe"]
    assert version == PROJECT["version"]
    query = [environment / "python", "-c", "import cka_probe; print(cka_probe.__file__)"]
    path = subprocess.run(query, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True).stdout
    assert Path(path).is_relative_to(environment.parent)


@pytest.mark.slow
def test_the_types_of_the_installed_package_are_checked(environment, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        'import cka_probe\nresult = cka_probe.compare("a.pth", "b.pth", "images")\nnumber: int = result\n'
        'cka_probe.compare("a.pth", "b.pth", "images", permutations="many")\n'
    )
    command = [sys.executable, "-m", "mypy", "--python-executable", environment / "python", "--cache-dir", os.devnull]
    command += ["--config-file", os.devnull, script]
    run = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(environment), capture_output=True, text=True, check=False
    )
    assert re.findall(r"script.py:(\d): error", run.stdout) == ["3", "4"], run.stdout
    assert '"SimilarityMatrix", variable has type "int"' in run.stdout


def test_the_version_is_the_same_everywhere():
    assert str(read_yaml("CITATION.cff")["version"]) == PROJECT["version"]
    assert str(read_yaml("packaging/conda/recipe.yaml")["context"]["version"]) == PROJECT["version"]


def test_the_recipe_has_the_dependencies_of_the_package():
    recipe = read_yaml("packaging/conda/recipe.yaml")
    expected = {}
    for requirement in PROJECT["dependencies"]:
        name, bound = re.match(r"([\w-]+)(>=[\d.]+)", requirement).groups()
        expected[CONDA_NAMES.get(name, name)] = bound
    run = dict(line.split() for line in recipe["requirements"]["run"] if not line.startswith("python "))
    assert run == expected
    assert recipe["build"]["python"]["entry_points"] == [f"ckaprobe = {PROJECT['scripts']['ckaprobe']}"]
    assert (recipe["about"]["summary"], recipe["about"]["license"]) == (PROJECT["description"], PROJECT["license"])
    assert (ROOT / "packaging" / "conda" / recipe["source"]["path"]).resolve() == ROOT


def test_all_yaml_can_be_read():
    paths = [path for path in tracked() if path.endswith((".yml", ".yaml")) and path != "mkdocs.yml"]  # which has tags
    assert len(paths) >= 6
    assert all(isinstance(read_yaml(path), dict) for path in paths)


def test_the_workflows_test_every_python_and_publish_without_a_token():
    tests, release = (read_yaml(WORKFLOWS / name) for name in ("tests.yml", "release.yml"))
    pythons = tests["jobs"]["fast"]["strategy"]["matrix"]["python"]
    assert pythons == [f"3.{minor}" for minor in range(10, 15)]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
    jobs = [*tests["jobs"].values(), *release["jobs"].values()]
    runs = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert {command.split()[1] for command in runs if command.startswith("make ")} == {"check"}
    assert "check" in targets
    publish = release["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["steps"][-1]["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert "secrets." not in (WORKFLOWS / "release.yml").read_text()


def test_issue_forms_have_what_github_requires():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = read_yaml(path)
        assert {"name", "description", "body"} <= form.keys()
        assert all(field["attributes"]["label"] for field in form["body"])
        assert len({field["id"] for field in form["body"]}) == len(form["body"])


def test_the_image_is_built_from_files_that_exist_and_runs_the_command():
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text())
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line]
    assert {word for word, _ in lines} <= {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT", "CMD"}
    assert [rest for word, rest in lines if word == "FROM"] == ["${BASE}"]
    assert lines[0][0] == "ARG"
    assert lines[0][1].startswith("BASE=python:3")
    (entry,) = [json.loads(rest) for word, rest in lines if word == "ENTRYPOINT"]
    assert entry[0] in PROJECT["scripts"]
    sources = [source for word, rest in lines if word == "COPY" for source in rest.split()[:-1]]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(sources) == allowed
    assert all((ROOT / source).exists() for source in sources)
    assert {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml"} <= allowed


def test_the_citation_has_the_fields_of_its_schema():
    citation = read_yaml("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in {"software", "dataset"}
    assert citation["license"] == PROJECT["license"]
    for reference in citation["references"]:
        assert reference["type"] in REFERENCE_TYPES
        assert {"title", "authors", "year"} <= reference.keys()
        assert isinstance(reference["year"], int)
    for author in [*citation["authors"], *(author for item in citation["references"] for author in item["authors"])]:
        assert author.keys() == {"name"} or {"family-names", "given-names"} <= author.keys()
