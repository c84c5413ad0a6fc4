"""The segmentation task: what is lost, scored, shown and refused, by hand and by slow loops; labels scaled wrongly."""

import math

import numpy as np
import pytest
import torch
from helpers import foreign
from PIL import Image
from torch import Generator

from cka_probe.errors import DataError, RecipeError, UnknownNameError
from cka_probe.images.classes import CITYSCAPES_IDS
from cka_probe.lab.tasks.decoders import maps
from cka_probe.lab.tasks.lidar import Lidar
from cka_probe.lab.tasks.segmentation import NETWORKS, Segmentation
from cka_probe.lab.training.start import fill
from cka_probe.lab.transforms.augment import bicubic_labels
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD, NORMALISATIONS, Backbone

SIZE = (64, 96)


def backbone_of(network="skip", name="resnet18"):
    torch.manual_seed(0)
    if network == "dpt":
        return Backbone(foreign.randomised(ARCHITECTURES["vit_micro"].build(size=SIZE)), size=SIZE)
    options = {"output_stride": 16} if network == "deeplab" else {}
    return Backbone(ARCHITECTURES[name].build(size=64, **options), size=SIZE if name == "resnet18" else 64)


def told(task, logits, monkeypatch):
    """Let a task predict these logits."""
    monkeypatch.setattr(Segmentation, "predict", lambda *_: logits)
    return task


