"""A training run as data: a recipe and its stages, read strictly from TOML into frozen dataclasses.

    name = "demo"                         architecture, size, seed, options of the architecture
    [data]    rooms = "data/rooms"        paths by name; a stage refers to one as "nyuv2:{rooms}:train"
    [stages.masked]  task = "masked" ...  stages in order; each starts from the previous one
    [stages.masked.options]  cell = 8     options of the task
    [stages.other]   like = "masked" ...  copies an earlier stage; the keys given here replace its own

Everything is checked before an image is read or a model is built: unknown, missing and mistyped keys, unknown names,
and options that the task does not have.
"""

import json
import re
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin

from cka_probe import files, registry
from cka_probe.errors import RecipeError
from cka_probe.lab.tasks import TASKS, Task
from cka_probe.lab.training.optimizer import OPTIMIZERS, SCHEDULES, UNDECAYED
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import NORMALISATIONS
from cka_probe.registry import suggestion

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

TYPES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}
"""Names of types in messages."""


def read_table(kind: type[T], table: dict[str, Any], where: str, **fixed: Any) -> T:
    """Return `kind(**fixed, **table)`.

    Args:
        kind: A dataclass.
        table: Its fields by name, as TOML gives them; an integer is accepted for a float, a list or a single value for
            a tuple.
        where: Name of the table in messages ("stages.depth").
        fixed: Fields that must not be in the table.

    Raises:
        RecipeError: A key is unknown, missing or of another type.
    """
    keys = {spec.name: spec for spec in fields(cast(Any, kind)) if spec.name not in fixed}
    for key in table.keys() - keys.keys():
        raise RecipeError(f"{where}: unknown key {key!r}; {suggestion(key, keys)}There are: {', '.join(keys)}")
    for key, spec in keys.items():
        if key not in table and spec.default is MISSING and spec.default_factory is MISSING:
            raise RecipeError(f"{where}: expected the key {key!r}, found nothing")
    return kind(**fixed, **{key: _converted(keys[key].type, value, f"{where}.{key}") for key, value in table.items()})


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return TOML as a dict; `where` names it in errors."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{where}: expected TOML, found: {error}; fix it") from error


def parse_json(text: str, where: str) -> dict[str, Any]:
    """Return a JSON object as a dict; `where` names it in errors."""
    try:
        table = files.parse_json(text)
    except ValueError as error:
        raise RecipeError(f"{where}: expected JSON, found: {error}; fix it") from error
    if not isinstance(table, dict):
        raise RecipeError(f"{where}: expected a recipe as an object, found {str(table)[:40]}; give a recipe.json")
    return table


