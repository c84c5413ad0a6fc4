"""Checkpoints of training runs among several models: their steps, their layers over time, and when each layer settled.

A run is recognised by the names of its checkpoints, which differ in nothing but a number after the word step, epoch,
iteration, checkpoint or their short forms: `a/step_100`, `a/step_200`. Everything else is no run: models that differ in
a seed have no order.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from cka_probe.comparison.atlas import Atlas

STEP = re.compile(r"(.*?(?:step|epoch|iteration|iter|checkpoint|ckpt|snapshot)s?[-_ =.]?)(\d+)(.*)", re.IGNORECASE)
SETTLED = 0.9
"""Similarity to the last checkpoint of the run from which on a layer counts as settled."""


@dataclass(frozen=True)
class Run:
    """Checkpoints of one run, in the order of their steps.

    Attributes:
        name: What the names of its checkpoints have in common.
        models: Index of each checkpoint among the models.
        steps: Step, epoch or iteration of each, ascending.
    """

    name: str
    models: tuple[int, ...]
    steps: tuple[int, ...]


def runs_of(names: Sequence[str]) -> tuple[Run, ...]:
    """Return the runs of at least three checkpoints among some models.

    >>> runs_of(["b/step_20", "b/step_3", "resnet50", "b/step_100"])
    (Run(name='b/step', models=(1, 0, 3), steps=(3, 20, 100)),)
    """
    members: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for index, name in enumerate(names):
        if match := STEP.fullmatch(name):
            members.setdefault((match[1], match[3]), []).append((int(match[2]), index))
    runs = []
    for (start, end), checkpoints in members.items():
        steps, models = zip(*sorted(checkpoints), strict=True)
        if len(set(steps)) == len(steps) >= 3:
            runs.append(Run(start.rstrip("-_ =.") + end, models, steps))
    return tuple(runs)


def curves_of(atlas: "Atlas") -> pd.DataFrame:
    """Return one row per model and layer: its similarity to the same layer in the first, previous and last model.

    Columns: index, model, step (of a run; otherwise empty), layer_index, layer, and value, low and high of `first_…`,
    `previous_…` and `last_…`. Only rows of the second and later models; empty where the models do not have the same
    layers.
    """
    rows, count = [], len(atlas.names)
    steps = dict(zip(atlas.run.models, atlas.run.steps, strict=True)) if atlas.run else {}
    for number in range(1, count) if atlas.aligned else ():
        pairs = {"first": (0, number), "previous": (number - 1, number), "last": (number, count - 1)}
        for layer, axis in enumerate(atlas.first.rows):
            row: dict[str, Any] = {"index": number, "model": atlas.names[number], "step": steps.get(number)}
            row |= {"layer_index": layer, "layer": axis.name}
            for name, pair in pairs.items():
                for part, value in _cell(atlas, pair, layer).items():
                    row[f"{name}_{part}"] = value
            rows.append(row)
    return pd.DataFrame(rows)


def settling_of(atlas: "Atlas") -> pd.DataFrame:
    """Return when each layer of each run settled.

    A layer has settled at the first checkpoint from which on its similarity to its state at the last checkpoint stays
    at least `SETTLED`. The last checkpoint itself does not count: a layer that settled no earlier has no step.

    Columns: run, layer_index, layer, step, and value, low and high of the similarity to the last checkpoint at that
    step. Empty without runs, or where the models do not have the same layers.
    """
    rows = []
    for run in atlas.runs if atlas.aligned else ():
        for layer, axis in enumerate(atlas.first.rows):
            cells = [_cell(atlas, (model, run.models[-1]), layer) for model in run.models[:-1]]
            below = [index for index, cell in enumerate(cells) if not cell["value"] >= SETTLED]
            start = below[-1] + 1 if below else 0
            cell = {"step": run.steps[start], **cells[start]} if start < len(cells) else {}
            rows.append({"run": run.name, "layer_index": layer, "layer": axis.name} | cell)
    columns = ["run", "layer_index", "layer", "step", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype({"step": "Int64"})


def _cell(atlas: "Atlas", pair: tuple[int, int], layer: int) -> Mapping[str, float]:
    """Return value, low and high of a layer with the layer of the same name in another model, NaN with itself."""
    if pair[0] == pair[1]:
        return dict.fromkeys(("value", "low", "high"), np.nan)
    result = atlas.result(*pair)
    return {
        name: float(matrix[layer, layer])
        for name, matrix in (("value", result.values), ("low", result.low), ("high", result.high))
    }
