"""What a training run is: a recipe, read from TOML into frozen dataclasses.

    name = "demo"                         architecture, size, seed, options of the architecture
    [data]    rooms = "data/rooms"        paths, named once; a stage says "nyuv2:{rooms}:train"
    [stages.masked]  task = "masked" ...  stages in order; each starts from the one before
    [stages.masked.options]  cell = 8     what only this task knows
    [stages.other]   like = "masked" ...  all that an earlier stage says, but for what is said here

Everything is checked before an image is read or a weight is made: unknown, missing and mistyped keys, names
that stand in no table, options the task does not have.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from cka_probe import registry
from cka_probe.errors import RecipeError
from cka_probe.lab.training.stage import Stage, check, checked_size
from cka_probe.lab.training.tables import parse_toml, parse_value, read_table
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.registry import suggestion


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
