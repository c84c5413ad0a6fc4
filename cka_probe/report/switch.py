"""The same comparison by other measures, from the fingerprints that lie beside a result.

What was computed stands first and is never computed again. Fingerprints of another model, of other pictures or without
one of the layers are left out, and the page says so. What is computed here is chosen by the size of the work and not by
a clock, so that the same folder gives the same page.
"""

from collections.abc import Iterator
from pathlib import Path

from cka_probe.compare import compare_fingerprints
from cka_probe.errors import FingerprintError
from cka_probe.fingerprint import Fingerprint
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.results import Axis, Side, SimilarityMatrix
from cka_probe.similarity import ESTIMATORS

PERMUTATIONS = 50
"""Of the null of what is computed for the page alone."""
MOST_CELLS = 400
"""Cells of a matrix that is computed for the page alone."""
SIDES = ("x", "y")


def switch(folder: Path, result: SimilarityMatrix) -> tuple[dict[str, SimilarityMatrix], tuple[str, ...]]:
    """Return a result as it was computed and by other measures, by what the page's switch calls them.

    Args:
        folder: Where `x.fingerprint` and `y.fingerprint` may lie.
        result: What was computed.

    Returns:
        The matrices, and sentences: what is not there and why, what was computed otherwise.
    """
    results = {title(result): result}
    paths = [folder / f"{side}.fingerprint" for side in SIDES]
    if missing := [f"`{path.name}`" for path in paths if not path.is_file()]:
        return results, (f"Not beside the result: {' and '.join(missing)}. Only what was computed is shown.",)
    if result.values.size > MOST_CELLS:
        said = f"{result.values.size} cells are many: other measures are computed for a page up to {MOST_CELLS} only."
        return results, (said,)
    prints = [Fingerprint.load(path) for path in paths]
    for name, side, axes, found in zip(SIDES, (result.x, result.y), (result.rows, result.columns), prints, strict=True):
        if misfit := _misfit(result, side, axes, found):
            return results, (f"`{name}.fingerprint` {misfit}: only what was computed is shown.",)
    maps = [LayerMap(tuple(Layer(axis.name, axis.module) for axis in axes)) for axes in (result.rows, result.columns)]
    x, y = (found.subset(layers) for found, layers in zip(prints, maps, strict=True))
    for how in _others(result):
        try:
            other = compare_fingerprints(x, y, permutations=PERMUTATIONS, **how)
        except FingerprintError as error:
            return results, (f"Other measures cannot be computed: {error}.",)
        results[title(other)] = other
    said = (
        f"All but {title(result)} were computed for this page from the fingerprints, with {PERMUTATIONS} permutations."
    )
    return results, (said,)


def title(result: SimilarityMatrix) -> str:
    """Return what a switch calls a result: its measure, and the estimator of CKA.

    The title that a result brings is used; older ones are of CKA alone.
    """
    settings = result.settings
    measure = settings.get("measure", "cka")
    name = "CKA" if measure == "cka" else settings.get("title", measure)
    return f"{name}, {settings['estimator']}" if settings.get("estimator") else str(name)


def _others(result: SimilarityMatrix) -> Iterator[dict[str, str]]:
    """Yield the arguments of every other way to compare the same fingerprints."""
    measured = result.settings.get("measure", "cka"), result.settings.get("estimator")
    for estimator in ESTIMATORS:
        if measured != ("cka", estimator):
            yield {"estimator": estimator}


def _misfit(result: SimilarityMatrix, side: Side, axes: tuple[Axis, ...], found: Fingerprint) -> str:
    """Return why a fingerprint is not what a result was computed from, or ""."""
    if found.side.hash != side.hash:
        return "is of another model than the result"
    if found.pictures_hash != result.pictures["hash"]:
        return "is of other pictures than the result"
    if found.settings.features != result.settings["features"]:
        return "is of other features than the result"
    absent = [axis.module for axis in axes if axis.module not in found.layers.modules]
    return f"has not the layer {absent[0]}" if absent else ""
