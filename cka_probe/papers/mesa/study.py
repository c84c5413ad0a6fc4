"""What a study of MeSa consists of (`paper.toml`): arms, data, scales.

An arm is one way of pre-training, followed by the same fine-tuning for depth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cka_probe.lab.scenes import Settings
from cka_probe.papers.study import read_declarations, read_scales

DECLARATIONS = read_declarations(Path(__file__).with_name("paper.toml"))


class Arm(NamedTuple):
    """One way of pre-training, and its fine-tuning: its name, and the stages whose checkpoints end them."""

    name: str
    pre: str
    tuned: str


ROOMS, OBJECTS, BASELINES, CONTROL_ARMS, PRETRAINED = (
    tuple(Arm(name, *stages) for name, stages in DECLARATIONS["arms"][group].items())
    for group in ("rooms", "objects", "baselines", "controls", "pretrained")
)
ARMS = (*ROOMS, *OBJECTS, *BASELINES)
"""All arms that are fine-tuned alike, in the order of the tables."""

TRAINED_ON = ("lsun", "imagenet", "videos", "nyuv2")
"""The data of a recipe by name, as its `[data]` has them."""

NEEDED = (*TRAINED_ON, "ibims1")
"""The data of a study, with `rooms` where a teacher is trained."""


@dataclass(frozen=True)
class Scale:
    """How large a study is; `paper.toml` says what each key means."""

    recipe: str
    teacher: str
    num: int
    scenes: Mapping[str, Settings]
    teacher_settings: tuple[str, ...] = ()


SCALES = read_scales(Scale, DECLARATIONS)
