"""Intervals of CKA, without another forward pass.

**Interval.** `similarity.jackknife` gives CKA without each image, exactly. With `z = arctanh CKA`, whose noise is
nearly symmetric, the jackknife's variance of z is `sum_i D_i^2` with `D_i` proportional to z without image i. It is too
large where a few images have most of the noise, and that of `D'_i`, z without image i to first order in the sums of
HSIC, is too small. The variance is the mean of both, `S = sum_i (D_i^2 + D'_i^2) / 2`.

It counts the noise of a pair of images once for each of the two, which makes it up to sqrt(2) too wide where pairs, not
images, carry the noise (wide layers, little similarity: the degenerate case of Efron & Stein 1981). To first order the
pair (i, j) adds

    e_ij = a_ij / sqrt(Sxx Syy) - CKA/2 (b_ij / Sxx + c_ij / Syy),   a = U(K) U(L), b = U(K)^2, c = U(L)^2

to CKA, entry by entry, weighted and divided as HSIC is. So this noise is subtracted once, which leaves half of S if
pairs carry all of it, and not less than a third, as it could by chance:

    var = max(S - 2 sum_(i != j) e_ij^2 / (1 - CKA^2)^2, S / 3)

The interval is `tanh(z -+ t sqrt(var))` with the 97.5 % quantile t of Student's t. A few images may have most of the
noise; its degrees of freedom are those that such a variance has (`effective_freedom`), N - 1 at most. One batch is
enough. The tokens of an image are left out together, and the subtraction, which needs independent pairs, is omitted:
the interval is conservative. If nothing is left without some image, as of four in one batch, no variance can be
estimated, and the interval is all of [-1, 1].

**Simultaneous bands.** The draws `sum_i g_i D_i` with independent standard normal g_i have, over their standard
deviation, the correlations of the cells. The 95 % quantile of the largest |draw| of a family of cells takes the place
of 1.96 (Chernozhukov, Chetverikov & Kato, Annals of Statistics 2013), corrected for the degrees of freedom as that of a
single cell is. Such quantiles are far out, where the noise of the variance itself counts, so bands have the variance of
the jackknife alone, `N / (N - 3) max(sum_i D_i^2 - 2 ..., sum_i D_i^2 / 2)`.

**Difference of two values on the same images, mean of several.** The same, without z.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scipy.special import stdtrit
from torch import Tensor

from cka_probe.similarity.cka import (
    Centred,
    Estimator,
    Terms,
    centre_batches,
    cka,
    hsic_terms,
    row_blocks,
)
from cka_probe.similarity.jackknife import Units, deviations, hsic_influences, leave_one_out, losses_of, spread

Scales = tuple[Tensor, Tensor, Tensor]
"""Factors of `U(K) U(L)`, `U(K)^2` and `U(L)^2` in `e`, (rows, columns) each."""

NEAR_ONE = 1 - 1e-12
"""Largest similarity whose arctanh is taken; rounding of values at 1 is below."""
NORMAL = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution, that of the smallest family of cells."""


