"""Warnings about a comparison: sentences that a reader should know before quoting its numbers.

Each warning is given only where it applies. All numbers are read from the result except one, the value that the biased
estimator gives to unrelated layers. For n images and p independent features of equal variance, the centred Gram `K` has
the mean `p H` and `E |K|^2 = p (n - 1) (p + n)` (the second moment of a Wishart matrix of n - 1 dimensions), so two
unrelated layers have

    CKA_0 = sqrt(p_x / (p_x + n)) sqrt(p_y / (p_y + n)),

with the sums over batches taken before the ratio. Correlated features act as fewer and give less. The null says what
the layers at hand give by chance.
"""

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from cka_probe.comparison.results import Axis, SimilarityMatrix

WIDE = 0.05
"""Median half-width of the intervals above which more images are advised."""
ROUGH = 64
"""Number of images below which the coverage of the intervals was not checked by simulation."""
FAINT = 1e-4
"""`rms` of a layer relative to the median layer of its side, below which its similarity may be of noise."""
NAMED = 3
"""Number of layers named before "and N more"."""


def warnings_for(result: SimilarityMatrix) -> tuple[str, ...]:
    """Return the warnings about a comparison, most important first, each of one or two sentences.

    Args:
        result: A result of any measure.

    Returns:
        Plain text; empty if there is no warning.
    """
    checks = (
        _undefined, _bias, _chance, _width, _measure, _tokens, _different_inputs, _same_weights, _faint, _skipped
    )  # fmt: skip
    return tuple(warning for check in checks for warning in check(result))


def unrelated_biased(features_x: int, features_y: int, batches: npt.ArrayLike) -> float:
    """Return the biased CKA of two layers of independent features of equal variance, to first order.

    Args:
        features_x: Number of features of the layer of x, p_x.
        features_y: Number of features of the layer of y, p_y.
        batches: Images in each batch, at least 4 each.

    >>> round(unrelated_biased(13824, 13824, [512]), 2)
    0.96
    """
    n = np.asarray(batches, dtype=np.float64)
    xy = (n * features_x * features_y / (n - 1)).sum()
    xx, yy = ((n * p * (p + n) / (n - 1)).sum() for p in (features_x, features_y))
    return float(xy / np.sqrt(xx * yy))


