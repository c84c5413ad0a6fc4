"""CKA over all images as one batch, from sums over images: one pass, in memory independent of their number.

The Gram of n images has n^2 entries, but HSIC needs only p q sums. With features shifted to a mean of zero,
`C = X^T Y`, `a_i = |x_i|^2` and `b_i = |y_i|^2`, the inner products of `similarity.cka` are

    <H K H, H L H> = |C|^2                                                                            biased
    <U(K), U(L)>   = |C|^2 - n / (n - 2) sum_i a_i b_i + sum_i a_i sum_i b_i / ((n - 1) (n - 2))      unbiased

The second is Song et al. 2012, eq. 5, with `tr(K L) = |C|^2 - sum a b` and `1^T K L 1 = sum a b` for K and L with an
empty diagonal. All sums are in float64. They are taken of features minus the mean of the first batch, so that a large
common mean costs no digits, and moved to the mean of all images at the end.

**Interval.** That of `similarity.intervals`. CKA without an image needs sums over all images and the features of this
one (`_row_sums`), so those of a random sample are kept (`KEPT`; reservoir sampling: Vitter 1985), which stand for all.
With no more images than are kept, the interval is that of the Grams.

**Null.** If the images of y are permuted, `<U(K), U(L)>` has the mean 0 and the variance

    2 <U(K), U(K)> <U(L), U(L)> / (n (n - 3)),

since all rows of U sum to zero and its diagonal is empty: the CKA of unrelated images has the variance
`2 / (n (n - 3))`. For the biased estimator, mean and variance are those of Kazi-Aoual et al. (Computational Statistics
& Data Analysis 1995). The quantile and p-values are those of the Pearson type III distribution with these moments and
the skewness that many images have,

    8^(1/2) tr U(K)^3 tr U(L)^3 / (<U(K), U(K)> <U(L), U(L)>)^(3/2)

(Josse, Pagès & Husson, Computational Statistics & Data Analysis 2008). They are approximations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.special import gammaincc, gammainccinv
from torch import Tensor

from cka_probe.similarity.cells import Cells
from cka_probe.similarity.cka import ESTIMATORS, Centred, Estimator, Terms, UCentred, cka, row_blocks
from cka_probe.similarity.gram import rounding_share
from cka_probe.similarity.intervals import Jackknife, fisher_z, jackknife_of, pair_noise, scales_of, slope_of
from cka_probe.similarity.jackknife import Losses, of_cells, ratio, spread, tangent

NOISE = 1e-12
"""An unbiased inner product of a layer with itself below this share of the biased one is rounding."""
KEPT = 4096
"""Images whose features are kept for intervals."""


class Pair(NamedTuple):
    """Sums over images of two layers, shifted to a mean of zero.

    Attributes:
        products: (p, q), `X^T Y`.
        weighted_x: (p,), `X^T b`.
        weighted_y: (q,), `Y^T a`.
        squares: (), `sum_i a_i b_i`.
        totals: `sum_i a_i` and `sum_i b_i`.
    """

    products: Tensor
    weighted_x: Tensor
    weighted_y: Tensor
    squares: Tensor
    totals: tuple[Tensor, Tensor]


class Spectrum(NamedTuple):
    """What the null needs of a centred Gram, scaled to a length of 1.

    Attributes:
        trace: Its trace.
        diagonal: Sum of squares of its diagonal.
        cube: The trace of its cube divided by its length cubed, without the part of the identity that `H K H` has.
    """

    trace: Tensor
    diagonal: Tensor
    cube: Tensor


class Reservoir:
    """A uniform random sample of the images of a stream of any length.

    >>> Reservoir(3, seed=0).slots(2)
    {0: 0, 1: 1}
    """

    def __init__(self, size: int, seed: int):
        self.size, self.count = size, 0
        self._generator = torch.Generator().manual_seed(seed)

    def slots(self, num: int) -> dict[int, int]:
        """Return the place in the sample of some of the next `num` images, by place: which image it takes."""
        draws = torch.rand(num, generator=self._generator, dtype=torch.float64).tolist()
        places = {}
        for image, draw in enumerate(draws):
            place = self.count if self.count < self.size else int(draw * (self.count + 1))
            if place < self.size:
                places[place] = image
            self.count += 1
        return places


class SideMoments:
    """Sums over images of the features of the layers of one side."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, features: Sequence[Tensor], slots: dict[int, int], size: int) -> tuple[Tensor, Tensor]:
        """Add a batch and return its shifted features, (n, P) float64, and their squared lengths, (n, layers).

        Args:
            features: Per layer, (n, p) of any floating dtype.
            slots: Place in the sample of some of these images, from `Reservoir`.
            size: Size of the sample.
        """
        if not self.count:
            self._start(features, size)
        values = torch.cat([layer.cpu() for layer in features], dim=1)
        shifted = values.double() - self.anchor
        squares = torch.stack([layer.square().sum(dim=1) for layer in shifted.split(self.widths, dim=1)], dim=1)
        self.count += len(values)
        self.sums += shifted.sum(dim=0)
        self.totals += squares.sum(dim=0)
        for index, (layer, lengths) in enumerate(zip(shifted.split(self.widths, dim=1), squares.mT, strict=True)):
            self.products[index] += layer.mT @ layer
            self.weighted[index] += layer.mT @ lengths
            self.fourth[index] += lengths @ lengths
        if slots:
            self.sample[list(slots)] = values[list(slots.values())].to(self.sample.dtype)
        return shifted, squares

    def _start(self, features: Sequence[Tensor], size: int) -> None:
        """Set up the sums at the first batch."""
        self.widths = [layer.shape[1] for layer in features]
        wide = torch.float64 if any(layer.dtype == torch.float64 for layer in features) else torch.float32
        self.anchor = torch.cat([layer.cpu().double().mean(dim=0) for layer in features])
        self.size = torch.stack([layer[0].cpu().double().square().mean().sqrt() for layer in features])
        self.rounding = torch.tensor([rounding_share(layer.dtype) for layer in features], dtype=torch.float64)
        self.sums = torch.zeros_like(self.anchor)
        self.totals, self.fourth = torch.zeros(2, len(features), dtype=torch.float64)
        self.products = [torch.zeros(width, width, dtype=torch.float64) for width in self.widths]
        self.weighted = [torch.zeros(width, dtype=torch.float64) for width in self.widths]
        self.sample = torch.empty(size, len(self.anchor), dtype=wide)

    @property
    def means(self) -> Sequence[Tensor]:
        """Per layer, (p,), the means of the shifted features."""
        means: Sequence[Tensor] = (self.sums / self.count).split(self.widths)
        return means

    def pairs(self) -> list[Pair]:
        """Return the sums of each layer with itself."""
        layers = zip(self.products, self.weighted, self.fourth, self.totals, self.means, strict=True)
        return [
            _moved(Pair(products, weighted, weighted, fourth, (total, total)), mean, mean, self.count)
            for products, weighted, fourth, total, mean in layers
        ]

    def sampled(self) -> list[Tensor]:
        """Return the features of the sample, (m, p) float64 per layer, shifted to a mean of zero."""
        values = self.sample[: self.count].double() - self.anchor - self.sums / self.count
        return list(values.split(self.widths, dim=1))

    @property
    def rms(self) -> Tensor:
        """(layers,) root mean square, over images and features, of the features minus their means."""
        lengths = torch.stack([mean.square().sum() for mean in self.means])
        variance = (self.totals / self.count - lengths) / torch.tensor(self.widths)
        return torch.where(variance < 0, 0.0, variance).sqrt()

    @property
    def finite(self) -> Tensor:
        """(layers,) whether all features were finite numbers."""
        finite: Tensor = self.totals.isfinite()
        return finite

    @property
    def varies(self) -> Tensor:
        """(layers,) whether the layer differs between images by more than rounding."""
        varies: Tensor = self.rms > self.rounding * self.size
        return varies


