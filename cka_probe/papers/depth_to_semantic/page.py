"""The words of the page: every sentence with a number in it is made from the study.

Claims come first, then the paper's tables with ours beside them, whether pre-training worked, learning rates, layers,
the figures, what is not like the paper, what was not run, and how to do it again.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations

import pandas as pd

from cka_probe.papers.claims import TestedClaim, tested
from cka_probe.papers.depth_to_semantic.alignment import said_of_maps
from cka_probe.papers.depth_to_semantic.cases import ARMS, MAIN, QUIRKS, TABLES
from cka_probe.papers.depth_to_semantic.claims import GROUPS
from cka_probe.papers.depth_to_semantic.conditions import command, data_rows, departures
from cka_probe.papers.depth_to_semantic.evidence import Evidence
from cka_probe.papers.depth_to_semantic.published import ABSENT, SOURCE, WITHOUT
from cka_probe.papers.depth_to_semantic.summaries import absences, heading
from cka_probe.papers.drawn import Drawn
from cka_probe.papers.pages import counted, imaged, listed, machine, plainly
from cka_probe.papers.text_tables import as_markdown
from cka_probe.papers.texts import claim_texts, layer_texts, plain_table, score_texts
from cka_probe.papers.verdicts import UNDEFINED

TITLES = {
    "table1": "Table 1: arms, everything fine-tuned or the encoder frozen",
    "table1_deeplab": "Table 1 with DeepLabV3",
    "table2": "Table 2: video, stereo, measured depth",
    "table3": "Table 3: the encoder only",
    "table4": "Table 4: other pre-training",
    "table5": "Table 5: Cityscapes' layout",
    "table6": "Table 6: linear probe",
    "figure3": "Figure 3: training-set size",
    "figure5": "Resolution",
    "figure7": "Figure 7: optical flow",
    "figure8": "Figure 8: rooms",
    "quirks": "Faults of the released code",
}
"""Of every table."""

UNEVEN = (
    "**Not every case was run in every trial (see Not run). A row of one trial has the value of that trial and an "
    "interval over test images alone, narrow for what it leaves out: compare it with no row of several trials.**"
)

NOTES = {
    "table4": "The paper's numbers are of ResNet-50, ours of the encoder named below.",
    "table6": "The encoder is frozen.",
    "figure3": "The numbers of training images; the scale's own number stands in Table 1.",
    "figure5": "Input sides half and twice those of pre-training. The paper: halving works, doubling diverges.",
    "quirks": "Each fault alone where it bears, and all together: "
    + "; ".join(f"{name.replace('_', ' ')}: {words}" for name, words in QUIRKS.items()) + ".",
}  # fmt: skip
"""What is said below a title."""


def write_page(
    evidence: Evidence, rows: Sequence[TestedClaim], tables: Mapping[str, pd.DataFrame], drawn: Sequence[Drawn]
) -> str:
    """Return the page as Markdown.

    Args:
        evidence: The study.
        rows: Its claims, judged.
        tables: `report.tables_of`.
        drawn: Its figures.
    """
    figures = {figure.stem for figure in drawn if figure.paths}
    parts = [
        *_opening(evidence, rows),
        *_claims(evidence, rows, figures),
        *(line for name in TABLES for line in _table(name, tables[name])),
        *_pretraining(tables["pretraining"]),
        *_rates(tables["rates"]),
        *_layers(tables["layers"], tables["parting"]),
        *_maps(evidence, tables["alignment"]),
        "## Figures",
        "",
        "Curves show all runs; similarities are those of the first seed.",
        "",
        *imaged(drawn),
        *_unlike(evidence),
        *_again(evidence, tables["cost"]),
    ]
    return "\n".join(parts).rstrip() + "\n"


def spread_of(evidence: Evidence) -> str:
    """Return what the intervals are over, in sentences."""
    always = "All runs see the same test images: what others would give is in no interval over seeds or trials."
    if len(evidence.seeds) > 1:
        return (
            f"Intervals are 95 %, by Student's t over {len(evidence.seeds)} seeds, the trials of a seed averaged "
            f"first. {always}"
        )
    if len(evidence.trials) > 1:
        return (
            f"Intervals are 95 %, by Student's t over {len(evidence.trials)} trials of one pre-training, as the "
            "paper's are: each draws other training images, another head and another order. What another "
            f"pre-training would give is not in them. {always}"
        )
    return (
        "Intervals are 95 %, over test images, of one trial of one seed. Another gives other numbers, and these "
        "intervals do not say how other: nothing is decided by one trial."
    )


def _opening(evidence: Evidence, rows: Sequence[TestedClaim]) -> list[str]:
    own = [row for row in rows if not row.claim.of]
    seeds, trials = (", ".join(map(str, numbers)) for numbers in (evidence.seeds, evidence.trials))
    return [
        f"# Depth-to-Semantic, done again at scale `{evidence.study['scale']}`",
        "",
        f"{SOURCE}. Seeds: {seeds}. Trials: {trials}. {spread_of(evidence)}",
        "",
        *([UNEVEN, ""] if any("not in every trial" in line for line in absences(evidence)) else []),
        counted(own),
        "",
    ]


def _claims(evidence: Evidence, rows: Sequence[TestedClaim], figures: set[str]) -> list[str]:
    count = tested(rows)
    corrected = (
        f"p is two-sided over {evidence.run}s (over seeds where layers are compared) and corrected for all claims that "
        f"could be tested, {count} (Holm). The verdict is each claim's own: its interval is above 0 (holds), below 0 "
        "(does not hold), or neither."
        if count
        else f"With no two {evidence.run}s that differ no claim could be tested: there are no p-values."
    )
    lines = ["## Claims", ""]
    lines += [
        "A claim holds if its number is above 0. Scores are compared in pairs: within a trial all arms have the same "
        "training images in the same order. Points are of 100. Lines that begin with … are not tested.",
        "",
    ]
    for words, group in GROUPS.values():
        own = [row for row in rows if row.claim in group or row.claim.of in {claim.name for claim in group}]
        lines += [f"### {words}", "", claim_texts(own, figures, evidence.run)]
        lines += plainly([row for row in own if not row.claim.of or row.verdict == UNDEFINED])
    return [*lines, corrected, ""]


def _table(name: str, rows: pd.DataFrame) -> list[str]:
    lines = [f"## {TITLES.get(name, name)}", ""]
    note = f"{NOTES[name]} " if name in NOTES else ""
    lines += [f"{note}Network: {heading(name)}.", ""]
    if not rows["value"].notna().any() and not (rows["state"] == UNDEFINED).any():
        return [*lines, "Not run.", "", *_cited(name, rows)]
    return [*lines, score_texts(rows)[0], *_cited(name, rows)]


def _cited(name: str, rows: pd.DataFrame) -> list[str]:
    """Return where the paper's numbers in a table are from."""
    cited = rows[rows["paper"].notna()]
    lines = [f"- {row.paper:.2f} ({row.arm}, {row.measure}): {row.source}." for row in cited.itertuples()]
    lines += [f"- {WITHOUT[name]}"] if name in WITHOUT else []
    return [*([ABSENT, ""] if len(cited) else []), *lines, *([""] if lines else [])]


