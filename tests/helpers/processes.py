"""Programs that processes run together, as `torchrun` starts them."""

import os
import subprocess
import sys

from helpers.paths import ROOT

LEAVE = """
if __name__ == "__main__":  # not in a worker process, which imports this file
    import os, sys
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may abort an interpreter that they outlive
"""


def run_in_processes(program, folder, *arguments, processes=2, timeout=300):
    """Run the text of a program in several processes of one thread each, in a folder."""
    (folder / "program.py").write_text(program + LEAVE)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        str(processes),
        "--standalone",
        "program.py",
    ]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=folder, env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def torchrun(processes, *words, script=("-m", "ckaprobe_cli")):
    """Run the command line, or another program, in processes of `torchrun`."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *launcher, *script, *map(str, words)],
        env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
