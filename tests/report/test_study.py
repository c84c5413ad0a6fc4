"""Reports that were written: their Markdown, claims, tables and figures on a page, and the committed ones as well."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.paths import ROOT
from helpers.result_folders import comparison
from PIL import Image

from cka_probe.report import page_of
from cka_probe.report.blocks import FigureBlock, Markdown, MatrixBlock, NumberText, Paragraph, TableBlock
from cka_probe.report.study import read_tables

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
    report = tmp_path / "report"
    (report / "figures").mkdir(parents=True)
    (report / "README.md").write_text(README)
    (report / "notes.md").write_text("# About it\n\nOne seed.\n")
    for path in (report / "figures" / "curves.png", tmp_path / "secret.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    (report / "figures" / "curves.pdf").write_bytes(b"%PDF-1.4")
    rows = [("a > b", 0.125, -0.1, 0.3, 0.9), ("twice", 1.0, 0.9, 1.1, np.nan), ("twice", 2.0, 1.9, 2.1, np.nan)]
    claims = pd.DataFrame(rows, columns=["statement", "value", "low", "high", "p_holm"])
    claims.assign(verdict="undecided", unit="m").to_csv(report / "claims.csv", index=False)
    return report


def named(page, title):
    return next(section for section in page.sections if section.title == title)


def test_tables_are_read_with_their_marks():
    (table,) = read_tables("| a | | [c](d.md) |\n|---|---|---|\n| **1** | x\\|y | [g](https://h) |\n")
    assert (table.head, table.rows) == (("a", "", "c"), (("**1**", "x|y", "g (https://h)"),))


def test_prose_lists_and_code_of_a_section_are_one_block(folder):
    text = (folder / "README.md").read_text()
    text = text.replace("How it fell.\n\n![curves](figures/curves.png)", "- one\n  - two\n\n<b>raw</b>\n\n#### deeper")
    (folder / "README.md").write_text(text)
    prose, *_ = named(page_of(folder), "Figures: curves").blocks
    assert prose == Markdown("- one\n  - two\n\n<b>raw</b>\n\n#### deeper")


def test_claims_have_the_numbers_of_their_file_and_the_verdicts_of_the_text(folder):
    (table,) = named(page_of(folder), "Claims").blocks
    assert table.frame["value"].tolist() == [0.125, 1.0, 2.0]
    assert table.frame["verdict"].tolist() == ["undecided (1 of 2)", "holds", "holds"]
    assert table.frame["p (Holm)"].iloc[0] == 0.9


def test_claims_that_the_file_does_not_know_stand_as_they_are_written(folder):
    claims = pd.read_csv(folder / "claims.csv")
    claims.iloc[:2].to_csv(folder / "claims.csv", index=False)
    (table,) = named(page_of(folder), "Claims").blocks
    assert table.frame["number"].tolist()[0] == NumberText("0.1 ± 0.2", 0.1)


def test_tables_are_sorted_by_number_and_keep_their_digits(folder):
    (table,) = named(page_of(folder), "Scores").blocks
    assert table.caption == "The same networks."
    assert list(table.frame.columns) == ["name", "abs_rel ↓", "images"]
    first, second = table.frame["abs_rel ↓"]
    assert (first.text, first.number, str(first)) == ("**0.214** ± 0.019 / –", 0.214, "0.214 ± 0.019 / –")
    assert (second.text, np.isnan(second.number)) == ("not run", True)
    assert table.frame["images"].tolist() == [12, 7]


def test_figures_bring_their_files_and_nothing_from_outside(folder):
    figure, *words = named(page_of(folder), "Figures").blocks
    assert isinstance(figure, FigureBlock)
    assert (figure.caption, figure.name, [path.name for path in figure.downloads]) == (
        "How it fell.",
        "curves",
        ["curves.pdf"],
    )
    assert [paragraph.text for paragraph in words] == [
        "The image `figures/gone.png` is not in this folder.",
        "The image `../secret.png` is not in this folder.",
    ]


def test_notes_follow_what_is_claimed(folder):
    page = page_of(folder)
    assert [section.title for section in page.sections][:3] == ["Claims", "About it", "Scores"]
    assert (page.title, page.subtitle) == ("A study", "It is **small** and says so.")
    assert page.command == "ckaprobe reproduce mesa --out OUT"


def test_a_study_shows_its_matrices_after_its_claims(folder, tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"paper": "mesa", "scale": "demo"}))
    for name in ("mp~mp_depth~paper", "sp~sp_depth~paper", "mp~mp~biased"):
        comparison(tmp_path / name, save_prints=False)
        (tmp_path / "seed0" / "similarity").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "result.json").rename(tmp_path / "seed0" / "similarity" / f"{name}.json")
    page = page_of(tmp_path)
    assert [section.title for section in page.sections][:3] == ["Claims", "Similarity, layer by layer", "About it"]
    (matrix,) = page.sections[1].blocks
    assert list(matrix.results) == ["MP, before and after fine-tuning", "MP+GP+SP, before and after"]
    assert page.sections[1].intro == "Seed 0; 1 more matrices are in `seed0/similarity`."
    (folder / "README.md").unlink()
    assert page_of(tmp_path).title == "mesa, not finished"


@pytest.mark.parametrize("folder", REPORTS, ids=lambda path: path.name)
def test_committed_reports_are_whole(folder):
    page = page_of(folder)
    assert page.title != folder.name
    blocks = [block for section in page.sections for block in section.blocks]
    assert not [block for block in blocks if isinstance(block, Paragraph) and "is not in this folder" in block.text]
    assert {type(block) for block in blocks} & {Markdown, TableBlock, FigureBlock, MatrixBlock}
    names = set(re.findall(r"!\[[^]]*\]\((?:.*/)?([^/)]+)\)", (folder / "README.md").read_text("utf-8")))
    assert names <= {Path(block.image).name for block in blocks if isinstance(block, FigureBlock)}
    if (folder / "claims.csv").exists():
        tables = [block for block in blocks if isinstance(block, TableBlock) and block.name.startswith("claims_")]
        assert sum(len(table.frame) for table in tables) >= len(pd.read_csv(folder / "claims.csv"))
