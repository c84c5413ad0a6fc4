"""Mean CKA over several trainings of each side, and its interval over new images and new trainings at once.

Trainings `a = 1 … p` of one recipe and `b = 1 … q` of another see the same images; `T_ab` is the CKA of a layer of
a with one of b, and the value is the mean T of all pairs. Its noise has two sources that are crossed, images and
trainings, as cases and readers are in studies of diagnosis (Dorfman, Berbaum & Metz 1992), so

    var T = V_images + V_trainings - V_both

**Images.** V_images is the jackknife of the mean, from the mean over pairs of the deviations `D_i,ab` without image i,
as that of a single cell is (`similarity.intervals`). It is the variance over new images for these trainings, and
contains what varies over images in one training alone.

**Trainings.** From the analysis of variance of the table `T_ab` with the means `T_a.` and `T_.b`,

    A = sum_a (T_a. - T)^2 / (p (p - 1))        B = sum_b (T_.b - T)^2 / (q (q - 1))
    AB = sum_ab (T_ab - T_a. - T_.b + T)^2 / ((p - 1) (q - 1) p q)          V_trainings = A + B - AB

in which AB, the noise of single pairs, is in A as well as in B. V_trainings is unbiased for these images, and contains
the same noise of single trainings over images.

**Both** is that noise, which would count twice: the same sums of squares of the tables `D_i,ab`, added over the images.
This is inclusion and exclusion over the ways in which two terms of the mean depend on each other (Cameron, Gelbach &
Miller, Journal of Business & Economic Statistics 2011; Owen, Annals of Applied Statistics 2007). No sum may be smaller
than its largest term, as it could by chance.

**One recipe.** For pairs of distinct trainings of one recipe, T is a U-statistic of order 2 (Hoeffding 1948). With
`r_a` the mean of the pairs of a, its jackknife over trainings is

    J = 4 (p - 1) / (p (p - 2)^2) sum_a (r_a - T)^2

which has the noise of single pairs too often: `2 s^2 / ((p - 1) (p - 2))` is subtracted, `s^2` the mean square of what
remains of `T_ab` without the means of a and b, with `p (p - 3) / 2` degrees of freedom. Of three trainings nothing
remains, and the interval is conservative.

**One model** on a side, such as a published one, is that model: its other trainings are not asked about.

**Interval.** `tanh(arctanh T -+ t sqrt(var T) / (1 - T^2))` with the quantile t of Student's t. Its degrees of freedom
are those of the sum (Satterthwaite 1946), of which V_images has those of `jackknife.effective_freedom`, A has p - 1
and B has q - 1: `(var T)^2 / (V_images^2 / f_images + A^2 / (p - 1) + B^2 / (q - 1))`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cka_probe.similarity.cka import Centred, Estimator, cka, hsic_terms
from cka_probe.similarity.intervals import Jackknife, mean_noise, slope_of, variance_of_units
from cka_probe.similarity.jackknife import Units, deviations, leave_one_out, spread


@dataclass(frozen=True)
class Parts:
    """The variance of a mean over pairs of trainings, from tables of them; (...) float64 each.

    Attributes:
        variance: The variance over trainings.
        spread: Sum of its terms' squares over their degrees of freedom.
    """

    variance: Tensor
    spread: Tensor


def seeds_jackknife(
    x: Sequence[Centred], y: Sequence[Centred], estimator: Estimator, per_image: int = 1, *, same: bool = False
) -> Jackknife:
    """Return the mean over pairs of trainings of the CKA of two layers, with its error; (1, 1) float64.

    Args:
        x: Per batch, (p, n, n) float64: one layer of each training, from `centre_batches`.
        y: Per batch, (q, n, n) float64, of the same images.
        estimator: The estimator that the matrices were centred for.
        per_image: Examples per image.
        same: y are the trainings of x in the same order, of which distinct ones are paired.
    """
    terms = hsic_terms(x, y, estimator, per_image)
    table, units = cka(terms), Units.of_images(x, per_image)
    weights = torch.ones_like(table)
    if same:
        weights.fill_diagonal_(0.0)
    weights /= weights.sum()
    _, *without = zip(*leave_one_out(x, y, terms, estimator, units), strict=True)
    shares, others = (deviations(table, torch.cat(parts, dim=1), units.sizes) for parts in without)
    value = (weights * table).sum()
    means = [(weights * part).sum(dim=(1, 2)) for part in (shares, others)]
    squares, freedom, _ = spread(means[0], means[1], len(units.sizes))
    noise = mean_noise(x, y, terms, weights, estimator) if per_image == 1 else torch.zeros_like(squares)
    images, parts_of = variance_of_units(squares, noise), _one_recipe if same else _two_recipes
    trainings, both = parts_of(table), parts_of(shares).variance.sum()
    variance = torch.stack([images + trainings.variance - both, images, trainings.variance]).amax(dim=0)
    freedom = variance.square() / (images.square() / freedom + trainings.spread)
    error = (variance.sqrt() * slope_of(value)).nan_to_num(torch.inf, torch.inf)
    freedom = freedom.nan_to_num(1.0).clamp_min(1.0)
    value, error, freedom = (part.reshape(1, 1) for part in (value, error, freedom))
    return Jackknife(value, error, freedom, error, torch.zeros(0, 1, 1))


def _two_recipes(table: Tensor) -> Parts:
    """Return the variance of the mean of tables (..., p, q) over trainings of both sides, or of one."""
    p, q = table.shape[-2:]
    mean = table.mean(dim=(-2, -1), keepdim=True)
    rows, columns = (table.mean(dim=dim, keepdim=True) - mean for dim in (-1, -2))
    a = rows.square().sum(dim=(-2, -1)) / (p * max(p - 1, 1))
    b = columns.square().sum(dim=(-2, -1)) / (q * max(q - 1, 1))
    rest = (table - mean - rows - columns).square().sum(dim=(-2, -1)) / (p * q * max((p - 1) * (q - 1), 1))
    variance = torch.maximum(a + b - rest, torch.maximum(a, b))
    return Parts(variance, a.square() / max(p - 1, 1) + b.square() / max(q - 1, 1))


def _one_recipe(table: Tensor) -> Parts:
    """Return the variance of the mean of distinct pairs in tables (..., p, p) over trainings of one recipe."""
    p = table.shape[-1]
    distinct = ~torch.eye(p, dtype=torch.bool)
    pairs = torch.where(distinct, (table + table.mT) / 2, 0.0)
    mean = pairs.sum(dim=(-2, -1)) / (p * (p - 1))
    rows = pairs.sum(dim=-1) / (p - 1) - mean[..., None]
    jackknife = 4 * (p - 1) / (p * (p - 2) ** 2) * rows.square().sum(dim=-1)
    effects = rows * (p - 1) / (p - 2)
    rest = pairs - mean[..., None, None] - effects[..., None] - effects[..., None, :]
    square = torch.where(distinct, rest, 0.0).square().sum(dim=(-2, -1)) / max(p * (p - 3), 1)
    single = 2 * square / (p * (p - 1))
    variance = torch.maximum(jackknife - 2 * square / ((p - 1) * (p - 2)), single)
    return Parts(variance, variance.square() / (p - 1))