def parse_value(text: str) -> Any:
    """Return a TOML value; any other text is a string without quotes.

    >>> parse_value("1e-3"), parse_value("[8, 16]"), parse_value("cosine")
    (0.001, [8, 16], 'cosine')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _converted(expected: Any, value: Any, where: str) -> Any:
    """Return a TOML value as the type of a field."""
    origin = get_origin(expected)
    if origin is tuple:
        element, *more = get_args(expected)
        values = value if isinstance(value, list | tuple) else [value]
        if more and more[0] is not Ellipsis and len(values) != 1 + len(more):
            raise RecipeError(f"{where}: expected {1 + len(more)} values, found {value!r}")
        return tuple(_converted(element, item, where) for item in values)
    if origin in (Union, types.UnionType):
        return value
    kind = origin or expected
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RecipeError(f"{where}: expected {TYPES.get(kind, kind)}, found {value!r}")
    return value


FREEZES = {
    "": "everything learns",
    "encoder": "the encoder's parameters and the statistics of its batch norms are fixed",
    "statistics": "its batch norms normalise by their statistics, which are fixed; its parameters learn",
}
PRECISIONS = {
    "no": "float32",
    "tf32": "float32, with matrix products and convolutions of GPUs in TF32",
    "bf16": "bfloat16",
    "fp16": "float16",
}
NAMES: dict[str, dict[str, Any]] = {
    "task": TASKS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "normalisation": NORMALISATIONS | {"": None},
    "freeze": FREEZES,
    "choose": dict.fromkeys(("random", "first")),
    "rate_per": dict.fromkeys(("step", "epoch")),
}
"""The names that a key of a stage may have."""

LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "at least 1": (lambda value: value >= 1, "steps batch accumulate log_every save_every"),
    "0 or more": (lambda value: value >= 0, "lr_min warmup weight_decay clip validate_every num held_out calibrate"),
    "0, 8, 16 or 32": (lambda value: value in (0, 8, 16, 32), "output_stride"),
    "more than 0": (lambda value: value > 0, "lr"),
    "a number in (0, 1]": (lambda value: 0 < value <= 1, "layer_decay gamma"),
    "rising shares of the steps": (lambda value: all(0 < a < b for a, b in pairwise((*value, 1.0))), "milestones"),
    "a number in [0, 1)": (lambda value: 0 <= value < 1, "drop_path"),
    "at least one dataset": (bool, "data"),
}
"""What is expected of the values of a stage, with the keys that it concerns."""


@dataclass(frozen=True)
class Stage:
    """One part of a recipe: a task on some data for some steps.

    Attributes:
        name: Its key in `[stages]`; names its files.
        task: In `TASKS`.
        data: Datasets, `NAME:PATH:SPLIT`; several are concatenated.
        steps: Optimiser steps.
        batch: Images per step, over all processes.
        lr: Highest learning rate.
        validation: Datasets to evaluate on; may be empty.
        start: An earlier stage, a file, or "random"; by default the previous stage, and "random" for the first.
        size: Input side in pixels, or [height, width]; 0 is the recipe's.
        num: Number of images of `data` to train on; 0 is all. The choice depends only on the recipe's seed, so that all
            stages train on the same images, and a smaller number on a subset of a larger.
        held_out: Number of images of `data` to validate on instead, from the end of the same order.
        choose: "random", or "first" for the first `num` in the data's order.
        output_stride: Stride of the encoder's last map; 16 dilates the last stage of a ResNet. 0 does not change it.
        freeze: In `FREEZES`: which part of the encoder is fixed.
        calibrate: Number of batches before the first step from which the encoder's batch norms take their statistics; 0
            does not change them.
        zero_grad: Whether each step begins without gradients. Otherwise all gradients since the start add up, a fault
            of the released code of Depth-to-Semantic.
        rate_per: When to set the learning rate: at each "step", or at the first step of an "epoch".
        optimizer: In `OPTIMIZERS`: "adamw", or "sgd" with a momentum of 0.9.
        schedule: In `SCHEDULES`.
        milestones: Of the schedule "step": shares of the steps at which the rate is multiplied by `gamma`.
        gamma: Factor of the rate at a milestone.
        warmup: Steps in which the rate rises.
        lr_min: Lowest learning rate of the schedule.
        weight_decay: Of the optimizer.
        clip: Largest gradient norm; 0 does not clip.
        layer_decay: Rate of a layer over that of the next.
        undecayed: Parts of the names of parameters that do not decay, in addition to biases and norms. SimMIM's
            pre-training has none: `[]`.
        drop_path: Probability that an image skips a branch of the encoder's last block; falls linearly to 0 at
            the first. The next stage does not inherit it.
        sync_batch_norm: Whether batch norms normalise over the images of all processes, as for a batch on one GPU.
            Parts of a batch are normalised separately.
        accumulate: Number of parts of a batch; their gradients are averaged.
        checkpointing: Whether to compute the encoder's activations again in the backward pass, for less memory and
            more time. It changes no result.
        compile: Whether `torch.compile` compiles the encoder's blocks. It needs a C++ compiler and takes minutes at the
            start of a stage. It changes results by rounding, and by the random numbers of `drop_path`.
        precision: In `PRECISIONS`.
        normalisation: In `NORMALISATIONS`: of the encoder's input; "" does not change it.
        reset_head: Begin with a new head even if the start has one that this task can continue from.
        cache: Whether to cache decoded data, in a temporary folder, for all epochs and workers.
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
    optimizer: str = "adamw"
    schedule: str = "cosine"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup: int = 0
    lr_min: float = 0.0
    weight_decay: float = 0.05
    clip: float = 0.0
    layer_decay: float = 1.0
    undecayed: tuple[str, ...] = UNDECAYED
    drop_path: float = 0.0
    sync_batch_norm: bool = False
    accumulate: int = 1
    checkpointing: bool = False
    compile: bool = False
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
        for key, names in NAMES.items():
            registry.get(names, getattr(self, key), key)
        object.__setattr__(self, "size", checked_size(self.size, f"{where}.size"))
        for expected, (holds, keys) in LIMITS.items():
            for key in keys.split():
                check(holds(getattr(self, key)), f"{where}.{key}", expected, getattr(self, key))
        if self.warmup > self.steps:
            raise RecipeError(
                f"{where}.warmup: expected at most the {self.steps} steps of the stage, found {self.warmup};"
                f" set it too: --set {self.name}.warmup={self.steps // 10}"
            )
        of_step = "milestones for the schedule 'step', and for no other"
        check((self.schedule == "step") == bool(self.milestones), f"{where}.milestones", of_step, self.milestones)
        divisor = f"a divisor of the batch of {self.batch}"
        check(self.batch % self.accumulate == 0, f"{where}.accumulate", divisor, self.accumulate)
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
    """Return a side, 0 or more pixels, or (height, width); raise `RecipeError` for anything else."""
    sides = tuple(size) if isinstance(size, list | tuple) else (size,)
    whole = all(type(side) is int and side >= 0 for side in sides)
    check(whole and (sides == (size,) or (len(sides) == 2 and min(sides) > 0)), key, "0, a side or two sides", size)
    return size if sides == (size,) else sides


