"""The calibrated score of the largest cell against the package calibrated-similarity: the same number, in less time.

pip install calibrated-similarity
python -m benchmarks.calibrated
"""

from statistics import median
from time import perf_counter

import torch

from cka_probe.similarity import (
    ESTIMATORS,
    calibrated_scores,
    centre_batches,
    cka,
    family_null,
    hsic_terms,
    permuted_values,
    u_centre,
)

UNBIASED = ESTIMATORS["unbiased"]
LAYERS, IMAGES, FEATURES, PERMUTATIONS = 6, 128, 128, 200


def similarity(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return unbiased CKA of features (n, p)."""
    x, y = (u_centre(z @ z.T) for z in (x, y))
    return (x * y).sum() / (x.norm() * y.norm())


def ours(x: list[torch.Tensor], y: list[torch.Tensor], seed: int) -> tuple[float, float]:
    """Return the calibrated score and tau, from features per layer."""
    sides = [
        centre_batches([torch.stack([(z - z.mean(dim=0)) @ (z - z.mean(dim=0)).T for z in side])], UNBIASED)
        for side in (x, y)
    ]
    terms = hsic_terms(*sides, UNBIASED)
    permuted = permuted_values(*sides, terms, UNBIASED, permutations=PERMUTATIONS, seed=seed)
    null = family_null(cka(terms), permuted)
    return float(calibrated_scores(torch.tensor(null.value), null.tau)), null.tau


def main() -> None:
    """Print both scores and times, alternating."""
    from calibrated_similarity import calibrate_layers

    generator = torch.Generator().manual_seed(0)
    x = [torch.randn(IMAGES, FEATURES, generator=generator, dtype=torch.float64) for _ in range(LAYERS)]
    y = [0.3 * z + torch.randn(IMAGES, FEATURES, generator=generator, dtype=torch.float64) for z in x]
    times: dict[str, list[float]] = {"ours": [], "calibrated-similarity": []}
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in times}
    for seed in range(5):
        start = perf_counter()
        scores["ours"].append(ours(x, y, seed))
        times["ours"].append(perf_counter() - start)
        if seed < 2:
            start = perf_counter()
            order = torch.Generator().manual_seed(seed)
            score, _, tau = calibrate_layers(x, y, similarity, K=PERMUTATIONS, generator=order)
            scores["calibrated-similarity"].append((float(score), float(tau)))
            times["calibrated-similarity"].append(perf_counter() - start)
    for name, pairs in scores.items():
        shown = "; ".join(f"score {score:.4f}, tau {tau:.4f}" for score, tau in pairs)
        print(f"{name}: {median(times[name]):.2f} s (median of {len(pairs)}); {shown}")
    print(f"ratio of times {median(times['calibrated-similarity']) / median(times['ours']):.0f}")


if __name__ == "__main__":
    main()
