"""A LoRA adapter gives W + s B A, whatever the kind of weight, or is refused in one line."""

import json

import pytest
import torch
from helpers import foreign
from safetensors.torch import save_file

from cka_probe.errors import CheckpointError
from cka_probe.models.checkpoints import inspect_file
from cka_probe.models.load import load

RANK, ALPHA = 2, 6
MODULE = "layer1.0.conv1"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "resnet.pth"
    torch.save(foreign.resnet().state_dict(), path)
    return path


def write(folder, tensors=None, **config):
    folder.mkdir()
    a, b = torch.randn(RANK, 64, 3, 3), torch.randn(64, RANK, 1, 1)
    front = f"base_model.model.backbone.{MODULE}"
    tensors = tensors or {f"{front}.lora_A.weight": a, f"{front}.lora_B.weight": b}
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "base_model_name_or_path": "org/resnet"}
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    return a, b


@pytest.mark.parametrize(
    ("config", "scale"),
    [({}, 3.0), ({"use_rslora": True}, ALPHA / RANK**0.5), ({"alpha_pattern": {"layer1.0.conv1": 10}}, 5.0)],
)
def test_it_is_merged_into_the_model(base, tmp_path, config, scale):
    a, b = write(tmp_path / "lora", **config)
    weight = foreign.resnet().state_dict()[f"{MODULE}.weight"]
    expected = torch.stack([scale * (b[:, :, 0, 0] @ a[..., i, j]) for i in range(3) for j in range(3)], dim=-1)
    backbone = load(tmp_path / "lora", base=base)
    state = backbone.model.state_dict()
    torch.testing.assert_close(state[f"{MODULE}.weight"], weight + expected.reshape(64, 64, 3, 3))
    assert torch.equal(state["conv1.weight"], foreign.resnet().state_dict()["conv1.weight"])
    assert "merged into 1 weights" in backbone.origin.notes[0]


def test_the_product_of_matrices_in_either_order():
    from cka_probe.models.checkpoints.adapters import _updated_weight

    a, b, weight = torch.randn(2, 5), torch.randn(3, 2), torch.randn(3, 5)
    parts = {"lora_A.weight": a, "lora_B.weight": b}
    torch.testing.assert_close(_updated_weight(weight, parts, 2.0, {}), weight + 2 * b @ a)
    torch.testing.assert_close(_updated_weight(weight.T, parts, 2.0, {"fan_in_fan_out": True}), (weight + 2 * b @ a).T)
    assert _updated_weight(weight.T, parts, 2.0, {}) is None


def test_without_its_model_it_says_which_is_needed(tmp_path):
    write(tmp_path / "lora")
    with pytest.raises(CheckpointError, match=r"found a LoRA adapter; .*org/resnet\) with --base"):
        load(tmp_path / "lora")
    assert "with --base" in inspect_file(tmp_path / "lora").notes[0]


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"use_qalora": True}, None, "found use_qalora"),
        ({"init_lora_weights": "pissa_niter_4"}, None, "found init_lora_weights=pissa_niter_4"),
        ({"peft_type": "LOHA"}, None, "found LOHA"),
        ({"peft_type": "IA3"}, {"base_model.model.conv1.ia3_l": torch.ones(64)}, "found IA3"),
        ({}, {"base_model.model.x.lora_A.weight": torch.zeros(2, 3)}, "both matrices of 'x'"),
        ({}, {"base_model.model.conv1.lora_embedding_A": torch.zeros(2, 3)}, "lora_embedding_A"),
    ],
)
def test_what_is_not_supported_is_refused(base, tmp_path, config, tensors, message):
    write(tmp_path / "lora", tensors, **config)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "lora", base=base)


def test_another_method_is_named_without_a_model_too(tmp_path):
    write(tmp_path / "ia3", {"base_model.model.conv1.ia3_l": torch.ones(64)}, peft_type="IA3")
    with pytest.raises(CheckpointError, match="found IA3; merge it"):
        load(tmp_path / "ia3")


def test_a_base_of_other_shapes(base, tmp_path):
    write(tmp_path / "lora", {f"layer4.0.conv1.lora_{part}.weight": torch.zeros(2, 2) for part in "AB"})
    with pytest.raises(CheckpointError, match=r"update of 'layer4.0.conv1.weight' \(512, 256, 3, 3\)"):
        load(tmp_path / "lora", base=base)


def test_a_base_for_a_model_that_is_no_adapter(base):
    with pytest.raises(CheckpointError, match="omit --base"):
        load(base, base=base)
