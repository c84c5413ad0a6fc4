"""Under which conditions a study was done, and in what it is not like the paper.

Everything that can be read from the study is read: a sentence about steps or data is written from the recipe that
was run, so that it cannot say what was not done.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cka_probe import registry
from cka_probe.lab.scenes import Settings
from cka_probe.papers.mesa.evidence import Evidence
from cka_probe.papers.mesa.scales import NEEDED, SCALES

STANDS_FOR = {
    "lsun": "LSUN: masked pre-training on rooms",
    "imagenet": "ImageNet: masked and supervised pre-training on objects",
    "videos": "videos of NYUv2: GP and SP",
    "nyuv2": "NYUv2: fine-tuning, scores in distribution, images of the similarities",
    "ibims1": "iBims-1: scores out of distribution",
    "rooms": "what the depth network behind the pseudo-depth learns from",
}
"""The data of a study: which set of the paper, and what for."""

UNSTATED = (
    "The paper does not say how CKA was computed: images, number, estimator, pooling. Here it is unbiased, over "
    "whole activations, on images of the fine-tuning's test split; the controls change one of these at a time.",
    "The paper does not say whether depth decoder and pose network go on from GP to SP. Here they do.",
    "The paper does not say how the depth decoder of GP is joined to Swin-v2. Here it has skips at strides 4, 8, 16.",
    "The paper does not say how predictions were aligned on iBims-1. Here abs_rel stands unscaled and scaled to the "
    "median; edges and planes do not depend on it.",
    "The paper shows one run. Here intervals are over seeds where there are several, and over images where not.",
    "The paper has no control: learning rates that fall by 0.85 a layer towards the input, three normalisations of the "
    "input, and two kinds of layer in one row are all in its figures. Here each is varied alone.",
)
"""Choices that the paper leaves open, whatever the scale."""


def command(evidence: Evidence) -> str:
    """Return the command that does the study again, `DIR` where a path was given."""
    study = evidence.study
    given = [f"data.{name}=DIR" for name in study["data"]] + list(study["settings"])
    last = max(evidence.seeds) + 1
    words = ["ckaprobe reproduce mesa", f"--scale {study['scale']}", f"--seeds {last}", "--out OUT"]
    return " ".join([*words, *(f"--set {setting}" for setting in given)])


def data_rows(evidence: Evidence) -> pd.DataFrame:
    """Return one row for each set of data: name, what it stands for, what it was."""
    scenes, given = registry.get(SCALES, evidence.study["scale"], "scale").scenes, evidence.study["data"]
    names = [*NEEDED, *(["rooms"] if "rooms" in scenes and "videos" not in given else [])]
    return pd.DataFrame(
        {"data": name, "stands for": STANDS_FOR[name], "was": _was(name, scenes, given)} for name in names
    )


def stage_rows(evidence: Evidence) -> pd.DataFrame:
    """Return one row for each stage of the recipe: task, start, steps, batch, rate, layer decay, side in pixels."""
    keys = ("task", "start", "steps", "batch", "lr", "layer_decay", "size", "normalisation")
    stages = evidence.recipes[evidence.seeds[0]].get("stages", {})
    return pd.DataFrame(
        {"stage": name} | {key.replace("_", " "): _short(stage.get(key, "")) for key in keys}
        for name, stage in stages.items()
    )


def _short(value: Any) -> Any:
    """Return a rate as it is written in a recipe: 1e-4, not 0.000."""
    return f"{value:g}" if isinstance(value, float) else value


def departures(evidence: Evidence) -> list[str]:
    """Return in what the study is not like the paper, a sentence or two each."""
    recipe = evidence.recipes[evidence.seeds[0]]
    scenes, given = registry.get(SCALES, evidence.study["scale"], "scale").scenes, evidence.study["data"]
    drawn = [name for name in NEEDED if name in scenes and name not in given]
    found = []
    if drawn:
        found.append(
            f"Procedural images stand for {', '.join(STANDS_FOR[name].split(':')[0] for name in drawn)}: rooms and "
            "objects drawn by rules, with exact depth. What is named after a data set here is its layout on disk, not "
            "its images; no number is comparable with the paper's."
        )
    if "imagenet" in drawn:
        found.append('"ImageNet-like" are single procedural objects, "LSUN-like" procedural rooms.')
    if recipe.get("architecture") != "swinv2_large":
        found.append(f"The network is {recipe.get('architecture')}, the paper's Swin-v2-L (195 M parameters).")
    found += [*_lengths(recipe.get("stages", {})), *_teacher(scenes, given)]
    return [*found, *UNSTATED]


def _was(name: str, scenes: Mapping[str, Settings], given: Mapping[str, str]) -> str:
    """Return what a set of data was, in words."""
    if name in given:
        return "given by path"
    if name not in scenes:
        return "neither given nor drawn at this scale"
    drawn = scenes[name]
    frames = f" of {drawn.frames} frames" if drawn.frames > 1 else ""
    height, width = drawn.size
    style = f", style {drawn.style}" if drawn.kind == "rooms" else ""
    return f"procedural: {drawn.num} {drawn.kind}{frames}, {width} x {height}{style}, seed {drawn.seed}"


def _lengths(stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return how much shorter the stages are than the paper's, where they are."""
    found = []
    masked, tuned = stages.get("mp", {}), stages.get("mp_depth", {})
    if 0 < _shown_images(masked) < 125_000 * 2048:
        found.append(f"MP takes {_length(masked)}; SimMIM takes 125 000 steps and more of 2048, of 192 pixels.")
    if (cell := masked.get("options", {}).get("cell", 32)) != 32:
        found.append(f"Cells of {cell} pixels are hidden, SimMIM's are of 32.")
    if 0 < _shown_images(tuned) < 75 * 24_231:
        found.append(f"Fine-tuning takes {_length(tuned)}; the paper's takes 75 epochs of 24 231, of 480 pixels.")
    return found


def _shown_images(stage: Mapping[str, Any]) -> int:
    return stage.get("steps", 0) * stage.get("batch", 0)


def _length(stage: Mapping[str, Any]) -> str:
    return f"{stage['steps']} steps of {stage['batch']} images, of {stage.get('size')} pixels"


def _teacher(scenes: Mapping[str, Settings], given: Mapping[str, str]) -> list[str]:
    """Return what stands for LeReS, and whether it knows what the others do not."""
    if "videos" in given or "rooms" not in scenes:
        return []
    found = ["Pseudo-depth is that of a network of ours, trained on procedural rooms with truth; the paper's is LeReS."]
    if "ibims1" not in given and scenes["rooms"].style == scenes["ibims1"].style != scenes["videos"].style:
        found.append(
            f'That network learnt from rooms of style "{scenes["rooms"].style}", which is also that of the test out of '
            "distribution and which no other training shows: some of what SP gains there may be that."
        )
    return found
