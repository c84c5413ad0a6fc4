"""A report that was written: README, tables, claims and figures, as `ckaprobe reproduce` leaves them and we commit.

The page says what the README says, in its order: its headings, paragraphs, lists and code. Its tables can be sorted,
its claims have the exact numbers of `claims.csv`, its figures bring the files to take away. `notes.md` follows what is
claimed, other texts stand at the end.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cka_probe.errors import DataError
from cka_probe.report.grids import Numbers
from cka_probe.report.markdown import Block, Entries, Grid, Heading, Image, Listing, Paragraph, read_markdown
from cka_probe.report.page import Bullets, Code, Item, Section, Text
from cka_probe.report.part import Part, figure, own_name

EXPECTED = "README.md of a report"
README, NOTES = "README.md", "notes.md"
OPENING = "In short"
COMMAND = "ckaprobe "
AGAIN = "how to do it again"


def is_here(folder: Path) -> bool:
    """Return whether the folder holds a report."""
    return (folder / README).is_file()


def read(folder: Path) -> Part:
    """Return what a report says.

    Raises:
        DataError: A text or table of it cannot be read.
    """
    title, sections = _sections(folder, README, Numbers.of(folder))
    notes = _sections(folder, NOTES, Numbers.of(folder))[1] if (folder / NOTES).is_file() else []
    others = sorted(path.name for path in folder.glob("*.md") if path.name not in (README, NOTES))
    more = [section for name in others for section in _titled(folder, name)]
    subtitle, sections = _subtitle(sections)
    first = after_claims(sections)
    return Part(
        label="Report",
        title=title or own_name(folder),
        subtitle=subtitle,
        sections=(*sections[:first], *notes, *sections[first:], *more),
        command=_command(sections),
    )


def after_claims(sections: Sequence[Section]) -> int:
    """Return the place after a report's claims, or, where it has none, after its first section."""
    claims = [place for place, one in enumerate(sections) if one.title.lower().startswith("claims")]
    return 1 + (claims[-1] if claims else 0)


def _titled(folder: Path, name: str) -> list[Section]:
    """Return the sections of a text that stands at the end, each named after it."""
    title, sections = _sections(folder, name, Numbers.of(folder))
    title = title or Path(name).stem
    return [replace(one, title=title if one.title == title else f"{title}: {one.title}") for one in sections]


def _sections(folder: Path, name: str, numbers: Numbers) -> tuple[str, list[Section]]:
    """Return the title of a text and its sections; what stands before the first heading of a README is its opening."""
    try:
        blocks = read_markdown((folder / name).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"expected a text at {folder / name}, found: {error}") from error
    first = next((block for block in blocks if isinstance(block, Heading) and block.level == 1), None)
    title = first.text if first else ""
    blocks = [block for block in blocks if block is not first]
    sections = []
    for heading, body in _under_headings(blocks, OPENING if name == README else title or Path(name).stem):
        items = tuple(_items(folder, body, numbers, heading))
        if items:
            sections.append(Section(heading, items))
    return title, sections


def _under_headings(blocks: Sequence[Block], title: str) -> Iterator[tuple[str, list[Block]]]:
    """Yield each heading of the second or third level with what stands under it.

    A third-level heading of nothing but words and an image is a figure's name, which its file has too: it is left out.
    """
    chapter, heading, body = "", title, []
    for place, block in enumerate(blocks):
        if isinstance(block, Heading) and block.level < 4 and not _names_figure(blocks, place):
            yield heading, body
            chapter = block.text if block.level < 3 else chapter
            heading = block.text if block.level < 3 or not chapter else f"{chapter}: {block.text}"
            body = []
        elif not (isinstance(block, Heading) and block.level == 3):
            body.append(block)
    yield heading, body


def _names_figure(blocks: Sequence[Block], place: int) -> bool:
    """Return whether a heading is followed by a figure's caption and its images, and nothing else."""
    following = []
    for block in blocks[place + 1 :]:
        if isinstance(block, Heading):
            break
        following.append(block)
    kinds = [type(block) for block in following]
    return blocks[place].level == 3 and kinds[:2] == [Paragraph, Image] and {*kinds[2:]} <= {Image}


def _items(folder: Path, blocks: Sequence[Block], numbers: Numbers, heading: str) -> Iterator[Item]:
    """Yield what the blocks under one heading become; paragraphs in a row are one text."""
    paragraphs: list[str] = []
    for place, block in enumerate(blocks):
        following = blocks[place + 1] if place + 1 < len(blocks) else None
        if isinstance(block, Paragraph):
            if not _is_caption(block, following):
                paragraphs.append(block.text)
            continue
        if paragraphs:
            yield Text(tuple(paragraphs))
            paragraphs = []
        before = blocks[place - 1] if place else None
        caption = before.text if before is not None and _is_caption(before, block) else ""
        yield from _item(folder, block, numbers, heading, caption)
    if paragraphs:
        yield Text(tuple(paragraphs))


def _is_caption(block: Block, following: Block | None) -> bool:
    """Return whether a paragraph is the caption of the image that follows, or announces the table that does."""
    return isinstance(block, Paragraph) and (
        isinstance(following, Image) or (isinstance(following, Grid) and block.text.endswith(":"))
    )


def _item(folder: Path, block: Block, numbers: Numbers, heading: str, caption: str) -> Iterable[Item]:
    if isinstance(block, Entries):
        return [Bullets(block.entries)]
    if isinstance(block, Listing):
        return [Code(block.text)]
    if isinstance(block, Grid):
        return [numbers.table(block, heading, caption)]
    if isinstance(block, Image):
        return [_image(folder, block, caption)]
    return [Text((block.text,))] if isinstance(block, Heading) else []


def _image(folder: Path, image: Image, caption: str) -> Item:
    """Return an image of the folder, or a word that it is not there; nothing outside of it is brought in."""
    path = folder / image.place
    if "://" in image.place or not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return Text((f"The image `{image.place}` is not in this folder.",))
    return figure(path, caption or image.words or path.stem)


def _subtitle(sections: Sequence[Section]) -> tuple[str, Sequence[Section]]:
    """Return the first paragraph of a text, which says what it is, and the sections without it."""
    if not sections or not isinstance(sections[0].items[0], Text):
        return "", sections
    first, *others = sections[0].items[0].paragraphs
    rest = ((Text(tuple(others)),) if others else ()) + sections[0].items[1:]
    return first, ((replace(sections[0], items=rest),) if rest else ()) + tuple(sections[1:])


def _command(sections: Sequence[Section]) -> str:
    """Return the first commands that a report gives under its heading of how to do it again."""
    for section in sections:
        codes = [item.text for item in section.items if isinstance(item, Code) and item.text.startswith(COMMAND)]
        if codes and section.title.lower() == AGAIN:
            return codes[0]
    return ""
