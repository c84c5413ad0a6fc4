"""Figure 6 of a study of Depth-to-Semantic."""

import numpy as np
import pytest
from helpers.semantic_study import Writer, judged, study_with_maps

from cka_probe.attribution.saved_maps import SavedMap, save_maps
from cka_probe.papers.depth_to_semantic.report import (
    PAPER,
    draw_maps,
)
from cka_probe.papers.depth_to_semantic.study import ARMS, DECLARATIONS, Case, SemanticEvidence
from cka_probe.papers.figures import FigureWriter
from cka_probe.papers.page import Report


def test_without_maps_the_page_says_not_run(tmp_path):
    writer = Writer(tmp_path)
    writer.run(Case("none"), 0.6)
    evidence = SemanticEvidence.load(tmp_path)
    assert judged(tmp_path)["maps_none"].verdict == "not run"
    drawn = draw_maps(evidence, FigureWriter(tmp_path, DECLARATIONS["captions"]))
    assert (list(drawn.paths), len(drawn.missing)) == ([], 4)
    text = Report.of(PAPER, evidence).page()
    assert "do Grad-CAM maps follow the outlines of classes?\n\nNot run.\n" in text


@pytest.mark.slow
def test_the_figure_is_drawn_from_saved_maps(tmp_path):
    evidence, random = study_with_maps(tmp_path), np.random.default_rng(0)
    for arm in ARMS:
        one = SavedMap("street/003.png", random.integers(0, 256, (64, 96, 3), dtype=np.uint8),
                   random.integers(0, 19, (64, 96)), random.random((64, 96), dtype=np.float32),
                   random.normal(size=(32, 48)).astype(np.float32), None, random.integers(0, 19, (64, 96)))  # fmt: skip
        save_maps([one], evidence.paths.maps(0, Case(arm).name))
    drawn = draw_maps(evidence, FigureWriter(tmp_path / "figures", DECLARATIONS["captions"]))
    assert [path.name for path in drawn.paths] == ["figure6.png", "figure6.pdf"]
    assert all(path.stat().st_size > 10_000 for path in drawn.paths)
    assert list(drawn.missing) == ["depth after classification"]
