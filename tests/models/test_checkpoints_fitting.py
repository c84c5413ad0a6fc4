"""Windows and sizes are the file's own, every name must fit, and `--arch` decides what a file leaves open."""

import json

import pytest
import timm
import torch
import typer
from helpers import foreign
from typer.testing import CliRunner

from cka_probe.errors import CheckpointError, UnknownNameError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint
from cka_probe.models.checkpoints import inspect_file, load_file
from cka_probe.models.checkpoints.fitting import timm_twin
from cka_probe.models.checkpoints.windows import windows_of_timm


@pytest.fixture(scope="module")
def swin():
    return foreign.swin()


@pytest.fixture(scope="module")
def resnet():
    return foreign.resnet()


def refusal(path, error=CheckpointError, **options):
    with pytest.raises(error) as caught:
        load_file(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def hollow(model):
    """A state dict of the right shapes whose tensors are one stored number each: a small file of a large model."""
    return {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in model.state_dict().items()}


def on_meta(name):
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, num_classes=0)


def windows(model):
    return tuple(stage.blocks[0].window_size[0] for stage in model.layers)


def pretrained(model):
    return tuple(stage.blocks[0].attn.pretrained_window_size[0] for stage in model.layers)


@pytest.mark.parametrize(
    ("options", "masks"),
    [
        ({"size": 64}, False),
        ({"size": 128}, False),
        ({"size": 128, "pretrained_windows": (4, 4, 4, 2)}, False),
        ({"size": 256, "window": 4}, True),
        ({"size": 128, "window": 4}, True),
    ],
)
def test_size_and_windows_come_from_the_buffers(tmp_path, options, masks):
    model = foreign.swin(**options)
    torch.save({"model": foreign.microsoft(model, masks=masks)}, tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth")
    assert backbone.preprocessing.size == (options["size"],) * 2
    assert windows(backbone.model) == windows(model)
    images = torch.rand(1, 3, options["size"], options["size"])
    with torch.no_grad():
        expected = model(backbone.preprocessing.normalise(images))
        assert torch.equal(backbone(images), expected)
    rebuilt = ARCHITECTURES["swinv2_micro"].build(**backbone.origin.options)
    assert (windows(rebuilt), pretrained(rebuilt)) == (windows(backbone.model), pretrained(backbone.model))


def test_a_guessed_size_is_said(tmp_path):
    model = foreign.swin(size=256, window=4)
    torch.save({"model": foreign.microsoft(model, masks=False)}, tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth")
    assert any("128 px assumed" in note for note in backbone.origin.notes)


def test_a_runs_settings_say_what_buffers_do_not(tmp_path, swin):
    told = load_file(foreign.simmim(tmp_path / "a.pth", swin, with_buffers=False))
    assert told.origin.options == {"size": 64}
    assert not any("assumed" in note for note in told.origin.notes)
    silent = load_file(foreign.simmim(tmp_path / "b.pth", swin, with_buffers=False, config=False))
    assert any("no window buffers: window 4 assumed for 64 px" in note for note in silent.origin.notes)


def test_windows_that_cannot_be_are_refused(tmp_path, swin):
    state = foreign.microsoft(swin)
    torch.save({n: v[:9, :9] if n.endswith("position_index") else v for n, v in state.items()}, tmp_path / "a.pth")
    assert "3, 3, 3, 2" in refusal(tmp_path / "a.pth")
    del state["layers.0.blocks.0.attn.relative_position_index"]
    state["layers.0.blocks.1.attn.relative_position_index"] = torch.zeros(9, 9, dtype=torch.long)
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    torch.save(state, tmp_path / "b.pth")
    assert "one window per stage" in refusal(tmp_path / "b.pth")


def test_another_size_keeps_the_coordinates_of_the_training(tmp_path, swin):
    path = foreign.timm_file(tmp_path / "a.pth", swin)
    backbone = load_file(path, arch="swinv2_micro@128")
    assert windows(backbone.model) == (8, 8, 8, 4)
    assert pretrained(backbone.model) == (4, 4, 4, 2)
    assert backbone.origin.options == {"size": 128, "pretrained_windows": (4, 4, 4, 2)}
    assert any("coordinates of windows 4, 4, 4, 2" in note for note in backbone.origin.notes)
    same = load_file(path, arch="swinv2_micro@64")
    assert pretrained(same.model) == (0, 0, 0, 0)


@pytest.mark.parametrize("size", ["100", "64x96", "0", "big", "1x2x3"])
def test_a_size_that_cannot_be(tmp_path, swin, size):
    path = foreign.timm_file(tmp_path / "a.pth", swin)
    assert "expected" in refusal(path, arch=f"swinv2_micro@{size}")


def test_the_size_of_a_resnet(tmp_path, resnet):
    folder = foreign.monodepth2(tmp_path / "weights_19", resnet)
    assert load_file(folder).preprocessing.size == (192, 640)
    assert load_file(folder, arch="resnet18@96x320").preprocessing.size == (96, 320)
    plain = load_file(foreign.torchvision_resnet(tmp_path / "a.pth", resnet))
    assert plain.preprocessing.size == (224, 224)
    assert any("does not say its input size" in note for note in plain.origin.notes)
    assert "6 channels" in refusal(folder / "pose_encoder.pth")


def test_mim_depths_eps_is_its_own(tmp_path, swin):
    backbone = load_file(foreign.mim_depth(tmp_path / "a.pth", swin))
    eps = {module.eps for module in backbone.model.modules() if isinstance(module, torch.nn.LayerNorm)}
    assert eps == {1e-6}
    assert any("eps 1e-6" in note for note in backbone.origin.notes)
    assert "`norm` was `norm3` in the file" in backbone.origin.notes


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "module._orig_mod.backbone.", "net.encoder."])
def test_prefixes_are_found_however_they_nest(tmp_path, resnet, prefix):
    torch.save({"state_dict": foreign.prefixed(prefix, resnet.state_dict())}, tmp_path / "a.pth")
    assert load_file(tmp_path / "a.pth").origin.architecture == "resnet18"


