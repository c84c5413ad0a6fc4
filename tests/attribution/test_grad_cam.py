"""Grad-CAM against references without hooks, its symmetries, and what it leaves behind."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from cka_probe import Backbone, grad_cam, registry
from cka_probe.attribution.grad_cam import Maps
from cka_probe.attribution.networks import network_of
from cka_probe.errors import CheckpointError, DataError, LayerError, UnknownNameError
from cka_probe.lab.tasks import TASKS
from cka_probe.models.checkpoint import Checkpoint, Trained, save_checkpoint
from cka_probe.models.load import load, random_backbone, weights_hash


def net(classes=4, seed=0):
    """Return a small network from images to logits at their size, with in-place ReLUs."""
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, classes, 1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
    )
    logits = layers(torch.rand(4, 3, 8, 12))  # and batch norm has its statistics
    layers[5].bias.data -= logits.mean((0, 2, 3)).detach()  # so that several classes are predicted
    return layers.eval()


def random_images(n=3, seed=1):
    return torch.rand(n, 3, 8, 12, generator=torch.Generator().manual_seed(seed))


def max_logits(logits):
    return logits.max(1).values.sum((1, 2))


def by_splitting(network, images, after, score):
    """Return maps without a hook: a sequence cut in two behind a layer, channel by channel and image by image."""
    maps = []
    for image in images:
        activation = network[: after + 1](image[None]).detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(score(network[after + 1 :](activation * 1)).sum(), activation)
        total = torch.zeros(activation.shape[2:])
        for channel in range(activation.shape[1]):
            alpha = gradient[0, channel].sum() / gradient[0, channel].numel()
            total += alpha * activation[0, channel].detach()
        maps.append(total)
    return torch.stack(maps)


@pytest.mark.parametrize("after", range(6))
def test_a_map_equals_that_of_a_network_cut_in_two(after):
    network, images = net(), random_images()
    maps = grad_cam(network, images, str(after) if after else "module:0")
    torch.testing.assert_close(maps.signed, by_splitting(network, images, after, max_logits), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(maps.scores, max_logits(network(images)).detach())
    assert torch.equal(maps.predictions, network(images).argmax(1))
    assert maps.size == (8, 12)


def test_a_worked_example():
    # logits 0 and 1 are A_0 and 2 A_1: pixels (0, 0), (0, 1) are of class 0, the others of class 1, so that
    # alpha = (2 / 4, 2 * 2 / 4), and the map is A_0 / 2 + A_1
    network = nn.Sequential(nn.Identity(), nn.Conv2d(3, 2, 1, bias=False))
    network[1].weight.data = torch.tensor([[1.0, 0, 0], [0, 2.0, 0]])[..., None, None]
    image = torch.tensor([[[4.0, 3], [1, 0]], [[1.0, 1], [1, 5]], [[9.0, 9], [9, 9]]])[None] / 16
    maps = grad_cam(network, image, "module:0@NCHW")
    assert maps.predictions.tolist() == [[[0, 0], [1, 1]]]
    assert (16 * maps.scores).tolist() == [4 + 3 + 2 + 10]
    assert (16 * maps.per_class).tolist() == [[[[2.0, 1.5], [0.5, 0]], [[1.0, 1], [1, 5]]]]
    assert (16 * maps.signed).tolist() == [[[3.0, 2.5], [1.5, 5]]]
    torch.testing.assert_close(maps.heatmaps(), torch.tensor([[[1.5, 1.0], [0, 3.5]]]) / 3.5)


@pytest.mark.parametrize("log_softmax", [False, True])
def test_maps_of_the_classes_add_up_to_the_whole(log_softmax):
    network, images = net(), random_images()

    def whole(logits):
        return max_logits(logits.log_softmax(1) if log_softmax else logits)

    maps = grad_cam(network, images, "3", log_softmax=log_softmax)
    torch.testing.assert_close(maps.per_class.sum(1), maps.signed)
    torch.testing.assert_close(maps.signed, by_splitting(network, images, 3, whole), rtol=1e-5, atol=1e-6)
    present = {k for k in range(4) if (maps.predictions == k).any()}
    assert len(present) > 1
    for k in range(4):
        alone = grad_cam(network, images, "3", f"segmentation:{k}", log_softmax=log_softmax)
        torch.testing.assert_close(alone.signed, maps.per_class[:, k])
        assert alone.per_class is None
        assert torch.equal(alone.signed, grad_cam(network, images, "3", f"class:{k}", log_softmax=log_softmax).signed)
        assert (maps.per_class[:, k].abs().max() > 0) == (k in present)


class Shifted(nn.Module):
    """A network whose logits have, at each pixel, one number added that depends on the image."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        torch.manual_seed(5)
        self.shift = nn.Conv2d(8, 1, 1)

    def forward(self, images):
        features = self.network[:5](images)
        shift = nn.functional.interpolate(self.shift(features), scale_factor=2, mode="bilinear")
        return self.network[5:](features) + 3 * shift


