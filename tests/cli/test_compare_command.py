"""`ckaprobe compare` over different images per side, and what it refuses, leaves and removes."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.comparisons import resnet_and_adapter
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import cka_probe
from cka_probe.report.comparison import prints_of, thumbnails_of
from ckaprobe_cli import app

MODELS = ("random:resnet18", "random:resnet18:1")
FEW = ("--layers", "layer1.0,layer4.1", "--size", 32, "--permutations", 5)


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def refused(*words, quiet=("--quiet",)):
    done = run(*words, *quiet)
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Eight images, the same with noise, and these with other names."""
    root, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for name in ("clean", "noisy", "renamed"):
        (root / name).mkdir()
    for index in range(8):
        pixels = rng.integers(0, 200, (40, 40, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(root / "clean" / f"{index}.png")
        for folder, stem in (("noisy", index), ("renamed", f"{index}_noisy")):
            noise = Image.fromarray((pixels + rng.integers(0, 50, pixels.shape)).astype(np.uint8))
            noise.save(root / folder / f"{stem}.png")
    return root


@pytest.fixture
def prints(tmp_path):
    """Three fingerprints of the same eight examples."""
    paths = [tmp_path / f"{name}.fingerprint" for name in "abc"]
    images = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        cka_probe.fingerprint(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), images, layers="*").save(path)
    return paths


@pytest.mark.slow
def test_each_side_sees_its_own_images_paired_by_name(folders, tmp_path):
    clean, noisy, out = folders / "clean", folders / "noisy", tmp_path / "out"
    done = run("compare", MODELS[0], MODELS[0], "--data", clean, "--data-y", noisy, "--out", out, *FEW)
    assert done.exit_code == 0, done.output
    assert f"8 pairs of images, x from {clean} and y from {noisy}, paired by name" in done.stdout
    images = json.loads((out / "result.json").read_text())["images"]
    assert (images["source"], images["source_y"], images["pairing"]) == (str(clean), str(noisy), "name")
    assert images["hash"] != images["hash_y"]
    assert (out / "images.jpg").read_bytes() != (out / "images_y.jpg").read_bytes()
    result = cka_probe.compare(
        *[cka_probe.load(MODELS[0])] * 2, clean, images_y=noisy, layers="layer1.0,layer4.1", size=32, permutations=0
    )
    np.testing.assert_allclose(json.loads((out / "result.json").read_text())["values"], result.values, atol=1e-9)
    assert run("report", out).exit_code == 0
    page = (out / "index.html").read_text()
    assert f"x saw images from {clean}" in page
    assert f"y saw images from {noisy}" in page
    assert images["hash_y"] in page
    assert f"--data-y {noisy}" in page
    again = run("compare", out / "x.fingerprint", out / "y.fingerprint", "--out", tmp_path / "again")
    assert "paired by name" in again.stdout


@pytest.mark.slow
def test_images_without_a_partner_are_refused_and_the_order_is_said(folders, tmp_path):
    out = tmp_path / "deep" / "out"
    command = ["compare", *MODELS, "--data", folders / "clean", "--data-y", folders / "renamed", "--out", out, *FEW]
    line = refused(*command)
    assert "without a partner: 0, 1, 2 and 5 more of" in line
    assert "--pair order" in line
    assert not (tmp_path / "deep").exists()
    done = run(*command, "--pair", "order")
    assert "paired by order" in done.stdout
    assert "nothing shows that they belong together" in " ".join(done.stdout.split())


def test_refusals_before_a_model_is_loaded_leave_nothing(folders, tmp_path):
    out, missing = tmp_path / "out", ("nowhere_a.pth", "nowhere_b.pth", "nowhere_c.pth")
    for models in (missing, missing[:2]):
        assert "a model was given and no images" in refused("compare", *models, "--out", out)
        assert "expected a folder of images at nowhere" in refused(
            "compare", *models, "--data", "nowhere", "--out", out
        )
    for option, value in (("--data-y", "b"), ("--pair", "order"), ("--arch-y", "resnet18"), ("--cmap", "magma")):
        line = refused("compare", *missing, "--data", folders / "clean", option, value, "--out", out)
        assert f"{option} is for two models, found 3" in line
    line = refused("compare", *missing[:2], "--data", folders / "clean", "--pair", "name", "--out", out)
    assert "expected other images of y (--data-y) to pair by name" in line
    assert "expected a LoRA adapter among the models" in refused(
        "compare", *MODELS, "--data", folders / "clean", "--base", "base.safetensors", "--out", out
    )
    assert not out.exists()


@pytest.mark.slow
def test_a_comparison_of_two_and_one_of_several_do_not_share_a_folder(prints, tmp_path):
    out = tmp_path / "out"
    assert run("compare", *prints, "--out", out, "--permutations", 0).exit_code == 0
    (out / "pairs" / "0-1" / "notes.txt").write_text("mine")
    line = refused("compare", *prints[:2], "--out", out, "--permutations", 0)
    assert f"found that of `ckaprobe compare {prints[0]}" in line
    done = run("compare", *prints[:2], "--out", out, "--permutations", 0, "--force")
    assert done.exit_code == 0, done.output
    assert [path.relative_to(out).as_posix() for path in (out / "pairs").rglob("*.*")] == ["pairs/0-1/notes.txt"]
    assert not (out / "fingerprints").exists()
    assert not list(out.glob("*atlas*")) + list(out.glob("models.*")) + list(out.glob("curves.*"))
    assert "atlas.json" not in (out / "commands.txt").read_text()


@pytest.mark.slow
def test_fewer_models_leave_no_pairs_of_more(prints, tmp_path):
    out = tmp_path / "out"
    assert run("compare", *prints, prints[0], "--out", out, "--permutations", 0).exit_code == 0
    assert run("compare", *prints, "--out", out, "--permutations", 0, "--force").exit_code == 0
    assert sorted(path.name for path in (out / "pairs").iterdir()) == ["0-1", "0-2", "1-2"]
    assert len(list((out / "fingerprints").iterdir())) == 3


@pytest.mark.slow
def test_an_atlas_is_the_comparison_of_many_with_its_page(prints, tmp_path):
    assert "expected three or more models for an atlas, found 2" in refused("atlas", *prints[:2], "--out", tmp_path)
    done = run("atlas", *prints, "--out", tmp_path / "atlas", "--permutations", 0)
    assert done.exit_code == 0, done.output
    assert run("compare", *prints, "--out", tmp_path / "compare", "--permutations", 0).exit_code == 0
    assert (tmp_path / "atlas" / "atlas.json").read_bytes() == (tmp_path / "compare" / "atlas.json").read_bytes()
    names = {path.name for path in (tmp_path / "atlas").iterdir()}
    assert {"index.html", "tree.png", "map.pdf", "curves.csv"} <= names
    assert "atlas.json: ckaprobe atlas" in (tmp_path / "atlas" / "commands.txt").read_text()


def test_a_cell_is_explained_and_the_number_of_images_advised(prints, tmp_path):
    done = run("why", *prints[:2], "--cell", "0,1", "--untrained", prints[2], "--out", tmp_path / "why")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("0 of x and 1 of y: CKA ")
    assert "of the untrained x with y: " in done.stdout
    assert len((tmp_path / "why" / "why.csv").read_text().splitlines()) == 1 + 8
    assert "one or two layers for --cell, found 3" in refused("why", *prints[:2], "--cell", "0,1,1", quiet=())
    done = run("advise", *prints[:2], "--out", tmp_path / "advice")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("8 images give intervals of ± ")
    assert {path.suffix for path in (tmp_path / "advice").iterdir()} >= {".json", ".csv", ".png", ".pdf"}
    assert "x.fingerprint and y.fingerprint, or two fingerprints" in refused("advise", tmp_path, quiet=())


def test_images_are_added_until_intervals_are_narrow(folders, prints, tmp_path):
    done = run("compare", *MODELS, "--data", folders / "clean", "--until", 0.01, "--out", tmp_path / "out", *FEW)
    assert done.exit_code == 0, done.output
    assert "note     8 images give intervals of at most ± " in done.stdout
    assert (tmp_path / "out" / "influential.jpg").exists()
    assert "--until needs a model" in refused("compare", *prints[:2], "--until", 0.01, "--out", tmp_path / "other")
    assert "--until is for two models, found 3" in refused("compare", *prints, "--until", 0.01, "--out", tmp_path)


@pytest.mark.slow
def test_compared_fingerprints_in_the_folder_are_not_removed(prints, tmp_path):
    out = tmp_path / "out"
    assert run("compare", *prints, "--out", out, "--permutations", 0).exit_code == 0
    (out / "images.jpg").write_bytes(b"a strip")
    saved = [out / "fingerprints" / f"{index}.fingerprint" for index in range(3)]
    assert run("compare", *saved[:2], "--out", out, "--permutations", 0, "--force").exit_code == 0
    assert [path.exists() for path in saved] == [True, True, False]
    assert (out / "images.jpg").exists()
    assert not (out / "pairs").exists()


@pytest.mark.parametrize(("order", "more"), [("xy", ["--merge-duplicates"]), ("yx", [])])
def test_a_compared_fingerprint_is_not_replaced_by_another(prints, tmp_path, order, more):
    out = tmp_path / "out"
    assert run("compare", *prints[:2], "--out", out, "--permutations", 0).exit_code == 0
    before = [(out / f"{name}.fingerprint").read_bytes() for name in "xy"]
    words = ["compare", *(out / f"{name}.fingerprint" for name in order), "--out", out, "--force", *more]
    assert "expected another folder than that of x.fingerprint" in refused(*words)
    assert before == [(out / f"{name}.fingerprint").read_bytes() for name in "xy"]


def test_an_adapter_is_compared_and_recorded_with_its_base(folders, tmp_path):
    base, adapter = resnet_and_adapter(tmp_path)
    options = ("--data", folders / "clean", "--base", base, "--layers", "layer1.0,layer4.1", "--size", 32)
    done = run("compare", base, adapter, *options, "--out", tmp_path / "out", "--permutations", 0)
    assert done.exit_code == 0, done.output
    assert "note on y  the LoRA adapter" in done.stdout
    values = np.array(json.loads((tmp_path / "out" / "result.json").read_text())["values"])
    assert values[0, 0] == pytest.approx(1)
    assert values[1, 1] < 0.9999
    done = run("fingerprint", adapter, *options, "--output", tmp_path / "lora.fingerprint")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "lora.fingerprint").read_bytes() == (tmp_path / "out" / "y.fingerprint").read_bytes()


