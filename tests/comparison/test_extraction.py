"""What reaches the models and what is read from them: images, precision, modes, axes, and errors of a model."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from helpers.comparisons import random_images, small
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from cka_probe import Backbone, compare, compare_fingerprints, fingerprint
from cka_probe.comparison import extraction, model_run
from cka_probe.comparison.warnings import warnings_for
from cka_probe.errors import (
    CkaProbeWarning,
    DataError,
    DeviceError,
    FingerprintError,
    LayerError,
    ModelError,
)
from cka_probe.images.reading import read_pixels


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


def test_half_precision_models_are_run_in_their_precision():
    result = compare(small(0).half(), small(0), random_images(), layers=["0", "4"])
    np.testing.assert_allclose(result.values.diagonal(), 1, atol=1e-3)


def test_one_forward_pass_when_both_sides_are_the_same_model():
    net, calls = small(0), []
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    result = compare(net, net, random_images(32), layers=["0"], layers_y=["4"], batch=8)
    assert len(calls) == 2 + 4  # two to find the axis of the images and how they depend on others, one for each batch
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


def test_bfloat16_changes_little_and_is_recorded():
    exact = compare(small(0), small(1), random_images(64), layers=["0", "4"])
    rough = compare(small(0), small(1), random_images(64), layers=["0", "4"], precision="bfloat16")
    assert 0 < np.abs(exact.values - rough.values).max() < 0.02
    assert rough.settings["precision"] == "bfloat16"


@pytest.mark.parametrize(("flags", "warns"), [("fpu avx2 avx512vl", 1), ("fpu avx512_bf16", 0), ("asimd bf16", 0)])
def test_bfloat16_without_instructions_is_said_to_be_slow(tmp_path, monkeypatch, flags, warns):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr("cka_probe.models.devices.CPU_INFO", tmp_path / "cpuinfo")
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always", CkaProbeWarning)
        fingerprint(small(0), random_images(), layers=["0"])
        assert not messages
        fingerprint(small(0), random_images(), layers=["0"], precision="bfloat16")
    assert len(messages) == warns
    assert all("6 times" in str(warning.message) for warning in messages)


def test_tf32_is_for_the_forward_pass_and_not_for_its_products(monkeypatch):
    with pytest.raises(DeviceError, match="expected a GPU of CUDA that has TF32, found cpu; use --precision float32"):
        fingerprint(small(0), random_images(), layers=["0"], precision="tf32")
    monkeypatch.setattr(extraction, "lacks_tf32", lambda _: False)
    net, modes = small(0), []
    net[0].register_forward_pre_hook(lambda *_: modes.append(torch.get_float32_matmul_precision()))
    product = model_run.anchored_product

    def watched(*arguments, **options):
        modes.append(f"{torch.get_float32_matmul_precision()} in a product")
        return product(*arguments, **options)

    monkeypatch.setattr(model_run, "anchored_product", watched)
    before = torch.get_float32_matmul_precision()
    result = compare(net, net, random_images(), layers=["0"], precision="tf32")
    assert set(modes) == {"high", "highest in a product"}
    assert torch.get_float32_matmul_precision() == before
    assert result.settings["precision"] == result.settings["precision_y"] == "tf32"


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
    x = Backbone(nn.Sequential(nn.Flatten()), size=8)
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


def photographs(folder, count=9):
    """Write images of several sizes to a folder."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(count):
        small_pixels = generator.integers(0, 256, (5, 6, 3), np.uint8)
        Image.fromarray(small_pixels).resize((40 + index, 30), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.mark.parametrize("workers", [0, 1, 5])
def test_the_number_of_readers_changes_no_byte(tmp_path, workers):
    folder = photographs(tmp_path / "images")
    x = Backbone(small(0), size=8)
    expected = fingerprint(x, folder, layers=["1"], batch=4)
    print_ = fingerprint(x, folder, layers=["1"], batch=4, workers=workers)
    assert print_.save(tmp_path / "a").read_bytes() == expected.save(tmp_path / "b").read_bytes()


def test_images_of_eight_bits_are_equal_in_every_form_and_resized_as_such(tmp_path):
    folder = photographs(tmp_path / "images")
    arrays = [read_pixels(path).permute(1, 2, 0).numpy() for path in sorted(folder.iterdir())]
    floats = [torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1) for array in arrays]
    x = Backbone(small(0), size=8)
    forms = arrays, floats, list(map(Image.fromarray, arrays))
    prints = [fingerprint(x, images, layers=["1"], batch=4) for images in forms]
    for print_ in prints[1:]:
        assert print_.images == prints[0].images
        assert all(map(torch.equal, print_.grams, prints[0].grams))
    finer = [image * 0.999 + 0.0003 for image in floats]  # not of 8 bits: resized as floats
    print_ = replace(fingerprint(x, finer, layers=["1"], batch=4), images=prints[0].images)
    similarity = compare_fingerprints(print_, prints[0])
    assert similarity.values[0, 0] == pytest.approx(1.0, abs=1e-3)
    assert compare(x, x, [*arrays[:5], *finer[5:]], layers=["1"], batch=4).values[0, 0] == pytest.approx(1.0)


