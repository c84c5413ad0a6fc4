"""The images of an evaluation, shared by processes: the files of one process, to the byte."""

from pathlib import Path

import pytest
import torch
from helpers.blocks import checkpoint as label_checkpoint
from helpers.evaluations import evaluate_all
from helpers.processes import run_in_processes
from helpers.rooms import checkpoint

from cka_probe.comparison.ranks import Ranks
from cka_probe.images.datasets import DATASETS
from cka_probe.lab.evaluation import image_run

PROGRAM = """
import os
from pathlib import Path
from helpers.evaluations import evaluate_all
from cka_probe.comparison.ranks import joined
with joined():
    evaluate_all(Path("models"), Path("two"), os.environ["RANK"] == "0")
"""


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path, monkeypatch):
    for name in ("rooms", "blocks"):
        monkeypatch.setitem(DATASETS, name, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    checkpoint(tmp_path / "models/depth.safetensors", "depth")
    label_checkpoint(tmp_path / "models/labels.safetensors", "segmentation", classes=4, network="linear")
    run_in_processes(PROGRAM, tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    evaluate_all(Path("models"), tmp_path / "one", True)
    torch.set_num_threads(threads)
    files = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert len(files) > 8
    assert files == {path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*") if path.is_file()}
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


class Sizes:
    """Images of sizes that change within and between batches."""

    gives = frozenset({"image"})

    def __getitem__(self, index):
        return {"image": torch.full((3, 8 + 8 * (index in (1, 4, 5)), 8), index / 10)}


class Part(Ranks):
    """One of several processes, which is told nothing by the others."""

    def exchange(self, item):
        return [item]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_any_number_of_processes_has_the_same_batches(count, monkeypatch):
    batches, results = [], {}

    def predict(samples):
        batches.append([round(10 * float(sample["image"][0, 0, 0])) for sample in samples])
        return torch.tensor(batches[-1])

    for index in range(count):
        monkeypatch.setattr(image_run, "current_ranks", lambda index=index: Part(index, count))
        run = image_run.ImageRun(
            dataset=Sizes(), source="x", indices=[*range(7)], names=[*"abcdefg"], device=torch.device("cpu"), batch=3,
            progress=lambda done, total: None,
        )  # fmt: skip
        pairs = run.results(frozenset({"image"}), lambda name, sample, number: (name, int(number)), predict)
        assert pairs == sorted(pairs)
        assert len(run.hashes) == len(pairs)
        results |= dict(pairs)
    assert sorted(batches) == [[0], [1], [2], [3], [4, 5], [6]]
    assert results == {name: number for number, name in enumerate("abcdefg")}
