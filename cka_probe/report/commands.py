"""The command that reproduces a result, from what the result records.

Only options that differ from their defaults are written. A result of images or a model in memory has no command.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cka_probe.attribution.attributions import Attributions, distinct_names
from cka_probe.comparison.results import Axis, SimilarityMatrix
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
GRADCAM_DEFAULTS = {"layer": "first", "target": "segmentation", "num": 8, "seed": 0, "tolerance": 1.0}
"""Options of `ckaprobe gradcam` that attributions record under the same name, and their defaults."""
IN_MEMORY = ("a tensor", "a list of images")
"""Sources that a result names when its images had no file."""


def compare_command(result: SimilarityMatrix, out: str) -> str:
    """Return the `ckaprobe compare` of a result, or "" if a model or the images were in memory only.

    Args:
        result: A result of `compare`.
        out: The folder it is written to.
    """
    if any(map(_in_memory, (result.x.reference, result.y.reference, str(result.images["source"])))):
        return ""
    settings = result.settings
    words = ["compare", _operand(result.x.reference), _operand(result.y.reference)]
    words += ["--data", str(result.images["source"])]
    x, y = layer_option(result.rows), layer_option(result.columns)
    if not (_is_default(result.rows, result.x.architecture) and _is_default(result.columns, result.y.architecture)):
        words += ["--layers", x, *(["--layers-y", y] if y != x else [])]
    words += _options({name: settings[name] for name in COMPARE_DEFAULTS if name in settings}, COMPARE_DEFAULTS)
    words += ["--skip-bad"] if result.images.get("skipped") else []
    return _line([*words, "--out", out])


def evaluate_command(scores: "Scores | LabelScores", out: str) -> str:
    """Return the `ckaprobe evaluate` of scores, or "" if the dataset was in memory only.

    Rules whose default depends on the dataset are always written.
    """
    if _in_memory(str(scores.data["source"])):
        return ""
    from cka_probe.lab.evaluation.label_scores import LabelScores

    settings = dict(scores.settings)
    words = ["evaluate", _operand(str(scores.model["reference"])), "--on", str(scores.data["source"])]
    has_labels = isinstance(scores, LabelScores)
    defaults = {"resolution": "image"} if has_labels else {"scaling": ""}
    words += _options({name: settings.get(name) for name in defaults}, defaults)
    if not has_labels:
        words += _depth_rules(settings)
    if settings.get("flip_test") is not None and settings["flip_test"] is has_labels:
        words.append("--flip-test" if has_labels else "--no-flip-test")
    return _line([*words, *_options({name: settings.get(name) for name in ("num", "seed")}, {"seed": 0}), "--out", out])


def gradcam_command(attributions: Attributions, out: str) -> str:
    """Return the `ckaprobe gradcam` of attributions, or "" if the dataset was in memory only.

    The number of images in the figure is not recorded; the command uses its default.
    """
    if _in_memory(str(attributions.data["source"])):
        return ""
    settings = attributions.settings
    references = [str(model["reference"]) for model in attributions.models.values()]
    words = ["gradcam", *map(_operand, references), "--data", str(attributions.data["source"])]
    if list(attributions.models) != distinct_names(references):
        words += ["--names", ",".join(attributions.models)]
    words += _options({name: settings.get(name) for name in GRADCAM_DEFAULTS}, GRADCAM_DEFAULTS)
    words += ["--num", "0"] if settings.get("num") is None else []
    words += ["--log-softmax"] if settings.get("log_softmax") else []
    return _line([*words, "--out", out])


def train_command(table: Mapping[str, Any], out: str) -> str:
    """Return the `ckaprobe train` of a run.

    A bundled recipe is called by its name with overrides, any other by its file.

    Args:
        table: The content of the run's `recipe.json`.
        out: The run's folder, which holds that file.
    """
    from cka_probe.lab.training.recipe import bundled

    name, data = str(table.get("name")), table.get("data") or {}
    overrides = [f"data.{key}={path}" for key, path in data.items() if path]
    overrides += [f"seed={table['seed']}"] if table.get("seed") else []
    if name in bundled() and _is_bundled(table, name, overrides):
        words = ["train", "--recipe", name, *(word for override in overrides for word in ("--set", override))]
        return _line([*words, "--out", out])
    return _line(["train", "--recipe", f"{out}/recipe.json", "--out", f"{out}-again"])


def _is_bundled(table: Mapping[str, Any], name: str, overrides: Iterable[str]) -> bool:
    """Return whether a run used a bundled recipe with these overrides."""
    from cka_probe.lab.training.recipe import read_recipe, recipe_of

    try:
        return recipe_of(dict(table)).as_dict() == read_recipe(name, tuple(overrides)).as_dict()
    except CkaProbeError:
        return False  # the recipe is of another version of the package


def _depth_rules(settings: Mapping[str, Any]) -> list[str]:
    """Return the options of `ckaprobe evaluate` for depth only."""
    words = []
    if settings.get("eigen_crop") is not None:
        words.append("--eigen-crop" if settings["eigen_crop"] else "--no-crop")
    if settings.get("cap") is not None:
        low, high = settings["cap"]
        words += ["--cap", str(low), "inf" if high is None else str(high)]
    words += _options({"crops": settings.get("crops")}, {})
    words += ["--feathered"] if settings.get("feathered") else []
    canny = settings.get("canny")
    return words + (["--canny", *map(str, canny)] if canny and list(canny) != [0.1, 0.2] else [])


def _options(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Return the options of settings that are not None and differ from their defaults."""
    changed = {name: value for name, value in settings.items() if value is not None and value != defaults.get(name)}
    return [word for name, value in changed.items() for word in (f"--{name.replace('_', '-')}", str(value))]


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


def _operand(reference: str) -> str:
    """Return a reference that a parser does not mistake for an option."""
    return f"./{reference}" if reference.startswith("-") else reference


def _line(words: Iterable[str]) -> str:
    """Return a command line quoted for a shell."""
    return shlex.join(["ckaprobe", *words])
