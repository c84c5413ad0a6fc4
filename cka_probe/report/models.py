"""The matrix of models and their map at every depth, and training runs among them, as the page's script draws them."""

from typing import Any

import numpy as np

from cka_probe.comparison.atlas import Atlas
from cka_probe.comparison.trajectory import SETTLED
from cka_probe.plotting import labels

MAX_PAIRS = 40_000
"""Pairs of models at all depths together, about 1 MB; of deeper models the page shows some of the depths."""
DIGITS = 4
NAME_WIDTH = 14.0  # em
MAX_NAMED = 24
"""Models up to which each point of a map has its name."""


def depths_of(atlas: Atlas) -> list[int]:
    """Return the depths that a page shows: all, or as many as it has room for, evenly spaced."""
    count = len(atlas.depths)
    shown = max(2, min(count, MAX_PAIRS // len(atlas.results)))
    return sorted({round(depth) for depth in np.linspace(0, count - 1, shown)})


def data_of(atlas: Atlas) -> dict[str, Any]:
    """Return what the script needs: for all layers together and for each depth, the pairs i < j and the points."""
    depths = depths_of(atlas)
    matrices = [(atlas.values, atlas.low, atlas.high), *map(atlas.at_depth, depths)]
    pairs = tuple(zip(*atlas.results, strict=True))
    names = labels.short_names(atlas.names, NAME_WIDTH)
    steps = []
    for number, (name, step) in enumerate(zip(["all layers", *map(atlas.depth_name, depths)], matrices, strict=True)):
        values, low, high = (_numbers(matrix[pairs]) for matrix in step)
        steps.append({"name": name, "values": values, "low": low, "high": high})
        if atlas.embeddings:
            embedding = atlas.embeddings[0 if number == 0 else 1 + depths[number - 1]]
            steps[-1] |= {"points": _numbers(embedding.points), "ellipses": _numbers(embedding.ellipses())}
            steps[-1]["explained"] = _numbers(np.array(embedding.explained))
    return {
        "names": atlas.names,
        "labels": names if len(names) <= MAX_NAMED else list(map(str, range(len(names)))),
        "range": atlas.first.settings.get("range") or (0.0, 1.0),
        "runs": [{"name": run.name, "models": run.models, "steps": run.steps} for run in atlas.runs],
        "settled": SETTLED,
        "steps": steps,
    }


def _numbers(values: np.ndarray) -> Any:
    """Return rounded numbers as JSON types, None where they are not finite."""
    if values.ndim:
        return list(map(_numbers, values))
    return round(float(values), DIGITS) if np.isfinite(values) else None
