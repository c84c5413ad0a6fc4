"""Every figure of the package, how it is written, and what it is drawn of: something usual and what strains it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from test_contact_sheet import sheet, shots
from test_figure_arms import maps
from test_figure_claims import ROWS, Row
from test_figure_curves import SEEDS, STEPS, log, validation
from test_figure_depth_panel import row as depth_row
from test_figure_label_panel import panel as label_rows
from test_figure_label_panel import row as label_row
from test_figure_layer_grid import CASES as GRIDS
from test_figure_measures import arm, points
from test_figure_score_panels import table
from test_figures import LONG, LONG_FILE, MANY, NINE, made

from cka_probe.comparison.results import PAIRED, DifferenceMatrix, SimilarityMatrix
from cka_probe.plotting import FIGURES, SIZES, axes_in, figures_for, save_figure
from cka_probe.plotting.arm_maps import ArmMaps, arm_maps, arm_maps_size, save_arm_maps
from cka_probe.plotting.cam_panel import CamColumn, CamPanel, cam_panel, cam_panel_size, save_cam_panel
from cka_probe.plotting.claims import claims, claims_size, save_claims
from cka_probe.plotting.contact_sheet import contact_sheet, contact_sheet_size, save_contact_sheet
from cka_probe.plotting.curves import Curves, curves, curves_size, save_curves
from cka_probe.plotting.depth_panel import DepthPanel, depth_panel, depth_panel_size, save_depth_panel
from cka_probe.plotting.difference import difference, difference_size, save_difference
from cka_probe.plotting.label_panel import label_panel, label_panel_size, save_label_panel
from cka_probe.plotting.layer_divergence import Pair, parting, parting_size, save_parting
from cka_probe.plotting.layer_grid import layer_grid, layer_grid_size, save_layer_grid
from cka_probe.plotting.pen import filling
from cka_probe.plotting.runs import Run
from cka_probe.plotting.scatter import Point, Scatter, save_scatter, scatter, scatter_size
from cka_probe.plotting.score_panels import save_score_panels, score_panels, score_panels_size
from cka_probe.plotting.size_curve import SizeCurve, SizedArm, save_size_curve, size_curve, size_curve_size

NAN = float("nan")
LONG_NAME = "pre-trained on a very large and rather heterogeneous collection of unlabelled street scenes"
TWELVE = [f"arm {number} of an experiment" for number in range(12)]


@dataclass(frozen=True)
class Drawable:
    """A figure.

    Attributes:
        draw: `f(thing, ax) -> ax`.
        size: `f(thing) -> (width, height)` in inches.
        save: `f(thing, paths, **look) -> paths`.
        usual: A thing as studies have them.
        strained: Things that are hard to draw, by what is hard in them.
        axes: Makes the axes that `save` draws on.
    """

    draw: Callable
    size: Callable
    save: Callable
    usual: Any
    strained: Mapping[str, Any]
    axes: Callable[[Figure], Any] = filling


def of_result(name: str) -> Drawable:
    strained = {
        "undefined": made(NINE, NINE, undefined=(2, 8)),
        "nothing defined": made(NINE, NINE, undefined=range(9)),
        "one layer": made(["fc"], ["fc"]),
        "many layers": made(MANY, MANY, undefined=(7,)),
        "long names": made(LONG, LONG, x=f"first/{LONG_FILE}", y=f"second/{LONG_FILE}"),
    }
    strained = {what: result for what, result in strained.items() if name in figures_for(result)}  # others it refuses
    save = partial(lambda result, paths, name, **look: save_figure(result, name, paths, **look), name=name)
    return Drawable(FIGURES[name], SIZES[name], save, made(NINE, NINE), strained, partial(axes_in, name=name))


def less(result: SimilarityMatrix, shift: float = 0.2, share: float = 0.3) -> DifferenceMatrix:
    """The difference of a result and one that is lower, some of its cells significant."""
    values = 0.2 * np.cos(np.arange(result.values.size)).reshape(result.values.shape) + result.values - shift - 0.4
    significant = np.random.default_rng(0).random(values.shape) < share
    return DifferenceMatrix(
        values, values - 0.1, values + 0.1, np.full(values.shape, 0.01), significant & np.isfinite(values),
        result.rows, result.columns, 64, "depth from video", "no pre-training", PAIRED,
        {"measure": "cka", "estimator": "unbiased", "level": 0.05, "correction": "holm"},
    )  # fmt: skip


def all_equal(drawn: ArmMaps) -> ArmMaps:
    return ArmMaps(drawn.table.assign(value=0.5), drawn.arms)


def with_gaps(drawn: ArmMaps) -> ArmMaps:
    """Some pairs were not compared and some have no value."""
    kept = drawn.table.iloc[len(drawn.arms) * 9 :]
    return ArmMaps(kept.assign(value=kept["value"].where(kept["index"] != 4)), drawn.arms)


def cams(count: int, networks: tuple[str, ...] = ("MP", "depth from video"), level: float | None = None) -> CamPanel:
    random = np.random.default_rng(count)

    def some(*shape: int) -> np.ndarray:
        return random.random(shape) if level is None else np.full(shape, level)

    found = [
        CamColumn(
            f"a/long/name/of/a/street/aachen_{number:06d}_000019.png",
            random.integers(0, 256, (12, 16, 3), dtype=np.uint8),
            {name: some(3, 4) for name in networks},
            random.integers(0, 3, (12, 16)),
            {name: random.integers(0, 3, (12, 16)) for name in networks},
        )
        for number in range(count)
    ]
    return CamPanel(found, "labels", ("road", "sky", "car"), np.array([(128, 64, 128), (70, 130, 180), (0, 0, 142)]))


def scores(arms: list[str], value: float | None = None) -> pd.DataFrame:
    found = table(arms=tuple(arms))
    return found if value is None else found.assign(value=value, low=value, high=value)


def pairs(names: list[str], **options: Any) -> list[Pair]:
    before, after = made(NINE, NINE, **options), made(NINE, NINE, shift=0.2, **options)
    return [Pair(name, {"before fine-tuning": before, "after fine-tuning": after}) for name in names]


def claim(name: str, statement: str, value: float, width: float = 0.1) -> Row:
    return Row(name, statement, "points", value, value - width, value + width, "undecided")


ARM_RUNS = [Run(name, log(k, ("loss", "accuracy")), validation(k, "accuracy")) for k, name in enumerate(TWELVE)]
TRIALS = [
    Run(name, log(k + 9 * t, ("loss", "accuracy", "gradient")), validation(k + 9 * t, "accuracy", "miou_subset"))
    for k, name in enumerate(("no pre-training", "procedural object classification", "depth from video"))
    for t in range(4)
]
EQUAL_LOG = pd.DataFrame({"step": STEPS, "lr": 1e-4, "loss": 0.5, "accuracy": 1.0})

DRAWABLE: dict[str, Drawable] = {name: of_result(name) for name in FIGURES} | {
    "difference": Drawable(difference, difference_size, save_difference, less(made(NINE, NINE)), {
        "undefined": less(made(NINE, NINE, undefined=(2, 8))), "one layer": less(made(["fc"], ["fc"])),
        "many layers": less(made(MANY, MANY)), "none differs": less(made(NINE, NINE), share=0.0),
        "long names": less(made(LONG, LONG)), "nothing defined": less(made(NINE, NINE, undefined=range(9))),
    }, Figure.add_subplot),
    "layer_grid": Drawable(layer_grid, layer_grid_size, save_layer_grid, GRIDS["row"], {
        "nothing defined": GRIDS["nothing defined"], "rectangles": GRIDS["rectangles"],
        "long titles": GRIDS["long titles"],
    }),
    "arm_maps": Drawable(arm_maps, arm_maps_size, save_arm_maps, maps(4), {
        "twelve arms": maps(12), "with gaps": with_gaps(maps(5)), "all equal": all_equal(maps(3)),
        "long names": ArmMaps(maps(3).table, {f"arm{k}": f"{k} {LONG_NAME}" for k in range(3)}),
        "one layer of two": maps(2, 1),
    }),
    "claims": Drawable(claims, claims_size, save_claims, ROWS, {
        "one": [claim("a", "Depth > none", 0.1)], "all 0": [claim(str(k), "Nothing", 0.0, 0.0) for k in range(3)],
        "long words": [claim("a", LONG_NAME * 3, 1e6, 2e7), claim("b", "x" * 300, 1e-9, 1e-10)],
    }),
    "curves": Drawable(curves, curves_size, save_curves, Curves(TRIALS, "fine-tuning"), {
        "one arm": Curves([Run("a", log(0))]), "twelve arms": Curves(ARM_RUNS), "seeds": Curves(SEEDS, "geometric"),
        "long names": Curves([Run(LONG_NAME + str(k), log(k)) for k in range(3)], LONG_NAME * 2),
        "all equal": Curves([Run("a", EQUAL_LOG), Run("a", EQUAL_LOG)]),
        "not a number": Curves([Run("a", log(0).assign(loss=np.nan)), Run("b", log(1))]),
        "an empty log": Curves([Run("a", log(0)[:0]), Run("b", log(1))]),
        "large and small": Curves([Run("a", log(0).assign(loss=1e9, smoothness=1e-13 * STEPS, photometric=-1e7))]),
    }),
    "parting": Drawable(parting, parting_size, save_parting, pairs(["video and none", "video and stereo", "a and b"]), {
        "one": pairs(["a and b"]), "undefined": pairs(["a and b"], undefined=(2, 8)),
        "nothing defined": pairs(["a and b"], undefined=range(9)),
        "long names": [Pair(LONG_NAME, {"before": made(LONG, LONG)})], "many layers":
        [Pair("a and b", {"before": made(MANY, MANY)})], "one layer": [Pair("a", {"b": made(["fc"], ["fc"])})],
    }),
    "scatter": Drawable(scatter, scatter_size, save_scatter, Scatter(points(TWELVE), "pixel accuracy", "mIoU", "t"), {
        "one": Scatter(points(["a"]), "a", "b"), "trials": Scatter(points(TWELVE[:4], 4), "a", "b"),
        "all equal": Scatter([Point(name, 0.5, 0.5) for name in TWELVE], "a", "b"),
        "not a number": Scatter([*points(["a"]), Point("b", NAN, 0.5)], "a", "b"),
        "long names": Scatter(points([f"{k} {LONG_NAME}" for k in range(3)]), LONG_NAME, LONG_NAME, LONG_NAME),
        "large": Scatter([Point("a", 1e9, -1e-9), Point("b", 1.0001e9, 1e-9)], "a", "b"),
    }),
    "score_panels": Drawable(score_panels, score_panels_size, save_score_panels, table(), {
        "one arm": scores(["a"]), "twelve arms": scores(TWELVE), "long names": scores([LONG_NAME, LONG_NAME + " 2"]),
        "all equal": scores(["a", "b"], 0.5), "not a number": scores(["a", "b"], NAN),
        "large": scores(["a", "b"], 123456789.0), "long measure": table((LONG_NAME,), ("a",)),
    }),
    "size_curve": Drawable(size_curve, size_curve_size, save_size_curve,
                           SizeCurve([arm(name, [4, 16, 64], k) for k, name in enumerate(TWELVE[:3])], "mIoU"), {
        "one number": SizeCurve([arm("a", [16])], "mIoU"), "long names": SizeCurve([arm(LONG_NAME, [1, 9])], LONG_NAME),
        "twelve arms": SizeCurve([arm(name, [4, 16, 64, 10**6], k) for k, name in enumerate(TWELVE)], "mIoU", "Sizes"),
        "an arm without": SizeCurve([arm("a", [4, 16]), SizedArm("b", [4, 16], [NAN] * 2, [NAN] * 2, [NAN] * 2)], "b"),
        "all equal": SizeCurve([SizedArm("a", [4, 16], [0.5] * 2, [0.5] * 2, [0.5] * 2)], "mIoU"),
    }),
    "depth_panel": Drawable(depth_panel, depth_panel_size, save_depth_panel,
                            DepthPanel([depth_row(0), depth_row(1)], ("depth", "error", "edges")), {
        "one": DepthPanel([depth_row(0, ("MP",))]), "nothing measured": DepthPanel([depth_row(0, share=0.0)]),
        "eight models": DepthPanel([depth_row(0, tuple(TWELVE[:8]))], ("depth",)),
        "long names": DepthPanel([depth_row(0, (LONG_NAME, LONG_NAME[::-1], "x" * 99))]),
    }),
    "label_panel": Drawable(label_panel, label_panel_size, save_label_panel, label_rows([label_row(0), label_row(1)]), {
        "one": label_rows([label_row(0, ("MP",))], ("labels",)),
        "eight models": label_rows([label_row(0, tuple(TWELVE[:8]), classes=19)]),
        "long names": label_rows([label_row(0, (LONG_NAME, LONG_NAME[::-1], "x" * 99))]),
        "no labels": label_rows([label_row(0, ignored=2.0)]),
    }),
    "cam_panel": Drawable(cam_panel, cam_panel_size, save_cam_panel, cams(3), {
        "one": cams(1, ("MP",)), "many": cams(6, tuple(TWELVE[:6])), "all equal": cams(2, level=0.0),
        "long names": cams(2, (LONG_NAME, LONG_NAME[::-1])),
    }),
    "contact_sheet": Drawable(contact_sheet, contact_sheet_size, save_contact_sheet, sheet(shots(3)), {
        "one image": sheet(shots(1, "image"), title=LONG_NAME * 4), "many": sheet(shots(40, "image", "category")),
        "wide": sheet(shots(2, "image", "depth", "normals", "flow", "edges", width=64)),
        "tall": sheet(shots(2, "image", "depth", height=48)),
    }),
}  # fmt: skip
"""By name."""
