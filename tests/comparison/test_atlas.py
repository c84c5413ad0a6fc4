"""Several models: every pair is the comparison of the two, and the matrix of models has one rule for all."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from cka_probe import SimilarityMatrix, compare, compare_many, fingerprint
from cka_probe.comparison.atlas import Atlas, atlas_of
from cka_probe.comparison.compare import compare_all, compare_fingerprints
from cka_probe.comparison.correspondence import BEST_MATCH, DIAGONAL, PairsOfModels, match_shares
from cka_probe.comparison.results import MATRICES
from cka_probe.comparison.warnings import atlas_warnings
from cka_probe.errors import DataError, FingerprintError
from cka_probe.plotting.labels import model_names
from cka_probe.report import page_of
from cka_probe.similarity import ESTIMATORS, centre_batches, choose_measure, hsic_terms, influences, mean_interval
from cka_probe.similarity.resampling import resample_counts


def network(seed, depth=3):
    torch.manual_seed(seed)
    return nn.Sequential(*(layer for _ in range(depth) for layer in (nn.Linear(8, 8), nn.Tanh())))


def features(n=40):
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(9))


OPTIONS = {"batch": 20, "permutations": 10}


@pytest.fixture(scope="module")
def atlas():
    return compare_many({f"step_{seed}": network(seed) for seed in range(4)}, features(), layers="1,3,5", **OPTIONS)


def test_every_pair_is_the_comparison_of_the_two(atlas, tmp_path):
    assert list(atlas.results) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    pair = compare(network(1), network(3), features(), layers="1,3,5", **OPTIONS)
    many = atlas.result(3, 1)
    named = replace(pair, x=replace(pair.x, name="step_1"), y=replace(pair.y, name="step_3"))
    for name in MATRICES:  # sums in another order
        np.testing.assert_allclose(getattr(many, name), getattr(named, name), atol=1e-6 if name == "null" else 1e-12)
    numbers = {name: getattr(named, name) for name in (*MATRICES, "terms", "family")}
    replace(many, **numbers).save(tmp_path / "of_many.json")
    named.save(tmp_path / "of_two.json")
    assert (tmp_path / "of_many.json").read_bytes() == (tmp_path / "of_two.json").read_bytes()


def test_models_of_any_number_of_layers_are_compared_in_one_product():
    prints = [fingerprint(network(seed, depth), features(), batch=20) for seed, depth in enumerate((2, 4, 1, 3))]
    for (i, j), result in compare_all(prints, permutations=10):
        pair = compare_fingerprints(prints[i], prints[j], permutations=10)
        assert result.values.shape == (len(prints[i].layers), len(prints[j].layers))
        for name in MATRICES:
            np.testing.assert_allclose(
                getattr(result, name), getattr(pair, name), atol=1e-6 if name == "null" else 1e-12
            )


@pytest.mark.parametrize(("n", "options"), [(30, {"batch": 20}), (40, {"batch": 10}), (40, {"features": "gap"})])
def test_fingerprints_of_other_images_batches_or_features_are_refused_before_any_product(n, options):
    prints = [fingerprint(network(0), features(), batch=20), fingerprint(network(1), features(n), **options)]
    with pytest.raises(FingerprintError):
        next(compare_all(prints, permutations=0))


def test_names_of_models_are_those_of_a_pair_and_of_its_page(atlas, tmp_path):
    folder = tmp_path / "models"
    atlas.save_folder(folder)
    pair = SimilarityMatrix.load(folder / "pairs" / "1-3" / "result.json")
    assert model_names(pair, 20) == ("step_1", "step_3")
    assert "x  step_1: Sequential (Sequential)" in pair.summary()
    page = page_of(folder / "pairs" / "1-3")
    assert page.title == "step_1 and step_3, layer by layer"


def test_models_of_the_same_layers_are_compared_by_the_mean_of_the_diagonal(atlas):
    assert atlas.rule == DIAGONAL
    assert atlas.layers == (("1", "3", "5"),) * 4
    for (i, j), result in atlas.results.items():
        mean = result.values.diagonal().mean()
        assert atlas.values[i, j] == atlas.values[j, i] == pytest.approx(mean)
        assert atlas.low[i, j] < mean < atlas.high[i, j]
        widths = (result.high - result.low).diagonal()
        assert atlas.high[i, j] - atlas.low[i, j] <= widths.mean() * 1.01  # noise that is not shared averages out
    assert np.isnan(atlas.values.diagonal()).all()


def test_models_of_different_layers_are_all_compared_by_best_matches():
    models = {"short": network(0, 2), "long": network(1, 4), "other": network(2, 4)}
    atlas = compare_many(models, features(), layers="*", **OPTIONS)
    assert atlas.rule == BEST_MATCH
    assert atlas.results[0, 1].values.shape == (4, 8)
    for (i, j), result in atlas.results.items():
        means = result.values.max(axis=1).mean(), result.values.max(axis=0).mean()
        assert atlas.values[i, j] == pytest.approx(sum(means) / 2)
    assert not len(atlas.curves)
    assert any("slightly too high" in warning for warning in atlas_warnings(atlas))


def test_best_matches_weigh_both_models_alike():
    values = np.random.default_rng(0).random((3, 5))
    shares = match_shares(values, np.array([True, True, False]), np.array([True] * 4 + [False]))
    assert shares.sum() == pytest.approx(1)
    assert shares[:2].sum(axis=1).min() >= 0.25 - 1e-9  # each of two rows has its best match
    assert not shares[2].any()
    assert not shares[:, 4].any()


def test_a_layer_that_is_undefined_in_one_model_is_in_no_mean():
    dead = network(1)
    nn.init.zeros_(dead[2].weight)
    nn.init.zeros_(dead[2].bias)
    models = {"dead": dead, "b": network(2), "c": network(3)}
    atlas = compare_many(models, features(), layers="1,3,5", **OPTIONS)
    assert atlas.layers == (("1",),) * 3
    assert atlas.values[1, 2] == pytest.approx(atlas.results[1, 2].values[0, 0])
    warnings = atlas_warnings(atlas)
    assert warnings[0].startswith("dead: 1 of 3 layers has no similarity (3). Why: it is exactly 0")
    assert warnings[1].startswith("dead: 1 of 3 layers has no similarity (5). Why: it is the same for every image")
    assert "The mean of each pair is over the 1 of 3 layers that are defined in all models." in warnings


def test_curves_have_each_layer_against_the_first_and_the_previous_model(atlas):
    curves = atlas.curves
    assert len(curves) == 3 * 3
    row = curves[(curves["model"] == "step_3") & (curves["layer"] == "5")].iloc[0]
    assert row["first_value"] == atlas.results[0, 3].values[2, 2]
    assert row["previous_value"] == atlas.results[2, 3].values[2, 2]
    assert row["previous_low"] == atlas.results[2, 3].low[2, 2]
    assert curves["step"].tolist() == [1] * 3 + [2] * 3 + [3] * 3
    assert curves["last_value"].iloc[0] == atlas.results[1, 3].values[0, 0]
    assert curves["last_value"].tail(3).isna().all()


def test_a_layer_settles_where_it_stays_similar_to_its_last_state(atlas):
    row = np.array([[0.95, 0.2, 0.92], [0.5, 0.91, 0.95], [0.1, 0.95, np.nan]])  # layer by checkpoint, to the last one
    results = dict(atlas.results)
    for model in range(3):
        results[model, 3] = replace(results[model, 3], values=np.diag(row[:, model]))
    settling = replace(atlas, results=results).settling
    assert settling["step"].tolist() == [2, 1, pd.NA]
    assert settling["value"].tolist()[:2] == [0.92, 0.91]
    assert not len(replace(atlas, names=("a", "b", "c", "d")).settling)


def test_models_are_points_at_their_distances_with_ellipses(atlas):
    assert len(atlas.embeddings) == 1 + 3
    whole = atlas.embeddings[0]
    apart = np.linalg.norm(whole.points[:, None] - whole.points, axis=-1)
    distances = np.sqrt(2 * (1 - np.nan_to_num(atlas.values, nan=1)))
    assert (apart <= distances + 1e-9).all()  # a projection onto two axes
    assert (np.linalg.eigvalsh(whole.covariances) > 0).all()
    np.testing.assert_allclose(atlas.at_depth(2)[0][0, 1:], [atlas.results[0, j].values[2, 2] for j in (1, 2, 3)])


def test_models_of_other_depths_are_aligned_from_their_first_to_their_last_layer():
    models = {"short": network(0, 1), "long": network(1, 3), "other": network(2, 3)}
    atlas = compare_many(models, features(), layers="*", **OPTIONS)
    assert atlas.depths.T.tolist() == [[0, 0, 0, 1, 1, 1], list(range(6)), list(range(6))]
    assert atlas.depth_name(5) == "depth 1.00"
    values, low, high = atlas.at_depth(5)
    assert values[0, 2] == values[2, 0] == atlas.results[0, 2].values[1, 5]
    assert low[0, 2] < values[0, 2] < high[0, 2]
    assert len(atlas.embeddings) == 7


def test_the_deviations_of_resamples_are_as_wide_as_the_intervals():
    prints = [fingerprint(network(seed), features(200), layers="1,3", batch=50) for seed in range(3)]
    results = dict(compare_all(prints, permutations=0))
    pairs = PairsOfModels(prints, results, choose_measure("cka", "unbiased"), ESTIMATORS["unbiased"], resamples=2000)
    _, low, high = pairs.means()
    mean, *depths = pairs.deviations()
    for deviations, half in (
        (mean, (high - low)[0, 1] / 2),
        (depths[1], (results[0, 1].high - results[0, 1].low)[1, 1] / 2),
    ):
        assert half / 1.96 * 0.93 < deviations[:, 0, 1].std() < half / 1.96 * 1.5


@pytest.mark.parametrize("deep", [(2, 2, 2), (1, 3, 2)])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("form", ["flatten", "tokens:2"])
def test_the_noise_of_some_cells_is_that_of_the_whole_matrix(deep, estimator, form):
    images = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    nets = [nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(depth))) for depth in deep]
    prints = [fingerprint(net, images, batch=20, size=4, features=form, layers="*") for net in nets]
    results, hsic = dict(compare_all(prints, permutations=0, estimator=estimator)), ESTIMATORS[estimator]
    pairs = PairsOfModels(prints, results, choose_measure("cka", estimator), hsic, resamples=20)
    _, low, _ = pairs.means()
    _, _, depth, *_ = pairs.deviations()
    counts = np.concatenate(list(resample_counts(40, 20, prints[0].settings.seed))) - 1
    per_image = len(prints[0].grams[0][0]) // 20
    for (i, j), result in results.items():
        shares = torch.from_numpy(pairs._shares((i, j)))
        half = mean_interval(prints[i].grams, prints[j].grams, shares, pairs.measure, hsic, per_image)
        mean = float((shares.numpy() * result.values).sum())
        assert low[i, j] == pytest.approx(max(-1, mean - half), abs=1e-12)
        x, y = (centre_batches(prints[model].grams, hsic) for model in (i, j))
        influence = influences(x, y, hsic_terms(x, y, hsic, per_image), hsic, per_image)
        cell = influence[:, pairs.depths[1, i], pairs.depths[1, j]].numpy()
        np.testing.assert_allclose(depth[:, i, j], counts @ cell, rtol=1e-5, atol=1e-6)


def test_a_folder_is_read_as_it_was_written(atlas, tmp_path):
    paths = atlas.save_folder(tmp_path / "one")
    again = Atlas.load(tmp_path / "one")
    again.save_folder(tmp_path / "two")
    for path in paths:
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
    assert Atlas.load(tmp_path / "one" / "atlas.json").names == atlas.names
    table = pd.read_csv(tmp_path / "one" / "pairs.csv")
    assert table["x"].tolist() == ["step_0", "step_0", "step_0", "step_1", "step_1", "step_2"]
    assert table["value"].tolist() == pytest.approx([atlas.values[pair] for pair in atlas.results])
    assert "time" not in json.loads((tmp_path / "one" / "atlas.json").read_text())


def test_a_pair_of_other_models_is_refused(atlas, tmp_path):
    atlas.save_folder(tmp_path)
    shutil.copytree(tmp_path / "pairs" / "0-1", tmp_path / "pairs" / "1-2", dirs_exist_ok=True)
    with pytest.raises(DataError, match=r"1-2/result.json is of other models"):
        Atlas.load(tmp_path)
    shutil.rmtree(tmp_path / "pairs" / "2-3")
    shutil.rmtree(tmp_path / "pairs" / "1-2")
    with pytest.raises(DataError, match=r"pairs/1-2/result.json, found nothing"):
        Atlas.load(tmp_path)


@pytest.mark.parametrize("changes", [{"rule": "middle"}, {"rule": []}, {"layers": [["0"]]}, {"names": ["a", "b"]}])
def test_a_damaged_atlas_is_refused(atlas, tmp_path, changes):
    atlas.save_folder(tmp_path)
    path = tmp_path / "atlas.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(DataError, match=r"atlas.json: expected .*, found a damaged file"):
        Atlas.load(tmp_path)


@pytest.mark.parametrize("inputs", [{"size": [[]]}, {"mean": 0.5}, {"std": ["a"]}, {"mean": None}])
def test_a_comparison_whose_preprocessing_is_damaged_is_refused(atlas, tmp_path, inputs):
    path = atlas.first.save(tmp_path / "result.json")
    document = json.loads(path.read_text())
    document["x"]["preprocessing"] |= inputs
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"result.json: expected .*, found a damaged file"):
        SimilarityMatrix.load(path)


def test_another_measure_has_intervals_too():
    atlas = compare_many(
        [network(seed) for seed in range(3)], features(24), layers="1,3", measure="rsa", permutations=0
    )
    assert atlas.names == ("Sequential (0)", "Sequential (1)", "Sequential (2)")
    assert (atlas.low[0, 1:] < atlas.values[0, 1:]).all()
    assert atlas.summary().startswith("0  Sequential (0)")


def test_what_cannot_be_compared_is_refused_in_one_line():
    with pytest.raises(DataError, match="at least two models to compare, found 1"):
        compare_many([network(0)], features(), layers="1")
    one = fingerprint(network(0), features(), layers="1")
    other = fingerprint(network(1), features() + 1, layers="1")
    with pytest.raises(FingerprintError, match=r"^a \(x\) and c \(y\): the fingerprints are of different images"):
        atlas_of([one, one, other], names=["a", "b", "c"], permutations=0)
    with pytest.raises(DataError, match="a different name for each of 2 models, found a, a"):
        atlas_of([one, one], names=["a", "a"])
    with pytest.raises(DataError, match="two different models of 0 to 1, found 1 and 1"):
        atlas_of([one, one], permutations=0).result(1, 1)


def test_progress_is_a_bar_or_a_callback(capsys):
    nets = {str(width): torch.nn.Sequential(torch.nn.Linear(6, width)) for width in (3, 4)}
    compare_many(nets, torch.randn(8, 6), layers="0", permutations=0, progress=True)
    assert "8/8" in capsys.readouterr().err
