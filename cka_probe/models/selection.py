"""Select layers of a model: its default layers, or those that the user names.

`layers.1.downsample.norm` exists in the original Swin-v2 and in timm's and is a different layer in each. So default
layers are found by the family of a model and not by trying names, and a name with two meanings is an error.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from cka_probe.errors import LayerError
from cka_probe.models.architectures import NINE, NINE_BLOCKS, nine_blocks, paper_layers
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.registry import suggestion

LayerSpec = str | Sequence[str | int] | LayerMap | None


def default_layers(model: nn.Module) -> LayerMap | None:
    """Return nine layers of a Swin-v2 or ResNet of any implementation, or of timm's DINOv2; `None` for another model.

    The original Swin-v2 and MIM-Depth have `layers.0.downsample.reduction` (their last norm is `norm` or `norm3`); timm
    has `layers.1.downsample.reduction` first; transformers has everything in `encoder`. The network may be up to two
    levels below `model` (`encoder`, `backbone`, `model` …).
    """
    modules = dict(model.named_modules())
    for prefix in ("", *(f"{name}." for name in modules if name and name.count(".") < 2)):
        layers = _swinv2_layers(modules, prefix) or _resnet_layers(modules, prefix) or _dinov2_layers(modules, prefix)
        if layers is not None:
            return layers
    return None


def _swinv2_layers(modules: dict[str, nn.Module], prefix: str) -> LayerMap | None:
    """Return the nine layers of the Swin-v2 whose stages are `<prefix>layers`, if there is one."""
    block = modules.get(f"{prefix}layers.2.blocks.0")
    scales = {"attn.logit_scale", "attention.self.logit_scale"}  # the second in transformers
    if block is None or not scales & {name for name, _ in block.named_parameters()}:
        return None
    norms = [f"{prefix}norm3", f"{prefix}norm", f"{prefix.removesuffix('encoder.')}layernorm"]  # the last: transformers
    last_norm = next((name for name in norms if name in modules), None)
    depth = sum(f"{prefix}layers.2.blocks.{number}" in modules for number in range(100))
    if depth not in NINE_BLOCKS or last_norm is None:
        return None
    return paper_layers(
        depth,
        first_merge=0 if f"{prefix}layers.0.downsample.reduction" in modules else 1,
        last_norm=last_norm,
        norm1="layernorm_before" if f"{prefix}layers.2.blocks.0.layernorm_before" in modules else "norm1",
        prefix=prefix,
    )


def _resnet_layers(modules: dict[str, nn.Module], prefix: str) -> LayerMap | None:
    """Return the nine layers of the ResNet-18 or -50 at a prefix, if there is one."""
    depths = [sum(f"{prefix}layer{stage}.{block}" in modules for block in range(100)) for stage in (1, 2, 3, 4)]
    bottleneck = f"{prefix}layer1.0.conv3" in modules
    families = (([2, 2, 2, 2], False, "resnet18"), ([3, 4, 6, 3], True, "resnet50"))
    name = next((name for *family, name in families if family == [depths, bottleneck]), None)
    if name is None or any(f"{prefix}{module}" not in modules for module in NINE[name]):
        return None
    return LayerMap(tuple(Layer(module, f"{prefix}{module}") for module in NINE[name]))


def _dinov2_layers(modules: dict[str, nn.Module], prefix: str) -> LayerMap | None:
    """Return nine blocks of the DINOv2 at a prefix, if there is one with as many."""
    # every ViT of timm has `ls1`; with layer scales, as in DINOv2, it has a gamma
    depth = sum(hasattr(modules.get(f"{prefix}blocks.{block}.ls1"), "gamma") for block in range(100))
    if depth < 9:
        return None
    return LayerMap(tuple(Layer(layer.name, f"{prefix}{layer.module}") for layer in nine_blocks(depth)))


def select_layers(model: nn.Module, spec: LayerSpec, default: LayerMap | None = None) -> LayerMap:
    """Return the layers that a user names.

    Args:
        model: The model; module paths are relative to it.
        spec: `None` for the default layers; a comma-separated string or a sequence of indices into the default layers
            ("0,7,8"), dotted module paths, globs over module paths ("layer*.1", "*" for every leaf), the paper's names
            after `paper:`, or module paths after `module:`; or a `LayerMap`.
        default: The default layers, if known; otherwise those of `default_layers`.

    Raises:
        LayerError: A name matches nothing, or has two meanings.

    >>> select_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "*").modules
    ('0', '1')
    """
    default = default or default_layers(model)
    if spec is None and default is None:
        raise LayerError(
            f"{type(model).__name__} has no default layers known here; name some with --layers (names or globs, "
            f"for example {_example(model)}; `ckaprobe layers` lists them)"
        )
    modules = {name: module for name, module in model.named_modules() if name}
    if spec is None or isinstance(spec, LayerMap):
        layers = list(spec or default or ())
    else:
        patterns = [part.strip() for part in spec.split(",")] if isinstance(spec, str) else list(spec)
        layers = [layer for pattern in patterns for layer in _matches(model, modules, pattern, default)]
    for layer in layers:
        if layer.module and layer.module not in modules:
            raise _unknown_layer(model, layer.module)
    return LayerMap(tuple(dict.fromkeys(layers)))


def _matches(
    model: nn.Module, modules: dict[str, nn.Module], pattern: str | int, default: LayerMap | None
) -> list[Layer]:
    """Return the layers of one index, name or glob."""
    if isinstance(pattern, int) or (pattern.isdigit() and pattern not in modules):
        if default is None or not 0 <= int(pattern) < len(default):
            raise LayerError(f"no layer with index {pattern}: there are {len(default or ())} default layers, from 0")
        return [default[int(pattern)]]
    paper = {layer.name: layer for layer in default or ()}
    naming, _, name = pattern.rpartition(":")
    if naming == "paper":
        if name not in paper:
            raise LayerError(f"no layer {name!r} in the paper's map; it has {', '.join(paper) or 'none'}")
        return [paper[name]]
    if any(sign in name for sign in "*?["):
        # "*" is every leaf except identities, other globs are whatever they match
        names = [
            path
            for path, module in modules.items()
            if fnmatchcase(path, name)
            and (name.strip("*") or not ([*module.children()] or isinstance(module, nn.Identity)))
        ]
        if not names:
            raise _unknown_layer(model, name)
        return [Layer(path, path) for path in names]
    if naming != "module" and name in paper and paper[name].module != name:
        if name in modules:
            raise LayerError(
                f"{name!r} means two layers: the paper's is {paper[name].module!r} here; "
                f"write 'paper:{name}' or 'module:{name}'"
            )
        return [paper[name]]
    return [Layer(name, name)]


def _example(model: nn.Module) -> str:
    """Return the first module paths of a model, quoted."""
    return ", ".join(repr(name) for name, _ in [*model.named_children()][:4]) or "'*'"


def _unknown_layer(model: nn.Module, name: str) -> LayerError:
    """Return the error for a module path that does not exist."""
    names = [module for module, _ in model.named_modules() if module]
    hint = suggestion(name, names) or f"it has {len(names)} modules such as {_example(model)}; "
    return LayerError(f"no layer {name!r} in {type(model).__name__}; {hint}`ckaprobe layers MODEL` lists them")
