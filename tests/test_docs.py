"""The documentation: its site is built without a warning, its links lead somewhere, and its code runs."""

import functools
import os
import posixpath
import re
import shlex
import subprocess
import sys
from collections import Counter, OrderedDict
from glob import glob
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers import foreign
from helpers.browser import look
from helpers.paths import ROOT
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

from cka_probe.plotting import FIGURES
from cka_probe.plotting.atlas import ATLAS_FIGURES
from ckaprobe_cli import app

DOCS = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_RUN = {
    "cluster": "processes of torchrun: tests/comparison/test_ranks.py",
    "data": "data sets on disk: tests/lab/transforms",
    "gallery": "by the test below",
    "monitoring": "trainers: tests/monitoring",
}
"""Pages whose code is not run here, and where it is tested."""
RUN = [
    ROOT / "README.md",
    *(path for path in DOCS if path.stem not in NOT_RUN and BLOCK.search(path.read_text("utf-8"))),
]

ENVIRONMENT = os.environ | {"NO_MKDOCS_2_WARNING": "1", "GITHUB_REPOSITORY": "someone/ckaprobe"}
MISSING = "return [...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src)"
CHECKPOINTS = (
    "pretrained", "finetuned", "model", "checkpoint", "scratch", "masked", "rgb", "depth", "run/1", "run/2",
    "run/3",
)  # fmt: skip


class Detector(nn.Module):
    """A model that takes a dict and keywords."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 4, 3, stride=4)))

    def forward(self, batch, targets):
        assert targets is None
        return self.backbone(batch["pixels"])


class Page(HTMLParser):
    """The links and anchors of a page, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[key] for key in ("id", "name") if key in attributes}
        self.links += [attributes[key] for key in ("href", "src") if key in attributes]
        self.loads += [attributes[key] for key in ("href", "src") if key in attributes and tag != "a"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as a dict of its pages, by path, and its folder."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, {
        path.relative_to(folder).as_posix(): Page(path.read_text("utf-8")) for path in folder.rglob("*.html")
    }


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere_and_none_loads_from_elsewhere(site):
    folder, pages = site
    broken = []
    for name, page in pages.items():
        for link in page.links if name != "404.html" else ():  # its links are absolute
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
            if not parts.path:
                target = name
            elif (folder / target).is_dir():
                target = posixpath.normpath(f"{target}/index.html")
            if not (folder / target).is_file():
                broken.append(f"{name}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{name}: {link} (no such anchor)")
    assert broken == []
    assert [load for page in pages.values() for load in page.loads if urlsplit(load).netloc] == []
    assert len(pages) > 30


@pytest.mark.slow
def test_every_page_and_report_is_listed_and_every_public_name_is_in_the_reference(site):
    import cka_probe

    _, pages = site
    home = {posixpath.normpath(link) for link in pages["index.html"].links}
    assert [path.stem for path in DOCS if path.stem not in home] == []
    reports = {path.parent.name for path in (ROOT / "reports").glob("*/README.md")}
    assert reports <= {posixpath.normpath(link) for link in pages["reports/index.html"].links}
    anchors = Counter(anchor for name, page in pages.items() if name.startswith("api/") for anchor in page.anchors)
    assert [name for name in cka_probe.__all__ if anchors[f"cka_probe.{name}"] != 1] == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_screen_and_every_image_is_there(site, chromium, width):
    folder, _ = site
    look(chromium, width)
    for name in ("", "compare", "gallery", "theory", "other-tools", "api/comparison", "reports/mesa"):
        chromium.get((folder / name / "index.html").as_uri())
        assert chromium.execute_script("return document.documentElement.scrollWidth") == width, name
        assert chromium.execute_script(MISSING) == [], name
    chromium.get_log("browser")  # the search needs a server


@pytest.mark.slow
def test_every_notebook_has_a_link_that_opens_it_in_colab(site):
    _, pages = site
    paths = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb"))
    front = "https://colab.research.google.com/github/someone/ckaprobe/blob/main/"
    assert sorted(link.removeprefix(front) for link in pages["notebooks/index.html"].links if front in link) == paths


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """A folder with the files that the pages name, and the objects that their Python code takes."""
    folder, rng = tmp_path_factory.mktemp("toys"), np.random.default_rng(0)
    for images in ("images", "clean", "noisy", "rgb", "depth"):
        (folder / images).mkdir()
        for number in range(8):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / images / f"{number}.png")
    (folder / "run").mkdir()
    for seed, name in enumerate(CHECKPOINTS):
        foreign.simmim(folder / f"{name}.pth", foreign.swin(seed))
    features = rng.normal(size=(2, 64, 5)).astype(np.float32)
    np.save(folder / "vision.npy", features[0])
    np.savez(folder / "language.npz", first=features[0], second=features[1])
    return folder, {
        **{f"net_{name}": foreign.resnet(seed) for seed, name in enumerate("abc")},
        "net": nn.Sequential(OrderedDict(stem=nn.Conv2d(1, 4, 3, stride=4))),
        "detector": Detector(),
        "loader": DataLoader(TensorDataset(torch.rand(8, 3, 32, 32)), batch_size=4),
    }


@pytest.fixture(scope="module")
def run_command():
    """Run a command line of `ckaprobe` in the present folder, each only once."""

    @functools.cache
    def run(line):
        words = [name for word in shlex.split(line)[1:] for name in sorted(glob(word)) or [word]]
        done = CliRunner().invoke(app, small(words))
        assert done.exit_code == 0, (line, done.output)

    return run


def small(words):
    """Return the words of a command, of few images and permutations."""
    compares = words[0] in ("compare", "atlas") and "--data" in words
    return [*words, "--num", "8", "--permutations", "20"] if compares else words


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_the_code_of_a_page_runs(path, toys, run_command, monkeypatch):
    folder, names = toys[0], dict(toys[1])
    monkeypatch.chdir(folder)
    for language, code in BLOCK.findall(path.read_text("utf-8")):
        if language == "python":
            exec(compile(code, path.name, "exec"), names)
        else:
            for line in re.findall(r"^ckaprobe [^#\n]*", code, re.MULTILINE):
                run_command(line.strip())
    plt.close("all")


@pytest.mark.slow
def test_the_code_of_the_gallery_draws_the_figures_that_it_shows(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    (tmp_path / "reports").symlink_to(ROOT / "reports")
    monkeypatch.chdir(tmp_path)
    code = "".join(code for _, code in BLOCK.findall(text))
    exec(compile(code.replace('"steps": 10', '"steps": 2').replace("num=48", "num=8"), "gallery.md", "exec"), {})
    drawn = {path.relative_to(tmp_path / "docs").as_posix() for path in (tmp_path / "docs").rglob("*.png")}
    shown = set(re.findall(r"\((gallery/.*?)\)", text))
    assert drawn == shown == {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs/gallery").iterdir()}
    kinds = {*FIGURES, *ATLAS_FIGURES}
    assert kinds <= {Path(name).stem for name in shown}
