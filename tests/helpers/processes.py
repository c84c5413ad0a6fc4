"""Programs that processes run together, as `torchrun` starts them."""

import os
import subprocess
import sys

from helpers.paths import ROOT


def run_in_processes(program, folder, *arguments, processes=2, timeout=300):
    """Run the text of a program in several processes of one thread each, in a folder."""
    (folder / "program.py").write_text(program)
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
