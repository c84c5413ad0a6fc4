"""The command that reproduces a result, from what the result records.

Only options that differ from their defaults are written. A result of images or a model in memory has no command.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cka_probe.attribution.attributions import Attributions
from cka_probe.comparison.atlas import Atlas
from cka_probe.comparison.results import Axis, SimilarityMatrix, distinct_names
from cka_probe.errors import CkaProbeError
from cka_probe.models.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from cka_probe.lab.evaluation.label_scores import LabelScores
    from cka_probe.lab.evaluation.scores import Scores

COMPARE_DEFAULTS = {
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
GRADCAM_DEFAULTS = {"layer": "auto", "target": "segmentation", "num": 8, "seed": 0, "tolerance": 1.0}
"""Options of `ckaprobe gradcam` that attributions record under the same name, and their defaults."""
EVALUATE_DEFAULTS = {"resolution": "image", "canny": [0.1, 0.2], "seed": 0}
"""Options of `ckaprobe evaluate` whose default does not depend on the dataset, and their defaults."""
IN_MEMORY = ("a tensor", "a list of images")
"""Sources that a result names when its images had no file."""


def compare_command(result: SimilarityMatrix, out: str) -> str:
    """Return the `ckaprobe compare` of a result, or "" if a model or the images were in memory only.

    Args:
        result: A result of `compare`.
        out: The folder it is written to.
    """
    x, y = layer_option(result.rows), layer_option(result.columns)
    default = _is_default(result.rows, result.x.architecture) and _is_default(result.columns, result.y.architecture)
    options = {
        "data": str(result.images["source"]),
        "layers": None if default else x,
        "layers_y": None if default or x == y else y,
        **_compare_settings(result),
        "skip_bad": bool(result.images.get("skipped")),
    }
    return _command("compare", [result.x.reference, result.y.reference], options, COMPARE_DEFAULTS, out)


def atlas_command(atlas: Atlas, out: str) -> str:
    """Return the `ckaprobe compare` of several models, or "" if one of them or the images were in memory only.

    Layers are named if all models have the same ones, and these are not the default layers of each.
    """
    axes = [atlas.axes(index) for index in range(len(atlas.models))]
    default = all(_is_default(layers, side.architecture) for layers, side in zip(axes, atlas.models, strict=True))
    same = len({layer_option(layers) for layers in axes}) == 1
    options = {
        "data": str(atlas.first.images["source"]),
        "layers": layer_option(axes[0]) if same and not default else None,
        **_compare_settings(atlas.first),
        "skip_bad": bool(atlas.first.images.get("skipped")),
    }
    return _command("compare", [side.reference for side in atlas.models], options, COMPARE_DEFAULTS, out)


def _compare_settings(result: SimilarityMatrix) -> dict[str, Any]:
    """Return the options of `ckaprobe compare` that a result records."""
    size = result.settings.get("size")
    options = {name: result.settings.get(name) for name in COMPARE_DEFAULTS}
    return options | {"size": "x".join(map(str, size)) if size else None}


def evaluate_command(scores: "Scores | LabelScores", out: str) -> str:
    """Return the `ckaprobe evaluate` of scores, or "" if the dataset was in memory only.

    Rules whose default depends on the dataset are always written.
    """
    from cka_probe.lab.evaluation.label_scores import LabelScores

    settings = scores.settings
    flip_test, cap = settings.get("flip_test"), settings.get("cap")
    rules: dict[str, Any]
    if isinstance(scores, LabelScores):
        rules = {"resolution": settings.get("resolution"), "flip_test": flip_test}
    else:
        rules = {
            "scaling": settings.get("scaling"),
            "crop": settings.get("crop"),
            "cap": None if cap is None else [cap[0], "inf" if cap[1] is None else cap[1]],
            **{name: settings.get(name) for name in ("crops", "feathered", "canny")},
            "no_flip_test": flip_test is False,
        }
    options = {"on": str(scores.data["source"]), **rules, "num": settings.get("num"), "seed": settings.get("seed")}
    return _command("evaluate", [str(scores.model["reference"])], options, EVALUATE_DEFAULTS, out)


def gradcam_command(attributions: Attributions, out: str) -> str:
    """Return the `ckaprobe gradcam` of attributions, or "" if the dataset was in memory only.

    The number of images in the figure is not recorded; the command uses its default.
    """
    settings, names = attributions.settings, list(attributions.models)
    references = [str(model["reference"]) for model in attributions.models.values()]
    options = {
        "data": str(attributions.data["source"]),
        "names": None if names == distinct_names(references) else ",".join(names),
        **{name: settings.get(name) for name in GRADCAM_DEFAULTS},
        "num": settings.get("num") or 0,
        "log_softmax": settings.get("log_softmax"),
    }
    return _command("gradcam", references, options, GRADCAM_DEFAULTS, out)


def train_command(table: Mapping[str, Any], out: str) -> str:
    """Return the `ckaprobe train` of a run, which calls a bundled recipe by its name and any other by its file.

    Args:
        table: The content of the run's `recipe.json`.
        out: The run's folder, which holds that file.
    """
    from cka_probe.lab.training.recipe import bundled, read_recipe, recipe_of

    name, data, seed = str(table.get("name")), table.get("data") or {}, table.get("seed")
    overrides = [f"data.{key}={path}" for key, path in data.items() if path] + ([f"seed={seed}"] if seed else [])
    try:
        is_bundled = name in bundled() and recipe_of(dict(table)).as_dict() == read_recipe(name, overrides).as_dict()
    except CkaProbeError:
        is_bundled = False  # the recipe is of another version of the package
    if not is_bundled:
        return _command("train", (), {"recipe": f"{out}/recipe.json"}, {}, f"{out}-again")
    changes = [word for override in overrides for word in ("--set", override)]
    return shlex.join(["ckaprobe", "train", "--recipe", name, *changes, "--out", out])


def _command(
    name: str, operands: Sequence[str], options: Mapping[str, Any], defaults: Mapping[str, Any], out: str
) -> str:
    """Return a command line quoted for a shell, or "" if an operand or the first option was in memory only.

    Args:
        name: The command.
        operands: References; one that a parser would mistake for an option becomes a path.
        options: Values by name. True is a flag, a list several words; None, False and defaults are omitted.
        defaults: Values to omit.
        out: The folder to write to.
    """
    if any(map(_in_memory, (*operands, next(iter(options.values()))))):
        return ""
    words = ["ckaprobe", name, *(f"./{word}" if word.startswith("-") else word for word in operands)]
    for option, value in options.items():
        if value is None or value is False or value == defaults.get(option):
            continue
        values = [] if value is True else value if isinstance(value, list | tuple) else [value]
        words += [f"--{option.replace('_', '-')}", *map(str, values)]
    return shlex.join([*words, "--out", out])


def _is_default(axes: tuple[Axis, ...], architecture: str) -> bool:
    """Return whether layers are the default layers of their architecture."""
    known = ARCHITECTURES.get(architecture)
    layers = [(layer.name, layer.module) for layer in known.layers] if known else []
    return layers == [(axis.name, axis.module) for axis in axes]


def layer_option(axes: tuple[Axis, ...]) -> str:
    """Return the value of `--layers` that selects exactly these layers, by paper name or module."""
    return ",".join(f"module:{axis.module}" if axis.name == axis.module else f"paper:{axis.name}" for axis in axes)


def _in_memory(reference: str) -> bool:
    """Return whether a reference is a description or a class name instead of a path or specification."""
    return reference in IN_MEMORY or (re.fullmatch(r"[A-Z]\w*", reference) is not None and not Path(reference).exists())
