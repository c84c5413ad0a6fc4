"""From a case to what it changes in the recipe of fine-tuning, as `--set` writes it.

All trials of one number have one seed, whatever arm and case: the same training images in the same order, mirrored
alike, and the same weights where a head is new. So arms are compared in pairs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cka_probe.errors import RecipeError
from cka_probe.lab.training import Recipe, read_recipe
from cka_probe.papers.depth_to_semantic.cases import Case
from cka_probe.papers.depth_to_semantic.scales import LABELLED, Scale
from cka_probe.papers.depth_to_semantic.study_paths import SEGMENT

SIDES = {"low": 0.5, "high": 2.0}
"""Input sides over the recipe's own, by a case's `size`."""

STEP, LEAST = 32, 64
"""What the skip network asks of its input's sides: multiples of the one, no less than the other."""

OUTPUT_STRIDE = {"deeplab": 16}
"""Of the encoder below a network."""

QUIRKED: dict[str, tuple[str, Any]] = {
    "accumulated_gradients": ("zero_grad", False),
    "bicubic_labels": ("options.bicubic_labels", True),
    "rate_per_epoch": ("rate_per", "epoch"),
    "unmirrored": ("options.flip", False),
    "first_images": ("choose", "first"),
}
"""What a quirk sets, whatever the case."""

LIKE_IMAGENET = ("classification", "contrastive")
"""Arms whose images the released code normalises as ImageNet's, before the encoder does it in its own way; to the
others it does so once, as we do."""

MOST_TRIALS = 1000
"""Of one seed: more would have the seeds of the next one's."""


@dataclass(frozen=True)
class Trial:
    """One run of a case.

    Attributes:
        case: What is done.
        rate: Highest learning rate.
        seed: Of the study.
        number: Which of the case's trials, from 0.
    """

    case: Case
    rate: float
    seed: int
    number: int

    @property
    def drawn(self) -> int:
        """Return the seed that its images, their order and its head follow from."""
        return MOST_TRIALS * self.seed + self.number


def tuning_recipe(
    scale: Scale, trial: Trial, start: str | Path, paths: Mapping[str, str], settings: Sequence[str]
) -> Recipe:
    """Return the recipe of one fine-tuning.

    Args:
        scale: Which recipe it is a case of.
        trial: What is run.
        start: The checkpoint of its arm.
        paths: Of the data, by name.
        settings: `--set` of the recipe: for every case alike.

    Raises:
        RecipeError: What does not fit.
    """
    always = [*scale.segment_settings, *settings, f"data.train={scale.train(trial.case.data, paths)}"]
    plain = read_recipe(scale.segment, always)
    if [stage.name for stage in plain.stages] != [SEGMENT]:
        raise RecipeError(f"{scale.segment}: expected the one stage {SEGMENT!r}, found {_names(plain)}; give it that")
    keys = {"start": str(start), "lr": trial.rate} | changed(trial.case, plain, scale.calibrate)
    return read_recipe(
        scale.segment,
        [*always, f"seed={trial.drawn}", *(f"{SEGMENT}.{key}={_toml(value)}" for key, value in keys.items())],
    )


def changed(case: Case, plain: Recipe, calibrate: int) -> dict[str, Any]:
    """Return what a case sets, by key of the stage.

    Args:
        case: The case.
        plain: The recipe without it.
        calibrate: Batches that a frozen encoder of chance is shown before it is frozen. Its batch norms know nothing
            of any image: without, it is fed through statistics of 0 and 1 that no layer has.
    """
    data, stage = LABELLED[case.data], plain.stages[0]
    keys: dict[str, Any] = {"options.network": case.network, "options.classes": data.classes}
    keys["options.subset"] = list(data.subset)
    if case.network in OUTPUT_STRIDE:
        keys["output_stride"] = OUTPUT_STRIDE[case.network]
    if case.num:
        keys["num"] = case.num
    if case.size:
        keys["size"] = [_side(side * SIDES[case.size]) for side in stage.shape]
    if case.mode == "encoder":
        keys["reset_head"] = True
    if case.mode == "frozen":
        keys["freeze"] = "statistics" if "unfrozen_encoder" in case.quirks else "encoder"
        if case.arm == "none" and keys["freeze"] == "encoder":
            keys["calibrate"] = calibrate
    if "normalised_twice" in case.quirks and case.arm in LIKE_IMAGENET:
        keys["normalisation"] = "imagenet_twice"
    return keys | dict(QUIRKED[quirk] for quirk in case.quirks if quirk in QUIRKED)


def _side(pixels: float) -> int:
    """Return the nearest side that the skip network takes."""
    return max(LEAST, STEP * round(pixels / STEP))


def _toml(value: Any) -> str:
    """Return a value as TOML writes it, which for these is as JSON does."""
    return json.dumps(value, ensure_ascii=False)


def _names(recipe: Recipe) -> str:
    return ", ".join(stage.name for stage in recipe.stages)
