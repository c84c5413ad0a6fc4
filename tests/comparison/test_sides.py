"""The sides of a comparison: references, fingerprints with their settings, several models, and bad input."""

import pytest
import torch
from helpers.comparisons import random_images, resnet_and_adapter, small
from torch.utils.data import Dataset

import cka_probe
from cka_probe import compare, compare_many, fingerprint
from cka_probe.comparison.sides import Options, fingerprint_each
from cka_probe.errors import (
    CheckpointError,
    CkaProbeError,
    DataError,
    FingerprintError,
    LayerError,
    UnknownNameError,
)


def test_a_fingerprint_brings_its_settings_and_refuses_others():
    made = fingerprint(small(0), random_images(32), layers=["0"], batch=8)
    with pytest.raises(FingerprintError, match=r"made with batch 8, this comparison asks for 16"):
        compare(made, small(1), random_images(32), layers_y=["0"], batch=16)
    with pytest.raises(LayerError, match=r"no layer '4' in the fingerprint of Sequential; it has 0"):
        compare(made, made, layers="4")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": random_images(3)}, DataError, "at least 4 images, found 3"),
        ({"images": None}, DataError, "a model was given and no images"),
        ({"batch": 3}, DataError, r"at least 4 images, in all and in a batch, found .*batch 3$"),
        ({"features": "flaten"}, UnknownNameError, "no features 'flaten'; did you mean 'flatten'"),
        ({"estimator": "debiased"}, UnknownNameError, "did you mean 'biased' or 'unbiased'"),
        ({"precision": "float16"}, UnknownNameError, "no precision 'float16'"),
        ({"preprocess": "mine"}, UnknownNameError, "no preprocess 'mine'"),
        ({"device": "cuda:99"}, CkaProbeError, "no device 'cuda:99' here"),
        ({"images": 5}, DataError, "expected a folder, dataset, tensor or batches of images, found int"),
        ({"images": [*random_images(4), torch.rand(3, 9, 9)]}, DataError, "the images have different ones"),
    ],
)
def test_bad_input_is_one_line(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        compare(small(0), small(1), **{"images": random_images(), "layers": ["0"]} | arguments)
    assert "\n" not in str(caught.value)


def test_random_references_are_seeded_and_leave_torchs_generator_alone():
    state = torch.random.get_rng_state()
    a, b, c = (cka_probe.load(name) for name in ("random:resnet18", "random:resnet18:0", "random:resnet18:1"))
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [m.model.state_dict()["layer1.0.conv1.weight"] for m in (a, b, c)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("random:resnet81", "no architecture 'resnet81'; did you mean"),
        ("random:resnet18:x", "expected random:NAME or random:NAME:SEED with a whole number"),
        ("no_such_package.nowhere:make", "no file 'no_such_package.nowhere:make', and no function of that name either"),
        ("cka_probe.load:nope", "no function of that name either"),
        ("os:getcwd", "os:getcwd returned str; expected a torch.nn.Module"),
    ],
)
def test_references_that_mean_no_model(reference, message):
    with pytest.raises(CkaProbeError, match=message):
        cka_probe.load(reference)


def test_a_function_of_the_users_own_makes_a_model():
    backbone = cka_probe.load("timm.models.resnet:resnet18")
    assert backbone.layers[0].name == "maxpool"
    assert backbone.preprocessing.size == (224, 224)


@pytest.mark.slow
def test_several_models_one_after_another_have_the_fingerprints_of_a_comparison():
    references, images = ["random:resnet18", "random:resnet18:1", "random:resnet18:2"], torch.rand(8, 3, 32, 32)
    steps = []
    options = {"layers": "layer1.0,layer4.1", "batch": 4}
    made = Options(progress=lambda *step: steps.append(step), batch=4)
    prints = fingerprint_each(references, images, layers=options["layers"], options=made)
    assert steps[0] == (0, 24)
    assert steps[-1] == (24, 24)
    pair = cka_probe.fingerprints(references[0], references[2], images, **options)
    for side, alone in zip((prints[0], prints[2]), pair, strict=True):
        assert side.side == alone.side
        assert all(torch.equal(one, other) for one, other in zip(side.grams, alone.grams, strict=True))


@pytest.mark.slow
def test_several_models_may_be_fingerprints_and_what_is_wrong_names_the_model(tmp_path):
    images, options = torch.rand(8, 3, 32, 32), {"layers": "layer1.0", "batch": 4}
    path = fingerprint("random:resnet18", images, **options).save(tmp_path / "stored.fingerprint")
    references = [path, "random:resnet18:1", "random:resnet18:2"]
    prints = fingerprint_each(references, images, layers="layer1.0")  # in batches of 4, as the fingerprint
    assert [side.settings.batch for side in prints] == [4, 4, 4]
    with pytest.raises(LayerError, match=r"random:resnet18:1: no layer 'fc9'"):
        fingerprint_each(references[1:], images, layers="fc9")
    with pytest.raises(LayerError, match=r"no layer 'layer4.1' in the fingerprint of random:resnet18:0"):
        fingerprint_each(references, images, layers="layer4.1")


@pytest.mark.slow
def test_images_that_change_from_reading_to_reading_are_refused():
    class Augmented(Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return torch.rand(3, 32, 32)

    with pytest.raises(DataError, match="same images at every reading, found others for random:resnet18:1"):
        fingerprint_each(["random:resnet18", "random:resnet18:1"], Augmented(), layers="layer1.0")


@pytest.mark.slow
def test_the_base_is_that_of_adapters_alone(tmp_path):
    base, adapter = resnet_and_adapter(tmp_path)
    options = {"layers": "layer1.0,layer4.1", "permutations": 0, "base": base}
    result = compare(base, adapter, torch.rand(8, 3, 32, 32), **options)
    assert result.values[0, 0] == pytest.approx(1)
    assert result.values[1, 1] < 0.9999
    atlas = compare_many([base, adapter, base], torch.rand(8, 3, 32, 32), **options)
    assert atlas.values[0, 2] == pytest.approx(1)
    assert atlas.values[0, 1] < 0.9999
    with pytest.raises(CheckpointError, match="expected a LoRA adapter among the models for the base, found none"):
        compare(base, base, torch.rand(8, 3, 32, 32), **options)
