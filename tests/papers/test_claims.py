"""The claims of MeSa: statistics with known answers, the rule over seeds, verdicts, what is missing or undefined."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.mesa_study import NAMES, Writer, matrix, scores
from scipy import stats

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.papers import claims
from cka_probe.papers.claims import claims_frame, judge, judge_claims, over_runs
from cka_probe.papers.evidence import Estimate
from cka_probe.papers.mesa.claims import (
    CLAIMS,
    higher_score,
    later_change_more,
    lighter_middle,
    mean_score,
    repaired,
    u_shape,
)
from cka_probe.papers.mesa.evidence import MesaEvidence

U = [1.0, 0.9, 0.5, 0.5, 0.4, 0.5, 0.6, 0.8, 0.7]
LATER = [0.9] * 5 + [0.4] * 4


def estimate(value, width=0.1):
    return Estimate(value, value - width, value + width)


# --- statistics ---------------------------------------------------------------------------------------------


def test_u_shape_by_hand():
    found = u_shape(matrix(top=U, width=0.01))
    assert found.value == pytest.approx(min((1.0 + 0.9) / 2, (0.8 + 0.7) / 2) - 0.5)  # 0.75 - 0.5
    assert (found.low, found.high) == pytest.approx((0.25 - 0.02, 0.25 + 0.02))  # all ends at their worst


def test_u_shape_is_no_u_where_one_end_is_dark_or_nothing_differs():
    falling = np.linspace(1, 0.2, 9)
    assert u_shape(matrix(top=falling)).value < 0
    assert u_shape(matrix(top=[0.7] * 9)).value == pytest.approx(0)
    assert u_shape(matrix(top=np.array(U)[::-1])).value == pytest.approx(u_shape(matrix(top=U)).value)


def test_later_change_more_by_hand_and_turns_its_sign_with_the_layers():
    found = later_change_more(matrix(diagonal=LATER))
    assert found.value == pytest.approx((1 - 0.4) - (1 - 0.9))
    assert later_change_more(matrix(diagonal=[0.4] * 5 + [0.9] * 4)).value == pytest.approx(-0.5)
    assert later_change_more(matrix(diagonal=[0.3] * 9)).value == pytest.approx(0)


def test_repaired_reads_only_its_own_layers():
    before, after = np.full(9, 0.5), np.full(9, 0.5)
    after[5], after[6] = 0.9, 0.7
    x, y = matrix(diagonal=before), matrix(diagonal=after)
    assert repaired(x, y, layers=(5, 6)).value == pytest.approx(0.3)
    assert repaired(x, y, layers=(7, 8)).value == pytest.approx(0)
    assert repaired(y, x, layers=(5, 6)).value == pytest.approx(-0.3)


def test_lighter_middle_reads_layers_2_to_6_of_the_top_row():
    darker = np.array(U)
    darker[2:7] -= 0.2
    assert lighter_middle(matrix(top=U), matrix(top=darker)).value == pytest.approx(0.2)
    ends = np.array(U)
    ends[[0, 1, 7, 8]] = 0
    assert lighter_middle(matrix(top=U), matrix(top=ends)).value == pytest.approx(0)


def test_intervals_of_cells_are_combined_as_if_all_erred_at_once():
    """For any weights with sum |w| = 2 and cells of half-width h, the half-width is 2 h: no dependence is wider."""
    found = later_change_more(matrix(diagonal=LATER, width=0.03))
    assert (found.high - found.low) / 2 == pytest.approx(0.06)
    rng = np.random.default_rng(0)
    for _ in range(200):  # truths within the cells' intervals stay within the combined one
        truth = np.array(LATER) + rng.choice([-0.03, 0, 0.03], 9)
        assert found.low - 1e-12 <= later_change_more(matrix(diagonal=truth)).value <= found.high + 1e-12
        truth = np.array(U) + rng.choice([-0.03, 0, 0.03], 9)
        shape = u_shape(matrix(top=U, width=0.03))
        assert shape.low - 1e-12 <= u_shape(matrix(top=truth)).value <= shape.high + 1e-12


def test_an_undefined_layer_is_named_and_only_where_it_matters():
    found = u_shape(matrix(top=U, undefined=(3,)))
    assert math.isnan(found.value)
    assert "layers.2.blocks.6.norm1 of y: its activation is 0" in found.undefined
    broken = matrix(undefined=(2,))
    assert math.isfinite(repaired(broken, broken, layers=(5, 6)).value)
    assert "layers.2.blocks.3.norm1" in later_change_more(broken).undefined


def test_scores_are_compared_image_by_image():
    a, b = scores("a", rmse=0.5), scores("b", rmse=0.4)
    found = higher_score(a, b, "rmse")
    assert found.value == pytest.approx(0.1)
    assert found.low < 0.1 < found.high
    alone = mean_score(a, "rmse")  # what is hard about an image is hard for both, and drops out
    assert found.high - found.low < (alone.high - alone.low) / 2
    shuffled = replace(b, table=b.table.sort_index(ascending=False))
    assert higher_score(a, shuffled, "rmse") == found


def test_scores_leave_out_what_a_image_does_not_say_and_refuse_other_images():
    a, b = scores("a", pe_plan=3.0), scores("b", pe_plan=2.0)
    a.table.iloc[0, 0], b.table.iloc[1, 0] = np.nan, np.nan
    kept = (a.table - b.table).iloc[2:, 0].mean()
    assert higher_score(a, b, "pe_plan").value == pytest.approx(kept)
    a.table.iloc[:, 0] = np.nan
    assert higher_score(a, b, "pe_plan").undefined == "no image has pe_plan for both"
    assert higher_score(a, b, "dbe_acc").undefined == "the scores have no dbe_acc"
    b.table.index = [f"other{i}" for i in range(len(b.table))]
    with pytest.raises(DataError, match="over the same images, found 24 and 24 with 0 in common"):
        higher_score(a, b, "pe_plan")


# --- the rule over seeds ------------------------------------------------------------------------------------


def test_t_interval_is_scipys():
    values = [0.3, 0.1, 0.25, 0.4]
    mean, low, high, p = over_runs(values)
    theirs = stats.ttest_1samp(values, 0.0)
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert (mean, p) == pytest.approx((np.mean(values), theirs.pvalue))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_t_interval_covers_19_of_20_and_false_claims_hold_in_1_of_40(n):
    rng = np.random.default_rng(n)
    ends = np.array([over_runs(rng.normal(0.2, 1.0, n))[1:3] for _ in range(4000)]) - 0.2
    inside = ((ends[:, 0] < 0) & (ends[:, 1] > 0)).mean()
    assert inside == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors of 4000 draws
    assert (ends[:, 0] > 0).mean() == pytest.approx(0.025, abs=0.009)


@pytest.mark.parametrize(
    ("values", "verdict", "reason"),
    [
        ([0.30, 0.31, 0.29], "holds", ""),
        ([-0.30, -0.31, -0.29], "does not hold", ""),
        ([0.30, -0.31, 0.29], "undecided", ""),
        ([0.5], "undecided", "one seed"),
        ([0.5, None], "undecided", "1 of 2 seeds"),
        ([0.30, 0.31, 0.29, None], "holds", "3 of 4 seeds"),
        ([0.5, 0.5], "undecided", "equal seeds: not different runs"),
        ([0.6 - 0.5, 0.1], "undecided", "equal seeds: not different runs"),  # but for rounding
        ([0.0, 0.0], "undecided", ""),
        ([0.3, 0.5], "undecided", ""),  # t is 12.7 for two seeds
        ([None, None], "not run", ""),
    ],
)
def test_verdicts(values, verdict, reason):
    found = judge({k: None if value is None else estimate(value) for k, value in enumerate(values)})
    assert (found.verdict, found.reason) == (verdict, reason)
    assert list(found.runs.values()) == values


def test_one_undefined_seed_makes_it_undefined_and_is_named():
    bad = Estimate(np.nan, np.nan, np.nan, "norm3 of y: its activation is 0")
    found = judge({0: estimate(0.3), 1: bad, 2: estimate(0.31)})
    assert (found.verdict, found.reason) == ("undefined", "seed 1: norm3 of y: its activation is 0")
    assert math.isnan(found.value)


def test_one_seed_shows_the_interval_over_images():
    found = judge({0: estimate(0.5, width=0.2)})
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.3, 0.7))
    assert math.isnan(found.p)


# --- claims of a study --------------------------------------------------------------------------------------


def write(folder, seeds):
    study = Writer(folder, seeds)
    for seed in seeds:
        shift = 0.01 * seed
        study.similarity("mp", "mp", seed, top=np.array(U) - [0, 0, shift, 0, 0, 0, 0, 0, 0])
        study.similarity("random", "random", seed, undefined=range(2, 7))
        study.similarity("mp", "mp_depth", seed, diagonal=np.array(LATER) + shift * np.arange(9) / 9)
        for arm, rmse in (("mp", 0.5), ("gp", 0.52), ("random", 0.5 + (0.1 if seed % 2 else -0.1))):
            study.scores(f"{arm}_depth", seed, rmse=rmse + shift * (arm == "gp"))
    return MesaEvidence.load(folder)


def test_claims_of_a_study_hold_fail_stay_open_and_are_not_run(tmp_path):
    rows = {row.name: row for row in judge_claims(write(tmp_path, (0, 1, 2, 3)), CLAIMS)}
    assert len(rows) == len(CLAIMS)
    said = {name: row.verdict_text for name, row in rows.items()}
    assert said["u_shape"] == "holds"
    assert said["later_changes"] == "holds"
    assert said["rmse_gp"] == "does not hold"
    assert said["pretraining"] == "undecided"
    assert said["gp_repairs"] == said["out_dbe_comp"] == said["later_changes_flat"] == "not run"
    middle = ", ".join(NAMES[2:7])
    assert rows["u_shape_random"].reason == f"seeds 0, 1, 2, 3: {middle} of y: its activation is 0"
    assert said["u_shape_random"] == "undefined"
    assert claims.num_tested(list(rows.values())) == 4
    assert all(math.isnan(row.p_holm) for row in rows.values() if row.of)
    assert rows["u_shape"].p_holm >= rows["u_shape"].p


def test_one_seed_decides_nothing(tmp_path):
    rows = judge_claims(write(tmp_path, (0,)), CLAIMS)
    assert {row.verdict_text for row in rows if math.isfinite(row.value)} == {"undecided (one seed)"}
    assert claims.num_tested(rows) == 0


def test_claims_as_a_table(tmp_path):
    frame = claims_frame(judge_claims(write(tmp_path, (0, 2)), CLAIMS))
    assert list(frame["name"][:4]) == ["u_shape", "u_shape_stream", "u_shape_random", "u_shape_random_stream"]
    first = frame.iloc[0]
    assert first["value"] == pytest.approx((first["seed0"] + first["seed2"]) / 2)
    assert frame["verdict"].notna().all()


def test_every_claim_beside_belongs_to_one_and_names_are_one_each():
    names = [claim.name for claim in CLAIMS]
    assert len(set(names)) == len(names)
    assert {claim.of for claim in CLAIMS if claim.of} <= {claim.name for claim in CLAIMS if not claim.of}


# --- evidence -----------------------------------------------------------------------------------------------


def test_what_was_not_run_is_none_and_names_are_checked(tmp_path):
    evidence = write(tmp_path, (0,))
    assert evidence.similarity(0, "gp", "gp") is None
    assert evidence.scores(0, "sp_depth", "out") is None
    assert evidence.curves(0, "mp") == (None, None)
    with pytest.raises(UnknownNameError, match="did you mean 'pooled'"):
        evidence.similarity(0, "mp", "mp", "poled")
    with pytest.raises(UnknownNameError, match="no seed '7'"):
        evidence.similarity(7, "mp", "mp")


def test_parts_of_another_study_are_refused(tmp_path):
    with pytest.raises(DataError, match="folder seed<k> for each seed, found none"):
        MesaEvidence.load(tmp_path)
    study = Writer(tmp_path, (0, 1))
    study.recipe(1, architecture="swinv2_tiny")
    with pytest.raises(DataError, match="seed 1 ran another than seed 0"):
        MesaEvidence.load(tmp_path)
    study.recipe(1, seed=0)
    with pytest.raises(DataError, match="expected the recipe of seed 1, found seed 0"):
        MesaEvidence.load(tmp_path)
    study.study(paper="another")
    study.recipe(1)
    with pytest.raises(DataError, match="expected a study of mesa with scale, data"):
        MesaEvidence.load(tmp_path)
    (tmp_path / "seed1" / "recipe.json").write_text("{")
    with pytest.raises(DataError, match="expected the recipe of a run"):
        MesaEvidence.load(tmp_path)


def test_files_of_another_run_are_refused(tmp_path):
    study = Writer(tmp_path)
    study.checkpoint("mp")
    study.similarity("mp", "mp", top=U)
    matrix(x="mp", y="mp_depth", seed=5).save(tmp_path / "seed0/similarity/mp~mp_depth~paper.json")
    scores("gp_depth", rmse=0.5).save(tmp_path / "seed0/scores/mp_depth/in.json")
    evidence = MesaEvidence.load(tmp_path)
    evidence.similarity(0, "mp", "mp")
    with pytest.raises(DataError, match=r"compared weights of mp, seed 0 \(mp/5\) are not those of"):
        evidence.similarity(0, "mp", "mp_depth")
    with pytest.raises(DataError, match="expected scores of 'mp_depth', found those of 'gp_depth'"):
        evidence.scores(0, "mp_depth", "in")
    (tmp_path / "seed0/scores/mp_depth/in.json").unlink()
    study.scores("mp_depth", rmse=0.5)
    study.checkpoint("mp_depth")
    with pytest.raises(DataError, match="is of another run: its scored weights of mp_depth, seed 0"):
        MesaEvidence.load(tmp_path).scores(0, "mp_depth", "in")