def plan_of(*options):
    """Return the lines of a plan by their first word."""
    done = run("compare", *FEW, *options, "--plan")
    assert done.exit_code == 0, done.output
    return done.stdout, {line.split()[0]: line for line in done.stdout.splitlines() if line}


def test_a_plan_is_printed_and_nothing_is_written(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, lines = plan_of(*MODELS, "--data", folders / "clean")
    assert text.startswith("8 images in 1 batch of 64, 8 in a forward pass, float32 on ")
    assert {"random:resnet18:0", MODELS[1], "time", "memory", "disk", "hint"} <= lines.keys()
    assert "saves nothing" in lines["torchrun"]
    assert not list(tmp_path.iterdir())
    assert "give --out, or --plan" in refused("compare", *MODELS, "--data", folders / "clean", *FEW)


def test_a_plan_takes_other_images_layers_and_models_of_y(folders):
    options = ("--data", folders / "clean", "--data-y", folders / "noisy", "--batch", 4)
    _, lines = plan_of(*MODELS, *options, "--layers", "layer1", "--layers-y", "conv1,layer1")
    assert [lines[name].split()[1] for name in ("random:resnet18:0", MODELS[1])] == ["1", "2"]
    assert "with 2 processes" in lines["torchrun"]
    text, _ = plan_of(*MODELS, MODELS[1], "--data", folders / "clean", "--layers", "layer1")
    assert (text.count("random:resnet18:0"), text.count(MODELS[1])) == (1, 1)  # each runs once


def test_a_plan_of_one_batch_of_all_images_has_sums_and_no_fingerprints(folders):
    _, lines = plan_of(
        *MODELS, "--data", folders / "clean", "--batch", "all", "--features", "gap", "--layers", "layer1"
    )
    assert "sums over images" in lines["memory"]
    assert "0 B" in lines["disk"]
    _, lines = plan_of(*MODELS, "--data", folders / "clean", "--batch", "all", "--layers", "layer1")
    assert "of features and Grams until the end" in lines["disk"]
    options = ("--data", folders / "clean", "--batch", "all", "--features", "tokens", "--plan", *FEW)
    assert "found tokens" in refused("compare", *MODELS, *options)


def test_one_batch_of_all_images_has_a_page_and_no_fingerprints(tmp_path):
    draw = torch.Generator().manual_seed(0)
    paths = [tmp_path / "x.npy", tmp_path / "y.npy"]
    for path in paths:
        np.save(path, torch.randn(90, 4, generator=draw).numpy())
    out = tmp_path / "out"
    done = run("compare", *paths, "--batch", "all", "--out", out)
    assert done.exit_code == 0, done.output
    assert "No fingerprints are saved" in done.stdout
    assert not list(out.glob("*.fingerprint"))
    result = cka_probe.compare(*map(np.load, paths), batch="all")
    np.testing.assert_allclose(json.loads((out / "result.json").read_text())["values"], result.values, atol=1e-12)
    assert run("report", out).exit_code == 0


def test_one_batch_of_all_images_of_a_folder_shows_the_first_of_them(folders, tmp_path):
    done = run(
        "compare",
        *MODELS,
        "--data",
        folders / "clean",
        "--batch",
        "all",
        "--features",
        "gap",
        "--out",
        tmp_path,
        *FEW[:4],
    )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "images.jpg").exists()
    assert not (tmp_path / "influential.jpg").exists()