def test_log_softmax_is_invariant_to_a_constant_added_to_all_logits_of_a_pixel():
    network, images = net(), random_images()
    shifted = Shifted(network).eval()
    plain, with_shift = (grad_cam(m, images, n).signed for m, n in ((network, "2"), (shifted, "network.2")))
    assert (plain - with_shift).abs().max() > 0.1 * plain.abs().max()
    plain, with_shift = (
        grad_cam(m, images, n, log_softmax=True).signed for m, n in ((network, "2"), (shifted, "network.2"))
    )
    torch.testing.assert_close(plain, with_shift, rtol=1e-4, atol=1e-5 * plain.abs().max().item())


def test_a_batch_gives_the_maps_of_its_single_images():
    network, images = net(), random_images(3)
    together = grad_cam(network, images, "2")
    for index in range(3):
        alone = grad_cam(network, images[index : index + 1], "2")
        torch.testing.assert_close(alone.signed[0], together.signed[index])
        torch.testing.assert_close(alone.per_class[0], together.per_class[index])
        torch.testing.assert_close(alone.scores[0], together.scores[index])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_frozen_or_inside_code_without_gradients_a_map_is_the_same(mode, tmp_path):
    model = segmenter()
    path = tmp_path / "model.safetensors"
    header = Checkpoint("resnet18", {"size": 64}, (0.4,) * 3, (0.2,) * 3, "tune", "segmentation", {"classes": 3})
    save_checkpoint(path, model.backbone, model.head, header)
    images = torch.rand(1, 3, 64, 64)
    expected = grad_cam(path, images, "layer1")
    with mode():
        torch.testing.assert_close(grad_cam(path, images.clone(), "layer1").signed, expected.signed)
        frozen = segmenter() if mode is torch.no_grad else model
    frozen.backbone.requires_grad_(False)
    backbone = Backbone(frozen.backbone.model, size=64, mean=(0.4,) * 3, std=(0.2,) * 3, layers=model.backbone.layers)
    result = grad_cam(Trained(backbone, model.head, model.task), images, "layer1")
    torch.testing.assert_close(result.signed, expected.signed)


def segmenter(architecture="resnet18", size=(64, 64), task="segmentation", **options):
    """Return a random encoder with the random head of a task."""
    options = options or ({"classes": 3} if task == "segmentation" else {})
    task, backbone = registry.get(TASKS, task, "task")(size, **options), random_backbone(architecture)
    torch.manual_seed(2)
    return Trained(backbone, task.head(backbone).eval(), task)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(fails):
    model = segmenter()
    parts = (model.backbone, model.head)
    model.head.train()
    model.backbone.model.layer2.train()
    model.backbone.model.layer3.requires_grad_(False)

    def trace():
        modules = [module for part in parts for module in part.modules()]
        parameters = [parameter for part in parts for parameter in part.parameters()]
        buffers = [buffer.sum().item() for part in parts for buffer in part.buffers()]
        hooks = sum(len(module._forward_hooks) for module in modules)
        return hooks, [m.training for m in modules], [(p.requires_grad, p.grad) for p in parameters], buffers

    def target(_logits):
        raise ZeroDivisionError

    before = trace()
    for layer in ("first", "bn1", "head.decoder"):
        if fails:
            with pytest.raises(ZeroDivisionError):
                grad_cam(model, torch.rand(2, 3, 64, 64), layer, target)
        else:
            grad_cam(model, torch.rand(2, 3, 64, 64), layer)
        assert trace() == before


