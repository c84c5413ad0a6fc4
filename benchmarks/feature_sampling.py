"""Bias and coverage of CKA from a sample of the features of each layer, on simulated studies.

    python -m benchmarks.feature_sampling                      # tables in Markdown
    python -m benchmarks.feature_sampling --studies 100 --features 64 --num 128

A layer of P features is `x = Z L^(1/2) A`: m independent Gaussian variables Z with variances `k^(-a)`, k = 1 … m, and
random weights A (m, P). The other one has variables with a correlation of `rho` with these, and

    apart     weights and sampled features of its own
    shared    the same weights and the same sampled features, as a checkpoint and its fine-tune have

So CKA of infinitely many features is `rho^2`, and that of the whole layers follows from A. Each study draws new ones
of all, computes CKA from n images and p of the P features, and compares it with both targets.
"""

import argparse
from time import perf_counter

import torch
from torch import Tensor

from cka_probe.similarity.feature_sampling import FeatureSample, sampled_cells

VARIABLES, TOTAL, DECAYS, TRUTHS = 256, 1024, (0.5, 1.0, 2.0), (0.0, 0.385, 0.8, 0.978)


def study(decay: float, shared: bool, num: int, batch: int, features: int, seed: int) -> dict[str, list[Tensor]]:
    """Return for each estimator its values, ends of intervals and truths, (truths,) float64 each."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    spectrum = torch.arange(1, VARIABLES + 1, dtype=torch.float64) ** -decay
    z, weights = normal(num, VARIABLES), normal(VARIABLES, TOTAL)
    columns = [weights if shared else normal(VARIABLES, TOTAL) for _ in TRUTHS]
    rhos = [truth**0.5 for truth in TRUTHS]
    y = [rho * z + (1 - rho**2) ** 0.5 * normal(num, VARIABLES) for rho in rhos]
    roots, scaled = spectrum.sqrt(), [spectrum[:, None] * (w @ w.T) for w in (weights, *columns)]
    lengths = [(each * each.T).sum().sqrt() for each in scaled]
    whole = torch.stack([
        rho**2 * (scaled[0] * each.T).sum() / (lengths[0] * length)
        for rho, each, length in zip(rhos, scaled[1:], lengths[1:], strict=True)
    ])  # fmt: skip

    def sample(sides: list[Tensor], kept: list[Tensor], totals: int) -> FeatureSample:
        layers = [(side * roots) @ w for side, w in zip(sides, kept, strict=True)]
        batches = [[part - part.mean(dim=0) for part in layer.split(batch)] for layer in layers]
        return FeatureSample(tuple(zip(*batches, strict=True)), (totals,) * len(layers))

    kept = [w[:, :features] for w in (weights, *columns)]
    related = torch.full((1, len(TRUTHS)), shared)
    results = {}
    for name, totals, population, truth in (
        ("unbiased, uncorrected", features, False, whole),
        ("unbiased", TOTAL, False, whole),
        ("doubly_unbiased", TOTAL, True, torch.tensor(TRUTHS, dtype=torch.float64)),
    ):
        sides = sample([z], kept[:1], totals), sample(y, kept[1:], totals)
        cells = sampled_cells(*sides, population=population, shared=related)
        results[name] = [cells.values[0], cells.low[0], cells.high[0], truth]
    return results


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--num", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--features", type=int, default=64)
    arguments = parser.parse_args()
    start = perf_counter()
    print(f"\n{arguments.studies} studies, n = {arguments.num} in batches of {arguments.batch}, "
          f"{arguments.features} of {TOTAL} features\n")  # fmt: skip
    print("| estimator | features | a | truth | mean error | its standard error | interval holds | half-width |")
    print("|---|---|---|---|---|---|---|---|")
    for shared in (False, True):
        for decay in DECAYS:
            studies = [
                study(decay, shared, arguments.num, arguments.batch, arguments.features, seed)
                for seed in range(arguments.studies)
            ]
            for name in studies[0]:
                values, low, high, truth = (
                    torch.stack(part) for part in zip(*(each[name] for each in studies), strict=True)
                )
                error, holds = values - truth, ((low <= truth) & (truth <= high)).double().mean(dim=0)
                spread = error.std(dim=0) / len(error) ** 0.5
                half = (high - low).median(dim=0).values / 2
                for index, value in enumerate(TRUTHS):
                    print(f"| {name} | {'shared' if shared else 'apart'} | {decay:g} | {value:g} "
                          f"| {error[:, index].mean():+.4f} | {spread[index]:.4f} | {holds[index]:.3f} "
                          f"| {half[index]:.3f} |", flush=True)  # fmt: skip
    print(f"\n{perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