def test_a_wrapper_inside_the_encoder(tmp_path, swin):
    state = {name.replace("layers.2.", "layers.2._orig_mod."): value for name, value in swin.state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    assert load_file(tmp_path / "a.pth").origin.architecture == "swinv2_micro"


def test_two_encoders_of_equal_right_are_refused(tmp_path, resnet):
    state = foreign.prefixed("rgb.", resnet.state_dict()) | foreign.prefixed("flow.", resnet.state_dict())
    torch.save(state, tmp_path / "a.pth")
    assert "found 2 of the same structure: flow, rgb" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("layers.2.blocks.5.attn.q_bias"), "missing layers.2.blocks.5.attn.q_bias"),
        (lambda s: s.update({"layers.4.blocks.0.norm1.weight": torch.ones(2)}), "unexpected layers.4.blocks.0"),
        (lambda s: s.update({"absolute_pos_embed": torch.ones(2)}), "unexpected absolute_pos_embed"),
        (lambda s: s.update({"norm3.weight": torch.ones(256)}), "found two"),
        (lambda s: s.update({"norm.weight": torch.ones(7)}), "norm.weight is (7,) for (256,)"),
    ],
)
def test_one_tensor_wrong_is_a_refusal(tmp_path, swin, change, words):
    state = dict(swin.state_dict())
    change(state)
    torch.save(state, tmp_path / "a.pth")
    assert words in refusal(tmp_path / "a.pth")
    assert words in refusal(tmp_path / "a.pth", arch="swinv2_micro")
    assert words in " ".join(inspect_file(tmp_path / "a.pth").notes)