@dataclass(frozen=True)
class Jackknife:
    """The error of every cell; (rows, columns) float64 but for the draws.

    Attributes:
        values: CKA.
        error: Standard error of arctanh CKA, infinite where it cannot be estimated.
        freedom: Degrees of freedom of the error.
        wide: The error for bands.
        draws: (draws, rows, columns) float32, standard normal, correlated as the cells are.
    """

    values: Tensor
    error: Tensor
    freedom: Tensor
    wide: Tensor
    draws: Tensor

    def with_draws(self, shares: Tensor, draws: int) -> "Jackknife":
        """Return it with so many draws, from the shares of the units in the error, (units, rows, columns)."""
        return replace(self, draws=_drawn(shares, _multipliers(draws, len(shares))))

    def interval(self, level: Tensor | float = 0.95) -> tuple[Tensor, Tensor]:
        """Return both ends of the interval of every cell, each (rows, columns), within [-1, 1]."""
        return self._ends(self.error, level)

    def _ends(self, error: Tensor, level: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return both ends at an error and level."""
        quantiles = stdtrit(self.freedom.numpy(), (1 + torch.as_tensor(level, dtype=torch.float64).numpy()) / 2)
        margin, z = torch.from_numpy(quantiles) * error, fisher_z(self.values)
        low, high = (z - margin).tanh(), (z + margin).tanh()
        return torch.minimum(low, self.values), torch.maximum(high, self.values)

    def band(self, family: Tensor) -> tuple[Tensor, Tensor]:
        """Return intervals that hold all cells of a family together, in 95 % of studies.

        Args:
            family: (rows, columns) bool; cells that are undefined are none of it.

        Returns:
            Both ends, each (rows, columns); NaN outside the family.
        """
        family = family & self.values.isfinite() & self.error.isfinite()
        low, high = torch.full((2, *self.values.shape), torch.nan, dtype=torch.float64)
        if len(self.draws) and family.any():
            largest = self.draws[:, family].abs().amax(dim=1).double().quantile(0.95)
            members = replace(self, values=self.values[family], error=self.wide[family], freedom=self.freedom[family])
            low[family], high[family] = members.interval(torch.special.erf(largest.clamp_min(NORMAL) / 2**0.5))
        return low, high

    def row_bands(self) -> tuple[Tensor, Tensor]:
        """Return the band of each row, which holds all cells of this row together; both ends, (rows, columns).

        As `band` of the cells of each row; NaN where undefined.
        """
        defined = self.values.isfinite() & self.error.isfinite()
        if not len(self.draws):
            return self.values * torch.nan, self.values * torch.nan
        largest = torch.where(defined, self.draws.abs(), 0.0).amax(dim=2).double().quantile(0.95, dim=0)
        low, high = self._ends(self.wide, torch.special.erf(largest.clamp_min(NORMAL) / 2**0.5)[:, None])
        return torch.where(defined, low, torch.nan), torch.where(defined, high, torch.nan)


def jackknife(
    x: Sequence[Centred], y: Sequence[Centred], terms: Terms, estimator: Estimator, units: Units, draws: int = 0
) -> Jackknife:
    """Return the error of every cell.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64.
        terms: `hsic_terms` of the same matrices.
        estimator: The estimator that the matrices were centred for.
        units: What is left out together.
        draws: Number of draws for bands.
    """
    values, sizes = cka(terms), units.sizes
    normal = _multipliers(draws, len(sizes))
    variance = torch.zeros(3, *values.shape, dtype=torch.float64)
    drawn = torch.zeros(draws, *values.shape)
    if len(sizes) < 2:
        infinite = values + torch.inf
        return Jackknife(values, infinite, torch.ones_like(values), infinite, drawn)
    for part, without, first_order in leave_one_out(x, y, terms, estimator, units):
        shares = deviations(fisher_z(values[part]), fisher_z(without), sizes)
        others = slope_of(values[part]) * deviations(values[part], first_order, sizes)
        variance[:, part] = torch.stack(spread(shares, others, len(sizes)))
        drawn[:, part] = _drawn(shares, normal)
    noise = _pair_noise(x, y, terms, estimator) if units.are_examples else torch.zeros_like(values)
    squares, freedom, exact = variance
    return replace(jackknife_of(values, squares, freedom, exact, noise, len(sizes)), draws=drawn)


def _multipliers(draws: int, units: int) -> Tensor:
    """Return standard normal multipliers, (draws, units) float32; the same for the same numbers."""
    return torch.randn(draws, units, generator=torch.Generator().manual_seed(0))


def _drawn(shares: Tensor, multipliers: Tensor) -> Tensor:
    """Return draws of standard deviation 1, (draws, rows, columns) float32, from shares (units, rows, columns)."""
    scaled = (shares / shares.square().sum(dim=0).sqrt().clamp_min(torch.finfo().tiny)).float()
    drawn: Tensor = (multipliers @ scaled.flatten(1)).unflatten(1, scaled.shape[1:])
    return drawn


def jackknife_of(
    values: Tensor, squares: Tensor, freedom: Tensor, exact: Tensor, noise: Tensor, units: int
) -> Jackknife:
    """Return the errors of CKA, (rows, columns), without draws.

    Args:
        values: CKA.
        squares: The variance of arctanh CKA, pairs counted twice, from `jackknife.spread`.
        freedom: Its degrees of freedom.
        exact: The variance of the jackknife alone, as well.
        noise: `sum_(i != j) e_ij^2`, of CKA.
        units: Number of images or groups.
    """
    noise = noise * slope_of(values).square()
    variance = variance_of_units(squares, noise)
    wide = torch.maximum(variance, torch.maximum(exact - 2 * noise, exact / 2) * units / max(units - 3, 1))
    error, wide = (_error(part, values) for part in (variance, wide))
    return Jackknife(values, error, freedom, wide, torch.zeros(0, *values.shape))


def jackknife_interval(
    x: Sequence[Centred],
    y: Sequence[Centred],
    terms: Terms,
    estimator: Estimator,
    per_image: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return both ends of the 95 % interval of every cell, each (rows, columns) float64; arguments as in `jackknife`.

    The images are left out one at a time, with their `per_image` examples.
    """
    return jackknife(x, y, terms, estimator, Units.of_images(x, per_image)).interval()


def fisher_z(values: Tensor) -> Tensor:
    """Return arctanh of similarities; finite at 1."""
    return values.clamp(-NEAR_ONE, NEAR_ONE).atanh()


def slope_of(values: Tensor) -> Tensor:
    """Return the slope of arctanh at similarities; finite at 1."""
    slope: Tensor = 1 / (1 - values.clamp(-NEAR_ONE, NEAR_ONE).square())
    return slope


def _pair_noise(x: Sequence[Centred], y: Sequence[Centred], terms: Terms, estimator: Estimator) -> Tensor:
    """Return the sum of `e_ij^2` over i != j in all batches for every cell, (rows, columns)."""
    unweighted = scales_of(terms)
    noise = torch.zeros_like(unweighted[0])
    for batch_x, batch_y in zip(x, y, strict=True):
        n = batch_x.shape[-1]
        xy, xx, yy = (n / estimator.divisor(n) * scale for scale in unweighted)
        for start, rows_x, rows_y in row_blocks(batch_x, batch_y):
            noise += pair_noise(rows_x, rows_y, (xy, xx, yy), start)
    return noise


def influences(
    x: Sequence[Centred], y: Sequence[Centred], terms: Terms, estimator: Estimator, per_image: int = 1
) -> Tensor:
    """Return the influence of every image on every cell, (images, rows, columns) float64, in the order of the images.

    To first order, an image with the weight `1 + d` in place of 1 moves CKA by `d` times its influence, so omitting it
    moves CKA by about minus its influence. Arguments as in `jackknife_interval`.
    """
    units = Units.of_images(x, per_image)

    def of_hsic(one: Sequence[Centred], other: Sequence[Centred], own: bool = False) -> Tensor:
        return hsic_influences(losses_of(one, other, units, own), terms.weights, estimator, units)

    xy, xx, yy = scales_of(terms)
    return xy * of_hsic(x, y) - xx * of_hsic(x, x, own=True)[:, :, None] - yy * of_hsic(y, y, own=True)[:, None, :]


def paired_error(
    first: tuple[Sequence[Tensor], Sequence[Tensor]],
    second: tuple[Sequence[Tensor], Sequence[Tensor]],
    estimator: Estimator,
    per_image: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return the standard error of the first CKA minus the second, and its degrees of freedom.

    Args:
        first: x and y of the first comparison: per batch, (layers, n, n) float64 centred Grams as in a fingerprint.
        second: Those of the second; of the same images in the same batches, with as many layers on each side.
        estimator: Estimator of HSIC, for both.
        per_image: Examples per image.

    Returns:
        (rows, columns) float64 each; the error is NaN where either CKA is NaN, infinite where HSIC is a single term.
    """
    sides = [tuple(centre_batches(side, estimator) for side in comparison) for comparison in (first, second)]
    terms = [hsic_terms(x, y, estimator, per_image) for x, y in sides]
    values, units = [cka(part) for part in terms], Units.of_images(sides[0][0], per_image)
    moments = []
    for (part, *one), (_, *other) in zip(
        *(leave_one_out(x, y, part, estimator, units) for (x, y), part in zip(sides, terms, strict=True)), strict=True
    ):
        shares = [
            deviations(values[0][part] - values[1][part], first - second, units.sizes)
            for first, second in zip(one, other, strict=True)
        ]
        moments.append(spread(shares[0], shares[1], len(units.sizes)))
    squares, freedom, _ = (torch.cat(parts) for parts in zip(*moments, strict=True))
    noise = torch.zeros_like(squares)
    for batch in zip(*sides[0], *sides[1], strict=True) if per_image == 1 else ():
        weight = batch[0].shape[-1] / estimator.divisor(batch[0].shape[-1])
        scales = [scales_of(part) for part in terms]
        for (start, *first_rows), (_, *second_rows) in zip(row_blocks(*batch[:2]), row_blocks(*batch[2:]), strict=True):
            blocks = (*first_rows, *second_rows)
            noise += weight**2 * torch.stack([_row_noise(blocks, scales, row, start) for row in range(len(noise))])
    return _error(variance_of_units(squares, noise), values[0] - values[1]), freedom


def mean_error(
    x: Sequence[Centred],
    y: Sequence[Centred],
    terms: Terms,
    shares: Tensor,
    estimator: Estimator,
    per_image: int = 1,
    without: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the standard error of a weighted mean of cells, with the noise that they share, and its freedom.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64, of the same images.
        terms: `hsic_terms` of the same matrices.
        shares: (rows, columns) float64, the weight of each cell; a layer with a weight is defined.
        estimator: The estimator that the matrices were centred for.
        per_image: Examples per image.
        without: (2, images) float64, the mean without each image and its `tangent`, if they are known.

    Returns:
        () float64 each; the error is infinite where HSIC is a single term.
    """
    units = Units.of_images(x, per_image)
    if without is None:
        without = torch.zeros(2, len(units.sizes), dtype=torch.float64)
        for part, *values in leave_one_out(x, y, terms, estimator, units):
            without += torch.where(shares[part] != 0, shares[part] * torch.stack(values), 0.0).sum(dim=(2, 3))
    value = torch.where(shares != 0, shares * cka(terms), 0.0).sum()
    noise = mean_noise(x, y, terms, shares, estimator) if per_image == 1 else torch.zeros_like(value)
    exact, first_order = (deviations(value, part, units.sizes) for part in without)
    squares, freedom, _ = spread(exact, first_order, len(units.sizes))
    return _error(variance_of_units(squares, noise), value), freedom


def mean_noise(
    x: Sequence[Centred], y: Sequence[Centred], terms: Terms, shares: Tensor, estimator: Estimator
) -> Tensor:
    """Return the sum of `e_ij^2` over i != j in all batches for a weighted mean of cells, (); as in `mean_error`."""
    noise = torch.zeros((), dtype=torch.float64)
    xy, xx, yy = (shares * scale for scale in scales_of(terms))
    for batch_x, batch_y in zip(x, y, strict=True):
        weight = batch_x.shape[-1] / estimator.divisor(batch_x.shape[-1])
        for start, rows_x, rows_y in row_blocks(batch_x, batch_y):
            flat_x, flat_y = rows_x.flatten(1), rows_y.flatten(1)
            entries = ((xy @ flat_y).addcmul_(xx.sum(dim=1)[:, None], flat_x, value=-1) * flat_x).sum(dim=0)
            entries -= yy.sum(dim=0) @ flat_y.square()
            noise += weight**2 * _off_diagonal(entries.view(1, *rows_x.shape[1:]), start)[0]
    return noise


def _error(variance: Tensor, values: Tensor) -> Tensor:
    """Return standard errors, infinite where they cannot be estimated."""
    return torch.where(values.isnan(), torch.nan, variance.sqrt().nan_to_num(torch.inf, torch.inf))


def variance_of_units(squares: Tensor, noise: Tensor) -> Tensor:
    """Return the variance from that with pairs counted twice, and the noise of pairs, `sum_(i != j) e_ij^2`."""
    return torch.maximum(squares - 2 * noise, squares / 3)


def scales_of(terms: Terms) -> Scales:
    """Return the factors in `e`, before the weights of batches."""
    value, (_, xx, yy) = cka(terms), terms.sums()
    return 1.0 / (xx.sqrt()[:, None] * yy.sqrt()[None, :]), value / (2 * xx[:, None]), value / (2 * yy[None, :])


def pair_noise(x: Tensor, y: Tensor, scales: Scales, start: int) -> Tensor:
    """Return the sum of `e_ij^2` over i != j for every cell, in rows from `start` on, expanded into matrix products."""
    if x.shape[1] == x.shape[2]:  # whole, symmetric matrices: pairs i < j, twice
        i, j = torch.triu_indices(x.shape[1], x.shape[2], offset=1)
        half_x, half_y = (m.flatten(1).index_select(1, i * x.shape[2] + j) for m in (x, y))
        return 2 * _sum_of_squares(half_x, half_y, scales).clamp_min(0)
    rows, columns = (m.diagonal(offset=start, dim1=1, dim2=2) for m in (x, y))
    noise = _sum_of_squares(x.flatten(1), y.flatten(1), scales) - _sum_of_squares(rows, columns, scales)
    return noise.clamp_min(0)


def _sum_of_squares(x: Tensor, y: Tensor, scales: Scales) -> Tensor:
    """Return the sum of squares of `e`, (rows, columns), over m pairs of images, from (rows, m) and (columns, m)."""
    xy, xx, yy = scales
    x_square, y_square = x.square(), y.square()
    both = x_square @ y_square.mT
    fourth_x, fourth_y = x_square.square().sum(1)[:, None], y_square.square().sum(1)[None, :]
    cubes = xx * ((x_square * x) @ y.mT) + yy * (x @ (y_square * y).mT)
    return (xy.square() + 2 * xx * yy) * both + xx.square() * fourth_x + yy.square() * fourth_y - 2 * xy * cubes


def _row_noise(blocks: tuple[Tensor, ...], scales: list[Scales], row: int, start: int) -> Tensor:
    """Return `sum_(i != j) e_ij^2` of the difference in one row of cells, (columns,)."""
    first, second = (
        xy[row, :, None, None] * x[row] * y
        - xx[row, :, None, None] * x[row].square()
        - yy[row, :, None, None] * y.square()
        for (x, y), (xy, xx, yy) in zip((blocks[:2], blocks[2:]), scales, strict=True)
    )
    return _off_diagonal(first - second, start)


def _off_diagonal(entries: Tensor, start: int) -> Tensor:
    """Return `sum_(i != j) e_ij^2`, (cells,), of rows from `start` on of `e`, (cells, r, n)."""
    return entries.square().sum(dim=(1, 2)) - entries.diagonal(offset=start, dim1=1, dim2=2).square().sum(dim=1)
