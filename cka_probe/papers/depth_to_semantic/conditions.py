"""Under which conditions a study was done, and in what it is not like the paper.

Everything that can be read from the study is read: a sentence about steps or data is written from the recipes that
were run, so that it cannot say what was not done.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cka_probe import registry
from cka_probe.lab.scenes import Settings
from cka_probe.papers.depth_to_semantic.cases import TABLES
from cka_probe.papers.depth_to_semantic.evidence import Evidence, Run
from cka_probe.papers.depth_to_semantic.scales import ALL, SCALES

STANDS_FOR = {
    "objects": "ImageNet: classification",
    "kitti": "KITTI's drives: depth from video and stereo, LiDAR, flow, inpainting, masked patches, contrast",
    "kitti_labels": "KITTI's labelled streets: fine-tuning, test, images of the similarities",
    "cityscapes": "Cityscapes' streets with disparity; classes present in a scene",
    "cityscapes_labels": "Cityscapes' labelled streets: fine-tuning and test",
    "rooms": "NYUv2's rooms with depth",
    "rooms_labels": "NYUv2's labelled rooms: fine-tuning and test",
}
"""The data of a study: which set of the paper, and what for."""

UNSTATED = (
    "The learning rate is chosen for each arm and data set from a few, by images held out from training; all other "
    "cases of that arm take it. The paper chooses by initialisation too, without saying how.",
    "A frozen encoder has neither its weights nor its batch norms' statistics changed. The released code changes the "
    "weights. The untrained encoder's statistics are first taken from batches of training images.",
    "mIoU is of the confusion matrix of all test images; the released code's is the mean over images, which stands "
    "beside it (miou_subset_per_image). Classes without a pixel, true or predicted, are in no mean.",
    'The paper speaks of 21 classes, its code trains 19; "miou" is over all of the data\'s, "miou_subset" over seven: '
    "road, sidewalk, building, vegetation, terrain, sky, car.",
    "Frozen arms of depth bring their decoder too, others a new one: read them beside those of the encoder only.",
    "Fine-tuned networks are compared after the first trial of the seed.",
)
"""Choices that the paper leaves open or in which we follow its text and not its code, whatever the scale."""


def command(evidence: Evidence) -> str:
    """Return the command that does the study again, `DIR` where a path was given."""
    study = evidence.study
    given = [f"data.{name}=DIR" for name in study["data"]] + list(study["settings"])
    words = ["ckaprobe reproduce depth-to-semantic", f"--scale {study['scale']}", f"--seeds {evidence.seeds[-1] + 1}"]
    words += [f"--trials {evidence.trials[-1] + 1}", *_tables(evidence)]
    words += ["--protocol released"] if released(evidence) else []
    return " ".join([*words, "--out OUT", *(f"--set {setting}" for setting in given)])


def _tables(evidence: Evidence) -> list[str]:
    """Return the option that says what was run, where that is not the scale's own choice."""
    scale, run = registry.get(SCALES, evidence.study["scale"], "scale"), Run(evidence.seeds[0], evidence.trials[0])
    there = {
        table
        for table in ALL
        if any(evidence.scores(case, run) is not None for case in TABLES[table] if case not in scale.cases())
    }
    if not there:
        return []
    every = tuple(table for table in ALL if table in there or table in scale.tables)
    return [f"--tables {'all' if every == ALL else ','.join(every)}"]


def released(evidence: Evidence) -> bool:
    """Return whether any fault of the released code was run."""
    run = Run(evidence.seeds[0], evidence.trials[0])
    return any(evidence.scores(case, run) is not None or evidence.diverged(case, run) for case in TABLES["quirks"])


def data_rows(evidence: Evidence) -> pd.DataFrame:
    """Return one row for each set of data: name, what it stands for, what it was."""
    scenes, given = registry.get(SCALES, evidence.study["scale"], "scale").scenes, evidence.study["data"]
    return pd.DataFrame(
        {"data": name, "stands for": words, "was": _was(name, scenes, given)} for name, words in STANDS_FOR.items()
    )


def departures(evidence: Evidence) -> list[str]:
    """Return in what the study is not like the paper, a sentence or two each."""
    scenes, given = registry.get(SCALES, evidence.study["scale"], "scale").scenes, evidence.study["data"]
    drawn, found = [name for name in STANDS_FOR if name in scenes and name not in given], []
    if drawn:
        found.append(
            f"Procedural images stand for {', '.join(STANDS_FOR[name].split(':')[0] for name in drawn)}: streets, "
            "objects and rooms drawn by rules, with exact depth, flow and labels. What is named after a data set here "
            "is its layout on disk, not its images; no number is comparable with the paper's."
        )
    if "objects" in drawn:
        found.append(
            'No ImageNet was used. "Procedural object classification" is of single objects drawn by rules, and '
            "stands where the paper has ImageNet: it shares the task and the framing, not the size or the images."
        )
    elif "objects" in given:
        found.append('"Procedural object classification" is, in this study, of the images given as data.objects.')
    tuning = evidence.tuning()
    if tuning and tuning.get("architecture") != "resnet18":
        found.append(f"The encoder is {tuning['architecture']}; the numbers of the paper beside it are of ResNet-18.")
    return [*found, *_lengths(evidence, tuning), *UNSTATED]


def _lengths(evidence: Evidence, tuning: Mapping[str, Any]) -> list[str]:
    """Return how much shorter training is than the paper's, where it is."""
    found = []
    stage = next(iter(tuning.get("stages", {}).values()), {})
    if 0 < stage.get("steps", 0) < 20_000:
        found.append(
            f"Fine-tuning takes {stage['steps']} steps of {stage.get('batch')} images, of {pixels(stage)} pixels; "
            "the paper's takes 20 000 of 16, of 640 x 192."
        )
    video = evidence.stages(evidence.seeds[0]).get("video", {})
    shown = video.get("steps", 0) * video.get("batch", 0)
    if 0 < shown < 20 * 39_810:
        found.append(
            f"Depth from video is learnt from {shown} images shown, of {pixels(video)} pixels; Monodepth2's from 20 "
            "epochs of 39 810, of 640 x 192."
        )
    return found


def pixels(stage: Mapping[str, Any]) -> str:
    """Return the size of a stage, width first.

    >>> pixels({"size": [64, 96]}), pixels({"size": 64})
    ('96 x 64', '64')
    """
    size = stage.get("size", "")
    return " x ".join(map(str, reversed(size))) if isinstance(size, list | tuple) else str(size)


def _was(name: str, scenes: Mapping[str, Settings], given: Mapping[str, str]) -> str:
    """Return what a set of data was, in words."""
    if name in given:
        return "given by path"
    if name not in scenes:
        return "neither given nor drawn at this scale"
    drawn = scenes[name]
    frames = f" of {drawn.frames} frames" if drawn.frames > 1 else ""
    height, width = drawn.size
    return f"procedural: {drawn.num} {drawn.kind}{frames}, {width} x {height}, seed {drawn.seed}"