def test_an_unknown_width_names_the_nearest(tmp_path):
    model = timm.models.swin_transformer_v2.SwinTransformerV2(
        img_size=64, embed_dim=24, depths=(2, 2, 6, 2), num_heads=(1, 2, 4, 8), window_size=4, num_classes=0
    )
    torch.save(model.state_dict(), tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth")
    assert "a Swin-v2 of width 24 and depths (2, 2, 6, 2)" in message
    assert "nearest is swinv2_tiny" in message
    assert inspect_file(tmp_path / "a.pth").architectures == ()


def test_arch_that_does_not_fit_says_which_does(tmp_path, resnet):
    path = foreign.torchvision_resnet(tmp_path / "a.pth", resnet)
    assert "--arch resnet18 fits" in refusal(path, arch="resnet50")
    assert "did you mean 'resnet18'" in refusal(path, UnknownNameError, arch="resnet81")


def test_two_architectures_of_one_shape_are_left_to_the_user(tmp_path, resnet, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "resnet18_again", ARCHITECTURES["resnet18"])
    path = foreign.torchvision_resnet(tmp_path / "a.pth", resnet)
    assert "fits resnet18 and resnet18_again" in refusal(path)
    assert load_file(path, arch="resnet18_again").origin.architecture == "resnet18_again"


@pytest.mark.slow
def test_timms_name_tells_the_windows_that_its_file_does_not(tmp_path):
    name = "swinv2_tiny_window16_256"
    assert timm_twin(name) == "swinv2_tiny"
    torch.save(hollow(on_meta(name)), tmp_path / "a.pth")
    assert windows(load_file(tmp_path / "a.pth").model) == (12, 12, 12, 6)
    named = load_file(tmp_path / "a.pth", arch=f"{name}.ms_in1k")
    assert named.origin.options == {"size": 256}
    assert windows(named.model) == (16, 16, 16, 8)
    assert load_file(tmp_path / "a.pth", arch="swinv2_tiny_window8_256").origin.options == {"size": 256, "window": 8}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name}))
    assert windows(load_file(tmp_path / "a.pth").model) == (16, 16, 16, 8)


def test_timms_two_windows_are_both_kept():
    sizes = windows_of_timm("swinv2_base_window12to16_192to256")
    assert (sizes.size, sizes.window, sizes.pretrained) == (256, 16, (12, 12, 12, 6))


@pytest.mark.slow
def test_a_timm_name_against_the_windows_in_the_file(tmp_path):
    with torch.device("meta"):
        model = ARCHITECTURES["swinv2_tiny"].build(size=192)
    real = ARCHITECTURES["swinv2_micro"].build(size=192)
    index = {n: v for n, v in foreign.buffers(real).items() if "layers.2" not in n or int(n.split(".")[3]) < 6}
    torch.save(hollow(model) | index, tmp_path / "a.pth")
    assert "(12, 12, 12, 6)" in refusal(tmp_path / "a.pth", arch="swinv2_tiny_window16_256")
    assert load_file(tmp_path / "a.pth").origin.options == {"size": 192}


