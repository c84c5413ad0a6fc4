"""What every transform of samples keeps to: types, holes, colours, refusals, messages."""

import pytest
import torch
from helpers.plane import H, K, W, scene
from torch import Generator
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from cka_probe.errors import CkaProbeError, DataError
from cka_probe.images.sample import FIELDS, OBJECTS
from cka_probe.lab.transforms import (
    TYPES,
    color_jittered,
    cropped,
    flipped,
    plain,
    random_area,
    resized,
    typed,
)
from cka_probe.lab.transforms.fields import CARRIED, GREY, REFUSED


def test_every_field_of_a_sample_has_a_type():
    assert set(TYPES) == {*FIELDS, *OBJECTS}
    assert set(scene()) == set(FIELDS)


def test_holes_are_never_mixed_with_what_is_there():
    sample = {name: scene()[name].clone() for name in ("image", "depth", "flow", "labels")}
    sample["depth"][:, ::3], sample["flow"][:, ::3], sample["labels"][::3] = 0, torch.nan, 255
    view = resized(sample, (97, 50))
    assert torch.equal(view["depth"][0] == 0, view["flow"][0].isnan())
    assert torch.equal(view["depth"][0] == 0, view["labels"] == 255)
    assert set(view["depth"].unique().tolist()) <= set(sample["depth"].unique().tolist())


def test_a_line_stays_unbroken_when_its_image_shrinks():
    line = torch.eye(64, dtype=torch.bool)[None]
    for size in (16, 23, 40):
        shrunk = resized({"edges": line}, (size, size))["edges"]
        assert shrunk[0].diagonal().all()
    assert resized({"edges": line}, (16, 128))["edges"].any(1).all()
    assert not resized({"edges": torch.zeros_like(line)}, (16, 128))["edges"].any()


def test_a_mirrored_stereo_pair_has_its_other_camera_on_the_other_side():
    partner = torch.eye(4)
    partner[0, 3] = -0.54
    assert flipped({"image": scene()["image"], "source_T_target": partner[None]})["source_T_target"][0, 0, 3] == 0.54


def test_flipping_twice_changes_nothing_and_samples_stay_as_they_were():
    before = {name: field.clone() for name, field in scene().items()}
    twice = flipped(flipped(scene()))
    for name, field in before.items():
        assert torch.equal(scene()[name], field)
        torch.testing.assert_close(twice[name], field)


@pytest.mark.parametrize("grey", [v2.Identity(), v2.RandomGrayscale(1.0), v2.RandomChannelPermutation()])
def test_v2_colours_change_image_and_sources_alike_and_nothing_else(grey):
    sample = {**scene(), "sources": scene()["image"][None].repeat(2, 1, 1, 1)}
    torch.manual_seed(7)
    view = plain(v2.Compose([v2.ColorJitter(0.4, 0.4, 0.4, 0.2), grey])(typed(sample)))
    assert not torch.allclose(view["image"], sample["image"])
    for source in view["sources"]:
        torch.testing.assert_close(source, view["image"])
    assert all(torch.equal(view[name], sample[name]) for name in FIELDS if name not in ("image", "sources"))


JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2, "gamma": 0.4}


def test_color_jittering_follows_from_its_generator_and_maps_equal_colours_to_equal_ones():
    half = scene()["image"].clone()
    half[:, :30] = 0.9  # another mean: contrast must not turn about it
    sample = {**scene(), "sources": half[None]}
    for seed in range(5):
        first, second = (color_jittered(sample, Generator().manual_seed(seed), **JITTER) for _ in range(2))
        assert torch.equal(first["image"], second["image"])
        assert not torch.allclose(first["image"], sample["image"])
        torch.testing.assert_close(first["sources"][0, :, 30:], first["image"][:, 30:])
        other = color_jittered(sample, Generator().manual_seed(seed), **JITTER, alike=False)
        torch.testing.assert_close(other["image"], first["image"])  # a power's last bit depends on its place in memory
        assert not torch.allclose(other["sources"][0, :, 30:], first["image"][:, 30:])
        assert 0 <= first["sources"].min() <= first["sources"].max() <= 1


