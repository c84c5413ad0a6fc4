"""CKA of two streams of features, as a metric of torchmetrics."""

from typing import Any

import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.stream import FEWEST
from cka_probe.models.devices import full_float32
from cka_probe.similarity import ESTIMATORS, Terms, anchored_product, centre_batches, centred_grams, cka, hsic_terms

try:
    from torchmetrics import Metric
except ModuleNotFoundError as error:
    raise registry.missing_extra(error) from error


class CKAMetric(Metric):
    """Minibatch linear CKA of two streams of features (Nguyen, Raghu & Kornblith 2021).

        CKA = sum_b n_b HSIC(K_b, L_b) / sqrt(sum_b n_b HSIC(K_b, K_b) * sum_b n_b HSIC(L_b, L_b))

    over batches b of n_b examples with Grams K_b and L_b of x and y: what `compare` computes. The sums are states, so
    the order of batches and of processes does not matter. The value is NaN if a stream does not vary, or is not finite,
    in some batch.

    Args:
        estimator: Estimator of HSIC, `unbiased` (Song et al. 2012) or `biased` (Gretton et al. 2005).
        options: Arguments of `torchmetrics.Metric`.

    Raises:
        UnknownNameError: There is no such estimator.

    >>> metric = CKAMetric()
    >>> x = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    >>> metric.update(x[:32], 2 * x[:32])
    >>> metric.update(x[32:], 2 * x[32:])
    >>> metric.compute().round(decimals=6)
    tensor(1., dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    sum_xy: Tensor
    sum_xx: Tensor
    sum_yy: Tensor
    undefined: Tensor

    def __init__(self, estimator: str = "unbiased", **options: Any):
        super().__init__(**options)
        self.estimator = registry.get(ESTIMATORS, estimator, "estimator")
        self.set_dtype(torch.float64)
        for name in ("sum_xy", "sum_xx", "sum_yy", "undefined"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add a batch.

        Args:
            x: (n, ...) floats; row i is example i. All but the first axis are features.
            y: (n, ...) floats of the same examples.

        Raises:
            DataError: There are fewer than four examples, or not as many of y.
        """
        if x.dim() < 1 or len(x) < FEWEST or x.shape[:1] != y.shape[:1]:
            raise DataError(
                f"expected features (n, ...) of the same examples, at least {FEWEST}, found {tuple(x.shape)} and "
                f"{tuple(y.shape)}; give larger batches, or drop the last"
            )
        with torch.no_grad(), full_float32(x.device):
            products = [anchored_product(side.reshape(len(side), -1)) for side in (x, y)]
        grams = centred_grams(products)
        self.undefined += int(not (grams.finite & grams.varies).all())
        (batch,) = centre_batches([grams.matrices], self.estimator)
        terms = hsic_terms([batch[:1]], [batch[1:]], self.estimator)
        for name, total in zip(("sum_xy", "sum_xx", "sum_yy"), terms.sums(), strict=True):
            state = getattr(self, name)
            state += total.squeeze().to(state.device)

    def compute(self) -> Tensor:
        """Return CKA over all batches, () float64."""
        xy, xx, yy = self.sum_xy.cpu(), self.sum_xx.cpu(), self.sum_yy.cpu()
        terms = Terms(xy[None, None, None], xx[None, None], yy[None, None], torch.ones(1, dtype=torch.float64))
        value = cka(terms).squeeze()
        return torch.where(self.undefined.cpu() > 0, torch.nan, value).to(self.sum_xy.device)
