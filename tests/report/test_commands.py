"""Commands that make results again: read by the command line's own parser, they ask for what was done."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from helpers.result_folders import attributions, comparison, depth_scores, label_scores, network

from cka_probe.comparison.results import Axis
from cka_probe.lab.training import read_recipe
from cka_probe.report.commands import compare_command, evaluate_command, gradcam_command, train_command
from ckaprobe_cli import app

DEFAULTS = {"num": 512, "batch": 64, "seed": 0, "features": "flatten", "precision": "float32", "preprocess": "own"}


def parsed(line):
    """Return what the command line takes a command for: the command's name, and its parameters."""
    program, name, *words = shlex.split(line)
    assert program == "ckaprobe"
    return name, typer.main.get_command(app).commands[name].make_context(name, words).params


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A comparison as one of two checkpoints of resnet18 would be."""
    made = comparison(tmp_path_factory.mktemp("comparison"))
    sides = {
        side: replace(getattr(made, side), reference=f"runs/my {side}.safetensors", architecture="resnet18")
        for side in "xy"
    }
    axes = default_axes(9)
    images = {"source": "nyuv2:rooms & halls:test", "hash": "beef", "skipped": []}
    return replace(made, **sides, rows=axes, columns=axes, images=images)


def default_axes(count):
    from cka_probe.models.architectures import ARCHITECTURES

    return tuple(Axis(layer.name, layer.module, 1.0) for layer in list(ARCHITECTURES["resnet18"].layers)[:count])


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"num": 40, "seed": 3},
        {"batch": 10, "features": "gap", "precision": "bfloat16", "preprocess": "shared"},
        {"measure": "rsa", "estimator": None, "permutations": 7},
        {"estimator": "biased"},
        {"size": [96, 64]},
    ],
    ids=str,
)
def test_compare_is_asked_for_the_settings_it_had(result, changed):
    settings = dict(result.settings) | DEFAULTS | {"permutations": 200, "measure": "cka", "estimator": "unbiased"}
    name, params = parsed(compare_command(replace(result, settings=settings | changed), "out"))
    assert (name, list(params["models"])) == ("compare", ["runs/my x.safetensors", "runs/my y.safetensors"])
    assert (params["data"], params["layers"], params["layers_y"]) == ("nyuv2:rooms & halls:test", None, None)
    for key, default in DEFAULTS.items():
        assert params[key] == (changed[key] if changed.get(key, default) != default else None)
    assert params["permutations"] == changed.get("permutations", 200)
    assert params["measure"] == changed.get("measure", "cka")
    assert params["estimator"] == (changed.get("estimator") or "unbiased")
    assert params["size"] == ("96x64" if "size" in changed else None)
    assert not params["skip_bad"]


def test_layers_are_named_so_that_each_means_one(result):
    few = default_axes(2)
    other = (Axis("layer4.0", "layer4.0", 1.0), Axis("layers.0.downsample.norm", "layers.1.downsample.norm", 1.0))
    _, params = parsed(compare_command(replace(result, rows=few, columns=few), "out"))
    assert params["layers"] == ",".join(f"module:{axis.module}" for axis in few)
    assert params["layers_y"] is None
    _, params = parsed(compare_command(replace(result, columns=other), "out"))
    assert params["layers_y"] == "module:layer4.0,paper:layers.0.downsample.norm"
    assert params["layers"].count("module:") == 9


def test_the_layer_option_selects_the_same_layers():
    from cka_probe.models.layers import LayerMap
    from cka_probe.models.selection import select_layers
    from cka_probe.report.commands import layer_option

    torch.manual_seed(0)
    axes = (Axis("2", "2", 1.0), Axis("0", "0", 1.0))
    assert select_layers(network(0), layer_option(axes), LayerMap.of(["0"])).modules == ("2", "0")


def test_unreadable_images_and_dashes_are_survived(result):
    skipped = dict(result.images) | {"skipped": ["bad.png: truncated"]}
    line = compare_command(replace(result, images=skipped, x=replace(result.x, reference="-x;rm.pth")), "out")
    _, params = parsed(line)
    assert params["skip_bad"]
    assert params["models"][0] == "./-x;rm.pth"


@pytest.mark.parametrize("source", ["a tensor", "a list of images", "DataLoader"])
def test_what_was_in_memory_has_no_command(result, source):
    assert compare_command(replace(result, images=dict(result.images) | {"source": source}), "out") == ""
    assert compare_command(replace(result, y=replace(result.y, reference="Sequential")), "out") == ""


def test_evaluate_is_asked_for_the_rules_of_depth(tmp_path):
    name, params = parsed(evaluate_command(depth_scores(tmp_path), "out"))
    assert (name, params["checkpoint"], params["on"]) == (
        "evaluate",
        "runs/a b/depth.safetensors",
        "nyuv2:my rooms:test",
    )
    assert (params["scaling"], params["crop"], params["cap"]) == ("median", "eigen_nyuv2", (0.001, float("inf")))
    assert (params["crops"], params["flip_test"], params["feathered"]) == (0, False, True)
    assert (params["canny"], params["num"], params["seed"]) == ((0.1, 0.3), 14, 2)


def test_evaluate_is_asked_for_the_rules_of_labels(tmp_path):
    _, params = parsed(evaluate_command(label_scores(tmp_path), "out"))
    assert (params["resolution"], params["flip_test"], params["num"]) == ("network", True, None)


def test_gradcam_is_asked_for_the_same_maps(tmp_path):
    maps = attributions(tmp_path)
    _, params = parsed(gradcam_command(maps, "out"))
    assert params["checkpoints"] == ["runs/video/segment.safetensors", "runs/none/segment.safetensors"]
    assert (params["target"], params["num"], params["names"], params["layer"]) == ("segmentation:car", 4, None, "first")
    renamed = replace(maps, models=dict(zip(("a", "b"), maps.models.values(), strict=True)), table=renamed_rows(maps))
    assert parsed(gradcam_command(renamed, "out"))[1]["names"] == "a,b"
    everything = replace(maps, settings=dict(maps.settings) | {"num": None, "log_softmax": True})
    assert parsed(gradcam_command(everything, "out"))[1]["num"] == 0


def renamed_rows(maps):
    return maps.table.assign(checkpoint=maps.table["checkpoint"].map({"video": "a", "none": "b"}))


def test_a_bundled_recipe_is_called_by_its_name():
    table = read_recipe("demo", ["data.scenes=my rooms", "seed=3"]).as_dict()
    name, params = parsed(train_command(table, "run"))
    assert (name, params["recipe"], params["out"]) == ("train", "demo", Path("run"))
    assert read_recipe(params["recipe"], params["overrides"]).as_dict() == table


def test_a_changed_recipe_is_called_by_its_file():
    table = read_recipe("demo", ["data.scenes=rooms", "masked.steps=700"]).as_dict()
    _, params = parsed(train_command(table, "run"))
    assert (params["recipe"], params["out"]) == ("run/recipe.json", Path("run-again"))
    table["stages"]["masked"]["of another version"] = 1
    assert parsed(train_command(table, "run"))[1]["recipe"] == "run/recipe.json"
