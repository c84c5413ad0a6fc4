"""What the page of a study of Depth-to-Semantic (`page.md`) shows, and how the study differs from the paper."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import pandas as pd

from cka_probe import registry
from cka_probe.lab.scenes import Settings
from cka_probe.papers.claims import UNDEFINED
from cka_probe.papers.depth_to_semantic.cases import ALL, ARMS, MAIN, QUIRKS, TABLES
from cka_probe.papers.depth_to_semantic.claims import CLAIMS, SECTIONS
from cka_probe.papers.depth_to_semantic.evidence import SemanticEvidence
from cka_probe.papers.depth_to_semantic.figures import draw_figures
from cka_probe.papers.depth_to_semantic.study import SCALES, Scale
from cka_probe.papers.depth_to_semantic.tables import absences, all_tables, cost_rows, heading, table_texts
from cka_probe.papers.evidence import RunKey
from cka_probe.papers.page import Paper, Report, layer_names, negative_results, procedural_note
from cka_probe.papers.tables import (
    as_markdown,
    claim_texts,
    describe_length,
    layer_texts,
    num_images,
    pixels,
    score_texts,
)

STANDS_FOR = {
    "objects": "ImageNet: classification",
    "kitti": "KITTI's drives: depth from video and stereo, LiDAR, flow, inpainting, masked patches, contrast",
    "kitti_labels": "KITTI's labelled streets: fine-tuning, test, images of the similarities",
    "cityscapes": "Cityscapes' streets with disparity; classes present in a scene",
    "cityscapes_labels": "Cityscapes' labelled streets: fine-tuning and test",
    "rooms": "NYUv2's rooms with depth",
    "rooms_labels": "NYUv2's labelled rooms: fine-tuning and test",
}
"""The data of a study: which data set of the paper, and what for."""


def context(report: Report) -> dict[str, Any]:
    """Return what the template of the page shows."""
    evidence, tables = report.evidence, report.tables
    return {
        "uneven": any("not in every trial" in line for line in absences(evidence)),
        "sections": [_claims(report, section, words) for section, words in SECTIONS.items()],
        "heading": heading,
        "was_run": lambda name: tables[name]["value"].notna().any() or (tables[name]["state"] == UNDEFINED).any(),
        "cited": lambda name: list(tables[name][tables[name]["paper"].notna()].itertuples()),
        "quirks": "; ".join(f"{name.replace('_', ' ')}: {words}" for name, words in QUIRKS.items()),
        "pretraining": _pretraining(tables["pretraining"]),
        "rates": _rates(tables["rates"]),
        "layers": tables["layers"],
        "layer_names": layer_names,
        "layer_texts": layer_texts,
        "divergence": _divergence(tables["parting"]),
        "maps": evidence.gradcam(evidence.seeds[0]),
    }


def _claims(report: Report, section: str, words: str) -> tuple[str, str, str]:
    """Return the title of a section of claims, its table, and what does not hold in it."""
    rows = [row for row in report.claims if row.section == section]
    negative = negative_results([row for row in rows if not row.of or row.verdict == UNDEFINED])
    return words, claim_texts(rows, report.stems, report.evidence.repeats), negative


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
    main = {f"{ARMS[x]} and {ARMS[y]}" for x, y in permutations(MAIN.split(), 2)}
    rows = divergence[divergence["arms"].isin(main)].set_index("arms")
    return as_markdown(rows.rename(columns={"parts_at": "diverge most at"}), digits=2)


def options(evidence: SemanticEvidence) -> list[str]:
    """Return the options of the command that repeats the study."""
    protocol = ["--protocol released"] if released(evidence) else []
    return [f"--trials {evidence.trials[-1] + 1}", *_tables_option(evidence), *protocol]


def _tables_option(evidence: SemanticEvidence) -> list[str]:
    """Return the option that selects the tables that were run, where they are not the scale's default."""
    scale, run = _scale(evidence), RunKey(evidence.seeds[0], evidence.trials[0])
    extra = {
        table
        for table in ALL
        if any(evidence.scores(case, run) is not None for case in TABLES[table] if case not in scale.cases())
    }
    if not extra:
        return []
    every = tuple(table for table in ALL if table in extra or table in scale.tables)
    return [f"--tables {'all' if every == ALL else ','.join(every)}"]


def released(evidence: SemanticEvidence) -> bool:
    """Return whether any fault of the released code was run."""
    run = RunKey(evidence.seeds[0], evidence.trials[0])
    return any(evidence.scores(case, run) is not None or evidence.diverged(case, run) for case in TABLES["quirks"])


def _scale(evidence: SemanticEvidence) -> Scale:
    return registry.get(SCALES, evidence.study["scale"], "scale")


def scenes(evidence: SemanticEvidence) -> Mapping[str, Settings]:
    """Return the data sets that the study's scale generates."""
    return _scale(evidence).scenes


def departures(evidence: SemanticEvidence) -> list[str]:
    """Return how the study differs from the paper, a sentence or two each."""
    paths = evidence.study["data"]
    generated = [name for name in STANDS_FOR if name in scenes(evidence) and name not in paths]
    notes = procedural_note(PAPER, generated)
    if "objects" in generated:
        notes.append(
            'No ImageNet was used. "Procedural object classification" is of single objects drawn by rules, and '
            "replaces the paper's ImageNet: it shares the task and the framing, not the size or the images."
        )
    elif "objects" in paths:
        notes.append('"Procedural object classification" is, in this study, of the images given as data.objects.')
    tuning = evidence.tuning()
    if tuning and tuning.get("architecture") != "resnet18":
        notes.append(f"The encoder is {tuning['architecture']}; the paper's numbers are of ResNet-18.")
    return [*notes, *_length_notes(evidence, tuning)]


def _length_notes(evidence: SemanticEvidence, tuning: Mapping[str, Any]) -> list[str]:
    """Return how much shorter training is than the paper's, where it is."""
    notes = []
    stage: Mapping[str, Any] = next(iter(tuning.get("stages", {}).values()), {})
    if 0 < stage.get("steps", 0) < 20_000:
        notes.append(f"Fine-tuning takes {describe_length(stage)}; the paper's takes 20 000 of 16, of 640 x 192.")
    video = evidence.stages(evidence.seeds[0]).get("video", {})
    if 0 < num_images(video) < 20 * 39_810:
        notes.append(
            f"Depth from video is learnt from {num_images(video)} images shown, of {pixels(video)} pixels; "
            "Monodepth2's from 20 epochs of 39 810, of 640 x 192."
        )
    return notes


PAPER = Paper(
    name="depth-to-semantic",
    title="Depth-to-Semantic",
    source="Lao et al., On the Viability of Monocular Depth Pre-training for Semantic Segmentation, ECCV 2024",
    claims=CLAIMS,
    template="depth_to_semantic/page.md",
    context=context,
    stands_for=STANDS_FOR,
    procedural="streets, objects and rooms drawn by rules, with exact depth, flow and labels",
    load=SemanticEvidence.load,
    tables=all_tables,
    texts=table_texts,
    figures=draw_figures,
    scenes=scenes,
    data=lambda evidence: tuple(STANDS_FOR),
    departures=departures,
    absences=absences,
    options=options,
    stages=cost_rows,
)
