"""The report of a study of MeSa: what it says, what it does not say, and that it says it of what was run."""

import math
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.mesa_study import Writer, scores

from cka_probe.images.datasets import open_dataset
from cka_probe.lab.evaluation.predictions import save_prediction, write_manifest
from cka_probe.lab.scenes import Settings, make_scenes
from cka_probe.papers.claims import judge_claims
from cka_probe.papers.figures import FigureWriter
from cka_probe.papers.mesa.claims import CLAIMS
from cka_probe.papers.mesa.report import (
    GRIDS,
    MEASURES,
    PAPER,
    PUBLISHED,
    absences,
    all_tables,
    draw_depth,
    improvement_rows,
    method_rows,
    score_rows,
    similarity_rows,
)
from cka_probe.papers.mesa.study import ARMS, CONTROL_ARMS, DECLARATIONS, ROOMS, SCALES, TRAINED_ON, MesaEvidence
from cka_probe.papers.page import Report, write_report

U = np.array([1.0, 0.9, 0.5, 0.5, 0.4, 0.5, 0.6, 0.8, 0.7])


def study(folder, seeds=(0,)):
    writer = Writer(folder, seeds)
    for seed in seeds:
        writer.similarity("mp", "mp", seed, top=U - 0.01 * seed * (U < 0.65))
        writer.similarity("mp", "mp_depth", seed, diagonal=np.linspace(0.95, 0.4 + 0.02 * seed, 9))
        writer.similarity("random", "random", seed, top=U, undefined=range(2, 7))
        for stage, rmse in (("mp_depth", 0.5), ("gp_depth", 0.6), ("sp_depth", 0.4)):
            writer.scores(stage, seed, "in", rmse=rmse + 0.001 * seed, delta1=0.9)
        writer.scores("mp_depth", seed, "out", dbe_comp=30.0 + seed, pe_orie=9.0, abs_rel=0.3)
        writer.log("mp", seed)
    return writer


def page(folder):
    evidence = MesaEvidence.load(folder)
    return Report.of(PAPER, evidence).page()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study(folder)
    return folder, write_report(folder, PAPER)


@pytest.mark.slow
def test_a_report_has_its_page_tables_and_figures(written):
    folder, readme = written
    report = folder / "report"
    assert readme == report / "README.md"
    tables = {path.name for path in (report / "tables").iterdir()}
    names = ("table_1", "table_2", "table_3", "improvements_1", "improvements_2", "pretrained", "videos", "layers")
    assert tables == {f"{name}.{suffix}" for name in names for suffix in ("csv", "md", "tex")}
    drawn = {path.stem for path in (report / "figures").iterdir()}
    assert drawn == {"claims", "controls", "scores_in", "scores_out", "curves_masked", "top_row", "diagonal",
                     "controls_row"}  # fmt: skip
    assert all((report / "figures" / f"{stem}.{suffix}").stat().st_size for stem in drawn for suffix in ("png", "pdf"))
    frame = pd.read_csv(report / "claims.csv")
    assert len(frame) == len(CLAIMS)
    assert frame.set_index("name").loc["rmse_mesa", "seed0"] == pytest.approx(0.1)


@pytest.mark.slow
def test_every_link_of_the_page_leads_to_a_file(written):
    folder, readme = written
    text = readme.read_text("utf-8")
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert "figures/top_row.png" in links
    assert "figures/claims.png" in links
    assert [link for link in links if not (folder / "report" / link).exists()] == []


@pytest.mark.slow
def test_the_same_study_gives_the_same_page_and_tables(written):
    folder, readme = written
    before = {path: path.read_bytes() for path in (folder / "report").rglob("*") if path.suffix in (".csv", ".tex")}
    first, again = (text.partition("## Table 1")[2].partition("## Controls")[0] for text in
                    (readme.read_text("utf-8"), page(folder)))  # fmt: skip
    assert first == again
    assert "MP+GP+SP" in first
    again = all_tables(MesaEvidence.load(folder))["table_1"].to_csv(index=False, lineterminator="\n")
    assert before[folder / "report" / "tables" / "table_1.csv"].decode() == again


@pytest.mark.slow
def test_the_page_says_that_one_seed_decides_nothing(written):
    text = written[1].read_text("utf-8")
    assert "nothing is decided by one seed" in text
    assert "undecided (one seed)" in text
    assert "there are no p-values" in text
    assert "| holds" not in text


