"""The same comparison by other measures, from the fingerprints that lie beside a result.

What was computed stands first and is never computed again. Fingerprints of another model, of other images or without
one of the layers are left out, and the page says so. What is computed here is chosen by the size of the work and not by
a clock, so that the same folder gives the same page.
"""

from collections.abc import Iterator
from pathlib import Path

from cka_probe.comparison.compare import compare_fingerprints
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.results import Axis, Side, SimilarityMatrix
from cka_probe.errors import CkaProbeError
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.similarity import ESTIMATORS
from cka_probe.similarity.measures import MEASURES

SIDES = ("x", "y")
PERMUTATIONS = {"cka": 200, "rsa": 50, "mutual_knn": 50}
"""Of the null of what is computed for the page alone; none for a measure that is not named."""
MOST_WORK = {"cka": 1e12, "rsa": 2e8, "mutual_knn": 2e8}
LEAST_WORK = 5e7
"""Cells times the cubes of the batches' images up to which a measure is computed for the page alone; `LEAST_WORK` for
one that is not named. For 9 x 9 layers and batches of 64 on one busy core: both CKAs of 512 images 1 s, RSA 6 s,
mutual k-NN 3 s; Procrustes of 128 images 11 s, and three times that with 50 permutations."""

Switch = tuple[dict[str, SimilarityMatrix], tuple[str, ...]]


def switch(folder: Path, result: SimilarityMatrix) -> Switch:
    """Return a result as it was computed and by other measures, by what the page's switch calls them.

    Args:
        folder: Where `x.fingerprint` and `y.fingerprint` may lie.
        result: What was computed.

    Returns:
        The matrices, and sentences: what is not there and why, what was computed otherwise.
    """
    alone = {title(result): result}
    paths = [folder / f"{side}.fingerprint" for side in SIDES]
    if missing := [f"`{path.name}`" for path in paths if not path.is_file()]:
        return alone, (f"Not beside the result: {' and '.join(missing)}. Only what was computed is shown.",)
    prints = [Fingerprint.load(path) for path in paths]
    sides, axes = (result.x, result.y), (result.rows, result.columns)
    for path, side, layers, found in zip(paths, sides, axes, prints, strict=True):
        if misfit := _misfit(result, side, layers, found):
            return alone, (f"`{path.name}` {misfit}: only what was computed is shown.",)
    maps = [LayerMap(tuple(Layer(axis.name, axis.module) for axis in layers)) for layers in axes]
    x, y = (found.subset(layers) for found, layers in zip(prints, maps, strict=True))
    return _computed(result, x, y)


def title(result: SimilarityMatrix) -> str:
    """Return what a switch calls a result: its measure, and the estimator of CKA."""
    settings = result.settings
    measure = settings.get("measure", "cka")
    name = "CKA" if measure == "cka" else str(settings.get("title", measure))
    return f"{name}, {settings['estimator']}" if settings.get("estimator") else name


def _computed(result: SimilarityMatrix, x: Fingerprint, y: Fingerprint) -> Switch:
    """Return the result with what can be computed beside it in little time, and what was and what was not."""
    results, left, said = {title(result): result}, [], []
    work = result.values.size * sum(float(stack.shape[-1]) ** 3 for stack in x.grams)
    for measure, how in _others(result):
        if work > MOST_WORK.get(measure, LEAST_WORK):
            left.append(MEASURES[measure].title)
            continue
        count = PERMUTATIONS.get(measure, 0)
        try:
            other = compare_fingerprints(x, y, measure=measure, permutations=count, **how)
        except CkaProbeError as error:
            left.append(f"{MEASURES[measure].title} ({error})")
            continue
        results[title(other)] = other
        said.append(f"{title(other)}, with {count or 'no'} permutations")
    words = [f"Computed for this page, from the fingerprints: {'; '.join(said)}."] if said else []
    if left:
        words.append(
            f"Not computed for this page: {', '.join(left)}; `ckaprobe compare --measure` has the time for it."
        )
    return results, tuple(words)


def _others(result: SimilarityMatrix) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield every other way to compare the same fingerprints: a measure, and the estimator of one that has several."""
    measured = result.settings.get("measure", "cka"), result.settings.get("estimator")
    for name, measure in MEASURES.items():
        for estimator in ESTIMATORS if measure.sums else (None,):
            if measured != (name, estimator):
                yield name, {"estimator": estimator} if estimator else {}


def _misfit(result: SimilarityMatrix, side: Side, axes: tuple[Axis, ...], found: Fingerprint) -> str:
    """Return why a fingerprint is not what a result was computed from, or ""."""
    if found.side.hash != side.hash:
        return "is of another model than the result"
    if found.images_hash != result.images["hash"]:
        return "is of other images than the result"
    if found.settings.features != result.settings["features"]:
        return "is of other features than the result"
    absent = [axis.module for axis in axes if axis.module not in found.layers.modules]
    return f"has not the layer {absent[0]}" if absent else ""
