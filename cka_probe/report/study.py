"""The folder of `ckaprobe reproduce`: the report it wrote, and its similarity matrices to look into."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.report import written
from cka_probe.report.page import Facts, MatrixItem, Section, Text
from cka_probe.report.part import Part, in_words, own_name

EXPECTED = "study.json of `ckaprobe reproduce`"
STUDY, REPORT, SIMILARITY = "study.json", "report", "similarity"
TELLING = {
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
"""By paper, the matrices that its claims are read from: stem of the file, to what the page calls it."""
MOST = 8
"""Matrices of a study that is not in the table."""


def is_here(folder: Path) -> bool:
    """Return whether the folder holds a study."""
    return (folder / STUDY).is_file()


def read(folder: Path) -> Part:
    """Return what a study says.

    Raises:
        DataError: A file of it cannot be read.
    """
    about = _about(folder / STUDY)
    matrices = _matrices(folder, str(about.get("paper", "")))
    provenance = tuple((name, in_words(value)) for name, value in about.items())
    if not written.is_here(folder / REPORT):
        said = f"There is no {REPORT}/{written.README} yet: `ckaprobe reproduce` writes it at its end."
        section = Section("The study so far", (Facts(provenance), Text((said,))))
        title = f"{about.get('paper', own_name(folder))}, not finished"
        sections = (*matrices, section)
        return Part(label="Study", title=title, subtitle="", sections=sections, cautions=(said,), provenance=provenance)
    part = written.read(folder / REPORT)
    after = written.after_claims(part.sections)
    sections = (*part.sections[:after], *matrices, *part.sections[after:])
    return replace(part, label="Study", sections=sections, provenance=provenance)


def _about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"expected a study.json of `ckaprobe reproduce` at {path}, found: {error}") from error
    if not isinstance(about, dict):
        raise DataError(f"{path}: expected what is studied, found {type(about).__name__}; give the folder of a study")
    return about


def _matrices(folder: Path, paper: str) -> tuple[Section, ...]:
    """Return the telling matrices of the first seed; those of other layers than the first has are left out."""
    seed = next((path for path in sorted(folder.glob("seed*")) if (path / SIMILARITY).is_dir()), None)
    if seed is None:
        return ()
    files = {path.stem: path for path in sorted((seed / SIMILARITY).glob("*.json"))}
    wanted = TELLING.get(paper) or {stem: stem.replace("~", " ") for stem in list(files)[:MOST]}
    results: dict[str, SimilarityMatrix] = {}
    for stem, words in wanted.items():
        if stem in files:
            result = SimilarityMatrix.load(files[stem])
            first = next(iter(results.values()), result)
            if _layers(first) == _layers(result):
                results[words] = result
    if not results:
        return ()
    others = len(files) - len(results)
    intro = f"Seed {seed.name.removeprefix('seed')}; {others} more matrices are in `{seed.name}/{SIMILARITY}`."
    return (Section("Similarity, layer by layer", (MatrixItem(results, "similarity"),), intro=intro),)


def _layers(result: SimilarityMatrix) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the modules of both sides."""
    return tuple(axis.module for axis in result.rows), tuple(axis.module for axis in result.columns)