def test_several_seeds_decide_and_failed_claims_are_listed(tmp_path):
    study(tmp_path, (0, 1, 2))
    text = page(tmp_path)
    assert "by Student's t over 3 seeds" in text
    assert 'Does not hold here: "GP lowers rmse: MP > MP+GP"' not in text  # 0.1 on every seed: not different runs
    assert "undecided (equal seeds: not different runs)" in text
    assert "corrected for all claims that could be tested, 2 (Holm)" in text
    assert "| holds" in text
    Writer(tmp_path, (0, 1, 2)).scores("gp_depth", 1, "in", rmse=0.63, delta1=0.9)
    assert 'Does not hold here: "GP lowers rmse: MP > MP+GP" (\N{MINUS SIGN}0.1' in page(tmp_path)


def test_a_table_has_the_papers_numbers_where_they_are_verified(tmp_path):
    study(tmp_path)
    rows = score_rows(MesaEvidence.load(tmp_path), "in").set_index(["stage", "measure"])
    assert rows.loc[("sp_depth", "rmse"), "paper"] == 0.238
    assert rows.loc[("sp_depth", "rmse"), "value"] == pytest.approx(0.4)
    assert math.isnan(rows.loc[("gp_depth", "rmse"), "paper"])
    assert rows.loc[("gp_imagenet_depth", "rmse"), "state"] == "not run"
    assert rows.loc[("mp_depth", "abs_rel"), "state"] == "undefined"  # scored, but not by this measure
    text = page(tmp_path)
    assert "/ 0.238 |" in text
    assert "- Table 3 (another network than that of Table 1; taken to be masked on LSUN): MP+GP+SP." in text


def printed(table, row, column):
    (cell,) = [c for c in PUBLISHED if (c.table, c.column) == (table, column) and c.row == row]
    return cell


def test_published_numbers_belong_to_stages_and_measures():
    linked = [cell for cell in PUBLISHED if cell.key]
    assert {stage for cell in linked for stage in cell.key.split("~")} <= {arm.tuned for arm in ARMS}
    pairs = {"~".join(stages) for stages in DECLARATIONS["improvements"].values()}
    assert {cell.key for cell in linked if "~" in cell.key} <= pairs
    for domain, tables in DECLARATIONS["published"].items():
        measures = {measure for cell in linked if cell.table in tables for measure in cell.measures}
        assert measures <= set(MEASURES[domain])


def test_every_printed_cell_is_there():
    counts = {"Table 1": 24, "Table 2": 20, "Table 3": 60, "Table 4": 9}
    cells = Counter(cell.table for cell in PUBLISHED)
    assert {table: cells[table] for table in counts} == counts
    assert len({cell[:4] for cell in PUBLISHED}) == len(PUBLISHED)
    edges = [printed("Table 2", row, "DBE_comp").value for row in ("MP [42]", "MP + GP", "MP + GP + SP (MeSa)")]
    assert edges == [30.05, 24.69, 19.31]
    methods = [cell.value for cell in PUBLISHED if (cell.table, cell.column) == ("Table 3", "RMSE")]
    assert methods == sorted(methods, reverse=True)
    assert (methods[0], methods[-1]) == (0.392, 0.238)


def test_improvements_that_the_paper_prints_follow_from_its_cells_within_what_their_notes_allow():
    """Each is of the pair of stages that its key names, and not of the best row, which is another in two columns."""
    cells = {(cell.key, cell.measures): cell.value for cell in PUBLISHED if cell.table in ("Table 1", "Table 2")}
    improvements = {key: value for key, value in cells.items() if "~" in key[0]}
    assert len(improvements) == 11
    for (pair, measures), value in improvements.items():
        before, after = (cells[stage, measures] for stage in pair.split("~"))
        percent = 100 * abs(after - before) / before
        assert value == pytest.approx(percent, abs=0.7)
    assert pytest.approx(17.1, abs=0.05) == 100 * (1 - 0.238 / 0.287)
    assert printed("text", "4.6", "RMSE improvement over the best approach, VPD [49]").value == 6.3


def test_numbers_of_the_paper_in_claims_are_those_that_it_prints():
    quoted = {number for claim in CLAIMS for number in re.findall(r"paper: ([\d.]+)", claim.statement)}
    assert quoted == {"7.64", "17.1", "10.2", "6.3", "10.3", "35.8", "33.4", "22.9", "8.4"}
    assert quoted <= {cell.text for cell in PUBLISHED if cell.unit == "percent"}
    (others,) = [claim for claim in CLAIMS if claim.name == "rmse_others"]
    assert others.statistic.function.keywords["other"] == printed("Table 3", "VPD [49]", "RMSE").value


