"""Figures of lines and of points: of something usual, and of what is hard to draw."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from helpers.matrices import LONG, MANY, NINE, made

from cka_probe.plotting import Figure
from cka_probe.plotting.claims import COLUMNS, Claims
from cka_probe.plotting.curves import Curves
from cka_probe.plotting.profile import LayerDivergence, Pair
from cka_probe.plotting.runs import Run
from cka_probe.plotting.scores import POINT, Scatter, ScorePanels, SizeCurve, Trajectories

NAN = float("nan")
LONG_NAME = "pre-trained on a very large and rather heterogeneous collection of unlabelled street scenes"
TWELVE = [f"arm {number} of an experiment" for number in range(12)]

STEPS = np.array([1, *range(10, 301, 10)])
PARTS = ("loss", "photometric", "geometry_consistency", "smoothness", "gradient")


def log(seed: int, parts: Sequence[str] = PARTS, scale: float = 1.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    columns = {name: scale * (number + 1) * random.uniform(0.1, 2, len(STEPS)) for number, name in enumerate(parts)}
    return pd.DataFrame({"step": STEPS, "lr": 1e-4 * np.linspace(1, 0.1, len(STEPS)), **columns})


def validation(seed: int, *measures: str) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame({"step": [100, 200, 300], **{name: random.uniform(0.2, 0.6, 3) for name in measures}})


SEEDS = [Run("full", log(seed), validation(seed, "abs_rel", "rmse")) for seed in range(3)]
OTHER = Run("no normals", log(7, scale=3.0), validation(7, "abs_rel", "rmse"))
ARM_RUNS = [Run(name, log(k, ("loss", "accuracy")), validation(k, "accuracy")) for k, name in enumerate(TWELVE)]
TRIALS = [
    Run(name, log(k + 9 * t, ("loss", "accuracy", "gradient")), validation(k + 9 * t, "accuracy", "miou_subset"))
    for k, name in enumerate(("no pre-training", "procedural object classification", "depth from video"))
    for t in range(4)
]
EQUAL_LOG = pd.DataFrame({"step": STEPS, "lr": 1e-4, "loss": 0.5, "accuracy": 1.0})
CURVES = {
    "one arm": Curves([Run("a", log(0))]),
    "twelve arms": Curves(ARM_RUNS),
    "arms and seeds": Curves([*SEEDS, OTHER], "geometric"),
    "long names": Curves([Run(LONG_NAME + str(k), log(k)) for k in range(3)], LONG_NAME * 2),
    "all equal": Curves([Run("a", EQUAL_LOG), Run("a", EQUAL_LOG)]),
    "not a number": Curves([Run("a", log(0).assign(loss=NAN)), Run("b", log(1))]),
    "no number": Curves([Run("a", log(0).assign(loss=NAN))]),
    "an empty log": Curves([Run("a", log(0)[:0]), Run("b", log(1))]),
    "large and small": Curves([Run("a", log(0).assign(loss=1e9, smoothness=1e-13 * STEPS, photometric=-1e7))]),
    "zero": Curves([Run("a", log(0).assign(smoothness=0.0))]),
    "one panel": Curves([Run("a", log(0, ("loss",)).drop(columns="lr"))], "masked"),
    "same measure": Curves([Run("a", log(0, ("loss", "abs_rel")), validation(0, "abs_rel", "rmse"))]),
    "one step": Curves([Run("a", log(0)[:1])]),
}


def points(arms: Sequence[str], num: int = 1, *, intervals: bool = True) -> pd.DataFrame:
    random = np.random.default_rng(len(arms) + num)
    rows: list[tuple[Any, ...]] = []
    for arm in arms:
        for x, y in zip(random.uniform(0.8, 0.9, num), random.uniform(0.5, 0.7, num), strict=True):
            ends = (x - 0.01, x + 0.02, y - 0.03, y + 0.02) if intervals else (NAN,) * 4
            rows.append((arm, x, *ends[:2], y, *ends[2:]))
    return pd.DataFrame(rows, columns=list(POINT))


def point(arm: str, x: float, y: float) -> pd.DataFrame:
    return pd.DataFrame([(arm, x, NAN, NAN, y, NAN, NAN)], columns=list(POINT))


SCATTERS = {
    "one": Scatter(points(["a"]), "a", "b"),
    "trials": Scatter(points(TWELVE[:4], 4), "a", "b"),
    "all equal": Scatter(pd.concat([point(name, 0.5, 0.5) for name in TWELVE]), "a", "b"),
    "not a number": Scatter(pd.concat([points(["a"]), point("b", NAN, 0.5)]), "a", "b"),
    "long names": Scatter(points([f"{k} {LONG_NAME}" for k in range(3)]), LONG_NAME, LONG_NAME, LONG_NAME),
    "large": Scatter(pd.concat([point("a", 1e9, -1e-9), point("b", 1.0001e9, 1e-9)]), "a", "b"),
    "without intervals": Scatter(points(TWELVE[:4], intervals=False), "a", "b"),
}


def trajectories(*arms: str, runs: int = 2, steps: int = 6) -> Trajectories:
    tables = [
        points([arm], steps).assign(arm=arm, run=run)[["arm", "run", "x", "y"]] for arm in arms for run in range(runs)
    ]
    return Trajectories(pd.concat(tables, ignore_index=True), "pixel accuracy", "mIoU")


TRAJECTORIES = {"long names": trajectories(LONG_NAME, "b"), "one step": trajectories("a", runs=1, steps=1)}


def sized(name: str, nums: Sequence[int], seed: int = 0, *, bounded: bool = True, value: float = 0.0) -> pd.DataFrame:
    values = np.full(len(nums), value) if value else np.sort(np.random.default_rng(seed).uniform(0.3, 0.7, len(nums)))
    width = np.full(len(nums), 0.0 if value else 0.03 if bounded else NAN)
    ends = {"low": values - width, "high": values + width}
    return pd.DataFrame({"arm": name, "num": nums, "value": values} | ends)


def size_curve(*arms: pd.DataFrame, up: str = "mIoU", title: str = "") -> SizeCurve:
    return SizeCurve(pd.concat(arms, ignore_index=True), up, title)


SIZE_CURVES = {
    "one number": size_curve(sized("a", [16]), sized("b", [16], 1)),
    "long names": size_curve(sized(LONG_NAME, [1, 9]), up=LONG_NAME),
    "twelve arms": size_curve(*(sized(name, [4, 16, 64, 10**6], k) for k, name in enumerate(TWELVE)), title="Sizes"),
    "an arm without": size_curve(sized("a", [4, 16]), sized("b", [4, 16], value=NAN), up="b"),
    "all equal": size_curve(sized("a", [4, 16], value=0.5)),
    "crowded": size_curve(sized("a", list(range(60, 70)))),
    "without intervals": size_curve(sized("a", [1, 10, 1000], bounded=False)),
    "different numbers": size_curve(sized("a", [4, 64]), sized("b", [16], 1), sized("c", [8, 16, 128], 2)),
}


def scores(
    arms: Sequence[str] = ("MP", "MP+GP", "a rather long name of an arm"),
    measures: Sequence[str] = ("rmse", "delta1", "abs_rel", "pe_orie"),
) -> pd.DataFrame:
    rows = []
    for i, measure in enumerate(measures):
        for j, arm in enumerate(arms):
            value = (i + 1) * (0.3 - 0.02 * j)
            row: dict[str, Any] = {"arm": arm, "measure": measure, "unit": "m" if measure == "rmse" else ""}
            row |= {"better": "higher" if measure == "delta1" else "lower", "state": ""}
            row |= {"value": value, "low": value - 0.01, "high": value + 0.02}
            rows.append(row | {"paper": 0.287 if (measure, arm) == ("rmse", "MP") else NAN})
    return pd.DataFrame(rows)


def all_scores(value: float, state: str = "") -> ScorePanels:
    return ScorePanels(scores(["a", "b"]).assign(value=value, low=value, high=value, paper=NAN, state=state))


NOT_RUN = scores()
NOT_RUN.loc[NOT_RUN["arm"] == "MP+GP", ["value", "low", "high", "state"]] = [NAN, NAN, NAN, "not run"]
SCORES = {
    "not run": ScorePanels(NOT_RUN),
    "one measure": ScorePanels(scores(measures=("rmse",))),
    "one arm": ScorePanels(scores(["a"], ("rmse", "delta1"))),
    "bare": ScorePanels(scores()[["arm", "measure", "value", "low", "high"]]),
    "no cell for some": ScorePanels(scores().drop(index=[1, 5])),
    "twelve arms": ScorePanels(scores(TWELVE)),
    "long names": ScorePanels(scores([LONG_NAME, LONG_NAME + " 2"])),
    "long measure": ScorePanels(scores(["a"], [LONG_NAME])),
    "all equal": all_scores(0.5),
    "not a number": all_scores(NAN, "undefined"),
    "large": all_scores(123456789.0),
}


def pairs(names: Sequence[str], **options: Any) -> LayerDivergence:
    before, after = made(NINE, NINE, **options), made(NINE, NINE, shift=0.2, **options)
    return LayerDivergence([Pair(name, {"before fine-tuning": before, "after fine-tuning": after}) for name in names])


DIVERGENCES = {
    "one": pairs(["a and b"]),
    "undefined": pairs(["a and b"], undefined=(2, 8)),
    "nothing defined": pairs(["a and b"], undefined=range(9)),
    "long names": LayerDivergence([Pair(LONG_NAME, {"before": made(LONG, LONG)})] * 2),
    "many layers": LayerDivergence([Pair("a and b", {"before": made(MANY, MANY)})]),
    "one layer": LayerDivergence([Pair("a", {"b": made(["fc"], ["fc"])})]),
}


def claims(*rows: tuple[Any, ...]) -> Claims:
    return Claims(pd.DataFrame(rows, columns=list(COLUMNS)))


ROWS = [
    ("u", "The top row of MP is a U: its middle layers are least like layer 0", "CKA", 0.2, 0.1, 0.3, "holds", ""),
    ("rmse", "GP lowers rmse", "m", -0.03, -0.05, -0.01, "does not hold", ""),
    ("far", "SP lowers rmse further than GP, which is a long statement " * 3, "m", 0.01, -0.02, 0.04, "undecided", ""),
    ("one", "Edges", "pixels", 12.3, 10.0, 14.6, "undecided", "undecided (one seed of 3; two were not run)"),
    ("gap", "Nothing to compare", "CKA", NAN, NAN, NAN, "undefined", ""),
    ("not", "To be run", "degrees", NAN, NAN, NAN, "not run", ""),
    ("bare", "A number without an interval", "", 0.5, NAN, NAN, "undecided", ""),
    ("zero", "Exactly nothing", "CKA", 0.0, 0.0, 0.0, "undecided", ""),
]
CLAIMS = {
    "one": claims(ROWS[0]),
    "all 0": claims(*3 * ROWS[-1:]),
    "nothing defined": claims(*ROWS[4:6]),
    "long words": claims(
        ("a", LONG_NAME * 3, "points", 1e6, -1.9e7, 2.1e7, "undecided", ""),
        ("b", "x" * 300, "points", 1e-9, 9e-10, 1.1e-9, "does not hold", ""),
    ),
}


FIGURES: Mapping[str, Figure] = {
    "curves": Curves(TRIALS, "fine-tuning"),
    "scatter": Scatter(points(TWELVE), "pixel accuracy", "mIoU, 7 classes", "Two measures of the same predictions"),
    "trajectories": trajectories(*TWELVE[:4]),
    "size_curve": size_curve(*(sized(name, [4, 16, 64], k) for k, name in enumerate(TWELVE[:4])), title="Sizes"),
    "score_panels": ScorePanels(scores()),
    "layer_divergence": pairs(["video and none", "video and stereo", "a and b"]),
    "claims": claims(*ROWS),
}
STRAINED: Mapping[str, Mapping[str, Figure]] = {
    "curves": CURVES,
    "scatter": SCATTERS,
    "trajectories": TRAJECTORIES,
    "size_curve": SIZE_CURVES,
    "score_panels": SCORES,
    "layer_divergence": DIVERGENCES,
    "claims": CLAIMS,
}
