"""Squared distance correlation, bias-corrected: `<U(A), U(B)> / (|U(A)| |U(B)|)`, `A_ij = |x_i - x_j|`."""

from cka_probe.similarity.measures.cka import unbiased_hsic
from cka_probe.similarity.measures.measure import Measure, inner_products, squared_distances

DISTANCE_CORRELATION = Measure(
    "distance_correlation",
    "Distance correlation",
    "whether the two layers depend on each other in any way; its square, 0 only if they are independent",
    "Székely, Rizzo & Bakirov, Annals of Statistics 2007; bias-corrected by Székely & Rizzo, J. Multivar. Anal. 2013",
    lambda grams: unbiased_hsic(squared_distances(grams).sqrt()),
    inner_products,
    range=(-1.0, 1.0),
    chance="0 (bias-corrected)",
    undefined="all its images are equally far apart",
)
