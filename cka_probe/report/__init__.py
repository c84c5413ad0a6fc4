"""One page of whatever a folder holds: a comparison, a run, scores, maps or a whole reproduction.

    from cka_probe.report import report
    report("runs/first_road")              # writes runs/first_road/index.html

`kinds` tells what a folder is and reads it into the sections of `page`; `render` makes one HTML document of them. The
same folder gives the same bytes.
"""

from dataclasses import replace
from pathlib import Path

from cka_probe.report.kinds import parts_of
from cka_probe.report.page import FigureItem, Item, Page, Section
from cka_probe.report.part import Part, own_name
from cka_probe.report.render import MOST_EMBEDDED, save_page

NAME = "index.html"


def report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write one self-contained page of a folder's results.

    Args:
        folder: Of `ckaprobe compare`, `train`, `evaluate`, `gradcam` or `reproduce`, a folder of such folders, or a
            committed report.
        out: The file; by default `index.html` in the folder.

    Returns:
        The file written.

    Raises:
        DataError: There is nothing that a page could be made of, or a file of it cannot be read.
        OutputError: It cannot be written there.
    """
    path = Path(folder) / NAME if out is None else Path(out)
    return save_page(_within_reach(page_of(folder), path.parent), path)


def page_of(folder: str | Path) -> Page:
    """Return what a folder's page says.

    Raises:
        DataError: There is nothing that a page could be made of, or a file of it cannot be read.
    """
    parts = parts_of(folder)
    first = parts[0]
    if len(parts) == 1:
        return Page(first.title, first.subtitle, first.sections, first.cautions, first.provenance, first.command)
    written = next((part for part in parts if part.label == "Report"), None)
    return Page(
        title=written.title if written else own_name(Path(folder)),
        subtitle=" ".join(part.subtitle for part in parts if part.subtitle),
        sections=tuple(section for part in parts for section in _sections(part)),
        cautions=tuple(f"{part.label}: {caution}" for part in parts for caution in part.cautions),
        provenance=tuple((f"{part.label}: {name}", value) for part in parts for name, value in part.provenance),
        command="\n".join(part.command for part in parts if part.command),
    )


def _sections(part: Part) -> list[Section]:
    """Return the sections of one part among several, each with a title that says whose it is."""
    if part.label == "Report":
        return list(part.sections)
    return [Section(f"{part.label}: {one.title}", one.items, one.anchor, one.intro) for one in part.sections]


def _within_reach(page: Page, place: Path) -> Page:
    """Return a page with the downloads that can be linked from its place, or are small enough together to be in it."""
    left = MOST_EMBEDDED

    def reached(item: Item) -> Item:
        nonlocal left
        if not isinstance(item, FigureItem):
            return item
        kept = []
        for path in map(Path, item.downloads):
            inside = path.resolve().is_relative_to(place.resolve())
            size = 0 if inside else path.stat().st_size
            if size <= left:
                left -= size
                kept.append(path)
        return replace(item, downloads=tuple(kept))

    return replace(page, sections=tuple(replace(one, items=tuple(map(reached, one.items))) for one in page.sections))
