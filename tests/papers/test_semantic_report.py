"""The report of a study of Depth-to-Semantic: what it says, what it does not, and that it says it of what was run."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.semantic_study import STEPS, Writer, iou_of, matrix

from cka_probe.errors import DataError
from cka_probe.papers.claims import judge_claims
from cka_probe.papers.depth_to_semantic.claims import CLAIMS, SECTIONS
from cka_probe.papers.depth_to_semantic.evidence import SemanticEvidence, transposed
from cka_probe.papers.depth_to_semantic.figures import CURVES, PAIRS, draw_figures
from cka_probe.papers.depth_to_semantic.page import (
    NOTES,
    PAPER,
    TITLES,
    departures,
)
from cka_probe.papers.depth_to_semantic.study import ARMS, QUIRKS, TABLES, Case
from cka_probe.papers.depth_to_semantic.tables import (
    CSV_ONLY,
    PUBLISHED,
    absences,
    case_rows,
    cases_of,
    divergence_rows,
    labels_of,
    pair_rows,
    published,
)
from cka_probe.papers.evidence import RunKey
from cka_probe.papers.figures import FigureWriter
from cka_probe.papers.page import Report, write_report

PARTING = [0.9, 0.9, 0.9, 0.9, 0.3, 0.3, 0.2, 0.1, 0.1]
RIGHT = {"none": 0.6, "classification": 0.7, "video": 0.8}


def study(folder, trials=(0,), seeds=(0,), jitter=0.0):
    """Write runs of three arms; depth gains 0.01 in each further trial."""
    writer = Writer(folder)
    for seed in seeds:
        for trial in trials:
            for arm, right in RIGHT.items():
                more = jitter * (trial + 10 * seed) * (arm == "video")
                writer.run(Case(arm), right + more, seed, trial)
    return writer


def judged(folder):
    return {row.name: row for row in judge_claims(SemanticEvidence.load(folder), CLAIMS)}


def page(folder):
    evidence = SemanticEvidence.load(folder)
    return Report.of(PAPER, evidence).page()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    writer = study(folder)
    writer.pretrained("video", abs_rel=0.25)
    writer.similarity("video", writer.tuned("video"), np.linspace(0.95, 0.4, 9))
    writer.similarity("classification", "video", PARTING)
    return folder, write_report(folder, PAPER)


@pytest.mark.slow
def test_a_report_has_its_page_tables_and_figures(written):
    folder, readme = written
    report = folder / "report"
    assert readme == report / "README.md"
    names = (*TABLES, "pretraining", "rates", "layers", "pairs", "parting", "alignment", "cost")
    assert {path.name for path in (report / "tables").iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in (("csv",) if name in CSV_ONLY else ("csv", "md", "tex"))
    }
    drawn = {path.stem for path in (report / "figures").iterdir()}
    assert {*SECTIONS, "scores_table1", "curves_table1", "before_after", "arms", "parting", "scatter"} <= drawn
    assert "sizes" not in drawn  # one size is no curve
    frame = pd.read_csv(report / "claims.csv")
    assert len(frame) == len(CLAIMS)
    gain = 100 * (iou_of(0.8) - iou_of(0.6))
    assert frame.set_index("name").loc["depth_none", "trial0"] == pytest.approx(gain, abs=0.05)


@pytest.mark.slow
def test_every_link_of_the_page_leads_to_a_file_and_nothing_is_called_imagenet(written):
    folder, readme = written
    text = readme.read_text("utf-8")
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert "figures/parting.png" in links
    assert [link for link in links if not (folder / "report" / link).exists()] == []
    assert "No ImageNet was used" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    named = {line.split("|")[1].strip() for line in rows}
    assert not [name for name in named if "ImageNet" in name and "ImageNet's normalisation" not in name]
    assert "| depth from video | 0.250 |" in text  # whether pre-training worked


@pytest.mark.slow
def test_the_same_study_gives_the_same_bytes(written, tmp_path):
    folder, readme = written
    evidence = SemanticEvidence.load(folder)
    report = Report.of(PAPER, evidence)
    figures = draw_figures(evidence, report.claims, report.tables, FigureWriter(tmp_path))
    assert replace(report, figures=figures).page() == readme.read_text("utf-8")
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder / "report" / "figures" / path.name).read_bytes(), path.name


def test_one_trial_decides_nothing(tmp_path):
    study(tmp_path)
    text = page(tmp_path)
    assert "nothing is decided by one trial" in text
    assert "undecided (one trial)" in text
    assert "| holds" not in text
    row = judged(tmp_path)["depth_none"]
    assert row.low < row.value < row.high  # the bootstrap over images


def test_trials_of_one_seed_decide_and_are_said_to_be_of_one_pretraining(tmp_path):
    study(tmp_path, trials=(0, 1, 2), jitter=0.01)
    rows = judged(tmp_path)
    assert rows["depth_none"].verdict == "holds"
    assert set(rows["depth_none"].runs) == {0, 1, 2}
    assert rows["classes_none"].verdict_text == "undecided (equal trials: not different runs)"
    values = [100 * (iou_of(0.8 + 0.01 * trial) - iou_of(0.6)) for trial in range(3)]
    assert rows["depth_none"].value == pytest.approx(np.mean(values), abs=0.05)
    assert "over 3 trials of one pre-training" in page(tmp_path)


def test_trials_of_several_seeds_are_averaged_first(tmp_path):
    study(tmp_path, trials=(0, 1), seeds=(0, 1), jitter=0.004)
    row = judged(tmp_path)["depth_none"]
    trials = [[100 * (iou_of(0.8 + 0.004 * (trial + 10 * seed)) - iou_of(0.6)) for trial in (0, 1)] for seed in (0, 1)]
    assert list(row.runs.values()) == pytest.approx(np.mean(trials, 1), abs=0.05)
    assert "over 2 seeds, the trials of a seed averaged first" in page(tmp_path)


def test_ours_stand_beside_the_papers_and_a_dash_where_no_number_is_vouched_for(tmp_path):
    study(tmp_path)
    rows = case_rows(SemanticEvidence.load(tmp_path), "table1").set_index(["case", "measure"])
    first = rows.loc[(Case("none").name, "accuracy")]
    assert (first["paper"], first["value"]) == (70.75, pytest.approx(60.0))
    assert math.isnan(rows.loc[(Case("none").name, "cross_entropy"), "paper"])
    assert rows.loc[(Case("video", mode="frozen").name, "miou_subset"), "state"] == "not run"
    assert rows.loc[(Case("none").name, "miou"), "value"] == pytest.approx(100 * iou_of(0.6), abs=0.05)  # no 0 for pole
    assert "not run" in (text := page(tmp_path))
    assert "- 46.53 (depth after classification, frozen, miou_subset): Table 1" in text


def test_published_numbers_stand_beside_cases_of_their_tables():
    shown = {case.name for cases in TABLES.values() for case in cases}
    assert {row for table, row, _ in PUBLISHED if not table} <= shown
    assert {row for table, row, _ in PUBLISHED if table} <= {case.name for case in TABLES["table4"]}
    assert published("table4", Case("flow"), "miou_subset").value == 42.72  # of ResNet-50, not Figure 7's
    assert published("figure7", Case("flow"), "miou_subset").value == 38.47


def test_a_loss_that_stopped_being_a_number_is_told_from_what_was_not_run(tmp_path):
    writer = study(tmp_path)
    writer.run(Case("none", size="high"), 0.6)
    writer.diverged(Case("video", size="high"))
    row = judged(tmp_path)["high_resolution"]
    assert row.verdict == "undefined"
    assert "the loss of video~kitti~skip~all~high stopped being a number" in row.reason
    lines = absences(SemanticEvidence.load(tmp_path))
    assert any("loss stopped being a number: depth from video, twice the size (1 of 1)" in line for line in lines)
    assert "flow" not in " ".join(line for line in lines if line.startswith("table2"))
    assert "table5: nothing of it" in lines


def test_faults_of_the_released_code_stand_below_the_same_case_without(tmp_path):
    names = [case.name for case in cases_of("quirks")]
    assert set(TABLES["quirks"]) <= set(cases_of("quirks"))
    assert names.index(Case("video").name) < names.index(Case("video", quirks=("unmirrored",)).name)
    writer = study(tmp_path)
    assert "--protocol" not in PAPER.command(SemanticEvidence.load(tmp_path))
    writer.run(Case("video", quirks=("unmirrored",)), 0.7)
    assert judged(tmp_path)["quirk_unmirrored"].value == pytest.approx(100 * (iou_of(0.8) - iou_of(0.7)), abs=0.05)
    assert "--protocol released --out OUT" in PAPER.command(SemanticEvidence.load(tmp_path))


def test_every_case_of_a_table_has_a_name_of_its_own(monkeypatch):
    monkeypatch.setitem(TABLES, "mixed", (Case("lidar", mode="frozen"), Case("lidar", network="linear", mode="frozen")))
    for table in TABLES:
        names = list(labels_of(table).values())
        assert len(set(names)) == len(names), table
    assert list(labels_of("mixed").values())[1] == "measured depth (LiDAR), frozen, one linear layer on the last map"


def test_what_is_of_another_study_is_an_error(tmp_path):
    writer = study(tmp_path)
    with pytest.raises(DataError, match="expected a study with a folder seed<k>"):
        SemanticEvidence.load(tmp_path / "nowhere")
    writer.run(Case("lidar"), 0.7, images="others")
    with pytest.raises(DataError, match=r"its test images of kitti .* are not those of"):
        judge_claims(SemanticEvidence.load(tmp_path), CLAIMS)
    writer.run(Case("lidar"), 0.7)
    folder = writer.places.tuned(0, Case("lidar"), 0.001, 0)
    (folder / "recipe.json").write_text('{"seed": 7}', "utf-8")
    with pytest.raises(DataError, match="its drawn training images of trial 0, seed 0"):
        case_rows(SemanticEvidence.load(tmp_path), "table2")
    writer.study(paper="mesa")
    with pytest.raises(DataError, match=r'expected a study of depth-to-semantic .* found one of "mesa"'):
        SemanticEvidence.load(tmp_path)


def test_similarities_of_other_weights_are_an_error_and_a_pair_may_be_read_from_either_side(tmp_path):
    writer = study(tmp_path)
    writer.similarity("none", "video", np.linspace(1, 0.2, 9))
    evidence = SemanticEvidence.load(tmp_path)
    there, back = evidence.similarity(0, "none", "video"), evidence.similarity(0, "video", "none")
    assert (back.x.hash, back.y.hash) == (there.y.hash, there.x.hash)
    np.testing.assert_array_equal(back.values, there.values.T)
    twice = transposed(transposed(there))
    np.testing.assert_array_equal(twice.terms["xy"], there.terms["xy"])
    matrix(0.5, "none", "flow", seed=3).save(writer.places.similarity(0, "none", "flow"))
    with pytest.raises(DataError, match="weights of none, seed 0"):
        evidence.similarity(0, "none", "flow")
    assert evidence.similarity(0, "lidar", "flow") is None


def test_two_arms_part_where_their_similarity_falls_most(tmp_path):
    Writer(tmp_path).similarity("classification", "video", PARTING)
    rows = divergence_rows(pair_rows(SemanticEvidence.load(tmp_path)))
    (row,) = rows.to_dict("records")
    assert row["arms"] == "procedural object classification and depth from video"
    assert row["parts_at"] == "layer2.0 \N{RIGHTWARDS ARROW} layer2.1"
    assert row["fall"] == pytest.approx(0.6)


def test_conditions_are_read_from_the_study(tmp_path):
    writer = study(tmp_path)
    told = " ".join(departures(SemanticEvidence.load(tmp_path)))
    assert f"Fine-tuning takes {max(STEPS)} steps of 8 images, of 96 x 64 pixels" in told
    writer.study(data={"objects": "/somewhere/imagenet"}, settings=["segment.steps=70"])
    evidence = SemanticEvidence.load(tmp_path)
    assert "No ImageNet was used" not in " ".join(departures(evidence))
    assert PAPER.data_rows(evidence).set_index("data").loc["objects", "was"] == "given by path"
    assert PAPER.command(evidence).endswith("--trials 1 --out OUT --set data.objects=DIR --set segment.steps=70")
    assert "/somewhere" not in page(tmp_path)


def test_an_empty_study_can_be_reported(tmp_path):
    Writer(tmp_path)
    (tmp_path / "seed0").mkdir()
    text, num = page(tmp_path), sum(not claim.of for claim in CLAIMS)
    assert f"Of {num} claims {num} were not run." in text
    assert "No networks were compared." in text
    assert SemanticEvidence.load(tmp_path).scores(Case("none"), RunKey(0, 0)) is None


def test_every_table_has_a_title_every_claim_a_figure_and_every_quirk_a_claim():
    assert set(TITLES) == set(TABLES) >= set(NOTES)
    drawn = {*(f"scores_{name}" for name in TABLES), *CURVES, "sizes", "before_after", "parting", "arms", "figure6"}
    assert {claim.figure for claim in CLAIMS} <= drawn
    assert {f"quirk_{quirk}" for quirk in QUIRKS} <= {claim.name for claim in CLAIMS}
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.of for claim in CLAIMS if claim.of} <= {claim.name for claim in CLAIMS if not claim.of}
    assert {arm for pair in PAIRS for arm in pair} <= set(ARMS)
    assert not any(claim.statement.startswith("\N{HORIZONTAL ELLIPSIS}") for claim in CLAIMS if not claim.of)
