"""Which layers: a model's natural nine, or what the user names.

`layers.1.downsample.norm` exists in the original Swin-v2 and in timm's and is a different layer in each, so the
natural map is found by family, never by trying names; and a bare name that could be read in both ways is
refused.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import chain

from torch import nn

from cka_probe.errors import LayerError
from cka_probe.models.architectures import NINE, NINE_BLOCKS, nine_blocks, paper_layers
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.registry import suggestion

LayerSpec = str | Sequence[str | int] | LayerMap | None


def default_layers(model: nn.Module) -> LayerMap | None:
    """Return nine layers of a Swin-v2 or ResNet, whoever implemented it, or of timm's DINOv2; `None` for another model.

    The original Swin-v2 and MIM-Depth have `layers.0.downsample.reduction` (their last norm is `norm` or
    `norm3`); timm has `layers.1.downsample.reduction` first; transformers nests all under `encoder`. A model may
    stand one level down (`encoder`, `backbone`, `model` …).
    """
    modules = dict(model.named_modules())
    for prefix in _prefixes(modules):
        found = _swinv2_at(modules, prefix) or _resnet_at(modules, prefix) or _dinov2_at(modules, prefix)
        if found is not None:
            return found
    return None


def _prefixes(modules: dict[str, nn.Module]) -> Iterable[str]:
    """Yield "" and then the addresses down to two levels, each with its final dot."""
    return chain([""], (f"{name}." for name in modules if name and name.count(".") < 2))


def _swinv2_at(modules: dict[str, nn.Module], prefix: str) -> LayerMap | None:
    """Return the nine layers of the Swin-v2 whose stages are `<prefix>layers`, if one is there."""
    if f"{prefix}layers.2.blocks.0.attn.logit_scale" not in _parameter_names(modules, f"{prefix}layers.2.blocks.0"):
        return None
    depth = sum(f"{prefix}layers.2.blocks.{block}" in modules for block in range(100))
    original = f"{prefix}layers.0.downsample.reduction" in modules
    last_norm = next((name for name in ("norm3", "norm", "layernorm") if f"{_parent(prefix, name)}" in modules), None)
    transformers = f"{prefix}layers.2.blocks.0.layernorm_before" in modules
    if depth not in NINE_BLOCKS or last_norm is None:
        return None
    return paper_layers(
        depth,
        first_merge=0 if original else 1,
        last_norm=_parent(prefix, last_norm),
        norm1="layernorm_before" if transformers else "norm1",
        prefix=prefix,
    )


def _parent(prefix: str, norm: str) -> str:
    """Return the address of the last norm: beside the stages, in transformers beside their `encoder`."""
    return f"{prefix.removesuffix('encoder.') if norm == 'layernorm' else prefix}{norm}"


def _parameter_names(modules: dict[str, nn.Module], block: str) -> set[str]:
    """Return the parameters of a block, transformers' name of the temperature read as the original's."""
    names = {f"{block}.{name}" for name, _ in modules[block].named_parameters()} if block in modules else set()
    return names | {name.replace("attention.self.logit_scale", "attn.logit_scale") for name in names}


def _resnet_at(modules: dict[str, nn.Module], prefix: str) -> LayerMap | None:
    """Return the nine layers of the ResNet-18 or -50 at `prefix`, if one is there."""
    blocks = [sum(f"{prefix}layer{stage}.{b}" in modules for b in range(100)) for stage in (1, 2, 3, 4)]
    bottleneck = f"{prefix}layer1.0.conv3" in modules
    sizes: dict[tuple[tuple[int, ...], bool], str] = {
        ((2, 2, 2, 2), False): "resnet18",
        ((3, 4, 6, 3), True): "resnet50",
    }
    name = sizes.get((tuple(blocks), bottleneck))
    if name is None or any(f"{prefix}{module}" not in modules for module in NINE[name]):
        return None
    return LayerMap(tuple(Layer(module, f"{prefix}{module}") for module in NINE[name]))


def _dinov2_at(modules: dict[str, nn.Module], prefix: str) -> LayerMap | None:
    """Return nine blocks of the DINOv2 at `prefix`, if one is there that has as many."""
    # every ViT of timm has an `ls1`; only one with layer scales, as DINOv2's, has a gamma there
    depth = sum(hasattr(modules.get(f"{prefix}blocks.{block}.ls1"), "gamma") for block in range(100))
    if depth < 9:
        return None
    return LayerMap(tuple(Layer(layer.name, f"{prefix}{layer.module}") for layer in nine_blocks(depth)))


def select_layers(model: nn.Module, spec: LayerSpec, default: LayerMap | None = None) -> LayerMap:
    """Return the layers that are asked for.

    Args:
        model: Addresses are relative to it.
        spec: `None` for the default map; a comma list or a sequence of indices into the default map ("0,7,8"),
            dotted module paths, globs over module paths ("layer*.1", "*" for every leaf), paths in the paper's
            naming with `paper:` before them, or plain module paths with `module:` before them; or a `LayerMap`.
        default: The default map, if known; otherwise that of `default_layers`.

    Raises:
        LayerError: A name that matches nothing (the nearest follow), or that means two layers.
    """
    default = default or default_layers(model)
    if isinstance(spec, LayerMap):
        layers = list(spec)
    elif spec is None:
        if default is None:
            raise LayerError(
                f"{type(model).__name__} has no default layers known here; name some with --layers (names or globs, "
                f"for example {_example(model)}; `ckaprobe layers` lists them)"
            )
        layers = list(default)
    else:
        wanted = [part.strip() for part in spec.split(",")] if isinstance(spec, str) else list(spec)
        layers = [layer for part in wanted for layer in _matches(model, part, default)]
    known = {name for name, _ in model.named_modules()}
    for layer in layers:
        if layer.module not in known:
            raise _unknown(model, layer.module)
    return LayerMap(tuple(dict.fromkeys(layers)))


def _matches(model: nn.Module, part: str | int, default: LayerMap | None) -> list[Layer]:
    """Return the layers that one index, name or glob asks for."""
    modules = {name: module for name, module in model.named_modules() if name}
    if isinstance(part, int) or (part.isdigit() and part not in modules):
        if default is None or not 0 <= int(part) < len(default):
            raise LayerError(f"no layer with index {part}: the default map has {len(default or ())} layers, from 0")
        return [default[int(part)]]
    by_paper = {layer.name: layer for layer in default or ()}
    naming, _, bare = part.rpartition(":")
    if naming == "paper":
        if bare not in by_paper:
            raise LayerError(f"no layer {bare!r} in the paper's map; it has {', '.join(by_paper) or 'none'}")
        return [by_paper[bare]]
    if any(sign in bare for sign in "*?["):
        # a glob that is not exact takes what does the work: leaves, or the blocks it names in full
        found = [name for name, module in modules.items() if fnmatchcase(name, bare) and _worth(bare, module)]
        if not found:
            raise _unknown(model, bare)
        return [Layer(name, name) for name in found]
    paper = by_paper.get(bare)
    if naming != "module" and paper is not None and paper.module != bare:
        if bare in modules:
            raise LayerError(
                f"{bare!r} means two layers: the paper's is {paper.module!r} here; "
                f"write 'paper:{bare}' or 'module:{bare}'"
            )
        return [paper]
    if bare not in modules:
        raise _unknown(model, bare)
    return [Layer(bare, bare)]


def _worth(glob: str, module: nn.Module) -> bool:
    """Return whether a glob means this module: "*" the leaves that do something, others what they match."""
    if glob.strip("*"):
        return True
    return not any(True for _ in module.children()) and not isinstance(module, nn.Identity)


def _example(model: nn.Module) -> str:
    """Return a few addresses of a model, quoted."""
    names = [name for name, _ in model.named_children()]
    return ", ".join(map(repr, names[:4])) or "'*'"


def _unknown(model: nn.Module, name: str) -> LayerError:
    """Return the error for an address that is not there."""
    names = [module for module, _ in model.named_modules() if module]
    hint = suggestion(name, names) or f"it has {len(names)} modules such as {_example(model)}; "
    return LayerError(f"no layer {name!r} in {type(model).__name__}; {hint}`ckaprobe layers MODEL` lists them")
