"""Where everything of the study lies.

OUT/study.json                                         what is studied; the same command goes on, another is refused
OUT/data/<name>/                                       scenes that were drawn
OUT/seed<k>/pre/<arm>.safetensors, <arm>/log.csv …     the run of the pre-training recipe; `none` is chance
OUT/seed<k>/tuned/<case>/<rate>/trial<t>/              a run of the segmentation recipe
    segment.safetensors, segment/log.csv, segment/validation.csv, recipe.json
    scores.json                                        `LabelScores` on the test images: the trial is finished
    predictions/                                       what was said of them, of first trials where everything learns
    diverged.json                                      in their place, where the loss stopped being a number
OUT/seed<k>/rates.json                                 {base case: {"rate": …, "tried": {rate: held-out mIoU}}}
OUT/seed<k>/fingerprints/<model>.safetensors           <model> is `<arm>` or `<case>~trial<t>`
OUT/seed<k>/similarity/<x>~~<y>.json                   how alike two of these models are
OUT/seed<k>/gradcam/gradcam.json, <case>.npz           how well maps follow outlines; the maps that are drawn
OUT/report/                                            the page, its tables and figures
"""

import json
from dataclasses import dataclass
from pathlib import Path

from cka_probe.errors import DataError
from cka_probe.papers.depth_to_semantic.cases import Case
from cka_probe.papers.study import Study

SEGMENT = "segment"
"""The one stage of the segmentation recipe."""

DIVERGED = "diverged.json"
"""Stands where a trial's scores would, if its loss stopped being a number."""


@dataclass(frozen=True)
class StudyPaths(Study):
    """Where the parts of this study lie; `Study` says where the page is, and claims the folder."""

    def pre(self, seed: int) -> Path:
        """Return where the pre-training recipe is run under a seed."""
        return self.run(seed) / "pre"

    def checkpoint(self, seed: int, arm: str) -> Path:
        """Return the checkpoint that ends an arm's pre-training."""
        return self.pre(seed) / f"{arm}.safetensors"

    def tuned(self, seed: int, case: Case, rate: float, trial: int) -> Path:
        """Return the folder of one fine-tuning."""
        return self.run(seed) / "tuned" / case.name / f"{rate:g}" / f"trial{trial}"

    def rates(self, seed: int) -> Path:
        """Return the file that says which learning rate was chosen for each base case."""
        return self.run(seed) / "rates.json"

    def rate(self, seed: int, case: Case) -> float | None:
        """Return the learning rate that was chosen for a case, or `None` if none was yet."""
        path = self.rates(seed)
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text("utf-8")).get(case.base.name)
            return None if found is None else float(found["rate"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: expected the chosen learning rates, found: {error}; delete it") from error

    def model(self, seed: int, case: Case, trial: int) -> str:
        """Return what the fine-tuned network is called among fingerprints and similarities."""
        return f"{case.name}~trial{trial}"

    def fingerprint(self, seed: int, model: str, features: str = "flatten") -> Path:
        """Return the fingerprint of a model."""
        return self.run(seed) / "fingerprints" / f"{model}.safetensors"

    def gradcam(self, seed: int) -> Path:
        """Return how well the maps of first trials follow the outlines of classes."""
        return self.run(seed) / "gradcam" / "gradcam.json"

    def maps(self, seed: int, case: str) -> Path:
        """Return the maps of a case that are drawn."""
        return self.run(seed) / "gradcam" / f"{case}.npz"

    def similarity(self, seed: int, x: str, y: str, variant: str = "paper") -> Path:
        """Return how alike two models are."""
        return self.run(seed) / "similarity" / f"{x}~~{y}.json"
