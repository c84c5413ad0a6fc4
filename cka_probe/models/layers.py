"""Layers and ordered lists of them.

A `Layer` has a name and the dotted path of a module, which may differ: Table 4 of MeSa has `layers.0.downsample.norm`
where timm's Swin-v2 has `layers.1.downsample.norm`. The position of a layer in a `LayerMap` is its index on the axes of
results.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What compiling, sharding and checkpointing add to the path of a module or the name of a tensor."""

CALL = re.compile(r"(.+)#([1-9]\d*)")


def call_name(path: str, number: int) -> str:
    """Return the name of one call of a module, counted from 1.

    >>> call_name("relu", 2)
    'relu#2'
    """
    return f"{path}#{number}"


def split_call(module: str) -> tuple[str, int | None]:
    """Return the dotted path of a module, and which of its calls is meant if one is named.

    >>> split_call("relu#2"), split_call("relu")
    (('relu', 2), ('relu', None))
    """
    match = CALL.fullmatch(module)
    return (match[1], int(match[2])) if match else (module, None)


@dataclass(frozen=True)
class Layer:
    """A layer whose activation is compared.

    Attributes:
        name: Name on axes and in tables; among default layers, the paper's name.
        module: Dotted path, as in `model.get_submodule(module)`; `relu#2` is the second call of `relu`.
        pattern: The glob or rule that selected it, or "" if it was named. A layer of a pattern is left out if it
            cannot be compared; a named one is an error.
    """

    name: str
    module: str
    pattern: str = field(default="", compare=False)


@dataclass(frozen=True)
class LayerMap:
    """An ordered list of layers, which can be iterated and indexed like a tuple.

    Attributes:
        layers: The layers.
        rule: How default layers were selected, in a few words.
    """

    layers: tuple[Layer, ...]
    rule: str = field(default="", compare=False)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(layer.name for layer in self.layers)

    @property
    def modules(self) -> tuple[str, ...]:
        """The dotted paths, in order."""
        return tuple(layer.module for layer in self.layers)

    @classmethod
    def of(cls, modules: Iterable[str]) -> "LayerMap":
        """Return the layers with these dotted paths, which are also their names.

        >>> LayerMap.of(["layer1", "layer2"]).names
        ('layer1', 'layer2')
        """
        return cls(tuple(Layer(module, module) for module in modules))

    def union(self, other: "LayerMap") -> "LayerMap":
        """Return the layers of both, each module once, in order of first appearance; named if it is in one of them.

        >>> LayerMap.of(["a", "b"]).union(LayerMap.of(["b", "c"])).names
        ('a', 'b', 'c')
        """
        named = {layer.module for layer in (*self, *other) if not layer.pattern}
        layers = {layer.module: layer for layer in (*other, *self)}
        modules = dict.fromkeys((*self.modules, *other.modules))
        return LayerMap(tuple(replace(layers[m], pattern="") if m in named else layers[m] for m in modules))
