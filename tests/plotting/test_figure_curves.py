"""Learning curves are the logs' own numbers, and runs that differ only in their seed are one arm."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.pages import check_page, check_same_bytes, drawn, words
from matplotlib.collections import FillBetweenPolyCollection

from cka_probe.errors import DataError
from cka_probe.plotting.curves import Curves, curves, curves_size, save_curves
from cka_probe.plotting.labels import marks_between
from cka_probe.plotting.runs import Run, read_run, read_runs

STEPS = np.array([1, *range(10, 301, 10)])
PARTS = ("loss", "photometric", "geometry_consistency", "smoothness", "gradient")


def log(seed, parts=PARTS, scale=1.0):
    random = np.random.default_rng(seed)
    columns = {name: scale * (number + 1) * random.uniform(0.1, 2, len(STEPS)) for number, name in enumerate(parts)}
    return pd.DataFrame({"step": STEPS, "lr": 1e-4 * np.linspace(1, 0.1, len(STEPS)), **columns})


def validation(seed, *measures):
    random = np.random.default_rng(seed)
    return pd.DataFrame({"step": [100, 200, 300], **{name: random.uniform(0.2, 0.6, 3) for name in measures}})


SEEDS = [Run("full", log(seed), validation(seed, "abs_rel", "rmse")) for seed in range(3)]
OTHER = [Run("no normals", log(7, scale=3.0), validation(7, "abs_rel", "rmse"))]
WITH_ZERO = Run("a", log(0).assign(smoothness=0.0))
CASES = {
    "arms and seeds": Curves([*SEEDS, *OTHER], "geometric"),
    "one run": Curves([Run("a", log(0))], "masked"),
    "nine arms": Curves([Run(f"an arm of number {k} with a long name", log(k)) for k in range(9)], "geometric"),
    "zero": Curves([WITH_ZERO]),
    "no rate": Curves([Run("a", log(0).drop(columns="lr"))]),
    "same measure": Curves([Run("a", log(0, ("loss", "abs_rel")), validation(0, "abs_rel", "rmse"))]),
    "one step": Curves([Run("a", log(0)[:1])]),
    "not a number": Curves([Run("a", log(0).assign(loss=np.nan))]),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param], drawn(curves, curves_size, CASES[request.param])


@pytest.fixture(scope="module")
def arms():
    return drawn(curves, curves_size, CASES["arms and seeds"])


def lines(panel, *, hollow):
    return [line for line in panel.lines if (line.get_linestyle() == "None") == hollow]


def test_nothing_is_cut_off_too_small_or_over_something_else(case):
    check_page(case[1])


def test_every_column_has_a_panel_and_all_have_the_same_steps(case):
    drawn_curves, ax = case
    logged = {name for run in drawn_curves.runs for name in run.log.columns} - {"step"}
    assert len(ax.child_axes) >= len(logged)
    assert len({panel.get_xlim() for panel in ax.child_axes}) == 1


def test_seeds_are_thin_and_their_median_is_thick(arms):
    for name, panel in zip(PARTS, arms.child_axes, strict=False):
        thin = [line for line in lines(panel, hollow=False) if line.get_linewidth() < 1]
        thick = [line for line in lines(panel, hollow=False) if line.get_linewidth() > 1]
        assert len(thin) == 3
        for line, run in zip(thin, SEEDS, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), run.log[name])
        expected = np.median([run.log[name] for run in SEEDS], axis=0), OTHER[0].log[name]
        for line, median in zip(thick, expected, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), STEPS)
            np.testing.assert_allclose(line.get_ydata(), median)


def test_the_median_is_only_where_all_seeds_are():
    runs = [Run("a", log(0)), Run("a", log(1)[:5])]
    panel = drawn(curves, curves_size, Curves(runs)).child_axes[0]
    (thick,) = [line for line in panel.lines if line.get_linewidth() > 1]
    np.testing.assert_array_equal(thick.get_xdata(), STEPS[:5])


def test_validation_stands_as_points_in_its_own_panel_or_with_the_log_of_its_name(arms):
    panel = arms.child_axes[len(PARTS)]
    points = [line for line in panel.lines if line.get_markerfacecolor() == "white"]
    assert len(points) == 2  # an arm's median each
    expected = np.median([run.validation["abs_rel"] for run in SEEDS], axis=0)
    np.testing.assert_allclose(points[0].get_ydata(), expected)
    together = drawn(curves, curves_size, CASES["same measure"])
    assert len(together.child_axes) == 3  # loss, abs_rel, learning rate: rmse was not asked for
    assert len(lines(together.child_axes[1], hollow=True)) == len(lines(together.child_axes[1], hollow=False)) == 1


def test_a_panel_with_a_zero_is_linear_and_says_so():
    ax = drawn(curves, curves_size, CASES["zero"])
    scales = {panel.get_yscale() for panel in ax.child_axes}
    assert scales == {"log", "linear"}
    assert ax.child_axes[PARTS.index("smoothness")].get_yscale() == "linear"
    assert "smoothness" in words(ax)
    assert "geometry consistency, log scale" in words(ax)


def test_shares_are_linear_and_errors_are_not():
    shares = Run("a", log(0, ("loss", "accuracy", "correct")), validation(0, "accuracy", "delta1", "miou", "abs_rel"))
    ax = drawn(curves, curves_size, Curves([shares], measures=["accuracy", "delta1", "miou", "abs_rel"]))
    scales = dict(zip(("loss", "accuracy", "correct", "delta1", "miou", "abs_rel"), ax.child_axes, strict=False))
    linear = {name for name, panel in scales.items() if panel.get_yscale() == "linear"}
    assert linear == {"accuracy", "correct", "delta1", "miou"}
    assert {"loss, log scale", "accuracy", "share that is right", "delta1", "mIoU"} <= set(words(ax))


def bands(panel):
    return [band for band in panel.collections if isinstance(band, FillBetweenPolyCollection)]


def test_a_band_goes_from_the_lowest_to_the_highest_run(arms):
    logged, validated = arms.child_axes[0], arms.child_axes[len(PARTS)]
    for panel, table, name in ((logged, "log", "loss"), (validated, "validation", "abs_rel")):
        (band,) = bands(panel)  # the other arm has one run, and no band
        values = np.array([getattr(run, table)[name] for run in SEEDS])
        (path,) = band.get_paths()
        x = path.vertices[:, 0]
        for step, low, high in zip(getattr(SEEDS[0], table)["step"], values.min(0), values.max(0), strict=True):
            y = path.vertices[x == step, 1]
            np.testing.assert_allclose([y.min(), y.max()], [low, high])


def test_a_run_that_diverged_ends_its_arm():
    broken = log(1).assign(loss=np.where(STEPS > 100, np.nan, 1.0))
    panel = drawn(curves, curves_size, Curves([Run("a", log(0)), Run("a", broken)])).child_axes[0]
    (thick,) = [line for line in panel.lines if line.get_linewidth() > 1]
    assert np.isfinite(thick.get_ydata()).tolist() == (STEPS <= 100).tolist()


def test_arms_differ_by_colour_and_marker():
    ax = drawn(curves, curves_size, CASES["nine arms"])
    looks = {(line.get_color(), line.get_marker()) for line in ax.child_axes[0].lines}
    assert len(looks) == 9
    said = words(drawn(curves, curves_size, CASES["arms and seeds"]))
    assert {"full, 3 seeds", "no normals", "validation", "geometric", "learning rate, log scale", "step"} <= set(said)


@pytest.mark.parametrize("span", [(1e-7, 1e-3), (0.02, 30), (0.15, 2.8), (0.1, 0.7), (0.52, 0.61), (3.0, 3.3)])
def test_marks_of_an_axis_are_few_and_inside(span):
    marks = marks_between(*span)
    assert 2 <= len(marks) <= 4
    assert all(span[0] <= mark <= span[1] for mark in marks)


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(DataError, match="at least one run"):
        curves_size(Curves([]))
    with pytest.raises(DataError, match=r"no measure 'rms' in validation.csv; there are: abs_rel, rmse"):
        curves_size(Curves(SEEDS, measures=["rms"]))
    with pytest.raises(DataError, match="something but steps and learning rates"):
        curves_size(Curves([Run("a", log(0, ()))]))


# Files


def write_run(folder, seed, *, arm="full", stages=("geometric", "depth")):
    for stage in stages:
        (folder / stage).mkdir(parents=True)
        log(seed).to_csv(folder / stage / "log.csv", index=False)
        validation(seed, "abs_rel").to_csv(folder / stage / "validation.csv", index=False)
    recipe = {"seed": seed, "arm": arm, "stages": {stage: {} for stage in stages}}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder


def test_runs_are_read_by_stage_and_seeds_are_one_arm(tmp_path):
    places = [write_run(tmp_path / f"full_seed{seed}", seed) for seed in (0, 1)]
    places.append(write_run(tmp_path / "frozen", 0, arm="frozen"))
    stages = read_runs(places)
    assert list(stages) == ["geometric", "depth"]  # in the recipe's order
    assert [run.arm for run in stages["depth"]] == ["full", "full", "frozen"]
    pd.testing.assert_frame_equal(stages["depth"][1].log, log(1))
    pd.testing.assert_frame_equal(stages["depth"][1].validation, validation(1, "abs_rel"))


def test_a_stage_and_a_log_are_runs_too(tmp_path):
    run = write_run(tmp_path / "full_0", 0)
    for place in (run / "depth", run / "depth/log.csv"):
        ((stage, (found,)),) = read_runs([place]).items()
        assert (stage, found.arm) == ("depth", "full")


def test_arms_of_one_name_are_told_apart(tmp_path):
    places = [write_run(tmp_path / part / "run_0", 0, arm=part) for part in "abc"]
    names = [run.arm for run in read_runs(places)["depth"]]
    assert len(set(names)) == 3
    assert names[0] == "run"


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(DataError, match=r"expected a log.csv, .* found none at "):
        read_runs([tmp_path])
    broken = tmp_path / "run/depth/log.csv"
    broken.parent.mkdir(parents=True)
    for text, message in (("", "expected a log of"), ("a,b\n1,2\n", "column 'step'"), ("step,b\n1,x\n", "numbers")):
        broken.write_text(text)
        with pytest.raises(DataError, match=message):
            read_run(broken, "a")
    broken.write_text("step,loss\n1,0.5\n")
    (tmp_path / "run/recipe.json").write_text("{")
    with pytest.raises(DataError, match=r"expected a recipe.json of `ckaprobe train`"):
        read_runs([broken])


def test_same_bytes(tmp_path):
    check_same_bytes(save_curves, CASES["arms and seeds"], tmp_path)
