"""Coverage of 95 % intervals, of simultaneous bands and of the null of the largest cell, on simulated studies.

    python -m benchmarks.coverage                 # all; prints tables in Markdown
    python -m benchmarks.coverage --studies 200 --num 64 --part cells

Each study draws n images with 40 features per layer of standard deviations `k^(-1/4)`, k = 1 … 40; y is
`rho x + sqrt(1 - rho^2) noise`, so the true CKA is rho^2, also after the scale of each image, common to both sides:

    gaussian   1                        lognormal  exp(0.7 g), g standard normal
    t3         sqrt(3 / chi^2_3)        outliers   10 for 1 % of the images, else 1

`cells` is the share of studies whose interval holds the truth; `families` that of studies whose band holds all nine
truths of three layers against three, and of studies of unrelated layers in which the corrected p-value of some cell is
at most 0.05; `null` has unrelated layers whose images share a scale; `groups` has images in groups of four, copies or
alike (correlation 0.7).
"""

import argparse
from collections.abc import Callable, Iterator
from time import perf_counter

import torch
from torch import Tensor

from cka_probe.similarity import ESTIMATORS, centre_batches, cka, family_null, hsic_terms, permuted_values
from cka_probe.similarity.groups import group_jackknife, group_terms
from cka_probe.similarity.intervals import jackknife
from cka_probe.similarity.jackknife import Units

FEATURES, TRUTHS = 40, (0.0, 0.385, 0.8, 0.978)
WIDTHS = torch.arange(1, FEATURES + 1, dtype=torch.float64) ** -0.25
UNBIASED = ESTIMATORS["unbiased"]
SCALES: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "gaussian": lambda n, _: torch.ones(n, 1, dtype=torch.float64),
    "t3": lambda n, generator: (3 / normal(n, 3, generator).square().sum(dim=1, keepdim=True)).sqrt(),
    "lognormal": lambda n, generator: (0.7 * normal(n, 1, generator)).exp(),
    "outliers": lambda n, generator: 1 + 9 * (torch.rand(n, 1, generator=generator) < 0.01).double(),
}


def normal(n: int, p: int, generator: torch.Generator) -> Tensor:
    """Return standard normal features, (n, p) float64."""
    return torch.randn(n, p, generator=generator, dtype=torch.float64)


