"""Shards of a fingerprint, joined, are the fingerprint; anything else is one line."""

from dataclasses import replace

import pytest
import torch
from helpers.shared_runs import ROWS, Sometimes, folder_of_images, vectors
from typer.testing import CliRunner

from cka_probe import CkaProbeError, compare, fingerprint
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.shards import join_shards
from ckaprobe_cli import app


def shards(folder, count, model=None, rows=ROWS, **options):
    """Return the files of all shards."""
    folder.mkdir(exist_ok=True)
    options = {"batch": 8, "layers": "*"} | options
    parts = [fingerprint(model or vectors(0), rows, shard=f"{i + 1}/{count}", **options) for i in range(count)]
    return [part.save(folder / f"{number}.fingerprint") for number, part in enumerate(parts, start=1)]


@pytest.mark.parametrize("count", [2, 3, 4])  # of four batches, the last of eleven rows
@pytest.mark.parametrize("features", ["flatten", "gap"])
def test_joined_shards_have_the_bytes_of_the_whole(tmp_path, count, features):
    joined = join_shards(shards(tmp_path / "shards", count, features=features)[::-1]).save(tmp_path / "joined")
    whole = fingerprint(vectors(0), ROWS, batch=8, layers="*", features=features).save(tmp_path / "whole")
    assert joined.read_bytes() == whole.read_bytes()


def test_joined_shards_of_many_batches_have_the_bytes_of_the_whole(tmp_path):
    rows = torch.randn(203, ROWS.shape[1], generator=torch.Generator().manual_seed(0))
    joined = join_shards(shards(tmp_path / "shards", 3, rows=rows)).save(tmp_path / "joined")
    assert joined.read_bytes() == fingerprint(vectors(0), rows, batch=8, layers="*").save(tmp_path / "w").read_bytes()


@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_a_layer_that_is_undefined_in_one_shard_is_undefined(tmp_path, value):
    rows = ROWS.clone()
    rows[20, 1] = value
    model = Sometimes()
    joined = join_shards(shards(tmp_path / "shards", 2, model, rows))
    whole = fingerprint(model, rows, batch=8, layers="*")
    assert joined.undefined == whole.undefined
    assert joined.undefined[1]
    assert joined.save(tmp_path / "joined").read_bytes() == whole.save(tmp_path / "whole").read_bytes()


def test_what_is_not_all_shards_of_one_fingerprint_is_one_line(tmp_path):
    files, gaps = shards(tmp_path / "a", 3), shards(tmp_path / "b", 3, features="gap")
    others, halves = shards(tmp_path / "c", 3, vectors(1)), shards(tmp_path / "d", 2)
    whole = join_shards(files).save(tmp_path / "whole.fingerprint")
    for paths, message in [
        (files[:2], "expected all 3 shards, found 2, without 3/3"),
        ([*files, files[0]], "expected each of 3 shards once, found 1/3 more than once"),
        ([files[0], halves[0]], "expected all shards of one fingerprint, found 1/2, 1/3"),
        ([*files[:2], gaps[2]], "found shards 1/3 and 3/3 of different settings"),
        ([*files[:2], others[2]], "found shards 1/3 and 3/3 of different models"),
        ([whole], "expected a shard .*, found a whole fingerprint"),
    ]:
        with pytest.raises(CkaProbeError, match=message):
            join_shards(paths)


def test_more_shards_than_there_can_be_and_other_numbers_of_images_are_one_line(tmp_path):
    shard = Fingerprint.load(shards(tmp_path, 2)[0], shard=True)
    with pytest.raises(CkaProbeError, match=r"without 2/\d+, 3/\d+, 4/\d+ and \d+ more; compute them with --shard 2/"):
        join_shards([replace(shard, shard=replace(shard.shard, count=1 << 70))])
    alone = replace(shard, shard=replace(shard.shard, count=1), images=shard.images[1:])
    with pytest.raises(CkaProbeError, match=r"expected a shard of \d+ images, found \d+; copy it again"):
        join_shards([alone])


def test_a_shard_is_not_compared(tmp_path):
    files = shards(tmp_path / "shards", 2)
    with pytest.raises(CkaProbeError, match="expected a whole fingerprint, found shard 1 of 2"):
        compare(*files)
    part = fingerprint(vectors(0), ROWS, batch=8, layers="*", shard="1/2")
    with pytest.raises(CkaProbeError, match="expected whole fingerprints, found shard 1/2"):
        compare(part, part)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/1", "1/2/3"])
def test_a_shard_that_does_not_exist(shard):
    with pytest.raises(CkaProbeError, match="expected a shard as NUMBER/COUNT"):
        fingerprint(vectors(0), ROWS, shard=shard)


def test_more_shards_than_batches():
    with pytest.raises(CkaProbeError, match="expected a batch for each of 9 shards, found 5 or fewer"):
        fingerprint(vectors(0), ROWS, batch=8, layers="*", shard="6/9")


def test_the_command_joins_what_the_command_wrote(tmp_path):
    data = folder_of_images(tmp_path / "images", 20)
    (data / "003.png").write_bytes(b"no image")
    options = ["--data", data, "--size", "32", "--layers", "layer1", "--batch", "4", "--skip-bad", "--quiet"]

    def run(command, *words):
        done = CliRunner().invoke(app, [command, *map(str, words)])
        assert done.exit_code == 0, done.output

    paths = [tmp_path / f"{number}.fingerprint" for number in (1, 2)]
    run("fingerprint", "random:resnet18", *options, "-o", tmp_path / "whole.fingerprint")
    for number, path in enumerate(paths, start=1):
        run("fingerprint", "random:resnet18", *options, "-o", path, "--shard", f"{number}/2")
    run("join", *paths, "-o", tmp_path / "joined.fingerprint")
    assert (tmp_path / "joined.fingerprint").read_bytes() == (tmp_path / "whole.fingerprint").read_bytes()
