"""CKA: `<U(K), U(L)> / (|U(K)| |U(L)|)`, its HSICs summed over batches; `similarity.cka` says how."""

from torch import Tensor

from cka_probe.similarity.cka import u_centre
from cka_probe.similarity.measures.measure import Measure, inner_products, normed


def unbiased_hsic(grams: Tensor) -> Tensor:
    """Return U-centred Grams of norm 1; NaN where the unbiased HSIC of a layer with itself is 0."""
    return normed(u_centre(grams))


CKA = Measure(
    "cka",
    "CKA",
    "how far the two layers agree on which images are alike, the widest directions counting most",
    "Kornblith et al., ICML 2019; unbiased by Song et al., JMLR 2012; in batches by Nguyen et al., ICLR 2021",
    unbiased_hsic,
    inner_products,
    range=(0.0, 1.0),
    sums=True,
    chance="0 (debiased)",
)
