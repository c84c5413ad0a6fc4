"""What is asked of every run, or of every seed, of a study, and what all of them together say.

A question about scores is asked of every run (seed and trial), one about encoders of every seed, as encoders are
compared after the first trial. With one seed, trials are judged: the interval is over trials, as the paper's are, and
says nothing of another pre-training. With several, the trials of a seed are averaged first and the interval is over
seeds: trials of one seed share its pre-training and are not independent of each other. With a single run the interval
is over test images, and nothing is decided.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.papers.cells import undefined
from cka_probe.papers.depth_to_semantic import estimates
from cka_probe.papers.depth_to_semantic.cases import Case
from cka_probe.papers.depth_to_semantic.evidence import Evidence, Run
from cka_probe.papers.estimate import Estimate
from cka_probe.papers.verdicts import Finding, judge


@dataclass(frozen=True)
class Question:
    """A statistic.

    Attributes:
        answer: Called with the study, the run, and whether an interval over images is wanted.
        of_seed: Whether it is asked once a seed; of trial 0 then.
    """

    answer: Callable[[Evidence, Run, bool], Estimate | None]
    of_seed: bool = False


def find(evidence: Evidence, question: Question) -> Finding:
    """Return what all runs together say.

    Raises:
        DataError: A file is broken or of another study.
    """
    run = "seed" if question.of_seed else evidence.run
    trials = (0,) if question.of_seed else evidence.trials

    def ask(interval: bool) -> dict[int, dict[int, Estimate | None]]:
        return {
            seed: {trial: question.answer(evidence, Run(seed, trial), interval) for trial in trials}
            for seed in evidence.seeds
        }

    found = ask(False)
    if sum(answer is not None for answers in found.values() for answer in answers.values()) == 1:
        found = ask(True)
    if run == "seed":
        return judge({seed: average(list(answers.values())) for seed, answers in found.items()}, run)
    return judge(found[evidence.seeds[0]], run)


def average(answers: Sequence[Estimate | None]) -> Estimate | None:
    """Return the mean over the trials of a seed that were run, or `None` if none was; one undefined makes it so."""
    there = [answer for answer in answers if answer is not None]
    if not there:
        return None
    value, low, high = (float(np.mean([getattr(each, end) for each in there])) for end in ("value", "low", "high"))
    return Estimate(value, low, high, "; ".join(dict.fromkeys(each.undefined for each in there if each.undefined)))


def measured(case: Case, measure: str) -> Question:
    """Return the question how much of a measure a case has."""

    def answer(evidence: Evidence, run: Run, interval: bool) -> Estimate | None:
        scores = evidence.scores(case, run)
        return _diverged(evidence, run, case) if scores is None else estimates.value_of(scores, measure, interval)

    return Question(answer)


def gains(better: Case, worse: Case, measure: str = estimates.MAIN) -> Question:
    """Return the question how much more of a measure one case has than another."""

    def answer(evidence: Evidence, run: Run, interval: bool) -> Estimate | None:
        both = [evidence.scores(case, run) for case in (better, worse)]
        if any(scores is None for scores in both):
            return _diverged(evidence, run, better, worse)
        return estimates.gain(*both, measure, interval)

    return Question(answer)


def least_gain(pairs: Sequence[tuple[Case, Case]]) -> Question:
    """Return the question how much more of the main score the first of each pair has at least."""
    each = [gains(*pair) for pair in pairs]

    def answer(evidence: Evidence, run: Run, interval: bool) -> Estimate | None:
        found = [question.answer(evidence, run, interval) for question in each]
        return None if any(one is None for one in found) else estimates.least(found)

    return Question(answer)


def of_curves(statistic: Callable[..., Estimate], better: Case, worse: Case) -> Question:
    """Return a question about two curves of validation."""

    def answer(evidence: Evidence, run: Run, interval: bool) -> Estimate | None:
        if failed := _diverged(evidence, run, better, worse):
            return failed
        both = [evidence.validation(case, run) for case in (better, worse)]
        return None if any(table is None for table in both) else statistic(*both)

    return Question(answer)


def changed(arm: str, statistic: Callable[[SimilarityMatrix], Estimate], mode: str = "all") -> Question:
    """Return a question about an arm before and after fine-tuning."""

    def answer(evidence: Evidence, run: Run, interval: bool) -> Estimate | None:
        matrix = evidence.similarity(run.seed, arm, evidence.tuned(run.seed, arm, mode))
        return None if matrix is None else statistic(matrix)

    return Question(answer, of_seed=True)


def between(x: str, y: str, statistic: Callable[..., Estimate], *whens: str) -> Question:
    """Return a question about two arms, "before" or "after" fine-tuning, or both."""

    def answer(evidence: Evidence, run: Run, interval: bool) -> Estimate | None:
        found = [pair(evidence, run.seed, x, y, when) for when in whens]
        return None if any(matrix is None for matrix in found) else statistic(*found)

    return Question(answer, of_seed=True)


def pair(evidence: Evidence, seed: int, x: str, y: str, when: str) -> SimilarityMatrix | None:
    """Return how alike two arms are "before" or "after" fine-tuning, or `None`."""
    models = (x, y) if when == "before" else (evidence.tuned(seed, x), evidence.tuned(seed, y))
    return evidence.similarity(seed, *models)


def _diverged(evidence: Evidence, run: Run, *cases: Case) -> Estimate | None:
    """Return that there is no number because a run's loss was none; `None` if that is not why."""
    failed = [case.name for case in cases if evidence.diverged(case, run)]
    return undefined(f"the loss of {' and '.join(failed)} stopped being a number") if failed else None
