"""A comparison from end to end: its numbers, undefined layers, fingerprints and files."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.comparisons import random_images, small, u_statistic
from helpers.prints import normal, print_of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cka_probe import Fingerprint, SimilarityMatrix, compare, compare_fingerprints, fingerprint
from cka_probe.errors import FingerprintError, LayerError, UnknownNameError


def test_equal_to_a_float64_brute_force_u_statistic():
    x, y, images = small(0).eval(), small(1).eval(), random_images(12)
    got = compare(x, y, images, layers=["0", "1", "4"], batch=6).values
    x, y, images = x.double(), y.double(), images.double()
    with torch.no_grad():
        features = [[net[: i + 1](images).flatten(1).numpy() for i in (0, 1)] + [net(images).numpy()] for net in (x, y)]
    # in-place ReLU: what "1" put out is read before it is overwritten
    sums = np.zeros((3, 3, 3))
    for rows in (slice(0, 6), slice(6, 12)):
        for i, a in enumerate(features[0]):
            for j, b in enumerate(features[1]):
                k, l = a[rows] @ a[rows].T, b[rows] @ b[rows].T  # noqa: E741
                sums[:, i, j] += u_statistic(k, l), u_statistic(k, k), u_statistic(l, l)
    np.testing.assert_allclose(got, sums[0] / np.sqrt(sums[1] * sums[2]), atol=1e-6)


def test_labels_belong_to_the_layers_asked_for_in_that_order():
    x, y = small(0), small(1)
    result = compare(x, y, random_images(), layers=["4", "0"], layers_y="1,4")
    assert [axis.module for axis in result.rows] == ["4", "0"]
    assert [axis.module for axis in result.columns] == ["1", "4"]
    other = compare(x, y, random_images(), layers=["0", "4"], layers_y=["4", "1"])
    np.testing.assert_allclose(result.values, other.values[::-1, ::-1], atol=1e-12)


def test_renaming_a_layer_changes_nothing():
    class Renamed(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.stem, self.rest = net[0], net[1:]

        def forward(self, x):
            return self.rest(self.stem(x))

    net = small(0)
    plain = compare(net, small(1), random_images(), layers=["0"])
    renamed = compare(Renamed(net), small(1), random_images(), layers=["stem"], layers_y=["0"])
    np.testing.assert_array_equal(plain.values, renamed.values)


def test_a_shuffled_loader_shows_both_sides_the_same_images():
    loader = DataLoader(TensorDataset(random_images(48), torch.arange(48)), batch_size=12, shuffle=True)
    net, twin = small(0), small(0)
    result = compare(net, twin, loader, layers=["0", "4"])
    np.testing.assert_allclose(result.values.diagonal(), 1, atol=1e-9)
    assert result.num_examples == 48


def test_a_small_last_batch_joins_the_one_before():
    result = compare(small(0), small(1), random_images(35), layers=["0"], batch=16)
    assert result.terms["weights"].tolist() == [16, 19]
    result = compare(small(0), small(1), random_images(36), layers=["0"], batch=16)
    assert result.terms["weights"].tolist() == [16, 16, 4]


def test_the_terms_add_up_to_the_values():
    result = compare(small(0), small(1), random_images(40), layers=["0", "4"], batch=8)
    xy, xx, yy = (np.tensordot(result.terms["weights"], result.terms[name], axes=1) for name in ("xy", "xx", "yy"))
    np.testing.assert_allclose(xy / np.sqrt(np.outer(xx, yy)), result.values, rtol=1e-12)
    assert (result.low <= result.values).all()
    assert (result.settings["batch"], result.num_examples) == (8, 40)
    assert (result.values <= result.high).all()


def test_a_layer_that_does_not_vary_is_undefined_and_named():
    x = small(0)
    nn.init.zeros_(x[4].weight)
    result = compare(x, small(1), random_images(), layers=["0", "4"])
    assert np.isnan(result.values[1]).all()
    assert np.isnan(result.low[1]).all()
    assert np.isnan(result.p_values[1]).all()
    assert np.isfinite(result.values[0]).all()
    assert result.undefined == ("x 4: it is the same for every image",)
    nn.init.zeros_(x[4].bias)
    assert "exactly 0 for every image" in compare(x, x, random_images(), layers=["4"]).undefined[0]


def test_nan_activations_are_named_and_stay_in_their_row():
    x = small(0)
    x[4].weight.data[0, 0] = torch.nan
    result = compare(x, small(1), random_images(), layers=["0", "4"])
    assert result.undefined == ("x 4: it puts out NaN or infinite values",)
    assert np.isnan(result.values[1]).all()
    assert np.isfinite(result.values[0]).all()


@pytest.mark.parametrize("measure", ["cka", "rsa", "mutual_knn", "procrustes"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.nan, "it puts out NaN or infinite values"),
        (torch.inf, "it puts out NaN or infinite values"),
        (None, "it is the same for every image of a batch"),
    ],
)
def test_a_layer_that_is_undefined_in_one_batch_is_undefined_by_every_measure(measure, value, reason):
    x = torch.randn(48, 12, generator=torch.Generator().manual_seed(0))
    x[16:32] = x[16] if value is None else x[16:32]
    x[20, 0] = x[20, 0] if value is None else value
    nets = [nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 12)) for _ in range(2)]
    result = compare(*nets, x, layers="0", batch=16, measure=measure, permutations=5)
    for name in ("values", "low", "high", "null", "p_values"):
        assert np.isnan(getattr(result, name)).all()
    assert result.undefined == (f"x 0: {reason}", f"y 0: {reason}")


@pytest.mark.parametrize("factor", [1e-30, 1e-22, 1e20])
def test_no_number_of_a_result_depends_on_the_scale_of_a_layer(factor):
    class Scaled(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor, self.out = factor, nn.Identity()

        def forward(self, x):
            return self.out(self.factor * x.square())

    x = torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    linear = nn.Sequential(nn.Linear(12, 12, dtype=torch.float32))
    plain, scaled = (compare(Scaled(f), linear, x, layers="out", layers_y="0", batch=20) for f in (1.0, factor))
    for name in ("values", "low", "high", "null", "p_values"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(plain, name), atol=1e-6)
    assert scaled.undefined == ()


@pytest.mark.parametrize("features", ["flatten", "gap", "tokens", "tokens:3"])
def test_features(features):
    x = small(0)
    result = compare(x, small(1), random_images(), layers=["0"], features=features)
    assert -1 <= result.low[0, 0] < result.values[0, 0] < result.high[0, 0] <= 1
    assert compare(x, x, random_images(), layers=["0"], features=features).values == pytest.approx(1)


def test_tokens_are_the_means_of_the_cells_of_a_grid():
    x, y, images = small(0).eval(), small(1).eval(), random_images()
    with torch.no_grad():
        cells = [F.adaptive_avg_pool2d(net[0](images), 3).flatten(2).mT.flatten(0, 1).double() for net in (x, y)]
    result = compare(x, y, images, layers=["0"], features="tokens:3", batch=len(images))
    assert result.values[0, 0] == pytest.approx(compare(*cells, batch=len(cells[0])).values[0, 0], abs=1e-6)


def test_a_grid_finer_than_a_layer_is_an_error():
    with pytest.raises(LayerError, match="found 6x6; use --features tokens:6"):
        compare(small(0), small(1), random_images(), layers=["0"], features="tokens:7")
    with pytest.raises(UnknownNameError, match="tokens:0"):
        compare(small(0), small(1), random_images(), layers=["0"], features="tokens:0")


def test_gap_does_not_see_positions_and_flatten_does():
    class Rolled(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net, self.roll = net[0], nn.Identity()

        def forward(self, x):
            y = self.net(x)
            turns = torch.arange(len(y))
            return self.roll(torch.stack([torch.roll(a, int(t), dims=-1) for a, t in zip(y, turns, strict=True)]))

    net = small(0)
    for features, expected in (("gap", True), ("flatten", False)):
        result = compare(net, Rolled(net), random_images(64), layers=["0"], layers_y=["roll"], features=features)
        assert (result.values[0, 0] > 0.999) == expected


def test_fingerprints_give_what_the_models_give_without_them(tmp_path):
    x, y = small(0), small(1)
    live = compare(x, y, random_images(40), layers=["0", "4"], batch=8)
    paths = [
        fingerprint(net, random_images(40), layers=["0", "4"], batch=8).save(tmp_path / f"{index}.fingerprint")
        for index, net in enumerate((x, y))
    ]
    stored = compare(*paths)
    for name in ("values", "low", "high", "null", "p_values"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(live, name))
    mixed = compare(paths[0], y, random_images(40), layers_y=["0", "4"])
    np.testing.assert_array_equal(mixed.values, live.values)
    np.testing.assert_allclose(compare(*paths, layers="4").values, live.values[1:, 1:], atol=1e-12)


def test_fingerprint_files_are_small_and_the_same_twice(tmp_path):
    made = fingerprint(small(0), random_images(64), layers=["0", "4"], batch=32)
    first, second = (made.save(tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second
    loaded = Fingerprint.load(tmp_path / "a")
    assert all(torch.equal(a, b) for a, b in zip(loaded.grams, made.grams, strict=True))
    assert (loaded.layers, loaded.side, loaded.images) == (made.layers, made.side, made.images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": random_images(32, seed=5)}, r"are of different images: 32 from .* and 32 from .*, 0 in common"),
        ({"images": random_images(32).flip(0)}, r"32 in common, in another order"),
        ({"batch": 16}, r"of different batches, of 8 and of 16; recompute one of them with the other's --batch"),
        ({"features": "gap"}, r"x was made with --features flatten, y with gap"),
    ],
)
def test_fingerprints_of_different_images_are_refused(change, message):
    settings = {"images": random_images(32), "layers": ["0"], "batch": 8}
    prints = [fingerprint(small(0), **arguments) for arguments in (settings, settings | change)]
    with pytest.raises(FingerprintError, match=message):
        compare_fingerprints(*prints)


def test_results_survive_a_file_and_are_the_same_twice(tmp_path):
    x = small(0)
    nn.init.zeros_(x[4].weight)
    result = compare(x, small(1), random_images(), layers=["0", "4"])
    again = compare(x, small(1), random_images(), layers=["0", "4"])
    assert result.save(tmp_path / "a.json").read_bytes() == again.save(tmp_path / "b.json").read_bytes()
    loaded = SimilarityMatrix.load(tmp_path / "a.json")
    assert loaded.save(tmp_path / "c.json").read_bytes() == (tmp_path / "a.json").read_bytes()
    np.testing.assert_array_equal(loaded.values, result.values)
    document = json.loads((tmp_path / "a.json").read_text())
    assert {"values", "low", "high", "null", "rows", "columns", "terms", "num_examples"} <= set(document)
    assert document["values"][1] == [None, None]
    result.save(tmp_path / "a.csv")
    frame = result.to_frame()
    assert (tmp_path / "a.csv").read_text().count("\n") == len(frame) + 1 == 5
    assert frame.query("index_x == 0 and index_y == 1").value.item() == result.values[0, 1]


@pytest.mark.parametrize("measure", ["rsa", "rsa_pearson", "rbf_cka", "distance_correlation"])
def test_a_layer_that_a_measure_is_undefined_for_has_a_reason(measure):
    """The corners of a simplex are all equally far apart."""
    x, y = print_of([torch.eye(8).double(), normal(8, 3)], 8), print_of([normal(8, 3, seed=1)], 8)
    result = compare_fingerprints(x, y, measure=measure, permutations=3)
    np.testing.assert_array_equal(np.isnan(result.values[:, 0]), [True, False])
    assert "equally far apart" in result.rows[0].undefined
    assert not result.rows[1].undefined