def drawn(n=2, classes=4, size=(5, 7), seed=0, ignored=0.3):
    generator = Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, classes, *size, generator=generator)
    labels = torch.randint(classes, (n, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return logits, labels, {"image": torch.zeros(n, 3, *size), "labels": labels}


def test_the_loss_is_the_mean_over_all_labelled_pixels_of_the_batch(monkeypatch):
    logits, labels, batch = drawn()
    lost, right, count = 0.0, 0, 0
    for n, y, x in np.ndindex(*labels.shape):
        if labels[n, y, x] != 255:
            z = [float(value) for value in logits[n, :, y, x]]
            lost -= z[labels[n, y, x]] - math.log(sum(math.exp(value) for value in z))
            right += int(max(range(4), key=z.__getitem__) == labels[n, y, x])
            count += 1
    loss, parts = told(Segmentation(SIZE, 4), logits, monkeypatch).loss(None, None, batch)
    assert loss.item() == pytest.approx(lost / count, rel=1e-5)
    assert parts["accuracy"].item() == pytest.approx(right / count)


def test_what_is_ignored_changes_nothing_and_has_no_gradient(monkeypatch):
    logits, labels, batch = drawn()
    other = torch.where((labels == 255)[:, None], torch.randn_like(logits), logits).requires_grad_()
    loss = told(Segmentation(SIZE, 4), logits, monkeypatch).loss(None, None, batch)[0]
    same = told(Segmentation(SIZE, 4), other, monkeypatch).loss(None, None, batch)[0]
    same.backward()
    assert torch.equal(loss, same.detach())
    assert not other.grad.movedim(1, -1)[labels == 255].any()


@pytest.mark.parametrize("network", NETWORKS)
def test_without_a_label_the_loss_is_0_with_a_graph(network):
    backbone, task = backbone_of(network), Segmentation(SIZE, 4, network)
    head = task.head(backbone)
    batch = {"image": torch.zeros(2, 3, *SIZE), "labels": torch.full((2, *SIZE), 255)}
    loss, parts = task.loss(backbone.train(), head.train(), batch)
    loss.backward()
    assert loss.item() == parts["accuracy"].item() == 0
    gradients = [p.grad for module in (backbone, head) for p in module.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    values = task.evaluate(backbone.eval(), head.eval(), batch)
    assert values["cross_entropy"].isnan().all()
    assert values["accuracy_per_image"].isnan().all()
    assert not values["confusion"].any()


def test_scores_of_an_image_and_of_all_of_them_worked_by_hand(monkeypatch):
    """First image: truth 0 0 1 1, found 0 1 1 1. Second: truth 2 2 ., found 2 0."""
    labels = torch.tensor([[[0, 0, 1, 1]], [[2, 2, 255, 255]]])
    found = torch.tensor([[[0, 1, 1, 1]], [[2, 0, 1, 2]]])
    logits = torch.nn.functional.one_hot(found, 3).permute(0, 3, 1, 2).float()
    batch = {"image": torch.zeros(2, 3, 1, 4), "labels": labels}
    task = told(Segmentation(SIZE, 3, subset=(0, 2)), logits, monkeypatch)
    values = task.evaluate(None, None, batch)
    sums = {"confusion": values.pop("confusion").double().sum(0)}
    hit, miss = math.log(math.e + 2) - 1, math.log(math.e + 2)
    expected = {
        "cross_entropy": [(3 * hit + miss) / 4, (hit + miss) / 2],
        "accuracy_per_image": [3 / 4, 1 / 2],
        "miou_per_image": [(1 / 2 + 2 / 3) / 2, (0 + 1 / 2) / 2],
        "miou_subset_per_image": [1 / 2, (0 + 1 / 2) / 2],
    }
    assert values.keys() == expected.keys()
    for name, numbers in expected.items():
        assert values[name].tolist() == pytest.approx(numbers, rel=1e-6), name
    summary = task.summary(sums)
    assert summary == pytest.approx(
        {"miou": (1 / 3 + 2 / 3 + 1 / 2) / 3, "miou_subset": (1 / 3 + 1 / 2) / 2, "accuracy": 4 / 6}
    )
    assert "miou_subset" not in Segmentation(SIZE, 3).summary(sums)


@pytest.mark.parametrize("network", NETWORKS)
def test_logits_have_the_size_of_the_image_and_come_from_the_finest_map_alone(network):
    backbone, task = backbone_of(network).eval(), Segmentation(SIZE, 5, network)
    head = task.head(backbone).eval()
    images = torch.rand(2, 3, *SIZE)
    with torch.no_grad():
        logits = task.predict(backbone, head, images)
        coarse = head(backbone.block_maps(images, 4) if network == "dpt" else backbone.pyramid(images))
    assert (logits.shape, logits.dtype) == ((2, 5, *SIZE), torch.float32)
    assert coarse.shape[-2:] == tuple(
        side // {"skip": 1, "dpt": 2, "deeplab": 16, "linear": 32}[network] for side in SIZE
    )
    weights = {name for name, _ in head.named_parameters()}
    assert {name.split(".")[0] for name in weights} == {
        {"skip": "decoder", "dpt": "decoder", "deeplab": "context"}.get(network, "to_logits"), "to_logits"
    }  # fmt: skip
    bias = [value for name, value in head.named_parameters() if name.startswith("to_logits") and name.endswith("bias")]
    with torch.no_grad():
        bias[-1] += 7.0  # raw logits: nothing comes after the last convolution
        torch.testing.assert_close(task.predict(backbone, head, images), logits + 7.0)


def test_dpt_reads_the_last_block_of_each_quarter_after_the_norm():
    model = backbone_of("dpt").eval()
    images = torch.rand(2, 3, *SIZE)
    outputs = []
    for number in (2, 5, 8, 11):
        model.model.blocks[number].register_forward_hook(lambda *parts: outputs.append(parts[2]))
    with torch.no_grad():
        blocks = model.block_maps(images, 4)
        for (patches, class_token), output in zip(blocks, outputs, strict=True):
            tokens = model.model.norm(output)
            assert torch.equal(patches.flatten(2).transpose(1, 2), tokens[:, 1:])
            assert torch.equal(class_token, tokens[:, :1])


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet18", SIZE, "expected a vision transformer for network 'dpt', found ResNet; train a DINOv2 or a ViT"),
        ("vit_micro", (64, 80), "expected an input of multiples of 32 pixels for network 'dpt' on patches of 16"),
        ("dinov2_micro", (56, 70), "expected an input of multiples of 28 pixels for network 'dpt' on patches of 14"),
    ],
)
def test_dpt_refuses_what_it_cannot_read(name, size, message):
    backbone = Backbone(ARCHITECTURES[name].build(size=size), size=size)
    with pytest.raises(RecipeError, match=message):
        Segmentation(size, 5, "dpt").head(backbone)


def test_dpt_reads_patches_of_14():
    size = (56, 84)
    backbone, task = Backbone(ARCHITECTURES["dinov2_micro"].build(size=size), size=size), Segmentation(size, 5, "dpt")
    assert task.predict(backbone, task.head(backbone), torch.rand(2, 3, *size)).shape == (2, 5, *size)


def test_a_view_of_a_share_of_the_area_shows_that_share():
    ramp = (torch.arange(96.0) / 96).expand(3, 64, 96)
    sample = {"image": ramp, "labels": torch.zeros(64, 96, dtype=torch.int64)}
    task = Segmentation(SIZE, 5, area=(0.25, 0.25), flip=False)
    for seed in range(4):
        view = task.prepare(sample, Generator().manual_seed(seed), True)["image"]
        assert view.shape == (3, *SIZE)
        assert (view[0, 0, -1] - view[0, 0, 0]).item() == pytest.approx(0.5, abs=0.08)  # half a side; 3/4 to 4/3
    assert torch.equal(task.prepare(sample, Generator(), False)["image"], ramp)


def test_the_linear_probe_is_a_matrix_at_each_place_of_the_last_map():
    backbone, task = backbone_of().eval(), Segmentation(SIZE, 5, "linear")
    head = task.head(backbone)
    images = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        features, logits = backbone.features(images), head(backbone.pyramid(images))
        for y, x in np.ndindex(2, 3):
            at = head.to_logits.weight[:, :, 0, 0] @ features[0, :, y, x] + head.to_logits.bias
            torch.testing.assert_close(logits[0, :, y, x], at, atol=1e-5, rtol=1e-4)


def test_a_swin_has_the_skip_network_and_the_probe():
    backbone = Backbone(ARCHITECTURES["swinv2_micro"].build(size=64, depths=(1, 1, 2, 1)), size=64).eval()
    for network in ("skip", "linear"):
        task = Segmentation((64, 64), 5, network)
        assert task.predict(backbone, task.head(backbone).eval(), torch.rand(1, 3, 64, 64)).shape == (1, 5, 64, 64)
    with pytest.raises(RecipeError, match=r"stride 16 for network 'deeplab', found 32; set output_stride=16"):
        Segmentation((64, 64), 5, "deeplab").head(backbone)


def test_networks_say_what_encoders_they_want():
    assert [stride for _, stride in maps(backbone_of("deeplab"))] == [2, 4, 8, 16, 16]
    with pytest.raises(
        RecipeError,
        match=r"encoder with maps at .* found .2, 4, 8, 16, 16.; train .* output_stride=32",
    ):
        Segmentation(SIZE, 5).head(backbone_of("deeplab"))
    with pytest.raises(RecipeError, match=r"stride 16 for network 'deeplab', found 8; set output_stride=16"):
        Segmentation(SIZE, 5, "deeplab").head(
            Backbone(ARCHITECTURES["resnet18"].build(size=64, output_stride=8), size=SIZE)
        )
    backbone, task = backbone_of("deeplab"), Segmentation(SIZE, 5, "deeplab")
    with pytest.raises(RecipeError, match=r"at least 2 images at a time for network 'deeplab'.*found 1; set batch"):
        task.predict(backbone.train(), task.head(backbone).train(), torch.rand(1, 3, *SIZE))


def test_deeplab_pools_over_the_paper_s_distances():
    convolutions = [m for m in Segmentation(SIZE, 5, "deeplab").head(backbone_of("deeplab")).modules()
                    if isinstance(m, torch.nn.Conv2d)]  # fmt: skip
    assert {c.dilation[0] for c in convolutions} == {1, 6, 12, 18}
    assert all(c.groups == 1 for c in convolutions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "expected `classes` from 2 to 255, found 1"),
        ({"classes": 256}, "expected `classes` from 2 to 255, found 256"),
        ({"subset": (0, 19)}, r"expected a `subset` of the classes 0 to 18, each once, found \[0, 19\]"),
        ({"subset": (3, 3)}, r"expected a `subset` of the classes 0 to 18, each once, found \[3, 3\]"),
        ({"size": (64, 100)}, "network 'skip': expected sides that are multiples of 32, at least 64, found 64 x 100"),
        ({"size": (32, 64)}, "network 'skip': expected sides that are multiples of 32, at least 64, found 32 x 64"),
        ({"classes": 11, "bicubic_labels": True}, "`bicubic_labels` for the 19 classes .* alone, found 11 classes"),
        ({"crop": True, "bicubic_labels": True}, "`bicubic_labels` or `crop`, which scales nothing, found both"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        Segmentation(**{"size": SIZE, "classes": 19} | options)
    Segmentation((64, 100), 19, "linear")


def test_an_unknown_network_says_what_there_is():
    with pytest.raises(UnknownNameError, match="no network 'deeplap'; did you mean 'deeplab'"):
        Segmentation(SIZE, 19, "deeplap")


# what a view shows


def sample_of(height=80, width=120, classes=19):
    """An image whose red is its label."""
    labels = torch.randint(classes, (height // 8, width // 8), generator=Generator().manual_seed(0))
    labels = labels.repeat_interleave(8, 0).repeat_interleave(8, 1)
    labels[:4] = 255
    return {"image": (labels / 255.0).expand(3, height, width).contiguous(), "labels": labels}


def test_a_view_is_the_whole_image_mirrored_one_time_in_two_and_labels_stay_classes():
    task, sample = Segmentation(SIZE, 19), sample_of()
    plain = task.prepare(sample, Generator(), False)
    assert plain["labels"].shape == SIZE
    assert set(plain["labels"].unique().tolist()) <= set(sample["labels"].unique().tolist())
    mirrored = 0
    for seed in range(40):
        cut = task.prepare(sample, Generator().manual_seed(seed), True)
        turned = not torch.equal(cut["labels"], plain["labels"])
        expected = {name: field.flip(-1) if turned else field for name, field in plain.items()}
        assert all(torch.equal(cut[name], expected[name]) for name in expected)
        mirrored += turned
    assert 10 < mirrored < 30
    still = Segmentation(SIZE, 19, flip=False)
    for seed in range(10):
        assert torch.equal(still.prepare(sample, Generator().manual_seed(seed), True)["labels"], plain["labels"])


def test_a_crop_is_not_scaled_and_image_and_labels_stay_on_top_of_each_other():
    task, sample = Segmentation(SIZE, 19, crop=True), sample_of()
    places = set()
    for seed in range(20):
        cut = task.prepare(sample, Generator().manual_seed(seed), True)
        assert torch.equal(cut["image"][0], cut["labels"] / 255.0)
        places.add(tuple(cut["labels"].flatten().tolist()))
    assert len(places) > 10
    middle = task.prepare(sample, Generator(), False)
    assert torch.equal(middle["labels"], sample["labels"][8:72, 12:108])
    with pytest.raises(DataError, match="at least 96x64 pixels"):
        task.prepare(sample_of(64, 64), Generator(), True)


def test_labels_that_are_no_class_say_what_to_set():
    with pytest.raises(DataError, match=r"labels from 0 to 3, or 255, found \d+; set the stage's options.classes"):
        Segmentation(SIZE, 4).prepare(sample_of(), Generator(), False)


# labels scaled like images


def slow_bicubic(ids, size):
    """Pillow on raw ids, then the meaning of each number, pixel by pixel."""
    scaled = np.asarray(Image.fromarray(ids).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    meaning = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13,
               27: 14, 28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
    return [[meaning.get(int(number), 255) for number in row] for row in scaled]


def test_labels_scaled_like_images_invent_classes_between_classes():
    road_and_building = torch.zeros(40, 60, dtype=torch.int64)
    road_and_building[torch.arange(60)[None] > 20 + torch.arange(40)[:, None] / 3] = 2
    found = bicubic_labels(road_and_building, (20, 30))
    assert {1, 0, 2} <= set(found.unique().tolist())  # 8, sidewalk, lies between 7, road, and 11, building
    ids = np.where(road_and_building.numpy() == 0, 7, 11).astype(np.uint8)
    assert found.tolist() == slow_bicubic(ids, (20, 30))
    assert torch.equal(bicubic_labels(road_and_building, (40, 60)), road_and_building), "unscaled labels stay"


def test_every_class_survives_the_way_through_its_id():
    every = torch.arange(19).repeat_interleave(19).view(19, 19)
    every[0, 0] = 255
    assert torch.equal(bicubic_labels(every, (19, 19)), every)
    assert [CITYSCAPES_IDS[number] for number in (7, 33)] == [0, 18]


def test_only_training_labels_are_scaled_like_images():
    task, sample = Segmentation(SIZE, 19, flip=False, bicubic_labels=True), sample_of()
    clean = Segmentation(SIZE, 19, flip=False).prepare(sample, Generator(), True)
    spoilt = task.prepare(sample, Generator(), True)
    assert torch.equal(task.prepare(sample, Generator(), False)["labels"], clean["labels"])
    assert torch.equal(spoilt["image"], clean["image"])
    assert torch.equal(spoilt["labels"], bicubic_labels(sample["labels"], SIZE))
    assert 0.01 < (spoilt["labels"] != clean["labels"]).float().mean() < 0.6
    mirrored = Segmentation(SIZE, 19, bicubic_labels=True)
    seen = {tuple(mirrored.prepare(sample, Generator().manual_seed(s), True)["labels"].flatten().tolist())
            for s in range(12)}  # fmt: skip
    assert seen == {tuple(spoilt["labels"].flatten().tolist()), tuple(spoilt["labels"].flip(-1).flatten().tolist())}


def test_normalised_twice_is_one_normalisation_after_the_other():
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    twice = ((images - mean) / std - 0.45) / 0.225
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in NORMALISATIONS["imagenet_twice"])
    torch.testing.assert_close((images - mean) / std, twice)


def test_colours_of_training_views_vary_and_labels_do_not():
    sample, task = sample_of(), Segmentation(SIZE, 19, color_jitter=0.5)
    plain = Segmentation(SIZE, 19).prepare(sample, Generator().manual_seed(3), True)
    varied = task.prepare(sample, Generator().manual_seed(3), True)
    assert torch.equal(plain["labels"], varied["labels"])
    assert not torch.equal(plain["image"], varied["image"])
    assert torch.equal(
        task.prepare(sample, Generator(), False)["image"],
        Segmentation(SIZE, 19).prepare(sample, Generator(), False)["image"],
    )


def test_deeplab_continues_with_the_decoder_of_depth_and_a_new_last_layer():
    backbone, task = backbone_of("deeplab"), Segmentation(SIZE, 19, "deeplab")
    depth = Lidar(SIZE, network="deeplab", scales=1).head(backbone)
    head = task.head(backbone)
    assert "lidar" in task.continues
    state = {name: value for name, value in depth.state_dict().items() if name.startswith(task.carries)}
    fill(head, state, task.carries)
    new = {
        name
        for name, value in head.state_dict().items()
        if not torch.equal(value, depth.state_dict().get(name, value + 1))
    }
    assert new == {"to_logits.weight", "to_logits.bias"}
