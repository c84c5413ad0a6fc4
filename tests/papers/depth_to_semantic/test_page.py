"""The report of a study of Depth-to-Semantic: what it says, what it does not, and that it says it of what was run."""

import numpy as np
import pandas as pd
import pytest
from helpers.semantic_study import PARTING, STEPS, Writer, iou_of, page, study

from cka_probe.papers.depth_to_semantic.claims import CLAIMS
from cka_probe.papers.depth_to_semantic.report import CURVES, PAIRS, PAPER
from cka_probe.papers.depth_to_semantic.study import ARMS, DECLARATIONS, QUIRKS, TABLES, Case, SemanticEvidence
from cka_probe.papers.depth_to_semantic.tables import (
    CSV_ONLY,
)
from cka_probe.papers.evidence import RunKey
from cka_probe.papers.figures import FigureWriter
from cka_probe.papers.page import Report, write_report


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
    names = (*TABLES, "differences", "pretraining", "rates", "layers", "pairs", "parting", "alignment", "cost")
    assert {path.name for path in (report / "tables").iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in (("csv",) if name in CSV_ONLY else ("csv", "md", "tex"))
    }
    drawn = {path.stem for path in (report / "figures").iterdir()}
    assert {
        "claims",
        "claims_layers",
        "scores_table1",
        "curves_table1",
        "before_after",
        "arms",
        "parting",
        "scatter",
    } <= drawn
    assert not {"sizes", "claims_code"} & drawn  # one size is no curve, and no fault was run
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
    folder, _ = written
    report, path = Report.of(PAPER, SemanticEvidence.load(folder)), folder / "report"
    for name, table in report.tables.items():
        assert table.to_csv(index=False, lineterminator="\n") == (path / "tables" / f"{name}.csv").read_text("utf-8")
        for suffix, text in zip(("md", "tex"), PAPER.texts(name, table) or (), strict=False):
            assert text == (path / "tables" / f"{name}.{suffix}").read_text("utf-8")
    rows = [row for row in report.claims if row.section == "claims_layers" and not row.of]
    for file in FigureWriter(tmp_path, DECLARATIONS["captions"]).claims("claims_layers", rows).paths:
        assert file.read_bytes() == (path / "figures" / file.name).read_bytes()


@pytest.mark.slow
def test_departures_are_read_from_the_study(tmp_path):
    writer = study(tmp_path)
    text = page(tmp_path)
    assert f"Fine-tuning takes {max(STEPS)} steps of 8 images, of 96 x 64 pixels" in text
    writer.study(data={"objects": "/somewhere/imagenet"}, settings=["segment.steps=70"])
    evidence = SemanticEvidence.load(tmp_path)
    assert "No ImageNet was used" not in page(tmp_path)
    assert PAPER.data_rows(evidence).set_index("data").loc["objects", "was"] == "given by path"
    assert "--trials 1 --out OUT --set data.objects=DIR --set segment.steps=70\n" in page(tmp_path)
    assert "/somewhere" not in page(tmp_path)


def test_an_empty_study_can_be_reported(tmp_path):
    Writer(tmp_path)
    (tmp_path / "seed0").mkdir()
    text, num = page(tmp_path), sum(not claim.of for claim in CLAIMS)
    assert f"Of {num} claims {num} were not run." in text
    assert all(f'"{claim.statement}"' in text for claim in CLAIMS)
    assert "| claim |" not in text
    assert "No networks were compared." in text
    assert SemanticEvidence.load(tmp_path).scores(Case("none"), RunKey(0, 0)) is None


@pytest.mark.slow
def test_every_table_has_a_title_every_claim_a_figure_and_every_quirk_a_claim(tmp_path):
    study(tmp_path)
    assert page(tmp_path).count("\nNetwork: ") + page(tmp_path).count(" Network: ") == len(TABLES)
    drawn = {*(f"scores_{name}" for name in TABLES), *CURVES, "sizes", "before_after", "parting", "arms", "figure6"}
    drawn |= DECLARATIONS["trajectories"].keys()
    assert {claim.figure for claim in CLAIMS} <= drawn
    assert {f"quirk_{quirk}" for quirk in QUIRKS} <= {claim.name for claim in CLAIMS}
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.of for claim in CLAIMS if claim.of} <= {claim.name for claim in CLAIMS if not claim.of}
    assert {arm for pair in PAIRS for arm in pair} <= set(ARMS)
    assert not any(claim.statement.startswith("\N{HORIZONTAL ELLIPSIS}") for claim in CLAIMS if not claim.of)
