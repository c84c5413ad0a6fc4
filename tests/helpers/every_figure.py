"""Every figure of the package: of something usual, and of what is hard to draw."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
from helpers.figures_of_images import FIGURES as OF_IMAGES
from helpers.figures_of_images import STRAINED as STRAINED_IMAGES
from helpers.figures_of_lines import FIGURES as OF_LINES
from helpers.figures_of_lines import STRAINED as STRAINED_LINES
from helpers.matrices import LONG, LONG_FILE, MANY, NINE, TEN, made
from helpers.semantic_study import NAMES

from cka_probe.comparison.advice import Advice
from cka_probe.comparison.atlas import Atlas
from cka_probe.comparison.correspondence import BEST_MATCH, DIAGONAL
from cka_probe.comparison.results import PAIRED, DifferenceMatrix, SimilarityMatrix
from cka_probe.plotting import Figure, Heatmap, Profile, Uncertainty
from cka_probe.plotting.advice import HalfWidths
from cka_probe.plotting.arm_maps import ArmMaps
from cka_probe.plotting.atlas import CheckpointCurves, ModelMap, ModelPoints, ModelTree
from cka_probe.plotting.heatmap import Difference
from cka_probe.plotting.layer_grid import LayerGrid
from cka_probe.similarity.embedding import embed

LONG_NAME = "pre-trained on a very large and rather heterogeneous collection of unlabelled street scenes"
RESULTS = {
    "undefined": made(NINE, NINE, undefined=(2, 8)),
    "nothing defined": made(NINE, NINE, undefined=range(9)),
    "one layer": made(["fc"], ["fc"]),
    "many layers": made(MANY, MANY, undefined=(7,)),
    "long names": made(LONG, LONG, x=f"first/{LONG_FILE}", y=f"second/{LONG_FILE}"),
}
RECTANGLES = {"rectangle": made(NINE, TEN), "strip": made(NINE, MANY), "column": made(MANY, TEN, undefined=(7,))}
WITH_INTERVALS = {what: result for what, result in (RESULTS | RECTANGLES).items() if what != "nothing defined"}


def less(result: SimilarityMatrix, share: float = 0.3) -> DifferenceMatrix:
    """The difference of a result and one that is lower, some of its cells significant."""
    values = 0.2 * np.cos(np.arange(result.values.size)).reshape(result.values.shape) + result.values - 0.6
    significant = np.random.default_rng(0).random(values.shape) < share
    return DifferenceMatrix(
        values, values - 0.1, values + 0.1, np.full(values.shape, 0.01), significant & np.isfinite(values),
        result.rows, result.columns, 64, "depth from video", "no pre-training", PAIRED,
        {"measure": "cka", "estimator": "unbiased", "level": 0.05, "correction": "holm"},
    )  # fmt: skip


def maps(count: int, layers: int = 9, whens: tuple[str, ...] = ("before", "after", "self")) -> ArmMaps:
    """Similarities of all pairs of some arms, before and after fine-tuning and each with itself."""
    arms = {f"arm{i}": f"depth from something {i}" for i in range(count)}
    pairs = [(x, y, when) for x, y in combinations(arms, 2) for when in whens if when != "self"]
    pairs += [(x, x, "self") for x in arms if "self" in whens]
    rows = [
        {"x": x, "y": y, "when": when, "index": i, "layer": NAMES[i], "value": (len(x + y) + i + j) % 10 / 10}
        for j, (x, y, when) in enumerate(pairs)
        for i in range(layers)
    ]
    return ArmMaps(pd.DataFrame(rows), arms)


def with_gaps(figure: ArmMaps) -> ArmMaps:
    """The same, some pairs not compared and some without a value."""
    table = figure.table.iloc[len(figure.arms) * 9 :]
    return ArmMaps(table.assign(value=table["value"].where(table["index"] != 4)), figure.arms)


def atlas(count: int, layers: list[str] = NINE, *, undefined: tuple[int, ...] = (), name: str = "step_{:06d}") -> Atlas:
    """Some models of the same layers, each two less similar the further they are apart."""
    pairs = list(combinations(range(count), 2))
    results = {(i, j): made(layers, layers, undefined=undefined, shift=0.05 * (j - i)) for i, j in pairs}
    values = np.full((count, count), np.nan)
    for i, j in pairs:
        values[i, j] = values[j, i] = 0.9 - 0.05 * (j - i)
    names = tuple(name.format(1000 * index) for index in range(count))
    side = results[0, 1].x
    deviations = 0.01 * np.random.default_rng(0).standard_normal((50, count, count))
    embeddings = (embed(values, deviations + deviations.swapaxes(1, 2)),) * (1 + len(layers))
    matrices = (values, values, values, embeddings)
    return Atlas(names, (side,) * count, DIAGONAL, (tuple(layers),) * count, *matrices, results)


def unlike(of: Atlas) -> Atlas:
    """The same by best matches, the last model with no layer that is defined."""
    values = np.array(of.values)
    values[-1], values[:, -1] = np.nan, np.nan
    return replace(of, rule=BEST_MATCH, values=values)


ADVICE = Advice(
    ("a.pth", "b.pth"), 64, (64, 128, 256, 512), (0.11, 0.08, 0.055, 0.04), (0.2, 0.15, 0.1, 0.07), ("fc", "fc"),
    (0.001, 0.004), (0.1, 0.3),
)  # fmt: skip
TITLES = ("MP", "MP+GP", "MP+GP+SP")
GRID = [made(NINE, NINE), made(NINE, NINE, undefined=(2, 3, 8)), made(NINE, NINE, shift=0.6)]

FIGURES: Mapping[str, Figure] = {
    "heatmap": Heatmap(made(NINE, NINE)),
    "profile": Profile(made(NINE, NINE)),
    "uncertainty": Uncertainty(made(NINE, NINE)),
    "difference": Difference(less(made(NINE, NINE))),
    "layer_grid": LayerGrid(GRID, TITLES, "row", rms=True),
    "arm_maps": maps(4),
    "models": ModelMap(atlas(5)),
    "tree": ModelTree(atlas(6)),
    "map": ModelPoints(atlas(6)),
    "half_widths": HalfWidths(ADVICE),
    "curves_of_layers": CheckpointCurves(atlas(6)),
    **OF_LINES,
    **OF_IMAGES,
}
"""By name."""

STRAINED: Mapping[str, Mapping[str, Figure]] = {
    "heatmap": {what: Heatmap(result) for what, result in (RESULTS | RECTANGLES).items()},
    "profile": {what: Profile(result) for what, result in RESULTS.items()},
    "uncertainty": {what: Uncertainty(result) for what, result in WITH_INTERVALS.items()},
    "difference": {what: Difference(less(result)) for what, result in (RESULTS | RECTANGLES).items()}
    | {
        "none differs": Difference(less(made(NINE, NINE), share=0.0)),
        "names as wide as the map": Difference(
            replace(less(made(NINE, NINE)), first="masked against masked_depth", second="shape against shape_dep")
        ),
    },
    "layer_grid": {"rectangles": LayerGrid([made(NINE, TEN), made(TEN, NINE), GRID[0]], emphasis="row", rms=True)},
    "models": {
        "two": ModelMap(atlas(2)),
        "many, by best matches": ModelMap(unlike(atlas(20, name="runs/of a very long name/step_{:06d}"))),
    },
    "tree": {"two": ModelTree(atlas(2)), "many": ModelTree(atlas(30, name="runs/of a very long name/step_{:06d}"))},
    "map": {"three": ModelPoints(atlas(3)), "many": ModelPoints(atlas(30, name="runs/of a long name/step_{:06d}"))},
    "curves_of_layers": {
        "three": CheckpointCurves(atlas(3, undefined=(2, 8))),
        "many of many layers": CheckpointCurves(atlas(30, MANY, name="runs/of a very long name/step_{:06d}")),
        "nothing defined": CheckpointCurves(atlas(3, undefined=tuple(range(9)))),
    },
    "arm_maps": {
        "twelve arms": maps(12),
        "with gaps": with_gaps(maps(5)),
        "long names": ArmMaps(maps(3).table, {f"arm{k}": f"{k} {LONG_NAME}" for k in range(3)}),
        "one layer of two": maps(2, 1),
    },
    **STRAINED_LINES,
    **STRAINED_IMAGES,
}
"""What is hard to draw, by name and by what is hard in it."""
