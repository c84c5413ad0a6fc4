"""Reports that were written: their Markdown, claims, tables and figures on a page, and the committed ones as well."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.paths import ROOT
from helpers.result_folders import comparison
from PIL import Image as PILImage

from cka_probe.report import page_of
from cka_probe.report.grids import Numbers
from cka_probe.report.markdown import Entries, Grid, Heading, Image, Listing, Paragraph, read_markdown
from cka_probe.report.page import Bullets, Code, FigureItem, MatrixItem, TableItem, Text, Worded

REPORTS = sorted(path.parent for path in (ROOT / "reports").glob("*/README.md"))
README = """# A study

It is **small** and says so.

## Claims

| claim | number | verdict |
| --- | ---: | ---: |
| a > b | 0.1 ± 0.2 | undecided (1 of 2) |
| twice | 1.0 ± 0.1 | holds |
| twice | 2.0 ± 0.1 | holds |

## Scores

The same networks:

|  | abs\\\\_rel ↓ | images |
| --- | ---: | ---: |
| MP | **0.214** ± 0.019 / – | 12 |
| SP | not run | 7 |

## Figures

### curves

How it fell.

![curves](figures/curves.png)

![gone](figures/gone.png) ![outside](../secret.png)

## How to do it again

```
ckaprobe reproduce mesa --out OUT
```
""".replace("\\\\", "\\")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "report"
    (place / "figures").mkdir(parents=True)
    (place / "README.md").write_text(README)
    (place / "notes.md").write_text("# About it\n\nOne seed.\n")
    for path in (place / "figures" / "curves.png", tmp_path / "secret.png"):
        PILImage.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    (place / "figures" / "curves.pdf").write_bytes(b"%PDF-1.4")
    rows = [("a > b", 0.125, -0.1, 0.3, 0.9), ("twice", 1.0, 0.9, 1.1, np.nan), ("twice", 2.0, 1.9, 2.1, np.nan)]
    claims = pd.DataFrame(rows, columns=["statement", "value", "low", "high", "p_holm"])
    claims.assign(verdict="undecided", unit="m").to_csv(place / "claims.csv", index=False)
    return place


def named(page, title):
    return next(section for section in page.sections if section.title == title)


def test_markdown_is_read_into_blocks():
    text = "# T\n\na *b* **c** `d` [e](f.md) [g](https://h)\n\n- one\n  - two\n\n"
    text += "```\nx  y\n```\n\n![alt](p.png)\n\n<b>raw</b>\n"
    assert read_markdown(text) == (
        Heading(1, "T"),
        Paragraph("a b **c** `d` e g (https://h)"),
        Entries(("one", "\N{EN DASH} two")),
        Listing("x  y"),
        Image("p.png", "alt"),
        Paragraph("<b>raw</b>"),
    )
    assert read_markdown("| a | |\n|---|---|\n| 1 | x\\|y |\n") == (Grid(("a", ""), (("1", "x|y"),)),)


def test_claims_have_the_numbers_of_their_file_and_the_verdicts_of_the_text(folder):
    (table,) = named(page_of(folder), "Claims").items
    assert table.frame["value"].tolist() == [0.125, 1.0, 2.0]
    assert table.frame["verdict"].tolist() == ["undecided (1 of 2)", "holds", "holds"]
    assert table.frame["p (Holm)"].iloc[0] == 0.9


def test_claims_that_the_file_does_not_know_stand_as_they_are_written(folder):
    claims = pd.read_csv(folder / "claims.csv")
    claims.iloc[:2].to_csv(folder / "claims.csv", index=False)
    (table,) = named(page_of(folder), "Claims").items
    assert table.frame["number"].tolist()[0] == Worded("0.1 ± 0.2", 0.1)


def test_tables_are_sorted_by_number_and_keep_their_digits(folder):
    (table,) = named(page_of(folder), "Scores").items
    assert table.caption == "The same networks."
    assert list(table.frame.columns) == ["name", "abs_rel ↓", "images"]
    first, second = table.frame["abs_rel ↓"]
    assert (first.text, first.number, str(first)) == ("**0.214** ± 0.019 / –", 0.214, "0.214 ± 0.019 / –")
    assert (second.text, np.isnan(second.number)) == ("not run", True)
    assert table.frame["images"].tolist() == [12, 7]


def test_figures_bring_their_files_and_nothing_from_outside(folder):
    figure, *words = named(page_of(folder), "Figures").items
    assert isinstance(figure, FigureItem)
    assert (figure.caption, figure.name, [path.name for path in figure.downloads]) == (
        "How it fell.",
        "curves",
        ["curves.pdf"],
    )
    assert [text.paragraphs for text in words] == [
        ("The image `figures/gone.png` is not in this folder.",),
        ("The image `../secret.png` is not in this folder.",),
    ]


def test_notes_follow_what_is_claimed(folder):
    page = page_of(folder)
    assert [section.title for section in page.sections][:3] == ["Claims", "About it", "Scores"]
    assert (page.title, page.subtitle) == ("A study", "It is **small** and says so.")
    assert page.command == "ckaprobe reproduce mesa --out OUT"


def test_a_study_shows_its_matrices_after_its_claims(folder, tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"paper": "mesa", "scale": "demo"}))
    for name in ("mp~mp_depth~paper", "sp~sp_depth~paper", "mp~mp~biased"):
        comparison(tmp_path / name, prints=False)
        (tmp_path / "seed0" / "similarity").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "result.json").rename(tmp_path / "seed0" / "similarity" / f"{name}.json")
    page = page_of(tmp_path)
    assert [section.title for section in page.sections][:3] == ["Claims", "Similarity, layer by layer", "About it"]
    (matrix,) = page.sections[1].items
    assert list(matrix.results) == ["MP, before and after fine-tuning", "MP+GP+SP, before and after"]
    assert page.sections[1].intro == "Seed 0; 1 more matrices are in `seed0/similarity`."
    (folder / "README.md").unlink()
    assert page_of(tmp_path).title == "mesa, not finished"


@pytest.mark.parametrize("folder", REPORTS, ids=lambda path: path.name)
def test_committed_reports_are_whole(folder):
    page = page_of(folder)
    assert page.title != folder.name
    texts = [item.paragraphs for section in page.sections for item in section.items if isinstance(item, Text)]
    assert not [text for paragraphs in texts for text in paragraphs if "is not in this folder" in text]
    kinds = (Text, Bullets, Code, TableItem, FigureItem, MatrixItem)
    assert {type(item) for section in page.sections for item in section.items} & set(kinds)
    blocks = read_markdown((folder / "README.md").read_text("utf-8"))
    images = {Path(block.place).name for block in blocks if isinstance(block, Image)}
    shown = {Path(item.image).name for section in page.sections for item in section.items if type(item) is FigureItem}
    assert images <= shown
    if (folder / "claims.csv").exists():
        claims = [item for section in page.sections for item in section.items if type(item) is TableItem]
        rows = sum(len(item.frame) for item in claims if item.name.startswith("claims_"))
        assert rows >= len(Numbers.of(folder).claims)
