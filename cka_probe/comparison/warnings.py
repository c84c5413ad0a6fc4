"""Warnings about a comparison: what a reader should know before quoting its numbers.

Each warning is given only if it applies. All numbers in them are read from the result, except the value that the biased
estimator gives to unrelated layers. For n images and p independent features of equal variance, the centred Gram `K` has
the mean `p H` and `E |K|^2 = p (n - 1) (p + n)` (the second moment of a Wishart matrix of n - 1 dimensions), so two
unrelated layers have

    CKA_0 = sqrt(p_x / (p_x + n)) sqrt(p_y / (p_y + n)),

with the sums over batches taken before the ratio. Correlated features act like fewer features, and the value is lower.
The null is what the layers of the result reach by chance.
"""

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from cka_probe.comparison.atlas import Atlas
from cka_probe.comparison.correspondence import BEST_MATCH
from cka_probe.comparison.results import Axis, SimilarityMatrix
from cka_probe.images.pairing import ORDER
from cka_probe.similarity.features import tokens_per_image

WIDE = 0.05
"""Median half-width of the intervals above which more images are advised."""
FEW = 64
"""Number of images below which the coverage of the intervals was not checked by simulation."""
FAINT = 1e-4
"""`rms` of a layer relative to the median layer of its side, below which its similarity may be that of noise."""
NAMED = 3
"""Number of layers that are named before "and N more"."""


def warnings_for(result: SimilarityMatrix) -> tuple[str, ...]:
    """Return the warnings about a comparison by any measure, most important first, each of one or two sentences."""
    return tuple(warning for check in (_undefined, *CHECKS) for warning in check(result))


def atlas_warnings(atlas: Atlas) -> tuple[str, ...]:
    """Return the warnings about several models: layers without a similarity, then those about pairs.

    A warning that several pairs have in common, but for its numbers, is given for the first of them.
    """
    warnings = []
    for index, name in enumerate(atlas.names):
        warnings += [f"{name}: {text}" for text in _undefined_layers(atlas.axes(index))]
    if atlas.rule == BEST_MATCH:
        warnings.append(
            "The models have different layers, so each layer is paired with the most similar one of the other model. "
            "The largest of several estimates is slightly too high, and the intervals do not cover the choice."
        )
    elif len(atlas.layers[0]) < len(atlas.first.rows):
        warnings.append(
            f"The mean of each pair is over the {len(atlas.layers[0])} of {len(atlas.first.rows)} layers that are "
            "defined in all models."
        )
    for check in CHECKS:
        texts = {pair: text for pair, result in atlas.results.items() for text in check(result)}
        if not texts:
            continue
        (i, j), text = next(iter(texts.items()))
        if len(set(texts.values())) == 1 and len(texts) == len(atlas.results):
            warnings.append(text)
            continue
        others = len(texts) - 1
        more = f" The same applies to {others} other pair{'s' * (others > 1)}." if others else ""
        warnings.append(f"{atlas.names[i]} (x) and {atlas.names[j]} (y): {text}{more}")
    return tuple(warnings)


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
    """Warn of layers without a similarity, by side and reason."""
    for side, axes in (("x", result.rows), ("y", result.columns)):
        yield from _undefined_layers(axes, f" in {side}")


def _undefined_layers(axes: Sequence[Axis], where: str = "") -> Iterator[str]:
    """Warn of layers without a similarity, by reason."""
    for reason in dict.fromkeys(axis.undefined for axis in axes if axis.undefined):
        names = [axis.name for axis in axes if axis.undefined == reason]
        have = f"{'layer' if len(axes) == 1 else 'layers'} {'has' if len(names) == 1 else 'have'}"
        yield f"{len(names)} of {len(axes)} {have} no similarity{where} ({_listed(names)}). Why: {reason}."


