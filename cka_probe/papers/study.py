"""The folder of a study: what is done there once, and where everything lies.

OUT/study.json                                   what is studied; the same command goes on, another is refused
OUT/data/<name>/                                 scenes that were drawn
OUT/teacher/                                     the run of the teacher, where there is one
OUT/seed<k>/                                     the run of the recipe under a seed: checkpoints and logs
OUT/seed<k>/scores/<stage>/<in|out>.json         how well a checkpoint predicts depth
OUT/seed<k>/predictions/<stage>/<in|out>/        what it predicted
OUT/seed<k>/fingerprints/<stage>~<features>.safetensors
OUT/seed<k>/similarity/<x>~<y>~<variant>.json    how alike two checkpoints are
OUT/report/                                      the page, its tables and figures
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cka_probe.errors import OutputError
from cka_probe.files import atomic_write, check_writable


@dataclass(frozen=True)
class Study:
    """Where the parts of a study lie.

    Attributes:
        folder: OUT.
    """

    folder: Path

    def claim(self, what: dict[str, Any]) -> None:
        """Write into the folder what is studied there, or find the same there already.

        Args:
            what: All that bears on the numbers except the seeds, of which more may come.

        Raises:
            OutputError: Something else is studied there, or it cannot be written to.
        """
        check_writable(self.folder)
        path, what = self.folder / "study.json", json.loads(json.dumps(what))
        if not path.exists():
            with atomic_write(path) as beside:
                beside.write_text(json.dumps(what, indent=2) + "\n", "utf-8")
            return
        there = json.loads(path.read_text("utf-8"))
        for key in [*what, *(key for key in there if key not in what)]:
            if there.get(key) != what.get(key):
                raise OutputError(
                    f"{self.folder} holds another study: {key} is {there.get(key)!r} there and {what.get(key)!r} here; "
                    "choose another --out, or delete that one"
                )

    @property
    def report(self) -> Path:
        """Where the page lies, and its tables and figures."""
        return self.folder / "report"

    @property
    def page(self) -> Path:
        """What a reader opens first."""
        return self.report / "README.md"

    def run(self, seed: int) -> Path:
        """Return where the recipe is run under a seed."""
        return self.folder / f"seed{seed}"

    def checkpoint(self, seed: int, stage: str) -> Path:
        """Return the checkpoint of a stage."""
        return self.run(seed) / f"{stage}.safetensors"

    def scores(self, seed: int, stage: str, where: str) -> Path:
        """Return how a checkpoint scored, `where` being "in" or "out" of what it was tuned on."""
        return self.run(seed) / "scores" / stage / f"{where}.json"

    def predictions(self, seed: int, stage: str, where: str) -> Path:
        """Return the folder of what a checkpoint predicted."""
        return self.run(seed) / "predictions" / stage / where

    def fingerprint(self, seed: int, stage: str, features: str) -> Path:
        """Return the fingerprint of a checkpoint."""
        return self.run(seed) / "fingerprints" / f"{stage}~{features}.safetensors"

    def similarity(self, seed: int, x: str, y: str, variant: str) -> Path:
        """Return how alike two checkpoints are."""
        return self.run(seed) / "similarity" / f"{x}~{y}~{variant}.json"
