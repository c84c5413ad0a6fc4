"""The pages of written reports and of `ckaprobe reproduce`, which writes one and its similarity matrices.

The page follows the README: each heading of the second or third level begins a section. Its prose, lists and code are
rendered as Markdown; its figures are embedded with their files; its tables can be sorted and downloaded, with the exact
numbers of `claims.csv` in the tables of claims. `notes.md` follows the claims, other texts are at the end.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_it.token import Token

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.report.blocks import (
    Block,
    Facts,
    FigureBlock,
    Markdown,
    MatrixBlock,
    NumberText,
    Page,
    Paragraph,
    Section,
    TableBlock,
    folder_name,
    format_value,
    modules,
)
from cka_probe.report.html import markdown_parser

README, NOTES = "README.md", "notes.md"
FIRST_SECTION = "In short"
REPRODUCTION = "how to do it again"
COMMAND = re.compile(r"^```.*?\n(ckaprobe .*?)^```", re.MULTILINE | re.DOTALL)
MATRICES = {
    "mesa": {
        "mp~mp_depth~paper": "MP, before and after fine-tuning",
        "gp~gp_depth~paper": "MP+GP, before and after",
        "sp~sp_depth~paper": "MP+GP+SP, before and after",
        "mp_imagenet~mp_imagenet_depth~paper": "MP on objects, before and after",
        "random~random_depth~paper": "no pre-training, before and after",
        "mp~mp~paper": "MP with itself",
        "sp~sp~paper": "MP+GP+SP with itself",
    },
    "depth-to-semantic": {
        "video~~video~kitti~skip~all~trial0": "depth from video, before and after fine-tuning",
        "classification~~classification~kitti~skip~all~trial0": "classification, before and after",
        "none~~none~kitti~skip~all~trial0": "no pre-training, before and after",
        "video~~classification": "depth and classification, before",
        "classification~kitti~skip~all~trial0~~video~kitti~skip~all~trial0": "classification and depth, after",
        "video~~stereo": "depth from video and from stereo, before",
        "video_classification~~video_classification~kitti~skip~all~trial0": "depth after classification, both",
    },
}
"""By paper, the matrices that its claims refer to: file stem to name in the page's switch."""
MAX_MATRICES = 8  # of a study that is not in the table
COUNT = re.compile(r"\d{1,15}")
NUMBER = re.compile(
    r"(?P<number>[-\N{MINUS SIGN}]?\d[\d \N{NO-BREAK SPACE}]*(\.\d+)?(e[-+]?\d+)?)"
    r"($| ?%.*| [\N{PLUS-MINUS SIGN}\[(/].*)"
)
"""A number, and after it an interval, a unit of percent, or a published number."""
MISSING = ("", "\N{EN DASH}", "\N{EM DASH}", "-")
"""Cells without a value."""


