"""The report of a study: its page, its tables and its figures, all from what lies in its folder.

OUT/report/README.md               the page
OUT/report/claims.csv              every claim and what stands beside it, with the value on each run
OUT/report/tables/*.csv|md|tex     the paper's tables with ours, pre-training, learning rates, layers, pairs, cost
OUT/report/figures/*.png, *.pdf

It can be written at any time, over a study that is half done too: what is not there is said not to have been run.
"""

from pathlib import Path

import pandas as pd

from cka_probe.files import atomic_write
from cka_probe.papers.claims import claims_frame
from cka_probe.papers.depth_to_semantic.alignment import alignment_rows, draw_alignment
from cka_probe.papers.depth_to_semantic.cases import TABLES
from cka_probe.papers.depth_to_semantic.claims import judge_claims
from cka_probe.papers.depth_to_semantic.drawings import draw_figures
from cka_probe.papers.depth_to_semantic.evidence import Evidence
from cka_probe.papers.depth_to_semantic.page import write_page
from cka_probe.papers.depth_to_semantic.segments import draw_segments
from cka_probe.papers.depth_to_semantic.summaries import (
    case_rows,
    cost_rows,
    layer_rows,
    pair_rows,
    parting_rows,
    pretraining_rows,
    rate_rows,
)
from cka_probe.papers.text_tables import as_latex, as_markdown
from cka_probe.papers.texts import layer_texts, score_texts


def write_report(folder: str | Path) -> Path:
    """Write the report of a study and return its page.

    Args:
        folder: Of the study; the report is written into `report` in it.

    Raises:
        DataError: There is no study, or a file of it is broken or of another one.
        OutputError: It cannot be written there.
    """
    evidence = Evidence.load(folder)
    report = evidence.places.report
    rows, tables = judge_claims(evidence), tables_of(evidence)
    _write(report / "claims.csv", claims_frame(rows, evidence.run).to_csv(index=False, lineterminator="\n"))
    for name, table in tables.items():
        path = report / "tables" / name
        _write(path.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n"))
        for suffix, text in zip((".md", ".tex"), _texts(name, table), strict=True):
            _write(path.with_suffix(suffix), text)
    figures = report / "figures"
    drawn = draw_figures(evidence, rows, tables, figures) + draw_segments(evidence, figures)
    drawn.append(draw_alignment(evidence, figures))
    _write(evidence.places.page, write_page(evidence, rows, tables, drawn))
    return evidence.places.page


def tables_of(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """Return the tables of a study by name, every number as it was computed."""
    pairs = pair_rows(evidence)
    return {name: case_rows(evidence, name) for name in TABLES} | {
        "pretraining": pretraining_rows(evidence),
        "rates": rate_rows(evidence),
        "layers": layer_rows(evidence),
        "pairs": pairs,
        "parting": parting_rows(pairs),
        "alignment": alignment_rows(evidence),
        "cost": cost_rows(evidence),
    }


def _texts(name: str, table: pd.DataFrame) -> tuple[str, str]:
    """Return a table as Markdown and as LaTeX."""
    if name in TABLES or name == "alignment":
        return score_texts(table)
    if table.empty:
        return "Not run.\n", "Not run.\n"
    if name == "layers":
        return layer_texts(table, "diagonal")
    frame = table.set_index(table.columns[0])
    return as_markdown(frame), as_latex(frame)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as beside:
        beside.write_text(text, "utf-8")