def test_the_map_of_a_segmentation_is_zero_only_where_those_of_all_classes_are():
    per_class = torch.tensor([[[[-3.0, 2]], [[1.0, -5]]], [[[-1.0, 0]], [[-2.0, -1]]]])  # two images, two classes
    maps = Maps("act1", "segmentation", per_class.sum(1), per_class, torch.zeros(2), None, (1, 2))
    assert (maps.signed <= 0).all()  # one ReLU over the sum would leave nothing of either image
    assert maps.positive.tolist() == [[[1, 2]], [[0, 0]]]
    assert maps.empty.tolist() == [False, True]
    assert maps.heatmaps().tolist() == [[[0, 1]], [[0, 0]]]


def test_heatmaps_are_from_0_to_1_and_an_empty_map_is_0():
    signed = torch.tensor([[[-1.0, 2], [0, 4]], [[-1.0, -2], [0, -3]], [[2.0, 2], [2, 2]], [[3.0, 5], [4, 4]]])
    maps = Maps("act1", "depth", signed, None, torch.zeros(4), None, (2, 2))
    assert maps.empty.tolist() == [False, True, False, False]
    assert maps.heatmaps().tolist() == [[[0, 0.5], [0, 1]], [[0, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 1], [0.5, 0.5]]]
    large = maps.heatmaps((6, 10))
    assert large.shape == (4, 6, 10)
    assert large.amin((1, 2)).tolist() == [0, 0, 0, 0]
    assert large.amax((1, 2)).tolist() == [1, 0, 0, 1]
    with pytest.raises(DataError, match=r"expected a size as \(height, width\) in pixels, found \(0, 3\)"):
        maps.heatmaps((0, 3))


@pytest.mark.parametrize(
    ("images", "layer", "target", "error", "message"),
    [
        (random_images()[0], "2", "segmentation", DataError, r"expected images \(n, 3, H, W\).*with \[None\]"),
        (random_images(), "nine", "segmentation", LayerError, "no layer 'nine' in Sequential"),
        (random_images(), "*", "segmentation", LayerError, r"expected one layer, found 7 for '\*'"),
        (random_images(), "2", "segmentation:4", UnknownNameError, "no class 4: the network has 4, from 0 to 3"),
        (
            random_images(),
            "2",
            "labels",
            UnknownNameError,
            r"no target 'labels'.* segmentation, class, depth, none",
        ),
        (
            random_images().fill_(torch.nan),
            "2",
            "segmentation",
            DataError,
            r"expected images with values in \[0, 1\], found nan",
        ),
    ],
)
def test_invalid_inputs_are_one_line_errors(images, layer, target, error, message):
    with pytest.raises(error, match=message) as raised:
        grad_cam(net(), images, layer, target)
    assert "\n" not in str(raised.value)


def test_a_model_that_cannot_be_explained_is_an_error():
    with pytest.raises(CheckpointError, match=r"expected a checkpoint, a reference or a torch.nn.Module, found int"):
        grad_cam(3, random_images(), "2")
    with pytest.raises(DataError, match="it is an encoder without a head; give a network with a head, or the target n"):
        grad_cam("random:resnet18", random_images(), "act1")
    encoder = torchvision.models.resnet18()
    encoder.fc = nn.Identity()  # its features are no logits
    with pytest.raises(DataError, match="it is an encoder without a head"):
        grad_cam(encoder, random_images(), "layer4", 3)
    with pytest.raises(DataError, match="its task, masked, predicts nothing from one image"):
        grad_cam(segmenter("swinv2_micro", task="masked", cell=16), torch.rand(1, 3, 64, 64), "layers.0")
    with pytest.raises(DataError, match="expected images of 64x64 pixels, the input size of this swinv2_micro"):
        grad_cam("random:swinv2_micro", torch.rand(1, 3, 32, 64), "layers.0", "none")
    with pytest.raises(LayerError, match="no layer 'decodr' in the head, SkipHead; did you mean 'decoder'"):
        grad_cam(segmenter(), torch.rand(1, 3, 64, 64), "head.decodr")


@pytest.mark.slow
def test_a_file_of_a_classifier_has_the_maps_of_the_whole_network(tmp_path):
    torch.manual_seed(0)
    model, images = torchvision.models.resnet18(num_classes=5).eval(), torch.rand(2, 3, 64, 64)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    file, whole = (
        grad_cam(network, images, "layer4.0", "class:3") for network in (tmp_path / "a.pth", Backbone(model))
    )
    assert whole.signed.abs().max() > 0
    torch.testing.assert_close(file.signed, whole.signed)
    torch.testing.assert_close(file.scores, whole.scores)
    assert torch.equal(file.predictions, whole.predictions)
    encoder = network_of(load(tmp_path / "a.pth"))
    assert encoder.describe()["hash"] != weights_hash(encoder.backbone.model)  # another classifier has other maps


