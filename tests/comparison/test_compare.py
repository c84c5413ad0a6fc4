"""A comparison from end to end, and the habits of other tools that bite their users: each a test here."""

import json
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import cka_probe
from cka_probe import Backbone, Fingerprint, SimilarityMatrix, compare, compare_fingerprints, fingerprint
from cka_probe.comparison.compare import fingerprint_each
from cka_probe.comparison.warnings import warnings_for
from cka_probe.errors import (
    CkaProbeError,
    DataError,
    FingerprintError,
    LayerError,
    ModelError,
    OutOfMemoryError,
    UnknownNameError,
)


def small(seed, width=5, bias=0.0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36 * width, 7)
    )
    nn.init.constant_(net[1].bias, bias)
    return net


def random_images(n=32, seed=0):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def u_statistic(k, l):  # noqa: E741
    """Song et al. 2012, eq. 4, over ordered quadruples; float64."""
    quadruples = list(permutations(range(len(k)), 4))
    return sum(k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in quadruples)


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


def test_an_in_place_consumer_does_not_make_two_layers_one():
    net = small(0)
    result = compare(net, net, random_images(), layers=["1", "2"])
    assert result.values[0, 1] < 0.99


def test_no_hook_no_gradient_and_no_mode_is_left_behind():
    x, y = small(0).train(), small(1).eval()
    x[1].eval()
    compare(x, y, random_images(), layers=["1", "4"])
    with pytest.raises(LayerError):
        compare(x, y, random_images(), layers=["1", "nope"])
    assert all(not m._forward_hooks and not m._forward_pre_hooks for net in (x, y) for m in net.modules())
    assert (x.training, x[0].training, x[1].training, y.training) == (True, True, False, False)
    assert all(p.grad is None for net in (x, y) for p in net.parameters())


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


def test_half_precision_models_are_run_in_their_precision():
    result = compare(small(0).half(), small(0), random_images(), layers=["0", "4"])
    np.testing.assert_allclose(result.values.diagonal(), 1, atol=1e-3)


def test_one_forward_pass_when_both_sides_are_the_same_model():
    net, calls = small(0), []
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    result = compare(net, net, random_images(32), layers=["0"], layers_y=["4"], batch=8)
    assert len(calls) == 2 + 4  # two to find the axis of the images, one for each batch
    assert result.values.shape == (1, 1)


