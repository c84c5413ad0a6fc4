"""CKNNA: CKA of which only pairs count that are neighbours in both layers.

`sum_ij a_ij b_ij K_ij L_ij / sqrt(sum_ij (a_ij K_ij)^2 sum_ij (b_ij L_ij)^2)`, with a_ij and b_ij whether image j is
among the k nearest of i in x and in y, k as in `mutual_knn`.
"""

from cka_probe.similarity.measures.measure import Measure, inner_products, normed
from cka_probe.similarity.measures.mutual_knn import NEIGHBOURS, neighbours

CKNNA = Measure(
    "cknna",
    f"CKNNA, {NEIGHBOURS} neighbours",
    "how far the two layers agree on which near images are alike; between mutual_knn and cka",
    "Huh et al., ICML 2024 (there of normalised features, here of centred ones, and neighbours by Euclidean distance)",
    lambda grams: normed(neighbours(grams) * grams),
    inner_products,
    range=(-1.0, 1.0),
    chance="at most about k / (n - 1)",
    undefined="no image has a centred inner product with its neighbours",
)
