"""The words of the page: every sentence with a number in it is made from the study.

Claims come first, then the paper's tables with ours beside them, the controls, the layers, the figures, what is not
like the paper, what was not run, and how to do it again.
"""

from collections.abc import Sequence

import pandas as pd

from cka_probe.papers.claims import TestedClaim, controlled, tested
from cka_probe.papers.drawn import Drawn
from cka_probe.papers.mesa.conditions import command, data_rows, departures, stage_rows
from cka_probe.papers.mesa.evidence import VARIANTS, Evidence
from cka_probe.papers.mesa.published import ABSENT, RANGES, SOURCE
from cka_probe.papers.mesa.summaries import absences
from cka_probe.papers.pages import counted, imaged, listed, machine, plainly
from cka_probe.papers.texts import claim_texts, layer_texts, plain_table, score_texts
from cka_probe.papers.verdicts import UNDEFINED

LAYER_TABLES = {
    "top": "Similarity of each layer with layer 0 of the same network (top row):",
    "diagonal": "Similarity of each layer with itself after fine-tuning (diagonal):",
    "spread": "Root mean square of what varies over images, before fine-tuning. Similarity of a layer that hardly "
    "varies says little:",
    "spread_tuned": "The same after fine-tuning:",
}
"""Tables of layers, and what is said above each."""


def write_page(
    evidence: Evidence, rows: Sequence[TestedClaim], tables: dict[str, pd.DataFrame], drawn: Sequence[Drawn]
) -> str:
    """Return the page as Markdown.

    Args:
        evidence: The study.
        rows: Its claims, judged.
        tables: Rows of scores under "table_1", "table_2", "pretrained" and "videos", of layers under "layers".
        drawn: Its figures.
    """
    figures = {figure.stem for figure in drawn if figure.paths}
    parts = [
        *_opening(evidence, rows),
        *_claims(rows, figures),
        *_scores(tables),
        *_controls(rows, figures),
        *_layers(tables["layers"]),
        *_figures(evidence, drawn),
        *_unlike(evidence),
        *_again(evidence),
    ]
    return "\n".join(parts).rstrip() + "\n"


def spread_of(evidence: Evidence) -> str:
    """Return what the intervals are over, in a sentence."""
    if len(evidence.seeds) > 1:
        return (
            f"Intervals are 95 %, by Student's t over {len(evidence.seeds)} seeds; where only one of them has a value, "
            "over images. All seeds see the same test images: what other images would give is not in an interval "
            "over seeds."
        )
    return (
        "Intervals are 95 %, over images, of one seed. Another seed gives other numbers, and these intervals do not "
        "say how other: nothing is decided by one seed."
    )


def _opening(evidence: Evidence, rows: Sequence[TestedClaim]) -> list[str]:
    own = [row for row in rows if not row.claim.of]
    seeds = ", ".join(map(str, evidence.seeds))
    return [
        f"# MeSa, done again at scale `{evidence.study['scale']}`",
        "",
        f"{SOURCE}. Seeds: {seeds}. {spread_of(evidence)}",
        "",
        counted(own),
        "",
    ]


def _claims(rows: Sequence[TestedClaim], figures: set[str]) -> list[str]:
    own = [row for row in rows if not row.claim.of]
    count = tested(list(rows))
    corrected = (
        f"p is two-sided over seeds and corrected for all claims that could be tested, {count} (Holm). The verdict is "
        "each claim's own: its interval is above 0 (holds), below 0 (does not hold), or neither."
        if count
        else "With no two seeds that differ no claim could be tested: there are no p-values."
    )
    lines = ["## Claims", "", "A claim holds if its number is above 0.", ""]
    return [*lines, claim_texts(own, figures), corrected, "", *plainly(own)]


def _scores(tables: dict[str, pd.DataFrame]) -> list[str]:
    ranges = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in RANGES.items())
    return [
        "## Table 1: in distribution",
        "",
        "Ours; after a stroke the paper's number, on NYUv2, where it is vouched for. Bold: best, and its interval is "
        "apart from every other.",
        "",
        score_texts(tables["table_1"])[0],
        ABSENT,
        "",
        *_sources(tables["table_1"]),
        "",
        "## Table 2: out of distribution",
        "",
        "The same networks, not tuned further.",
        "",
        score_texts(tables["table_2"])[0],
        f"{ABSENT} Over the rows of its Table 2 it has {ranges}.",
        "",
        "## Depth before fine-tuning",
        "",
        "GP and SP predict depth up to a scale; each image is scaled to the median of its truth.",
        "",
        score_texts(tables["pretrained"])[0],
        "On videos held out, at the end of each stage; `abs_rel_constant` is what one depth for all pixels has, scaled "
        "in the same way:",
        "",
        score_texts(tables["videos"])[0],
    ]


def _sources(rows: pd.DataFrame) -> list[str]:
    """Return where the paper's numbers in a table are from."""
    cited = rows[rows["paper"].notna()]
    return [f"- {row.paper:g} ({row.arm}, {row.measure}): {row.source}." for row in cited.itertuples()]


def _controls(rows: Sequence[TestedClaim], figures: set[str]) -> list[str]:
    shown = controlled(rows)
    ways = [f"- `{name}`: {words}" for name, words in VARIANTS.items()]
    return [
        "## Controls",
        "",
        "The same number taken in other ways. They are not tested, but say how much of a claim is due to how it was "
        "measured: a U in the residual stream is not one of mixed kinds of layer, and a change without layer decay is "
        "not one of learning rates.",
        "",
        claim_texts(shown, figures),
        *plainly([row for row in shown if row.claim.of and row.verdict == UNDEFINED]),
        "Ways to take a similarity:",
        "",
        *ways,
        "",
    ]


def _layers(layers: pd.DataFrame) -> list[str]:
    if layers.empty:
        return ["## Layers", "", "No networks were compared.", ""]
    names = dict(zip(layers["index"], layers["layer"], strict=True))
    lines = ["## Layers", "", ", ".join(f"{index} `{name}`" for index, name in names.items()) + ".", ""]
    for what, words in LAYER_TABLES.items():
        lines += [words, "", layer_texts(layers, what)[0]]
    return lines


def _figures(evidence: Evidence, drawn: Sequence[Drawn]) -> list[str]:
    lines = ["## Figures", ""]
    if len(evidence.seeds) > 1:
        lines += [f"Matrices are those of seed {evidence.seeds[0]}; the others' end in `_seed<k>`.", ""]
    return [*lines, *imaged(drawn)]


def _unlike(evidence: Evidence) -> list[str]:
    absent = absences(evidence)
    return [
        "## What is not like the paper",
        "",
        *listed(departures(evidence)),
        "",
        "## Not run",
        "",
        *(listed(absent) if absent else ["Everything was run."]),
        "",
    ]


def _again(evidence: Evidence) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in evidence.study["versions"].items())
    return [
        "## How to do it again",
        "",
        "```",
        command(evidence),
        "```",
        "",
        f"Machine that wrote this page: {machine()}. {versions}.",
        "",
        plain_table(data_rows(evidence)),
        plain_table(stage_rows(evidence)),
    ]
