"""From settings and cases to recipes of pre-training and of fine-tuning.

`docs/papers.md` lists what `--set` may change.

All trials of one number have one seed, whatever their arm and case: the same training images in the same order,
mirrored alike, and the same weights where a head is new. So arms are compared in pairs.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cka_probe.errors import RecipeError
from cka_probe.lab.training import Recipe, read_recipe
from cka_probe.lab.training.recipe import parse_value
from cka_probe.lab.training.start import normalised, random_backbone, reference
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint
from cka_probe.papers.depth_to_semantic.study import DECLARATIONS, LABELLED, NONE, SEGMENT, Case, Scale
from cka_probe.papers.rehearsal import rehearsed

STUDY_KEYS: dict[str, str] = DECLARATIONS["study_keys"]


@dataclass(frozen=True)
class StudySettings:
    """What a user has changed: paths by name, `--set` of both recipes, and the learning rates to try, if any."""

    data: dict[str, str]
    pre: list[str]
    segment: list[str]
    rates: tuple[float, ...] = ()

    def applied(self, scale: Scale) -> Scale:
        """Return the scale with the learning rates of the user."""
        return replace(scale, rates=self.rates) if self.rates else scale


def read_settings(settings: Sequence[str]) -> StudySettings:
    """Parse `KEY=VALUE`s.

    Raises:
        RecipeError: A key is unknown, or the study sets it itself.
    """
    parsed = StudySettings({}, [], [])
    for text in settings:
        key, equals, value = text.partition("=")
        part, _, rest = key.strip().partition(".")
        if equals and part == "data" and rest:
            parsed.data[rest] = value.strip().strip("\"'")
        elif equals and part == "pre" and rest:
            _refuse_study_keys(rest, text, ("seed", "data"))
            parsed.pre.append(f"{rest}={value}")
        elif equals and part == SEGMENT and rest:
            _refuse_study_keys(rest, text, STUDY_KEYS)
            parsed.segment.append(text)
        elif equals and part in ("architecture", "options"):
            parsed.pre.append(text)
            parsed.segment.append(text)
        elif equals and key.strip() == "rates":
            parsed = replace(parsed, rates=_rates(value))
        else:
            raise RecipeError(
                f"--set {text}: expected data.NAME=PATH, pre.STAGE.KEY=VALUE, {SEGMENT}.KEY=VALUE, architecture=NAME "
                "or rates=[NUMBER, …]"
            )
    return parsed


def _refuse_study_keys(key: str, text: str, keys: Iterable[str]) -> None:
    for study_key in keys:
        if key == study_key or key.startswith(f"{study_key}."):
            raise RecipeError(f"--set {text}: the study sets this itself; {STUDY_KEYS[study_key]}")


def _rates(text: str) -> tuple[float, ...]:
    """Return learning rates from TOML."""
    value = parse_value(text)
    rates = value if isinstance(value, list) else [value]
    if not rates or not all(isinstance(rate, int | float) and rate > 0 for rate in rates):
        raise RecipeError(f"--set rates={text}: expected numbers above 0 as in rates=[1e-4, 1e-3]")
    return tuple(dict.fromkeys(float(rate) for rate in rates))


PRETRAINED_ON = ("objects", "kitti", "cityscapes", "rooms")
"""Data of the recipe, by name."""

NAMED = re.compile(r"\{(\w+)\}")
"""The name of a data set without a path."""

NORMALISATION = "sc_depth"
"""Of the untrained encoder: Monodepth2's, as of most arms."""


def pretraining_recipe(scale: Scale, seed: int, settings: Sequence[str], paths: Mapping[str, str]) -> Recipe:
    """Return the recipe that trains the arms of a scale and the stages that they start from.

    Paths of its data are by name; a name without a path stays in braces.

    Raises:
        RecipeError: A setting cannot be used, or an arm has no stage.
    """
    named = {name: paths.get(name, f"{{{name}}}") for name in PRETRAINED_ON}
    data = [f"data.{name}={path}" for name, path in named.items()]
    recipe = read_recipe(scale.pre, [*scale.pre_settings, *settings, f"seed={seed}", *data])
    stage_names = [stage.name for stage in recipe.stages]
    if missing := [arm for arm in scale.arms if arm != NONE and arm not in stage_names]:
        raise RecipeError(
            f"{recipe.name}: expected a stage for the arm {missing[0]!r}, found {', '.join(stage_names)}; add it"
        )
    names = set(scale.arms)
    for stage in reversed(recipe.stages):  # a stage starts from an earlier one
        if stage.name in names:
            names.add(reference(recipe, stage))
    stages = tuple(replace(stage, start=reference(recipe, stage)) for stage in recipe.stages if stage.name in names)
    recipe = replace(recipe, stages=stages)
    return rehearsed(recipe) if scale.rehearsal else recipe


