"""The page of a study of MeSa.

Claims come first, then the paper's tables with ours, the controls, the layers, the figures, the differences from the
paper, what was not run, and how to reproduce it.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cka_probe import registry
from cka_probe.lab.scenes import Settings
from cka_probe.papers.claims import UNDEFINED, with_controls
from cka_probe.papers.mesa.claims import CLAIMS
from cka_probe.papers.mesa.evidence import VARIANTS, MesaEvidence
from cka_probe.papers.mesa.study import NEEDED, SCALES, STANDS_FOR
from cka_probe.papers.mesa.tables_and_figures import (
    LAYER_TABLES,
    RANGES,
    absences,
    all_tables,
    draw_figures,
    table_texts,
)
from cka_probe.papers.page import Paper, Report, bullets, layer_names, negative_results, procedural_note
from cka_probe.papers.tables import claim_texts, layer_texts

ABSENT = "The paper's tables were not available when this was written; no number is given from memory."

UNSTATED = (
    "The paper does not say how CKA was computed: images, number, estimator, pooling. Here it is unbiased, over "
    "whole activations, on images of the fine-tuning's test split; the controls change one of these at a time.",
    "The paper does not say whether depth decoder and pose network are passed on from GP to SP. Here they are.",
    "The paper does not say how the depth decoder of GP is joined to Swin-v2. Here it has skips at strides 4, 8, 16.",
    "The paper does not say how predictions were aligned on iBims-1. Here abs_rel is shown unscaled and scaled to the "
    "median; edges and planes do not depend on it.",
    "The paper shows one run. Here intervals are over seeds where there are several, and otherwise over images.",
    "The paper has no control: learning rates that fall by 0.85 a layer towards the input, three normalisations of the "
    "input, and two kinds of layer in one row are all in its figures. Here each is varied alone.",
)
"""Choices that the paper leaves open, at any scale."""

INTERVALS = {
    "seeds": "Intervals are 95 %, by Student's t over {num} seeds; where only one of them has a value, over images. "
    "All seeds see the same test images: how the numbers vary over images is not in an interval over seeds.",
    "one": "Intervals are 95 %, over images, of one seed. Another seed gives other numbers, and these intervals do not "
    "say by how much: nothing is decided by one seed.",
}


def sections(report: Report) -> list[str]:
    """Return the claims, the scores, the controls and the layers as blocks of the page."""
    claims, controls = [row for row in report.claims if not row.of], with_controls(report.claims)
    ranges = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in RANGES.items())
    cited = report.tables["table_1"][report.tables["table_1"]["paper"].notna()].itertuples()
    layers = report.tables["layers"]
    return [
        report.summary(),
        "## Claims",
        "A claim holds if its number is above 0.",
        claim_texts(claims, report.stems),
        report.correction_note("seed", "seeds"),
        negative_results(claims),
        "## Table 1: in distribution",
        "Ours; after a slash the paper's number, on NYUv2, where it is verified. Bold: best, and its interval is apart "
        "from every other.",
        report.markdown("table_1"),
        ABSENT,
        bullets(f"{row.paper:g} ({row.arm}, {row.measure}): {row.source}." for row in cited),
        "## Table 2: out of distribution",
        "The same networks, not tuned further.",
        report.markdown("table_2"),
        f"{ABSENT} Over the rows of its Table 2 it has {ranges}.",
        "## Depth before fine-tuning",
        "GP and SP predict depth up to a scale; each image is scaled to the median of its truth.",
        report.markdown("pretrained"),
        "On held-out videos, at the end of each stage; `abs_rel_constant` is that of one constant depth, scaled in the "
        "same way:",
        report.markdown("videos"),
        "## Controls",
        "The same number measured in other ways. They are not tested, but show how much of a claim is due to how it "
        "was measured: a U in the residual stream is not due to mixed kinds of layer, and a change without layer decay "
        "is not due to learning rates.",
        claim_texts(controls, report.stems),
        negative_results([row for row in controls if row.of and row.verdict == UNDEFINED]),
        "Variants of a similarity:",
        bullets(f"`{name}`: {words}" for name, words in VARIANTS.items()),
        "## Layers",
        *(["No networks were compared."] if layers.empty else [layer_names(layers)]),
        *(
            block
            for column, words in LAYER_TABLES.items()
            if not layers.empty
            for block in (words, layer_texts(layers, column)[0])
        ),
    ]


def figures_note(evidence: MesaEvidence) -> list[str]:
    """Return which seed the matrices are of, where there are several."""
    first, *others = evidence.seeds
    return [f"Matrices are those of seed {first}; the others' end in `_seed<k>`."] if others else []


def data(evidence: MesaEvidence) -> list[str]:
    """Return the names of the study's data."""
    teacher = "rooms" in scenes(evidence) and "videos" not in evidence.study["data"]
    return [*NEEDED, *(["rooms"] if teacher else [])]


