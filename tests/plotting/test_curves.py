"""Learning curves are the logs' own numbers."""

import numpy as np
import pytest
from helpers.figures_of_lines import CURVES, NAN, OTHER, PARTS, SEEDS, STEPS, TWELVE, log, validation
from helpers.pages import sheet_of, words
from matplotlib.collections import FillBetweenPolyCollection

from cka_probe.errors import DataError
from cka_probe.plotting import style
from cka_probe.plotting.curves import Curves
from cka_probe.plotting.figure import laid_out
from cka_probe.plotting.runs import Run


@pytest.fixture(scope="module")
def arms():
    return sheet_of(CURVES["arms and seeds"])


def thick(ax):
    """The lines that are no single run's."""
    return [line for line in ax.lines if line.get_linewidth() > 1]


def bands(ax):
    return [band for band in ax.collections if isinstance(band, FillBetweenPolyCollection)]


@pytest.mark.slow
def test_every_column_has_a_panel_and_all_have_the_same_steps(arms):
    assert len(arms.axes) == len(PARTS) + 3  # abs_rel, rmse, the learning rate
    assert len({ax.get_xlim() for ax in arms.axes}) == 1


def test_seeds_are_thin_and_their_median_is_thick(arms):
    for name, ax in zip(PARTS, arms.axes, strict=False):
        thin = [line for line in ax.lines if line.get_linewidth() < 1]
        assert len(thin) == 3
        for line, run in zip(thin, SEEDS, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), run.log[name])
        expected = np.median([run.log[name] for run in SEEDS], axis=0), OTHER.log[name]
        for line, median in zip(thick(ax), expected, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), STEPS)
            np.testing.assert_allclose(line.get_ydata(), median)


@pytest.mark.slow
def test_the_median_is_only_where_all_seeds_are():
    ax = sheet_of(Curves([Run("a", log(0)), Run("a", log(1)[:5])])).axes[0]
    (median,) = thick(ax)
    np.testing.assert_array_equal(median.get_xdata(), STEPS[:5])


@pytest.mark.slow
def test_a_run_that_diverged_ends_its_arm():
    broken = log(1).assign(loss=np.where(STEPS > 100, NAN, 1.0))
    ax = sheet_of(Curves([Run("a", log(0)), Run("a", broken)])).axes[0]
    (median,) = thick(ax)
    assert np.isfinite(median.get_ydata()).tolist() == (STEPS <= 100).tolist()


def test_a_band_goes_from_the_lowest_to_the_highest_run(arms):
    for ax, table, name in ((arms.axes[0], "log", "loss"), (arms.axes[len(PARTS)], "validation", "abs_rel")):
        (band,) = bands(ax)  # the other arm has one run, and no band
        values = np.array([getattr(run, table)[name] for run in SEEDS])
        x, y = band.get_paths()[0].vertices.T
        for step, low, high in zip(getattr(SEEDS[0], table)["step"], values.min(0), values.max(0), strict=True):
            np.testing.assert_allclose([y[x == step].min(), y[x == step].max()], [low, high])


def test_validation_is_hollow_in_its_own_panel_or_without_a_line_in_that_of_the_log(arms):
    hollow = [line for line in arms.axes[len(PARTS)].lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == 2  # an arm's median each
    expected = np.median([run.validation["abs_rel"] for run in SEEDS], axis=0)
    np.testing.assert_allclose(hollow[0].get_ydata(), expected)
    together = sheet_of(CURVES["same measure"]).axes
    assert len(together) == 3  # loss, abs_rel, learning rate: rmse was not asked for
    assert [line.get_linestyle() for line in together[1].lines] == ["-", "None"]


@pytest.mark.slow
def test_a_panel_with_a_zero_is_linear_and_the_title_says_which_are_logarithmic():
    sheet = sheet_of(CURVES["zero"])
    scales = {ax.get_title(loc="left"): ax.get_yscale() for ax in sheet.axes}
    assert scales["smoothness"] == "linear"
    assert scales["geometry consistency, log scale"] == "log"


@pytest.mark.slow
def test_shares_are_linear_and_errors_are_not():
    measures = ["accuracy", "delta1", "miou", "abs_rel"]
    runs = [Run("a", log(0, ("loss", "accuracy", "correct")), validation(0, *measures))]
    sheet = sheet_of(Curves(runs, measures=measures))
    linear = {ax.get_title(loc="left") for ax in sheet.axes if ax.get_yscale() == "linear"}
    assert linear == {"accuracy", "delta1", "mIoU", "share that is right"}
    assert "loss, log scale" in words(sheet)


@pytest.mark.slow
def test_a_column_without_a_number_says_so():
    assert "no number" in words(sheet_of(CURVES["no number"]))


def test_arms_differ_by_colour_and_marker_and_are_named(arms):
    looks = {(line.get_color(), line.get_marker()) for line in sheet_of(CURVES["twelve arms"]).axes[0].lines}
    assert len(looks) == len(TWELVE)
    expected = {"full, 3 seeds", "no normals", "validation", "geometric", "learning rate, log scale", "step"}
    assert expected <= set(words(arms))


@pytest.mark.slow
def test_a_narrow_page_has_fewer_panels_next_to_each_other():
    figure = CURVES["one arm"]
    assert figure.width == style.PAGE
    assert CURVES["one panel"].width == style.COLUMN
    for width, columns in ((style.PAGE, 3), (5.0, 2), (style.COLUMN, 1)):
        sheet = laid_out(figure, width, 1.0)
        assert sheet.axes[0].get_subplotspec().get_gridspec().ncols == columns


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="at least one run"):
        Curves([])
    with pytest.raises(DataError, match=r"no measure 'rms' in validation.csv; there are: abs_rel, rmse"):
        Curves(SEEDS, measures=["rms"])
    with pytest.raises(DataError, match="something but steps and learning rates"):
        Curves([Run("a", log(0, ()))])