def data_of(scale: Scale, settings: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the data that a scale's arms are pre-trained on: those that stand in their stages."""
    stages = pretraining_recipe(scale, 0, settings, {}).stages
    names = {name for stage in stages for spec in (*stage.data, *stage.validation) for name in NAMED.findall(spec)}
    return tuple(name for name in PRETRAINED_ON if name in names)


def write_untrained(recipe: Recipe, path: Path) -> None:
    """Write the encoder as the recipe's seed initialises it, alone, as a checkpoint like those of the other arms."""
    if path.exists():
        return
    backbone = normalised(random_backbone(recipe, recipe.size), NORMALISATION)
    if (size := backbone.preprocessing.size) is None:
        raise RecipeError(f"{recipe.name}: expected an input size, found none; set size")
    height, width = size
    header = Checkpoint(
        architecture=recipe.architecture,
        options=backbone.origin.options,
        mean=backbone.preprocessing.mean,
        std=backbone.preprocessing.std,
        stage=NONE,
        seed=recipe.seed,
        size=() if height == width else (height, width),
    )
    save_checkpoint(path, backbone, None, header)


STEP, LEAST = 32, 64
"""Sides of the skip network's input are multiples of `STEP` and at least `LEAST`."""

LIKE_IMAGENET = ("classification", "contrastive")
"""Arms whose images the released code normalises as ImageNet's before the encoder normalises them again; those of the
others are normalised once, as here."""

MOST_TRIALS = 1000
"""Per seed: more trials would repeat the random seeds of the next seed's trials."""


@dataclass(frozen=True)
class Trial:
    """One run of a case: the seed of the study, the number of the trial, from 0, and the highest learning rate."""

    case: Case
    rate: float
    seed: int
    number: int

    @property
    def random_seed(self) -> int:
        """The seed of its images, their order and its head."""
        return MOST_TRIALS * self.seed + self.number


def tuning_recipe(
    scale: Scale, trial: Trial, start: str | Path, paths: Mapping[str, str], settings: Sequence[str]
) -> Recipe:
    """Return the recipe of one fine-tuning, which starts from the checkpoint of the arm.

    Raises:
        RecipeError: A setting or the recipe cannot be used.
    """
    common = [*scale.segment_settings, *settings, f"data.train={scale.labelled(trial.case.data, 'train', paths)}"]
    plain = read_recipe(scale.segment, common)
    if [stage.name for stage in plain.stages] != [SEGMENT]:
        raise RecipeError(
            f"{scale.segment}: expected the one stage {SEGMENT!r}, found "
            f"{', '.join(stage.name for stage in plain.stages)}; use a recipe with that stage"
        )
    keys = {"start": str(start), "lr": trial.rate} | case_keys(trial.case, plain, scale.calibrate)
    values = (f"{SEGMENT}.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in keys.items())  # as in TOML
    recipe = read_recipe(scale.segment, [*common, f"seed={trial.random_seed}", *values])
    return rehearsed(recipe) if scale.rehearsal else recipe


def case_keys(case: Case, plain: Recipe, calibrate: int) -> dict[str, Any]:
    """Return the keys of the stage that a case sets in the plain recipe.

    An untrained encoder is shown some batches to `calibrate` before it is frozen. Otherwise its batch norms would keep
    their initial statistics of 0 and 1, which no layer has.
    """
    data, stage = LABELLED[case.data], plain.stages[0]
    keys: dict[str, Any] = {"options.network": case.network, "options.classes": data["classes"]}
    keys["options.subset"] = data.get("subset", [])
    if case.num:
        keys["num"] = case.num
    if case.size:
        keys["size"] = [_side(side * DECLARATIONS["sizes"][case.size]) for side in stage.shape]
    for word in (case.network, case.mode, *case.quirks):
        keys |= DECLARATIONS["case_keys"].get(word, {})
    if case.mode == "frozen" and "unfrozen_encoder" in case.quirks:
        keys["freeze"] = "statistics"
    elif case.mode == "frozen" and case.arm == NONE:
        keys["calibrate"] = calibrate
    if "normalised_twice" in case.quirks and case.arm in LIKE_IMAGENET:
        keys["normalisation"] = "imagenet_twice"
    return keys


def _side(pixels: float) -> int:
    """Return the nearest side that the skip network accepts."""
    return max(LEAST, STEP * round(pixels / STEP))
