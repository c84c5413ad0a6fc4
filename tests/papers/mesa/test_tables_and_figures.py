"""Depth panels of a study of MeSa, on rooms drawn for the purpose."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.mesa_study import Writer, scores

from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.evaluation.predictions import save_prediction, write_manifest
from cka_probe.lab.scenes import Settings, make_scenes
from cka_probe.papers.figures import FigureWriter
from cka_probe.papers.mesa.evidence import MesaEvidence
from cka_probe.papers.mesa.tables_and_figures import depth_rows, draw_depth


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Four rooms in the layout of iBims-1, as a spec."""
    folder = tmp_path_factory.mktemp("rooms") / "ibims1"
    make_scenes(folder, Settings("rooms", num=4, size=(72, 96), frames=1, test=0.0, seed=3, layout="ibims1"))
    return f"ibims1:{folder}"


def keep(folder, dataset, factor):
    names = [dataset.describe(index) for index in range(len(dataset))]
    for index, name in enumerate(names):
        save_prediction(folder, name, dataset[index]["depth"][0].numpy() * factor)
    write_manifest(folder, names, {}, {})
    return names


def test_rows_have_image_truth_predictions_and_edges(rooms, tmp_path):
    dataset = open_dataset(rooms)
    names = keep(tmp_path / "kept", dataset, 1.1)
    (row,) = depth_rows(dataset, names[2:3], {"MP": tmp_path / "kept"})
    sample = dataset[2]
    assert row.name == names[2]
    assert (row.image == np.rint(sample["image"].numpy() * 255).transpose(1, 2, 0)).all()
    np.testing.assert_allclose(row.predictions["MP"], row.truth * 1.1, rtol=1e-6)
    assert (row.edges["truth"] == sample["edges"][0].numpy()).all()
    assert row.edges["MP"].any()
    with pytest.raises(DataError, match="expected the image 'another' that was scored"):
        depth_rows(dataset, ["another"], {})


def test_a_panel_shows_saved_predictions_and_lists_missing_ones(rooms, tmp_path):
    study = Writer(tmp_path)
    dataset = open_dataset(rooms)
    for stage, factor in (("mp", 1.2), ("sp", 0.9)):
        names = keep(tmp_path / "seed0" / "predictions" / f"{stage}_depth" / "out", dataset, factor)
        result = scores(f"{stage}_depth", domain="out", abs_rel=0.2)
        table = result.table.iloc[: len(names)].set_axis(names)
        path = tmp_path / "seed0" / "scores" / f"{stage}_depth" / "out.json"
        replace(result, table=table, data={**result.data, "source": rooms}).save(path)
    evidence = MesaEvidence.load(study.folder)
    inside, outside = (draw_depth(evidence, domain, FigureWriter(tmp_path / "figures")) for domain in ("in", "out"))
    assert inside.paths == ()
    assert list(inside.missing) == ["MP", "MP+GP", "MP+GP+SP"]
    assert [path.name for path in outside.paths] == ["depth_out.png", "depth_out.pdf"]
    assert all(path.stat().st_size for path in outside.paths)
    assert list(outside.missing) == ["MP+GP"]


def test_missing_images_are_reported(tmp_path):
    study = Writer(tmp_path)
    study.scores("mp_depth", domain="out", abs_rel=0.2)
    write_manifest(tmp_path / "seed0" / "predictions" / "mp_depth" / "out", ["room000"], {}, {})
    outside = draw_depth(MesaEvidence.load(tmp_path), "out", FigureWriter(tmp_path / "figures"))
    assert outside.paths == ()
    assert "no longer at their path" in outside.caption
