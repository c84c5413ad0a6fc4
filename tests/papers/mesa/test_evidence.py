"""What is read of a study of MeSa, and what is refused."""

import pytest
from helpers.mesa_study import U, Writer, matrix, scores, study

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.papers.mesa.study import MesaEvidence


def test_what_was_not_run_is_none_and_names_are_checked(tmp_path):
    evidence = study(tmp_path, (0,))
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
    writer = Writer(tmp_path, (0, 1))
    writer.recipe(1, architecture="swinv2_tiny")
    with pytest.raises(DataError, match="seed 1 ran another than seed 0"):
        MesaEvidence.load(tmp_path)
    writer.recipe(1, seed=0)
    with pytest.raises(DataError, match="expected the recipe of seed 1, found seed 0"):
        MesaEvidence.load(tmp_path)
    writer.study(paper="another")
    writer.recipe(1)
    with pytest.raises(DataError, match="expected a study of mesa with scale, data"):
        MesaEvidence.load(tmp_path)
    (tmp_path / "seed1" / "recipe.json").write_text("{")
    with pytest.raises(DataError, match="expected the recipe of a run"):
        MesaEvidence.load(tmp_path)


def test_files_of_another_run_are_refused(tmp_path):
    writer = Writer(tmp_path)
    writer.checkpoint("mp")
    writer.similarity("mp", "mp", top=U)
    matrix(x="mp", y="mp_depth", seed=5).save(tmp_path / "seed0/similarity/mp~mp_depth~paper.json")
    scores("gp_depth", rmse=0.5).save(tmp_path / "seed0/scores/mp_depth/in.json")
    evidence = MesaEvidence.load(tmp_path)
    evidence.similarity(0, "mp", "mp")
    with pytest.raises(DataError, match=r"compared weights of mp, seed 0 \(mp/5\) are not those of"):
        evidence.similarity(0, "mp", "mp_depth")
    with pytest.raises(DataError, match="expected scores of 'mp_depth', found those of 'gp_depth'"):
        evidence.scores(0, "mp_depth", "in")
    (tmp_path / "seed0/scores/mp_depth/in.json").unlink()
    writer.scores("mp_depth", rmse=0.5)
    writer.checkpoint("mp_depth")
    with pytest.raises(DataError, match="is of another run: its scored weights of mp_depth, seed 0"):
        MesaEvidence.load(tmp_path).scores(0, "mp_depth", "in")
