"""A rehearsal of a study: all that a scale runs, in minutes, so that what would fail after weeks fails first.

Every stage takes two steps with a small encoder and small images, on procedural data in the layouts of the real data
sets. Scores, comparisons, tables and figures follow as in the study itself. Tasks, heads, losses, schedules and
precision are those of the scale. The numbers mean nothing.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from cka_probe.comparison.ranks import world_size
from cka_probe.errors import RecipeError
from cka_probe.lab.scenes import Settings
from cka_probe.lab.tasks.task import least_images
from cka_probe.lab.training import Recipe
from cka_probe.lab.training.recipe import Stage
from cka_probe.models.architectures import ARCHITECTURES

T = TypeVar("T")

STEPS, BATCH, IMAGES = 2, 2, 6
"""Steps of a stage, images of a step, and images that models are scored and compared over."""

SCENES, SIZE, TEST = 15, (128, 160), 0.4
"""Procedural scenes of each data set, pixels of an image (an unscaled crop has to fit), and the share to test on."""

SMALL = {"swinv2": "swinv2_micro", "resnet": "resnet18", "dinov2": "dinov2_micro", "vit": "vit_micro"}
"""The encoder that rehearses those of a family."""

SHRINKING, STEP, LEAST, MOST = 5, 32, 64, 128
"""Divisor of the sides of the input, and what they are multiples of, at least and at most: 192 becomes 64, 480 96."""

COUNTS = re.compile(r"(?<=[?&])(num|each)=\d+")
"""Options of a data set that ask for more images than a rehearsal has."""

EXTRA = re.compile(r":train_extra$")
"""A split that generated data does not have."""


def rehearsal_folder(out: Path) -> Path:
    """Return the folder of the rehearsal of a study, next to that of the study.

    >>> rehearsal_folder(Path("runs/mesa")).as_posix()
    'runs/mesa_rehearsal'
    """
    out = out.resolve() if out.name in ("", "..") else out
    return out.with_name(f"{out.name}_rehearsal")


def rehearsal_scenes(declarations: Mapping[str, Any]) -> Mapping[str, Settings]:
    """Return what a rehearsal generates in place of each data set of a paper."""
    return MappingProxyType(
        {
            name: Settings(**scene | {"num": SCENES, "size": SIZE, "test": TEST if scene.get("test", TEST) else 0.0})
            for name, scene in declarations["scenes"].items()
        }
    )


def rehearsal_scale(scale: T, declarations: Mapping[str, Any], **changes: Any) -> T:
    """Return a scale that runs what another one does on the data of a rehearsal.

    Args:
        scale: A dataclass with the fields `scenes`, `num` and `rehearsal`.
        declarations: Of its paper.
        changes: More fields.
    """
    common = {"scenes": rehearsal_scenes(declarations), "num": IMAGES, "rehearsal": True}
    return replace(scale, **common | changes)  # type: ignore[type-var]  # each paper has a dataclass of its own


def rehearsed(recipe: Recipe) -> Recipe:
    """Return a recipe with the same stages in small.

    Raises:
        RecipeError: There is no small encoder of its family.
    """
    family = next((family for family in SMALL if recipe.architecture.startswith(family)), None)
    if family is None:
        raise RecipeError(
            f"{recipe.name}: expected an architecture of {', '.join(SMALL)}, found {recipe.architecture}; rehearse one "
            "of these"
        )
    name = SMALL[family]
    token = ARCHITECTURES[name].token
    stages = tuple(_rehearsed(stage, token) for stage in recipe.stages)
    return replace(recipe, architecture=name, size=_small(recipe.size, token), stages=stages)


def _rehearsed(stage: Stage, token: int) -> Stage:
    batch = max(BATCH, least_images(stage.build_task()) * world_size())
    return replace(
        stage,
        steps=STEPS,
        batch=batch,
        accumulate=min(stage.accumulate, 2),
        warmup=min(stage.warmup, 1),
        num=min(stage.num, BATCH),
        held_out=min(stage.held_out, 2),
        calibrate=min(stage.calibrate, 1),
        log_every=1,
        save_every=STEPS,
        validate_every=0,
        size=_small(stage.size, token, getattr(stage.build_task(), "multiple", 1)),
        data=tuple(EXTRA.sub(":train", COUNTS.sub(r"\1=1", spec)) for spec in stage.data),
        validation=tuple(COUNTS.sub(r"\1=1", spec) for spec in stage.validation),
    )


def _small(size: int | tuple[int, int], token: int, multiple: int = 1) -> int | tuple[int, int]:
    """Return the sides of a rehearsal's input, multiples of what its task needs.

    >>> _small(192, 1), _small(480, 1), _small((192, 640), 1), _small(518, 14), _small(896, 16)
    (64, 96, (64, 128), 112, 128)
    """
    if isinstance(size, tuple):
        return _side(size[0], token, multiple), _side(size[1], token, multiple)
    return _side(size, token, multiple)


def _side(side: int, token: int, multiple: int) -> int:
    unit = math.lcm(2 * token if token > 1 else STEP, multiple)  # DPT halves the number of patches
    return min(unit * math.ceil(max(side / SHRINKING, LEAST) / unit), unit * max(1, MOST // unit))


def describe_rehearsal(scale: str) -> tuple[str, str]:
    """Return what a rehearsal of a scale tried, and what it did not."""
    processes = world_size()
    return (
        f"Rehearsed in {f'{processes} processes' if processes > 1 else 'one process'}: every stage, score, comparison, "
        f"table and figure of the scale {scale}, with {STEPS} steps a stage, small encoders, and small procedural "
        "images in the layouts of the real data.",
        "Not rehearsed: the real files, the memory of the full size, its time, other numbers of processes, and whether "
        "anything is learnt. The numbers mean nothing.",
    )
