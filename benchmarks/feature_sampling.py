"""Bias and coverage of CKA from a sample of the features of each layer, on simulated studies.

    python -m benchmarks.feature_sampling                      # tables in Markdown
    python -m benchmarks.feature_sampling --studies 100 --features 64 --num 128
    python -m benchmarks.feature_sampling --cost IMAGES        # seconds with a sample and without

A layer of P features is `x = Z L^(1/2) A`: m independent Gaussian variables Z with variances `k^(-a)`, k = 1 … m, and
random weights A (m, P). The other one has variables with a correlation of `rho` with these, and

    apart     weights and sampled features of its own
    shared    the same weights and the same sampled features, as a checkpoint and its fine-tune have

So CKA of infinitely many features is `rho^2`, and that of the whole layers follows from A. Each study draws new ones
of all, computes CKA from n images and p of the P features, and compares it with both targets.

`--cost` compares two ResNet-18 over 128 images of 96 pixels in a folder, with all features and with samples, in turns,
and counts the seconds of the processor.
"""

import argparse
from itertools import product
from time import perf_counter, process_time

import torch
from torch import Tensor

from cka_probe import compare_fingerprints, fingerprints
from cka_probe.similarity.feature_sampling import FeatureSample, sampled_cells

VARIABLES, TOTAL, DECAYS, TRUTHS = 256, 1024, (0.5, 1.0, 2.0), (0.0, 0.385, 0.8, 0.978)
ESTIMATORS = {"unbiased, uncorrected": False, "unbiased": False, "doubly_unbiased": True}


def study(num: int, batch: int, features: int, seed: int) -> Tensor:
    """Return values, ends of intervals and truths, (apart or shared, decays, estimators, 4, truths) float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    z, noise, weights = normal(num, VARIABLES), normal(num, VARIABLES), normal(2, VARIABLES, TOTAL)
    grams, truths = (weights @ weights.mT).double(), torch.tensor(TRUTHS, dtype=torch.float64)
    results = []
    for other, decay in product((1, 0), DECAYS):
        spectrum = torch.arange(1, VARIABLES + 1) ** -decay
        first, second = (spectrum.double()[:, None] * grams[side] for side in (0, other))
        lengths = [(side * side.mT).sum().sqrt() for side in (first, second)]
        whole = truths * (first * second.mT).sum() / (lengths[0] * lengths[1])
        x = [(z * spectrum.sqrt()) @ weights[0, :, :features]]
        columns = [(truth**0.5 * z + (1 - truth) ** 0.5 * noise) * spectrum.sqrt() for truth in TRUTHS]
        y = [column @ weights[other, :, :features] for column in columns]
        shared = torch.full((1, len(TRUTHS)), other == 0)
        for name, population in ESTIMATORS.items():
            total = features if "uncorrected" in name else TOTAL
            sides = [sample(side, batch, total) for side in (x, y)]
            cells = sampled_cells(*sides, population=population, shared=shared)
            results.append(torch.stack([cells.values[0], cells.low[0], cells.high[0], truths if population else whole]))
    return torch.stack(results).view(2, len(DECAYS), len(ESTIMATORS), 4, len(TRUTHS))


def sample(layers: list[Tensor], batch: int, total: int) -> FeatureSample:
    """Return a sample of layers of so many features, from its features (n, p)."""
    batches = [[part - part.mean(dim=0) for part in layer.split(batch)] for layer in layers]
    return FeatureSample(tuple(zip(*batches, strict=True)), (total,) * len(layers))


def cost(folder: str, rounds: int) -> None:
    """Print the seconds of fingerprints and of their comparison over a folder of images, after an uncounted round."""
    numbers, seconds = (None, 64, 512), torch.zeros(rounds + 1, 3, 2)
    for round_, (index, number) in product(range(rounds + 1), enumerate(numbers)):
        start = process_time()
        models = "random:resnet18:0", "random:resnet18:1"
        sides = fingerprints(*models, folder, num=128, size=96, num_features=number)
        captured = process_time()
        compare_fingerprints(*sides)
        seconds[round_, index] = torch.tensor([captured - start, process_time() - captured])
    counted = seconds[1:]
    captures, wholes = (part / part[:, :1] for part in (counted[..., 0], counted.sum(dim=2)))
    print("| features of a layer at most | fingerprints, s | comparing them, s | fingerprints / all | both / all |")
    print("|---|---|---|---|---|")
    for index, number in enumerate(numbers):
        capture, compare = counted[:, index].median(dim=0).values.tolist()
        ratios = [f"{part[:, index].median():.2f} ({part[:, index].min():.2f} to {part[:, index].max():.2f})"
                  for part in (captures, wholes)]  # fmt: skip
        print(f"| {number or 'all'} | {capture:.2f} | {compare:.2f} | {ratios[0]} | {ratios[1]} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--num", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--cost", metavar="IMAGES")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.cost:
        return cost(arguments.cost, arguments.rounds)
    start = perf_counter()
    print(f"\n{arguments.studies} studies, n = {arguments.num} in batches of {arguments.batch}, "
          f"{arguments.features} of {TOTAL} features\n")  # fmt: skip
    print("| estimator | features | a | truth | mean error | its standard error | interval holds | width / needed |")
    print("|---|---|---|---|---|---|---|---|")
    studies = torch.stack([
        study(arguments.num, arguments.batch, arguments.features, seed) for seed in range(arguments.studies)
    ])  # fmt: skip
    for kind, decay, estimator in product(range(2), range(len(DECAYS)), range(len(ESTIMATORS))):
        values, low, high, truth = studies[:, kind, decay, estimator].unbind(dim=1)
        error, holds = values - truth, ((low <= truth) & (truth <= high)).double().mean(dim=0)
        deviation, widths = error.std(dim=0), (high - low).square().mean(dim=0).sqrt()
        for index, value in enumerate(TRUTHS):
            print(f"| {[*ESTIMATORS][estimator]} | {'shared' if kind else 'apart'} | {DECAYS[decay]:g} | {value:g} "
                  f"| {error[:, index].mean():+.4f} | {deviation[index] / len(error) ** 0.5:.4f} | {holds[index]:.3f} "
                  f"| {widths[index] / (2 * 1.96 * deviation[index]):.2f} |")  # fmt: skip
    print(f"\n{perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