def test_color_jittering_by_nothing_changes_nothing_and_draws_as_often():
    generator, other = Generator().manual_seed(0), Generator().manual_seed(0)
    assert torch.equal(color_jittered(scene(), generator)["image"], scene()["image"])
    color_jittered(scene(), other, **JITTER)
    assert torch.equal(generator.get_state(), other.get_state())


def test_gamma_is_one_power_of_every_pixel_and_keeps_black_and_white():
    image = scene()["image"].clone()
    image[:, 0], image[:, 1] = 0.0, 1.0
    changed = color_jittered({"image": image}, Generator().manual_seed(1), gamma=0.5)["image"]
    exponents = (changed[:, 2:].double().log() / image[:, 2:].double().log())[image[:, 2:] < 0.95]
    assert exponents.min() >= 0.5
    assert exponents.max() - exponents.min() < 1e-4
    assert abs(exponents.mean() - 1) > 1e-3
    assert torch.equal(changed[:, :2], image[:, :2])


def test_every_change_of_geometry_is_carried_or_refused():
    def having(kernel):
        return {name.removesuffix(kernel) for name in dir(F) if name.endswith(kernel) and not name.startswith("_")}

    geometric = having("_mask") - {"get_size"}
    assert geometric <= {function.__name__ for function in (*CARRIED, *REFUSED)}
    assert having("_image") - having("_video") - {"to", "to_pil"} == {function.__name__ for function, _ in GREY}
    assert {"rotate", "affine", "perspective", "elastic", "vertical_flip"} <= geometric - {f.__name__ for f in CARRIED}


@pytest.mark.parametrize(
    "transform",
    [
        v2.RandomVerticalFlip(1.0),
        v2.RandomRotation(20),
        v2.RandomAffine(10),
        v2.RandomPerspective(p=1.0),
        v2.ElasticTransform(),
        v2.FiveCrop(20),
        v2.TenCrop(20),
        v2.UniformTemporalSubsample(1),
    ],
    ids=lambda transform: type(transform).__name__,
)
@pytest.mark.parametrize("field", [name for name in FIELDS if name not in ("image", "sources", "category")])
def test_what_cannot_be_carried_is_refused(transform, field):
    sample = {name: scene()[name] for name in ("image", field)}
    with pytest.raises(CkaProbeError, match=r"can follow \(resize, crop, .*found .*image alone"):
        transform(typed(sample))


def test_k_remembers_its_images_size_where_torch_keeps_its_type():
    camera = typed({"image": scene()["image"], "K": K})["K"]
    assert camera.clone().canvas_size == camera.to(torch.float64).canvas_size == (H, W)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: typed({"partner": K}), "found 'partner'; leave it out"),
        (lambda: typed({"K": K}), "of one size in a sample, found none"),
        (lambda: typed({"image": torch.zeros(3, 4, 5), "depth": torch.zeros(1, 4, 6)}), "image 5x4, depth 6x4"),
        (lambda: cropped(scene(), (0, 0, 61, 84)), r"inside 60x84 pixels, found \(0, 0, 61, 84\)"),
        (lambda: cropped(scene(), (-1, 0, 10, 10)), r"found \(-1, 0, 10, 10\)"),
        (lambda: resized(scene(), (0, 5)), "at least 1x1 pixels, found 5x0"),
        (lambda: color_jittered(scene(), Generator(), hue=0.6), "hue within 0 to 0.5, found 0.0, 0.0, 0.0, 0.6, 0.0"),
    ],
)
def test_what_cannot_be_is_said(build, message):
    with pytest.raises(DataError, match=message):
        build()


def test_random_boxes_lie_inside_also_of_long_images():
    generator = Generator().manual_seed(0)
    for size in ((20, 400), (400, 20), (H, W)):
        for _ in range(20):
            top, left, height, width = random_area(*size, generator, (0.1, 1.0))
            assert 0 <= top <= size[0] - height < size[0]
            assert 0 <= left <= size[1] - width < size[1]