def test_other_methods_are_listed_above_ours(tmp_path):
    study(tmp_path)
    rows = method_rows(MesaEvidence.load(tmp_path))
    assert list(dict.fromkeys(rows["arm"]))[-2:] == ["VPD", "MP+GP+SP"]
    rmse = rows[rows["measure"] == "rmse"].set_index("arm")
    assert rmse.loc["VPD", "paper"] == 0.254
    assert math.isnan(rmse.loc["VPD", "value"])
    assert rmse.loc["MP+GP+SP", "value"] == pytest.approx(0.4)


def test_improvements_stand_next_to_those_of_the_same_pair(tmp_path):
    study(tmp_path)
    rows = improvement_rows(MesaEvidence.load(tmp_path), "in").set_index(["stage", "measure"])
    assert rows.loc[("mp_depth~sp_depth", "rmse"), "value"] == pytest.approx(20)
    assert rows.loc[("mp_imagenet_depth~sp_imagenet_depth", "rmse"), "paper"] == 7.64
    assert rows.loc[("mp_imagenet_depth~sp_depth", "rmse"), "paper"] == 17.1
    out = improvement_rows(MesaEvidence.load(tmp_path), "out").set_index(["stage", "measure"])
    assert out.loc[("mp_imagenet_depth~gp_imagenet_depth", "pe_orie"), "paper"] == 22.9
    assert math.isnan(out.loc[("mp_imagenet_depth~sp_imagenet_depth", "pe_orie"), "paper"])


def test_layers_have_their_rms_and_undefined_ones_are_named(tmp_path):
    study(tmp_path)
    rows = similarity_rows(MesaEvidence.load(tmp_path)).set_index(["arm", "index"])
    assert rows.loc[("MP", 8), "diagonal_value"] == pytest.approx(0.4)
    assert rows.loc[("MP", 4), "spread"] == pytest.approx(0.5)
    assert rows.loc[("no pre-training", 3), "top_state"] == "undefined"
    assert rows.loc[("no pre-training", 3), "top_reason"].endswith("its activation is 0")
    text = page(tmp_path)
    assert "| no pre-training | 1.00 ± 0.01 | 0.90 ± 0.01 | undefined |" in text
    assert 'Cannot be tested: "… of the untrained network". Reason: seed 0: layers.2.blocks.3.norm1, ' in text


def test_what_was_not_run_is_listed_and_an_empty_study_can_be_reported(tmp_path):
    Writer(tmp_path)
    evidence = MesaEvidence.load(tmp_path)
    assert absences(evidence) == [f"{arm.name}: nothing of it" for arm in (*ARMS, *CONTROL_ARMS)]
    text = page(tmp_path)
    assert "Of 20 claims 20 were not run." in text
    assert "No networks were compared." in text


def test_seeds_that_lack_something_are_named(tmp_path):
    study(tmp_path, (0, 1, 2))
    (tmp_path / "seed1" / "scores" / "gp_depth" / "in.json").unlink()
    lines = absences(MesaEvidence.load(tmp_path))
    assert any(line.startswith("MP+GP: without scores in distribution (seeds 1), scores out of") for line in lines)
    rows = {row.name: row for row in judge_claims(MesaEvidence.load(tmp_path), CLAIMS)}
    assert rows["rmse_gp"].runs[1] is None
    assert "2 of 3 seeds" in rows["rmse_gp"].verdict_text or "equal seeds" in rows["rmse_gp"].verdict_text


def test_departures_are_read_from_the_study(tmp_path):
    writer = study(tmp_path)
    evidence = MesaEvidence.load(tmp_path)
    text = page(tmp_path)
    assert "MP takes 600 steps of 16 images, of 64 pixels" in text
    assert "Cells of 16 pixels are hidden" in text
    assert "swinv2_micro" in text
    assert "Procedural images stand for LSUN, ImageNet, videos of NYUv2, NYUv2, iBims-1" in text
    assert "\nckaprobe reproduce mesa --scale demo --seeds 1 --out OUT\n" in text
    writer.study(data={"nyuv2": "/somewhere/nyuv2"}, settings=["mp.steps=700"])
    evidence = MesaEvidence.load(tmp_path)
    assert "stand for LSUN, ImageNet, videos of NYUv2, iBims-1:" in page(tmp_path)
    assert PAPER.data_rows(evidence).set_index("data").loc["nyuv2", "was"] == "given by path"
    assert "--out OUT --set data.nyuv2=DIR --set mp.steps=700\n" in page(tmp_path)
    assert "/somewhere" not in page(tmp_path)


