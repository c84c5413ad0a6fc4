"""Similarity measures, each a function of the centred Grams of two layers over one batch of images.

`measure` says what a measure is; each other file has one, or two that share their parts.

The intrinsic multi-scale distance (IMD, Tsitsulin et al. 2020) and the representation topology divergence (RTD,
Barannikov et al. 2022) are not among them. IMD compares two spectra and not which image is where, so unrelated images
give the same value: it has no null. RTD needs persistent homology for each pair of layers, and again for each
permutation of the null. Both are unbounded distances, not similarities.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.similarity.cka import DOUBLY_UNBIASED, ESTIMATORS
from cka_probe.similarity.measures.cca import PWCCA, SVCCA
from cka_probe.similarity.measures.cka import CKA
from cka_probe.similarity.measures.cknna import CKNNA
from cka_probe.similarity.measures.distance_correlation import DISTANCE_CORRELATION
from cka_probe.similarity.measures.jaccard import JACCARD
from cka_probe.similarity.measures.measure import INVARIANCES as INVARIANCES
from cka_probe.similarity.measures.measure import Measure as Measure
from cka_probe.similarity.measures.measure import defined as defined
from cka_probe.similarity.measures.mutual_knn import MUTUAL_KNN
from cka_probe.similarity.measures.procrustes import BURES, PROCRUSTES
from cka_probe.similarity.measures.rbf_cka import RBF_CKA
from cka_probe.similarity.measures.rsa import RSA, RSA_PEARSON

MEASURES: dict[str, Measure] = {
    "cka": CKA,
    "rbf_cka": RBF_CKA,
    "rsa": RSA,
    "rsa_pearson": RSA_PEARSON,
    "distance_correlation": DISTANCE_CORRELATION,
    "mutual_knn": MUTUAL_KNN,
    "jaccard": JACCARD,
    "cknna": CKNNA,
    "procrustes": PROCRUSTES,
    "bures": BURES,
    "svcca": SVCCA,
    "pwcca": PWCCA,
}
"""Measures by name."""


def choose_measure(measure: str | Measure | Callable[[Tensor, Tensor], Any], estimator: str = "unbiased") -> Measure:
    """Return the measure of a name or a function.

    Args:
        measure: A name in `MEASURES`, a `Measure`, or any function of two centred Grams, (n, n) float64 each, that
            returns one number. The function is called for each pair of layers and each batch.
        estimator: Estimator of HSIC; only CKA has more than one.

    Raises:
        UnknownNameError: There is no measure or estimator of that name.
        DataError: It is neither a name nor a measure, or has no such estimator.

    >>> choose_measure("rsa").range
    (-1.0, 1.0)
    """
    registry.get({**ESTIMATORS, DOUBLY_UNBIASED: None}, estimator, "estimator")
    method = registry.get(MEASURES, measure, "measure") if isinstance(measure, str) else measure
    if not isinstance(method, Measure):
        method = _from_function(method)
    if not method.sums and estimator != "unbiased":
        raise DataError(f"estimator {estimator!r} is one of CKA; {method.name} has none: omit it")
    return method


def _from_function(function: Callable[[Tensor, Tensor], Any]) -> Measure:
    """Return a function of two Grams as a measure."""
    if not callable(function):
        raise DataError(
            f"expected the name of a measure ({', '.join(MEASURES)}) or a function of two Grams, found "
            f"{type(function).__name__}"
        )
    name = getattr(function, "__name__", type(function).__name__)
    meaning = (getattr(function, "__doc__", None) or "a user-defined measure").strip().splitlines()[0]

    def number(row: Tensor, column: Tensor) -> float:
        value = function(row, column)
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"expected the measure {name!r} to return one number for two Grams, found {type(value).__name__}: "
                f"{error}"
            ) from error

    def pair(x: Tensor, y: Tensor) -> Tensor:
        return torch.tensor([[number(row, column) for column in y] for row in x], dtype=torch.float64)

    return Measure(name, name, meaning, "", lambda grams: grams, pair, range=None)
