"""`ckaprobe gradcam` from checkpoints to numbers and figure: labels, depth, classes, nothing; sizes, files, errors."""

import numpy as np
import pytest
import torch
from helpers.blocks import NAMES, Blocks
from PIL import Image
from torch import nn
from torch.nn.functional import interpolate
from typer.testing import CliRunner

from cka_probe import registry
from cka_probe.attribution.alignment import alignment, boundaries, ceiling, controls
from cka_probe.attribution.attributions import UNLABELLED, Attributions
from cka_probe.attribution.grad_cam import grad_cam
from cka_probe.attribution.over_images import Rules, attribute
from cka_probe.attribution.saved_maps import load_maps, panel_of, save_maps
from cka_probe.errors import DataError
from cka_probe.images.datasets import DATASETS
from cka_probe.lab.tasks import TASKS
from cka_probe.lab.transforms import resized
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Origin
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint
from ckaprobe_cli import app


def checkpoint(path, task, size=64, seed=0, **options):
    """A network that was never trained, of a seed, as a file."""
    torch.manual_seed(seed)
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=size), size=size, origin=Origin("", "resnet18"))
    head = registry.get(TASKS, task, "task")((size, size), **options).head(backbone)
    for weight in head.parameters():
        nn.init.normal_(weight, std=0.2)
    header = Checkpoint(
        "resnet18", {"size": size}, (0.4,) * 3, (0.2,) * 3, stage="made", task=task, task_options=options
    )
    save_checkpoint(path, backbone, head, header)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def small(folder):
    return checkpoint(folder / "small.safetensors", "segmentation", classes=4, network="linear")


@pytest.fixture(scope="module")
def large(folder):
    return checkpoint(folder / "large.safetensors", "segmentation", 96, seed=1, classes=4, network="linear")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    place = tmp_path_factory.mktemp("images")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"p{number}.png")
    return place


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.setitem(DATASETS, "blocks", lambda path, split="all": Blocks((60, 90), block=15))
    return "blocks:x"


def run(*words):
    return CliRunner().invoke(app, ["gradcam", *map(str, words), "--device", "cpu"])


@pytest.mark.slow
def test_the_command_writes_numbers_maps_and_the_figure(small, large, blocks, tmp_path):
    done = run(small, large, "--data", blocks, "--out", tmp_path, "--num", 4, "--draw", 2, "--keep", "--signed",
               "--classes", "grass")  # fmt: skip
    assert done.exit_code == 0, done.output
    names = ("gradcam.json", "gradcam.csv", "maps/small.npz", "maps/large.npz", "gradcam.png", "gradcam.pdf")
    assert done.stdout.splitlines()[-6:] == [str(tmp_path / name) for name in names]
    assert all((tmp_path / name).stat().st_size for name in names)
    found = Attributions.load(tmp_path / "gradcam.json")
    assert found.summary() in done.stdout
    assert list(found.models) == ["small", "large"]
    assert [found.models[name]["size"] for name in found.models] == [[64, 64], [96, 96]]
    assert found.models["small"]["layer_size"] == [32, 32]
    assert (found.of("large")["counted"] > 1.8 * found.of("small")["counted"]).all()  # labels are at each one's size
    assert len(found.images) == 4
    again = run(small, large, "--data", blocks, "--out", tmp_path / "b", "--num", 4, "--draw", 0)
    assert again.exit_code == 0
    assert (tmp_path / "b" / "gradcam.json").read_bytes() == (tmp_path / "gradcam.json").read_bytes()
    assert not (tmp_path / "b" / "gradcam.png").exists()


def test_the_numbers_are_those_of_maps_and_labels_at_the_networks_size(small, blocks):
    data = Blocks((60, 90), block=15)
    found, held = attribute({"small": small}, data, rules=Rules(num=None, tolerance=2, resamples=50), hold=-1)
    for index, one in enumerate(held["small"]):
        seen = resized({name: data[index][name] for name in ("image", "labels")}, (64, 64))
        maps = grad_cam(small, seen["image"][None], "first")
        of, row = boundaries(seen["labels"].numpy(), 2), found.of("small").iloc[index]
        np.testing.assert_allclose(one.shown, maps.shown()[0].numpy(), atol=1e-5)
        np.testing.assert_array_equal(one.truth, seen["labels"].numpy())
        np.testing.assert_allclose(one.per_class.sum(0), one.signed, atol=1e-4)
        expected = alignment(one.shown, of)
        assert row["ap"] == pytest.approx(expected.ap, nan_ok=True)
        assert row["correlation"] == pytest.approx(expected.correlation, nan_ok=True)
        assert (row["chance"], row["counted"]) == (of.share, of.counted.sum())
        assert row["ceiling"] == pytest.approx(ceiling(one.truth, of, (32, 32)))
        edges = controls(seen["image"].permute(1, 2, 0).numpy(), (32, 32))["edges"]
        assert row["ap_edges"] == pytest.approx(alignment(edges, of).ap)
        signed = interpolate(maps.signed[:, None], (64, 64), mode="bilinear", align_corners=False)[0, 0]
        assert row["ap_signed"] == pytest.approx(alignment(signed.numpy(), of).ap, abs=1e-3)
        assert np.abs(one.before_relu()).max() == pytest.approx(1)
        assert one.of_class(0).max() in (0, 1)


