"""The cells of a comparison by any measure: values, intervals and null, from the Grams of both sides.

CKA is a ratio of sums over batches; `intervals` has its intervals and null. Any other measure is computed in each
batch, and its value is the mean weighted by images, `V = sum_b w_b v_b`.

**Interval.** Batches are independent, so `var V = sum_b w_b^2 var v_b`. Each `var v_b` comes from leaving out one of G
groups of images at a time, of nearly equal sizes m_g (the delete-m_j jackknife of Busing, Meijer & van der Leeden,
Statistics and Computing 1999):

    v~_g = h_g v - (h_g - 1) v_(-g),   h_g = n / m_g,       var v = 1/G sum_g (v~_g - v_J)^2 / (h_g - 1)

with `v_J = G v - sum_g (1 - m_g / n) v_(-g)`. The Gram of the remaining images is centred again. The interval is V plus
and minus the root times the 97.5 % quantile of Student's t with `sum_b (G_b - 1)` degrees of freedom. It is an interval
of the mean over batches of this size. The noise of pairs of images is counted twice and that of triples three times, so
the variance is never too small on average, and too large where single images carry little of it (Efron & Stein 1981).
In simulations of batches of 32 (`tests/similarity/test_measures.py`) the intervals were 1.1 to 1.6 times as wide as
necessary for kernels, distances and `procrustes`, and 1.5 to 2.2 times for neighbours and CCA, in which triples matter.

**Null.** The same permutations as for CKA.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.special import stdtrit
from torch import Tensor

from cka_probe.similarity.cka import Centred, Estimator, Terms, centre_batches, hsic_terms
from cka_probe.similarity.gram import double_centre
from cka_probe.similarity.groups import group_jackknife, group_permuted_values, group_terms
from cka_probe.similarity.intervals import Jackknife, jackknife, mean_error
from cka_probe.similarity.jackknife import Units
from cka_probe.similarity.measures import Measure, defined
from cka_probe.similarity.null import TIE, permute_images, permuted_values, quantile_and_p_values

FEWEST_GROUPS, GROUPS = 16, 128
"""Least number of groups in a batch that has as many images, and about how many groups there are in all batches."""

DRAWS = 1000
"""Draws of the largest error of a family of cells."""
ROUNDING = 1e-12
"""Values that differ by less are equal; shares of neighbours are ratios of counts and often are."""


@dataclass(frozen=True)
class Cells:
    """The similarity of every layer of x with every layer of y; all float64.

    Attributes:
        values: (rows, columns); NaN where undefined.
        low: Lower end of the 95 % interval, same shape.
        high: Upper end.
        null: 95 % quantile under permuted pairing.
        p_values: One-sided, of the null.
        terms: Terms whose sums give the values. For a mean over batches, `xy` is the value in each batch, and `xx`
            and `yy` are 1, or NaN where a layer has no value in a batch.
        permuted: (permutations, rows, columns), the values of permuted images, if they are known.
        errors: The errors of CKA, for bands, if they are known.
    """

    values: Tensor
    low: Tensor
    high: Tensor
    null: Tensor
    p_values: Tensor
    terms: Terms
    permuted: Tensor | None = None
    errors: Jackknife | None = None

    def of_rows(self, rows: slice) -> "Cells":
        """Return the cells of some of the rows."""
        matrices = {name: getattr(self, name)[rows] for name in ("values", "low", "high", "null", "p_values")}
        errors = self.errors and replace(
            self.errors,
            values=self.errors.values[rows],
            error=self.errors.error[rows],
            freedom=self.errors.freedom[rows],
            wide=self.errors.wide[rows],
            draws=self.errors.draws[:, rows],
        )
        permuted = None if self.permuted is None else self.permuted[:, rows]
        terms = self.terms.of(rows, slice(None))
        return replace(self, **matrices, terms=terms, permuted=permuted, errors=errors)


def cka_cells(
    x: Sequence[Centred],
    y: Sequence[Centred],
    estimator: Estimator,
    *,
    permutations: int,
    seed: int,
    per_image: int,
    centred: bool = False,
) -> Cells:
    """Return CKA with its intervals and null.

    Args:
        x: Per batch, (rows, n, n) float64 centred Grams as in a fingerprint.
        y: Per batch, (columns, n, n) float64, of the same images.
        estimator: Estimator of HSIC.
        permutations: Number of permutations for the null; 0 gives NaN.
        seed: Seed of the permutations.
        per_image: Examples per image.
        centred: x and y are from `centre_batches`.
    """
    if not centred:
        x, y = centre_batches(x, estimator), centre_batches(y, estimator)
    terms = hsic_terms(x, y, estimator, per_image)
    errors = jackknife(x, y, terms, estimator, Units.of_images(x, per_image), DRAWS)
    permuted = permuted_values(x, y, terms, estimator, permutations=permutations, seed=seed, per_image=per_image)
    null, p_values = quantile_and_p_values(permuted, errors.values, TIE)
    return Cells(errors.values, *errors.interval(), null, p_values, terms, permuted, errors)


def group_cells(x: Sequence[Tensor], y: Sequence[Tensor], units: Units, *, permutations: int, seed: int) -> Cells:
    """Return unbiased CKA of images in groups, see `similarity.groups`; other arguments as in `cka_cells`."""
    terms = group_terms(x, y, units)
    errors = group_jackknife(x, y, terms, units, DRAWS)
    permuted = group_permuted_values(x, y, terms, units, permutations=permutations, seed=seed)
    null, p_values = quantile_and_p_values(permuted, errors.values, ROUNDING)
    return Cells(errors.values, *errors.interval(), null, p_values, terms, permuted, errors)


def measured_cells(
    x: Sequence[Tensor], y: Sequence[Tensor], measure: Measure, *, permutations: int, seed: int, per_image: int
) -> Cells:
    """Return a measure that is a mean over batches, with its intervals and null; other arguments as in `cka_cells`."""
    weights = torch.tensor([stack.shape[-1] // per_image for stack in x], dtype=torch.float64)
    prepared_x, prepared_y = ([measure.prepare_varying(stack) for stack in side] for side in (x, y))
    per_batch = torch.stack([measure.pair_prepared(*batch) for batch in zip(prepared_x, prepared_y, strict=True)])
    exist = [torch.stack([defined(stack) for stack in side]) for side in (prepared_x, prepared_y)]
    ones_x, ones_y = (torch.where(side, 1.0, torch.nan).double() for side in exist)
    values: Tensor = torch.tensordot(weights / weights.sum(), per_batch, dims=1)
    error, freedom = jackknife_error(list(zip(x, y, strict=True)), measure.function, per_image)
    unlimited = values.isfinite() & error.isnan()  # undefined without some of the images
    margin = float(stdtrit(freedom, 0.975)) * error.masked_fill(unlimited, torch.inf)
    low, high = values - margin, values + margin
    if measure.range is not None:
        low, high = low.clamp(*measure.range), high.clamp(*measure.range)
    generator = torch.Generator().manual_seed(seed)
    permuted = _permuted_means(prepared_x, prepared_y, measure, permutations, generator, per_image)
    null, p_values = quantile_and_p_values(permuted, values, ROUNDING)
    return Cells(values, low, high, null, p_values, Terms(per_batch, ones_x, ones_y, weights), permuted)


def mean_interval(
    x: Sequence[Centred],
    y: Sequence[Centred],
    shares: Tensor,
    measure: Measure,
    estimator: Estimator,
    per_image: int = 1,
    terms: Terms | None = None,
    without: Tensor | None = None,
) -> float:
    """Return half the width of the 95 % interval of a weighted mean of cells, which have noise in common.

    Args:
        x: Per batch, (rows, n, n) float64 centred Grams as in a fingerprint.
        y: Per batch, (columns, n, n) float64, of the same images.
        shares: (rows, columns) float64, the weight of each cell; cells of weight 0 may be undefined.
        measure: Of the cells. The mean of one that is a mean over batches is jackknifed as a cell is.
        estimator: Estimator of HSIC.
        per_image: Examples per image.
        terms: For CKA, `hsic_terms` of x and y, which are then from `centre_batches`.
        without: For CKA, (2, images) float64, the mean without each image and its `tangent`, if they are known.
    """
    rows, columns = (shares.any(dim=1), shares.any(dim=0))
    x, y, shares = [stack[rows] for stack in x], [stack[columns] for stack in y], shares[rows][:, columns]
    if measure.sums:
        if terms is None:
            x, y = centre_batches(x, estimator), centre_batches(y, estimator)
            terms = hsic_terms(x, y, estimator, per_image)
        else:
            terms = terms.of(rows, columns)
        error, degrees = mean_error(x, y, terms, shares, estimator, per_image, without)
        freedom = float(degrees)
    else:

        def mean(batch_x: Tensor, batch_y: Tensor) -> Tensor:
            values = measure.function(batch_x, batch_y)
            return (shares * values)[shares != 0].sum().reshape(1, 1)

        batches: Any = list(zip(x, y, strict=True))
        error, freedom = jackknife_error(batches, mean, per_image)
    return float(stdtrit(freedom, 0.975)) * float(error)


def jackknife_error(
    batches: Sequence[tuple[Tensor, ...]], function: Callable[..., Tensor], per_image: int = 1
) -> tuple[Tensor, int]:
    """Return the standard error of a function's mean over batches, and its degrees of freedom.

    Args:
        batches: Per batch, stacks of centred Grams, (layers, n, n) float64 each, all of the same images.
        function: Function of the stacks of one batch that returns (rows, columns).
        per_image: Examples per image; they are left out together.

    Returns:
        (rows, columns) float64, and the degrees of freedom.
    """
    images = [batch[0].shape[-1] // per_image for batch in batches]
    groups = [min(count, max(FEWEST_GROUPS, GROUPS // len(batches))) for count in images]
    variance: Any = sum(
        (count / sum(images)) ** 2 * _variance(batch, function, count, number, per_image)
        for batch, count, number in zip(batches, images, groups, strict=True)
    )
    return variance.sqrt(), sum(groups) - len(groups)


def _variance(
    batch: tuple[Tensor, ...], function: Callable[..., Tensor], images: int, groups: int, per_image: int
) -> Tensor:
    """Return the variance of a function of one batch, (rows, columns), by leaving out one group of images at a time."""
    group = torch.arange(images).repeat_interleave(per_image) % groups
    whole = function(*batch)
    rests = [(group != number).nonzero().flatten() for number in range(groups)]
    partial = torch.stack([function(*(double_centre(s[:, rest][:, :, rest]) for s in batch)) for rest in rests])
    share = torch.tensor([len(rest) / len(group) for rest in rests], dtype=torch.float64)[:, None, None]  # 1 - m_g / n
    h = 1 / (1 - share)
    pseudo_values = h * whole - (h - 1) * partial
    centre = groups * whole - (share * partial).sum(dim=0)
    return ((pseudo_values - centre).square() / (h - 1)).mean(dim=0)


def _permuted_means(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    measure: Measure,
    permutations: int,
    generator: torch.Generator,
    per_image: int,
) -> Tensor:
    """Return the mean over batches of prepared layers, for each permutation of the images of y.

    Its shape is (permutations, rows, columns).
    """
    sums = torch.zeros(permutations, len(x[0]), len(y[0]), dtype=torch.float64)
    for batch_x, batch_y in zip(x, y, strict=True):
        n = batch_x.shape[1]
        for index, order in enumerate(permute_images(permutations, n, per_image, generator)):
            sums[index] += n // per_image * measure.pair_prepared(batch_x, measure.permute(batch_y, order))
    return sums / (sum(stack.shape[1] for stack in x) // per_image)