class Moments:
    """Sums over images of the features of both sides of a comparison.

    Args:
        seed: Seed of the sample of images.
        kept: Size of the sample.

    >>> draw = torch.Generator().manual_seed(0)
    >>> moments = Moments(seed=0)
    >>> for _ in range(10):
    ...     x = torch.randn(100, 4, generator=draw)
    ...     moments.add([x], [x[:, :2]])
    >>> moments.cells(ESTIMATORS["unbiased"]).values.shape
    torch.Size([1, 1])
    """

    def __init__(self, *, seed: int, kept: int = KEPT):
        self.reservoir = Reservoir(kept, seed)
        self.x, self.y = SideMoments(), SideMoments()

    def add(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> None:
        """Add a batch.

        Args:
            x: Per layer, (n, p) of any floating dtype.
            y: Per layer, (n, q), of the same images.
        """
        start, slots = not self.x.count, self.reservoir.slots(len(x[0]))
        (values_x, a), (values_y, b) = (
            side.add(features, slots, self.reservoir.size) for side, features in ((self.x, x), (self.y, y))
        )
        sums = (values_x.mT @ values_y, values_x.mT @ b, values_y.mT @ a, a.mT @ b)
        if start:
            self.products, self.weighted_x, self.weighted_y, self.squares = sums
            return
        for total, part in zip((self.products, self.weighted_x, self.weighted_y, self.squares), sums, strict=True):
            total += part

    def pair(self, row: int, column: int) -> Pair:
        """Return the sums of a layer of x with a layer of y."""
        products = self.products.split(self.x.widths)[row].split(self.y.widths, dim=1)[column]
        weighted_x = self.weighted_x[:, column].split(self.x.widths)[row]
        weighted_y = self.weighted_y[:, row].split(self.y.widths)[column]
        totals = self.x.totals[row], self.y.totals[column]
        pair = Pair(products, weighted_x, weighted_y, self.squares[row, column], totals)
        return _moved(pair, self.x.means[row], self.y.means[column], self.x.count)

    def cells(self, estimator: Estimator, *, null: bool = True) -> Cells:
        """Return CKA of every layer of x with every layer of y, with intervals and null.

        Args:
            estimator: Estimator of HSIC.
            null: Whether to compute the null; if not, it is NaN.

        Returns:
            Cells with one batch of all images; NaN where a layer does not vary or is not finite.
        """
        n, unbiased = self.x.count, estimator is ESTIMATORS["unbiased"]
        rows, columns = self.x.pairs(), self.y.pairs()
        pairs = [[self.pair(row, column) for column in range(len(columns))] for row in range(len(rows))]
        xy = torch.stack([torch.stack([_inner_product(pair, n, unbiased) for pair in row]) for row in pairs])
        xx, yy = (torch.stack([_inner_product(pair, n, unbiased) for pair in side]) for side in (rows, columns))
        xx, yy = (
            torch.where(side.varies, own * (own > NOISE * _biased(layers)), torch.nan)
            for side, own, layers in ((self.x, xx, rows), (self.y, yy, columns))
        )
        divisor, weights = estimator.divisor(n), torch.tensor([float(n)], dtype=torch.float64)
        terms = Terms(xy[None] / divisor, xx[None] / divisor, yy[None] / divisor, weights)
        values = cka(terms)
        errors = self._errors(terms, rows, columns, pairs, estimator)
        quantile, p_values = values.new_full((2, *values.shape), torch.nan)
        if null:
            x, y = (
                [_spectrum(pair, layer, n, unbiased) for pair, layer in zip(own, side.sampled(), strict=True)]
                for own, side in ((rows, self.x), (columns, self.y))
            )
            quantile, p_values = null_of_moments(values, _stacked(x), _stacked(y), n)
        return Cells(values, *errors.interval(), quantile, p_values, terms)

    def _errors(
        self, terms: Terms, rows: list[Pair], columns: list[Pair], pairs: list[list[Pair]], estimator: Estimator
    ) -> Jackknife:
        """Return the errors of CKA, from the values without each of the sampled images."""
        n, unbiased = self.x.count, estimator is ESTIMATORS["unbiased"]
        xy, xx, yy = (n / estimator.divisor(n) * scale for scale in scales_of(terms))
        x, y = self.x.sampled(), self.y.sampled()
        a, b = ([layer.square().sum(dim=1) for layer in side] for side in (x, y))
        own_x, own_y = (
            torch.stack([_row_sums(pair, layer, layer, n, unbiased) for pair, layer in zip(*both, strict=True)], dim=1)
            for both in ((rows, x), (columns, y))
        )
        cross = [
            torch.stack([_row_sums(pair, x[i], layer, n, unbiased) for pair, layer in zip(row, y, strict=True)], dim=1)
            for i, row in enumerate(pairs)
        ]
        lengths_x, lengths_y = (torch.stack(side, dim=1) * (not unbiased) for side in (a, b))
        blocks = lengths_x[:, :, None] * lengths_y[:, None], lengths_x.square(), lengths_y.square()
        sums, hsics = (torch.stack(cross, dim=1), own_x, own_y), (terms.xy, terms.xx, terms.yy)
        m, left = len(x[0]), torch.full((len(x[0]),), n - 1)
        pairs_left = n * estimator.divisor(n - 1)  # none in three images, for the unbiased estimator
        factor = (n - 1) * estimator.divisor(n) / pairs_left if pairs_left else torch.nan
        rests = (
            factor * Losses(rows, block, rows - block, block).remainder(hsic[0] * estimator.divisor(n), left, estimator)
            for rows, block, hsic in zip(sums, blocks, hsics, strict=True)
        )
        value, without = cka(terms), of_cells(*rests)
        whole = of_cells(*(hsic[0] * estimator.divisor(n) for hsic in hsics))
        shares, others = (
            ((n - 1) / n) ** 0.5 * (part - part.mean(dim=0))
            for part in (fisher_z(ratio(*without)), slope_of(value) * tangent(without, whole))
        )
        totals = (torch.stack([pair.totals[0] for pair in own]) * unbiased for own in (rows, columns))
        grams = [_SampleGrams(side, total, n, unbiased) for side, total in zip((x, y), totals, strict=True)]
        noise = torch.zeros_like(xy)
        for start, rows_x, rows_y in row_blocks(grams[0], grams[1]):
            noise += pair_noise(rows_x, rows_y, (xy, xx, yy), start)
        return jackknife_of(value, *spread(shares, others, n), noise * (n * (n - 1)) / (m * (m - 1)), n)


def null_of_moments(values: Tensor, x: Spectrum, y: Spectrum, n: int) -> tuple[Tensor, Tensor]:
    """Return the 95 % quantile of CKA if the images of y are permuted, and the one-sided p-values.

    Args:
        values: (rows, columns) float64, observed; the results are NaN where they are.
        x: Of the layers of x.
        y: Of the layers of y.
        n: Number of images.
    """
    mean = x.trace[:, None] * y.trace / (n - 1)
    first, second = (
        (n - 1 - trace.square(), n * (n + 1) * diagonal - (n - 1) * (trace.square() + 2))
        for trace, diagonal, _ in (x, y)
    )
    # of U-centred Grams, whose diagonals are empty, this is 2 / (n (n - 3)); the products of n leave int64
    variance = 2 * first[0][:, None] * second[0] / float((n - 1) ** 2 * (n + 1) * (n - 2))
    variance += first[1][:, None] * second[1] / float((n + 1) * n * (n - 1) * (n - 2) * (n - 3))
    skewness = (8**0.5 * x.cube[:, None] * y.cube).clamp_min(1e-4)
    shape, z = 4 / skewness.square(), (values - mean) / variance.sqrt()
    # Pearson type III: a gamma distribution, shifted and scaled
    quantile = (torch.from_numpy(gammainccinv(shape.numpy(), 0.05)) - shape) / shape.sqrt()
    tail = torch.from_numpy(gammaincc(shape.numpy(), (shape + z * shape.sqrt()).clamp_min(0).numpy()))
    undefined = values.isnan()
    quantile = torch.where(undefined, torch.nan, mean + variance.sqrt() * quantile)
    return quantile, torch.where(undefined, torch.nan, tail)


def sampled_spectrum(grams: Centred, squares: Tensor, seed: int) -> Spectrum:
    """Return what the null needs of the Grams of one batch, some of it from the entries of sampled images.

    Args:
        grams: (layers, n, n) float64, from `similarity.cka.centre_batches`.
        squares: (layers,) inner product of each with itself.
        seed: Seed of the sample.
    """
    n = grams.shape[-1]
    m = min(n, KEPT)
    images = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:m]
    pairs, triples = n * (n - 1) / (m * (m - 1)), n * (n - 1) * (n - 2) / (m * (m - 1) * (m - 2))
    layers = []
    for layer, square in enumerate(squares):
        if isinstance(grams, UCentred):
            part, diagonal = grams.entries(layer, images), torch.zeros(n, dtype=torch.float64)
        else:
            part, diagonal = grams[layer][images[:, None], images], grams[layer].diagonal()
        part.diagonal().zero_()
        total, cube = diagonal.sum(), diagonal.pow(3).sum() + triples * ((part @ part) * part).sum()
        cube += 3 * pairs * (diagonal[images] @ part.square()).sum()
        layers.append(_scaled_spectrum(total, diagonal.square().sum(), square, cube, n))
    return _stacked(layers)


