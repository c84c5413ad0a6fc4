"""Several processes share the batches of a run: the same bytes for any number, one line for an error, no hang."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from helpers.paths import ROOT
from PIL import Image

COMPARE = ["compare", "random:resnet18:0", "random:resnet18:1", "--size", "32", "--layers", "layer1,layer4", "--quiet"]
COMPARE += ["--batch", "8", "--permutations", "10"]


def folder_of_images(path, count, seed=0):
    path.mkdir()
    values = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    for number, image in enumerate(values):
        Image.fromarray(image).resize((40, 36)).save(path / f"{number:03}.png")
    return path


def torchrun(processes, *words, script=("-m", "ckaprobe_cli")):
    """Run the command line as `torchrun` does, or in one process for 1."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"] * (processes > 1)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *launcher, *script, *map(str, words)],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.suffix in FILES}


FILES = (".json", ".csv", ".fingerprint", ".txt")


def test_two_processes_write_the_bytes_of_one(tmp_path):
    data = folder_of_images(tmp_path / "images", 27)  # three batches, the last of eleven
    outputs = []
    for processes in (1, 2):
        out = tmp_path / "out"
        done = torchrun(processes, *COMPARE, "--data", data, "--out", out)
        assert done.returncode == 0, done.stderr
        outputs.append((files(out), done.stdout))
        out.rename(tmp_path / f"out{processes}")
    assert outputs[0] == outputs[1]
    assert Path("result.json") in outputs[0][0]