def test_maps_are_of_full_precision_within_autocast():
    network, images = net(), random_images()
    expected = grad_cam(network, images, "2")
    with torch.autocast("cpu", torch.bfloat16):
        maps = grad_cam(network, images, "2")
    assert torch.equal(maps.scores, expected.scores)
    assert torch.equal(maps.signed, expected.signed)


def weighted_sum(output):
    return (output * torch.linspace(-1, 1, output.shape[-1])).sum(-1)


@pytest.mark.parametrize("before", [1, 5], ids=["class token", "class token and 4 registers"])
def test_maps_of_tokens_equal_those_from_the_rest_of_the_transformer(before):
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=(28, 42), patch_size=14, embed_dim=16, depth=3, num_heads=2, num_classes=4, reg_tokens=before - 1
    ).eval()
    images = torch.rand(2, 3, 28, 42)
    maps = grad_cam(model, images, "blocks.1", "class:2")

    tokens = model.norm_pre(model._pos_embed(model.patch_embed(images)))
    for block in model.blocks[:2]:
        tokens = block(tokens)
    tokens = tokens.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.forward_head(model.norm(model.blocks[2](tokens)))[:, 2].sum(), tokens)
    assert tokens.shape[1] == before + 6
    alpha = gradient[:, before:].mean(1)
    expected = (tokens.detach()[:, before:] * alpha[:, None]).sum(-1).view(2, 2, 3)
    assert expected.abs().max() > 0
    torch.testing.assert_close(maps.signed, expected, rtol=1e-5, atol=1e-8)


def test_a_dinov2_is_mapped_at_any_size_and_is_empty_behind_its_last_attention():
    model, images = random_backbone("dinov2_micro"), torch.rand(2, 3, 56, 84)
    for layer in ("patch_embed", "blocks.3", 4):
        assert grad_cam(model, images, layer, weighted_sum).signed.shape == (2, 4, 6)
    last = grad_cam(model, images, "blocks.11", weighted_sum)  # the class token alone is read
    assert last.empty.tolist() == [True, True]
    strength = grad_cam(model, images, "blocks.11", "none")
    assert not strength.empty.any()
    tokens = model.model.forward_features(model.preprocessing.normalise(images)).detach()
    assert tokens.shape == (2, 25, 64)
    torch.testing.assert_close(
        grad_cam(model, images, "norm", "none").signed, tokens[:, 1:].square().mean(-1).sqrt().view(2, 4, 6)
    )


class TokensFirst(nn.Module):
    """A transformer whose tokens come first, (L, n, C), like that of CLIP's authors."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.block = nn.TransformerEncoderLayer(16, 2, 16, dropout=0.0)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 4)

    def forward(self, images):
        tokens = self.block(self.patches(images).flatten(2).permute(2, 0, 1))
        return self.head(self.norm(tokens).mean(0))


@pytest.mark.parametrize("n", [3, 4])
def test_tokens_before_images_have_the_maps_of_single_images(n):
    model, images = TokensFirst().eval(), torch.rand(n, 3, 16, 16)  # four tokens, as many as images
    for target in (1, "none"):
        together = grad_cam(model, images, "block@2x2", target).signed
        assert together.shape == (n, 2, 2)
        for index in range(n):
            alone = grad_cam(model, images[index : index + 1], "block@2x2", target).signed[0]
            torch.testing.assert_close(together[index], alone, rtol=1e-4, atol=1e-7)


def test_the_last_layer_of_tokens_before_images_is_the_last_one():
    assert grad_cam(TokensFirst().eval(), torch.rand(3, 3, 16, 24), target=1).layer == "norm"


def test_a_call_of_a_module_that_runs_twice_may_be_named():
    model, images = torchvision.models.resnet18(num_classes=5).eval(), torch.rand(1, 3, 64, 64)
    with pytest.raises(LayerError, match="runs more than once"):
        grad_cam(model, images, "layer4.1.relu", 2)
    second = grad_cam(model, images, "layer4.1.relu#2", 2)
    torch.testing.assert_close(second.signed, grad_cam(model, images, "layer4.1", 2).signed)
    assert grad_cam(model, images, "layer4.1.relu#1", 2).signed.shape == (1, 2, 2)
