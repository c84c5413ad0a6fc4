"""Files of other projects load into the right backbone, whole, or are refused in one line."""

import pytest
import torch
from helpers import foreign

from cka_probe.errors import CheckpointError
from cka_probe.models.backbone import IMAGENET_MEAN
from cka_probe.models.checkpoints import inspect_file, load_file

GREY, PLAIN = (0.45,) * 3, (0.0,) * 3


@pytest.fixture(scope="module")
def swin():
    return foreign.swin()


@pytest.fixture(scope="module")
def resnet():
    return foreign.resnet()


SWIN_FILES = {
    "simmim": (lambda p, m: foreign.simmim(p / "a.pth", m), "SimMIM", IMAGENET_MEAN),
    "simmim, new names": (lambda p, m: foreign.simmim(p / "a.pth", m, cpb="cpb_mlp"), "SimMIM", IMAGENET_MEAN),
    "mim-depth, init": (lambda p, m: foreign.mim_depth_init(p / "a.pth", m), "SimMIM", IMAGENET_MEAN),
    "microsoft": (lambda p, m: foreign.swin_classifier(p / "a.pth", m), "Microsoft", IMAGENET_MEAN),
    "mim-depth": (lambda p, m: foreign.mim_depth(p / "a.ckpt", m), "MIM-Depth", PLAIN),
    "mim-depth, own": (lambda p, m: foreign.mim_depth(p / "a.ckpt", m, own=True), "MIM-Depth", PLAIN),
    "timm": (lambda p, m: foreign.timm_file(p / "a.safetensors", m), "timm", IMAGENET_MEAN),
    "timm, headless": (lambda p, m: foreign.timm_file(p / "a.bin", m, head=False), "timm", IMAGENET_MEAN),
    "transformers": (lambda p, m: foreign.transformers_file(p / "a.safetensors", m), "transformers", IMAGENET_MEAN),
    "transformers, bare": (
        lambda p, m: foreign.transformers_file(p / "a.safetensors", m, prefix=""),
        "transformers",
        IMAGENET_MEAN,
    ),
}
RESNET_FILES = {
    "sc-depth": (lambda p, m: foreign.sc_depth(p / "epoch=1-val_loss=0.1.ckpt", m), "SC-Depth", GREY),
    "sc-sfm": (lambda p, m: foreign.sc_sfm(p / "a.pth.tar", m), "SC-Depth", GREY),
    "monodepth2": (lambda p, m: foreign.monodepth2(p / "weights_19", m), "Monodepth2", GREY),
    "torchvision": (lambda p, m: foreign.torchvision_resnet(p / "a.pth", m), "torchvision", IMAGENET_MEAN),
    "torchvision, old": (
        lambda p, m: foreign.torchvision_resnet(p / "a.pth", m, counters=False),
        "torchvision",
        IMAGENET_MEAN,
    ),
    "moco": (lambda p, m: foreign.moco(p / "a.pth.tar", m), "MoCo", IMAGENET_MEAN),
    "dino": (lambda p, m: foreign.dino(p / "a.pth", m), "DINO", IMAGENET_MEAN),
}


def assert_same_weights(backbone, model):
    found = backbone.model.state_dict()
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(found[name], tensor), name


def nine(backbone, images):
    """The activations of the default layers, by name."""
    kept = {}

    def keep(name):
        return lambda module, inputs, output: kept.__setitem__(name, output.detach().clone())

    hooks = [backbone.model.get_submodule(x.module).register_forward_hook(keep(x.name)) for x in backbone.layers]
    with torch.no_grad():
        backbone(images)
    for hook in hooks:
        hook.remove()
    return kept


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("case", SWIN_FILES)
def test_a_swin_of_every_origin_loads_whole(case, tmp_path, swin):
    write, kind, mean = SWIN_FILES[case]
    path = write(tmp_path, swin)
    backbone, report = load_file(path), inspect_file(path)
    assert_same_weights(backbone, swin)
    assert backbone.origin.architecture == "swinv2_micro"
    assert report.architectures == ("swinv2_micro",)
    assert kind in report.kind
    assert report.windows == (4, 4, 4, 2)
    assert report.size == (64, 64) == backbone.preprocessing.size
    assert backbone.preprocessing.mean == mean
    assert len(backbone.layers) == 9
    assert not backbone.training


