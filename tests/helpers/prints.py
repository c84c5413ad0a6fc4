"""Fingerprints of features that a test has drawn, with no model and no image."""

from collections.abc import Sequence

import torch

from cka_probe import Fingerprint, Layer, LayerMap, Settings
from cka_probe.comparison.results import Side
from cka_probe.similarity import anchored_product, centred_grams


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stacks(features: Sequence[torch.Tensor], batch: int | None = None) -> tuple[torch.Tensor, ...]:
    """Return per batch the centred Grams (layers, n, n) of feature matrices (n, p)."""
    batch = batch or len(features[0])
    return tuple(
        centred_grams([anchored_product(z[start : start + batch]) for z in features]).matrices
        for start in range(0, len(features[0]), batch)
    )


def print_of(
    features: Sequence[torch.Tensor],
    batch: int | None = None,
    *,
    images: str = "p",
    name: str = "net",
    first: int = 0,
) -> Fingerprint:
    """Return the fingerprint of a model whose layers put out these features; images are numbered from `first` on."""
    layers = LayerMap(tuple(Layer(f"layer {i}", f"layer.{i}") for i in range(len(features))))
    grams = stacks(features, batch)
    return Fingerprint(
        grams=grams,
        layers=layers,
        rms=tuple(float(z.std()) for z in features),
        undefined=tuple("" if float(z.std()) else "it is the same for every image" for z in features),
        side=Side(name, "of numbers", name, {"size": None, "mean": [0.0], "std": [1.0]}),
        images=tuple(f"{images}{first + i}" for i in range(len(features[0]))),
        source=images,
        settings=Settings(batch=grams[0].shape[-1]),
        shapes=tuple(tuple(z.shape[1:]) for z in features),
    )
