"""The page of a study: every sentence with a number in it is made from the study.

Claims come first, then the paper's tables with ours, whether pre-training worked, learning rates, layers, the figures,
the differences from the paper, what was not run, and how to reproduce it.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd

from cka_probe import registry
from cka_probe.papers import page
from cka_probe.papers.claims import UNDEFINED, TestedClaim
from cka_probe.papers.depth_to_semantic.claims import CLAIMS, CONTROLS, GROUPS
from cka_probe.papers.depth_to_semantic.evidence import SemanticEvidence
from cka_probe.papers.depth_to_semantic.figures import draw_figures
from cka_probe.papers.depth_to_semantic.study import ALL, ARMS, MAIN, QUIRKS, SCALES, TABLES, Scale
from cka_probe.papers.depth_to_semantic.tables import absences, all_tables, heading, pixels, table_texts
from cka_probe.papers.evidence import RunKey
from cka_probe.papers.figures import StudyFigure
from cka_probe.papers.page import Paper
from cka_probe.papers.tables import as_markdown, claim_texts, layer_texts, score_texts

SOURCE = "Lao et al., On the Viability of Monocular Depth Pre-training for Semantic Segmentation, ECCV 2024"


ABSENT = "A dash means that no number of the paper was available; none is given from memory."


WITHOUT = {
    "table4": "Its Table 4, of ResNet-50, has rows without a case here: segmentation of COCO 51.28, depth 50.92, DINO "
    "44.19."
}
"""Rows of the paper that have no case here, by table."""


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


UNSTATED = (
    "The learning rate is chosen for each arm and data set from a few, on images held out from training; all other "
    "cases of that arm use it. The paper chooses by initialisation too, without saying how.",
    "A frozen encoder has neither its weights nor its batch norms' statistics changed. The released code changes the "
    "weights. The untrained encoder's statistics are first taken from batches of training images.",
    "mIoU is of the confusion matrix of all test images; the released code's is the mean over images, which is "
    "also shown (miou_subset_per_image). Classes without a pixel, true or predicted, are in no mean.",
    'The paper speaks of 21 classes, its code trains 19; "miou" is over all of the data\'s, "miou_subset" over seven: '
    "road, sidewalk, building, vegetation, terrain, sky, car.",
    "Frozen arms of depth keep their decoder, others have a new one: compare them with those of the encoder only.",
    "Fine-tuned networks are compared after the first trial of the seed.",
)
"""Choices that the paper leaves open, or where its text is followed and not its code, at any scale."""


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
"""Titles of the tables."""


UNEVEN = (
    "**Not every case was run in every trial (see Not run). A row of one trial has the value of that trial and an "
    "interval over test images alone, narrow for what it leaves out: compare it with no row of several trials.**"
)


NOTES = {
    "table4": "The paper's numbers are of ResNet-50, ours of the encoder named below.",
    "table6": "The encoder is frozen.",
    "figure3": "The numbers of training images; the scale's default is in Table 1.",
    "figure5": "Input sides half and twice those of pre-training. The paper: halving works, doubling diverges.",
    "quirks": "Each fault alone where it has an effect, and all together: "
    + "; ".join(f"{name.replace('_', ' ')}: {words}" for name, words in QUIRKS.items()) + ".",
}  # fmt: skip
"""Text below a title."""


def write_page(
    evidence: SemanticEvidence,
    rows: Sequence[TestedClaim],
    tables: Mapping[str, pd.DataFrame],
    figures: Sequence[StudyFigure],
) -> str:
    """Return the page as Markdown.

    Args:
        evidence: The study.
        rows: Its claims.
        tables: `all_tables`.
        figures: `draw_figures`.
    """
    stems = {figure.stem for figure in figures if figure.paths}
    parts = [
        *_opening(evidence, rows),
        *_claims(evidence, rows, stems),
        *(line for name in TABLES for line in _table(name, tables[name])),
        *_pretraining(tables["pretraining"]),
        *_rates(tables["rates"]),
        *_layers(tables["layers"], tables["parting"]),
        *_maps(evidence, tables["alignment"]),
        "## Figures",
        "",
        "Curves show all runs; similarities are those of the first seed.",
        "",
        *page.figure_section(figures),
        *page.differences_section(departures(evidence), absences(evidence)),
        *page.reproduction_section(evidence, command(evidence), data_rows(evidence), tables["cost"]),
    ]
    return "\n".join(parts).rstrip() + "\n"


def interval_note(evidence: SemanticEvidence) -> str:
    """Return what the intervals are over, in sentences."""
    always = (
        "All runs see the same test images: how the numbers vary over images is not in an interval over seeds or "
        "trials."
    )
    if len(evidence.seeds) > 1:
        return (
            f"Intervals are 95 %, by Student's t over {len(evidence.seeds)} seeds, the trials of a seed averaged "
            f"first. {always}"
        )
    if len(evidence.trials) > 1:
        return (
            f"Intervals are 95 %, by Student's t over {len(evidence.trials)} trials of one pre-training, as the "
            "paper's are: each draws other training images, another head and another order. How the numbers vary "
            f"over pre-trainings is not in them. {always}"
        )
    return (
        "Intervals are 95 %, over test images, of one trial of one seed. Another gives other numbers, and these "
        "intervals do not say by how much: nothing is decided by one trial."
    )


def _opening(evidence: SemanticEvidence, rows: Sequence[TestedClaim]) -> list[str]:
    claims = [row for row in rows if not row.of]
    seeds, trials = (", ".join(map(str, numbers)) for numbers in (evidence.seeds, evidence.trials))
    return [
        f"# Depth-to-Semantic, reproduced at scale `{evidence.study['scale']}`",
        "",
        f"{SOURCE}. Seeds: {seeds}. Trials: {trials}. {interval_note(evidence)}",
        "",
        *([UNEVEN, ""] if any("not in every trial" in line for line in absences(evidence)) else []),
        page.summary_line(claims),
        "",
    ]


def _claims(evidence: SemanticEvidence, rows: Sequence[TestedClaim], stems: set[str]) -> list[str]:
    over = f"{evidence.repeats}s (over seeds where layers are compared)"
    lines = ["## Claims", ""]
    lines += [
        "A claim holds if its number is above 0. Scores are compared in pairs: within a trial all arms have the same "
        "training images in the same order. Points are of 100. Lines that begin with … are not tested.",
        "",
    ]
    for words, group in GROUPS.values():
        names = {claim.name for claim in group}
        group_rows = [row for row in rows if row.name in names or row.of in names]
        lines += [f"### {words}", "", claim_texts(group_rows, stems, evidence.repeats)]
        lines += page.negative_results([row for row in group_rows if not row.of or row.verdict == UNDEFINED])
    return [*lines, page.correction_note(rows, evidence.repeats, over), ""]


def _table(name: str, rows: pd.DataFrame) -> list[str]:
    lines = [f"## {TITLES.get(name, name)}", ""]
    note = f"{NOTES[name]} " if name in NOTES else ""
    lines += [f"{note}Network: {heading(name)}.", ""]
    if not rows["value"].notna().any() and not (rows["state"] == UNDEFINED).any():
        return [*lines, "Not run.", "", *_cited(name, rows)]
    return [*lines, score_texts(rows)[0], *_cited(name, rows)]


def _cited(name: str, rows: pd.DataFrame) -> list[str]:
    """Return the sources of the paper's numbers in a table."""
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
    # arms of the same measures share a table
    measures = cells.groupby("arm", sort=False)["measure"].transform(" ".join)
    for _, group in cells.groupby(measures, sort=False):
        lines += [score_texts(group)[0]]
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


