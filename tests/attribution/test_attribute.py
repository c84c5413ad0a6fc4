"""Maps of checkpoints over images: numbers, saved maps, the panel, errors."""

import numpy as np
import pytest
import torch
import torchvision
from helpers.blocks import NAMES, Blocks, checkpoint
from torch.nn.functional import interpolate

from cka_probe.attribution.alignment import alignment, ceiling, controls, find_boundaries
from cka_probe.attribution.attribute import attribute
from cka_probe.attribution.grad_cam import grad_cam
from cka_probe.attribution.networks import imagenet_names
from cka_probe.attribution.saved_maps import load_maps, panel_of, save_maps
from cka_probe.errors import CkaProbeError, DataError
from cka_probe.images.classes import Classes
from cka_probe.lab.transforms import resized
from cka_probe.models.load import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def small(folder):
    return checkpoint(folder / "small.safetensors", "segmentation", classes=4, network="linear")


@pytest.mark.slow
def test_the_numbers_are_those_of_maps_and_labels_at_the_networks_size(small):
    data = Blocks((60, 90), block=15)
    result, maps_of = attribute({"small": small}, data, num=None, tolerance=2, resamples=50, keep=-1)
    for index, one in enumerate(maps_of["small"]):
        seen = resized({name: data[index][name] for name in ("image", "labels")}, (64, 64))
        maps = grad_cam(small, seen["image"][None], "first")
        boundaries, row = find_boundaries(seen["labels"].numpy(), 2), result.of("small").iloc[index]
        np.testing.assert_allclose(one.heatmap, maps.heatmaps()[0].numpy(), atol=1e-5)
        np.testing.assert_array_equal(one.truth, seen["labels"].numpy())
        np.testing.assert_allclose(one.per_class.sum(0), one.signed, atol=1e-4)
        expected = alignment(one.heatmap, boundaries)
        assert row["ap"] == pytest.approx(expected.ap, nan_ok=True)
        assert row["correlation"] == pytest.approx(expected.correlation, nan_ok=True)
        assert (row["chance"], row["counted"]) == (boundaries.share, boundaries.counted.sum())
        assert row["ceiling"] == pytest.approx(ceiling(one.truth, boundaries, (32, 32)))
        edges = controls(seen["image"].permute(1, 2, 0).numpy(), (32, 32))["edges"]
        assert row["ap_edges"] == pytest.approx(alignment(edges, boundaries).ap)
        signed = interpolate(maps.signed[:, None], (64, 64), mode="bilinear", align_corners=False)[0, 0]
        assert row["ap_signed"] == pytest.approx(alignment(signed.numpy(), boundaries).ap, abs=1e-3)
        assert np.abs(one.before_relu()).max() == pytest.approx(1)
        assert one.of_class(0).max() in (0, 1)


def test_saved_maps_are_read_as_they_were(small, tmp_path):
    _, maps_of = attribute({"small": small}, Blocks(), num=3, keep=-1)
    path = save_maps(maps_of["small"], tmp_path / "small.npz")
    for one, again in zip(maps_of["small"], load_maps(path), strict=True):
        assert one.name == again.name
        for field in ("image", "truth", "heatmap", "signed", "per_class", "prediction"):
            np.testing.assert_array_equal(getattr(one, field), getattr(again, field))
    assert save_maps(load_maps(path), tmp_path / "again.npz").read_bytes() == path.read_bytes()
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"expected maps that `ckaprobe gradcam --keep` wrote at .*, found"):
        load_maps(path)
    with pytest.raises(DataError, match=r"expected maps of one size to save in .*, found 0 sizes"):
        save_maps([], path)


@pytest.mark.slow
def test_the_class_of_a_classifier_is_a_name(folder):
    path = checkpoint(folder / "classes.safetensors", "classification", classes=5)
    result, maps = attribute({"c": path}, Blocks(), target="class", num=2, keep=2)
    assert result.table["predicted"].str.match(r"class \d").all()
    panel = panel_of(result, maps)
    assert panel.predicts == "category"
    assert panel.columns[0].predictions["c"] == result.table["predicted"][0]
    assert result.models["c"]["view"] == "middle"


class Animals(Blocks):
    """Images of two classes."""

    gives = frozenset({"image", "category"})
    classes = Classes(("ant", "bee"))

    def __getitem__(self, index):
        return {"image": super().__getitem__(index)["image"], "category": torch.tensor(index % 2)}


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "bee"), [(2, 1), (1000, 309)])
def test_a_file_of_a_classifier_names_its_own_classes(tmp_path, classes, bee):
    torch.manual_seed(0)
    model, path = torchvision.models.resnet18(num_classes=classes).eval(), tmp_path / "a.pth"
    torch.save(model.state_dict(), path)
    data = Animals((224, 224), num=2)
    result, maps = attribute({"a": path}, data, target="class:bee", keep=2)
    assert result.models["a"]["layer"] == "layer4.1"
    images = load(path).preprocessing.normalise(torch.stack([data.image(index) for index in range(2)]))
    np.testing.assert_allclose(result.table["score"], model(images)[:, bee].detach(), rtol=1e-4, atol=1e-5)
    assert [one.truth for one in maps["a"]] == ["ant", "bee"]
    names = ("ant", "bee") if classes == 2 else imagenet_names()
    assert set(result.table["predicted"]) <= set(names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "class"}, "random: nothing to explain: it is an encoder without a head"),
        ({"target": "none", "layer": "layer9"}, "small: no layer 'layer9'"),
    ],
)
def test_what_cannot_be_explained_is_said_before_an_image_is_read(small, monkeypatch, options, message):
    monkeypatch.setattr(Blocks, "__getitem__", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(CkaProbeError, match=message):
        attribute({"small": small, "random": "random:resnet18"}, Blocks(), **{"layer": "layer1"} | options)


def test_a_class_may_be_given_by_its_name(small):
    by_name, by_number = (
        attribute({"s": small}, Blocks(), target=f"segmentation:{k}", num=2)[0] for k in (NAMES[1], 1)
    )
    np.testing.assert_array_equal(by_name.table["score"], by_number.table["score"])
    assert by_name.settings["target"] == "segmentation:grass"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 0}, "expected num of at least 1, found 0"),
        ({"resamples": 0}, "expected resamples of at least 1, found 0"),
        ({"tolerance": -1}, "expected a tolerance of 0 pixels or more, found -1"),
    ],
)
def test_options_out_of_range_are_errors(small, options, message):
    with pytest.raises(DataError, match=message):
        attribute({"small": small}, Blocks(), **options)


def test_no_checkpoint_is_an_error():
    with pytest.raises(DataError, match="expected at least one checkpoint, found none"):
        attribute({}, Blocks())
