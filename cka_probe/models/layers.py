"""Layers and ordered lists of them.

A `Layer` has a name and the dotted path of a module, which may differ: Table 4 of MeSa has `layers.0.downsample.norm`
where timm's Swin-v2 has `layers.1.downsample.norm`. The position of a layer in a `LayerMap` is its index on the axes of
results.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A layer whose activation is compared.

    Attributes:
        name: Name on axes and in tables; among default layers, the paper's name.
        module: Dotted path, as in `model.get_submodule(module)`.
    """

    name: str
    module: str


@dataclass(frozen=True)
class LayerMap:
    """An ordered list of layers, which can be iterated and indexed like a tuple."""

    layers: tuple[Layer, ...]

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
        """Return the layers of both, each module once, in order of first appearance.

        >>> LayerMap.of(["a", "b"]).union(LayerMap.of(["b", "c"])).names
        ('a', 'b', 'c')
        """
        extra = tuple(layer for layer in other if layer.module not in self.modules)
        return LayerMap(self.layers + extra)
