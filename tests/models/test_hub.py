"""Repositories of the hub: what is cached loads without a request, and without a network the error comes at once."""

import json

import pytest
import timm
import torch
from helpers import foreign
from huggingface_hub import constants
from safetensors.torch import save_file

from cka_probe.errors import CheckpointError, UnknownNameError
from cka_probe.models.hub import repository_of
from cka_probe.models.load import load


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the hub with one repository of timm, org/name, offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = tmp_path / "models--org--name" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    refs = tmp_path / "models--org--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    model = foreign.randomised(timm.create_model("test_vit", pretrained=False, num_classes=3))
    save_file(model.state_dict(), snapshot / "model.safetensors")
    config = {"architecture": "test_vit", "num_classes": 3, "pretrained_cfg": {"mean": [0.4] * 3, "std": [0.2] * 3}}
    (snapshot / "config.json").write_text(json.dumps(config))
    return tmp_path, model


@pytest.mark.parametrize("by", ["hf://org/name", "hf://org/name@main", "folder"])
def test_a_cached_repository_loads_without_a_request(cache, by):
    folder, model = cache
    reference = str(folder / "models--org--name") if by == "folder" else by
    backbone = load(reference)
    assert backbone.origin.reference == reference
    assert backbone.origin.architecture == "test_vit"
    assert backbone.preprocessing.mean == (0.4, 0.4, 0.4)
    assert torch.equal(backbone.model.state_dict()["pos_embed"], model.pos_embed)
    assert backbone.classifier.weight.shape == (3, 64)


@pytest.mark.parametrize("reference", ["hf://org/other", "timm:resnet18", "timm:vit_base_patch16_224.dino"])
def test_without_a_network_one_line_says_so(cache, reference):
    with pytest.raises(CheckpointError, match=r"local cache .* or a network, found neither"):
        load(reference)


def test_models_without_published_weights_and_unknown_tags(cache):
    assert repository_of("vit_base_patch16_224.dino") == "timm/vit_base_patch16_224.dino"
    with pytest.raises(CheckpointError, match="published weights"):
        load("timm:resnetblur18")
    folder, _ = cache
    with pytest.raises(UnknownNameError, match="no weights 'nothing' of test_vit"):
        load(folder / "models--org--name", arch="test_vit.nothing")