def test_a_given_teacher_replaces_the_one_that_is_trained_here(tmp_path):
    study(tmp_path).study(settings=["teacher=transformers:depth"])
    text = page(tmp_path)
    assert "Pseudo-depth is predicted by `transformers:depth`; the paper uses LeReS." in text
    assert "trained here on procedural rooms" not in text
    assert "rooms" not in PAPER.data(MesaEvidence.load(tmp_path))


def test_a_teacher_that_has_seen_the_test_style_is_reported(tmp_path):
    study(tmp_path)
    scenes = SCALES["demo"].scenes
    text = "also that of the test out of distribution" in page(tmp_path)
    assert text == (scenes["rooms"].style == scenes["ibims1"].style != scenes["videos"].style)


def test_every_claim_has_a_figure_and_every_stage_an_arm():
    assert {claim.figure for claim in CLAIMS} <= {*GRIDS, "scores_in", "scores_out"}
    stages = {stage for arm in (*ARMS, *CONTROL_ARMS) for stage in (arm.pre, arm.tuned)}
    shown = {stage for grid in GRIDS.values() for pair in grid["pairs"].values() for stage in pair[:2]}
    assert shown <= stages
    assert [arm.name for arm in ROOMS] == ["MP", "MP+GP", "MP+GP+SP"]


def test_the_scale_of_the_claims_runs_what_the_main_ones_are_computed_from():
    scale = SCALES["claims"]
    recipe = scale.read(scale.recipe, [f"data.{name}={name}" for name in TRAINED_ON])
    names = {stage.name for stage in recipe.stages}
    assert names == set(scale.stages)
    main = {"u_shape", "later_changes", "later_changes_flat", "rmse_gp", "rmse_sp", "rmse_mesa", "pretraining"}
    parts = [name.split("~") for claim in CLAIMS if claim.name in main for name in claim.statistic.names]
    assert len(main & {claim.name for claim in CLAIMS}) == len(main)
    assert {stage for part in parts for stage in part} <= names


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Four rooms in the layout of iBims-1, as a spec."""
    folder = tmp_path_factory.mktemp("rooms") / "ibims1"
    make_scenes(folder, Settings("rooms", num=4, size=(72, 96), frames=1, test=0.0, seed=3, layout="ibims1"))
    return f"ibims1:{folder}"


def save_predictions(folder, dataset, factor):
    names = [dataset.describe(index) for index in range(len(dataset))]
    for index, name in enumerate(names):
        save_prediction(folder, name, dataset[index]["depth"][0].numpy() * factor)
    write_manifest(folder, names, {}, {})
    return names


@pytest.mark.slow
def test_a_panel_shows_saved_predictions_and_lists_missing_ones(rooms, tmp_path):
    writer = Writer(tmp_path)
    dataset = open_dataset(rooms)
    for stage, factor in (("mp", 1.2), ("sp", 0.9)):
        names = save_predictions(tmp_path / "seed0" / "predictions" / f"{stage}_depth" / "out", dataset, factor)
        result = scores(f"{stage}_depth", domain="out", abs_rel=0.2)
        table = result.table.iloc[: len(names)].set_axis(names)
        path = tmp_path / "seed0" / "scores" / f"{stage}_depth" / "out.json"
        replace(result, table=table, data={**result.data, "source": rooms}).save(path)
    evidence = MesaEvidence.load(writer.folder)
    inside, outside = (
        draw_depth(evidence, domain, FigureWriter(tmp_path / "figures", DECLARATIONS["captions"]))
        for domain in ("in", "out")
    )
    assert inside.paths == ()
    assert list(inside.missing) == ["MP", "MP+GP", "MP+GP+SP"]
    assert [path.name for path in outside.paths] == ["depth_out.png", "depth_out.pdf"]
    assert all(path.stat().st_size for path in outside.paths)
    assert list(outside.missing) == ["MP+GP"]


def test_missing_images_are_reported(tmp_path):
    Writer(tmp_path).scores("mp_depth", domain="out", abs_rel=0.2)
    write_manifest(tmp_path / "seed0" / "predictions" / "mp_depth" / "out", ["room000"], {}, {})
    outside = draw_depth(
        MesaEvidence.load(tmp_path), "out", FigureWriter(tmp_path / "figures", DECLARATIONS["captions"])
    )
    assert outside.paths == ()
    assert "no longer at their path" in outside.caption