def study(rhos: list[list[float]], n: int, batch: int, scale: str, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the centred Grams of both sides, per batch (layers, batch, batch).

    Args:
        rhos: Per layer of y, its share of each independent layer of x.
        n: Number of images.
        batch: Images in a batch.
        scale: Key of `SCALES`.
        seed: Seed of the study.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.stack([normal(n, FEATURES, generator) * WIDTHS for _ in rhos[0]])
    shares = torch.tensor(rhos, dtype=torch.float64)
    noise = torch.stack([normal(n, FEATURES, generator) * WIDTHS for _ in rhos])
    y = (
        torch.einsum("yx,xnp->ynp", shares, x)
        + (1 - shares.square().sum(dim=1)).clamp_min(0).sqrt()[:, None, None] * noise
    )
    factors = SCALES[scale](n, generator)
    return grams(x * factors, batch), grams(y * factors, batch)


def grams(features: Tensor, batch: int) -> list[Tensor]:
    """Return U-centred Grams per batch, from features (layers, n, p)."""
    parts = [part - part.mean(dim=1, keepdim=True) for part in features.split(batch, dim=1)]
    return centre_batches([part @ part.mT for part in parts], UNBIASED)


def cells(studies: int, nums: list[int]) -> Iterator[str]:
    """Yield the rows of the table of single cells."""
    yield "| tails | truth | n | batch | coverage | median width |\n|---|---|---|---|---|---|"
    for scale in SCALES:
        for truth in TRUTHS:
            for n in nums:
                for batch in sorted({64, n}):
                    ends = []
                    for seed in range(studies):
                        sides = study([[truth**0.5]], n, batch, scale, seed)
                        terms = hsic_terms(*sides, UNBIASED)
                        ends.append(jackknife(*sides, terms, UNBIASED, Units.of_images(sides[0])).interval())
                    low, high = (torch.cat(end).flatten() for end in zip(*ends, strict=True))
                    share = ((low <= truth) & (truth <= high)).double().mean()
                    yield f"| {scale} | {truth} | {n} | {batch} | {share:.3f} | {(high - low).median():.3f} |"


def families(studies: int, nums: list[int]) -> Iterator[str]:
    """Yield the rows of the table of nine cells together."""
    yield "| n | band holds all | band of the diagonal | some p ≤ 0.05 of unrelated layers |\n|---|---|---|---|"
    rhos = [[0.8, 0.3, 0.0], [0.4, 0.7, 0.2], [0.0, 0.3, 0.5]]
    truths, every, diagonal = torch.tensor(rhos).T.square(), torch.ones(3, 3).bool(), torch.eye(3).bool()
    for n in nums:
        hits = torch.zeros(3)
        for seed in range(studies):
            sides = study(rhos, n, 64, "gaussian", seed)
            errors = jackknife(*sides, hsic_terms(*sides, UNBIASED), UNBIASED, Units.of_images(sides[0]), 1000)
            for number, family in enumerate((every, diagonal)):
                low, high = errors.band(family)
                hits[number] += bool(((low <= truths) & (truths <= high))[family].all())
            sides = study([[0.0] * 3] * 3, n, 64, "gaussian", studies + seed)
            terms = hsic_terms(*sides, UNBIASED)
            permuted = permuted_values(*sides, terms, UNBIASED, permutations=199, seed=seed)
            hits[2] += family_null(cka(terms), permuted).p_value <= 0.05
        yield f"| {n} | " + " | ".join(f"{share:.3f}" for share in hits / studies) + " |"


def null(studies: int, nums: list[int]) -> Iterator[str]:
    """Yield the rows of the table of unrelated layers that share the scale of each image."""
    yield "| tails | n | p ≤ 0.05 | its 95 % interval excludes 0 from below |\n|---|---|---|---|"
    for scale in SCALES:
        for n in nums:
            hits = torch.zeros(2)
            for seed in range(studies):
                sides = study([[0.0]], n, 64, scale, seed)
                terms = hsic_terms(*sides, UNBIASED)
                permuted = permuted_values(*sides, terms, UNBIASED, permutations=199, seed=seed)
                hits[0] += family_null(cka(terms), permuted).p_value <= 0.05
                hits[1] += bool(jackknife(*sides, terms, UNBIASED, Units.of_images(sides[0])).interval()[0] > 0)
            yield f"| {scale} | {n} | " + " | ".join(f"{share:.3f}" for share in hits / studies) + " |"


def groups(studies: int, nums: list[int]) -> Iterator[str]:
    """Yield the rows of the table of images in groups of four."""
    yield "| within a group | truth | n | mean value | coverage, groups given | not given |\n|---|---|---|---|---|---|"
    for kind, share in (("copies", 1.0), ("correlation 0.7", 0.7)):
        for truth in (0.0, 0.385):
            for n in nums:
                hits, total = torch.zeros(2), 0.0
                for seed in range(studies):
                    generator, index = torch.Generator().manual_seed(seed), torch.arange(n) // 4
                    x, noise = (
                        (share**0.5 * normal(n // 4, FEATURES, generator)[index]
                         + (1 - share) ** 0.5 * normal(n, FEATURES, generator)) * WIDTHS
                        for _ in range(2)
                    )  # fmt: skip
                    y = truth**0.5 * x + (1 - truth) ** 0.5 * noise
                    sides = [[((z - z.mean(dim=0)) @ (z - z.mean(dim=0)).T)[None]] for z in (x, y)]
                    units = Units((index,))
                    terms = group_terms(*sides, units)
                    total += float(cka(terms)) / studies
                    centred = [centre_batches(side, UNBIASED) for side in sides]
                    alone = jackknife(*centred, hsic_terms(*centred, UNBIASED), UNBIASED, Units.of_images(sides[0]))
                    for number, errors in enumerate((group_jackknife(*sides, terms, units), alone)):
                        low, high = errors.interval()
                        hits[number] += bool(low <= truth <= high)
                shares = (hits / studies).tolist()
                yield f"| {kind} | {truth} | {n} | {total:.3f} | {shares[0]:.3f} | {shares[1]:.3f} |"


def main() -> None:
    """Print the tables."""
    parts = {"cells": cells, "families": families, "null": null, "groups": groups}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--num", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--part", choices=[*parts], nargs="+", default=[*parts])
    arguments = parser.parse_args()
    for name in arguments.part:
        start = perf_counter()
        print(f"\n{name}, {arguments.studies} studies each, seeds from 0\n", flush=True)
        for row in parts[name](arguments.studies, arguments.num):
            print(row, flush=True)
        print(f"\n{perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
