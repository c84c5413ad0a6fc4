"""Read a whole data set once, before anything learns from it, and say what is in it.

Every sample is read as a trainer would read it, checked against the contract (`cka_probe.lab.datasets.validation`)
and counted (`cka_probe.lab.datasets.statistics`). A broken file is one more frame with a problem. Nothing is
kept of a frame but 16 bytes, its index and a hash by which copies are found, so the memory does not grow with data
sets of the sizes there are.
"""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cka_probe.errors import DataError
from cka_probe.files import atomic_write
from cka_probe.images.datasets import Dataset
from cka_probe.images.sample import FIELDS
from cka_probe.lab.datasets.statistics import STATISTICS
from cka_probe.lab.datasets.statistics.classes import class_names
from cka_probe.lab.datasets.validation import validate_sample
from cka_probe.progress import Progress

MOST_PROBLEMS = 10
WIDTH = 98
"""Letters in a line of the table."""


@dataclass(frozen=True)
class Problem:
    """A frame that cannot be used as it is.

    Attributes:
        frame: Its name, as the dataset describes it.
        fault: What was expected and what was found, in one line.
    """

    frame: str
    fault: str


@dataclass(frozen=True)
class Check:
    """What is in a data set.

    Attributes:
        total: Frames in it.
        frames: Frames that were read.
        broken: How many of these have a problem.
        problems: The first ten problems.
        gives: The fields it declares, in the order of the contract.
        found: What was counted, by field (see `cka_probe.lab.datasets.statistics`), ready for JSON.
        words: The same in lines of text, by field.
        remarks: What is allowed and still strange, in words.
    """

    total: int
    frames: int
    broken: int
    problems: tuple[Problem, ...]
    gives: tuple[str, ...]
    found: dict[str, dict[str, Any]]
    words: dict[str, list[str]]
    remarks: tuple[str, ...]

    def table(self) -> str:
        """Return everything as aligned text of fewer than 100 columns."""
        read = "all read" if self.frames == self.total else f"{self.frames} of them read, evenly spaced"
        parts = [("frames", [f"{self.total}, {read}"]), ("gives", [", ".join(self.gives)]), *self.words.items()]
        if self.remarks:
            parts.append(("remarks", list(self.remarks)))
        problems = [f"{problem.frame}: {problem.fault}" for problem in self.problems]
        more = [f"in {self.broken} frames; the first {len(problems)}:"] if self.broken > len(problems) else []
        parts.append(("problems", [*more, *problems] or ["none"]))
        indent = 2 + max(len(name) for name, _ in parts)
        return "\n".join(line for name, lines in parts for line in _entry(name, lines, indent))

    def save(self, path: str | Path) -> Path:
        """Write everything but the words as JSON, and return the path.

        Raises:
            OutputError: The place cannot be written to.
        """
        document = {name: value for name, value in asdict(self).items() if name != "words"}
        with atomic_write(path) as beside:
            beside.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return Path(path)

    def refuse_problems(self) -> None:
        """Do nothing if all is well.

        Raises:
            DataError: Frames are broken; it says how many and names the first.
        """
        if self.broken:
            first = self.problems[0]
            raise DataError(
                f"{self.broken} of {self.frames} frames {'has' if self.broken == 1 else 'have'} problems; the first, "
                f"{first.frame}: {first.fault}"
            )


def check_dataset(dataset: Dataset, *, num: int | None = None, progress: Progress | None = None) -> Check:
    """Read a data set and return what is in it.

    Args:
        dataset: Anything with the members of `Dataset`.
        num: Read only so many frames, evenly spaced; by default all.
        progress: Called with the number of frames read so far and in all.

    Returns:
        What was found, broken frames included: they are counted, never raised.

    Raises:
        DataError: `num` is less than 1, or there is no frame.
    """
    chosen = evenly(len(dataset), num)
    tallies = {field: kind(dataset) for field, kind in STATISTICS.items() if field in dataset.gives}
    seen, broken, problems = dict.fromkeys(tallies, 0), 0, []
    for count, index in enumerate(chosen):
        if progress:
            progress(count, len(chosen))
        sample, faults = read_sound(dataset, index)
        for field, tally in tallies.items():
            if all(need in sample for need in tally.needs):
                tally.add(index, sample)
                seen[field] += 1
        broken += bool(faults)
        for fault in faults[: MOST_PROBLEMS - len(problems)]:
            problems.append(Problem(dataset.describe(index), fault))
    if progress:
        progress(len(chosen), len(chosen))
    told = {field: tally for field, tally in tallies.items() if seen[field]}
    return Check(
        total=len(dataset),
        frames=len(chosen),
        broken=broken,
        problems=tuple(problems),
        gives=tuple(field for field in FIELDS if field in dataset.gives),
        found={field: tally.numbers() for field, tally in told.items()},
        words={field: tally.lines() for field, tally in told.items()},
        remarks=tuple(remark for tally in told.values() for remark in tally.remarks()),
    )


def read_sound(dataset: Dataset, index: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read one sample and keep of it what is sound.

    Args:
        dataset: Where from.
        index: Which.

    Returns:
        The fields that are as the contract says, as numpy arrays, and what is wrong with the others, in words; a
        sample that cannot be read has no fields.
    """
    try:
        sample = {field: value.numpy() for field, value in dataset[index].items()}
    except DataError as error:
        return {}, [" ".join(str(error).split())]
    counts = {field: _count(class_names(dataset, field)) for field in ("labels", "category")}
    faults = validate_sample(sample, dataset.gives, counts)
    return {name: value for name, value in sample.items() if name not in faults}, [
        f"{name}: {fault}" for name, fault in faults.items()
    ]


def evenly(total: int, num: int | None) -> list[int]:
    """Return `num` of `total` indices, evenly spaced with the ends among them; all if there are not more.

    Raises:
        DataError: There is nothing to choose, or nothing is asked for.

    >>> evenly(10, 4), evenly(3, 9), evenly(5, 1)
    ([0, 3, 6, 9], [0, 1, 2], [0])
    """
    if total < 1 or (num is not None and num < 1):
        raise DataError(f"expected at least one frame to read, found {total} in the data and {num} asked for")
    if num is None or num >= total:
        return list(range(total))
    return [round(step * (total - 1) / max(num - 1, 1)) for step in range(num)]


def _count(names: Sequence[str] | None) -> int | None:
    return None if names is None else len(names)


def _entry(name: str, lines: list[str], indent: int) -> list[str]:
    """Return one part of the table: its name, and its lines wrapped beside it."""
    wrapped = []
    for line in lines:
        room = WIDTH - indent
        wrapped += [line] if len(line) <= room else textwrap.wrap(line, room, subsequent_indent="  ")
    first, *rest = wrapped or [""]
    return [f"{name:<{indent}}{first}", *(" " * indent + line for line in rest)]
