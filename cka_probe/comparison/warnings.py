"""What a reader of a comparison should know before believing it, in plain sentences with this comparison's numbers.

Only what is true of the result at hand is said, and nothing where there is nothing to say. One number is derived rather
than read off: what the biased estimator gives to layers that have nothing to do with each other. For n images and p
independent features of equal variance the centred Gram `K` has the mean `p H` and `E |K|^2 = p (n - 1) (p + n)` (the
second moment of a Wishart matrix of n - 1 dimensions), so that two unrelated layers have

    CKA_0 = sqrt(p_x / (p_x + n)) sqrt(p_y / (p_y + n)),

the sums over batches taken before the ratio. Features that are correlated act as fewer, and give less; what these very
layers give by chance is the null, which is named beside it.
"""

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from cka_probe.comparison.results import Axis, SimilarityMatrix

WIDE = 0.05
"""Half-width of an interval, at the median over cells, above which more images are worth their time."""
ROUGH = 64
"""Images below which the coverage of the intervals was not checked by simulation."""
FAINT = 1e-4
"""Spread of a layer over that of its side's median layer below which it may be noise that is compared."""
NAMED = 3
"""Layers that are named before "and others" takes over."""


def warnings_for(result: SimilarityMatrix) -> tuple[str, ...]:
    """Return what to keep in mind about a comparison, most important first, one sentence or two each.

    Args:
        result: Of any measure.

    Returns:
        Plain text; empty where there is nothing to say.
    """
    parts = (_undefined, _bias, _chance, _width, _measure, _tokens, _fed_differently, _same_weights, _faint, _skipped)
    return tuple(sentence for part in parts for sentence in part(result))


def unrelated_biased(features_x: int, features_y: int, batches: Sequence[float]) -> float:
    """Return the biased CKA that independent features of equal variance have with others, to first order.

    Args:
        features_x: Of a layer of x, p_x.
        features_y: Of a layer of y, p_y.
        batches: Images in each batch, at least 4 each.

    >>> round(unrelated_biased(13824, 13824, [512]), 2)
    0.96
    """
    n = np.asarray(batches, dtype=np.float64)
    xy = (n * features_x * features_y / (n - 1)).sum()
    xx, yy = ((n * p * (p + n) / (n - 1)).sum() for p in (features_x, features_y))
    return float(xy / np.sqrt(xx * yy))


def _undefined(result: SimilarityMatrix) -> Iterator[str]:
    """Yield which layers have no similarity, by reason."""
    for side, axes in (("x", result.rows), ("y", result.columns)):
        for reason in dict.fromkeys(axis.undefined for axis in axes if axis.undefined):
            names = [axis.name for axis in axes if axis.undefined == reason]
            have = f"{'layer' if len(axes) == 1 else 'layers'} {'has' if len(names) == 1 else 'have'}"
            yield f"{len(names)} of {len(axes)} {have} no similarity in {side} ({_listed(names)}). Why: {reason}."


def _bias(result: SimilarityMatrix) -> Iterator[str]:
    """Yield what the biased estimator gives to unrelated layers."""
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
    """Yield how many cells chance could have given, or that nothing is known about it."""
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
    """Yield how wide the intervals are for this many images."""
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
    """Yield that a mean over batches depends on their size."""
    if result.settings.get("measure", "cka") != "cka":
        sizes = sorted({int(size) for size in result.terms["weights"]})
        span = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        yield (
            f"{result.settings.get('title', result.settings['measure'])} is a mean over batches of {span} images and "
            "depends on that number; compare it only with values from batches of the same size."
        )


def _tokens(result: SimilarityMatrix) -> Iterator[str]:
    """Yield what tokens do to intervals."""
    if result.settings["features"] == "tokens" and result.settings.get("measure", "cka") == "cka":
        yield (
            "Tokens of one image are not independent examples: the intervals take the image as the unit and are "
            "on the wide side."
        )


def _fed_differently(result: SimilarityMatrix) -> Iterator[str]:
    """Yield in what the two models were fed differently, where that can pass for a difference between them."""
    x, y = result.x.preprocessing, result.y.preprocessing
    told = []
    if x.get("size") != y.get("size"):
        told.append(f"x at {_size(x.get('size'))} and y at {_size(y.get('size'))} pixels")
    if result.x.architecture == result.y.architecture and any(
        list(x.get(name, ())) != list(y.get(name, ())) for name in ("mean", "std")
    ):
        told.append(
            f"x with mean {_numbers(x['mean'])} and std {_numbers(x['std'])}, y with mean {_numbers(y['mean'])} and "
            f"std {_numbers(y['std'])}, though they are the same architecture"
        )
    if told:
        yield f"The two see the same images differently: {'; '.join(told)}. Part of a difference may be that."


def _same_weights(result: SimilarityMatrix) -> Iterator[str]:
    """Yield that a model was compared with itself."""
    if result.x.hash != result.y.hash:
        return
    same = result.x.preprocessing == result.y.preprocessing and result.settings.get(
        "precision", ""
    ) == result.settings.get("precision_y", result.settings.get("precision", ""))
    layers = [axis.module for axis in result.rows] == [axis.module for axis in result.columns]
    also = " Its diagonal compares each layer with itself and says nothing." if same and layers else ""
    yield f"Both sides have the same weights: this compares the layers of one model.{also}"


def _faint(result: SimilarityMatrix) -> Iterator[str]:
    """Yield layers that hardly vary beside the others of their side."""
    for side, axes in zip("xy", _axes(result), strict=True):
        there = [axis for axis in axes if not axis.undefined and np.isfinite(axis.spread)]
        median = float(np.median([axis.spread for axis in there])) if there else 0.0
        names = [axis.name for axis in there if axis.spread < FAINT * median]
        if names:
            least = min(axis.spread for axis in there)
            yield (
                f"{_listed(names)} of {side} varies over the images by as little as {least:.1e}, against "
                f"{median:.1e} of the median layer; its similarity may be of noise."
            )


def _skipped(result: SimilarityMatrix) -> Iterator[str]:
    """Yield how many images could not be read."""
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