def test_one_batch_of_all_images_refuses_what_has_no_sums(prints, tmp_path):
    out = tmp_path / "out"
    assert "found a fingerprint" in refused("compare", *prints[:2], "--batch", "all", "--out", out)
    assert "compare two at a time" in refused("compare", *prints, "--batch", "all", "--out", out)
    assert "found many" in refused("compare", *prints[:2], "--batch", "many", "--out", out)


def test_fingerprints_and_strips_after_merging_are_of_the_images_that_were_compared(folders, tmp_path):
    images, merged = tmp_path / "images", tmp_path / "merged"
    shutil.copytree(folders / "clean", images)
    for number in range(4):
        shutil.copy(images / "3.png", images / f"copy {number}.png")
    done = run("compare", *MODELS, "--data", images, "--merge-duplicates", "--out", merged, *FEW)
    assert done.exit_code == 0, done.output
    stored = cka_probe.SimilarityMatrix.load(merged / "result.json")
    x, y = (cka_probe.Fingerprint.load(merged / f"{name}.fingerprint") for name in "xy")
    np.testing.assert_array_equal(cka_probe.compare_fingerprints(x, y, permutations=0).values, stored.values)
    assert stored.num_examples == len(x.images) == 8
    strips = [thumbnails_of(merged / name).images for name in ("images.jpg", "influential.jpg")]
    assert len(strips[0]) == 8
    np.testing.assert_array_equal(*strips)
    assert cka_probe.difference(merged, merged).how == "paired over images"