@pytest.mark.parametrize("case", RESNET_FILES)
def test_a_resnet_of_every_origin_loads_whole(case, tmp_path, resnet):
    write, kind, mean = RESNET_FILES[case]
    path = write(tmp_path, resnet)
    backbone, report = load_file(path), inspect_file(path)
    assert_same_weights(backbone, resnet)
    assert report.architectures == ("resnet18",)
    assert kind in report.kind
    assert backbone.preprocessing.mean == mean
    assert len(backbone.layers) == 9
    assert report.lines()[1].startswith("kind:")


def test_microsofts_and_timms_names_give_the_same_nine_layers(tmp_path, swin, images):
    ms = nine(load_file(foreign.swin_classifier(tmp_path / "ms.pth", swin)), images)
    timm = nine(load_file(foreign.timm_file(tmp_path / "timm.pth", swin)), images)
    assert list(ms) == list(timm)
    assert len(ms) == 9
    assert max(float((ms[name] - timm[name]).abs().max()) for name in ms) == 0.0


def test_a_wrongly_shifted_file_is_refused(tmp_path, swin):
    """The control: a timm file whose mergings were moved once more than they should be does not load."""
    state = {name: tensor for name, tensor in foreign.microsoft(swin).items() if "layers.0.downsample" not in name}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="downsample"):
        load_file(tmp_path / "a.pth")


def test_layers_read_off_the_wrong_names_differ(tmp_path, swin, images):
    """The control of the control: `layers.1.downsample` of timm is not the original's layer of that name."""
    backbone = load_file(foreign.swin_classifier(tmp_path / "ms.pth", swin))
    modules = dict(zip(backbone.layers.names, backbone.layers.modules, strict=True))
    assert modules["layers.1.downsample.norm"] == "layers.2.downsample.norm"
    activations = nine(backbone, images)
    assert activations["layers.0.downsample.norm"].shape != activations["layers.1.downsample.norm"].shape


def test_transformers_own_model_gives_the_same_nine_layers(tmp_path, images):
    transformers = pytest.importorskip("transformers")
    config = transformers.Swinv2Config(
        image_size=64, embed_dim=32, depths=[2, 2, 18, 2], num_heads=[1, 2, 4, 8], window_size=4
    )
    theirs = foreign.randomised(transformers.Swinv2Model(config))
    from safetensors.torch import save_file

    save_file({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, tmp_path / "model.safetensors")
    backbone = load_file(tmp_path / "model.safetensors")
    ours = nine(backbone, images)
    addresses = {
        name: f"encoder.{name}".replace("norm1", "layernorm_before") if name != "norm3" else "layernorm"
        for name in backbone.layers.names
    }
    kept, hooks = {}, []
    for name, address in addresses.items():
        hook = lambda module, inputs, output, name=name: kept.__setitem__(name, output.detach())  # noqa: E731
        hooks.append(theirs.get_submodule(address).register_forward_hook(hook))
    with torch.no_grad():
        theirs(backbone.preprocessing.normalise(images))
    for name, activation in ours.items():
        torch.testing.assert_close(kept[name].reshape(activation.shape), activation, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(("suffix", "reach"), [("", 4), ("_shifted", 2)])
def test_a_window_that_fills_its_stage_is_quadrants_where_all_are_shifted(suffix, reach, swin, tmp_path):
    path = foreign.mim_depth(tmp_path / "a.ckpt", swin)
    backbone = load_file(path, arch=f"swinv2_micro{suffix}")
    assert_same_weights(backbone, swin)
    for stage, side in ((2, 4), (3, 2)):  # windows of 4 and 2 tokens
        channels = 32 * 2**stage
        block = backbone.model.layers[stage].blocks[1]
        tokens = torch.randn(1, side, side, channels, requires_grad=True)
        block(tokens)[0, 0, 0].square().sum().backward()
        seen = tokens.grad[0].abs().amax(-1) > 1e-12  # masks are -100, not infinite
        assert seen.nonzero().tolist() == [[i, j] for i in range(side * reach // 4) for j in range(side * reach // 4)]
