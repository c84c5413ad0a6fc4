"""Why each cell of a comparison has its value, as the page shows it when a cell is clicked.

Computed from the two fingerprints in the result's folder, for CKA, where `explain` of all cells is little work.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cka_probe.comparison.explanation import COMPONENTS, SHOWN, curve_of
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.similarity import ESTIMATORS
from cka_probe.similarity.features import tokens_per_image
from cka_probe.similarity.influence import component_shares, losses

MAX_WORK = 1e9
"""Cells times the cubes of the batch sizes; 81 cells of 512 images in batches of 64 are a fifth of it, about 3 s."""


def reasons_of(prints: Sequence[Fingerprint], result: SimilarityMatrix) -> list[list[dict[str, Any] | None]]:
    """Return what carries each cell, None where it is undefined; empty for another measure and for too much work.

    Args:
        prints: Of x and of y, with the layers of the result.
        result: Their comparison.
    """
    x, y = prints
    work = result.values.size * sum(float(stack.shape[-1]) ** 3 for stack in x.grams)
    if result.settings.get("measure", "cka") != "cka" or work > MAX_WORK:
        return []
    estimator = str(result.settings["estimator"])
    hsic, per_image = ESTIMATORS[estimator], tokens_per_image(x.settings.features)
    influence = losses(x.defined_grams, y.defined_grams, hsic, per_image).numpy()
    reasons: list[list[dict[str, Any] | None]] = [[None] * len(result.columns) for _ in result.rows]
    for row, column in np.argwhere(np.isfinite(result.values)).tolist():
        cell = influence[:, row, column]
        order = np.argsort(-cell, kind="stable").tolist()
        rows, columns = ([stack[[index]] for stack in side.grams] for side, index in ((x, row), (y, column)))
        shares = component_shares([stack[0] for stack in rows], [stack[0] for stack in columns], COMPONENTS).T.tolist()
        reasons[row][column] = {
            "raise": [[image, round(float(cell[image]), 5)] for image in order[:SHOWN]],
            "lower": [[image, round(float(cell[image]), 5)] for image in order[::-1][:SHOWN]],
            "curve": [[count, round(value, 5)] for count, value in curve_of(rows, columns, cell, estimator, per_image)],
            "components": [
                [count, *(round(share, 4) for share in parts)] for count, parts in zip(COMPONENTS, shares, strict=True)
            ],
        }
    return reasons
