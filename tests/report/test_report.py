"""`ckaprobe report`: the kinds of folder, their pages, and messages where something is missing."""

import json
import re
import shutil

import numpy as np
import pytest
from helpers import every_figure
from helpers.result_folders import atlas, attributions, comparison, depth_scores, label_scores, run, strip
from typer.testing import CliRunner

from cka_probe.errors import DataError
from cka_probe.report import KINDS, kinds_of, page_of, report
from cka_probe.report.atlas import MATRIX_CELLS, MAX_BYTES, MODEL_CELLS
from cka_probe.report.blocks import (
    Facts,
    FigureBlock,
    Heading,
    MatrixBlock,
    ModelsBlock,
    Page,
    TableBlock,
    Text,
    Thumbnails,
)
from cka_probe.report.html import render
from ckaprobe_cli import app
from ckaprobe_cli.results_folder import RECORD


def blocks(page, kind):
    return [block for block in page.blocks if isinstance(block, kind)]


def headings(page):
    return [heading.text for heading in blocks(page, Heading)]


def texts(page):
    """Return all plain text of a page."""
    facts = [f"{name}: {value}" for facts in blocks(page, Facts) for name, value in facts.pairs]
    return "\n".join([page.title, page.subtitle, *(text.source for text in blocks(page, Text)), *facts, *page.warnings])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    result = comparison(folder)
    strip(folder)
    return folder, result


def test_a_comparison_shows_all_measures_from_its_fingerprints(compared):
    folder, result = compared
    page = page_of(folder)
    (matrix,) = blocks(page, MatrixBlock)
    assert list(matrix.results)[:2] == ["CKA, unbiased", "CKA, biased"]
    assert len(matrix.results) == 5
    np.testing.assert_array_equal(matrix.results["CKA, unbiased"].values, result.values)
    assert (matrix.results["CKA, biased"].values > result.values).all()
    assert "Computed for this page, from the fingerprints: CKA, biased, with 200 permutations" in texts(page)
    assert len(blocks(page, Thumbnails)[0].images) == 3
    assert headings(page)[0] == "Similarity"
    assert "No command of this result is recorded" in texts(page)
    assert f"images, hash: {result.images['hash']}" in texts(page)


def test_the_first_sentence_has_the_ends_of_the_diagonal(compared):
    diagonal = compared[1].diagonal().sort_values("value")
    lead = blocks(page_of(compared[0]), Text)[0].source
    for end in (diagonal.iloc[0], diagonal.iloc[-1]):
        assert f"{end['value']:.3f} [{end['low']:.3f}, {end['high']:.3f}]" in lead


def test_one_layer_against_three_has_no_diagonal(tmp_path):
    comparison(tmp_path, layers=("0",), layers_y=("0", "1", "2"), width=6)
    page = page_of(tmp_path)
    assert "Layer by layer" not in headings(page)
    assert blocks(page, Text)[0].source.startswith("The most similar pair of layers is")
    assert [table.name for table in blocks(page, TableBlock)] == ["layers_x", "layers_y"]


def test_a_result_without_fingerprints_says_what_is_missing(tmp_path):
    comparison(tmp_path, save_prints=False)
    document = json.loads((tmp_path / "result.json").read_text())
    document["values"][1][1] = None
    (tmp_path / "result.json").write_text(json.dumps(document))
    page = page_of(tmp_path)
    text = texts(page)
    assert "Not in the result's folder: `x.fingerprint` and `y.fingerprint`. Only the stored result is shown." in text
    assert "has no `images.jpg`" in text
    assert "1 of 3 are undefined." in blocks(page, Text)[0].source
    assert report(tmp_path).stat().st_size < 1e6


def test_fingerprints_of_another_model_are_not_used(tmp_path, compared):
    comparison(tmp_path)
    comparison(tmp_path / "other", width=7)
    shutil.copy(tmp_path / "other" / "y.fingerprint", tmp_path / "y.fingerprint")
    page = page_of(tmp_path)
    assert "`y.fingerprint` is of another model than the result: only the stored result is shown." in texts(page)
    assert list(blocks(page, MatrixBlock)[0].results) == ["CKA, unbiased"]


def test_several_models_have_a_matrix_and_every_pair(tmp_path):
    several = atlas(tmp_path / "models", 4)
    page = page_of(tmp_path / "models")
    (models,) = blocks(page, ModelsBlock)
    assert list(models.links) == list(several.results)
    matrices = {block.name: block for block in blocks(page, MatrixBlock)}
    assert set(models.links.values()) == set(matrices)
    pair = next(iter(matrices[models.links[1, 3]].results.values()))
    np.testing.assert_array_equal(pair.values, several.results[1, 3].values)
    assert matrices["models-1-3"].summary.startswith(f"step_1 and step_3: {several.values[1, 3]:.3f} [")
    tables = {table.name: table.frame for table in blocks(page, TableBlock)}
    assert len(tables["pairs"]) == 6
    assert len(tables["curves"]) == 9
    assert list(tables["layers_0"])[-1] == "rms in step_3"
    assert len(tables["extremes"]) == len(tables["settling"]) == 3
    assert headings(page)[:4] == ["Models", "When layers settled", "Over checkpoints", "Layer by layer"]
    assert "No command of this result is recorded" in texts(page)
    html = report(tmp_path / "models").read_text()
    assert html.count('<a href="#models-1-3"') == 2
    assert html.count('<details class="pair"') == 6


