"""Published starts: contrastive, segmenting and vision-transformer weights, each in its file's true names."""

import json

import pytest
import torch
from helpers import foreign
from helpers.foreign import prefixed
from safetensors.torch import save_file

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD
from cka_probe.models.checkpoints import inspect_file, load_file
from cka_probe.models.checkpoints.fitting import timm_twin


@pytest.fixture(scope="module")
def resnet():
    return foreign.resnet()


@pytest.fixture(scope="module")
def dinov2():
    return foreign.randomised(ARCHITECTURES["dinov2_micro"].build(size=84))


def assert_same_weights(backbone, model):
    found = backbone.model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def moco(path, model, front):
    """As main_moco.py saves it; some files were saved from inside of the parallel wrapper."""
    state = prefixed(f"{front}encoder_q.", model.state_dict())
    state |= prefixed(f"{front}encoder_k.", foreign.resnet(seed=9).state_dict())
    for encoder in ("encoder_q", "encoder_k"):
        for layer, shape in (("0", (512, 512)), ("2", (128, 512))):
            state |= {f"{front}{encoder}.fc.{layer}.weight": torch.zeros(shape)}
            state |= {f"{front}{encoder}.fc.{layer}.bias": torch.zeros(shape[0])}
    state |= {f"{front}queue": torch.zeros(128, 64), f"{front}queue_ptr": torch.zeros(1, dtype=torch.long)}
    torch.save({"epoch": 800, "arch": "resnet18", "state_dict": state, "optimizer": {"state": {}}}, path)


def dino(path, model, front):
    """As main_dino.py saves it: a teacher with batch norms is wrapped as its student is."""
    student = prefixed("module.backbone.", foreign.resnet(seed=9).state_dict())
    teacher = prefixed(f"{front}backbone.", model.state_dict()) | {f"{front}head.mlp.0.weight": torch.zeros(8, 512)}
    torch.save({"student": student, "teacher": teacher, "epoch": 100, "dino_loss": {"center": torch.zeros(1, 8)}}, path)


@pytest.mark.parametrize("front", ["module.", ""])
@pytest.mark.parametrize(("write", "kind"), [(moco, "MoCo"), (dino, "DINO")])
def test_the_learning_encoder_of_moco_and_the_teacher_of_dino(tmp_path, resnet, write, kind, front):
    write(tmp_path / "a.pth.tar", resnet, front)
    backbone, report = load_file(tmp_path / "a.pth.tar"), inspect_file(tmp_path / "a.pth.tar")
    assert_same_weights(backbone, resnet)
    assert kind in report.kind
    assert (backbone.preprocessing.mean, backbone.preprocessing.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_a_flat_file_of_dino_has_no_classifier(tmp_path, resnet):
    torch.save(resnet.state_dict(), tmp_path / "dino_resnet50_pretrain.pth")
    backbone = load_file(tmp_path / "dino_resnet50_pretrain.pth")
    assert_same_weights(backbone, resnet)
    assert not any("dropped" in note for note in backbone.origin.notes)


def test_torchvisions_segmentation_is_known_by_what_stands_beside_it(tmp_path, resnet):
    state = prefixed("backbone.", resnet.state_dict()) | {"classifier.0.convs.0.0.weight": torch.zeros(8, 512, 1, 1)}
    torch.save(state | {"classifier.4.weight": torch.zeros(21, 8, 1, 1)}, tmp_path / "plain.pth")
    torch.save(state | {"aux_classifier.0.weight": torch.zeros(8, 8, 3, 3)}, tmp_path / "aux.pth")
    for name in ("plain.pth", "aux.pth"):
        backbone = load_file(tmp_path / name)
        assert "DeepLabV3" in inspect_file(tmp_path / name).kind
        assert backbone.origin.options == {"size": 224, "output_stride": 8}
        assert [part["reduction"] for part in backbone.model.feature_info] == [2, 4, 8, 8, 8]
        assert any("output stride 8" in note for note in backbone.origin.notes)
        assert_same_weights(backbone, resnet)
    torch.save(prefixed("backbone.", resnet.state_dict()), tmp_path / "bare.pth")
    assert load_file(tmp_path / "bare.pth").origin.options == {"size": 224}


@pytest.mark.slow
def test_torchvisions_deeplab_gives_the_same_last_map(tmp_path):
    models = pytest.importorskip("torchvision").models.segmentation
    network = models.deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=True, num_classes=21)
    network = foreign.randomised(network)
    torch.save(network.state_dict(), tmp_path / "deeplabv3_resnet50_coco.pth")
    backbone = load_file(tmp_path / "deeplabv3_resnet50_coco.pth")
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        theirs = network.backbone(backbone.preprocessing.normalise(images))["out"]
        torch.testing.assert_close(backbone.features(images), theirs, rtol=1e-4, atol=1e-4)
    assert theirs.shape == (1, 2048, 8, 12)