@dataclass(frozen=True)
class MarkdownTable:
    """A table of a text: its headings, and its rows of as many cells."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def read(folder: Path) -> Page:
    """Return the page of a study: its report, and its most important similarity matrices.

    Raises:
        DataError: A file of it cannot be read.
    """
    path = folder / "study.json"
    try:
        study = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"expected a study.json of `ckaprobe reproduce` at {path}, found: {error}") from error
    if not isinstance(study, dict):
        raise DataError(f"{path}: expected an object, found {type(study).__name__}; give the folder of a study")
    matrices = _matrices(folder, str(study.get("paper", "")))
    provenance = tuple((name, format_value(value)) for name, value in study.items())
    if (folder / "report" / README).is_file():
        page = read_readme(folder / "report")
        sections = _insert_after_claims(page.sections, matrices)
        return replace(page, label="Study", sections=sections, provenance=provenance)
    text = f"The report is missing: `ckaprobe reproduce` writes report/{README} at its end."
    section = Section("The study so far", (Facts(provenance), Paragraph(text)))
    title = f"{study.get('paper', folder_name(folder))}, not finished"
    return Page(title, "", (*matrices, section), warnings=(text,), provenance=provenance, label="Study")


def read_readme(folder: Path) -> Page:
    """Return the page of a written report.

    Raises:
        DataError: A text or table of it cannot be read.
    """
    reader = ReportReader(folder)
    title, sections = reader.sections(README)
    notes = reader.sections(NOTES)[1] if (folder / NOTES).is_file() else []
    appendix: list[Section] = []
    for path in sorted(folder.glob("*.md")):
        if path.name not in (README, NOTES):
            name, texts = reader.sections(path.name)
            name = name or path.stem
            appendix += [replace(text, title=name if text.title == name else f"{name}: {text.title}") for text in texts]
    subtitle, sections = _split_subtitle(sections)
    return Page(
        title=title or folder_name(folder),
        subtitle=subtitle,
        sections=(*_insert_after_claims(sections, notes), *appendix),
        command=_command(sections),
        label="Report",
    )


class ReportReader:
    """Reads the texts of a report's folder into sections.

    Attributes:
        folder: The report.
        claims: The rows of `claims.csv`; empty without one.
        exact: Tables of `tables/*.md`, to the CSV file with all their digits.

    Raises:
        DataError: `claims.csv` cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.claims = _read_csv(folder / "claims.csv") if (folder / "claims.csv").is_file() else pd.DataFrame()
        self.exact: dict[MarkdownTable, str] = {}
        for path in sorted((folder / "tables").glob("*.csv")):
            if path.with_suffix(".md").is_file():
                text = path.with_suffix(".md").read_text("utf-8")
                self.exact |= dict.fromkeys(read_tables(text), f"tables/{path.name}")

    def sections(self, name: str) -> tuple[str, list[Section]]:
        """Return the title and the sections of a text.

        Raises:
            DataError: It cannot be read.
        """
        try:
            source = (self.folder / name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"expected a text at {self.folder / name}, found: {error}") from error
        groups = _top_level(source)
        first = next((group for group in groups if group[0].tag == "h1"), None)
        title = _plain(first[1]) if first else ""
        heading, chapter = FIRST_SECTION if name == README else title or Path(name).stem, ""
        parts: list[tuple[str, list[list[Token]]]] = [(heading, [])]
        for index, group in enumerate(groups):
            level = min(4, int(group[0].tag[1])) if group[0].type == "heading_open" else 4
            if group is first or (level == 3 and _names_figure(groups[index + 1 :])):
                continue
            if level == 4:
                parts[-1][1].append(group)
                continue
            text = _plain(group[1])
            chapter = text if level < 3 else chapter
            parts.append((text if level < 3 or not chapter else f"{chapter}: {text}", []))
        lines = source.splitlines()
        return title, [Section(text, blocks) for text, body in parts if (blocks := self._blocks(body, lines, text))]

    def _blocks(self, groups: Sequence[Sequence[Token]], lines: Sequence[str], heading: str) -> tuple[Block, ...]:
        """Return the blocks of a section; prose between tables and figures is one block."""
        blocks: list[Block] = []
        prose: list[str] = []

        def end_prose() -> None:
            if prose:
                blocks.append(Markdown("\n\n".join(prose)))
                prose.clear()

        for index, group in enumerate(groups):
            following = groups[index + 1] if index + 1 < len(groups) else ()
            previous = groups[index - 1] if index else ()
            caption = _plain(previous[1]) if _is_caption(previous, group) else ""
            if group[0].type == "table_open":
                end_prose()
                blocks.append(self._table(_table(group), heading, caption))
                continue
            only_images = _images(group) and group[0].type == "paragraph_open" and not _plain(group[1])
            if not only_images and not _is_caption(group, following):
                first, last = group[0].map or (0, 0)
                prose.append("\n".join(lines[first:last]).rstrip())
            for image in _images(group):
                end_prose()
                blocks.append(self._figure(str(image.attrs["src"]), caption or image.content))
        end_prose()
        return tuple(blocks)

    def _figure(self, name: str, caption: str) -> Block:
        """Return an image of the folder, or a sentence that it is missing; no other file is embedded."""
        path = self.folder / name
        if "://" in name or not path.resolve().is_relative_to(self.folder.resolve()) or not path.is_file():
            return Paragraph(f"The image `{name}` is not in this folder.")
        return FigureBlock.from_file(path, caption or path.stem)

    def _table(self, table: MarkdownTable, heading: str, caption: str) -> TableBlock:
        """Return a table of a text, with the numbers of `claims.csv` where it is one of claims."""
        name = re.sub(r"[^a-z0-9]+", "_", heading.lower()).strip("_")[:60] or "table"
        if table.head[0] == "claim" and (claims := self._claims(table)) is not None:
            return TableBlock(claims, "Claims with their 95 % intervals, from `claims.csv`.", f"claims_{name}")
        exact = f" Exact numbers and intervals: `{self.exact[table]}`." if table in self.exact else ""
        return TableBlock(_frame(table), f"{caption.rstrip(':') or heading}.{exact}", name)

    def _claims(self, table: MarkdownTable) -> pd.DataFrame | None:
        """Return claims with the numbers of their file, in the order of the text; None if the file lacks one."""
        if not {"statement", "value", "low", "high"} <= set(self.claims.columns):
            return None
        indices: list[Any] = []
        for row in table.rows:
            matches = self.claims.index[self.claims["statement"] == row[0]].difference(indices, sort=False)
            if matches.empty:
                return None
            indices.append(matches[0])
        rows = self.claims.loc[indices].reset_index(drop=True)
        if "verdict" in table.head:
            rows["verdict"] = [row[table.head.index("verdict")] for row in table.rows]
        columns = ["statement", "verdict", "value", "low", "high", "unit"]
        columns += ["p_holm"] if "p_holm" in rows and rows["p_holm"].notna().any() else []
        return rows.reindex(columns=[name for name in columns if name in rows]).rename(
            columns={"statement": "claim", "p_holm": "p (Holm)"}
        )


