"""Names of other projects become timm's, tensor by tensor."""

import pytest
import timm
import torch
import transformers
from helpers.openmmlab_files import OPENMMLAB_ROWS
from helpers.original_files import ORIGINAL_ROWS
from torch import nn

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.checkpoints import inspect_file, load_file
from cka_probe.models.checkpoints.foreign import translate
from cka_probe.models.checkpoints.reading import Contents, read_contents

ROWS = {row.name: row for row in (*ORIGINAL_ROWS, *OPENMMLAB_ROWS)}
NAMINGS = {
    "mmseg Swin": "mmcv Swin",
    "mmpretrain ViT": "mmcv ViT",
    "mmseg ViT": "mmcv ViT",
    "mmseg ResNet V1c": "mmcv ResNet with a deep stem",
    "mmpretrain ResNet V1d": "mmcv ResNet with a deep stem",
    "detectron2 R-50": "detectron2 ResNet",
    "detectron2 MSRA": "detectron2 ResNet of Caffe2",
    "Detectron R-50": "Detectron ResNet of Caffe2",
    "JAX ViT": "ViT of JAX",
    "big_vision ViT": "ViT of JAX",
    "MoCo v3": "MoCo v3",
}
COUNTER = "num_batches_tracked"


@pytest.mark.parametrize(("row", "title"), NAMINGS.items())
def test_tensors_have_timms_names_and_values(row, title, tmp_path):
    case = ROWS[row].make(tmp_path)
    contents, naming = translate(read_contents(case.path))
    assert naming.title == title
    state = {name: tensor for name, tensor in case.model.state_dict().items() if not name.endswith(COUNTER)}
    prefix = min((name for name in contents.tensors if name.endswith(list(state)[-1])), key=len)
    prefix = prefix.removesuffix(list(state)[-1])
    for name, tensor in state.items():
        if title.endswith("Caffe2") and name == "conv1.weight":
            tensor = tensor.flip(1)
        torch.testing.assert_close(contents.tensors[prefix + name], tensor)


@pytest.mark.slow
def test_strides_of_caffe2_outlast_a_checkpoint(tmp_path):
    backbone = load_file(ROWS["detectron2 MSRA"].make(tmp_path).path)
    rebuilt = ARCHITECTURES[backbone.origin.architecture].build(**backbone.origin.options)
    for model in (backbone.model, rebuilt):
        blocks = model.layer1[0], model.layer2[0], model.layer4[1]
        strides = [(block.conv1.stride, block.conv2.stride) for block in blocks]
        assert strides == [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (1, 1))]


def test_inspect_names_the_project_and_the_settings(tmp_path):
    report = inspect_file(ROWS["mmseg SegFormer"].make(tmp_path).path)
    assert report.architectures == ("segformer",)
    assert any("changed to transformers' " in f"{note} " for note in report.notes)
    report = inspect_file(ROWS["mmseg ResNet with its settings"].make(tmp_path).path)
    assert any("its settings" in note for note in report.notes)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto"])
def test_timms_own_names_are_left_alone(name, tmp_path):
    model: nn.Module = timm.create_model(name, num_classes=0)
    contents = Contents(tmp_path, "", dict(model.state_dict()), {})
    assert translate(contents) == (contents, None)


def test_an_unknown_depth_anything_3_is_refused(tmp_path):
    names = ("camera_token", "blocks.0.ls1.gamma", "blocks.0.attn.q_norm.weight")
    tensors = {f"model.backbone.pretrained.{name}": torch.zeros(1, 2, 8) for name in names}
    with pytest.raises(CheckpointError, match="Depth Anything 3"):
        translate(Contents(tmp_path, "", tensors, {}))


@pytest.mark.slow
def test_of_a_nested_depth_anything_3_the_plain_encoder_is_whole(tmp_path):
    case = ROWS["Depth Anything 3"].make(tmp_path)
    changed = torch.load(case.path)
    plain = {f"model.da3_metric.pretrained.{name}": tensor for name, tensor in case.model.state_dict().items()}
    torch.save(changed | plain, tmp_path / "nested.pth")
    assert len(load_file(tmp_path / "nested.pth#da3_metric").model.blocks) == 12
    assert len(load_file(f"{tmp_path / 'nested.pth'}#backbone").model.blocks) == 4
    with pytest.raises(CheckpointError, match="choose one"):
        load_file(tmp_path / "nested.pth")


def test_a_model_that_needs_more_than_images_is_refused(tmp_path):
    config = transformers.Siglip2VisionConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.Siglip2VisionModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="needs pixel_attention_mask, spatial_shapes too"):
        load_file(tmp_path)