def _pretraining(rows: pd.DataFrame) -> list[str]:
    lines = ["## Did pre-training work?", ""]
    if rows.empty:
        return [*lines, "Nothing was held out from pre-training.", ""]
    lines += ["Measured at its end on data held out from it; an arm that did not learn its own task says nothing.", ""]
    cells = rows.assign(paper=float("nan"), unit="", better="")
    told = cells.groupby("arm", sort=False)["measure"].transform(" ".join)  # arms of the same measures share a table
    for _, own in cells.groupby(told, sort=False):
        lines += [score_texts(own)[0]]
    return lines


def _rates(rows: pd.DataFrame) -> list[str]:
    lines = ["## Learning rates", ""]
    if rows.empty:
        return [*lines, "None was chosen.", ""]
    shown = rows.assign(
        rate=[f"{rate:g}" for rate in rows["rate"]], chosen=["yes" if x else "" for x in rows["chosen"]]
    )
    words = "Tried in the first trial, on images held out from training (percent); a dash: the loss stopped being a "
    frame = shown.set_index("arm")[["data", "seed", "rate", "held_out", "measure", "chosen"]]
    return [*lines, f"{words}number.", "", as_markdown(frame, digits=2)]


def _layers(layers: pd.DataFrame, parting: pd.DataFrame) -> list[str]:
    lines = ["## Layers", ""]
    if layers.empty and parting.empty:
        return [*lines, "No networks were compared.", ""]
    if not layers.empty:
        names = dict(zip(layers["index"], layers["layer"], strict=True))
        lines += [", ".join(f"{index} `{name}`" for index, name in names.items()) + ".", ""]
        lines += ["Similarity of each layer with itself after fine-tuning:", "", layer_texts(layers, "diagonal")[0]]
        lines += ["Root mean square of what varies over images, before fine-tuning. Similarity of a layer that "
                  "hardly varies says little:", "", layer_texts(layers, "spread")[0]]  # fmt: skip
    if not parting.empty:
        main = {f"{ARMS[x]} and {ARMS[y]}" for x, y in permutations(MAIN.split(), 2)}
        shown = parting[parting["arms"].isin(main)].set_index("arms").rename(columns={"parts_at": "part most at"})
        words = "Where two arms part ways, the step at which the similarity of the same layer in both falls most"
        more = "all pairs are in [tables/parting.csv](tables/parting.csv)"
        lines += [f"{words} ({more}):", "", as_markdown(shown, digits=2)]
    return lines


def _maps(evidence: Evidence, rows: pd.DataFrame) -> list[str]:
    lines = ["## Figure 6: do Grad-CAM maps follow the outlines of classes?", "", *said_of_maps(evidence)]
    return [*lines, score_texts(rows)[0]] if rows["value"].notna().any() else lines


def _unlike(evidence: Evidence) -> list[str]:
    absent = absences(evidence)
    lines = ["## What is not like the paper", "", *listed(departures(evidence)), "", "## Not run", ""]
    return [*lines, *(listed(absent) if absent else ["Everything was run."]), ""]


def _again(evidence: Evidence, cost: pd.DataFrame) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in evidence.study["versions"].items())
    lines = ["## How to do it again", "", "```", command(evidence), "```", ""]
    lines += [f"Machine that wrote this page: {machine()}. {versions}.", "", plain_table(data_rows(evidence))]
    return [*lines, *([plain_table(cost)] if len(cost) else [])]