def _stacked(layers: Sequence[Spectrum]) -> Spectrum:
    """Return the numbers of several layers, (layers,) each."""
    return Spectrum(*map(torch.stack, zip(*layers, strict=True)))


def _scaled_spectrum(total: Tensor, diagonal: Tensor, square: Tensor, cube: Tensor, n: int) -> Spectrum:
    """Return a spectrum from sums: trace, squares of the diagonal and of all entries, and trace of the cube."""
    mean = total / (n - 1)
    cube = cube - 3 * mean * square + 2 * mean**2 * total
    return Spectrum(total / square.sqrt(), diagonal / square, cube / (square - mean * total) ** 1.5)


class _SampleGrams(UCentred):
    """The centred Grams of the sampled images among all images, computed a few rows at a time.

    Args:
        features: Per layer, (m, p) float64, shifted to a mean of zero.
        totals: (layers,), `sum_i a_i` over all images.
        n: Number of all images.
        unbiased: Whether to U-centre.
    """

    def __init__(self, features: list[Tensor], totals: Tensor, n: int, unbiased: bool):
        self.features, self.shape = features, torch.Size([len(features), len(features[0]), len(features[0])])
        lengths = torch.stack([layer.square().sum(dim=1) for layer in features])
        self.row_terms = unbiased * (totals[:, None] / (2 * (n - 1) * (n - 2)) - lengths / (n - 2))

    def __len__(self) -> int:
        return len(self.features)

    def gram_rows(self, start: int, stop: int) -> Tensor:
        """Return some rows of the Grams."""
        return torch.stack([layer[start:stop] @ layer.mT for layer in self.features])


