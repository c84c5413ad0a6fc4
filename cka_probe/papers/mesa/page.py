"""What the page of a study of MeSa (`page.md`) shows, and how the study differs from the paper."""

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
from cka_probe.papers.page import Paper, Report, layer_names, negative_results, procedural_note
from cka_probe.papers.tables import claim_texts, describe_length, layer_texts, num_images


def context(report: Report) -> dict[str, Any]:
    """Return what the template of the page shows."""
    claims, controls, table = [row for row in report.claims if not row.of], with_controls(report.claims), "table_1"
    return {
        "claims": claim_texts(claims, report.stems),
        "negative_results": negative_results(claims),
        "cited": list(report.tables[table][report.tables[table]["paper"].notna()].itertuples()),
        "ranges": ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in RANGES.items()),
        "controls": claim_texts(controls, report.stems),
        "undefined_controls": negative_results([row for row in controls if row.of and row.verdict == UNDEFINED]),
        "variants": VARIANTS,
        "layers": report.tables["layers"],
        "layer_names": layer_names,
        "layer_tables": LAYER_TABLES,
        "layer_texts": layer_texts,
    }


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
    return [*notes, *_length_notes(recipe.get("stages", {})), *_teacher_notes(generates, paths)]


def _length_notes(stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return how much shorter the stages are than the paper's, where they are."""
    notes = []
    masked, tuned = stages.get("mp", {}), stages.get("mp_depth", {})
    if 0 < num_images(masked) < 125_000 * 2048:
        notes.append(f"MP takes {describe_length(masked)}; SimMIM takes at least 125 000 steps of 2048, of 192 pixels.")
    if (side := masked.get("options", {}).get("cell", 32)) != 32:
        notes.append(f"Cells of {side} pixels are hidden, SimMIM's are of 32.")
    if 0 < num_images(tuned) < 75 * 24_231:
        notes.append(
            f"Fine-tuning takes {describe_length(tuned)}; the paper's takes 75 epochs of 24 231, of 480 pixels."
        )
    return notes


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
    template="mesa/page.md",
    context=context,
    stands_for=STANDS_FOR,
    procedural="rooms and objects drawn by rules, with exact depth",
    load=MesaEvidence.load,
    tables=all_tables,
    texts=table_texts,
    figures=draw_figures,
    scenes=scenes,
    data=data,
    departures=departures,
    absences=absences,
    options=lambda evidence: (),
    stages=stage_rows,
)
