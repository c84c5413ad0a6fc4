"""The layers of a model that are compared unless others are named.

| model | default layers |
|---|---|
| Swin-v2 | the nine of MeSa's Table 4 |
| ResNet of any depth | nine: the pooled stem and eight blocks, evenly spaced over all of them, the last included |
| with repeated blocks (ViT, ConvNeXt, EfficientNet …) | the stem or patch embedding, and the output of each block |
| any other | its direct children, those of `nn.Sequential` one by one |

At most 25 layers, evenly spaced, the first and the last kept. All are found from the names and classes of the modules,
without a forward pass; a layer that cannot be compared is left out when the model runs, and named.

**Swin-v2** (Liu et al. 2022). Layers 0, 1 and 7 are the outputs of the three patch mergings, 2 to 6 the post-normalised
attention branches of five blocks of stage 3, 8 the final layer norm. The paper uses the names of the original
implementation; timm counts each `downsample` one stage later and calls the last norm `norm`, so
`layers.1.downsample.norm` exists in both and means different layers. The `name` of a layer is the paper's.

**Repeated blocks** are modules with children whose names have a digit (`blocks.3`, `layer2.0`, `inception4a`). Those of
a stage count, not the stage, if there are fewer than eight stages. A model without such modules may have a sequence of
plain layers, as VGG: then its most frequent kind is taken, the ReLUs.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import ceil

from torch import nn

from cka_probe.models.layers import Layer, LayerMap

DEFAULT = "the default layers"
"""The `pattern` of default layers."""

MOST = 25
"""Default layers at most: 24 blocks and what precedes them."""

STAGES = 8
"""Repeated modules fewer than this are stages if they consist of repeated modules themselves."""

PLAIN_LAYERS = 4
"""Least number of layers of one kind in a sequence of plain layers."""

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""These and not their subclasses have no meaning of their own."""

LISTS = (nn.ModuleList, nn.ModuleDict)
"""These are never called themselves."""

PASSIVE = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d)
POOLING = (nn.MaxPool2d, nn.AvgPool2d)
VISION = ("vision_model", "visual", "vision_tower", "image_encoder")
"""Names of the image encoder of a model of images and texts."""

OUTSIDE = re.compile(r"(^|\.)(\w*decoder|\w*stem|patch_embed|[Aa]ux|incre_modules|downsamp_modules)")
"""Paths of modules whose blocks are not those of the encoder, also auxiliary classifiers and the head of HRNet."""

EMBEDDING = re.compile(r"(?<!pos_)(?<!pixel_)embed|stem|downsample_layers")
"""Names of what makes the first feature map, of the siblings of the first block."""

BLOCK = re.compile(r"(\w+\.)?(\w*(block|layer|unit|b))?[\d-]+")
"""Names of blocks within a stage: `blocks.3`, `denselayer3`, but neither `fc1` nor `conv2`."""

NINE_BLOCKS = {18: (3, 6, 9, 12, 15), 6: (1, 2, 3, 4, 5)}
"""Blocks of stage 3 among the nine layers of a Swin-v2, by the depth of that stage: every third of 18, as in the paper;
of the six of Swin-v2-tiny the five that keep the order and the alternation of shifted and unshifted windows."""


def default_layers(model: nn.Module) -> LayerMap | None:
    """Return the default layers of a model; `None` if it has no child.

    A Swin-v2 or ResNet may be up to two levels below `model` (`encoder`, `backbone`, `model` …).

    >>> default_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU())).modules
    ('0', '1')
    """
    modules = dict(model.named_modules())
    for prefix in ("", *(f"{name}." for name in modules if name and name.count(".") < 2)):
        layers = _swinv2_layers(modules, prefix) or _resnet_layers(modules, prefix)
        if layers is not None:
            return layers
    root = next((name for name in modules if name.rpartition(".")[2] in VISION), "")
    return _block_layers(modules, root) or _plain_layers(modules, root) or _child_layers(modules[root], root)


def layers_or_default(layers: LayerMap, model: nn.Module) -> LayerMap | None:
    """Return layers if a model has them all, else the default layers: of an encoder that was built without its end."""
    modules = dict(model.named_modules())
    return layers if all(layer.module in modules for layer in layers) else default_layers(model)


def paper_layers(depth: int, *, first_merge: int, last_norm: str, norm1: str = "norm1", prefix: str = "") -> LayerMap:
    """Return the nine layers of MeSa's Table 4 under one implementation's module names.

    Args:
        depth: Blocks in stage 3.
        first_merge: Stage that has the first patch merging: 0 in the original, 1 in timm.
        last_norm: Name of the final norm.
        norm1: Name of the norm after the attention branch.
        prefix: What precedes `layers`, with its dot.

    >>> paper_layers(18, first_merge=1, last_norm="norm")[7]
    Layer(name='layers.2.downsample.norm', module='layers.3.downsample.norm', pattern='the default layers')
    """

    def merge(index: int) -> Layer:
        module = f"{prefix}layers.{index + first_merge}.downsample.norm"
        return Layer(f"layers.{index}.downsample.norm", module, DEFAULT)

    blocks = [
        Layer(f"layers.2.blocks.{block}.norm1", f"{prefix}layers.2.blocks.{block}.{norm1}", DEFAULT)
        for block in NINE_BLOCKS[depth]
    ]
    layers = (merge(0), merge(1), *blocks, merge(2), Layer("norm3", last_norm, DEFAULT))
    return LayerMap(layers, "the nine layers of MeSa's Table 4")


