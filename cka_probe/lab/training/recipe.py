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
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin

from cka_probe import registry
from cka_probe.errors import RecipeError
from cka_probe.lab.tasks import TASKS, Task
from cka_probe.lab.training.optimizer import SCHEDULES, UNDECAYED
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import NORMALISATIONS
from cka_probe.registry import suggestion

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def read_table(kind: type[T], table: dict[str, Any], where: str, **fixed: Any) -> T:
    """Return `kind(**fixed, **table)`.

    Args:
        kind: A dataclass.
        table: Its fields by name, as TOML gives them; an integer is accepted for a float, a list or a single value for
            a tuple.
        where: Name of the table in messages ("stages.depth").
        fixed: Fields that are not read from the table and must not be in it.

    Raises:
        RecipeError: Names the key, what was expected and what was found.
    """
    keys = {spec.name: spec for spec in fields(cast(Any, kind)) if spec.name not in fixed}
    for key in table:
        if key not in keys:
            raise RecipeError(
                f"{where}: unknown key {key!r}; {suggestion(key, list(keys))}There are: {', '.join(keys)}"
            )
    for key, spec in keys.items():
        if key not in table and spec.default is MISSING and spec.default_factory is MISSING:
            raise RecipeError(f"{where}: expected the key {key!r} ({_type_name(spec.type)}), found nothing")
    return kind(**fixed, **{key: _converted(keys[key].type, value, f"{where}.{key}") for key, value in table.items()})


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return TOML as a dict, or say where it is broken."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where}: expected TOML, found {error}") from error


def parse_value(text: str) -> Any:
    """Return a TOML value; what is none is a string without quotes.

    >>> parse_value("1e-3"), parse_value("[8, 16]"), parse_value("cosine")
    (0.001, [8, 16], 'cosine')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _converted(expected: Any, value: Any, where: str) -> Any:
    """Return a TOML value as the type a field has."""
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
        raise RecipeError(f"{where}: expected {_type_name(expected)}, found {value!r}")
    return value


def _type_name(kind: Any) -> str:
    """Return what messages call a type."""
    names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}
    if get_origin(kind) is tuple:
        return f"a list, each {_type_name(get_args(kind)[0])}"
    return names.get(get_origin(kind) or kind, str(kind))


FREEZES = {
    "": "everything learns",
    "encoder": "the encoder's parameters and the statistics of its batch norms stay",
    "statistics": "its batch norms normalise by their statistics, which stay; its parameters learn",
}

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
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def check(holds: bool, key: str, expected: str, found: Any) -> None:
    """Raise `RecipeError` unless something holds of the key."""
    if not holds:
        raise RecipeError(f"{key}: expected {expected}, found {found!r}")


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        name: For people.
        architecture: In `ARCHITECTURES`.
        stages: In order.
        size: Input side in pixels, or [height, width]; 0 is the architecture's.
        seed: Everything random follows from it.
        options: More arguments of the architecture's `build`.
        data: Paths by name, put in where a stage says `{name}`.
    """

    name: str
    architecture: str
    stages: tuple[Stage, ...]
    size: int | tuple[int, int] = 0
    seed: int = 0
    options: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "size", checked_size(self.size, "recipe.size"))

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as the tables it could have been read from, every default written out."""
        stages = {}
        for stage in self.stages:
            table = json.loads(json.dumps(asdict(stage)))
            stages[table.pop("name")] = table
        top = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "stages"}
        return json.loads(json.dumps(top)) | {"stages": stages}


def bundled() -> dict[str, str]:
    """Return the text of every recipe that comes with the package, by name."""
    folder = resources.files("cka_probe.lab.training") / "recipes"
    return {file.name[:-5]: file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".toml")}


def read_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe by name or from a file.

    Args:
        recipe: A name in `bundled()`, a `.toml` file, or the `recipe.json` of a run.
        overrides: `seed=1`, `data.rooms=PATH`, `masked.steps=10`, `masked.options.cell=8`; values are TOML,
            or strings without quotes.

    Raises:
        RecipeError: What does not fit, with the key.
        UnknownNameError: A name that stands in no table.
    """
    path = Path(recipe)
    if path.suffix in (".toml", ".json"):
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise RecipeError(f"expected a recipe at {path}, found {error.strerror or error}") from error
        table = json.loads(text) if path.suffix == ".json" else parse_toml(text, str(path))
    else:
        table = parse_toml(registry.get(dict(sorted(bundled().items())), str(recipe), "recipe"), f"recipe {recipe}")
    for override in overrides:
        _override(table, override)
    return recipe_of(table)


def recipe_of(table: dict[str, Any]) -> Recipe:
    """Return the recipe that a table, as TOML gives it, describes."""
    stages = table.get("stages")
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()) or not stages:
        raise RecipeError("recipe: expected a table [stages.NAME] for each stage, found none")
    top = {key: value for key, value in table.items() if key != "stages"}
    recipe = read_table(Recipe, top, "recipe", stages=())
    size = recipe.size or registry.get(ARCHITECTURES, recipe.architecture, "architecture").size
    parsed = []
    for name, stage in _written_out(stages).items():
        check(re.fullmatch(r"[A-Za-z0-9_-]+", name) is not None, "stages", "names of letters and digits", name)
        if name in {f.name for f in fields(Recipe)}:
            raise RecipeError(
                f"stages.{name}: expected another name, as `--set {name}.KEY` would mean the recipe's own"
            )
        stage = _filled(stage, recipe.data, f"stages.{name}")
        parsed.append(read_table(Stage, stage | {"size": stage.get("size") or size}, f"stages.{name}", name=name))
        parsed[-1].build_task()
    return Recipe(**{f.name: getattr(recipe, f.name) for f in fields(recipe)} | {"stages": tuple(parsed), "size": size})


def _written_out(stages: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the stages' tables with what `like` takes over from an earlier one written out in each."""
    whole: dict[str, dict[str, Any]] = {}
    for name, stage in stages.items():
        before, own = {}, dict(stage)
        if like := own.pop("like", ""):
            if like not in whole:
                earlier = ", ".join(whole) or "none"
                raise RecipeError(f"stages.{name}.like: expected an earlier stage ({earlier}), found {like!r}")
            before = dict(whole[like])
            if own.get("task", before.get("task")) != before.get("task"):
                before.pop("options", None)  # they are the other task's own
            elif isinstance(own.get("options"), dict):
                own["options"] = before.get("options", {}) | own["options"]
        whole[name] = before | own
    return whole


def _filled(stage: dict[str, Any], paths: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a stage's table with `{name}` replaced by the path of that name."""

    def path(found: re.Match) -> str:
        name = found[1]
        if name not in paths:
            raise RecipeError(f"{where}: {{{name}}} is no key of [data]; {suggestion(name, paths)}name it there")
        if not paths[name]:
            raise RecipeError(f"{where}: expected a path for {name!r}, found none; say --set data.{name}=PATH")
        return str(paths[name])

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(item) for item in value]
        return re.sub(r"\{(\w+)\}", path, value) if isinstance(value, str) else value

    return stage | {key: fill(stage[key]) for key in ("data", "validation", "start") if key in stage}


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
    place = stages if parts[0] in stages else table
    for part in parts[:-1]:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise RecipeError(f"--set: expected a table at {part!r} of {key!r}, found {place!r}")
    place[parts[-1]] = text.strip().strip("\"'") if parts[0] == "data" else parse_value(text.strip())