def read_tables(source: str) -> list[MarkdownTable]:
    """Return the tables of a Markdown text.

    >>> read_tables("| a | |\\n|---|---|\\n| `1` | **x**\\\\|y |\\n")
    [MarkdownTable(head=('a', ''), rows=(('`1`', '**x**|y'),))]
    """
    return [_table(group) for group in _top_level(source) if group[0].type == "table_open"]


def _top_level(source: str) -> list[list[Token]]:
    """Return the tokens of each top-level block of a Markdown text."""
    groups: list[list[Token]] = []
    depth = 0
    for token in markdown_parser().parse(source):
        if depth == 0:
            groups.append([])
        groups[-1].append(token)
        depth += token.nesting
    return groups


def _plain(inline: Token) -> str:
    """Return the text of an inline token with `code` and **strong** marked; links are their text and web address."""
    pieces: list[str] = []
    links: list[str] = []
    for child in inline.children or ():
        if child.type == "text":
            pieces.append(child.content)
        elif child.type == "code_inline":
            pieces.append(f"`{child.content.replace('`', chr(39))}`")
        elif child.type in ("strong_open", "strong_close"):
            pieces.append("**")
        elif child.type in ("softbreak", "hardbreak"):
            pieces.append(" ")
        elif child.type == "link_open":
            links.append(str(child.attrs["href"]))
        elif child.type == "link_close":
            pieces.append(f" ({links.pop()})")
    return " ".join("".join(pieces).split())


def _images(group: Sequence[Token]) -> list[Token]:
    return [child for token in group for child in token.children or () if child.type == "image"]


def _table(group: Sequence[Token]) -> MarkdownTable:
    rows: list[list[str]] = []
    for token in group:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_plain(token))
    head, *body = map(tuple, rows)
    return MarkdownTable(head, tuple(body))


def _is_caption(group: Sequence[Token], following: Sequence[Token]) -> bool:
    """Return whether a paragraph is the caption of the image or, ending in a colon, of the table that follows."""
    if not group or not following or group[0].type != "paragraph_open" or _images(group):
        return False
    return bool(_images(following)) or (following[0].type == "table_open" and _plain(group[1]).endswith(":"))