def _layers(layers: pd.DataFrame, divergence: pd.DataFrame) -> list[str]:
    lines = ["## Layers", ""]
    if layers.empty and divergence.empty:
        return [*lines, "No networks were compared.", ""]
    if not layers.empty:
        names = dict(zip(layers["index"], layers["layer"], strict=True))
        lines += [", ".join(f"{index} `{name}`" for index, name in names.items()) + ".", ""]
        lines += ["Similarity of each layer with itself after fine-tuning:", "", layer_texts(layers, "diagonal")[0]]
        lines += ["Root mean square of what varies over images, before fine-tuning. Similarity of a layer that "
                  "hardly varies says little:", "", layer_texts(layers, "spread")[0]]  # fmt: skip
    if not divergence.empty:
        main = {f"{ARMS[x]} and {ARMS[y]}" for x, y in permutations(MAIN.split(), 2)}
        shown = divergence[divergence["arms"].isin(main)].set_index("arms")
        shown = shown.rename(columns={"parts_at": "diverge most at"})
        words = "Where two arms diverge: the step at which the similarity of the same layer in both falls most"
        more = (
            "all pairs are in [tables/parting.csv](tables/parting.csv), layer by layer in "
            "[tables/pairs.csv](tables/pairs.csv)"
        )
        lines += [f"{words} ({more}):", "", as_markdown(shown, digits=2)]
    return lines