def both_sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a side or of both.

    >>> both_sides(64), both_sides((192, 640))
    ((64, 64), (192, 640))
    """
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def check(holds: bool, key: str, expected: str, value: Any) -> None:
    """Raise `RecipeError` unless a condition on the value of a key holds."""
    if not holds:
        raise RecipeError(f"{key}: expected {expected}, found {value!r}")


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        name: For people.
        architecture: In `ARCHITECTURES`.
        stages: In order.
        size: Input side in pixels, or [height, width]; 0 is the architecture's.
        seed: Of all random numbers.
        options: Further arguments of the architecture's `build`.
        data: Paths by name, which replace `{name}` in stages.
        track: Names in `tracking.TRACKERS`, such as "tensorboard": where metrics of training are sent in addition to
            the logs.
    """

    name: str
    architecture: str
    stages: tuple[Stage, ...]
    size: int | tuple[int, int] = 0
    seed: int = 0
    options: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    track: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "size", checked_size(self.size, "recipe.size"))

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as tables that it can be read from, with every default."""
        table = json.loads(json.dumps(asdict(self)))
        return table | {"stages": {stage.pop("name"): stage for stage in table.pop("stages")}}


def bundled() -> dict[str, str]:
    """Return the text of every bundled recipe, by name."""
    folder = resources.files("cka_probe.lab.training") / "recipes"
    return {file.name[:-5]: file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".toml")}


def read_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe by name or from a file.

    Args:
        recipe: A name in `bundled()`, a `.toml` file, or the `recipe.json` of a run.
        overrides: `seed=1`, `data.rooms=PATH`, `masked.steps=10`, `masked.options.cell=8`; values are TOML,
            or strings without quotes.

    Raises:
        RecipeError: The recipe is invalid; the message names the key.
        UnknownNameError: There is no such recipe, task, architecture, …
    """
    path = Path(recipe)
    if path.suffix in (".toml", ".json"):
        try:
            files.check_regular(path)
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            found = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise RecipeError(
                f"expected a recipe at {path}, found {found}; check the path, or save it as UTF-8"
            ) from error
        table = parse_json(text, str(path)) if path.suffix == ".json" else parse_toml(text, str(path))
    else:
        table = parse_toml(registry.get(dict(sorted(bundled().items())), str(recipe), "recipe"), f"recipe {recipe}")
    for override in overrides:
        _override(table, override)
    return recipe_of(table)


