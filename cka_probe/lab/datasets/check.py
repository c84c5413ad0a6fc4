"""Read a whole dataset once before training, validate every sample, and summarise its contents.

Every sample is read as in training, validated (`cka_probe.lab.datasets.validation`) and counted
(`STATISTICS`). A broken file is counted as a frame with a problem, not raised. Only 16 bytes are
stored per frame, its index and a hash that identifies copies, so memory stays small for large datasets.
"""

import json
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cka_probe.errors import DataError
from cka_probe.files import atomic_write
from cka_probe.images.datasets import Dataset
from cka_probe.images.sample import FIELDS
from cka_probe.lab.datasets.map_statistics import (
    Arrays,
    Categories,
    Depth,
    Flow,
    Labels,
    Mask,
    Normals,
    Segments,
    Summary,
    class_names,
)
from cka_probe.lab.datasets.validation import validate_sample
from cka_probe.lab.datasets.view_statistics import Camera, Images, Poses, Sources
from cka_probe.progress import Progress

MAX_PROBLEMS = 10
WIDTH = 98
"""Characters per line of the table."""


class FieldStatistics(Protocol):
    """Running statistics of one field."""

    def add(self, index: int, sample: Arrays) -> None:
        """Count sample `index`, in which the field and those that it `NEEDS` are valid."""
        ...

    def summary(self) -> Summary:
        """Return the statistics of all samples so far."""
        ...


NEEDS = {"K": ("image",), "sources": ("image",)}
"""Fields that the statistics of a field use in addition to itself."""

STATISTICS: dict[str, Callable[[Dataset, str], FieldStatistics]] = {
    "image": Images,
    "depth": partial(Depth, unit=" m"),
    "pseudo_depth": Depth,
    "K": Camera,
    "world_T_target": Poses,
    "sources": Sources,
    "flow": Flow,
    "occluded": partial(Mask, label="hidden or outside in the next frame:", missing=""),
    "labels": Labels,
    "instances": Segments,
    "planes": Segments,
    "normals": Normals,
    "edges": partial(Mask, label="on an occluding edge:"),
    "valid": partial(Mask, label="may be scored:", missing="no pixel to score"),
    "category": Categories,
}
"""One row per field: what counts it, for a dataset and the name of the field."""


@dataclass(frozen=True)
class Problem:
    """A frame that cannot be used.

    Attributes:
        frame: Its name, as the dataset describes it.
        reason: What was expected and what was found, in one line.
    """

    frame: str
    reason: str


@dataclass(frozen=True)
class Check:
    """The contents of a dataset.

    Attributes:
        total: Frames in it.
        frames: Frames that were read.
        broken: How many of these have a problem.
        problems: The first ten problems.
        gives: The fields it declares, in the order of the contract.
        statistics: By field (see `STATISTICS`), ready for JSON.
        summary: The same by field, as lines of text.
        warnings: What is valid but unusual, one sentence each.
    """

    total: int
    frames: int
    broken: int
    problems: tuple[Problem, ...]
    gives: tuple[str, ...]
    statistics: dict[str, dict[str, Any]]
    summary: dict[str, list[str]]
    warnings: tuple[str, ...]

    def table(self) -> str:
        """Return everything as aligned text of fewer than 100 columns."""
        read = "all read" if self.frames == self.total else f"{self.frames} of them read, evenly spaced"
        parts = [("frames", [f"{self.total}, {read}"]), ("gives", [", ".join(self.gives)]), *self.summary.items()]
        if self.warnings:
            parts.append(("warnings", list(self.warnings)))
        problems = [f"{problem.frame}: {problem.reason}" for problem in self.problems]
        more = [f"in {self.broken} frames; the first {len(problems)}:"] if self.broken > len(problems) else []
        parts.append(("problems", [*more, *problems] or ["none"]))
        indent = 2 + max(len(name) for name, _ in parts)
        return "\n".join(line for name, lines in parts for line in _entry(name, lines, indent))

    def save(self, path: str | Path) -> Path:
        """Write everything except the summary as JSON, and return the path.

        Raises:
            OutputError: The file cannot be written.
        """
        document = {name: value for name, value in asdict(self).items() if name != "summary"}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return Path(path)

    def refuse_problems(self) -> None:
        """Raise an error if any frame is broken.

        Raises:
            DataError: Frames are broken; the message counts them and names the first.
        """
        if self.broken:
            first = self.problems[0]
            raise DataError(
                f"{self.broken} of {self.frames} frames {'has' if self.broken == 1 else 'have'} problems; the first, "
                f"{first.frame}: {first.reason}"
            )


