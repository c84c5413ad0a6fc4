"""A real Swin-v2-L (195 M parameters, 192 px), randomly initialised, against itself perturbed, on 32 images.

    python reports/first_road/swin_large.py IMAGES reports/first_road

Two comparisons. First the network as initialised: its residual branches end in norms of weight 0, so that layers
2 to 6 do not vary and must come out undefined, each named. Then with every branch alive (norm weights 0.5), and y
the same network with Gaussian noise of a fifth of each tensor's standard deviation added. There every activation
is also kept whole, and the same CKA is computed from it in float64 the plain way: Gram of all features, U-centring
by its definition, one number per cell. Prints both diagonals, the largest difference, the times and the peak memory.
"""

import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import cka_probe
from cka_probe.images.stream import stream_images

IMAGES, BATCH, SEED = 32, 16, 0


def alive(backbone: cka_probe.Backbone) -> cka_probe.Backbone:
    """Set the norms that end residual branches to weight 0.5."""
    for name, parameter in backbone.model.named_parameters():
        if ".blocks." in name and name.endswith(("norm1.weight", "norm2.weight")):
            parameter.data.fill_(0.5)
    return backbone


def perturbed(backbone: cka_probe.Backbone) -> cka_probe.Backbone:
    """Add Gaussian noise of a fifth of each tensor's standard deviation."""
    generator = torch.Generator().manual_seed(SEED + 1)
    for parameter in backbone.model.parameters():
        scale = 0.2 * float(parameter.data.std(correction=0))
        parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    backbone.origin = replace(backbone.origin, reference=f"{backbone.origin.reference}, perturbed")
    return backbone


def plain_grams(backbone: cka_probe.Backbone, images: str) -> list[np.ndarray]:
    """Return, per batch, (layers, n, n) float64 Grams of whole activations: the slow and obvious way."""
    batches = []
    for batch in stream_images(images, num=IMAGES, batch=BATCH, seed=SEED):
        images = torch.stack([backbone.preprocessing.fit(image) for image in batch])
        kept = cka_probe.record(
            backbone.model,
            images,
            backbone.layers.modules,
            lambda _, activation: activation.flatten(1).double().numpy(),
            run=backbone,
        )
        batches.append(np.stack([(features - features.mean(0)) @ (features - features.mean(0)).T for features in kept]))
    return batches


def plain_cka(x: list[np.ndarray], y: list[np.ndarray]) -> np.ndarray:
    """Return the unbiased minibatch CKA of every pair of layers, term by term from Song et al. 2012, eq. 5."""

    def hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741 - K and L are the field's names
        n = len(k)
        k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
        one = np.ones(n)
        parts = (
            (k * l).sum() + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ l @ one)
        )
        return parts / (n * (n - 3))

    values = np.zeros((len(x[0]), len(y[0])))
    for i, j in np.ndindex(values.shape):
        xy, xx, yy = (sum(hsic(a[p], b[q]) for a, b in zip(one, two, strict=True)) for one, two, p, q in (
            (x, y, i, j), (x, x, i, i), (y, y, j, j)))  # fmt: skip
        values[i, j] = xy / np.sqrt(xx * yy)
    return values


def main(images: str, out: Path) -> None:
    """Run both comparisons, write the result and figure of the second, print what was found."""
    x, y = (cka_probe.load("random:swinv2_large:0") for _ in range(2))
    settings = {"num": IMAGES, "batch": BATCH, "seed": SEED}
    print("as initialised, against itself perturbed:")
    print(cka_probe.compare(x, perturbed(y), images, **settings).summary(), "\n")
    alive(x), alive(y)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    result = cka_probe.compare(x, y, images, **settings)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("with every branch alive:")
    print(result.summary())
    gib = after / 2**20, before / 2**20
    print(f"{seconds:.0f} s for 2 x {IMAGES} images; peak memory {gib[0]:.2f} GiB ({gib[1]:.2f} GiB before)")
    exact = plain_cka(plain_grams(x, images), plain_grams(y, images))
    print(f"largest difference to float64 from whole activations: {np.abs(exact - result.values).max():.1e}")
    result.save(out / "swin_large.json")
    from cka_probe.plotting import Heatmap, save

    save(Heatmap(result), [out / "swin_large.png"])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
