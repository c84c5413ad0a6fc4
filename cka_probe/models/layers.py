"""Layers and where they are.

A `Layer` has a name for people and the dotted path of a module, which need not be the same: the paper's
Table 4 says `layers.0.downsample.norm` where timm's Swin-v2 has `layers.1.downsample.norm`. A `LayerMap` is
an ordered list of them; a layer's position is its index on every axis of every result.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """One place in a network whose activation is compared.

    Attributes:
        name: For people and axes; in a default map, the paper's name.
        module: Dotted path, as in `model.get_submodule(module)`.
    """

    name: str
    module: str


@dataclass(frozen=True)
class LayerMap:
    """An ordered list of layers; iterate, index and measure it like a tuple."""

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
        """Return the map of these dotted paths, each named as it is addressed.

        >>> LayerMap.of(["layer1", "layer2"]).names
        ('layer1', 'layer2')
        """
        return cls(tuple(Layer(module, module) for module in modules))

    def union(self, other: "LayerMap") -> "LayerMap":
        """Return the layers of both maps, each module once, in order of first appearance.

        >>> LayerMap.of(["a", "b"]).union(LayerMap.of(["b", "c"])).names
        ('a', 'b', 'c')
        """
        extra = tuple(layer for layer in other if layer.module not in self.modules)
        return LayerMap(self.layers + extra)