def resnet_layers(blocks: Sequence[str], *, stem: str = "maxpool", prefix: str = "") -> LayerMap:
    """Return the pooled stem of a ResNet and eight of its blocks, evenly spaced, the last included.

    Args:
        blocks: Names of all blocks, at least eight, in order.
        stem: Name of the pooled stem.
        prefix: What precedes all names, with its dot.

    >>> resnet_layers([f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]).names[:3]
    ('maxpool', 'layer1.0', 'layer1.1')
    """
    names = [stem, *(blocks[ceil(number * len(blocks) / 8) - 1] for number in range(1, 9))]
    rule = "the pooled stem and " + (f"eight of {len(blocks)} blocks, evenly spaced" if len(blocks) > 8 else "8 blocks")
    return LayerMap(tuple(Layer(name, f"{prefix}{name}", DEFAULT) for name in names), rule)


def stage_blocks(depths: Sequence[int]) -> list[str]:
    """Return the names of the blocks of a ResNet with so many per stage."""
    return [f"layer{stage}.{block}" for stage, depth in enumerate(depths, start=1) for block in range(depth)]


def vit_layers(depth: int) -> LayerMap:
    """Return the patch embedding and the output of each block of a vision transformer as timm names them.

    >>> vit_layers(12).names[:2]
    ('patch_embed', 'blocks.0')
    """
    return _spaced([f"blocks.{block}" for block in range(depth)], "patch_embed")


def _swinv2_layers(modules: dict[str, nn.Module], prefix: str) -> LayerMap | None:
    """Return the nine layers of the Swin-v2 whose stages are `<prefix>layers`, if there is one.

    The original Swin-v2 and MIM-Depth have `layers.0.downsample.reduction` (their last norm is `norm` or `norm3`); timm
    has `layers.1.downsample.reduction` first; transformers has everything in `encoder`.
    """
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
    """Return the nine layers of the ResNet at a prefix, as timm and torchvision or as transformers names it."""
    for block, stem in ((r"layer[1-4]\.\d+", "maxpool"), (r"encoder\.stages\.\d\.layers\.\d+", "embedder")):
        if f"{prefix}{stem}" in modules:
            pattern = re.compile(re.escape(prefix) + f"({block})")
            blocks = [match[1] for match in map(pattern.fullmatch, modules) if match]
            if len(blocks) >= 8:
                return resnet_layers(blocks, stem=stem, prefix=prefix)
    return None


def _block_layers(modules: dict[str, nn.Module], root: str) -> LayerMap | None:
    """Return what precedes the repeated blocks of the module `root`, and the blocks; `None` if there are none."""
    blocks = _most_frequent(dict(_repeated(modules[root], root)))
    if len(blocks) < STAGES:
        inner = [name for path in blocks for name in _blocks_of_stage(modules, path) or [path]]
        blocks = inner if len(inner) > len(blocks) else blocks
    return _spaced(blocks, _stem(modules, root, blocks[0])) if blocks else None


def _blocks_of_stage(modules: dict[str, nn.Module], stage: str) -> list[str]:
    """Return the paths of the blocks of a stage: numbered modules of one class; none if their classes differ."""
    names = [name for name, _ in _repeated(modules[stage], stage) if BLOCK.fullmatch(name.removeprefix(f"{stage}."))]
    return [name for name in names if _uniform(modules, name)]