def _layers(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of layers that were left out, and of assumptions about others."""
    for warning in dict.fromkeys((*result.x.warnings, *result.y.warnings)):
        sides = [name for name, side in (("x", result.x), ("y", result.y)) if warning in side.warnings]
        yield f"In {' and '.join(sides)}: {warning}"


def _bias(result: SimilarityMatrix) -> Iterator[str]:
    """Warn that unrelated layers have a positive biased CKA."""
    if result.settings.get("measure", "cka") != "cka" or result.settings["estimator"] != "biased":
        return
    weights = result.terms["weights"]
    sentence = (
        f"The estimator is biased: in batches of {weights.max():.0f} {result.examples} unrelated layers are not at 0."
    )
    axes = (result.rows, result.columns)
    sizes = [[prod(axis.shape) for axis in side if axis.shape and not axis.undefined] for side in axes]
    if result.settings["features"] == "flatten" and all(sizes):
        low, high = (f"{unrelated_biased(end(sizes[0]), end(sizes[1]), weights):.2f}" for end in (min, max))
        value = low if low == high else f"{low} to {high}"
        sentence += f" As many independent features as theirs would score {value}."
    null = result.null[np.isfinite(result.null)]
    if null.size:
        sentence += f" These layers with permuted {_unit(result)} reach {np.median(null):.2f} (median over cells)."
    yield f"{sentence} For the unbiased estimator unrelated layers are at 0."


def _chance(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of cells that are not above the null, or of a result without one."""
    if result.settings["permutations"] == 0:
        unit = _unit(result)
        yield f"No {unit} were permuted, so it is not known what chance alone would reach; ask for permutations."
        return
    defined = np.isfinite(result.values) & np.isfinite(result.null)
    below = int((result.values[defined] <= result.null[defined]).sum())
    if below:
        verb = "is" if below == 1 else "are"
        yield (
            f"{below} of {int(defined.sum())} cells {verb} not above what permuted {_unit(result)} reach (the 95 % "
            f"quantile of {_permutations(result)}) and show no similarity."
        )


def _shared_scale(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of cells above the null whose intervals include 0."""
    if result.settings.get("measure", "cka") != "cka" or result.settings["estimator"] == "biased":
        return
    with np.errstate(invalid="ignore"):
        count = int(((result.values > result.null) & (result.low <= 0)).sum())
    if count:
        verb, noun = ("is", "its interval includes") if count == 1 else ("are", "their intervals include")
        yield (
            f"{count} of {int(np.isfinite(result.values).sum())} cells {verb} above the null, but {noun} 0. The null "
            f"is too narrow where some {_unit(result)} have large features in both models; trust the intervals."
        )


def _permutations(result: SimilarityMatrix) -> str:
    """Return the permutations that the null is of, by number or by what approximates all of them."""
    approximation = result.settings.get("null")
    count = result.settings["permutations"]
    return f"all permutations, approximated by {approximation}" if approximation else f"{count} permutations"


def _copies(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of images that are copies of others."""
    copies = result.images.get("copies", {})
    for name, article in (("exact", "an"), ("near", "a")):
        groups = copies.get(name, [])
        if not groups:
            continue
        count = sum(len(numbers) - 1 for numbers in groups)
        unit = _unit(result)
        are = f"{unit} are {name} copies of others"
        if count == 1:
            are = f"{unit.removesuffix('s')} is {article} {name} copy of another"
        names = copies.get("names", {})
        first = "; ".join(
            ", ".join(names.get(str(number), str(number)) for number in numbers[:NAMED]) for numbers in groups[:NAMED]
        )
        first = first if names else f"numbers, from 0: {first}"
        more = f"; and {len(groups) - NAMED} more groups" if len(groups) > NAMED else ""
        sentence = f"{count} {are} ({first}{more})."
        if copies["merged"]:
            yield f"{sentence} One of each group was used."
        elif "groups" in result.images:
            yield f"{sentence} Copies have to be of one group."
        else:
            yield (
                f"{sentence} Copies count as independent images, so values are too high, intervals too narrow and "
                "p-values too small; use one of each with --merge-duplicates, or give --groups."
            )


def _groups(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of few groups of images, and of a null that they do not allow."""
    groups = result.images.get("groups")
    if groups is None:
        return
    if result.settings["permutations"] and not result.undefined and not np.isfinite(result.null).any():
        yield (
            "There is no null: groups are exchanged as a whole within a batch, and some are in several batches or too "
            f"few have the same size; use --batch {result.num_examples} and groups of equal sizes."
        )
    if groups < FEW:
        yield (
            f"The intervals rest on {groups} groups; their coverage was checked for {FEW} and more, and may be lower."
        )


def _width(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of wide intervals, and of too few images for their coverage."""
    half_widths = (result.high - result.low)[np.isfinite(result.high - result.low)] / 2
    if not half_widths.size:
        return
    median = float(np.median(half_widths))
    if median > WIDE and result.trainings_text:
        yield (
            f"Values are uncertain by ±{median:.2f} (95 %, median over cells) over new {result.examples} and new "
            "trainings; more of both may be needed."
        )
    elif median > WIDE:
        yield (
            f"Values are uncertain by ±{median:.2f} (95 %, median over cells) with {result.num_examples} "
            f"{result.examples}; four times as many, {4 * result.num_examples}, would about halve that."
        )
    if result.num_examples < FEW:
        yield (
            f"The intervals themselves are rough: there are {result.num_examples} {result.examples}, and their "
            f"coverage was checked for {FEW} and more."
        )


def _trainings(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of a side with a single model, and of pairs of three trainings."""
    counts = [len(side) for side in result.settings.get("trainings", ())]
    if 1 in counts:
        side = "xy"[counts.index(1)]
        yield f"Of {side} there is one model, so the intervals say nothing about other trainings of {side}."
    if counts == [3]:
        yield "The intervals of three trainings of one recipe are wider than necessary; use four or more."


def _measure(result: SimilarityMatrix) -> Iterator[str]:
    """Warn that a mean over batches depends on their size."""
    if result.settings.get("measure", "cka") != "cka":
        sizes = sorted({int(size) for size in result.terms["weights"]})
        batch = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        title = result.settings.get("title", result.settings["measure"])
        yield (
            f"{title} is a mean over batches of {batch} {result.examples} and depends on that number; compare it only "
            "with values from batches of the same size."
        )


def _tokens(result: SimilarityMatrix) -> Iterator[str]:
    """Warn that the intervals of tokens are conservative."""
    if tokens_per_image(result.settings["features"]) > 1 and result.settings.get("measure", "cka") == "cka":
        yield (
            "Tokens of one image are not independent examples: the intervals take the image as the unit and are "
            "conservative."
        )


def _different_inputs(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of inputs that differ between the models, which may explain a part of a low similarity."""
    x, y = result.x.preprocessing, result.y.preprocessing
    differences = []
    if x.get("size") != y.get("size"):
        sizes = ["x".join(map(str, side["size"])) if side.get("size") else "the images' own" for side in (x, y)]
        differences.append(f"x at {sizes[0]} and y at {sizes[1]} pixels")
    channels = [side.get("channels") for side in (x, y)]
    if 1 in channels and channels[0] != channels[1]:
        differences.append(f"{'x' if channels[0] == 1 else 'y'} in grey")
    elif result.x.architecture == result.y.architecture and any(
        list(x.get(name, ())) != list(y.get(name, ())) for name in ("mean", "std")
    ):
        texts = [f"mean {_numbers(side.get('mean', ()))} and std {_numbers(side.get('std', ()))}" for side in (x, y)]
        differences.append(f"x with {texts[0]}, y with {texts[1]}, though they are the same architecture")
    precision = result.settings.get("precision")
    if (precision_y := result.settings.get("precision_y", precision)) != precision:
        differences.append(f"x in {precision} and y in {precision_y}")
    if differences:
        images = "their images" if result.pairing else "the same images"
        yield f"The models get {images} differently: {'; '.join(differences)}. This may lower their similarity."


def _same_weights(result: SimilarityMatrix) -> Iterator[str]:
    """Warn that a model was compared with itself."""
    if result.x.hash != result.y.hash or result.trainings_text:
        return
    if result.pairing:
        yield "Both sides have the same weights: this compares one model over two sets of images."
        return
    settings, precision = result.settings, result.settings.get("precision", "")
    same = result.x.preprocessing == result.y.preprocessing and precision == settings.get("precision_y", precision)
    layers = [axis.module for axis in result.rows] == [axis.module for axis in result.columns]
    addition = " Its diagonal compares each layer with itself and is not informative." if same and layers else ""
    yield f"Both sides have the same weights: this compares the layers of one model.{addition}"


def _faint(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of layers that hardly vary compared with the others of their side."""
    for side, axes in (("x", result.rows), ("y", result.columns)):
        defined = [axis for axis in axes if not axis.undefined and np.isfinite(axis.rms)]
        median = float(np.median([axis.rms for axis in defined])) if defined else 0.0
        names = [axis.name for axis in defined if axis.rms < FAINT * median]
        if names:
            least = min(axis.rms for axis in defined)
            yield (
                f"{_listed(names)} of {side} varies over the {_unit(result)} by as little as {least:.1e}, the median "
                f"layer by {median:.1e}; its similarity may be that of noise."
            )


def _pairing(result: SimilarityMatrix) -> Iterator[str]:
    """Warn that nothing checks images that are paired by order."""
    if result.pairing == ORDER:
        yield (
            f"Image i of {result.images['source']} (x) was paired with image i of {result.images['source_y']} (y) by "
            "order, and nothing shows that they belong together; wrong pairs have the similarity of chance."
        )


def _skipped(result: SimilarityMatrix) -> Iterator[str]:
    """Warn of images that could not be read."""
    count = len(result.images["skipped"])
    if count:
        verb = "image was" if count == 1 else "images were"
        verb += " left out, with its partner" if result.pairing else " left out"
        yield f"{count} unreadable {verb}; {result.num_examples} were compared."


def _unit(result: SimilarityMatrix) -> str:
    """Return what each side sees: images, or rows of features."""
    return "rows" if result.examples == "rows" else "images"


def _listed(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3g}" for value in values)


CHECKS = (
    _layers,
    _pairing,
    _copies,
    _groups,
    _bias,
    _chance,
    _shared_scale,
    _width,
    _trainings,
    _measure,
    _tokens,
    _different_inputs,
    _same_weights,
    _faint,
    _skipped,
)
"""Checks of a pair of models besides that for undefined layers, most important first."""
