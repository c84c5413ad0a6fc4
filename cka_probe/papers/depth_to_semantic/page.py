"""The page of a study of Depth-to-Semantic.

Claims come first, then the paper's tables with ours, whether pre-training worked, learning rates, layers, the figures,
the differences from the paper, what was not run, and how to reproduce it.
"""

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
from cka_probe.papers.depth_to_semantic.tables import absences, all_tables, cost_rows, heading, pixels, table_texts
from cka_probe.papers.evidence import RunKey
from cka_probe.papers.page import Paper, Report, bullets, layer_names, negative_results, procedural_note
from cka_probe.papers.tables import as_markdown, claim_texts, layer_texts, score_texts

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

SAME_IMAGES = (
    "All runs see the same test images: how the numbers vary over images is not in an interval over seeds or trials."
)

INTERVALS = {
    "seeds": "Intervals are 95 %, by Student's t over {num} seeds, the trials of a seed averaged first. " + SAME_IMAGES,
    "trials": "Intervals are 95 %, by Student's t over {num} trials of one pre-training, as the paper's are: each "
    "draws other training images, another head and another order. How the numbers vary over pre-trainings is not in "
    "them. " + SAME_IMAGES,
    "one": "Intervals are 95 %, over test images, of one trial of one seed. Another gives other numbers, and these "
    "intervals do not say by how much: nothing is decided by one trial.",
}


def sections(report: Report) -> list[str]:
    """Return the claims, the tables, pre-training, learning rates, layers and maps as blocks of the page."""
    uneven = any("not in every trial" in line for line in absences(report.evidence))
    return [
        UNEVEN if uneven else "",
        report.summary(),
        *_claims(report),
        *(block for name in TABLES for block in _table(report, name)),
        *_pretraining(report.tables["pretraining"]),
        *_rates(report.tables["rates"]),
        *_layers(report.tables["layers"], report.tables["parting"]),
        "## Figure 6: do Grad-CAM maps follow the outlines of classes?",
        maps_note(report.evidence),
        report.markdown("alignment") if report.tables["alignment"]["value"].notna().any() else "",
    ]


def _claims(report: Report) -> list[str]:
    repeats = report.evidence.repeats
    blocks = [
        "## Claims",
        "A claim holds if its number is above 0. Scores are compared in pairs: within a trial all arms have the same "
        "training images in the same order. Points are of 100. Lines that begin with … are not tested.",
    ]
    for section, words in SECTIONS.items():
        rows = [row for row in report.claims if row.section == section]
        negative = negative_results([row for row in rows if not row.of or row.verdict == UNDEFINED])
        blocks += [f"### {words}", claim_texts(rows, report.stems, repeats), negative]
    return [*blocks, report.correction_note(repeats, f"{repeats}s (over seeds where layers are compared)")]


def _table(report: Report, name: str) -> list[str]:
    """Return a table of scores with the sources of the paper's numbers."""
    rows = report.tables[name]
    any_run = rows["value"].notna().any() or (rows["state"] == UNDEFINED).any()
    cited = [
        f"{row.paper:.2f} ({row.arm}, {row.measure}): {row.source}." for row in rows[rows["paper"].notna()].itertuples()
    ]
    return [
        f"## {TITLES.get(name, name)}",
        f"{NOTES[name]} Network: {heading(name)}." if name in NOTES else f"Network: {heading(name)}.",
        report.markdown(name) if any_run else "Not run.",
        ABSENT if cited else "",
        bullets([*cited, *([WITHOUT[name]] if name in WITHOUT else [])]),
    ]


def _pretraining(rows: pd.DataFrame) -> list[str]:
    """Return how well pre-training went; arms of the same measures share a table."""
    if rows.empty:
        return ["## Did pre-training work?", "Nothing was held out from pre-training."]
    cells = rows.assign(paper=float("nan"), unit="", better="")
    measures = cells.groupby("arm", sort=False)["measure"].transform(" ".join)
    return [
        "## Did pre-training work?",
        "Measured at its end on data held out from it; an arm that did not learn its own task says nothing.",
        *(score_texts(group)[0] for _, group in cells.groupby(measures, sort=False)),
    ]


def _rates(rows: pd.DataFrame) -> list[str]:
    if rows.empty:
        return ["## Learning rates", "None was chosen."]
    columns = {"rate": rows["rate"].map("{:g}".format), "chosen": rows["chosen"].map({True: "yes", False: ""})}
    frame = rows.assign(**columns).set_index("arm")[["data", "seed", "rate", "held_out", "measure", "chosen"]]
    return [
        "## Learning rates",
        "Tried in the first trial, on images held out from training (percent); a dash: the loss stopped being a "
        "number.",
        as_markdown(frame, digits=2),
    ]


def _layers(layers: pd.DataFrame, divergence: pd.DataFrame) -> list[str]:
    blocks = ["## Layers"]
    if layers.empty and divergence.empty:
        return [*blocks, "No networks were compared."]
    if not layers.empty:
        blocks += [
            layer_names(layers),
            "Similarity of each layer with itself after fine-tuning:",
            layer_texts(layers, "diagonal")[0],
            "Root mean square of what varies over images, before fine-tuning. Similarity of a layer that hardly varies "
            "says little:",
            layer_texts(layers, "spread")[0],
        ]
    if not divergence.empty:
        main = {f"{ARMS[x]} and {ARMS[y]}" for x, y in permutations(MAIN.split(), 2)}
        rows = divergence[divergence["arms"].isin(main)].set_index("arms")
        blocks += [
            "Where two arms diverge: the step at which the similarity of the same layer in both falls most (all pairs "
            "are in [tables/parting.csv](tables/parting.csv), layer by layer in [tables/pairs.csv](tables/pairs.csv)):",
            as_markdown(rows.rename(columns={"parts_at": "diverge most at"}), digits=2),
        ]
    return blocks


def maps_note(evidence: SemanticEvidence) -> str:
    """Return what the table of maps measures, in sentences."""
    result = evidence.gradcam(evidence.seeds[0])
    if result is None:
        return "Not run."
    return (
        f"How well the steepness of a map finds the boundaries of the labels, of {len(result.images)} test images "
        f"at the network's size, with a tolerance of {result.settings['tolerance']:g} pixel: average precision in "
        "percent, mean over images. Chance is the share of boundary pixels. The image's grey value and the size of "
        "its gradient, resized to the layer's resolution like maps, are controls that understand nothing: a map below "
        "them follows outlines less than an edge detector does. The true labels, at that resolution, are the ceiling. "
        "A map that is zero everywhere has no number and is in no mean; two networks are compared on "
        "the images where both have one."
    )


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
    title="Depth-to-Semantic",
    source="Lao et al., On the Viability of Monocular Depth Pre-training for Semantic Segmentation, ECCV 2024",
    claims=CLAIMS,
    intervals=INTERVALS,
    stands_for=STANDS_FOR,
    procedural="streets, objects and rooms drawn by rules, with exact depth, flow and labels",
    load=SemanticEvidence.load,
    tables=all_tables,
    texts=table_texts,
    figures=draw_figures,
    sections=sections,
    figures_note=lambda evidence: ["Curves show all runs; similarities are those of the first seed."],
    scenes=scenes,
    data=lambda evidence: tuple(STANDS_FOR),
    departures=departures,
    absences=absences,
    options=options,
    stages=cost_rows,
)