def published_dinov2(model):
    return model.state_dict() | {"mask_token": torch.zeros(1, 64)}


DINOV2_FILES = {
    "DINOv2": published_dinov2,
    "Depth Anything": lambda model: (
        prefixed("pretrained.", published_dinov2(model)) | {"depth_head.projects.0.weight": torch.zeros(4, 64, 1, 1)}
    ),
}


@pytest.mark.parametrize("kind", DINOV2_FILES)
def test_dinov2_and_depth_anything_load_whole(tmp_path, dinov2, kind):
    torch.save(DINOV2_FILES[kind](dinov2), tmp_path / "a.pth")
    backbone, report = load_file(tmp_path / "a.pth"), inspect_file(tmp_path / "a.pth")
    assert_same_weights(backbone, dinov2)
    assert report.kind.startswith(kind)
    assert report.architectures == ("dinov2_micro",)
    assert report.size == (518, 518) == backbone.preprocessing.size
    assert dict(report.dropped) == {"mask_token": 1} | ({} if kind == "DINOv2" else {"depth_head": 1})
    assert (backbone.preprocessing.mean, backbone.preprocessing.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert len(backbone.layers) == 13  # the patch embedding and every block
    assert load_file(tmp_path / "a.pth", arch="dinov2_micro@70x98").preprocessing.size == (70, 98)


def config():
    transformers = pytest.importorskip("transformers")
    sizes = {"image_size": 518, "patch_size": 14, "hidden_size": 64}
    return transformers.Dinov2Config(num_hidden_layers=12, num_attention_heads=1, out_indices=[3, 6, 9, 12], **sizes)


def tokens(model, images):
    """The tokens after the last norm of transformers' DINOv2, without the class token."""
    with torch.no_grad():
        return model(images).last_hidden_state[:, 1:]


def test_a_folder_of_transformers_gives_the_same_features(tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = foreign.randomised(transformers.Dinov2Model(config()))
    theirs.save_pretrained(tmp_path / "dinov2")
    torch.save(theirs.state_dict(), tmp_path / "today.pth")  # in memory, names differ from those in its files
    images = torch.rand(1, 3, 518, 518, generator=torch.Generator().manual_seed(0))
    for path in (tmp_path / "dinov2", tmp_path / "today.pth"):
        backbone = load_file(path)
        assert backbone.origin.architecture == "dinov2_micro"
        assert inspect_file(path).kind == "transformers DINOv2"
        with torch.no_grad():
            ours = backbone.features(images).flatten(2).transpose(1, 2)
        expected = tokens(theirs, backbone.preprocessing.normalise(images))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_depth_anything_of_transformers_loads_without_its_head(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"neck_hidden_sizes": [4, 4, 4, 4], "fusion_hidden_size": 4, "head_hidden_size": 4}
    settings = transformers.DepthAnythingConfig(backbone_config=config(), reassemble_hidden_size=64, **sizes)
    theirs = foreign.randomised(transformers.DepthAnythingForDepthEstimation(settings))
    theirs.save_pretrained(tmp_path)
    backbone, report = load_file(tmp_path), inspect_file(tmp_path)
    assert report.kind.startswith("Depth Anything")
    assert {"head", "neck"} <= {group for group, _ in report.dropped}
    found, expected = backbone.model.state_dict(), theirs.state_dict()
    assert torch.equal(found["pos_embed"], expected["backbone.embeddings.position_embeddings"])
    assert torch.equal(found["blocks.11.ls2.gamma"], expected["backbone.encoder.layer.11.layer_scale2.lambda1"])


def test_features_are_the_cells_of_the_image_in_their_places(dinov2, tmp_path):
    torch.save(dinov2.state_dict(), tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth", arch="dinov2_micro@56x84")
    images = torch.rand(2, 3, 56, 84)
    with torch.no_grad():
        features, (last,) = backbone.features(images), backbone.pyramid(images)
        plain = dinov2.forward_features(backbone.preprocessing.normalise(images))
    assert features.shape == (2, 64, 4, 6)
    assert torch.equal(features, last)
    for row in range(4):
        for column in range(6):
            assert torch.equal(features[:, :, row, column], plain[:, 1 + 6 * row + column])


def test_timms_names_of_dinov2_mean_ours():
    assert timm_twin("vit_small_patch14_dinov2.lvd142m") == "dinov2_small"
    assert timm_twin("vit_large_patch14_dinov2") == "dinov2_large"
    assert timm_twin("vit_base_patch16_224") is None


def test_what_does_not_fit_is_said_in_one_line(tmp_path, dinov2):
    def refusal(path, **options):
        with pytest.raises(CheckpointError) as caught:
            load_file(path, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    state = dinov2.state_dict()
    torch.save(state | {"register_tokens": torch.zeros(1, 4, 64)}, tmp_path / "registers.pth")
    assert "expected DINOv2 as it was first published, found one with registers" in refusal(tmp_path / "registers.pth")
    torch.save({name: value for name, value in state.items() if "blocks.7" not in name}, tmp_path / "cut.pth")
    assert "expected dinov2_micro whole and nothing else in it, found missing blocks.7" in refusal(tmp_path / "cut.pth")
    torch.save(state, tmp_path / "whole.pth")
    assert "multiple of 14, found 64x64" in refusal(tmp_path / "whole.pth", arch="dinov2_micro@64")
    smaller = state | {"pos_embed": torch.zeros(1, 257, 64)}
    torch.save(smaller, tmp_path / "smaller.pth")
    assert "pos_embed is (1, 257, 64) for (1, 1370, 64)" in refusal(tmp_path / "smaller.pth")
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {}}))
    assert "a dict of nothing without weights" in refusal(folder)
    save_file({"weight": torch.zeros(2)}, folder / "model.safetensors")
    assert "expected an encoder of timm, torchvision or transformers" in refusal(folder)


def test_a_classifier_next_to_a_backbone_is_no_deeplab(tmp_path, resnet):
    state = prefixed("backbone.", resnet.state_dict()) | {"classifier.weight": torch.zeros(10, 512)}
    torch.save({"state_dict": state}, tmp_path / "c.ckpt")
    backbone = load_file(tmp_path / "c.ckpt")
    assert backbone.origin.options == {"size": 224}
    assert [part["reduction"] for part in backbone.model.feature_info] == [2, 4, 8, 16, 32]


def test_fcn_is_known_by_its_head(tmp_path, resnet):
    head = {
        "0.weight": torch.zeros(8, 512, 3, 3),
        "1.running_mean": torch.zeros(8),
        "4.weight": torch.zeros(21, 8, 1, 1),
    }
    torch.save(prefixed("backbone.", resnet.state_dict()) | prefixed("classifier.", head), tmp_path / "fcn.pth")
    assert load_file(tmp_path / "fcn.pth").origin.options == {"size": 224, "output_stride": 8}


@pytest.mark.parametrize("front", ["encoder.encoder.", "depth_net.encoder."])
def test_names_that_anyone_may_use_are_not_sc_depth(tmp_path, resnet, front):
    state = prefixed(front, resnet.state_dict())
    torch.save(state | {"decoder.weight": torch.zeros(3, 512)}, tmp_path / "a.pth")
    assert load_file(tmp_path / "a.pth").preprocessing.mean == IMAGENET_MEAN
    sibling = front.removesuffix("encoder.").removesuffix("encoder.")
    torch.save(state | {f"{sibling}decoder.0.conv.conv.weight": torch.zeros(4, 4, 3, 3)}, tmp_path / "b.pth")
    assert load_file(tmp_path / "b.pth").preprocessing.mean == (0.45,) * 3