def _moved(pair: Pair, mean_x: Tensor, mean_y: Tensor, n: int) -> Pair:
    """Return sums of features shifted to a mean of zero, from those of features with these means."""
    products, weighted_x, weighted_y, squares, (total_x, total_y) = pair
    length_x, length_y = mean_x.square().sum(), mean_y.square().sum()
    moved_x = weighted_x - 2 * products @ mean_y + n * length_y * mean_x - mean_x * (total_y - n * length_y)
    moved_y = weighted_y - 2 * products.mT @ mean_x + n * length_x * mean_y - mean_y * (total_x - n * length_x)
    # sum_i a_i b'_i, then sum_i a'_i b'_i with a'_i = a_i - 2 m_x x_i + |m_x|^2; sum_i x_i b'_i has not moved x
    squares = squares - 2 * mean_y @ weighted_y + length_y * total_x
    uncentred = moved_x + mean_x * (total_y - n * length_y)
    squares = squares - 2 * mean_x @ uncentred + length_x * (total_y - n * length_y)
    totals = total_x - n * length_x, total_y - n * length_y
    return Pair(products - n * mean_x[:, None] * mean_y, moved_x, moved_y, squares, totals)


def _inner_product(pair: Pair, n: int, unbiased: bool) -> Tensor:
    """Return the inner product of the centred Grams of two layers."""
    product = pair.products.square().sum()
    if not unbiased:
        return product
    return product - n / (n - 2) * pair.squares + pair.totals[0] * pair.totals[1] / ((n - 1) * (n - 2))


