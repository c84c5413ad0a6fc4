"""Select layers of a model: its default layers, or those that the user names.

A name means one layer: `layers.1.downsample.norm` exists in the original Swin-v2 and in timm's and is a different layer
in each, so a name with two meanings is an error. A glob means those of its layers that can be compared: `blocks.*` is
one level, `blocks.**` all below, `all` everything. What can be compared is known when the model runs: `select_layers`
needs only the names of the modules, `comparable_layers` the outputs.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from cka_probe.errors import LayerError
from cka_probe.models.default_layers import DEFAULT, default_layers
from cka_probe.models.layers import WRAPPERS, Layer, LayerMap, call_name, split_call
from cka_probe.models.recording import Probe, no_examples, no_tensor, runs_again
from cka_probe.registry import suggestion

LayerSpec = str | Sequence[str | int] | LayerMap | None

ALL = ("all", "*", "**")
"""Names for every layer that can be compared, but for those that put out what another has put out."""

NAMED = 3
"""Layers that are named before "and N more"."""


def select_layers(model: nn.Module, spec: LayerSpec, default: LayerMap | None = None) -> LayerMap:
    """Return the layers that a user names.

    Args:
        model: The model; module paths are relative to it.
        spec: `None` for the default layers; a comma-separated string or a sequence of indices into the default layers
            ("0,7,8"), dotted module paths ("relu#2" is the second call of `relu`), globs ("blocks.*" for one level,
            "blocks.**" for all below), "all", the paper's names after `paper:`, or module paths after `module:`; or a
            `LayerMap`.
        default: The default layers, if known; otherwise those of `default_layers`.

    Raises:
        LayerError: A name matches nothing, or has two meanings.

    >>> select_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "*").modules
    ('0', '1')
    """
    default = default or default_layers(model)
    if spec is None and default is None:
        raise LayerError(f"{type(model).__name__} has no modules; wrap it in torch.nn.Sequential to compare its output")
    paths = _paths(model)
    if spec is None or isinstance(spec, LayerMap):
        layers = list(spec or default or ())
    else:
        layers = [layer for pattern in _patterns(spec) for layer in _matches(model, paths, pattern, default)]
    for layer in layers:
        if layer.module and split_call(layer.module)[0] not in paths.values():
            raise _unknown_layer(model, layer.module)
    named = {layer for layer in layers if not layer.pattern}
    unique = [replace(layer, pattern="") if layer in named else layer for layer in dict.fromkeys(layers)]
    return LayerMap(tuple(unique), default.rule if spec is None and default else "")


def select_by_name(layers: LayerMap, spec: LayerSpec, source: str = "the fingerprint") -> LayerMap:
    """Return those layers of a fingerprint that a user names, in the user's order.

    Args:
        layers: All layers of the fingerprint.
        spec: As in `select_layers`; indices are into `layers`.
        source: What has the layers, for messages.

    Raises:
        LayerError: A name matches nothing.

    >>> select_by_name(LayerMap.of(["blocks.0", "blocks.1", "norm"]), "blocks.*").modules
    ('blocks.0', 'blocks.1')
    """
    if spec is None:
        return layers
    selected: list[Layer] = []
    for pattern in _patterns(spec.modules if isinstance(spec, LayerMap) else spec):
        name = str(pattern).removeprefix("module:").removeprefix("paper:")
        matches = [layer for layer in layers if name in (layer.module, layer.name)]
        if not matches and (name in ALL or _is_glob(name)):
            matches = [layer for layer in layers if name in ALL or _glob(name).fullmatch(split_call(layer.module)[0])]
        matches = matches or [layer for index, layer in enumerate(layers) if name == str(index)]
        if not matches:
            hint = suggestion(name, list(layers.modules))
            raise LayerError(f"no layer {pattern!r} in {source}; {hint}it has {', '.join(layers.modules)}")
        selected += matches
    return LayerMap(tuple(dict.fromkeys(selected)))


def comparable_layers(layers: LayerMap, probe: Probe) -> tuple[LayerMap, tuple[str, ...]]:
    """Return the layers that can be compared, and a sentence for each reason why some of a pattern are left out.

    A module of a pattern that runs more than once is replaced by its calls, `relu#1`, `relu#2` …

    Args:
        layers: From `select_layers`.
        probe: What the modules of the model put out.

    Raises:
        LayerError: A layer that was named cannot be compared, or none of those of the patterns.
    """
    comparable: dict[str, Layer] = {}
    omitted: dict[tuple[str, str], list[str]] = {}
    for layer in expanded_layers(layers, probe):
        path, call = split_call(layer.module)
        if not layer.pattern:
            _check_named(layer, probe)
        if call_name(path, call or 1) not in probe.places:
            omitted.setdefault((layer.pattern, _category(path, call or 1, probe)), []).append(layer.name)
        elif layer.module not in comparable or not layer.pattern:  # a name and a glob may mean the same call
            comparable[layer.module] = layer
    warnings = tuple(omission(pattern, reason, names) for (pattern, reason), names in omitted.items())
    if not comparable:
        raise LayerError(f"no layer can be compared; {' '.join(warnings)} `ckaprobe layers MODEL` lists others")
    return LayerMap(tuple(comparable.values()), layers.rule), warnings


def expanded_layers(layers: LayerMap, probe: Probe) -> LayerMap:
    """Return the layers with each module of a pattern that runs more than once replaced by its calls.

    Of `all`, calls that put out what another module has put out are dropped.
    """
    expanded: list[Layer] = []
    for layer in layers:
        calls = probe.calls.get(layer.module, [])
        if not layer.pattern or not calls:
            expanded.append(layer)
            continue
        numbers = [number for number, call in enumerate(calls, 1) if not (layer.pattern in ALL and call.unchanged)]
        for number in numbers:
            names = (layer.name, layer.module)
            name, module = names if len(calls) == 1 else (call_name(name, number) for name in names)
            expanded.append(replace(layer, name=name, module=module))
    return LayerMap(tuple(expanded), layers.rule)


def recorded_layers(layers: LayerMap, recorded: LayerMap) -> LayerMap:
    """Return the layers of a selection that were recorded, by the names of the selection.

    Args:
        layers: From `select_layers`.
        recorded: From `comparable_layers`, for this and other selections.
    """
    calls: dict[str, list[str]] = {}
    for module in recorded.modules:
        calls.setdefault(split_call(module)[0], []).append(module)
    selected: list[Layer] = []
    for layer in layers:
        if layer.module in recorded.modules:
            selected.append(layer)
        elif layer.pattern:
            modules = calls.get(layer.module, [])
            selected += [Layer(module.replace(layer.module, layer.name), module, layer.pattern) for module in modules]
    return LayerMap(tuple(dict.fromkeys(selected)), layers.rule)


def unusable_reason(module: str, probe: Probe) -> str:
    """Return why a module or one of its calls cannot be compared, as in "never ran in the forward pass", or ""."""
    path, number = split_call(module)
    calls = probe.calls.get(path, [])
    if not calls or (number or 1) > len(calls):
        return f"ran {len(calls)} times in the forward pass" if calls else "never ran in the forward pass"
    if number is None and len(calls) > 1:
        return f"runs {len(calls)} times"
    if call_name(path, number or 1) in probe.places:
        return ""
    call = calls[(number or 1) - 1]
    return no_examples(call.shape, probe.num) if call.shapes else no_tensor(call.kind)


def _check_named(layer: Layer, probe: Probe) -> None:
    """Raise `LayerError` if a layer that was named cannot be compared."""
    path, number = split_call(layer.module)
    if number is None and len(probe.calls.get(path, ())) > 1:
        raise runs_again(path)
    if reason := unusable_reason(layer.module, probe):
        raise LayerError(f"layer {layer.module!r} {reason}; name another layer (`ckaprobe layers MODEL` lists them)")


def _category(path: str, number: int, probe: Probe) -> str:
    """Return why a layer of a pattern is left out, without its shape."""
    calls = probe.calls.get(path, [])
    if not calls:
        return "never ran"
    return "without one activation per image" if calls[number - 1].shapes else "without a float tensor"


def omission(pattern: str, reason: str, names: Sequence[str]) -> str:
    """Return the sentence about layers of a pattern that are left out."""
    source = pattern if pattern == DEFAULT else repr(pattern)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    verb = "is" if len(names) == 1 else "are"
    what = f"{len(names)} {'layer' if len(names) == 1 else 'layers'}"
    return f"Of {source}, {what} {verb} left out: {reason} ({', '.join(names[:NAMED])}{more})."


def _paths(model: nn.Module) -> dict[str, str]:
    """Return the dotted paths of all modules by the names that a user may write: also without wrappers."""
    if isinstance(model, torch.jit.ScriptModule):
        raise LayerError(
            "expected a model that runs in Python, found a ScriptModule, whose layers cannot be recorded; give the "
            "model that it was made from"
        )
    paths: dict[str, str] = {}
    for path, _ in model.named_modules():
        parts, module = [], model
        for part in path.split(".") if path else ():
            parallel = isinstance(module, DataParallel | DistributedDataParallel) and part == "module"
            module = module.get_submodule(part)
            parts += [part] if part not in WRAPPERS and not parallel else []
        if parts:
            paths.setdefault(".".join(parts), path)
    return paths


def _patterns(spec: str | Sequence[str | int]) -> list[str | int]:
    """Return the parts of a spec."""
    return [part.strip() for part in spec.split(",")] if isinstance(spec, str) else list(spec)


def _matches(model: nn.Module, paths: dict[str, str], pattern: str | int, default: LayerMap | None) -> list[Layer]:
    """Return the layers of one index, name or glob."""
    if isinstance(pattern, int) or (pattern.isdigit() and pattern not in paths):
        if default is None or not 0 <= int(pattern) < len(default):
            raise LayerError(f"no layer with index {pattern}: there are {len(default or ())} default layers, from 0")
        return [replace(default[int(pattern)], pattern="")]
    paper = {layer.name: replace(layer, pattern="") for layer in default or ()}
    naming, _, name = pattern.rpartition(":")
    if naming == "paper":
        if name not in paper:
            raise LayerError(f"no layer {name!r} in the paper's map; it has {', '.join(paper) or 'none'}")
        return [paper[name]]
    if name not in paths and (name in ALL or _is_glob(name)):
        names = [path for path in paths if name in ALL or _glob(name).fullmatch(path)]
        if not names:
            raise _unknown_layer(model, name)
        return [Layer(path, paths[path], name) for path in names]
    name = _without_wrappers(name, paths)
    if naming != "module" and name in paper and paper[name].module != paths.get(name, name):
        if name in paths:
            raise LayerError(
                f"{name!r} means two layers: the paper's is {paper[name].module!r} here; "
                f"write 'paper:{name}' or 'module:{name}'"
            )
        return [paper[name]]
    path, number = split_call(name)
    module = paths.get(path, path)
    return [Layer(name, module if number is None else call_name(module, number))]


def _without_wrappers(name: str, paths: Iterable[str]) -> str:
    """Return a name as `_paths` has it: a user may write the path in a compiled or parallel model."""
    if split_call(name)[0] in paths:
        return name
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    short = ".".join(parts)
    return short.removeprefix("module.") if split_call(short)[0] not in paths else short


def _is_glob(name: str) -> bool:
    """Return whether a name has signs of a glob."""
    return any(sign in name for sign in "*?[")


def _glob(pattern: str) -> re.Pattern[str]:
    """Return a glob over dotted paths as a regular expression: `*` and `?` do not match a dot, `**` does.

    >>> bool(_glob("blocks.*").fullmatch("blocks.1.mlp")), bool(_glob("blocks.**").fullmatch("blocks.1.mlp"))
    (False, True)
    """
    signs = {"**.": r"(?:.+\.)?", "**": ".*", "*": r"[^.]*", "?": "[^.]"}
    parts = re.split(r"(\*\*\.|\*\*|\*|\?|\[[^\]]+\])", pattern)
    return re.compile("".join(signs.get(part) or (part if part.startswith("[") else re.escape(part)) for part in parts))


def _unknown_layer(model: nn.Module, name: str) -> LayerError:
    """Return the error for a module path that does not exist."""
    names = list(_paths(model))
    examples = ", ".join(repr(child) for child, _ in [*model.named_children()][:4]) or "'all'"
    hint = suggestion(name, names) or f"it has {len(names)} modules such as {examples}; "
    return LayerError(f"no layer {name!r} in {type(model).__name__}; {hint}`ckaprobe layers MODEL` lists them")
