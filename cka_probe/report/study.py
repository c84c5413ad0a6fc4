"""The pages of written reports and of `ckaprobe reproduce`, which writes one and its similarity matrices.

The page is the report's README, rendered as Markdown, and then the other texts of its folder. Each heading of the first
or second level begins a part of the page. Images are embedded with their files.
"""

from itertools import pairwise
from pathlib import Path

from markdown_it.token import Token

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.files import read_json
from cka_probe.report.blocks import Block, Facts, FigureBlock, Heading, MatrixBlock, Page, Text, format_value, modules
from cka_probe.report.html import MARKDOWN

README = "README.md"
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
        "classification~~video": "classification and depth, before",
        "classification~kitti~skip~all~trial0~~video~kitti~skip~all~trial0": "classification and depth, after",
        "video~~stereo": "depth from video and from stereo, before",
        "video_classification~~video_classification~kitti~skip~all~trial0": "depth after classification, both",
    },
}
"""By paper, the matrices that its claims refer to: file stem to name in the page's switch."""
MAX_MATRICES = 8  # of a study that is not in the table


def read(folder: Path) -> Page:
    """Return the page of a study: its report, and its most important similarity matrices.

    Raises:
        DataError: A file of it cannot be read.
    """
    path = folder / "study.json"
    try:
        study = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"expected a study.json of `ckaprobe reproduce` at {path}, found: {error}") from error
    if not isinstance(study, dict):
        raise DataError(f"{path}: expected an object, found {type(study).__name__}; give the folder of a study")
    matrices = _matrices(folder, str(study.get("paper", "")))
    facts = Heading("Provenance"), Facts(tuple((name, format_value(value)) for name, value in study.items()))
    if (folder / "report" / README).is_file():
        title, blocks = _read_report(folder / "report", matrices)
        return Page(title, (*blocks, *facts), label="Study")
    warning = f"The report is missing: `ckaprobe reproduce` writes report/{README} at its end."
    title = f"{study.get('paper', folder.resolve().name)}, not finished"
    return Page(title, (*matrices, *facts), warnings=(warning,), label="Study")


def read_readme(folder: Path) -> Page:
    """Return the page of a written report.

    Raises:
        DataError: A text of it cannot be read.
    """
    return Page(*_read_report(folder), label="Report")


def _read_report(folder: Path, matrices: tuple[Block, ...] = ()) -> tuple[str, tuple[Block, ...]]:
    """Return the title of a report, and its README, matrices and other texts as blocks."""
    title, *blocks = read_text(folder / README)
    if not isinstance(title, Heading):
        title, blocks = Heading(folder.resolve().name), [title, *blocks]
    if blocks and not isinstance(blocks[0], Heading):
        blocks.insert(0, Heading("Summary"))
    others = [path for path in sorted(folder.glob("*.md")) if path.name != README]
    return title.text, (*blocks, *matrices, *(block for path in others for block in read_text(path)))


def read_text(path: Path) -> list[Block]:
    """Return a Markdown file as headings of the first and second level, figures, and the text between them.

    Raises:
        DataError: It cannot be read.
    """
    try:
        source = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"expected a text at {path}, found: {error}") from error
    lines, start, blocks = source.splitlines(), 0, list[Block]()
    tokens = MARKDOWN.parse(source)
    for token, inline in pairwise(tokens):
        children = inline.children or ()
        images = [child for child in children if child.type == "image"]
        is_heading = token.tag in ("h1", "h2") and token.nesting == 1
        if token.level or not (is_heading or (images and token.type == "paragraph_open")):
            continue
        first, last = token.map or (0, 0)
        has_text = not is_heading and any(child.type == "text" and child.content.strip() for child in children)
        blocks += _prose(lines[start : last if has_text else first])
        blocks += (
            [Heading("".join(child.content for child in children))]
            if is_heading
            else [_figure(path.parent, image) for image in images]
        )
        start = last
    return blocks + _prose(lines[start:])


def _prose(lines: list[str]) -> list[Block]:
    source = "\n".join(lines).strip("\n")
    return [Text(source)] if source else []


def _figure(folder: Path, image: Token) -> Block:
    """Return an image of the folder, or a sentence that it is missing; no other file is embedded."""
    name = str(image.attrs["src"])
    path = folder / name
    if "://" in name or not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        return Text(f"The image `{name}` is not in this folder.")
    return FigureBlock.from_file(path, "" if image.content == path.stem else image.content)


def _matrices(folder: Path, paper: str) -> tuple[Block, ...]:
    """Return the matrices that the claims refer to, of the first seed, with the same layers as the first of them."""
    seed = next((path for path in sorted(folder.glob("seed*")) if (path / "similarity").is_dir()), None)
    paths = {path.stem: path for path in sorted((seed / "similarity").glob("*.json"))} if seed else {}
    names = MATRICES.get(paper) or {stem: stem.replace("~", " ") for stem in list(paths)[:MAX_MATRICES]}
    results = {name: SimilarityMatrix.load(paths[stem]) for stem, name in names.items() if stem in paths}
    if seed is None or not results:
        return ()
    layers = modules(next(iter(results.values())))
    results = {name: result for name, result in results.items() if modules(result) == layers}
    others = len(paths) - len(results)
    text = f"Seed {seed.name.removeprefix('seed')}; {others} more matrices are in `{seed.name}/similarity`."
    return Heading("Similarity, layer by layer"), Text(text), MatrixBlock(results, "similarity")