def scenes(evidence: MesaEvidence) -> Mapping[str, Settings]:
    """Return the data sets that the study's scale generates."""
    return registry.get(SCALES, evidence.study["scale"], "scale").scenes


def stage_rows(evidence: MesaEvidence) -> pd.DataFrame:
    """Return one row for each stage of the recipe: task, start, steps, batch, rate, layer decay, side in pixels."""
    keys = ("task", "start", "steps", "batch", "lr", "layer_decay", "size", "normalisation")
    stages = evidence.recipe.get("stages", {})
    return pd.DataFrame(
        {"stage": name} | {key.replace("_", " "): _short(stage.get(key, "")) for key in keys}
        for name, stage in stages.items()
    )


def _short(value: Any) -> Any:
    """Return a rate as it is written in a recipe: 1e-4, not 0.000."""
    return f"{value:g}" if isinstance(value, float) else value


def departures(evidence: MesaEvidence) -> list[str]:
    """Return how the study differs from the paper, a sentence or two each."""
    recipe, generates, paths = evidence.recipe, scenes(evidence), evidence.study["data"]
    generated = [name for name in NEEDED if name in generates and name not in paths]
    notes = procedural_note(PAPER, generated)
    if "imagenet" in generated:
        notes.append('"ImageNet-like" are single procedural objects, "LSUN-like" procedural rooms.')
    if recipe.get("architecture") != "swinv2_large":
        notes.append(f"The network is {recipe.get('architecture')}, the paper's Swin-v2-L (195 M parameters).")
    return [*notes, *_length_notes(recipe.get("stages", {})), *_teacher_notes(generates, paths), *UNSTATED]


def _length_notes(stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return how much shorter the stages are than the paper's, where they are."""
    notes = []
    masked, tuned = stages.get("mp", {}), stages.get("mp_depth", {})
    if 0 < _num_images(masked) < 125_000 * 2048:
        notes.append(f"MP takes {_length(masked)}; SimMIM takes at least 125 000 steps of 2048, of 192 pixels.")
    if (side := masked.get("options", {}).get("cell", 32)) != 32:
        notes.append(f"Cells of {side} pixels are hidden, SimMIM's are of 32.")
    if 0 < _num_images(tuned) < 75 * 24_231:
        notes.append(f"Fine-tuning takes {_length(tuned)}; the paper's takes 75 epochs of 24 231, of 480 pixels.")
    return notes


def _num_images(stage: Mapping[str, Any]) -> int:
    return stage.get("steps", 0) * stage.get("batch", 0)


def _length(stage: Mapping[str, Any]) -> str:
    return f"{stage['steps']} steps of {stage['batch']} images, of {stage.get('size')} pixels"


def _teacher_notes(scenes: Mapping[str, Settings], given: Mapping[str, str]) -> list[str]:
    """Return what replaces LeReS, and whether it has seen what the other networks have not."""
    if "videos" in given or "rooms" not in scenes:
        return []
    notes = [
        "Pseudo-depth is predicted by a network trained here on procedural rooms with truth; the paper uses LeReS."
    ]
    if "ibims1" not in given and scenes["rooms"].style == scenes["ibims1"].style != scenes["videos"].style:
        notes.append(
            f'That network learnt from rooms of style "{scenes["rooms"].style}", which is also that of the test out of '
            "distribution and which no other training shows: some of what SP gains there may be due to that."
        )
    return notes


PAPER = Paper(
    name="mesa",
    title="MeSa",
    source="Khan et al., PMLR 243:116-132, 2024",
    claims=CLAIMS,
    intervals=INTERVALS,
    stands_for=STANDS_FOR,
    procedural="rooms and objects drawn by rules, with exact depth",
    load=MesaEvidence.load,
    tables=all_tables,
    texts=table_texts,
    figures=draw_figures,
    sections=sections,
    figures_note=figures_note,
    scenes=scenes,
    data=data,
    departures=departures,
    absences=absences,
    options=lambda evidence: (),
    stages=stage_rows,
)
