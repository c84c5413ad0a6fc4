"""The claims of MeSa: statistics with known answers, and the claims of a study."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.mesa_study import LATER, NAMES, U, Writer, matrix, scores, study

from cka_probe.errors import DataError
from cka_probe.papers import claims
from cka_probe.papers.claims import claims_frame, judge_claims
from cka_probe.papers.evidence import earlier_more_similar, more_similar
from cka_probe.papers.mesa.claims import (
    CLAIMS,
    excess_outside,
    higher_score,
    improvement,
    last_change_more,
    least_fall,
    lighter_middle,
    mean_fall,
    mean_score,
    more_outside,
    rises_after,
    u_shape,
)
from cka_probe.papers.mesa.study import MesaEvidence


def test_u_shape_by_hand():
    estimate = u_shape(matrix(top=U, width=0.01))
    assert estimate.value == pytest.approx(min((1.0 + 0.9) / 2, (0.8 + 0.7) / 2) - 0.5)  # 0.75 - 0.5
    assert (estimate.low, estimate.high) == pytest.approx((0.25 - 0.02, 0.25 + 0.02))  # all ends at their worst


def test_u_shape_is_not_positive_where_one_end_is_dark_or_nothing_differs():
    falling = np.linspace(1, 0.2, 9)
    assert u_shape(matrix(top=falling)).value < 0
    assert u_shape(matrix(top=[0.7] * 9)).value == pytest.approx(0)
    assert u_shape(matrix(top=U[::-1])).value == pytest.approx(u_shape(matrix(top=U)).value)


def test_later_change_more_by_hand_and_its_sign():
    estimate = earlier_more_similar(matrix(diagonal=LATER))
    assert estimate.value == pytest.approx((1 - 0.4) - (1 - 0.9))
    assert earlier_more_similar(matrix(diagonal=[0.4] * 5 + [0.9] * 4)).value == pytest.approx(-0.5)
    assert earlier_more_similar(matrix(diagonal=[0.3] * 9)).value == pytest.approx(0)


def test_repaired_reads_only_its_own_layers():
    before, after = np.full(9, 0.5), np.full(9, 0.5)
    after[5], after[6] = 0.9, 0.7
    x, y = matrix(diagonal=before), matrix(diagonal=after)
    assert more_similar(x, y, slice(5, 7)).value == pytest.approx(0.3)
    assert more_similar(x, y, slice(7, 9)).value == pytest.approx(0)
    assert more_similar(y, x, slice(5, 7)).value == pytest.approx(-0.3)


def test_lighter_middle_reads_layers_2_to_6_of_the_top_row():
    darker = np.array(U)
    darker[2:7] -= 0.2
    assert lighter_middle(matrix(top=U), matrix(top=darker)).value == pytest.approx(0.2)
    ends = np.array(U)
    ends[[0, 1, 7, 8]] = 0
    assert lighter_middle(matrix(top=U), matrix(top=ends)).value == pytest.approx(0)


def test_a_row_falls_at_each_step_or_on_the_whole():
    row = matrix(top=[1.0, 0.9, 0.8, 0.75, 0.6, 0.5, 0.4, 0.6, 0.7], width=0.01)
    estimate = least_fall(row, 6)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.05, 0.03, 0.07))
    assert least_fall(row, 8).value == pytest.approx(-0.2)
    assert mean_fall(row, 6).value == pytest.approx((0.9 + 0.8 + 0.75) / 3 - 0.5)
    assert rises_after(row, 6).value == pytest.approx(0.65 - 0.4)
    assert "layers.2.blocks.6.norm1" in least_fall(matrix(undefined=(3,)), 6).undefined


def test_last_change_more_compares_the_last_two_layers_with_all_others():
    assert last_change_more(matrix(diagonal=[0.8] * 7 + [0.3, 0.5])).value == pytest.approx(0.4)


def test_intervals_of_cells_are_combined_as_if_all_erred_at_once():
    """For any weights with sum |w| = 2 and cells of half-width h, the half-width is 2 h: no dependence is wider."""
    estimate = earlier_more_similar(matrix(diagonal=LATER, width=0.03))
    assert (estimate.high - estimate.low) / 2 == pytest.approx(0.06)
    rng = np.random.default_rng(0)
    for _ in range(200):  # truths within the cells' intervals stay within the combined one
        truth = np.array(LATER) + rng.choice([-0.03, 0, 0.03], 9)
        assert estimate.low - 1e-12 <= earlier_more_similar(matrix(diagonal=truth)).value <= estimate.high + 1e-12
        truth = np.array(U) + rng.choice([-0.03, 0, 0.03], 9)
        shape = u_shape(matrix(top=U, width=0.03))
        assert shape.low - 1e-12 <= u_shape(matrix(top=truth)).value <= shape.high + 1e-12


def test_an_undefined_layer_is_named_and_only_where_it_matters():
    estimate = u_shape(matrix(top=U, undefined=(3,)))
    assert math.isnan(estimate.value)
    assert "layers.2.blocks.6.norm1 of y: its activation is 0" in estimate.undefined
    broken = matrix(undefined=(2,))
    assert math.isfinite(more_similar(broken, broken, slice(5, 7)).value)
    assert "layers.2.blocks.3.norm1" in earlier_more_similar(broken).undefined


def test_scores_are_compared_image_by_image():
    a, b = scores("a", rmse=0.5), scores("b", rmse=0.4)
    estimate = higher_score(a, b, "rmse")
    assert estimate.value == pytest.approx(0.1)
    assert estimate.low < 0.1 < estimate.high
    alone = mean_score(a, "rmse")  # what is hard about an image is hard for both, and drops out
    assert estimate.high - estimate.low < (alone.high - alone.low) / 2
    shuffled = replace(b, table=b.table.sort_index(ascending=False))
    assert higher_score(a, shuffled, "rmse") == estimate


def test_scores_omit_images_without_a_value_and_refuse_other_images():
    a, b = scores("a", pe_plan=3.0), scores("b", pe_plan=2.0)
    a.table.iloc[0, 0], b.table.iloc[1, 0] = np.nan, np.nan
    mean = (a.table - b.table).iloc[2:, 0].mean()
    assert higher_score(a, b, "pe_plan").value == pytest.approx(mean)
    a.table.iloc[:, 0] = np.nan
    assert higher_score(a, b, "pe_plan").undefined == "no image has pe_plan for both"
    assert higher_score(a, b, "dbe_acc").undefined == "the scores have no dbe_acc"
    b.table.index = [f"other{i}" for i in range(len(b.table))]
    with pytest.raises(DataError, match="of the same images, found 48 that only one of the two has"):
        higher_score(a, b, "pe_plan")


def test_improvement_is_in_percent_of_the_first_mean_and_knows_what_is_better():
    before, after = scores("a", rmse=0.287, delta1=0.8), scores("b", rmse=0.238, delta1=0.9)
    estimate = improvement(before, after, "rmse")
    assert estimate.value == pytest.approx(17.07, abs=0.01)  # printed as 17.1
    assert estimate.low < estimate.value < estimate.high < estimate.low + 1  # what is hard is hard for both
    assert improvement(before, after, "delta1").value == pytest.approx(12.5)
    same = improvement(before, before, "rmse")
    assert (same.value, same.low, same.high) == (0, 0, 0)
    before.table.iloc[0, 0] = np.nan
    pair = (before.table["rmse"][1:].mean(), after.table["rmse"][1:].mean())
    assert improvement(before, after, "rmse").value == pytest.approx(100 * (1 - pair[1] / pair[0]))
    assert improvement(before, after, "abs_rel").undefined == "the scores have no abs_rel"


def test_a_method_of_the_paper_is_compared_with_on_its_own_images_only(tmp_path):
    writer = Writer(tmp_path, (0, 1))
    for seed in (0, 1):
        writer.scores("sp_depth", seed, rmse=0.254 * (0.9 - 0.1 * seed))
    (claim,) = [claim for claim in CLAIMS if claim.name == "rmse_others"]
    assert claims.evaluate_statistic(MesaEvidence.load(tmp_path), claim.statistic).verdict == "not run"
    writer.study(data={"nyuv2": "/nyuv2"})
    assert claims.evaluate_statistic(MesaEvidence.load(tmp_path), claim.statistic).value == pytest.approx(15)


def test_artefacts_are_the_error_outside_the_evaluated_rows_less_that_inside():
    more, less = scores("a", abs_rel=0.1, abs_rel_outside=0.4), scores("b", abs_rel=0.1, abs_rel_outside=0.15)
    assert excess_outside(more).value == pytest.approx(0.3)
    assert more_outside(more, less).value == pytest.approx(0.25)
    less.table.loc[:, "abs_rel_outside"] = np.nan
    assert more_outside(more, less).undefined == "no image has measured depth outside the evaluated rows"
    assert more_outside(more, scores("c", abs_rel=0.1)).undefined == "the scores have no abs_rel_outside"


def test_claims_of_a_study_have_every_verdict(tmp_path):
    rows = {row.name: row for row in judge_claims(study(tmp_path, (0, 1, 2, 3)), CLAIMS)}
    assert len(rows) == len(CLAIMS)
    verdicts = {name: row.verdict_text for name, row in rows.items()}
    assert verdicts["u_shape"] == "holds"
    assert verdicts["later_changes"] == "holds"
    assert verdicts["rmse_gp"] == "does not hold"
    assert verdicts["pretraining"] == "undecided"
    assert verdicts["gp_repairs"] == verdicts["out_dbe_comp"] == verdicts["later_changes_flat"] == "not run"
    middle = ", ".join(NAMES[2:7])
    assert rows["u_shape_random"].reason == f"seeds 0, 1, 2, 3: {middle} of y: its activation is 0"
    assert verdicts["u_shape_random"] == "undefined"
    assert claims.num_tested(list(rows.values())) == 4
    assert all(math.isnan(row.p_holm) for row in rows.values() if row.of)
    assert rows["u_shape"].p_holm >= rows["u_shape"].p


def test_one_seed_decides_nothing(tmp_path):
    rows = judge_claims(study(tmp_path, (0,)), CLAIMS)
    assert {row.verdict_text for row in rows if math.isfinite(row.value)} == {"undecided (one seed)"}
    assert claims.num_tested(rows) == 0


def test_claims_as_a_table(tmp_path):
    frame = claims_frame(judge_claims(study(tmp_path, (0, 2)), CLAIMS))
    assert list(frame["name"][:4]) == ["u_shape", "u_shape_stream", "u_shape_random", "u_shape_random_stream"]
    first = frame.iloc[0]
    assert first["value"] == pytest.approx((first["seed0"] + first["seed2"]) / 2)
    assert frame["verdict"].notna().all()


def test_every_control_belongs_to_a_claim_and_names_are_unique():
    names = [claim.name for claim in CLAIMS]
    assert len(set(names)) == len(names)
    assert {claim.of for claim in CLAIMS if claim.of} <= {claim.name for claim in CLAIMS if not claim.of}