def test_batch_norms_in_the_convolutions_change_cells_by_rounding_alone(monkeypatch):
    nets = [timm.create_model("resnet10t", num_classes=0) for _ in range(2)]
    images = torch.rand(16, 3, 32, 32)
    layers = ["layer1.0", "layer3.0", "global_pool"]
    folded = compare(*nets, images, layers=layers)
    monkeypatch.setattr("cka_probe.comparison.model_run.find_folds", lambda *_: [])
    plain = compare(*nets, images, layers=layers)
    assert np.abs(folded.values - plain.values).max() <= 1e-5
    assert (folded.values != plain.values).any()
    assert folded.x.hash == plain.x.hash


def test_images_decoded_at_another_size_are_others_and_the_result_says_so(tmp_path):
    for index in range(6):
        grid = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(grid).resize((64, 64)).save(tmp_path / f"{index}.jpg", quality=95)
    net = Backbone(small(0), size=8)
    reduced = fingerprint(net, tmp_path, layers=["0"], decode_size=16)
    full = fingerprint(net, tmp_path, layers=["0"])
    assert reduced.settings.decode_size == 16
    assert not set(reduced.images) & set(full.images)
    with pytest.raises(FingerprintError, match=r"x was made with --decode-size 16, y without --decode-size; recompute"):
        compare_fingerprints(reduced, full)
    result = compare(reduced, net, tmp_path, layers=["0"])
    assert result.settings["decode_size"] == 16
    assert result.values[0, 0] == pytest.approx(1)
    with pytest.raises(DataError, match=r"a decode size of at least 16 \(--decode-size\), found 15"):
        fingerprint(net, tmp_path, layers=["0"], decode_size=15)
    with pytest.raises(DataError, match="a model with an input size"):
        fingerprint(small(0), tmp_path, layers=["0"], decode_size=16)
    with pytest.raises(DataError, match="expected a folder of images for decode_size 16, found Tensor; omit it"):
        fingerprint(net, random_images(), layers=["0"], decode_size=16)


class SimulatedCopies:
    """In place of a stream of copies: a copy has no values before it is received."""

    def __init__(self, device):
        self.device, self.sizes, self.received = device, [], 0

    def copy(self, images):
        self.sizes.append(len(images))
        return torch.zeros_like(images), images

    def receive(self, copy):
        self.received += 1
        return copy[0].copy_(copy[1])


@pytest.mark.parametrize(("forward_batch", "sizes"), [(None, [8] * 4), (16, [8] * 4), (5, [])])
def test_batches_are_copied_ahead_once_for_all_models_where_they_run_whole(monkeypatch, forward_batch, sizes):
    images, nets = random_images(32), [small(0), small(1)]
    expected = compare(*nets, images, batch=8, permutations=0, layers="0,4", forward_batch=forward_batch)
    streams = []
    monkeypatch.setattr(
        extraction, "copy_stream", lambda device: streams.append(SimulatedCopies(device)) or streams[-1]
    )
    result = compare(*nets, images, batch=8, permutations=0, layers="0,4", forward_batch=forward_batch)
    assert (streams[0].sizes, streams[0].received, len(streams)) == (sizes, len(sizes), 1)
    np.testing.assert_array_equal(result.values, expected.values)


def test_an_image_that_fails_while_batches_are_copied_ahead_is_one_error(monkeypatch):
    monkeypatch.setattr(extraction, "copy_stream", SimulatedCopies)
    with pytest.raises(DataError, match="the model has no input size and the images have different ones"):
        fingerprint(small(0), [*random_images(16), torch.rand(3, 9, 9)], layers=["0"], batch=4)
