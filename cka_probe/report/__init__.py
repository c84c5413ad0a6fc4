"""One HTML page of any result folder: a comparison, a run, scores, Grad-CAM maps, a study or a written report.

    from cka_probe.report import report
    report("runs/first_road")              # writes runs/first_road/index.html

`KINDS` recognises a folder by its files and names the function that reads it into a `Page` of blocks; `html` renders
the page. The same folder gives the same bytes.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cka_probe import registry
from cka_probe.documents import checked_document
from cka_probe.errors import DataError
from cka_probe.plotting.style import check_style
from cka_probe.report.blocks import Block, Heading, Page
from cka_probe.report.html import check_replaceable, save_page

NAME = "index.html"
MAX_NAMES = 6  # files of a folder that an error message lists


class PageKind(NamedTuple):
    """A kind of folder.

    Attributes:
        file: The file that only this kind of folder holds.
        origin: What writes that file.
        reader: `"module:function"`, the function from the folder's path to its `Page`.
        nested: Folders of this kind are looked for one level down, too.
    """

    file: str
    origin: str
    reader: str
    nested: bool = True


KINDS = {
    "comparison": PageKind("result.json", "`ckaprobe compare`", "cka_probe.report.comparison:read"),
    "atlas": PageKind("atlas.json", "`ckaprobe compare` of several models", "cka_probe.report.atlas:read"),
    "gradcam": PageKind("gradcam.json", "`ckaprobe gradcam`", "cka_probe.report.gradcam:read"),
    "scores": PageKind("scores.json", "`ckaprobe evaluate`", "cka_probe.report.scores:read"),
    "study": PageKind("study.json", "`ckaprobe reproduce`", "cka_probe.report.study:read", nested=False),
    "training": PageKind("recipe.json", "`ckaprobe train`", "cka_probe.report.training:read"),
    "readme": PageKind("README.md", "a report", "cka_probe.report.study:read_readme", nested=False),
}
"""Kinds of folder, in their order on a page."""


def report(folder: str | Path, out: str | Path | None = None, *, force: bool = False, venue: str | None = None) -> Path:
    """Write one self-contained page of a folder's results.

    Args:
        folder: Of `ckaprobe compare`, `train`, `evaluate`, `gradcam` or `reproduce`, a folder of such folders, or a
            written report.
        out: The file; by default `index.html` in the folder.
        force: Whether to replace a file that is not a page of ckaprobe.
        venue: Where the figures that a reader downloads from the page are printed ("cvpr"): they are as wide as a
            column or page there. By default they have their own width.

    Returns:
        The path of the file.

    Raises:
        DataError: The folder holds no results, or one of its files cannot be read.
        OutputError: The page cannot be written, or would replace a file that is not a page of ckaprobe.
        UnknownNameError: No such venue.
    """
    check_style("paper", venue)
    path = Path(folder) / NAME if out is None else Path(out)
    if not force:
        check_replaceable(path)
    return save_page(page_of(folder), path, venue)


def page_of(folder: str | Path) -> Page:
    """Return the page of a folder; several results in it are one below the other.

    Raises:
        DataError: The folder holds no results, or one of its files cannot be read.
    """
    folder = Path(folder)
    pages = _pages(folder)
    if len(pages) == 1:
        return replace(pages[0], label="")
    return Page(
        title=next((page.title for page in pages if page.label == "Report"), folder.resolve().name),
        blocks=tuple(_labelled(block, page.label) for page in pages for block in page.blocks),
        subtitle=" ".join(page.subtitle for page in pages if page.subtitle),
        warnings=tuple(f"{page.label}: {warning}" for page in pages for warning in page.warnings),
        max_bytes=max(page.max_bytes or 0 for page in pages) or None,
    )


def kinds_of(folder: Path) -> tuple[str, ...]:
    """Return the kinds that a folder is of, in the order of the table."""
    return tuple(name for name, kind in KINDS.items() if (folder / kind.file).is_file())


def _labelled(block: Block, label: str) -> Block:
    """Return a block of one page among several: a heading begins with the page's label, unless it is of a report."""
    return Heading(f"{label}: {block.text}") if isinstance(block, Heading) and label != "Report" else block


def _pages(folder: Path) -> list[Page]:
    """Return the pages of a folder and of the folders in it, by kind; a study's own folders are not looked into."""
    if not folder.is_dir():
        problem = "a file" if folder.is_file() else "nothing"
        raise DataError(f"expected a folder of results at {folder}, found {problem}; give the folder they are in")
    children = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    sources = [(name, folder) for name in kinds_of(folder)]
    if ("study", folder) not in sources:
        sources += [(name, path) for path in children for name in kinds_of(path) if KINDS[name].nested]
    if not sources:
        raise DataError(_no_results(folder, [path.name for path in children if kinds_of(path)]))
    order = list(KINDS)
    sources.sort(key=lambda source: order.index(source[0]))  # stable: the folder itself before those in it
    paths = [path for _, path in sources]
    pages = []
    for name, path in sources:
        with checked_document(path / KINDS[name].file, ("whole results", KINDS[name].file, "write them again")):
            page: Page = registry.resolve(KINDS[name].reader)(path)
        if path != folder:
            page = replace(page, label=path.name if paths.count(path) == 1 else f"{path.name}, {page.label}")
        pages.append(page)
    return pages


def _no_results(folder: Path, children: list[str]) -> str:
    """Return the message for a folder without results: expected files, present files, and what to do."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    listing = f"{', '.join(names[:MAX_NAMES])}{more}" if names else "an empty folder"
    expected = "; ".join(f"{kind.file} of {kind.origin}" for kind in KINDS.values())
    hint = f"one of the folders in it ({', '.join(children[:MAX_NAMES])})" if children else "the folder of a result"
    return f"{folder}: expected one of: {expected}; found {listing}; give {hint}"