def test_the_matrix_of_fifty_models_leaves_room_for_those_of_pairs():
    block = ModelsBlock(every_figure.atlas(50), {})
    assert 100 * MODEL_CELLS * 50**2 < len(render(Page("a", (block,)))) < MAX_BYTES / 3


def test_a_page_of_many_pairs_keeps_those_with_the_first_and_the_previous_model(tmp_path, monkeypatch):
    atlas(tmp_path, 4)
    monkeypatch.setattr("cka_probe.report.atlas.MAX_CELLS", 5 * (9 + MATRIX_CELLS) + MODEL_CELLS * 4**2)
    page = page_of(tmp_path)
    assert list(blocks(page, ModelsBlock)[0].links) == [(0, 1), (0, 2), (0, 3), (1, 2), (2, 3)]
    assert "1 of 6 pairs are not in this page" in texts(page)
    assert all(
        name.endswith(("0-1", "0-2", "0-3", "1-2", "2-3")) for name in blocks(page, ModelsBlock)[0].links.values()
    )


def test_the_command_of_a_result_is_the_one_that_was_typed(tmp_path):
    folder = tmp_path / "my run"
    comparison(folder)
    line = "ckaprobe compare a.pth b.pth --data images --arch vit_tiny_patch16_224 --data-y noisy"
    (folder / RECORD).write_text(f"scores.json: ckaprobe evaluate a.pth\nresult.json: {line}\n")
    assert f"```\n{line} --out 'my run'\n```" in texts(page_of(folder))


@pytest.mark.slow
def test_a_run_has_curves_stages_and_checkpoints(tmp_path):
    run(tmp_path / "run")
    page = page_of(tmp_path / "run")
    assert headings(page)[:2] == ["Learning curves", "Validation"]
    assert [figure.name for figure in blocks(page, FigureBlock)] == ["curves_masked", "curves_depth"]
    tables = {table.name: table.frame for table in blocks(page, TableBlock)}
    assert tables["validation_depth"]["abs_rel"].tolist() == [0.75, 0.625]
    assert tables["stages"]["stage"].tolist() == ["masked", "depth"]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in tables["checkpoints"]["SHA-256"])
    assert "```\nckaprobe train --recipe run/recipe.json --out run-again\n```" in texts(page)
    assert not page.warnings


def test_an_unfinished_run_says_so(tmp_path):
    run(tmp_path, finished=("masked",))
    (tmp_path / "masked" / "validation.csv").unlink()
    assert page_of(tmp_path).warnings == (
        "Not finished: depth. The same command resumes the run.",
        "Without validation: masked; the loss is that of the training data.",
    )


@pytest.mark.slow
def test_a_finished_stage_without_its_checkpoint_is_not_unfinished(tmp_path):
    run(tmp_path)
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    recipe["stages"]["depth"]["steps"] = 20
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    (tmp_path / "depth.safetensors").unlink()
    assert page_of(tmp_path).warnings == ("Trained to the last step, but the checkpoint is missing: depth.",)


def test_scores_of_depth_and_of_labels(tmp_path):
    scores = depth_scores(tmp_path / "depth")
    label_scores(tmp_path / "labels")
    page = page_of(tmp_path / "depth")
    ends = next(table.frame for table in blocks(page, TableBlock) if table.name == "worst_and_best")
    ranked = scores.table["abs_rel"].dropna().sort_values(ascending=False)
    assert ends["image"].tolist() == [*ranked.index[:5], *ranked.index[-5:]]
    assert ends["rank"].tolist() == [1, 2, 3, 4, 5, 9, 10, 11, 12, 13]
    assert any("14 images are few" in warning for warning in page.warnings)
    assert any("scale of its ground truth" in warning for warning in page.warnings)
    page = page_of(tmp_path / "labels")
    classes = next(table.frame for table in blocks(page, TableBlock) if table.name == "classes")
    assert classes["class"].tolist() == ["road", "sky", "train"]
    assert np.isnan(classes["IoU"].iloc[2])
    assert "Excluded from every mean, without true or predicted pixels: train." in page.warnings