def test_every_kind_of_images_gives_the_same_values():
    class Samples(Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return {"image": images[index], "label": 0}

    images, x, y = random_images(20), small(0), small(1)
    expected = compare(x, y, images, layers=["0"], batch=20).values
    for kind in (
        [images],
        iter([images[:9], images[9:]]),
        DataLoader(TensorDataset(images), batch_size=20),
        DataLoader(Samples(), batch_size=20),
        Samples(),
        list(images),
    ):
        np.testing.assert_allclose(compare(x, y, kind, layers=["0"], batch=20).values, expected, atol=1e-9)


def test_bytes_and_floats_give_the_same_result_and_other_ranges_are_refused():
    pixels = torch.randint(0, 256, (16, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x, y = Backbone(small(0), size=8), Backbone(small(1), size=8)
    expected = compare(x, y, pixels / 255.0, layers=["0", "4"])
    for images in (pixels, pixels.permute(0, 2, 3, 1).numpy(), [pixels.permute(0, 2, 3, 1).numpy()]):
        result = compare(x, y, images, layers=["0", "4"])
        np.testing.assert_array_equal(result.values, expected.values)
        assert result.images["hash"] == expected.images["hash"]
    with pytest.raises(DataError, match=r"values in \[0, 1\], found 0 to 255; divide them by 255"):
        compare(x, y, pixels.float(), layers=["0"])
    with pytest.raises(DataError, match="pass normalised=True"):
        compare(x, y, pixels / 127.5 - 1, layers=["0"])


def test_normalised_images_reach_the_models_as_they_are():
    mean, std = (0.5, 0.1, 0.9), (0.2, 2.0, 0.5)
    x, y = (Backbone(small(seed), size=8, mean=mean, std=std) for seed in (0, 1))
    expected = compare(x, y, random_images(), layers=["0", "4"])
    images = x.preprocessing.normalise(random_images())
    result = compare(x, y, images, layers=["0", "4"], normalised=True)
    np.testing.assert_array_equal(result.values, expected.values)
    assert result.settings["normalised"]
    made = fingerprint(x, images, layers=["0", "4"], normalised=True)
    np.testing.assert_array_equal(compare(made, y, images, layers=["0", "4"]).values, expected.values)
    with pytest.raises(FingerprintError, match="made with normalised True, this comparison asks for False"):
        compare(made, y, images, layers=["0"], normalised=False)


def test_grey_and_colour_are_what_the_model_takes():
    torch.manual_seed(0)
    grey = Backbone(nn.Sequential(nn.Conv2d(1, 5, 3), nn.Flatten()), size=8)
    colour = Backbone(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten()), size=8)
    result = compare(grey, colour, random_images(), layers=["0"])
    assert (result.x.preprocessing["mean"], result.x.preprocessing["channels"]) == ([0.0], 1)
    luminance = (random_images() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    same = compare(grey, grey, luminance, layers=["0"])
    np.testing.assert_allclose(fingerprint(grey, random_images(), layers=["0"]).rms, [axis.rms for axis in same.rows])
    repeated = compare(colour, colour, luminance, layers=["0"])
    alike = compare(colour, colour, luminance.expand(-1, 3, -1, -1), layers=["0"])
    assert repeated.rows[0].rms == alike.rows[0].rms
    assert result.columns[0].rms == fingerprint(colour, random_images(), layers=["0"]).rms[0]
    assert result.rows[0].rms == fingerprint(grey, random_images(), layers=["0"]).rms[0]
    assert "x in grey" in " ".join(warnings_for(result))


def test_an_adapter_runs_models_of_dicts_and_several_inputs():
    class Dicts(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.scale = small(0), nn.Identity()

        def forward(self, batch, scale):
            return {"out": self.stem(self.scale(batch["pixels"].permute(0, 3, 1, 2) * scale))}

    def adapter(model, images):
        return model({"pixels": images.permute(0, 2, 3, 1)}, scale=1.0)

    plain = Backbone(small(0), size=8)
    wrapped = Backbone(Dicts(), size=8, forward=adapter)
    result = compare(plain, wrapped, random_images(), layers=["0", "4"], layers_y=["stem.0", "stem.4"])
    np.testing.assert_allclose(result.values.diagonal(), 1, atol=1e-9)


def test_a_size_is_that_of_both_models_where_they_take_it(tmp_path):
    x, y = Backbone(small(0)[:1], size=8), Backbone(small(1)[:1], size=12)
    images = torch.rand(16, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    result = compare(x, y, images, layers=["0"], size="8x10")
    assert result.rows[0].shape == result.columns[0].shape == (5, 6, 8)
    assert result.x.preprocessing["size"] == result.y.preprocessing["size"] == [8, 10]
    assert result.settings["size"] == (8, 10)
    assert (x.preprocessing.size, y.preprocessing.size) == ((8, 8), (12, 12))
    made = fingerprint(x, images, layers=["0"], size=(8, 10)).save(tmp_path / "x.fingerprint")
    np.testing.assert_array_equal(compare(made, y, images, layers=["0"]).values, result.values)
    with pytest.raises(DataError, match=r"Sequential: expected images of a size that the model takes, found 9x9 \(mat"):
        compare(Backbone(small(0), size=8), y, images, layers=["0"], size=9)
    with pytest.raises(DataError, match="expected a size in pixels, as one number or HEIGHTxWIDTH, found '9by9'"):
        compare(x, y, images, layers=["0"], size="9by9")
    with pytest.raises(DataError, match="expected size or normalised, found both"):
        compare(x, y, images, layers=["0"], size=8, normalised=True)


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


@pytest.mark.parametrize("features", ["flatten", "gap", "tokens"])
def test_features(features):
    x = small(0)
    result = compare(x, small(1), random_images(), layers=["0"], features=features)
    assert -1 <= result.low[0, 0] < result.values[0, 0] < result.high[0, 0] <= 1
    assert compare(x, x, random_images(), layers=["0"], features=features).values == pytest.approx(1)


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


def test_bfloat16_changes_little_and_is_recorded():
    exact = compare(small(0), small(1), random_images(64), layers=["0", "4"])
    rough = compare(small(0), small(1), random_images(64), layers=["0", "4"], precision="bfloat16")
    assert 0 < np.abs(exact.values - rough.values).max() < 0.02
    assert rough.settings["precision"] == "bfloat16"


def test_each_side_is_fed_its_own_way_unless_shared():
    net = small(0)
    x = Backbone(net, size=8, mean=(0, 0, 0), std=(1, 1, 1))
    y = Backbone(net, size=8, mean=(0.5, 0.1, 0.9), std=(0.2, 2.0, 0.5))
    own = compare(x, y, random_images(), layers=["4"])
    shared = compare(x, y, random_images(), layers=["4"], preprocess="shared")
    assert own.values[0, 0] < 0.999
    assert shared.values[0, 0] == pytest.approx(1, abs=1e-9)
    assert own.y.preprocessing["std"] == [0.2, 2.0, 0.5]
    assert shared.y.preprocessing == shared.x.preprocessing
    assert (own.settings["preprocess"], shared.settings["preprocess"]) == ("own", "shared")


def test_models_of_different_input_size_see_the_same_images():
    x = Backbone(nn.Sequential(nn.Flatten()), size=16)
    y = Backbone(nn.Sequential(nn.Flatten()), size=8)
    smooth = nn.functional.interpolate(random_images(24), size=32, mode="bicubic").clamp(0, 1)
    assert compare(x, y, smooth, layers=["0"]).values[0, 0] > 0.97


class TokensFirst(nn.Module):
    """A transformer with the layout of PyTorch's default, (tokens, images, channels)."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16)

    def forward(self, x):
        return self.block(self.patches(x).flatten(2).permute(2, 0, 1))


@pytest.mark.parametrize("n", [16, 20])  # as many images as tokens, and more
def test_the_axis_of_the_images_is_found_where_tokens_come_first(n):
    torch.manual_seed(0)
    net, images = TokensFirst().eval(), torch.rand(n, 3, 16, 16)
    with torch.no_grad():
        expected = net(images).transpose(0, 1).flatten(1)
    tokens_first = fingerprint(net, images, layers=["block"])
    flat = fingerprint(nn.Sequential(nn.Identity()), expected, layers=["0"])
    torch.testing.assert_close(tokens_first.grams[0], flat.grams[0], rtol=1e-4, atol=1e-4)
    assert tokens_first.shapes == ((16, 8),)


def test_a_model_that_runs_on_full_batches_only_is_compared_with_a_warning():
    class Full(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 5)

        def forward(self, x):
            return self.linear(x.view(8, 6))

    result = compare(Full(), Full(), torch.randn(16, 6), batch=8)
    assert "The first axis of every layer was taken for the images, unchecked" in result.x.warnings[0]
    assert np.isfinite(result.values).all()


def test_an_exception_of_the_model_is_one_line_with_its_place():
    net = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(5, 2)))
    with pytest.raises(
        ModelError, match=r"the forward pass of Sequential failed in module '1\.0': RuntimeError: mat1"
    ) as e:
        compare(net, net, random_images(), layers=["1"])
    assert "\n" not in str(e.value)


def test_layers_of_a_glob_that_cannot_be_compared_are_warnings_of_the_result():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(6, 5), nn.Linear(6, 5)

        def forward(self, x):
            return self.used(x)

    result = compare(Spare(), Spare(), torch.randn(16, 6), layers="*")
    assert [axis.module for axis in result.rows] == ["used"]
    assert "In x and y: Of '*', 1 layer is left out: never ran (spare)." in warnings_for(result)


def test_a_compiled_model_is_compared_as_the_original():
    net = small(0).eval()
    compiled = torch.compile(net, backend="eager")
    result = compare(net, compiled, random_images(), layers=["0", "4"])
    np.testing.assert_allclose(result.values.diagonal(), 1, atol=1e-9)
    assert [axis.name for axis in result.columns] == ["0", "4"]
    compiled(random_images())  # warm
    named = compare(compiled, net, random_images(), layers=["_orig_mod.4"], layers_y=["4"])
    assert named.values == pytest.approx(1)


def test_token_models_need_nothing_but_layer_names():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(50, 8)
            self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, tokens):
            return self.block(self.embed(tokens)).mean(1)

    torch.manual_seed(0)
    text = torch.randint(0, 50, (24, 10))
    result = compare(Reader(), Reader(), text, layers=["embed", "block.linear1"])
    assert np.isfinite(result.values).all()


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


def test_a_fingerprint_brings_its_settings_and_refuses_others():
    made = fingerprint(small(0), random_images(32), layers=["0"], batch=8)
    with pytest.raises(FingerprintError, match=r"made with batch 8, this comparison asks for 16"):
        compare(made, small(1), random_images(32), layers_y=["0"], batch=16)
    with pytest.raises(LayerError, match=r"no layer '4' in the fingerprint of Sequential; it has 0"):
        compare(made, made, layers="4")


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


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": random_images(3)}, DataError, "at least 4 images, found 3"),
        ({"images": None}, DataError, "a model was given and no images"),
        ({"batch": 3}, DataError, r"at least 4 images, in all and in a batch, found .*batch 3$"),
        ({"features": "flaten"}, UnknownNameError, "no features 'flaten'; did you mean 'flatten'"),
        ({"estimator": "debiased"}, UnknownNameError, "did you mean 'biased' or 'unbiased'"),
        ({"precision": "float16"}, UnknownNameError, "no precision 'float16'"),
        ({"preprocess": "mine"}, UnknownNameError, "no preprocess 'mine'"),
        ({"device": "cuda:99"}, CkaProbeError, "no device 'cuda:99' here"),
        ({"images": 5}, DataError, "expected a folder, dataset, tensor or batches of images, found int"),
        ({"images": [*random_images(4), torch.rand(3, 9, 9)]}, DataError, "the images have different ones"),
    ],
)
def test_bad_input_is_one_line(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        compare(small(0), small(1), **{"images": random_images(), "layers": ["0"]} | arguments)
    assert "\n" not in str(caught.value)


def test_running_out_of_memory_names_a_batch_to_try():
    class Huge(nn.Module):
        def forward(self, x):
            raise torch.OutOfMemoryError("CUDA out of memory")

    net = nn.Sequential(nn.Flatten(), Huge())
    with pytest.raises(OutOfMemoryError, match=r"out of memory with 16 images in a batch; try --batch 8"):
        compare(net, net, random_images(), layers=["1"], batch=16)


def test_the_real_allocators_refusal_is_understood():
    class Huge(nn.Module):
        def forward(self, x):
            return torch.empty(2**50)

    net = nn.Sequential(nn.Flatten(), Huge())
    with pytest.raises(OutOfMemoryError, match="try --batch"):
        compare(net, net, random_images(), layers=["1"])


def test_random_references_are_seeded_and_leave_torchs_generator_alone():
    state = torch.random.get_rng_state()
    a, b, c = (cka_probe.load(name) for name in ("random:resnet18", "random:resnet18:0", "random:resnet18:1"))
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [m.model.state_dict()["layer1.0.conv1.weight"] for m in (a, b, c)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("random:resnet81", "no architecture 'resnet81'; did you mean"),
        ("random:resnet18:x", "expected random:NAME or random:NAME:SEED with a whole number"),
        ("no_such_package.nowhere:make", "no file 'no_such_package.nowhere:make', and no function of that name either"),
        ("cka_probe.load:nope", "no function of that name either"),
        ("os:getcwd", "os:getcwd returned str; expected a torch.nn.Module"),
    ],
)
def test_references_that_mean_no_model(reference, message):
    with pytest.raises(CkaProbeError, match=message):
        cka_probe.load(reference)


def test_a_function_of_the_users_own_makes_a_model():
    backbone = cka_probe.load("timm.models.resnet:resnet18")
    assert backbone.layers[0].name == "maxpool"
    assert backbone.preprocessing.size == (224, 224)


def test_several_models_one_after_another_have_the_fingerprints_of_a_comparison():
    references, images = ["random:resnet18", "random:resnet18:1", "random:resnet18:2"], torch.rand(8, 3, 32, 32)
    steps = []
    options = {"layers": "layer1.0,layer4.1", "batch": 4}
    prints = fingerprint_each(references, images, progress=lambda *step: steps.append(step), **options)
    assert steps[0] == (0, 24)
    assert steps[-1] == (24, 24)
    pair = cka_probe.fingerprints(references[0], references[2], images, **options)
    for side, alone in zip((prints[0], prints[2]), pair, strict=True):
        assert side.side == alone.side
        assert all(torch.equal(one, other) for one, other in zip(side.grams, alone.grams, strict=True))


def test_several_models_may_be_fingerprints_and_what_is_wrong_names_the_model(tmp_path):
    images, options = torch.rand(8, 3, 32, 32), {"layers": "layer1.0", "batch": 4}
    path = fingerprint("random:resnet18", images, **options).save(tmp_path / "stored.fingerprint")
    references = [path, "random:resnet18:1", "random:resnet18:2"]
    prints = fingerprint_each(references, images, layers="layer1.0")  # in batches of 4, as the fingerprint
    assert [side.settings.batch for side in prints] == [4, 4, 4]
    with pytest.raises(LayerError, match=r"random:resnet18:1: no layer 'fc9'"):
        fingerprint_each(references[1:], images, layers="fc9")
    with pytest.raises(LayerError, match=r"no layer 'layer4.1' in the fingerprint of random:resnet18:0"):
        fingerprint_each(references, images, layers="layer4.1")


def test_images_that_change_from_reading_to_reading_are_refused():
    class Augmented(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return torch.rand(3, 32, 32)

    with pytest.raises(DataError, match="same images at every reading, found others for random:resnet18:1"):
        fingerprint_each(["random:resnet18", "random:resnet18:1"], Augmented(), layers="layer1.0")
