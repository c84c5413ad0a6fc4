"""Every arm's encoder: a stage each of one recipe, and chance itself, which all but two of them began with."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cka_probe.errors import RecipeError
from cka_probe.lab.training import Recipe, read_recipe
from cka_probe.lab.training.start import normalised, random_backbone, reference
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint
from cka_probe.papers.depth_to_semantic.scales import Scale

NONE = "none"
"""The arm without pre-training."""

PRETRAINED_ON = ("objects", "kitti", "cityscapes", "rooms")
"""Data of the recipe, by name."""

NAMED = re.compile(r"\{(\w+)\}")
"""A name of data that no path was put in for."""

NORMALISATION = "sc_depth"
"""Of chance: that of most arms, Monodepth2's."""


def pretraining_recipe(scale: Scale, seed: int, settings: Sequence[str], paths: Mapping[str, str]) -> Recipe:
    """Return the recipe that trains the arms of a scale, and what they start from.

    Args:
        scale: Which arms.
        seed: Of the study.
        settings: `--set` of the recipe.
        paths: Of its data, by name; a name without one stays as it is, in braces.

    Raises:
        RecipeError: What does not fit, or an arm has no stage.
    """
    named = {name: paths.get(name, f"{{{name}}}") for name in PRETRAINED_ON}
    data = [f"data.{name}={path}" for name, path in named.items()]
    recipe = read_recipe(scale.pre, [*scale.pre_settings, *settings, f"seed={seed}", *data])
    wanted = _with_starts(recipe, [arm for arm in scale.arms if arm != NONE])
    stages = tuple(replace(stage, start=reference(recipe, stage)) for stage in recipe.stages if stage.name in wanted)
    return replace(recipe, stages=stages)


def data_of(scale: Scale, settings: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the data that a scale's arms are pre-trained on: those that stand in their stages."""
    stages = pretraining_recipe(scale, 0, settings, {}).stages
    found = {name for stage in stages for spec in (*stage.data, *stage.validation) for name in NAMED.findall(spec)}
    return tuple(name for name in PRETRAINED_ON if name in found)


def _with_starts(recipe: Recipe, arms: list[str]) -> set[str]:
    """Return the stages of some arms and all that they start from."""
    stages, wanted = {stage.name: stage for stage in recipe.stages}, set()
    while arms:
        name = arms.pop()
        if name not in stages:
            raise RecipeError(
                f"{recipe.name}: expected a stage for the arm {name!r}, found {', '.join(stages)}; add it"
            )
        wanted.add(name)
        if (start := reference(recipe, stages[name])) in stages and start not in wanted:
            arms.append(start)
    return wanted


def write_chance(recipe: Recipe, path: Path) -> None:
    """Write the encoder as the recipe's seed initialises it, alone, as a checkpoint like those of the other arms."""
    if path.exists():
        return
    backbone = normalised(random_backbone(recipe, recipe.size), NORMALISATION)
    height, width = backbone.preprocessing.size
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