@pytest.mark.parametrize("labels", [True, False])
def test_attributions(tmp_path, labels):
    result = attributions(tmp_path, labels)
    page = page_of(tmp_path)
    assert "1 of 4 maps of video are nowhere positive." in page.warnings
    titles = headings(page)
    assert ("Do maps follow the boundaries of classes?" in titles) == labels
    assert any("no boundary" in warning for warning in page.warnings) == labels
    assert any("is unknown" in warning for warning in page.warnings) != labels
    tables = {table.name: table.frame for table in blocks(page, TableBlock)}
    assert len(tables["images"]) == len(result.table)
    if labels:
        lead = blocks(page, Text)[0].source
        assert lead.startswith("Maps of ")
        assert "the image itself (" in lead  # a control that does not depend on the network
        assert set(result.warnings()) <= set(page.warnings)
        assert "average precision, before ReLU" in set(tables["alignment"]["measure"])
        assert not [name for table in tables.values() for name in table.get("measure", ()) if "_" in name]


@pytest.mark.slow
def test_several_results_of_a_folder_are_on_one_page(tmp_path):
    run(tmp_path / "road")
    comparison(tmp_path / "road" / "compare")
    depth_scores(tmp_path / "road" / "scores")
    page = page_of(tmp_path / "road")
    assert page.title == "road"
    labels = list(dict.fromkeys(heading.partition(":")[0] for heading in headings(page)))
    assert labels == ["compare", "scores", "Training"]
    assert texts(page).count("```\nckaprobe ") == 1  # only the run has a command
    assert kinds_of(tmp_path / "road") == ("training",)


@pytest.mark.slow
def test_the_same_folder_gives_the_same_bytes_wherever_it_is_called_from(tmp_path, monkeypatch):
    run(tmp_path / "road", finished=("masked",))
    comparison(tmp_path / "road" / "compare", save_prints=False)
    first = report(tmp_path / "road", tmp_path / "one.html").read_bytes()
    monkeypatch.chdir(tmp_path / "road")
    second = report(".", tmp_path / "two.html").read_bytes()
    assert first == second
    assert str(tmp_path).encode() not in first


def test_hostile_names_stay_text(tmp_path):
    comparison(tmp_path / "<script>alert(1)<script>")
    folder = tmp_path / "<script>alert(1)<script>"
    document = json.loads((folder / "result.json").read_text())
    document["rows"][0]["name"] = "</script><img src=x onerror=alert(2)>"
    document["x"]["reference"] = '"><svg onload=alert(3)>.pth'
    (folder / "result.json").write_text(json.dumps(document))
    page = report(folder).read_text("utf-8")
    assert not re.search(r"<(script>alert|img src=x|svg onload)", page)


def test_errors_are_one_line_each(tmp_path):
    expected = "; ".join(re.escape(f"{kind.file} of {kind.origin}") for kind in KINDS.values())
    with pytest.raises(DataError, match=f"expected one of: {expected}; found an empty folder; give the folder of a"):
        report(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"found notes\.txt; give the folder of a result"):
        report(tmp_path)
    with pytest.raises(DataError, match=r"expected a folder of results at .*notes\.txt, found a file"):
        report(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="found nothing; give the folder they are in"):
        report(tmp_path / "nowhere")
    for name, message in {
        "result.json": "expected a result of format",
        "scores.json": "expected scores of format 'ckaprobe-scores/1' or 'ckaprobe-label-scores/1' or "
        "'ckaprobe-detection-scores/1', found None",
        "recipe.json": "expected a recipe with its stages, found none",
        "study.json": "expected",
    }.items():
        (tmp_path / name[:-5]).mkdir()
        (tmp_path / name[:-5] / name).write_text("[]" if name == "study.json" else "{}")
        with pytest.raises(DataError, match=message):
            report(tmp_path / name[:-5])


@pytest.mark.parametrize(
    ("make", "file", "key"), [(depth_scores, "scores.json", "model"), (attributions, "gradcam.json", "settings")]
)
def test_results_without_what_their_page_shows_are_one_line(tmp_path, make, file, key):
    make(tmp_path)
    document = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps(document | {key: {}}))
    with pytest.raises(DataError, match=f"{file}: expected whole results, found a damaged file"):
        report(tmp_path)


def test_a_file_that_is_not_our_page_is_not_replaced(tmp_path):
    depth_scores(tmp_path)
    index = tmp_path / "index.html"
    index.write_text("<html>by hand</html>")
    error = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert error.exit_code == 2
    assert f"expected a page of ckaprobe or no file at {index}, found another file" in error.stderr
    assert index.read_text() == "<html>by hand</html>"
    first = report(tmp_path, force=True).read_bytes()
    assert report(tmp_path).read_bytes() == first  # a page of ckaprobe is replaced


def test_the_command_prints_path_and_size(tmp_path):
    depth_scores(tmp_path)
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert re.fullmatch(rf"{re.escape(str(tmp_path))}/index\.html  0\.\d\d MB\n", result.stdout)
    error = CliRunner().invoke(app, ["report", str(tmp_path / "none")])
    assert error.exit_code == 2
    assert error.stderr.startswith("ckaprobe: expected a folder of results")