def _maps(evidence: SemanticEvidence, rows: pd.DataFrame) -> list[str]:
    lines = ["## Figure 6: do Grad-CAM maps follow the outlines of classes?", "", *maps_note(evidence)]
    return [*lines, score_texts(rows)[0]] if rows["value"].notna().any() else lines


def maps_note(evidence: SemanticEvidence) -> list[str]:
    """Return what the table of maps measures, as lines of a page."""
    result = evidence.gradcam(evidence.seeds[0])
    if result is None:
        return ["Not run.", ""]
    return [
        f"How well the steepness of a map finds the boundaries of the labels, of {len(result.images)} test images "
        f"at the network's size, with a tolerance of {result.settings['tolerance']:g} pixel: average precision in "
        "percent, mean over images. Chance is the share of boundary pixels. The image's grey value and the size of "
        "its gradient, resized to the layer's resolution like maps, are controls that understand nothing: a map below "
        "them follows outlines less than an edge detector does. The true labels, at that resolution, are the ceiling. "
        "A map that is zero everywhere has no number and is in no mean; two networks are compared on "
        "the images where both have one.",
        "",
    ]


def command(evidence: SemanticEvidence) -> str:
    """Return the command that repeats the study, with `DIR` in place of each path."""
    options = [f"--trials {evidence.trials[-1] + 1}", *_tables_option(evidence)]
    options += ["--protocol released"] if released(evidence) else []
    return page.reproduce_command(evidence, "depth-to-semantic", options)


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


def data_rows(evidence: SemanticEvidence) -> pd.DataFrame:
    """Return one row for each data set: its name, which one of the paper it stands for, and what it was."""
    return page.data_rows(STANDS_FOR, _scale(evidence).scenes, evidence.study["data"])


def _scale(evidence: SemanticEvidence) -> Scale:
    return registry.get(SCALES, evidence.study["scale"], "scale")


def departures(evidence: SemanticEvidence) -> list[str]:
    """Return how the study differs from the paper, a sentence or two each."""
    scenes, given = _scale(evidence).scenes, evidence.study["data"]
    generated, notes = [name for name in STANDS_FOR if name in scenes and name not in given], []
    if generated:
        what = "streets, objects and rooms drawn by rules, with exact depth, flow and labels"
        notes.append(page.procedural_note(STANDS_FOR, generated, what))
    if "objects" in generated:
        notes.append(
            'No ImageNet was used. "Procedural object classification" is of single objects drawn by rules, and '
            "replaces the paper's ImageNet: it shares the task and the framing, not the size or the images."
        )
    elif "objects" in given:
        notes.append('"Procedural object classification" is, in this study, of the images given as data.objects.')
    tuning = evidence.tuning()
    if tuning and tuning.get("architecture") != "resnet18":
        notes.append(f"The encoder is {tuning['architecture']}; the paper's numbers are of ResNet-18.")
    return [*notes, *_length_notes(evidence, tuning), *UNSTATED]


def _length_notes(evidence: SemanticEvidence, tuning: Mapping[str, Any]) -> list[str]:
    """Return how much shorter training is than the paper's, where it is."""
    notes = []
    stage: Mapping[str, Any] = next(iter(tuning.get("stages", {}).values()), {})
    if 0 < stage.get("steps", 0) < 20_000:
        notes.append(
            f"Fine-tuning takes {stage['steps']} steps of {stage.get('batch')} images, of {pixels(stage)} pixels; "
            "the paper's takes 20 000 of 16, of 640 x 192."
        )
    video = evidence.stages(evidence.seeds[0]).get("video", {})
    num_images = video.get("steps", 0) * video.get("batch", 0)
    if 0 < num_images < 20 * 39_810:
        notes.append(
            f"Depth from video is learnt from {num_images} images shown, of {pixels(video)} pixels; Monodepth2's from "
            "20 epochs of 39 810, of 640 x 192."
        )
    return notes


PAPER = Paper(
    name="depth-to-semantic",
    claims=CLAIMS,
    controls=CONTROLS,
    load=SemanticEvidence.load,
    tables=all_tables,
    texts=table_texts,
    figures=draw_figures,
    page=write_page,
)


def write_report(folder: str | Path) -> Path:
    """Write the report of a study and return its page; see `papers.page`."""
    return page.write_report(folder, PAPER)
