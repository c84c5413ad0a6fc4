"""What the page of a study of Depth-to-Semantic (`page.md`) shows, and the command that repeats the study."""

from itertools import permutations
from typing import Any

import pandas as pd

from cka_probe.papers.claims import UNDEFINED
from cka_probe.papers.depth_to_semantic.claims import CLAIMS
from cka_probe.papers.depth_to_semantic.evidence import SemanticEvidence
from cka_probe.papers.depth_to_semantic.figures import draw_figures
from cka_probe.papers.depth_to_semantic.study import ALL, ARMS, DECLARATIONS, MAIN, SCALES, TABLES
from cka_probe.papers.depth_to_semantic.tables import absences, all_tables, cost_rows, heading, table_texts
from cka_probe.papers.evidence import RunKey
from cka_probe.papers.page import Paper, Report
from cka_probe.papers.tables import as_markdown, score_texts


def context(report: Report) -> dict[str, Any]:
    """Return what the template of the page shows."""
    tables = report.tables
    return {
        "heading": heading,
        "was_run": lambda name: tables[name]["value"].notna().any() or (tables[name]["state"] == UNDEFINED).any(),
        "pretraining": _pretraining(tables["pretraining"]),
        "rates": _rates(tables["rates"]),
        "divergence": _divergence(tables["parting"]),
    }


def _pretraining(rows: pd.DataFrame) -> list[str]:
    """Return tables of how well pre-training went; arms of the same measures share one."""
    if rows.empty:
        return []
    cells = rows.assign(paper=float("nan"), unit="", better="")
    measures = cells.groupby("arm", sort=False)["measure"].transform(" ".join)
    return [score_texts(group)[0] for _, group in cells.groupby(measures, sort=False)]


def _rates(rows: pd.DataFrame) -> str:
    """Return the learning rates that were tried as Markdown; "" if none was."""
    if rows.empty:
        return ""
    columns = {"rate": rows["rate"].map("{:g}".format), "chosen": rows["chosen"].map({True: "yes", False: ""})}
    frame = rows.assign(**columns).set_index("arm")[["data", "seed", "rate", "held_out", "measure", "chosen"]]
    return as_markdown(frame, digits=2)


def _divergence(divergence: pd.DataFrame) -> str:
    """Return where the main arms diverge as Markdown; "" if no arms were compared."""
    if divergence.empty:
        return ""
    main = {f"{ARMS[x]} and {ARMS[y]}" for x, y in permutations(MAIN, 2)}
    rows = divergence[divergence["arms"].isin(main)].set_index("arms")
    return as_markdown(rows.rename(columns={"parts_at": "diverge most at"}), digits=2)


def options(evidence: SemanticEvidence) -> list[str]:
    """Return the options of the command that repeats the study.

    Tables are selected where some were run that the scale does not run; the protocol where any fault was run.
    """
    scale, run = SCALES[evidence.study["scale"]], RunKey(evidence.seeds[0], evidence.trials[0])
    extra = {
        table
        for table in ALL
        if any(evidence.scores(case, run) is not None for case in TABLES[table] if case not in scale.cases())
    }
    every = tuple(table for table in ALL if table in extra or table in scale.tables)
    released = any(evidence.scores(c, run) is not None or evidence.diverged(c, run) for c in TABLES["quirks"])
    return [
        f"--trials {evidence.trials[-1] + 1}",
        *([f"--tables {'all' if every == ALL else ','.join(every)}"] if extra else []),
        *(["--protocol released"] if released else []),
    ]


PAPER = Paper(
    name="depth-to-semantic",
    declarations=DECLARATIONS,
    claims=CLAIMS,
    scales=SCALES,
    load=SemanticEvidence.load,
    tables=all_tables,
    texts=table_texts,
    figures=draw_figures,
    stages=cost_rows,
    absences=absences,
    data=lambda evidence: tuple(DECLARATIONS["stands_for"]),
    options=options,
    context=context,
)
