"""The command that makes a result again, from what the result says of itself.

Only options that differ from their defaults are written. Where images or a model came from memory there is no
command, and none is made up.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.naming import distinct_names
from cka_probe.comparison.results import Axis, SimilarityMatrix
from cka_probe.errors import CkaProbeError
from cka_probe.models.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from cka_probe.lab.evaluation.label_scores import LabelScores
    from cka_probe.lab.evaluation.scores import Scores
    from cka_probe.lab.training.recipe import Recipe

COMPARED = {
    "num": 512,
    "batch": 64,
    "seed": 0,
    "features": "flatten",
    "measure": "cka",
    "estimator": "unbiased",
    "permutations": 200,
    "preprocess": "own",
    "precision": "float32",
}
"""Options of `ckaprobe compare` that a result records under the same name, and their defaults."""
MAPPED = {"layer": "first", "target": "segmentation", "num": 8, "seed": 0, "tolerance": 1.0}
"""Options of `ckaprobe gradcam` that attributions record under the same name, and their defaults."""
MEMORY = ("a tensor", "a list of images")


def compare_command(result: SimilarityMatrix, out: str) -> str:
    """Return the command that compares again, "" where what was compared was in memory alone.

    Args:
        result: Of `compare`.
        out: Folder for it to write to.
    """
    if any(map(_in_memory, (result.x.reference, result.y.reference, str(result.images["source"])))):
        return ""
    settings = result.settings
    words = [
        "compare",
        _place(result.x.reference),
        _place(result.y.reference),
        "--data",
        str(result.images["source"]),
    ]
    layers = [_layers(axes, side.architecture) for axes, side in ((result.rows, result.x), (result.columns, result.y))]
    if layers != ["", ""]:
        whole = [given or _named(axes) for given, axes in zip(layers, (result.rows, result.columns), strict=True)]
        words += ["--layers", whole[0]] + (["--layers-y", whole[1]] if whole[1] != whole[0] else [])
    words += _options({name: settings[name] for name in COMPARED if name in settings}, COMPARED)
    words += ["--skip-bad"] if result.images.get("skipped") else []
    return _line([*words, "--out", out])


def evaluate_command(scores: "Scores | LabelScores", out: str) -> str:
    """Return the command that evaluates again, "" where the dataset was in memory alone.

    Rules whose default depends on the dataset are written out.
    """
    if _in_memory(str(scores.data["source"])):
        return ""
    from cka_probe.lab.evaluation.label_scores import LabelScores

    settings = dict(scores.settings)
    words = ["evaluate", _place(str(scores.model["reference"])), "--on", str(scores.data["source"])]
    of_labels = isinstance(scores, LabelScores)
    plain = {"resolution": "image"} if of_labels else {"scaling": ""}
    words += _options({name: settings.get(name) for name in plain}, plain)
    if not of_labels:
        words += _depth_rules(settings)
    if settings.get("flip_test") is not None and settings["flip_test"] is of_labels:
        words.append("--flip-test" if of_labels else "--no-flip-test")
    return _line([*words, *_options({name: settings.get(name) for name in ("num", "seed")}, {"seed": 0}), "--out", out])


def gradcam_command(found: Attributions, out: str) -> str:
    """Return the command that makes maps again, "" where the dataset was in memory alone.

    How many are drawn is not recorded: the command's default is.
    """
    if _in_memory(str(found.data["source"])):
        return ""
    settings, references = found.settings, [str(model["reference"]) for model in found.models.values()]
    words = ["gradcam", *map(_place, references), "--data", str(found.data["source"])]
    if list(found.models) != distinct_names(references):
        words += ["--names", ",".join(found.models)]
    words += _options({name: settings.get(name) for name in MAPPED}, MAPPED)
    words += ["--num", "0"] if settings.get("num") is None else []
    words += ["--log-softmax"] if settings.get("log_softmax") else []
    return _line([*words, "--out", out])


def train_command(table: Mapping[str, Any], out: str) -> str:
    """Return the command that trains again.

    A recipe that comes with the package is called by its name, with what was changed; any other by its file.

    Args:
        table: The `recipe.json` of the run.
        out: The run's folder, which holds that file.
    """
    from cka_probe.lab.training.recipe import bundled

    name, data = str(table.get("name")), table.get("data") or {}
    overrides = [f"data.{key}={path}" for key, path in data.items() if path]
    overrides += [f"seed={table['seed']}"] if table.get("seed") else []
    if name in bundled() and _same(table, name, overrides):
        words = ["train", "--recipe", name, *(word for override in overrides for word in ("--set", override))]
        return _line([*words, "--out", out])
    return _line(["train", "--recipe", f"{out}/recipe.json", "--out", f"{out}-again"])


def _same(table: Mapping[str, Any], name: str, overrides: Iterable[str]) -> bool:
    """Return whether a bundled recipe with these overrides is what was run."""
    from cka_probe.lab.training.recipe import read_recipe

    try:
        ours = read_recipe(name, tuple(overrides)).as_dict()
        return recipe_with_defaults(table).as_dict() == ours
    except CkaProbeError:
        return False  # of another version of the package: then its file says it


def recipe_with_defaults(table: Mapping[str, Any]) -> "Recipe":
    """Return the recipe of a run, keys of which older versions did not know at their defaults.

    Raises:
        CkaProbeError: This version does not read it.
    """
    from cka_probe.lab.training.recipe import recipe_of

    return recipe_of(dict(table))


def _depth_rules(settings: Mapping[str, Any]) -> list[str]:
    """Return the options of `ckaprobe evaluate` that only depth has."""
    words = []
    if settings.get("eigen_crop") is not None:
        words.append("--eigen-crop" if settings["eigen_crop"] else "--no-crop")
    if settings.get("cap") is not None:
        least, most = settings["cap"]
        words += ["--cap", str(least), "inf" if most is None else str(most)]
    words += _options({"crops": settings.get("crops")}, {})
    words += ["--feathered"] if settings.get("feathered") else []
    canny = settings.get("canny")
    return words + (["--canny", *map(str, canny)] if canny and list(canny) != [0.1, 0.2] else [])


def _options(found: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Return options that were given and differ from their defaults."""
    given = {name: value for name, value in found.items() if value is not None and value != defaults.get(name)}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _layers(axes: tuple[Axis, ...], architecture: str) -> str:
    """Return what `--layers` must say for these layers of a model, "" where they are its natural ones."""
    known = ARCHITECTURES.get(architecture)
    natural = [(layer.name, layer.module) for layer in known.layers] if known else []
    return "" if natural == [(axis.name, axis.module) for axis in axes] else _named(axes)


def _named(axes: tuple[Axis, ...]) -> str:
    """Return layers so that each means one only: those of a paper by its name, all others as modules."""
    return ",".join(f"module:{axis.module}" if axis.name == axis.module else f"paper:{axis.name}" for axis in axes)


def _in_memory(reference: str) -> bool:
    """Return whether a name is that of a class, and not of a place."""
    return reference in MEMORY or (re.fullmatch(r"[A-Z]\w*", reference) is not None and not Path(reference).exists())


def _place(reference: str) -> str:
    """Return a reference that no parser takes for an option."""
    return f"./{reference}" if reference.startswith("-") else reference


def _line(words: Iterable[str]) -> str:
    """Return words as a shell takes them."""
    return shlex.join(["ckaprobe", *words])
