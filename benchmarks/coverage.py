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

`seeds` has 3, 5 or 10 trainings of each side, or pairs of them of one recipe: `sqrt(s) signal + sqrt(1 - s) (sqrt(0.2)
d + sqrt(0.8) noise)`, with the share s and the direction d, a sum of eight further signals, drawn for each training,
and the noise for each training and image. The shares have the mean 0.7 and are normal, or skewed like minus chi^2_3;
the true mean CKA is `0.7^2 + (0.3 * 0.2)^2 / 8`.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product
from time import perf_counter

import torch
from scipy.special import stdtrit
from torch import Tensor

from cka_probe.similarity import ESTIMATORS, centre_batches, cka, family_null, hsic_terms, permuted_values
from cka_probe.similarity.cka import Centred
from cka_probe.similarity.groups import group_jackknife, group_terms
from cka_probe.similarity.intervals import fisher_z, jackknife, jackknife_of, mean_error, slope_of
from cka_probe.similarity.jackknife import Units, deviations, spread
from cka_probe.similarity.null import TIE, quantile_and_p_values
from cka_probe.similarity.seeds import seeds_jackknife

FEATURES, TRUTHS = 40, (0.0, 0.385, 0.8, 0.978)
WIDTHS = torch.arange(1, FEATURES + 1, dtype=torch.float64) ** -0.25
SHARE, COMMON, DIRECTIONS, DEVIATIONS = 0.7, 0.2, 8, (0.01, 0.04, 0.12)
MEAN = SHARE**2 + ((1 - SHARE) * COMMON) ** 2 / DIRECTIONS
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


