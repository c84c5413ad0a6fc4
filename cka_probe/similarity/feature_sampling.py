"""CKA from a random sample of the features (units) of each layer, corrected for it as well as for few images.

Let `x_u` be the values of feature u over n images, minus their mean, and `K = sum_u x_u x_u^T` the Gram of p sampled of
P features. The unbiased HSIC (Song et al. 2012) is bilinear, so that of two Grams is a sum over pairs of features,

    HSIC(K, L) = sum_(u, v) h(x_u, y_v),     n (n - 3) h(x, y) = (x . y)^2 - n/(n - 2) sum_i x_i^2 y_i^2
                                                                 + |x|^2 |y|^2 / ((n - 1)(n - 2))

A pair of two different features is in a sample with another probability than a feature with itself. Where both Grams
are of the same features, as in `HSIC(K, K)`, or of features that were drawn together, the sum therefore has two parts,

    S = sum_u h(x_u, y_u),     D = HSIC(K, L) - S

and one that depends on the target:

    whole layer   P (P - 1) / (p (p - 1)) D + P / p S       all P features, of which p were drawn at random
    population    D / (p (p - 1))                           infinitely many features, of which p were drawn

Each is unbiased for HSIC of its target. Where x and y were drawn independently, all pairs are alike, and HSIC(K, L) is
multiplied by `P_x P_y / (p_x p_y)` or divided by `p_x p_y`. CKA is the ratio of their sums over batches, as in `cka`.
That of the population is the estimator of Chun, Canatar, Chung & Lee 2025 (arXiv 2502.15104); that of the whole layer
is the one of finite populations (Horvitz & Thompson 1952), and is `unbiased` CKA where p = P.

Two layers of the same number of features are taken for ones that share their features, as those of a checkpoint and its
fine-tune do: the same indices are drawn of both. If in fact they are unrelated, this omits a share 1/p of the pairs.

**Ratio.** A ratio of unbiased sums is biased: by about `c / p` for each side with features of its own, c at most 1 and
near it where one direction has most of the variance. Its jackknife estimate, `(p - 1) (mean_u v_(-u) - v)`, for the
whole layer times `1 - p / P`, is subtracted.

**Interval.** Images and features are left out one at a time, both exactly: D loses `2 x_u^T U(K) x_u / (n (n - 3))`
with feature u, up to `h(x_u, x_u)`, and U the U-centring. The variance is J over images plus that over features of x
and of y, or of both together if they share them; that of the whole layer is multiplied by `1 - p / P`. This counts the
noise of a pair of images twice, and that of few features in the pair once more for each side, up to four times in all.
With e_ij what the pair adds to CKA to first order in HSIC (see `intervals`), and e_iju what it adds with feature u, so

    J - 2 sum_(i != j) e_ij^2                                           for J over images, not less than half of J
    J - 4 sum_(i, u) (sum_j e_iju)^2 + 2 sum_(i != j, u) e_iju^2        for each J over features, not less than 0

take the place of J. The second has no noise of images: it is the sum of products of `e_iju` and `e_klu` with four
distinct images. Sums over j are taken minus their means over i and over u, and e_iju minus that over u. Pairs of
features are still counted twice, so intervals can be too wide by up to sqrt(2). A ratio of noisy sums can be above 1.

**Null.** Images of y are permuted in HSIC(K, L); D and S apart would differ from it by a share 1/p of its spread.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, combinations_with_replacement

import torch
from scipy.special import stdtrit
from torch import Tensor

from cka_probe.similarity.cells import ROUNDING, Cells
from cka_probe.similarity.cka import ESTIMATORS, Terms, cka, hsic_terms, u_centre
from cka_probe.similarity.intervals import Scales, scales_of
from cka_probe.similarity.jackknife import deviations, ratio
from cka_probe.similarity.null import permuted_values, quantile_and_p_values

UNBIASED = ESTIMATORS["unbiased"]
MOST_FREEDOM = 1e6
"""Degrees of freedom of an interval that is no wider than a normal one."""

Hsics = tuple[Tensor, Tensor, Tensor]
"""HSIC of every pair of layers, and of each layer of x and of y with itself."""


@dataclass(frozen=True)
class FeatureSample:
    """Some features of the layers of a model.

    Attributes:
        values: Per batch and layer, (n, p) floats, minus their means over the images of the batch.
        totals: P of each layer: the number of its features, sampled or not.
    """

    values: tuple[tuple[Tensor, ...], ...]
    totals: tuple[int, ...]

    def of(self, layers: Sequence[int]) -> "FeatureSample":
        """Return that of some of the layers."""
        values = tuple(tuple(batch[layer] for layer in layers) for batch in self.values)
        return FeatureSample(values, tuple(self.totals[layer] for layer in layers))

    @property
    def is_complete(self) -> bool:
        """Whether no feature was left out."""
        return self.counts == self.totals

    @property
    def counts(self) -> tuple[int, ...]:
        """The number p of sampled features of each layer."""
        return tuple(layer.shape[1] for layer in self.values[0])


@dataclass(frozen=True)
class Factors:
    """What sums over sampled features are multiplied by.

    Attributes:
        distinct: Of pairs of two features of one sample.
        equal: Of a feature with itself.
        single: For each sample of pairs from two.
        noise: Share of the variance over features that the target leaves: `1 - p / P`, or 1.
    """

    distinct: float
    equal: float
    single: float
    noise: float

    @classmethod
    def of(cls, count: int, total: int, population: bool) -> "Factors":
        """Return those of `count` of `total` features, for the target."""
        pairs = count * (count - 1)
        if population:
            return cls(1 / pairs if pairs else torch.nan, 0.0, 1 / count if count else torch.nan, 1.0)
        if count == total:
            return cls(1.0, 1.0, 1.0, 0.0)
        return cls(total * (total - 1) / pairs if pairs else torch.nan, total / count, total / count, 1 - count / total)


def feature_hsic(x: Tensor, y: Tensor) -> Tensor:
    """Return `h(x_u, y_u)` of every feature, (p,) float64, from (n, p) float64 without their means."""
    n = len(x)
    both = x * y
    sums = both.sum(dim=0).square() - n / (n - 2) * both.square().sum(dim=0)
    return (sums + x.square().sum(dim=0) * y.square().sum(dim=0) / ((n - 1) * (n - 2))) / (n * (n - 3))


def feature_hsic_without(x: Tensor, y: Tensor) -> Tensor:
    """Return `sum_u h(x_u, y_u)` without each image, (n,) float64; arguments as in `feature_hsic`.

    The mean of the others is `-x_i / (n - 1)`, by which they are shifted.
    """
    n, rest = len(x), len(x) - 1
    xy, xx, yy = x * y, x.square(), y.square()
    mean_x, mean_y = -x / rest, -y / rest
    inner, lengths_x, lengths_y = (part.sum(dim=0) - n / rest * part for part in (xy, xx, yy))
    fourth = (xy.square().sum(dim=0) - xy.square()) + rest * (mean_x * mean_y).square()
    fourth -= 2 * mean_y * ((xx * y).sum(dim=0) - xx * y) + 2 * mean_x * ((x * yy).sum(dim=0) - x * yy)
    fourth += mean_y.square() * (xx.sum(dim=0) - xx) + mean_x.square() * (yy.sum(dim=0) - yy)
    fourth += 4 * mean_x * mean_y * (xy.sum(dim=0) - xy)
    fourth += 2 * mean_x * mean_y.square() * x + 2 * mean_x.square() * mean_y * y
    sums = inner.square() - rest / (rest - 2) * fourth + lengths_x * lengths_y / ((rest - 1) * (rest - 2))
    return sums.sum(dim=1) / (rest * (rest - 3))


class _Side:
    """A sample, with what is computed of its layers alone.

    Attributes:
        values: Per batch and layer, (n, p) float64.
        centred: Per batch, (layers, n, n) float64, U-centred Grams.
        factors: Per layer.
        fewer: Per layer, those without one of the features.
        own: Per layer, (p,) float64, `h(x_u, x_u)` summed over batches, weighted by images.
        products: Per batch and layer, the inner products of images, (n, n) float64, of features to the powers 1 to 4.
        applied: Per batch and layer, U-centred Gram times values, (n, p) float64.
        lost: Per layer, (p,) float64, HSIC of feature u and the layer, summed in the same way.
    """

    def __init__(self, sample: FeatureSample, population: bool):
        self.values = [[layer.double() for layer in batch] for batch in sample.values]
        self.centred = [u_centre(torch.stack([layer @ layer.mT for layer in batch])) for batch in self.values]
        counts = list(zip(sample.counts, sample.totals, strict=True))
        self.factors = [Factors.of(count, total, population) for count, total in counts]
        self.fewer = [Factors.of(count - 1, total, population) for count, total in counts]
        self.own = [self.sum_features(layer, layer) for layer in range(len(counts))]
        self.products = [
            [[_products(power) for power in _powers(layer, 4)] for layer in batch] for batch in self.values
        ]
        self.applied = [list(map(torch.matmul, *batch)) for batch in zip(self.centred, self.values, strict=True)]
        self.lost = [self.sum_products(layer, [stack[layer] for stack in self.centred]) for layer in range(len(counts))]

    def column(self, name: str) -> Tensor:
        """Return one of the factors of all layers, (layers,) float64."""
        return torch.tensor([getattr(factors, name) for factors in self.factors], dtype=torch.float64)

    def sum_features(self, layer: int, other: int, side: "_Side | None" = None) -> Tensor:
        """Return `h(x_u, y_u)` of a layer and one of the same or another side, (p,), summed over batches."""
        pairs = zip(self.values, (side or self).values, strict=True)
        return torch.stack([len(x[layer]) * feature_hsic(x[layer], y[other]) for x, y in pairs]).sum(dim=0)

    def sum_products(self, layer: int, centred: Sequence[Tensor]) -> Tensor:
        """Return HSIC of each feature of a layer and U-centred Grams (n, n), (p,), summed over batches."""
        sums = torch.zeros(self.values[0][layer].shape[1], dtype=torch.float64)
        for batch, gram in zip(self.values, centred, strict=True):
            sums += ((gram @ batch[layer]) * batch[layer]).sum(dim=0) / (len(gram) - 3)  # n / (n (n - 3))
        return sums

    def own_without(self, layer: int, total: Tensor) -> Tensor:
        """Return HSIC of a layer with itself without each feature, (p,), from that of all pairs of features."""
        own, fewer = self.own[layer], self.fewer[layer]
        equal = own.sum() - own
        return fewer.distinct * (total - 2 * self.lost[layer] + own - equal) + fewer.equal * equal


@dataclass(frozen=True)
class Estimate:
    """CKA of sampled features with its error; (rows, columns) float64 but for the terms.

    Attributes:
        values: The published estimator: the ratio of the sums of the terms.
        bias: Of that ratio, estimated.
        variance: Of the values, over images and features.
        freedom: Degrees of freedom of the variance.
        terms: HSIC of the target.
        chance: What CKA of all sampled features is multiplied by to have the scale of the values.
    """

    values: Tensor
    bias: Tensor
    variance: Tensor
    freedom: Tensor
    terms: Terms
    chance: Tensor


def sampled_cells(
    x: FeatureSample,
    y: FeatureSample,
    *,
    population: bool = False,
    permutations: int = 0,
    seed: int = 0,
    shared: Tensor | None = None,
) -> Cells:
    """Return CKA of every layer of x with every layer of y, of the whole layers or of the population of features.

    Args:
        x: The rows.
        y: The columns, of the same images in the same batches, each of at least four images.
        population: Whether the target is that of infinitely many features.
        permutations: Number of permutations for the null; 0 gives NaN.
        seed: Seed of the permutations.
        shared: (rows, columns) bool, which layers share their features; by default those of the same number of them.
    """
    sides = _Side(x, population), _Side(y, population)
    pairs = hsic_terms(sides[0].centred, sides[1].centred, UNBIASED)
    estimate = _estimate(sides, pairs, _shared(x, y) if shared is None else shared)
    quantile = torch.from_numpy(stdtrit(estimate.freedom.numpy(), 0.975))
    values, margin = estimate.values - estimate.bias, quantile * estimate.variance.sqrt().nan_to_num(torch.inf)
    low, high = (values - margin).clamp_min(-1.0), (values + margin).clamp_max(1.0)
    x_centred, y_centred = (side.centred for side in sides)
    permuted = permuted_values(x_centred, y_centred, pairs, UNBIASED, permutations=permutations, seed=seed)
    permuted = permuted * estimate.chance
    null, p_values = quantile_and_p_values(permuted, values, ROUNDING)
    ends = torch.minimum(low, values), torch.maximum(high, values)
    return Cells(values, *ends, null, p_values, estimate.terms, permuted)


def sampled_cka(
    x: FeatureSample, y: FeatureSample, *, population: bool = False, shared: Tensor | None = None
) -> Estimate:
    """Return CKA and its error; arguments as in `sampled_cells`."""
    sides = _Side(x, population), _Side(y, population)
    pairs = hsic_terms(sides[0].centred, sides[1].centred, UNBIASED)
    return _estimate(sides, pairs, _shared(x, y) if shared is None else shared)


def _shared(x: FeatureSample, y: FeatureSample) -> Tensor:
    """Return which layers have the same number of features and of sampled ones, (rows, columns) bool."""
    sizes = [torch.tensor(list(zip(side.counts, side.totals, strict=True))) for side in (x, y)]
    return (sizes[0][:, None] == sizes[1]).all(dim=2)


def _estimate(sides: tuple[_Side, _Side], pairs: Terms, shared: Tensor) -> Estimate:
    """Return CKA and its error from HSIC of all pairs of sampled features."""
    combine = partial(_combine, sides=sides, shared=shared)
    batches = [combine(_of_batch(pairs, number), number, _sum_of_features) for number in range(len(pairs.weights))]
    xy, xx, yy = (torch.cat([batch[index] for batch in batches]) for index in range(3))
    terms = Terms(xy, xx, yy, pairs.weights)
    values, sums, without = cka(terms), terms.sums(), []
    for number, n in enumerate(pairs.weights.tolist()):
        fewer = combine(_without_images(_of_batch(pairs, number), sides, number), number, feature_hsic_without)
        columns = zip(sums, batches[number], fewer, strict=True)
        xy, xx, yy = (total - n * whole + (n - 1) * less for total, whole, less in columns)
        without.append(ratio(xy, xx[:, :, None], yy[:, None]))
    squares, spread = _moments(values, torch.cat(without))
    bias, variance, scales = torch.zeros_like(values), squares.clone(), scales_of(terms)
    for row, column in values.isfinite().nonzero().tolist():
        cell = _Cell(sides, row, column, bool(shared[row, column]), pairs.sums(), sums, scales)
        pair_noise, image_noise = cell.noise_counted_again()
        variance[row, column] = torch.maximum(squares[row, column] - 2 * pair_noise, squares[row, column] / 2)
        for (noise, rest), again in zip(cell.without_features(), image_noise, strict=False):
            more = _moments(values[row, column], rest)
            bias[row, column] += noise * (len(rest) - 1) * (rest.mean() - values[row, column]).nan_to_num()
            squares[row, column] += noise * more[0]
            variance[row, column] += noise * (more[0] - again).clamp_min(0)
            spread[row, column] += noise**2 * more[1]
    freedom = (2 * squares.square() / spread).nan_to_num(1.0, MOST_FREEDOM, 1.0).clamp(1.0, MOST_FREEDOM)
    single = sides[0].column("single")[:, None] * sides[1].column("single")
    lengths = [each.sums()[1].sqrt()[:, None] * each.sums()[2].sqrt() for each in (pairs, terms)]
    return Estimate(values, bias, variance, freedom, terms, single * lengths[0] / lengths[1])


def _of_batch(terms: Terms, number: int) -> Hsics:
    """Return the terms of one batch, (1, ...) each."""
    return terms.xy[[number]], terms.xx[[number]], terms.yy[[number]]


def _sum_of_features(x: Tensor, y: Tensor) -> Tensor:
    """Return `sum_u h(x_u, y_u)`, (1,)."""
    return feature_hsic(x, y).sum()[None]


def _combine(
    pairs: Hsics,
    number: int,
    function: Callable[[Tensor, Tensor], Tensor],
    *,
    sides: tuple["_Side", "_Side"],
    shared: Tensor,
) -> Hsics:
    """Return HSIC of the target from that of all pairs of features.

    Args:
        pairs: (k, rows, columns), (k, rows) and (k, columns).
        number: Of the batch.
        function: `sum_u h(x_u, y_u)` of two layers, (k,).
        sides: Both sides.
        shared: (rows, columns) bool.
    """
    xy, *own = pairs
    x, y = (side.values[number] for side in sides)
    equal = torch.zeros_like(xy)
    for row, column in shared.nonzero().tolist():
        equal[:, row, column] = function(x[row], y[column])
    distinct, same, single = ([side.column(name) for side in sides] for name in ("distinct", "equal", "single"))
    together = distinct[0][:, None] * (xy - equal) + same[0][:, None] * equal
    xy = torch.where(shared, together, single[0][:, None] * single[1] * xy)
    for index, layers in enumerate((x, y)):
        equal = torch.stack([function(layer, layer) for layer in layers], dim=1)
        own[index] = distinct[index] * (own[index] - equal) + same[index] * equal
    return xy, own[0], own[1]


def _without_images(hsics: Hsics, sides: tuple["_Side", "_Side"], number: int) -> Hsics:
    """Return HSIC of all pairs of features in a batch without each image, (n, ...); see `similarity.jackknife`."""
    x, y = (side.centred[number].movedim(1, 0) for side in sides)
    n = len(x)
    if n - 1 < UNBIASED.fewest:
        return tuple(part.repeat(n, *[1] * (part.dim() - 1)) * torch.nan for part in hsics)  # type: ignore[return-value]
    lost = x @ y.mT, x.square().sum(dim=2), y.square().sum(dim=2)
    xy, xx, yy = (
        (n * (n - 3) * part - 2 * (n - 2) / (n - 3) * rows) / ((n - 1) * (n - 4))
        for part, rows in zip(hsics, lost, strict=True)
    )
    return xy, xx, yy


@dataclass(frozen=True)
class _Cell:
    """A cell, whose features are left out one at a time.

    Attributes:
        sides: Both sides.
        row: Layer of x.
        column: Layer of y.
        shared: Whether they share their features.
        pairs: Sums over batches of HSIC of all pairs of features: (rows, columns), (rows,), (columns,).
        sums: Those of the target.
        scales: `scales_of` these.
    """

    sides: tuple[_Side, _Side]
    row: int
    column: int
    shared: bool
    pairs: Hsics
    sums: Hsics
    scales: Scales

    def without_features(self) -> Iterator[tuple[float, Tensor]]:
        """Yield CKA without each feature of x and of y, or of both, (p,), after the share of noise of the target."""
        x, y = self.sides
        layers = self.row, self.column
        factors, fewer = ([getattr(side, name)[layer] for side, layer in zip(self.sides, layers, strict=True)]
                          for name in ("factors", "fewer"))  # fmt: skip
        if not any(each.noise for each in factors):
            return
        total = self.pairs[0][layers]
        lost = (
            x.sum_products(self.row, [stack[self.column] for stack in y.centred]),
            y.sum_products(self.column, [stack[self.row] for stack in x.centred]),
        )
        own = [side.own_without(layer, self.pairs[index + 1][layer])
               for index, (side, layer) in enumerate(zip(self.sides, layers, strict=True))]  # fmt: skip
        if self.shared:
            both = x.sum_features(self.row, self.column, y)
            equal = both.sum() - both
            xy = fewer[0].distinct * (total - lost[0] - lost[1] + both - equal) + fewer[0].equal * equal
            yield factors[0].noise, _ratio(xy, own[0], own[1])
            return
        for index in (0, 1):
            other = 1 - index
            xy = fewer[index].single * factors[other].single * (total - lost[index])
            yield factors[index].noise, _ratio(xy, own[index], self.sums[other + 1][layers[other]])

    def noise_counted_again(self) -> tuple[Tensor, list[Tensor]]:
        """Return `sum e_ij^2`, and `image_noise` in the variance over features of x and of y, or of both, () each."""
        x, y = self.sides
        first, second = x.factors[self.row], y.factors[self.column]
        own_x, own_y = (1 - factors.equal / factors.distinct for factors in (first, second))
        pairs, images = torch.zeros((), dtype=torch.float64), [torch.zeros((), dtype=torch.float64) for _ in range(2)]
        for number, batch in enumerate(x.values):
            u, v = batch[self.row], y.values[number][self.column]
            k, l = x.centred[number][self.row], y.centred[number][self.column]  # noqa: E741
            xy, xx, yy = (
                float(scale[self.row, self.column]) / (len(k) - 3) for scale in self.scales
            )  # n / (n (n - 3))
            xy *= first.distinct if self.shared else first.single * second.single
            xx, yy, off = xx * first.distinct, yy * second.distinct, 1 - torch.eye(len(k), dtype=torch.float64)
            known = {(power, 0): part for power, part in enumerate(x.products[number][self.row], 1)}
            known |= {(0, power): part for power, part in enumerate(y.products[number][self.column], 1)}
            e = xy * k * l - xx * (k * k - own_x * off * known[2, 0]) - yy * (l * l - own_y * off * known[0, 2])
            sides = [
                {(1, 0): xy * l - 2 * xx * k, (2, 0): 2 * own_x * xx * off},
                {(0, 1): xy * k - 2 * yy * l, (0, 2): 2 * own_y * yy * off},
            ]
            sums = [
                u * (xy * (l @ u) - 2 * xx * x.applied[number][self.row]) + 2 * own_x * xx * _over_others(u * u),
                v * (xy * (k @ v) - 2 * yy * y.applied[number][self.column]) + 2 * own_y * yy * _over_others(v * v),
            ]
            if self.shared:
                mixed = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1))
                powers_u, powers_v = _powers(u, 3), _powers(v, 3)
                known |= {(i, j): _products(powers_u[i - 1] * powers_v[j - 1]) for i, j in mixed}
                e -= own_x * xy * off * known[1, 1]
                sums = [sums[0] + sums[1] - 2 * own_x * xy * _over_others(u * v)]
                sides = [{**sides[0], **sides[1], (1, 1): -2 * own_x * xy * off}]
            images = [
                total + image_noise(part, side, known) for total, part, side in zip(images, sums, sides, strict=False)
            ]
            pairs += e.square().sum()
        return pairs, images


def _products(features: Tensor) -> Tensor:
    """Return the inner products of images, (n, n), from (n, p)."""
    return features @ features.mT


def _powers(features: Tensor, largest: int) -> list[Tensor]:
    """Return features to the powers 1, 2, …, each of the shape of the features."""
    return list(accumulate([features] * largest, torch.mul))


def _over_others(features: Tensor) -> Tensor:
    """Return `z_iu sum_(j != i) z_ju`, (n, p), of z."""
    return features * (features.sum(dim=0) - features)


def image_noise(
    sums: Tensor, parts: Mapping[tuple[int, int], Tensor], products: Mapping[tuple[int, int], Tensor]
) -> Tensor:
    """Return `4 sum_(i, u) (sum_j e_iju)^2 - 2 sum_(i, j, u) e_iju^2`, (), of e minus means.

    Args:
        sums: `sum_j e_iju`, (n, p) float64.
        parts: C, (n, n) float64 with a diagonal of 0, of each part of `e_iju = sum C_ij z_iu z_ju`, by the powers of x
            and y of which z is the product.
        products: `sum_u z_iu z_ju` of such z, and of products of two of them, (n, n) float64 each.
    """
    means = sum(c * products[powers] for powers, c in parts.items())
    squares = -torch.as_tensor(means).square().sum() / sums.shape[1]
    for (one, c), (other, d) in combinations_with_replacement(parts.items(), 2):
        both = products[one[0] + other[0], one[1] + other[1]]
        squares += (1 if one == other else 2) * (c * d * both).sum()
    sums = sums - sums.mean(dim=0)
    noise: Tensor = 4 * (sums - sums.mean(dim=1, keepdim=True)).square().sum() - 2 * squares
    return noise


def _ratio(xy: Tensor, xx: Tensor, yy: Tensor) -> Tensor:
    """Return CKA from HSICs, (p,); NaN where one of a layer with itself is not positive."""
    return xy / (xx.where(xx > 0, torch.nan) * yy.where(yy > 0, torch.nan)).sqrt()


def _moments(values: Tensor, without: Tensor) -> tuple[Tensor, Tensor]:
    """Return the variance of values, and the variance of that, from values without each image or feature, (k, ...)."""
    shares = deviations(values, without, torch.ones(len(without), dtype=torch.float64))
    squares = shares.square().sum(dim=0)
    return squares, shares.pow(4).sum(dim=0) - squares.square() / len(shares)
