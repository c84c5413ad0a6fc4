"""From settings and cases to recipes of pre-training and of fine-tuning.

`docs/papers.md` lists what `--set` may change.

All trials of one number have one seed, whatever their arm and case: the same training images in the same order,
mirrored alike, and the same weights where a head is new. So arms are compared in pairs.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cka_probe import registry
from cka_probe.errors import RecipeError
from cka_probe.lab.training import Recipe, read_recipe
from cka_probe.lab.training.recipe import parse_value
from cka_probe.lab.training.start import normalised, random_backbone, reference, resized
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint
from cka_probe.models.load import load
from cka_probe.papers.depth_to_semantic.study import ARMS, DECLARATIONS, LABELLED, NONE, SEGMENT, Case, Scale
from cka_probe.papers.rehearsal import rehearsed
from cka_probe.papers.study import split_counts

STUDY_KEYS: dict[str, str] = DECLARATIONS["study_keys"]


@dataclass(frozen=True)
class StudySettings:
    """What a user has changed: paths of data by name, `--set` of both recipes, learning rates, weight files by arm, and
    numbers of images."""

    data: dict[str, str]
    pre: list[str]
    segment: list[str]
    rates: tuple[float, ...] = ()
    weights: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)

    def applied(self, scale: Scale) -> Scale:
        """Return the scale with the learning rates, weight files and numbers of images of the user."""
        scale = replace(scale, rates=self.rates, rates_of={}) if self.rates else scale
        return replace(scale, weights=self.weights, **self.counts)


def read_settings(settings: Sequence[str]) -> StudySettings:
    """Parse `KEY=VALUE`s.

    Raises:
        RecipeError: A key is unknown, or the study sets it itself.
    """
    counts, settings = split_counts(settings, ("num", "tested"))
    parsed = StudySettings({}, [], [], counts=counts)
    for text in settings:
        key, equals, value = text.partition("=")
        part, _, rest = key.strip().partition(".")
        if equals and part == "data" and rest:
            parsed.data[rest] = value.strip().strip("\"'")
        elif equals and part == "weights" and rest:
            parsed.weights[_trained_arm(rest)] = value.strip().strip("\"'")
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
                f"--set {text}: expected data.NAME=PATH, pre.STAGE.KEY=VALUE, {SEGMENT}.KEY=VALUE, weights.ARM=FILE, "
                "architecture=NAME, num=N, tested=N or rates=[NUMBER, …]"
            )
    return parsed


def _trained_arm(name: str) -> str:
    """Return the name of an arm that can have weights, or raise `UnknownNameError`."""
    registry.get({arm: None for arm in ARMS if arm != NONE}, name, "arm with weights")
    return name


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


def architecture_of(arm: str, architecture: str) -> str:
    """Return the architecture of an arm where the recipe has this one.

    >>> architecture_of("dinov2", "vit_large"), architecture_of("mae", "vit_large"), architecture_of("coco", "resnet50")
    ('dinov2_large', 'vit_large', 'resnet50')
    """
    family, _, size = architecture.partition("_")
    return (
        f"{DECLARATIONS['family_of'][arm]}_{size}"
        if family == "vit" and arm in DECLARATIONS["family_of"]
        else architecture
    )


def pretraining_recipe(
    scale: Scale, seed: int, settings: Sequence[str], paths: Mapping[str, str], arm: str = NONE
) -> Recipe:
    """Return the recipe that trains the arms of a scale and the stages that they start from.

    Paths of its data are by name; a name without a path stays in braces. Its architecture is that of `arm`.

    Raises:
        RecipeError: A setting cannot be used, or an arm has no stage.
    """
    named = {name: paths.get(name, f"{{{name}}}") for name in PRETRAINED_ON}
    data = [f"data.{name}={path}" for name, path in named.items()]
    recipe = read_recipe(scale.pre, [*scale.pre_settings, *settings, f"seed={seed}", *data])
    recipe = replace(recipe, architecture=architecture_of(arm, recipe.architecture))
    starts = [(stage, reference(recipe, stage)) for stage in recipe.stages if stage.name not in scale.weights]
    stages = (replace(stage, start=scale.weights.get(start, start)) for stage, start in starts)
    recipe = replace(recipe, stages=tuple(stages))
    files = scale.stand_ins or scale.weights
    stage_names = [*files, *(stage.name for stage in recipe.stages)]
    if missing := [arm for arm in scale.arms if arm != NONE and arm not in stage_names]:
        raise RecipeError(
            f"{recipe.name}: expected a stage for the arm {missing[0]!r}, found {', '.join(stage_names)}; add it, or "
            f"give a file: --set weights.{missing[0]}=FILE"
        )
    names = set(scale.arms)
    for stage in reversed(recipe.stages):  # a stage starts from an earlier one
        if stage.name in names:
            names.add(reference(recipe, stage))
    recipe = replace(recipe, stages=tuple(stage for stage in recipe.stages if stage.name in names))
    return rehearsed(recipe) if scale.rehearsal else recipe


def data_of(scale: Scale, settings: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the data that a scale's arms are pre-trained on: those that stand in their stages."""
    stages = pretraining_recipe(scale, 0, settings, {}).stages
    names = {name for stage in stages for spec in (*stage.data, *stage.validation) for name in NAMED.findall(spec)}
    return tuple(name for name in PRETRAINED_ON if name in names)