def _undefined(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of layers without a similarity, by reason."""
    for side, axes in (("x", result.rows), ("y", result.columns)):
        for reason in dict.fromkeys(axis.undefined for axis in axes if axis.undefined):
            names = [axis.name for axis in axes if axis.undefined == reason]
            have = f"{'layer' if len(axes) == 1 else 'layers'} {'has' if len(names) == 1 else 'have'}"
            yield f"{len(names)} of {len(axes)} {have} no similarity in {side} ({_listed(names)}). Why: {reason}."


def _bias(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of the floor of the biased estimator."""
    if result.settings.get("measure", "cka") != "cka" or result.settings["estimator"] != "biased":
        return
    weights = result.terms["weights"]
    sentence = f"The estimator is biased: in batches of {weights.max():.0f} images unrelated layers are not at 0."
    sizes = [[prod(axis.shape) for axis in axes if axis.shape and not axis.undefined] for axes in _axes(result)]
    if result.settings["features"] == "flatten" and all(sizes):
        ends = [unrelated_biased(pick(sizes[0]), pick(sizes[1]), weights) for pick in (min, max)]
        span = f"{ends[0]:.2f}" if round(ends[0], 2) == round(ends[1], 2) else f"{ends[0]:.2f} to {ends[1]:.2f}"
        sentence += f" Features as many as theirs, all independent, would score {span}."
    null = result.null[np.isfinite(result.null)]
    if null.size:
        sentence += f" These layers with permuted images reach {np.median(null):.2f} (median over cells)."
    yield f"{sentence} The unbiased estimator has no such floor."


def _chance(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of cells that are not above the null, or that there is no null."""
    if result.settings["permutations"] == 0:
        yield "No images were permuted, so nothing says what chance alone would reach; ask for some permutations."
        return
    known = np.isfinite(result.values) & np.isfinite(result.null)
    below = int((result.values[known] <= result.null[known]).sum())
    if below:
        verb = "is" if below == 1 else "are"
        yield (
            f"{below} of {int(known.sum())} cells {verb} not above what permuted images reach (the 95 % quantile of "
            f"{result.settings['permutations']} permutations); read no similarity there."
        )


def _width(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of wide intervals, and of too few images for their coverage."""
    widths = (result.high - result.low)[np.isfinite(result.high - result.low)] / 2
    if widths.size and (half := float(np.median(widths))) > WIDE:
        yield (
            f"Values are uncertain by ±{half:.2f} (95 %, median over cells) with {result.num_examples} images; four "
            f"times as many, {4 * result.num_examples}, would about halve that."
        )
    if widths.size and result.num_examples < ROUGH:
        yield (
            f"The intervals themselves are rough: there are {result.num_examples} images, and their coverage was "
            f"checked from {ROUGH} on."
        )


def _measure(result: SimilarityMatrix) -> Iterator[str]:
    """Warn that a mean over batches depends on their size."""
    if result.settings.get("measure", "cka") != "cka":
        sizes = sorted({int(size) for size in result.terms["weights"]})
        span = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        yield (
            f"{result.settings.get('title', result.settings['measure'])} is a mean over batches of {span} images and "
            "depends on that number; compare it only with values from batches of the same size."
        )


def _tokens(result: SimilarityMatrix) -> Iterator[str]:
    """Warn that intervals of tokens are wide."""
    if result.settings["features"] == "tokens" and result.settings.get("measure", "cka") == "cka":
        yield (
            "Tokens of one image are not independent examples: the intervals take the image as the unit and are "
            "on the wide side."
        )


def _different_inputs(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of inputs that differ between the models, which can pass for a difference of the models."""
    x, y = result.x.preprocessing, result.y.preprocessing
    differences = []
    if x.get("size") != y.get("size"):
        differences.append(f"x at {_size(x.get('size'))} and y at {_size(y.get('size'))} pixels")
    if result.x.architecture == result.y.architecture and any(
        list(x.get(name, ())) != list(y.get(name, ())) for name in ("mean", "std")
    ):
        differences.append(
            f"x with mean {_numbers(x['mean'])} and std {_numbers(x['std'])}, y with mean {_numbers(y['mean'])} and "
            f"std {_numbers(y['std'])}, though they are the same architecture"
        )
    if differences:
        yield f"The two see the same images differently: {'; '.join(differences)}. Part of a difference may be that."


def _same_weights(result: SimilarityMatrix) -> Iterator[str]:
    """Warn that a model was compared with itself."""
    if result.x.hash != result.y.hash:
        return
    same = result.x.preprocessing == result.y.preprocessing and result.settings.get(
        "precision", ""
    ) == result.settings.get("precision_y", result.settings.get("precision", ""))
    layers = [axis.module for axis in result.rows] == [axis.module for axis in result.columns]
    addition = " Its diagonal compares each layer with itself and says nothing." if same and layers else ""
    yield f"Both sides have the same weights: this compares the layers of one model.{addition}"


def _faint(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of layers that hardly vary compared with the others of their side."""
    for side, axes in zip("xy", _axes(result), strict=True):
        defined = [axis for axis in axes if not axis.undefined and np.isfinite(axis.rms)]
        median = float(np.median([axis.rms for axis in defined])) if defined else 0.0
        names = [axis.name for axis in defined if axis.rms < FAINT * median]
        if names:
            least = min(axis.rms for axis in defined)
            yield (
                f"{_listed(names)} of {side} varies over the images by as little as {least:.1e}, against "
                f"{median:.1e} of the median layer; its similarity may be of noise."
            )


def _skipped(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of images that could not be read."""
    count = len(result.images["skipped"])
    if count:
        verb = "image was" if count == 1 else "images were"
        yield f"{count} unreadable {verb} left out; {result.num_examples} were compared."


def _axes(result: SimilarityMatrix) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    return result.rows, result.columns


def _listed(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _size(size: Sequence[int] | None) -> str:
    return "x".join(map(str, size)) if size else "the images' own"


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)
