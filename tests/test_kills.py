"""Commands that are killed or interrupted go on by the same command, to the same bytes."""

import json
import os
import random
import subprocess
import sys

import pytest
from helpers.every_command import COMMANDS
from helpers.paths import ROOT

from ckaprobe_cli import app
from ckaprobe_cli.data import data


def test_every_command_is_tried():
    names = [command.callback.__name__ for command in app.registered_commands]
    names += [f"data {command.callback.__name__.replace('_', '-')}" for command in data.registered_commands]
    assert sorted(COMMANDS) == sorted(names)


TOYS = """
import json, random, signal, sys
_, seed, *sys.path[:0] = sys.argv
import kills
from helpers.shared_runs import folder_of_images
print("seed", seed)
kills.prepare(lambda folder: folder_of_images(folder / "images", 8))
kills.COMMANDS["compare"] = "compare random:resnet18:0 random:resnet18:1 --data {inputs}/images --out {out}/ab " \\
    "--layers layer4.0,layer4.1 --size 32 --batch 4 --permutations 0 --device cpu --quiet".split()
print(json.dumps(kills.kill_often("compare", 1, signal.SIGKILL, random.Random(int(seed)), runs=1)))
"""


@pytest.mark.slow
@pytest.mark.skipif("CKAPROBE_KILLS" not in os.environ, reason="takes 20 s; set CKAPROBE_KILLS to run it")
def test_a_comparison_killed_at_a_random_moment_goes_on_to_the_same_bytes(tmp_path):
    seed = random.SystemRandom().randrange(1 << 32)
    (row,) = rows_of(tmp_path, "-c", TOYS, seed, ROOT / "benchmarks" / "hard_use", ROOT / "tests")
    assert row["survived"] == row["kills"] == 1, f"seed {seed}: {row['problems']}"


WORK = ("train", "fingerprint", "compare", "data make")
TRIES = 2
"""Of each; `benchmarks/hard_use/kills.py` does as many as one likes, of all other commands, too."""


@pytest.mark.slow
@pytest.mark.skipif("CKAPROBE_KILLS" not in os.environ, reason="stops at random moments; set CKAPROBE_KILLS to run it")
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("signal", ["KILL", "INT"])
def test_stopped_commands_go_on_to_the_same_bytes(signal, tmp_path):
    rows = stopped(tmp_path, "--tries", TRIES, "--signal", signal, "--only", *WORK)
    assert [row["command"] for row in rows] == list(WORK)
    assert all(row["survived"] == row["kills"] == TRIES for row in rows)


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_command_killed_before_any_of_its_changes_of_files_goes_on_to_the_same_bytes(tmp_path):
    (row,) = stopped(tmp_path, "--before-files", "--tries", 99, "--only", "join")
    assert row["survived"] == row["kills"] == row["changes"] > 10


def stopped(folder, *words):
    """Run the script that stops commands, and return its rows."""
    return rows_of(folder, ROOT / "benchmarks" / "hard_use" / "kills.py", *words)


def rows_of(folder, *words):
    """Run Python in another process, and return the lines of JSON that it prints."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