def test_kept_maps_are_read_as_they_were(small, blocks, tmp_path):
    _, held = attribute({"small": small}, Blocks(), rules=Rules(num=3), hold=-1)
    path = save_maps(held["small"], tmp_path / "small.npz")
    for one, again in zip(held["small"], load_maps(path), strict=True):
        assert one.name == again.name
        for field in ("image", "truth", "shown", "signed", "per_class", "prediction"):
            np.testing.assert_array_equal(getattr(one, field), getattr(again, field))
    assert save_maps(load_maps(path), tmp_path / "again.npz").read_bytes() == path.read_bytes()
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"expected maps that `ckaprobe gradcam --keep` wrote at .*, found"):
        load_maps(path)
    with pytest.raises(DataError, match=r"expected maps of one size to keep in .*, found 0 sizes"):
        save_maps([], path)


@pytest.mark.slow
def test_a_folder_of_images_has_maps_and_no_alignment(small, images, tmp_path):
    done = run(small, "--data", images, "--out", tmp_path, "--num", 0)
    assert done.exit_code == 0, done.output
    assert f"No alignment with label boundaries: {UNLABELLED}." in done.stdout
    found = Attributions.load(tmp_path / "gradcam.json")
    assert found.table["ap"].isna().all()
    assert len(found.images) == 3
    assert (tmp_path / "gradcam.png").exists()


@pytest.mark.slow
def test_an_encoder_without_head_has_the_strength_of_its_activation(images, tmp_path):
    models = ("random:resnet18", "random:resnet18:1")
    done = run(*models, "--data", images, "--out", tmp_path, "--target", "none", "--names", "a,b", "--layer", "layer1")
    assert done.exit_code == 0, done.output
    found = Attributions.load(tmp_path / "gradcam.json")
    assert found.table["score"].isna().all()
    assert not found.table["zero"].any()
    assert found.models["b"]["layer"] == "layer1"
    assert found.models["a"]["hash"] != found.models["b"]["hash"]


@pytest.mark.slow
def test_depth_is_drawn_beside_its_maps(folder, images, tmp_path):
    path = checkpoint(folder / "lidar.safetensors", "lidar")
    done = run(path, "--data", images, "--out", tmp_path, "--target", "depth")
    assert done.exit_code == 0, done.output
    assert (Attributions.load(tmp_path / "gradcam.json").table["score"] > 0).all()


def test_a_classifiers_class_is_said_in_words(folder, images, tmp_path):
    path = checkpoint(folder / "classes.safetensors", "classification", classes=5)
    result, held = attribute({"c": path}, str(images), target="class", rules=Rules(num=2), hold=2)
    assert result.table["predicted"].str.match(r"class \d").all()
    panel = panel_of(result, held)
    assert panel.predicts == "category"
    assert panel.columns[0].predictions["c"] == result.table["predicted"][0]
    assert result.models["c"]["view"] == "middle"


def test_a_class_may_be_said_by_its_name(small, blocks, tmp_path):
    by_name, by_number = (
        attribute({"s": small}, Blocks(), target=f"segmentation:{k}", rules=Rules(num=2))[0] for k in (NAMES[1], 1)
    )
    np.testing.assert_array_equal(by_name.table["score"], by_number.table["score"])
    assert by_name.settings["target"] == "segmentation:grass"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--layer", "layer9"], "no layer 'layer9'"),
        (["--target", "segmentatoin"], "no target 'segmentatoin'; did you mean 'segmentation'"),
        (["--target", "segmentation:gras"], "no class 'gras'; did you mean 'grass'"),
        (["--target", "depth"], "expected depth"),
        (["--tolerance", "-1"], "expected a tolerance of 0 pixels or more, found -1"),
        (["--names", "a,b"], "expected 1 different names, one for each checkpoint, found a, b"),
        (["--names", "chance"], "expected other names of checkpoints than chance"),
        (["--classes", "gras"], "no class 'gras'; did you mean 'grass'"),
        (["--target", "none", "--log-softmax"], "expected no class, region or log-softmax"),
        (["--target", "none", "--signed"], "takes no gradient, so nothing in its maps speaks for or against"),
        (["--style", "papr"], "no style 'papr'; did you mean 'paper'"),
        (["--venue", "neurps"], "no venue 'neurps'; did you mean 'neurips'"),
    ],
)
def test_what_makes_no_sense_is_one_line(small, blocks, tmp_path, more, said):
    refused = run(small, "--data", blocks, "--out", tmp_path, "--num", 1, *more)
    assert refused.exit_code == 2, refused.output
    assert said in refused.stderr
    assert refused.stderr.rstrip().rpartition("ckaprobe: ")[2].count("\n") == 0


def test_the_same_checkpoint_twice_or_none_at_all(small, blocks, tmp_path):
    refused = run(small, small, "--data", blocks, "--out", tmp_path)
    assert refused.exit_code == 2
    assert "give them with --names and commas, and each checkpoint once" in refused.stderr
    with pytest.raises(DataError, match="expected at least one checkpoint, found none"):
        attribute({}, Blocks())
    with pytest.raises(DataError, match="expected num of at least 1, found 0"):
        Rules(num=0)
