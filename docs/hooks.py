"""Hooks of mkdocs: the reference is listed, formulas become MathML, and files outside docs/ become part of the site.

A link between two files of the repository, such as `../reports/mesa/README.md` in `docs/gallery.md`, holds on a code
host and in the site alike. Files keep their paths in the site, those in `docs/` without `docs/`.
"""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ("*.md", "reports/**/*.md", "benchmarks/*.md")
"""Pages outside `docs/`. Other files become part of the site where a page links to them."""
ROOMS = {
    "comparison": [
        "comparison.advice.advise", "comparison.advice.Advice", "comparison.plan.plan",
        "comparison.ranks.alone", "comparison.seeds.compare_seeds", "comparison.shards.join_shards",
    ],
    "models": [],
    "similarity": [
        "similarity.measures.MEASURES", "similarity.measures.Measure", "similarity.gram.centred_grams",
        "similarity.cka.hsic_terms", "similarity.cka.cka", "similarity.intervals.jackknife_interval",
        "similarity.null.permuted_values", "similarity.influence.losses", "similarity.influence.cka_without",
        "similarity.embedding.embed", "similarity.embedding.Embedding", "similarity.embedding.cluster",
    ],
    "images": ["images.datasets.open_dataset", "images.datasets.Dataset"],
    "plotting": [
        "plotting.FIGURES", "plotting.figure.Figure", "plotting.figure.save", "plotting.figure.show",
        "plotting.heatmap.Heatmap", "plotting.heatmap.Uncertainty", "plotting.heatmap.Difference",
        "plotting.profile.Profile", "plotting.layer_grid.LayerGrid", "plotting.atlas.ModelMap",
        "plotting.atlas.ModelTree", "plotting.atlas.ModelPoints", "plotting.atlas.CheckpointCurves",
        "plotting.advice.HalfWidths", "plotting.redraw.redraw",
    ],
    "report": ["report.report"],
    "attribution": ["attribution.attribute.attribute"],
    "lab": ["lab.training.run.run_recipe", "lab.training.recipe.read_recipe", "lab.training.recipe.Recipe"],
}  # fmt: skip
"""What the reference documents of each room, besides the public names of the package."""
PUBLIC = re.compile(r"^from \.(\w[\w.]*) import (\w+) as \w+$", re.MULTILINE)
"""A line of `cka_probe/__init__.pyi`."""
COLAB = "https://colab.research.google.com/github"
"""Opens notebooks of a public repository; GitHub's workflows set `GITHUB_REPOSITORY` to its owner and name."""
LINK = re.compile(r"(?P<front>\]\()(?P<path>[^()\s:#]+)(?P<rest>(?:#[^()\s]*)?\))")
"""A relative link of Markdown."""


def on_config(config: MkDocsConfig) -> None:
    """List the reference; turn blocks of ```math into formulas, which browsers draw without a script."""
    section = next(entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    section += [{f"cka_probe.{room}": f"api/{room}.md"} for room in reference()]
    fence = {"name": "math", "class": "", "format": formula}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]


def formula(source: str, *_: Any, **__: Any) -> str:
    """Return the MathML of a formula in LaTeX."""
    return f'<div class="math">{convert(source, display="block")}</div>'


def reference() -> dict[str, str]:
    """Return the page of each room in Markdown: the public names that the room defines, then `ROOMS`."""
    names: dict[str, list[str]] = {room: [] for room in ROOMS}
    for module, name in PUBLIC.findall((ROOT / "cka_probe/__init__.pyi").read_text("utf-8")):
        names.setdefault(module.split(".")[0], []).append(name)
    return {
        room: "\n\n".join([f"# cka_probe.{room}", *(f"::: cka_probe.{name}" for name in public + ROOMS.get(room, []))])
        for room, public in names.items()
    }


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the files outside `docs/` and the pages of the reference."""
    for room, text in reference().items():
        files.append(File.generated(config, f"api/{room}.md", content=text))
    for path in (path for pattern in OUTSIDE for path in sorted(ROOT.glob(pattern))):
        files.append(file_of(path.relative_to(ROOT).as_posix(), config))


def file_of(path: str, config: MkDocsConfig) -> File:
    """Return a file outside `docs/` as one of the site."""
    return File(path, str(ROOT), config.site_dir, config.use_directory_urls)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository into links to files of the site."""
    if page.file.abs_src_path is None:
        return markdown
    source = Path(page.file.abs_src_path).relative_to(ROOT)
    folder = posixpath.dirname(page.file.src_uri)

    def in_site(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(source.parent.as_posix(), match["path"]))
        uri = path.removeprefix("docs/")
        if (ROOT / path).is_file() and files.get_file_from_path(uri) is None:
            files.append(file_of(path, config))
        link = f"{match['front']}{posixpath.relpath(uri, folder or '.')}{match['rest']}"
        if path.endswith(".ipynb") and (repository := os.environ.get("GITHUB_REPOSITORY")):
            link += f" ([open in Colab]({COLAB}/{repository}/blob/main/{path}))"
        return link

    return LINK.sub(in_site, markdown)