def test_what_fingerprints_without_groups_would_say_of_a_comparison_with_groups_is_not_said(folders, tmp_path):
    images, grouped, alone = folders / "clean", tmp_path / "grouped", tmp_path / "alone"
    (tmp_path / "groups.csv").write_text("name,group\n" + "".join(f"{i},{i // 2}\n" for i in range(8)))
    command = ["compare", *MODELS, "--data", images, *FEW]
    assert run(*command, "--groups", tmp_path / "groups.csv", "--out", grouped).exit_code == 0
    assert run(*command, "--out", alone).exit_code == 0
    results = [cka_probe.SimilarityMatrix.load(folder / "result.json") for folder in (grouped, alone)]
    got = cka_probe.difference(grouped, alone)
    np.testing.assert_allclose(got.values, results[0].values - results[1].values, atol=1e-12)
    assert not (grouped / "influential.jpg").exists()
    prints, note = prints_of(grouped, results[0])
    assert (prints, note[:52]) == ([], "The images are in groups, which fingerprints do not ")
    assert "found groups of them" in refused("advise", grouped, quiet=())


@pytest.mark.parametrize("number", [2, 3])
def test_several_measures_in_one_run(number, tmp_path):
    files = [tmp_path / f"{name}.npy" for name in "abc"[:number]]
    for seed, file in enumerate(files):
        np.save(file, np.random.default_rng(seed).normal(size=(12, 4)))
    words = ("compare", *files, "--out", tmp_path / "out", "--permutations", 3, "--quiet")
    done = run(*words, "--measure", "cka,jaccard, svcca", "--estimator", "biased")
    assert done.exit_code == 0, done.output
    name = "result.json" if number == 2 else "pairs/0-1/result.json"
    for folder, measure in ((".", "cka"), ("measures/jaccard", "jaccard"), ("measures/svcca", "svcca")):
        result = cka_probe.SimilarityMatrix.load(tmp_path / "out" / folder / name)
        assert result.settings["measure"] == measure
        expected = cka_probe.compare(*files[:2], measure=measure, estimator=result.settings["estimator"] or "unbiased")
        np.testing.assert_array_equal(result.values, expected.values)
    if number == 2:
        assert run("report", tmp_path / "out").exit_code == 0
        assert "SVCCA" in (tmp_path / "out" / "index.html").read_text()
    assert run(*words, "--force").exit_code == 0
    assert not (tmp_path / "out" / "measures").exists()
    assert "no measure 'svca'; did you mean 'svcca'" in refused(*words, "--measure", "cka,svca")
    if number == 2:
        assert "expected the measure cka for one batch" in refused(*words, "--measure", "cka,rsa", "--batch", "all")
