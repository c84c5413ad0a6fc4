"""The report of a study: its page, its tables and its figures, all from what lies in its folder.

OUT/report/README.md              the page
OUT/report/claims.csv             every claim and what stands beside it, with the value on each seed
OUT/report/tables/*.csv|md|tex     Tables 1 and 2 beside the paper's, depth before fine-tuning, layers
OUT/report/figures/*.png, *.pdf

It can be written at any time, over a study that is half done too: what is not there is said not to have been run.
"""

from pathlib import Path

import pandas as pd

from cka_probe.files import atomic_write
from cka_probe.papers.claims import claims_frame
from cka_probe.papers.mesa.arms import ARMS, CONTROLS, Arm
from cka_probe.papers.mesa.claims import judge_claims
from cka_probe.papers.mesa.depths import draw_depths
from cka_probe.papers.mesa.drawings import draw_figures
from cka_probe.papers.mesa.evidence import Evidence
from cka_probe.papers.mesa.page import LAYER_TABLES, write_page
from cka_probe.papers.mesa.summaries import layer_rows, score_rows, video_rows
from cka_probe.papers.texts import layer_texts, score_texts

PRETRAINED = (Arm("MP+GP", "mp", "gp"), Arm("MP+GP+SP", "gp", "sp"))
"""Networks that predict depth before they are fine-tuned; `tuned` is the stage that is scored."""


def write_report(folder: str | Path) -> Path:
    """Write the report of a study and return its page.

    Args:
        folder: Of the study; the report is written into `report` in it.

    Raises:
        DataError: There is no study, or a file of it is broken or of another one.
        OutputError: It cannot be written there.
    """
    evidence = Evidence.load(folder)
    report = Path(folder) / "report"
    rows, tables = judge_claims(evidence), tables_of(evidence)
    _write(report / "claims.csv", claims_frame(rows).to_csv(index=False, lineterminator="\n"))
    for name, table in tables.items():
        path = report / "tables" / name
        _write(path.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n"))
        parts = [layer_texts(table, what) for what in LAYER_TABLES] if name == "layers" else [score_texts(table)]
        for suffix, texts in zip((".md", ".tex"), zip(*parts, strict=True), strict=True):
            _write(path.with_suffix(suffix), "\n".join(texts))
    drawn = draw_figures(evidence, rows, tables, report / "figures") + draw_depths(evidence, report / "figures")
    page = report / "README.md"
    _write(page, write_page(evidence, rows, tables, drawn))
    return page


def tables_of(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """Return the tables of a study by name, every number as it was computed."""
    return {
        "table_1": score_rows(evidence, "in", (*ARMS, *CONTROLS)),
        "table_2": score_rows(evidence, "out", (*ARMS, *CONTROLS)),
        "pretrained": score_rows(evidence, "in", PRETRAINED),
        "videos": video_rows(evidence, PRETRAINED),
        "layers": layer_rows(evidence),
    }


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as beside:
        beside.write_text(text, "utf-8")
