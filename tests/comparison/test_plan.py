"""What a plan says before a run is what the run then costs."""

from dataclasses import replace

import pytest
import timm
import torch
from helpers.comparisons import random_images, small
from torch import nn

from cka_probe import Backbone, fingerprint, fingerprints
from cka_probe.comparison.plan import LiveMemory, plan
from cka_probe.comparison.sides import Options
from cka_probe.errors import DataError


def nbytes(tensor):
    return tensor.nbytes


@pytest.mark.parametrize("num_features", [None, 32])
def test_a_plan_counts_what_a_run_needs(tmp_path, num_features):
    images, layers, options = random_images(30), ["0", "4"], {"batch": 8, "num_features": num_features}
    cost = plan([small(0), small(1)], images, layers=layers, options=Options(**options))
    prints = [fingerprint(small(seed), images, layers=layers, **options) for seed in (0, 1)]
    assert (cost.num, cost.batch, cost.passes) == (30, 8, 1)
    for model, print_ in zip(cost.models, prints, strict=True):
        assert model.grams == sum(stack.nbytes for stack in print_.grams)
        size = print_.save(tmp_path / "a.fingerprint").stat().st_size
        assert model.fingerprint == pytest.approx(size, abs=3000)  # of the header
        sampled = print_.sample.values if num_features else ()
        assert model.sample == sum(layer.nbytes for batch in sampled for layer in batch)
        assert bool(model.sample) == bool(num_features)
        assert model.weights == sum(tensor.nbytes for tensor in small(0).state_dict().values())
        assert model.seconds > 0
    assert cost.seconds == cost.reading_seconds + cost.forward_seconds
    whole = replace(cost, models=tuple(replace(model, sample=0) for model in cost.models))
    assert cost.memory - whole.memory == sum(model.sample for model in cost.models)


def test_operations_are_counted_to_the_last_layer():
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 100))
    images = torch.randn(16, 6)
    assert plan([net], images, layers=["0"]).models[0].flops == 2 * 6 * 5
    assert plan([net], images, layers=["2"]).models[0].flops == 2 * 6 * 5 + 2 * 5 * 100


def test_memory_of_activations_is_that_of_what_is_alive():
    def forward(width):
        hidden = torch.ones(4, width) + 1  # two alive at a time, and a third while it is computed
        for _ in range(5):
            hidden = hidden * 2
        return hidden.add_(1)

    with LiveMemory() as memory:
        forward(1000)
    assert memory.peak == 2 * 4 * 1000 * 4
    assert memory.bytes == 0


def test_a_smaller_forward_pass_needs_less_memory():
    net = Backbone(timm.create_model("resnet10t", num_classes=0), size=32)
    images = torch.rand(16, 3, 32, 32)
    costs = [plan([net], images, layers=["layer4.0"], options=Options(forward_batch=size)) for size in (None, 2)]
    assert costs[1].models[0].activations < costs[0].models[0].activations / 4
    assert "2 in a forward pass" in str(costs[1])
    assert "(64" not in str(costs[0])


def test_a_plan_leaves_the_model_as_it_was():
    net = timm.create_model("resnet10t", num_classes=0).train()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    plan([net], torch.rand(8, 3, 32, 32))
    assert net.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_models_with_other_images_and_layers_have_their_own_costs():
    images = [random_images(20, seed) for seed in (0, 1)]
    nets = [small(0), small(1)]
    cost = plan(nets, images[0], images_y=images[1], layers=["0"], layers_y=["0", "4"], options=Options(batch=8))
    prints = fingerprints(*nets, images[0], images_y=images[1], layers=["0"], layers_y=["0", "4"], batch=8)
    assert [model.layers for model in cost.models] == [1, 2]
    assert [model.grams for model in cost.models] == [sum(map(nbytes, print_.grams)) for print_ in prints]
    with pytest.raises(DataError, match="expected two models for options of the second"):
        plan([*nets, small(2)], images[0], layers=["0"], layers_y=["4"])


def test_models_that_are_loaded_in_turn_are_planned_in_turn(tmp_path):
    references = [f"random:resnet10t:{seed}" for seed in range(2)]
    images = torch.rand(8, 3, 32, 32)
    print_ = fingerprint(references[0], images, layers=["layer4.0"], size=32)
    cost = plan([print_, *references, references[1]], images, layers=["layer4.0"], options=Options(size=32))
    assert [model.name for model in cost.models] == references
    assert (cost.in_turn, cost.passes) == (True, 2)
    assert cost.memory < sum(model.weights + model.activations + model.grams for model in cost.models)


def test_processes_share_whole_batches():
    cost = plan([small(0)], random_images(24), layers=["0"], options=Options(batch=8))
    assert cost.seconds_of(2) == pytest.approx(cost.seconds * 2 / 3)
    assert cost.seconds_of(3) == cost.seconds_of(8) == pytest.approx(cost.seconds / 3)
    assert "with 3 processes" in cost.torchrun_hint


def test_one_batch_of_all_images_needs_sums_in_place_of_grams():
    nets = [nn.Sequential(nn.Linear(6, width)) for width in (3, 5)]
    cost = plan(nets, torch.randn(20, 6), layers="*", everything=True, options=Options(features="gap", batch=8))
    sums = 8 * (3 * 3 + 3 * 5 + 5 * 5) + 4 * 4096 * (3 + 5)
    assert cost.sums == pytest.approx(sums, abs=1000)
    assert [model.grams + model.fingerprint for model in cost.models] == [0, 0]
    assert cost.memory > cost.sums
    assert cost.seconds > cost.reading_seconds + cost.forward_seconds
    table = {"a": torch.randn(20, 6)}
    assert plan([table, table], everything=True).num == 20
    cost = plan([small(0)] * 2, random_images(20), layers=["0", "4"], everything=True)
    assert (cost.sums, cost.stored) == (0, 20 * 4 * (5 * 6 * 6 + 7) + 2 * 8 * 20**2)


def test_there_is_nothing_to_plan_for_fingerprints_alone():
    print_ = fingerprint(small(0), random_images(), layers=["0"])
    with pytest.raises(DataError, match="found only fingerprints"):
        plan([print_, print_], random_images())
    with pytest.raises(DataError, match="expected images whose number is known"):
        plan([small(0)], iter([random_images()]), options=Options(num=None))
