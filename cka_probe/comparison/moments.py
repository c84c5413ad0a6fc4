"""Compare two models over all images as one batch, from one pass, without a Gram.

The features of each batch are added to the sums of `similarity.moments` and freed. Apart from these sums, the features
of a sample of images and the hashes of all are kept, so that each image adds about 150 bytes to the memory.
"""

from collections.abc import Sequence
from dataclasses import replace

from cka_probe import registry
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.model_run import CONSTANT, NOT_FINITE, ZERO
from cka_probe.comparison.sides import Entry, Images, Options, Unset, extract_sides
from cka_probe.errors import DataError
from cka_probe.similarity import ESTIMATORS, Cells, Measure
from cka_probe.similarity.moments import Moments, SideMoments

ALL = "all"
"""`batch` for one batch of all images."""
FEWEST = 5
"""Least number of images for the approximation of the null; of 4, p-values were too small."""


def compare_moments(
    entries: Sequence[Entry], images: Images, options: Options, measure: Measure, estimator: str, permutations: int
) -> tuple[list[Fingerprint], Cells]:
    """Return both models, without Grams, and their similarity over all images as one batch.

    Args:
        entries: x and y.
        images: Their images.
        options: All other arguments; `batch` is how many images are read together.
        measure: CKA.
        estimator: Estimator of HSIC.
        permutations: 0 for no null.

    Raises:
        DataError: The measure is another, or features are not pooled.
        FingerprintError: A side is a fingerprint.
    """
    if not measure.sums:
        raise DataError(
            f"expected the measure cka for one batch of all images, found {measure.name}, which needs Grams; "
            "set --batch to the number of images"
        )
    hsic = registry.get(ESTIMATORS, estimator, "estimator")
    moments = Moments(seed=0 if isinstance(options.seed, Unset) else options.seed)
    prints = extract_sides(entries, images, options, moments)
    if permutations and moments.x.count < FEWEST:
        raise DataError(
            f"expected at least {FEWEST} images for the null of one batch of all images, found {moments.x.count}; "
            f"set --batch {moments.x.count}, or --permutations 0 for none"
        )
    sides = zip(prints, (moments.x, moments.y), strict=True)
    return [_described(print_, side) for print_, side in sides], moments.cells(hsic, null=permutations > 0)


def _described(print_: Fingerprint, side: SideMoments) -> Fingerprint:
    """Return a model with what the sums say of its layers."""
    layers = zip(side.finite.tolist(), side.varies.tolist(), side.size.tolist(), strict=True)
    undefined = tuple(
        NOT_FINITE if not finite else "" if varies else CONSTANT if size else ZERO for finite, varies, size in layers
    )
    return replace(print_, rms=tuple(side.rms.tolist()), undefined=undefined)