def _biased(pairs: list[Pair]) -> Tensor:
    """Return the inner product of the centred Gram of each layer with itself, biased."""
    return torch.stack([pair.products.square().sum() for pair in pairs])


def _row_sums(pair: Pair, x: Tensor, y: Tensor, n: int, unbiased: bool) -> Tensor:
    """Return the sum over j of the product of entries (i, j) of both centred Grams, (m,) for each sampled image i.

    With `r_i = -a_i / (n - 2)` and `s_i`, the means of rows, and `u` the mean of all of L, the entries outside the
    diagonal are `k_ij - r_i - r_j + t` and `l_ij - s_i - s_j + u`; the sum of the second over j is zero.

    Args:
        pair: Sums of the layers.
        x: (m, p) float64, sampled features of the layer of x, shifted to a mean of zero.
        y: (m, q) float64.
        n: Number of all images.
        unbiased: Whether the Grams are U-centred.
    """
    products = ((x @ pair.products) * y).sum(dim=1)
    if not unbiased:
        return products
    a, b = x.square().sum(dim=1), y.square().sum(dim=1)
    r, s = -a / (n - 2), -b / (n - 2)
    shift = s + pair.totals[1] / ((n - 1) * (n - 2))  # s_i - u
    weighted_x, weighted_y = (x @ pair.weighted_x - a * b) / (n - 2), (y @ pair.weighted_y - a * b) / (n - 2)
    others = -pair.totals[0] / (n - 2) - r  # sum of r_j over j != i
    return products - a * b + a * shift + weighted_x + weighted_y + shift * others + pair.squares / (n - 2) ** 2 - r * s


def _spectrum(pair: Pair, sample: Tensor, n: int, unbiased: bool) -> Spectrum:
    """Return the spectrum of the centred Gram of a layer; arguments as in `_row_sums`."""
    products, (total, _) = pair.products, pair.totals
    cube, square = (products @ products * products).sum(), _inner_product(pair, n, unbiased)
    if not unbiased:
        return _scaled_spectrum(total, pair.squares, square, cube, n)
    # tr (K - D)^3 with the diagonal D; two of its sums are estimated from the sample
    lengths, weighted = sample.square().sum(dim=1), ((sample @ products) * sample).sum(dim=1)
    cube = cube + (2 * lengths.pow(3) - 3 * lengths * weighted).mean() * n
    zero = torch.zeros((), dtype=torch.float64)
    return _scaled_spectrum(zero, zero, square, cube, n)