def _repeated(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the outermost modules with layers in them whose names have a digit, with their dotted paths."""
    for name, child in module.named_children():
        child_path = _join(path, name)
        has_layers = any(True for inner in child.children() for _ in inner.parameters())
        if type(child) not in CONTAINERS and re.search(r"\d", name) and has_layers:
            yield child_path, child
        else:
            yield from _repeated(child, child_path)


def _uniform(modules: dict[str, nn.Module], path: str) -> bool:
    """Return whether a module and its siblings are of one class, as the blocks of a stage are."""
    return len({type(child) for child in modules[path.rpartition(".")[0]].children()}) == 1


def _most_frequent(modules: dict[str, nn.Module]) -> list[str]:
    """Return the paths of the modules of the most frequent class, and of the others in the same containers.

    Modules of a decoder or stem are left out if there are others. There are none if each is of another class.
    """
    encoder = {path: module for path, module in modules.items() if not OUTSIDE.search(path)} or modules
    by_class: dict[type, list[str]] = defaultdict(list)
    for path, module in encoder.items():
        by_class[type(module)].append(path)
    paths = max(by_class.values(), key=len, default=[])
    if len(paths) < 2:
        return []
    containers = {container for path in paths for container in _containers(path)}
    return [path for path in encoder if containers & _containers(path)]


def _containers(path: str) -> set[str]:
    """Return the path of a module's parent, and that without numbers, which the parents of other stages share.

    >>> sorted(_containers("blocks.1.0")), sorted(_containers("repeat_1.3")), _containers("repeat.3")
    (['blocks.', 'blocks.1'], ['repeat', 'repeat_1'], {'repeat'})
    """
    parent = path.rpartition(".")[0]
    return {parent, re.sub(r"_?\d+", "", parent)}


def _stem(modules: dict[str, nn.Module], root: str, block: str) -> str:
    """Return the path of what precedes the first block: an embedding, or the nearest layer or pooling; "" if nothing.

    Its siblings that are registered earlier are considered, then those of its parent, up to the root. Of several
    numbered embeddings it is the first.
    """
    nearest, path = "", block
    while path != root:
        parent, _, name = path.rpartition(".")
        children = [child for child, _ in modules[parent].named_children()]
        siblings = children[: children.index(name)]
        embeddings = [child for child in siblings if EMBEDDING.search(child) and _first_layer(modules, parent, child)]
        if embeddings:
            embedding = embeddings[-1].rstrip("0123456789")
            return _first_layer(modules, parent, next(name for name in embeddings if name.startswith(embedding)))
        callables = [child for child in siblings if type(modules[_join(parent, child)]) not in LISTS]
        paths = [_first_layer(modules, parent, child) for child in callables]
        nearest = nearest or next(filter(None, reversed(paths)), "")
        path = parent
    return nearest


def _first_layer(modules: dict[str, nn.Module], parent: str, child: str) -> str:
    """Return the path of a child, or of the first module in a list; "" if it neither pools nor has parameters."""
    path = _join(parent, child)
    if type(modules[path]) in LISTS:
        return next((_first_layer(modules, path, name) for name, _ in modules[path].named_children()), "")
    return path if isinstance(modules[path], POOLING) or any(True for _ in modules[path].parameters()) else ""


def _join(parent: str, child: str) -> str:
    """Return the path of a child."""
    return f"{parent}.{child}" if parent else child


def _plain_layers(modules: dict[str, nn.Module], root: str) -> LayerMap | None:
    """Return the layers of the most frequent class of one `nn.Sequential`, of several the last; `None` if too few."""
    best: list[str] = []
    for path, module in modules.items():
        if path.startswith(root) and type(module) is nn.Sequential:
            by_class: dict[type, list[str]] = defaultdict(list)
            for name, child in module.named_children():
                if not isinstance(child, PASSIVE):
                    by_class[type(child)].append(f"{path}.{name}".lstrip("."))
            last_of_most = max(reversed(by_class.values()), key=len, default=[])
            best = max(best, last_of_most, key=len)
    return _spaced(best, "", modules[best[0]]) if len(best) >= PLAIN_LAYERS else None


def _child_layers(module: nn.Module, path: str) -> LayerMap | None:
    """Return the children of a module, those of containers one by one; of an only child its own."""
    children = [*module.named_children()]
    while len(children) == 1 and any(True for _ in children[0][1].children()):
        path = f"{path}.{children[0][0]}".lstrip(".")
        children = [*children[0][1].named_children()]
    names = [name for child, module in children for name in _opened(module, f"{path}.{child}".lstrip("."))]
    if not names:
        return None
    layers = _evenly_spaced(names)
    number = f"{len(layers)} of {len(names)}" if len(layers) < len(names) else "all"
    rule = f"{number} modules at the top level, in the order in which they are registered"
    return LayerMap(tuple(Layer(name, name, DEFAULT) for name in layers), rule)


def _opened(module: nn.Module, path: str) -> list[str]:
    """Return the path of a module, or those of the modules in a container; none of those that change nothing."""
    if type(module) in CONTAINERS:
        return [name for child, inner in module.named_children() for name in _opened(inner, f"{path}.{child}")]
    return [] if isinstance(module, PASSIVE) else [path]


def _spaced(blocks: Sequence[str], stem: str, kind: nn.Module | None = None) -> LayerMap:
    """Return the stem and the blocks as layers, at most `MOST`."""
    noun = f"{type(kind).__name__} layers" if kind is not None else "blocks"
    layers = _evenly_spaced([stem] * bool(stem) + list(blocks))
    shown = len(layers) - bool(stem)
    number = f"{shown} of {len(blocks)} {noun}, evenly spaced" if shown < len(blocks) else f"all {shown} {noun}"
    return LayerMap(tuple(Layer(name, name, DEFAULT) for name in layers), f"{stem} and {number}" if stem else number)


def _evenly_spaced(names: Sequence[str]) -> list[str]:
    """Return at most `MOST` names, evenly spaced, the first and the last included."""
    count = min(len(names), MOST)
    return [names[round(number * (len(names) - 1) / max(count - 1, 1))] for number in range(count)]