def test_transformers_settings_beside_the_file(tmp_path, swin):
    path = foreign.transformers_file(tmp_path / "model.safetensors", swin)
    config = {"model_type": "swinv2", "image_size": 128, "window_size": 4, "pretrained_window_sizes": [0, 0, 0, 0]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_file(path).origin.options == {"size": 128, "window": 4}
    (tmp_path / "config.json").write_text("no json")
    assert load_file(path).origin.options == {"size": 64}


def test_any_other_timm_model_by_its_name(tmp_path):
    model = foreign.randomised(timm.create_model("test_vit", pretrained=False, num_classes=10))
    torch.save({"state_dict": foreign.prefixed("module.", model.state_dict()), "extra": torch.ones(1)}, tmp_path / "a")
    assert load_file(tmp_path / "a").origin.architecture == "test_vit"
    backbone = load_file(tmp_path / "a", arch="test_vit")
    assert torch.equal(backbone.model.state_dict()["blocks.0.attn.qkv.weight"], model.blocks[0].attn.qkv.weight)
    assert torch.equal(backbone.classifier.weight, model.head.weight)
    assert not any("head" in note for note in backbone.origin.notes)
    assert not backbone.training
    smaller = load_file(tmp_path / "a", arch="test_vit@96")
    assert smaller.preprocessing.size == (96, 96)
    assert smaller.model.pos_embed.shape == (1, 1 + 6 * 6, 64)
    assert any("pos_embed resampled" in note for note in smaller.origin.notes)
    torch.save(model.state_dict() | {"blocks.9.norm1.weight": torch.ones(1)}, tmp_path / "b")
    assert "unexpected blocks.9.norm1.weight" in refusal(tmp_path / "b", arch="test_vit")


def test_a_tensor_short_is_not_called_another_architecture(tmp_path, swin):
    state = dict(swin.state_dict())
    del state["norm.weight"]
    torch.save(state, tmp_path / "a.pth")
    assert "expected swinv2_micro whole" in refusal(tmp_path / "a.pth")


def test_a_resnet_that_has_no_name_here_keeps_its_origins_input(tmp_path):
    state = foreign.prefixed("encoder.", hollow(on_meta("resnet34"))) | {"height": 192, "width": 640}
    torch.save(state, tmp_path / "encoder.pth")
    for arch in (None, "resnet34"):
        backbone = load_file(tmp_path / "encoder.pth", arch=arch)
        assert backbone.origin.architecture == "resnet34"
        assert backbone.preprocessing.mean == (0.45,) * 3
        assert backbone.preprocessing.size == (192, 640)


def test_a_height_elsewhere_does_not_make_a_file_monodepth2s(tmp_path, resnet):
    whole = {"state_dict": resnet.state_dict(), "settings": {"height": 32, "width": 32}}
    torch.save(whole, tmp_path / "a.pth")
    assert load_file(tmp_path / "a.pth").preprocessing.size == (224, 224)
    assert "ResNet" in inspect_file(tmp_path / "a.pth").kind


def test_half_precision_and_sick_weights_are_said(tmp_path, resnet):
    state = {n: v.half() if v.is_floating_point() else v for n, v in resnet.state_dict().items()}
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth")
    assert next(backbone.parameters()).dtype == torch.float32
    notes = " ".join(backbone.origin.notes)
    assert "half precision" in notes
    assert "1 tensors hold NaN or infinity, the first is layer1.0.conv1.weight" in notes


def test_a_checkpoint_of_ckaprobe(tmp_path, swin):
    path = tmp_path / "a.safetensors"
    backbone = load_file(foreign.simmim(tmp_path / "s.pth", swin))
    header = Checkpoint("swinv2_micro", backbone.origin.options, (0.5,) * 3, (0.5,) * 3, stage="mp", task="masked")
    save_checkpoint(path, backbone, torch.nn.Linear(2, 2), header)
    again, report = load_file(path), inspect_file(path)
    assert again.preprocessing.mean == (0.5,) * 3
    assert report.header == header
    assert report.windows == (4, 4, 4, 2)
    assert report.heads == ("head.bias", "head.weight") or report.heads == ("head.weight", "head.bias")
    assert any(line.startswith("stage:") and "mp" in line for line in report.lines())
    assert "omit --arch" in refusal(path, arch="resnet18")
    assert load_file(path, arch="swinv2_micro").preprocessing.size == (64, 64)


def test_loading_leaves_the_random_generator_alone(tmp_path, resnet):
    path = foreign.torchvision_resnet(tmp_path / "a.pth", resnet)
    before = torch.get_rng_state()
    load_file(path)
    inspect_file(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_command_prints_the_report(tmp_path, swin):
    from ckaprobe_cli.inspect import inspect

    app = typer.Typer()
    app.command()(inspect)
    path = foreign.simmim(tmp_path / "a.pth", swin)
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == inspect_file(path).lines()
    for words in ("SimMIM", "swinv2_micro", "64 x 64 px", "4, 4, 4, 2", "rpe_mlp -> cpb_mlp (72)", "mask_token (1)"):
        assert words in result.stdout, words