def recipe_of(table: dict[str, Any]) -> Recipe:
    """Return the recipe of a table as parsed from TOML."""
    stages = table.get("stages")
    if not isinstance(stages, dict) or not stages or not all(isinstance(stage, dict) for stage in stages.values()):
        raise RecipeError("recipe: expected a table [stages.NAME] for each stage, found none")
    recipe = read_table(Recipe, {key: table[key] for key in table if key != "stages"}, "recipe", stages=())
    size = recipe.size or registry.get(ARCHITECTURES, recipe.architecture, "architecture").size
    parsed = []
    for name, stage in _resolve_like(stages).items():
        check(re.fullmatch(r"[A-Za-z0-9_-]+", name) is not None, "stages", "names of letters and digits", name)
        if name in {f.name for f in fields(Recipe)}:
            raise RecipeError(
                f"stages.{name}: expected another name, as `--set {name}.KEY` would mean the recipe's own"
            )
        stage = _insert_paths(stage, recipe.data, f"stages.{name}")
        parsed.append(read_table(Stage, stage | {"size": stage.get("size") or size}, f"stages.{name}", name=name))
        parsed[-1].build_task()
    return replace(recipe, stages=tuple(parsed), size=size)


def _resolve_like(stages: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the stages' tables, each `like` replaced by the keys of that earlier stage."""
    resolved: dict[str, dict[str, Any]] = {}
    for name, stage in stages.items():
        stage, parent = dict(stage), dict[str, Any]()
        if like := stage.pop("like", ""):
            check(like in resolved, f"stages.{name}.like", f"an earlier stage ({', '.join(resolved) or 'none'})", like)
            parent = dict(resolved[like])
            if stage.get("task", parent.get("task")) != parent.get("task"):
                parent.pop("options", None)  # they belong to the other task
            elif isinstance(stage.get("options"), dict):
                stage["options"] = parent.get("options", {}) | stage["options"]
        resolved[name] = parent | stage
    return resolved


def _insert_paths(stage: dict[str, Any], paths: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a stage's table with `{name}` replaced by the path of that name."""

    def path(match: re.Match) -> str:
        name = match[1]
        if name not in paths:
            raise RecipeError(f"{where}: {{{name}}} is no key of [data]; {suggestion(name, paths)}name it there")
        if not paths[name]:
            raise RecipeError(f"{where}: expected a path for {name!r}, found none; set it by --set data.{name}=PATH")
        return str(paths[name])

    def insert(value: Any) -> Any:
        if isinstance(value, list):
            return [insert(item) for item in value]
        return re.sub(r"\{(\w+)\}", path, value) if isinstance(value, str) else value

    return stage | {key: insert(stage[key]) for key in ("data", "validation", "start") if key in stage}


def _override(table: dict[str, Any], override: str) -> None:
    """Write one `KEY=VALUE` into a recipe's table."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"--set: expected KEY=VALUE such as masked.steps=10 or seed=1, found {override!r}")
    stages, tops = table.get("stages", {}), [f.name for f in fields(Recipe) if f.name != "stages"]
    if parts[0] not in tops and parts[0] not in stages:
        names = [*stages, *tops]
        raise RecipeError(
            f"--set: no stage or key {parts[0]!r}; {suggestion(parts[0], names)}There are: {', '.join(names)}"
        )
    target = stages if parts[0] in stages else table
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise RecipeError(f"--set: expected a table at {part!r} of {key!r}, found {target!r}")
    target[parts[-1]] = text.strip().strip("\"'") if parts[0] == "data" else parse_value(text.strip())