def check_dataset(dataset: Dataset, *, num: int | None = None, progress: Progress | None = None) -> Check:
    """Read a dataset and return its contents.

    Args:
        dataset: Anything with the members of `Dataset`.
        num: Number of frames to read, evenly spaced; by default all.
        progress: Called with the number of frames read so far and in all.

    Returns:
        The statistics, and the problems of broken frames, which are never raised.

    Raises:
        DataError: `num` is less than 1, or the dataset is empty.
    """
    indices = evenly_spaced(len(dataset), num)
    statistics = {field: kind(dataset, field) for field, kind in STATISTICS.items() if field in dataset.gives}
    fields: set[str] = set()
    broken = 0
    problems: list[Problem] = []
    for done, index in enumerate(indices):
        if progress:
            progress(done, len(indices))
        sample, errors = read_valid_fields(dataset, index)
        for field, statistic in statistics.items():
            if {field, *NEEDS.get(field, ())} <= sample.keys():
                statistic.add(index, sample)
                fields.add(field)
        broken += bool(errors)
        for error in errors[: MAX_PROBLEMS - len(problems)]:
            problems.append(Problem(dataset.describe(index), error))
    if progress:
        progress(len(indices), len(indices))
    summaries = {field: statistic.summary() for field, statistic in statistics.items() if field in fields}
    return Check(
        total=len(dataset),
        frames=len(indices),
        broken=broken,
        problems=tuple(problems),
        gives=tuple(field for field in FIELDS if field in dataset.gives),
        statistics={field: summary.numbers for field, summary in summaries.items()},
        summary={field: summary.lines for field, summary in summaries.items()},
        warnings=tuple(warning for summary in summaries.values() for warning in summary.warnings),
    )


def read_valid_fields(dataset: Dataset, index: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read one sample and return its valid fields.

    Args:
        dataset: Anything with the members of `Dataset`.
        index: Number of the sample.

    Returns:
        The valid fields as numpy arrays, and one sentence for each invalid one; a sample that cannot be read has
        no fields.
    """
    try:
        sample = {field: value.numpy() for field, value in dataset[index].items()}
    except DataError as error:
        return {}, [" ".join(str(error).split())]
    names = {field: class_names(dataset, field) for field in ("labels", "category")}
    counts = {field: None if value is None else len(value) for field, value in names.items()}
    errors = validate_sample(sample, dataset.gives, counts)
    return {name: value for name, value in sample.items() if name not in errors}, [
        f"{name}: {error}" for name, error in errors.items()
    ]


def evenly_spaced(total: int, num: int | None) -> list[int]:
    """Return `num` of `total` indices, evenly spaced including both ends; all of them if there are no more.

    Raises:
        DataError: `total` or `num` is less than 1.

    >>> evenly_spaced(10, 4), evenly_spaced(3, 9), evenly_spaced(5, 1)
    ([0, 3, 6, 9], [0, 1, 2], [0])
    """
    if total < 1 or (num is not None and num < 1):
        raise DataError(f"expected at least one frame to read, found {total} in the data and {num} asked for")
    if num is None or num >= total:
        return list(range(total))
    return [round(step * (total - 1) / max(num - 1, 1)) for step in range(num)]


def _entry(name: str, lines: list[str], indent: int) -> list[str]:
    """Return one part of the table: its name, and its lines, wrapped and indented."""
    wrapped = []
    for line in lines:
        room = WIDTH - indent
        wrapped += [line] if len(line) <= room else textwrap.wrap(line, room, subsequent_indent="  ")
    first, *rest = wrapped or [""]
    return [f"{name:<{indent}}{first}", *(" " * indent + line for line in rest)]