def _names_figure(groups: Sequence[Sequence[Token]]) -> bool:
    """Return whether a heading is followed only by a caption and images: it then repeats the figure's name."""
    body = []
    for group in groups:
        if group[0].type == "heading_open":
            break
        body.append(bool(_images(group)))
    return len(body) > 1 and not body[0] and all(body[1:])


def _frame(table: MarkdownTable) -> pd.DataFrame:
    """Return a table as it is written; cells that begin with a number are sorted by it."""
    columns: dict[str, Sequence[object]] = {}
    for position, heading in enumerate(table.head):
        cells = [row[position] for row in table.rows]
        name = heading or ("name" if position == 0 else f"column {position}")
        name = name if name not in columns else f"{name} ({position})"
        columns[name] = [int(cell) for cell in cells] if all(map(COUNT.fullmatch, cells)) else _numeric_cells(cells)
    return pd.DataFrame(columns)


def _numeric_cells(cells: Sequence[str]) -> Sequence[object]:
    """Return cells with the number that each begins with, or as they are if most have none."""
    matches = [NUMBER.fullmatch(cell.replace("**", "")) for cell in cells]
    present = sum(cell not in MISSING for cell in cells)
    if not present or 2 * sum(map(bool, matches)) < present:
        return cells
    numbers = [float(re.sub(r"\s", "", match["number"]).replace("\N{MINUS SIGN}", "-")) if match else float("nan")
               for match in matches]  # fmt: skip
    return [NumberText(cell, number) for cell, number in zip(cells, numbers, strict=True)]


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:  # the errors of pandas are ValueErrors
        raise DataError(f"expected a table at {path}, found: {error}") from error


def _insert_after_claims(sections: Sequence[Section], others: Sequence[Section]) -> tuple[Section, ...]:
    """Return sections with others after those of claims, or after the first if there are no claims."""
    claims = [index for index, section in enumerate(sections) if section.title.lower().startswith("claims")]
    position = 1 + (claims[-1] if claims else 0)
    return (*sections[:position], *others, *sections[position:])


def _split_subtitle(sections: list[Section]) -> tuple[str, list[Section]]:
    """Return the first paragraph of a report as its subtitle, and the sections without it."""
    if not sections or not isinstance(sections[0].blocks[0], Markdown):
        return "", sections
    source = sections[0].blocks[0].source
    first, rest = _top_level(source)[0], source.partition("\n\n")[2]
    if first[0].type != "paragraph_open":
        return "", sections
    blocks = (*((Markdown(rest),) if rest else ()), *sections[0].blocks[1:])
    return _plain(first[1]), [*([replace(sections[0], blocks=blocks)] if blocks else []), *sections[1:]]


def _command(sections: Sequence[Section]) -> str:
    """Return the first command of a report's section on its reproduction."""
    for section in sections:
        if section.title.lower() == REPRODUCTION:
            for block in section.blocks:
                if isinstance(block, Markdown) and (match := COMMAND.search(block.source)):
                    return match[1].rstrip()
    return ""


def _matrices(folder: Path, paper: str) -> tuple[Section, ...]:
    """Return the matrices that the claims refer to, of the first seed, with the same layers as the first of them."""
    seed = next((path for path in sorted(folder.glob("seed*")) if (path / "similarity").is_dir()), None)
    if seed is None:
        return ()
    paths = {path.stem: path for path in sorted((seed / "similarity").glob("*.json"))}
    names = MATRICES.get(paper) or {stem: stem.replace("~", " ") for stem in list(paths)[:MAX_MATRICES]}
    results: dict[str, SimilarityMatrix] = {}
    for stem, name in names.items():
        if stem in paths:
            result = SimilarityMatrix.load(paths[stem])
            if modules(next(iter(results.values()), result)) == modules(result):
                results[name] = result
    if not results:
        return ()
    others = len(paths) - len(results)
    intro = f"Seed {seed.name.removeprefix('seed')}; {others} more matrices are in `{seed.name}/similarity`."
    return (Section("Similarity, layer by layer", (MatrixBlock(results, "similarity"),), intro=intro),)