def labelled_data(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the paths in what is fine-tuned and tested on, of `LABELLED`."""
    specs = (LABELLED[name][part] for name in names for part in ("train", "test"))
    return tuple(dict.fromkeys(name for spec in specs for name in NAMED.findall(spec) if name != "tested"))


def write_untrained(recipe: Recipe, arm: str, path: Path) -> None:
    """Write the encoder as the recipe's seed initialises it, alone, as a checkpoint like those of the other arms."""
    if not path.exists():
        _write_encoder(recipe, normalised(random_backbone(recipe, recipe.size), NORMALISATION), arm, path)


def write_given(recipe: Recipe, arm: str, file: str, path: Path) -> None:
    """Write the encoder in a file as a checkpoint like those of the other arms, at the recipe's size.

    Raises:
        RecipeError: The file has weights of another architecture.
    """
    if path.exists():
        return
    backbone = load(file, arch=recipe.architecture)
    if backbone.origin.architecture != recipe.architecture:
        raise RecipeError(
            f"weights.{arm}: expected weights of {recipe.architecture}, found {backbone.origin.architecture} in "
            f"{file}; set architecture, or give another file"
        )
    backbone = normalised(
        resized(backbone, recipe.size), DECLARATIONS["case_keys"].get(arm, {}).get("normalisation", "")
    )
    _write_encoder(recipe, backbone, arm, path)


def _write_encoder(recipe: Recipe, backbone: Backbone, arm: str, path: Path) -> None:
    if (size := backbone.preprocessing.size) is None:
        raise RecipeError(f"{recipe.name}: expected an input size, found none; set size")
    height, width = size
    header = Checkpoint(
        architecture=recipe.architecture,
        options=backbone.origin.options,
        mean=backbone.preprocessing.mean,
        std=backbone.preprocessing.std,
        stage=arm,
        seed=recipe.seed,
        size=() if height == width else (height, width),
    )
    save_checkpoint(path, backbone, None, header)


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
    data = [f"data.{part}={scale.labelled(trial.case.data, part, paths)}" for part in ("train", "test")]
    common = [*scale.segment_settings, *settings, *data]
    plain = read_recipe(scale.segment, common)
    architecture = architecture_of(trial.case.arm, plain.architecture)
    common, plain = [*common, f"architecture={architecture}"], replace(plain, architecture=architecture)
    if [stage.name for stage in plain.stages] != [SEGMENT]:
        raise RecipeError(
            f"{scale.segment}: expected the one stage {SEGMENT!r}, found "
            f"{', '.join(stage.name for stage in plain.stages)}; use a recipe with that stage"
        )
    keys = {"start": str(start), "lr": trial.rate} | case_keys(trial.case, plain, scale)
    values = (f"{SEGMENT}.{key}={_toml(value)}" for key, value in keys.items())
    recipe = read_recipe(scale.segment, [*common, f"seed={trial.random_seed}", *values])
    rates = scale.rates_for(trial.case)
    if len(rates) > 1 and not recipe.stages[0].held_out:
        raise RecipeError(
            f"{trial.case.name}: expected held-out images, by which one of {len(rates)} learning rates is "
            f"chosen, found none; add --set {SEGMENT}.held_out=40 --set {SEGMENT}.validation=[], or give one rate"
        )
    return rehearsed(recipe) if scale.rehearsal else recipe


def _toml(value: Any) -> str:
    """Return a value as in TOML, which differs from JSON in tables alone."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def case_keys(case: Case, plain: Recipe, scale: Scale) -> dict[str, Any]:
    """Return the keys of the stage that a case sets in the plain recipe: those of its words, in this order.

    An untrained encoder is shown some batches to `calibrate` before it is frozen. Otherwise its batch norms would keep
    their initial statistics of 0 and 1, which no layer has.
    """
    data = LABELLED[case.data]
    keys: dict[str, Any] = {"options.classes": data["classes"]}
    if case.has_objects:
        keys = {"options": {"classes": data["classes"]}}  # in place of those of the recipe
    else:
        keys |= {"options.network": case.network, "options.subset": data.get("subset", [])}
    data_words = (case.data, f"{case.data} {plain.architecture}")
    words = (case.arm, *data_words, case.network, case.mode, case.size, case.setting, *case.quirks)
    for word in words:
        keys |= scale.keys_of(word)
    if case.num:
        keys["num"] = case.num
    if case.mode == "frozen" and "unfrozen_encoder" in case.quirks:
        keys["freeze"] = "statistics"
    elif case.mode == "frozen" and case.arm == NONE:
        keys["calibrate"] = scale.calibrate
    if "normalised_twice" in case.quirks and case.arm in LIKE_IMAGENET:
        keys["normalisation"] = "imagenet_twice"
    return keys
