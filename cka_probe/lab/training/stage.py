"""A stage of a recipe: what is trained on what, from where, for how long and how fast."""

from dataclasses import dataclass, field
from typing import Any

from cka_probe import registry
from cka_probe.errors import RecipeError
from cka_probe.lab.tasks import TASKS, Task
from cka_probe.lab.training.freezing import FREEZES
from cka_probe.lab.training.optimiser import UNDECAYED
from cka_probe.lab.training.schedule import SCHEDULES
from cka_probe.lab.training.tables import read_table
from cka_probe.models.backbone import NORMALISATIONS

CHOICES, RATES = ("random", "first"), ("step", "epoch")
PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Stage:
    """One part of a recipe: a task on some data for some steps.

    Attributes:
        name: Its key in `[stages]`; names its files.
        task: In `TASKS`.
        data: Datasets, `NAME:PATH:SPLIT`; several are put one after another.
        steps: Optimiser steps.
        batch: Images per step, over all processes.
        lr: Highest learning rate.
        validation: Datasets to evaluate on; none: no evaluation.
        start: An earlier stage, a file, or "random"; by default the stage before, and "random" for the first.
        size: Input side in pixels, or [height, width]; 0 is the recipe's.
        num: Images of `data` that are trained on; 0 is all. Which ones follows from the recipe's seed alone, so that
            all its stages take the same, and fewer are a part of more.
        held_out: Images of `data` that are validated on instead: the last of the order that `num` takes the first of.
        choose: "random", or "first" for the first `num` in the data's order.
        output_stride: Input pixels per step of the encoder's last map; 16 dilates the last stage of a ResNet. 0 leaves
            it as it was.
        freeze: In `FREEZES`: what of the encoder stays as it is.
        calibrate: Batches that the encoder's batch norms are shown before the first step, to take their statistics
            from; 0 leaves them as they were.
        zero_grad: Whether each step begins with no gradient. Without, all gradients since the start add up: a fault of
            the released code of Depth-to-Semantic.
        rate_per: "step", or "epoch": the rate is set when an epoch begins, and kept.
        schedule: In `SCHEDULES`.
        warmup: Steps in which the rate rises.
        lr_min: What the schedule falls to.
        weight_decay: AdamW's.
        clip: Longest gradient; 0 does not clip.
        layer_decay: Rate of a layer over that of the next.
        undecayed: Parameters with one of these in their names do not decay; nor do biases and norms. SimMIM's
            pre-training has none: `[]`.
        drop_path: Probability that an image skips a branch of the encoder's last block; falls linearly to 0 at
            the first. Of this stage alone: the next one does not take it over.
        accumulate: Parts that a batch is worked through in, one after another; their gradients are averaged.
        precision: "no", "bf16" or "fp16".
        normalisation: In `NORMALISATIONS`: how the encoder's input is scaled; "" leaves it as it was.
        reset_head: Begin with a new head even where the start has one that this task can go on with.
        cache: Whether what was decoded is kept, in a temporary folder, for all epochs and workers.
        log_every: Steps between rows of the log.
        save_every: Steps between resume points.
        validate_every: Steps between evaluations; 0 is at the end only.
        options: The task's own.
    """

    name: str
    task: str
    data: tuple[str, ...]
    steps: int
    batch: int
    lr: float
    validation: tuple[str, ...] = ()
    start: str = ""
    size: int | tuple[int, int] = 0
    num: int = 0
    held_out: int = 0
    choose: str = "random"
    output_stride: int = 0
    freeze: str = ""
    calibrate: int = 0
    zero_grad: bool = True
    rate_per: str = "step"
    schedule: str = "cosine"
    warmup: int = 0
    lr_min: float = 0.0
    weight_decay: float = 0.05
    clip: float = 0.0
    layer_decay: float = 1.0
    undecayed: tuple[str, ...] = UNDECAYED
    drop_path: float = 0.0
    accumulate: int = 1
    precision: str = "no"
    normalisation: str = ""
    reset_head: bool = False
    cache: bool = False
    log_every: int = 10
    save_every: int = 500
    validate_every: int = 0
    options: dict = field(default_factory=dict)

    def __post_init__(self):
        where = f"stages.{self.name}"
        registry.get(TASKS, self.task, "task")
        registry.get(SCHEDULES, self.schedule, "schedule")
        registry.get(PRECISIONS, self.precision, "precision")
        registry.get(NORMALISATIONS | {"": None}, self.normalisation, "normalisation")
        if self.freeze:
            registry.get({name: words for name, words in FREEZES.items() if name}, self.freeze, "way to freeze")
        registry.get(dict.fromkeys(CHOICES), self.choose, "choice of images")
        registry.get(dict.fromkeys(RATES), self.rate_per, "time to set the rate")
        object.__setattr__(self, "size", checked_size(self.size, f"{where}.size"))
        for key in ("steps", "batch", "accumulate", "log_every", "save_every"):
            check(getattr(self, key) >= 1, f"{where}.{key}", "at least 1", getattr(self, key))
        check(self.output_stride in (0, 8, 16, 32), f"{where}.output_stride", "0, 8, 16 or 32", self.output_stride)
        for key in ("lr_min", "warmup", "weight_decay", "clip", "validate_every", "num", "held_out", "calibrate"):
            check(getattr(self, key) >= 0, f"{where}.{key}", "0 or more", getattr(self, key))
        check(self.lr > 0, f"{where}.lr", "more than 0", self.lr)
        check(self.warmup <= self.steps, f"{where}.warmup", f"at most the {self.steps} steps", self.warmup)
        check(0 < self.layer_decay <= 1, f"{where}.layer_decay", "a number in (0, 1]", self.layer_decay)
        check(0 <= self.drop_path < 1, f"{where}.drop_path", "a number in [0, 1)", self.drop_path)
        parts = f"a divisor of the batch of {self.batch}"
        check(self.batch % self.accumulate == 0, f"{where}.accumulate", parts, self.accumulate)
        check(bool(self.data), f"{where}.data", "at least one dataset", [])
        either = "not both `validation` and `held_out`"
        check(not (self.validation and self.held_out), f"{where}.held_out", either, self.held_out)

    def build_task(self) -> Task:
        """Return the task with this stage's size and options."""
        kind = registry.get(TASKS, self.task, "task")
        return read_table(kind, self.options, f"stages.{self.name}.options", size=self.shape)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the height and width of the network's input, pixels."""
        return both_sides(self.size)


def checked_size(size: Any, key: str) -> int | tuple[int, int]:
    """Return a side, 0 or more pixels, or (height, width).

    Raises:
        RecipeError: It is neither.
    """
    sides = list(size) if isinstance(size, list | tuple) else [size]
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in sides)
    check(whole and (sides == [size] or (len(sides) == 2 and min(sides) > 0)), key, "0, a side or two sides", size)
    return size if sides == [size] else tuple(sides)


def both_sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a side or of both.

    >>> both_sides(64), both_sides((192, 640))
    ((64, 64), (192, 640))
    """
    return (size, size) if isinstance(size, int) else tuple(size)


def check(holds: bool, key: str, expected: str, found: Any) -> None:
    """Raise `RecipeError` unless something holds of the key."""
    if not holds:
        raise RecipeError(f"{key}: expected {expected}, found {found!r}")
