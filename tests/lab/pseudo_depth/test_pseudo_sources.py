"""Sources of pseudo-depth: every network of ours that gives depth, and models of transformers, disparity or depth."""

import sys

import pytest
import torch
from helpers.depth_models import save_dpt, save_model

from cka_probe.errors import CheckpointError, DataError, DeviceError
from cka_probe.lab.pseudo_depth import FARTHEST, depth_of_disparity, open_source, quantity_of


@pytest.mark.parametrize("task", ["teacher", "depth", "geometric", "pseudo_depth"])
def test_every_task_of_depth_can_be_asked(task, tmp_path):
    source = open_source(save_model(tmp_path / "model.safetensors", task))
    images = [torch.rand(3, 72, 96), torch.rand(3, 100, 70)]
    together = source.depth(images)
    assert [depth.shape for depth in together] == [(72, 96), (100, 70)]
    for image, depth in zip(images, together, strict=True):
        torch.testing.assert_close(source.depth([image])[0], depth, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module", params=["dpt", "relative", "metric"])
def model(request, tmp_path_factory):
    kind = "dpt" if request.param == "dpt" else "depth_anything"
    return request.param, *save_dpt(tmp_path_factory.mktemp("model"), kind, request.param == "metric")


def test_a_model_of_transformers_is_asked_as_it_wants_to_be(model):
    kind, network, reference = model
    source = open_source(reference, device="cpu")
    assert source.note["gives"] == ("depth" if kind == "metric" else "disparity")
    side = 32 if kind == "dpt" else 56
    image = torch.rand(3, side, side)  # of the model's own size: nothing is scaled
    with torch.inference_mode():
        said = network(pixel_values=((image - 0.5) / 0.5)[None]).predicted_depth[0]
    found = source.depth([image])[0]
    expected = said if kind == "metric" else depth_of_disparity(said)
    assert said.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_its_depth_has_the_size_of_the_images_and_its_note_no_path(model):
    kind, _, reference = model
    source = open_source(reference, device="cpu")
    assert [depth.shape for depth in source.depth([torch.rand(3, 40, 60), torch.rand(3, 90, 50)])] == [
        (40, 60),
        (90, 50),
    ]
    assert reference.split(":", 1)[1] not in str(source.note)
    assert open_source(reference, device="cpu").note == source.note
    assert ("farthest" in source.note) == (kind != "metric")


def test_what_it_gives_can_be_said(model):
    _, _, reference = model
    image = torch.rand(3, 56, 56)
    depth, disparity = (open_source(reference, gives=gives, device="cpu") for gives in ("depth", "disparity"))
    torch.testing.assert_close(disparity.depth([image])[0], depth_of_disparity(depth.depth([image])[0]))
    assert depth.note != disparity.note


def test_disparity_becomes_depth_whatever_its_scale_and_shift():
    true = torch.tensor([1.0, 2.0, 4.0, 10.0])  # ten times as far as the nearest: what is assumed
    torch.testing.assert_close(depth_of_disparity(1 / true), true)
    torch.testing.assert_close(depth_of_disparity(7 / true - 3), true, rtol=1e-4, atol=1e-4)
    assert (depth_of_disparity(torch.zeros(3)) == FARTHEST).all()
    any_ = torch.rand(50)
    assert torch.equal(depth_of_disparity(any_).argsort(), any_.argsort(descending=True))


def test_models_that_do_not_tell_have_to_be_asked():
    class Config:
        model_type = "oracle"

    with pytest.raises(DataError, match="found 'oracle'; set --gives depth or --gives disparity"):
        quantity_of(Config())


def test_what_is_no_source_is_said(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"expected a checkpoint of .* found no such file"):
        open_source(tmp_path / "nothing.safetensors")
    (tmp_path / "text").write_text("text")
    with pytest.raises(CheckpointError, match=r"text"):
        open_source(tmp_path / "text")
    with pytest.raises(DataError, match="expected gives=depth or disparity, found 'depht'"):
        open_source(tmp_path / "text", gives="depht")
    ours = save_model(tmp_path / "teacher.safetensors")
    with pytest.raises(DataError, match="gives=depth: a checkpoint of ckaprobe or LeReS determines it; omit it"):
        open_source(ours, gives="depth")
    with pytest.raises(DeviceError, match="no device 'cuda:99' here"):
        open_source(ours, device="cuda:99")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"transformers:.*empty could not be loaded: .*; give a depth-estimation"):
        open_source(f"transformers:{tmp_path / 'empty'}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CheckpointError, match=r"expected the package transformers, found none; pip install"):
        open_source(f"transformers:{tmp_path / 'empty'}")