def study(rhos: list[list[float]], n: int, scale: str, seed: int) -> tuple[Tensor, Tensor]:
    """Return the features of both sides, (layers, n, FEATURES).

    Args:
        rhos: Per layer of y, its share of each independent layer of x.
        n: Number of images.
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
    return x * factors, y * factors


def grams(features: Tensor, batch: int) -> list[Centred]:
    """Return U-centred Grams per batch, from features (layers, n, p)."""
    parts = [part - part.mean(dim=1, keepdim=True) for part in features.split(batch, dim=1)]
    return centre_batches([part @ part.mT for part in parts], UNBIASED)


def several(
    rhos: list[list[float]], n: int, batch: int, scale: str, seeds: range
) -> tuple[list[Centred], list[Centred]]:
    """Return both sides of several studies, per batch (studies x layers, batch, batch), as if of one comparison.

    What a comparison of them says of layers of the same study is what that study's own says; see `of_studies`.
    """
    x, y = (torch.cat(side) for side in zip(*(study(rhos, n, scale, seed) for seed in seeds), strict=True))
    return grams(x, batch), grams(y, batch)


def of_studies(cells: Tensor, studies: int) -> Tensor:
    """Return the cells of each study, (studies, rows, columns), from those of several studies together."""
    blocks = cells.unflatten(0, (studies, -1)).unflatten(2, (studies, -1))
    return blocks.diagonal(dim1=0, dim2=2).movedim(-1, 0)


def together(studies: int, n: int) -> Iterator[range]:
    """Yield the seeds of studies that are computed together: fewer of many images."""
    step = max(1, min(16, 2048 // n))
    for start in range(0, studies, step):
        yield range(start, min(start + step, studies))


def cells(studies: int, nums: list[int]) -> Iterator[str]:
    """Yield the rows of the table of single cells."""
    yield "| tails | truth | n | batch | coverage | median width |\n|---|---|---|---|---|---|"
    for n in nums:
        generator, step = torch.Generator().manual_seed(n), max(1, 2**19 // n**2)
        ends: dict[tuple[str, float, int], list[Tensor]] = {}
        for start in range(0, studies, step):
            count = min(step, studies - start)
            x, noise = (normal(count * n, FEATURES, generator).view(count, n, -1) * WIDTHS for _ in range(2))
            for scale in SCALES:
                factors = SCALES[scale](count * n, generator).view(count, n, 1)
                for batch, truth in product(sorted({64, n}), TRUTHS):
                    y = truth**0.5 * x + (1 - truth) ** 0.5 * noise
                    ends.setdefault((scale, truth, batch), []).append(intervals(x * factors, y * factors, batch))
        for (scale, truth, batch), parts in ends.items():
            low, high = torch.cat(parts, dim=1)
            share = ((low <= truth) & (truth <= high)).double().mean()
            yield f"| {scale} | {truth} | {n} | {batch} | {share:.3f} | {(high - low).median():.3f} |"


def intervals(x: Tensor, y: Tensor, batch: int) -> Tensor:
    """Return both ends of the interval of each study, (2, studies): those of `jackknife`, for all studies at once.

    Args:
        x: Features, (studies, n, FEATURES).
        y: The same.
        batch: Images in a batch.
    """
    n, (grams_x, grams_y) = x.shape[1], (torch.stack(grams(side, batch), dim=1) for side in (x, y))
    whole, without = [], []
    for first, second in ((grams_x, grams_y), (grams_x, grams_x), (grams_y, grams_y)):
        rows = (first * second).sum(dim=3)
        total = rows.sum(dim=2, keepdim=True)
        rest = (total - 2 * rows - 2 * rows / (batch - 3)) / (batch - 4) - total / (batch - 3)
        whole.append(total.sum(dim=(1, 2)) / (batch - 3))
        without.append(whole[-1] + rest.flatten(1).mT)
    (xy, xx, yy), (xy_i, xx_i, yy_i) = whole, without
    value = xy / (xx * yy).sqrt()
    exact = fisher_z(xy_i / (xx_i * yy_i).clamp_min(1e-300).sqrt())
    first_order = slope_of(value) * (xy_i / (xx * yy).sqrt() + value / 2 * (2 - xx_i / xx - yy_i / yy))
    shares = [deviations(part.mean(dim=0), part, torch.ones(n, dtype=torch.float64)) for part in (exact, first_order)]
    scales = [scale.view(-1, 1, 1, 1) for scale in (1 / (xx * yy).sqrt(), value / (2 * xx), value / (2 * yy))]
    noise = scales[0] * grams_x * grams_y - scales[1] * grams_x.square() - scales[2] * grams_y.square()
    noise = noise.square().sum(dim=(1, 2, 3)) / (batch - 3) ** 2
    ends = torch.stack(jackknife_of(value, *spread(shares[0], shares[1], n), noise, n).interval())
    sides = [grams(side[:1], batch) for side in (x, y)]  # the first study by the package
    expected = jackknife(*sides, hsic_terms(*sides, UNBIASED), UNBIASED, Units.of_images(sides[0])).interval()
    torch.testing.assert_close(ends[:, 0], torch.cat(expected).flatten(), rtol=0, atol=1e-9)
    return ends


def families(studies: int, nums: list[int]) -> Iterator[str]:
    """Yield the rows of the table of nine cells together."""
    yield (
        "| n | band holds all | band of the diagonal | interval of one cell | some p ≤ 0.05 of unrelated layers |\n"
        "|---|---|---|---|---|"
    )
    rhos = [[0.8, 0.3, 0.0], [0.4, 0.7, 0.2], [0.0, 0.3, 0.5]]
    truths, every, diagonal = torch.tensor(rhos).T.square(), torch.ones(3, 3).bool(), torch.eye(3).bool()
    for n in nums:
        hits = torch.zeros(4)
        for seeds in together(studies, n):
            sides = several(rhos, n, 64, "gaussian", seeds)
            errors = jackknife(*sides, hsic_terms(*sides, UNBIASED), UNBIASED, Units.of_images(sides[0]), 1000)
            for number in range(len(seeds)):
                here = torch.zeros(len(seeds), len(seeds), dtype=torch.bool)
                here[number, number] = True
                for index, family in enumerate((every, diagonal)):
                    mask = torch.kron(here, family)
                    low, high = (of_studies(end, len(seeds))[number] for end in errors.band(mask))
                    hits[index] += bool(((low <= truths) & (truths <= high))[family].all())
            low, high = (of_studies(end, len(seeds)) for end in errors.interval())
            hits[2] += ((low <= truths) & (truths <= high)).double().mean(dim=(1, 2)).sum()
            sides = several([[0.0] * 3] * 3, n, 64, "gaussian", range(studies + seeds.start, studies + seeds.stop))
            terms = hsic_terms(*sides, UNBIASED)
            permuted = permuted_values(*sides, terms, UNBIASED, permutations=199, seed=seeds.start)
            values = of_studies(cka(terms), len(seeds))
            for number, value in enumerate(values):
                draws = torch.stack([of_studies(draw, len(seeds))[number] for draw in permuted])
                hits[3] += family_null(value, draws).p_value <= 0.05
        yield f"| {n} | " + " | ".join(f"{share:.3f}" for share in hits / studies) + " |"


def null(studies: int, nums: list[int]) -> Iterator[str]:
    """Yield the rows of the table of unrelated layers that share the scale of each image."""
    yield "| tails | n | p ≤ 0.05 | its 95 % interval excludes 0 from below |\n|---|---|---|---|"
    for scale in SCALES:
        for n in nums:
            hits = torch.zeros(2)
            for seeds in together(studies, n):
                sides = several([[0.0]], n, 64, scale, seeds)
                terms = hsic_terms(*sides, UNBIASED)
                permuted = permuted_values(*sides, terms, UNBIASED, permutations=199, seed=seeds.start)
                p_values = quantile_and_p_values(permuted, cka(terms), TIE)[1]
                hits[0] += (of_studies(p_values, len(seeds)) <= 0.05).sum()
                low, _ = jackknife(*sides, terms, UNBIASED, Units.of_images(sides[0])).interval()
                hits[1] += (of_studies(low, len(seeds)) > 0).sum()
            yield f"| {scale} | {n} | " + " | ".join(f"{share:.3f}" for share in hits / studies) + " |"


def seeds(studies: int, nums: list[int]) -> Iterator[str]:
    """Yield the rows of the table of several trainings of each side."""
    yield (
        "| shares | pairs | sd of a share | n | 3 trainings | 5 | 10 | images alone, 5 | trainings / images, 5 |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for skewed, same, sd, n in product((False, True), (False, True), DEVIATIONS, nums):
        shares = []
        for count in (3, 5, 10):
            hits, alone, values, errors = 0, 0, [], []
            for seed in range(studies):
                x, y = (grams(side, 64) for side in trainings(count, n, sd, skewed, same, seed))
                mean = seeds_jackknife(x, y, UNBIASED, same=same)
                low, high = mean.interval()
                hits += bool(low <= MEAN <= high)
                if count == 5:
                    weights = torch.ones(count, count, dtype=torch.float64).fill_diagonal_(float(not same))
                    terms = hsic_terms(x, y, UNBIASED)
                    error, freedom = mean_error(x, y, terms, weights / weights.sum(), UNBIASED)
                    alone += bool((mean.values - MEAN).abs() <= float(stdtrit(float(freedom), 0.975)) * error)
                    values.append(float(mean.values))
                    errors.append(float(error))
            shares.append(hits / studies)
            if count == 5:
                images = torch.tensor(errors).square().mean()
                ratio = (torch.tensor(values).var() / images - 1).clamp_min(0).sqrt()
                last = f"{alone / studies:.3f} | {ratio:.1f}"
        kind, pairs = ("skewed" if skewed else "normal"), ("one recipe" if same else "two recipes")
        yield f"| {kind} | {pairs} | {sd} | {n} | " + " | ".join(f"{share:.3f}" for share in shares) + f" | {last} |"


def trainings(count: int, n: int, sd: float, skewed: bool, same: bool, seed: int) -> tuple[Tensor, Tensor]:
    """Return one layer of several trainings of both sides, (trainings, n, FEATURES); see the top of this file.

    Args:
        count: Trainings of each side.
        n: Number of images.
        sd: Standard deviation of the share of the signal over trainings.
        skewed: Whether a few trainings have a share far below the others.
        same: Whether both sides are the same trainings.
        seed: Seed of the study.
    """
    generator = torch.Generator().manual_seed(seed)
    both = count if same else 2 * count
    draws = normal(both, 3, generator)
    draws = (3 - draws.square().sum(dim=1)) / 6**0.5 if skewed else draws[:, 0]
    share = (SHARE + sd * draws).clamp(0, 1)[:, None, None]
    signals = torch.stack([normal(n, FEATURES, generator) for _ in range(1 + DIRECTIONS)])
    directions = torch.nn.functional.normalize(normal(both, DIRECTIONS, generator), dim=1)
    own = torch.stack([normal(n, FEATURES, generator) for _ in range(both)])
    rest = COMMON**0.5 * torch.einsum("ak,knp->anp", directions, signals[1:]) + (1 - COMMON) ** 0.5 * own
    features = (share.sqrt() * signals[0] + (1 - share).sqrt() * rest) * WIDTHS
    return features[:count], features[-count:]


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
    parts = {"cells": cells, "families": families, "null": null, "groups": groups, "seeds": seeds}
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
