"""How alike encoders are: each arm before and after fine-tuning, and every arm with every other, before and after.

All are shown the same street images, which none was trained on, and are compared at their nine natural layers by
the unbiased estimator, each fed as it was trained.
"""

from collections.abc import Sequence
from itertools import combinations

from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.papers.depth_to_semantic.cases import Case
from cka_probe.papers.depth_to_semantic.study_paths import StudyPaths
from cka_probe.papers.depth_to_semantic.tuning import compared
from cka_probe.papers.similarities import ComparisonSpec, Images, checkpoints, write_fingerprints, write_similarities


def write_likeness(study: StudyPaths, seed: int, cases: Sequence[Case], images: Images, architecture: str) -> None:
    """Write the fingerprints of all arms, and every comparison that is not there yet.

    Args:
        study: Where to; the fingerprints after fine-tuning are there already.
        seed: Of the run.
        cases: All that were run.
        images: What encoders are shown.
        architecture: Of all encoders.
    """
    arms = list(dict.fromkeys(case.arm for case in cases))
    write_fingerprints(study, seed, checkpoints(study, seed, arms), images)
    tuned = [case for case in cases if compared(case) and study.fingerprint(seed, _model(study, seed, case)).exists()]
    ways = {"paper": ComparisonSpec(ARCHITECTURES[architecture].layers)}
    for _ in write_similarities(study, seed, pairs(study, seed, arms, tuned), ways):
        pass


def pairs(study: StudyPaths, seed: int, arms: Sequence[str], tuned: Sequence[Case]) -> list[tuple[str, str]]:
    """Return what is compared with what, by the models' names: (rows, columns).

    Args:
        study: Names them.
        seed: Of the run.
        arms: In order; the earlier one is on the rows.
        tuned: Fine-tuned cases that have a fingerprint; with each other only those of one data set and mode.
    """
    before_after = [(case.arm, _model(study, seed, case)) for case in tuned]
    alike = [(x, y) for x, y in combinations(tuned, 2) if (x.data, x.mode) == (y.data, y.mode) == (x.data, "all")]
    after = [(_model(study, seed, x), _model(study, seed, y)) for x, y in alike]
    return [*before_after, *combinations(arms, 2), *after]


def _model(study: StudyPaths, seed: int, case: Case) -> str:
    return study.model(seed, case, 0)
