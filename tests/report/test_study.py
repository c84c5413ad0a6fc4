"""Written reports on a page: their texts and figures, and the matrices of a study."""

import json
import re
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.result_folders import comparison
from PIL import Image

from cka_probe.report import page_of, report
from cka_probe.report.blocks import FigureBlock, Heading, Text

REPORTS = sorted(path.parent for path in (ROOT / "reports").glob("*/README.md"))
README = r"""# A study

It is **small** and says so.

## Claims

| claim | number | verdict |
| --- | ---: | ---: |
| a > b | 0.1 ± 0.2 | undecided (1 of 2) |
| twice | 1.0 ± 0.1 | holds |
| twice | 2.0 ± 0.1 | holds |

## Scores of abs\_rel

The same networks:

|  | abs\_rel ↓ | images |
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
"""


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "report"
    (path / "figures").mkdir(parents=True)
    (path / "README.md").write_text(README)
    (path / "notes.md").write_text("# About it\n\nOne seed.\n")
    for image in (path / "figures" / "curves.png", tmp_path / "secret.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image)
    (path / "figures" / "curves.pdf").write_bytes(b"%PDF-1.4")
    return path


def section(page, title):
    """Return the blocks from a heading to the next one."""
    start = page.blocks.index(Heading(title)) + 1
    return list(takewhile(lambda block: not isinstance(block, Heading), page.blocks[start:]))


def headings(page):
    return [block.text for block in page.blocks if isinstance(block, Heading)]


def test_the_title_is_the_first_heading_and_headings_have_no_marks(folder):
    page = page_of(folder)
    assert page.title == "A study"
    assert page.blocks[:2] == (Heading("Summary"), Text("It is **small** and says so."))
    assert headings(page) == ["Summary", "Claims", "Scores of abs_rel", "Figures", "How to do it again", "About it"]


def test_prose_lists_tables_and_code_of_a_section_are_one_text(folder):
    source = (folder / "README.md").read_text()
    (text,) = section(page_of(folder), "Scores of abs_rel")
    assert text.source in source
    assert text.source.startswith("The same networks:")
    assert text.source.endswith("| SP | not run | 7 |")


def test_tables_have_no_inline_style_and_their_numbers_are_aligned(folder):
    html = report(folder).read_text("utf-8")
    assert '<td class="number"><strong>0.214</strong> ± 0.019 / –</td>' in html
    assert "style=" not in html.split("</style>")[1].split("<script>")[0]


def test_figures_have_their_files_and_no_other_file_is_embedded(folder):
    _, figure, *missing = section(page_of(folder), "Figures")
    assert (figure.caption, figure.name) == ("", "curves")
    assert [path.name for path in figure.downloads] == ["curves.pdf", "curves.png"]
    assert [text.source for text in missing] == [
        "The image `figures/gone.png` is not in this folder.",
        "The image `../secret.png` is not in this folder.",
    ]


def test_a_study_has_its_matrices_between_its_report_and_the_notes(folder, tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({"paper": "mesa", "scale": "demo"}))
    for name in ("mp~mp_depth~paper", "sp~sp_depth~paper", "mp~mp~biased"):
        comparison(tmp_path / name, save_prints=False)
        (tmp_path / "seed0" / "similarity").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "result.json").rename(tmp_path / "seed0" / "similarity" / f"{name}.json")
    page = page_of(tmp_path)
    assert headings(page)[-4:] == ["How to do it again", "Similarity, layer by layer", "About it", "Provenance"]
    text, matrix = section(page, "Similarity, layer by layer")
    assert list(matrix.results) == ["MP, before and after fine-tuning", "MP+GP+SP, before and after"]
    assert text.source == "Seed 0; 1 more matrices are in `seed0/similarity`."
    (folder / "README.md").unlink()
    assert page_of(tmp_path).title == "mesa, not finished"


@pytest.mark.slow
@pytest.mark.parametrize("folder", REPORTS, ids=lambda path: path.name)
def test_committed_reports_are_whole(folder):
    page = page_of(folder)
    assert page.title != folder.name
    missing = [block for block in page.blocks if isinstance(block, Text) and "is not in this folder" in block.source]
    assert not missing
    names = set(re.findall(r"!\[[^]]*\]\((?:.*/)?([^/)]+)\)", (folder / "README.md").read_text("utf-8")))
    assert names <= {Path(block.image).name for block in page.blocks if isinstance(block, FigureBlock)}
