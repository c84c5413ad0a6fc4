"""Read a whole dataset once before training, validate every sample, and summarise its contents.

Every sample is read as in training, validated against the contract of `cka_probe.images.sample` (`RULES`) and counted
(`STATISTICS`); both tables have one row per field. A broken file is counted as a frame with a problem, not raised.
Only 16 bytes are stored per frame, its index and a hash that identifies copies, so memory stays small for large
datasets.

A reader refuses a file that is broken. What remains for validation are samples that can be read but do not match the
contract: another shape or dtype, NaN, a label without a class, a rotation that also stretches.
"""

import json
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cka_probe.errors import DataError
from cka_probe.files import atomic_write
from cka_probe.images.datasets import Dataset
from cka_probe.images.sample import FIELDS, IGNORE, OBJECTS
from cka_probe.lab.datasets import map_statistics as maps
from cka_probe.lab.datasets import view_statistics as views
from cka_probe.progress import Progress

ROTATION_TOLERANCE = 1e-2
"""Largest distance of RᵀR from the identity: pose files have few digits."""
LENGTH_TOLERANCE = 2e-2
"""Largest distance of the length of a normal from 1: files store normals in 8 bits."""


@dataclass(frozen=True)
class Rule:
    """What one field has to be.

    Attributes:
        shape: Its shape; equal letters are equal numbers within a sample.
        dtype: Its dtype.
        check: Returns what is wrong with the values, or "".
        nan: Whether NaN is allowed, for "not known".
        classes: Whether the values are numbers of classes.
    """

    shape: tuple[int | str, ...]
    dtype: str
    check: Callable[[np.ndarray], str] = lambda value: ""
    nan: bool = False
    classes: bool = False


def validate_sample(
    sample: Mapping[str, np.ndarray], gives: Collection[str], counts: Mapping[str, int | None]
) -> dict[str, str]:
    """Return what is wrong with a sample, by field; an empty dict if nothing is.

    Args:
        sample: Its fields as numpy arrays.
        gives: The fields that the dataset declares.
        counts: Number of classes of "labels" and "category", where known.
    """
    errors: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for field in (*FIELDS, *OBJECTS, *sorted(set(sample) - {*FIELDS, *OBJECTS})):
        if field not in sample and field not in gives:
            continue
        if field not in sample:
            error = "found none, which `gives` has declared"
        elif field not in gives:
            error = "found it, which `gives` has not declared"
        else:
            error = _check_shape(field, sample[field], sizes) or _check_values(field, sample[field], counts.get(field))
        if error:
            errors[field] = error
    return errors


def _check_shape(field: str, value: np.ndarray, sizes: dict[str, int]) -> str:
    """Return what is wrong with shape and dtype; the first field of a sample sets H, W and S for the others."""
    rule = RULES[field]
    shape = [sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in rule.shape]
    fits = len(shape) == value.ndim and all(
        isinstance(axis, str) or axis == length for axis, length in zip(shape, value.shape, strict=True)
    )
    empty = fits and 0 in [n for axis, n in zip(rule.shape, value.shape, strict=True) if axis != "N"][-2:]
    if not fits or value.dtype != rule.dtype or empty:
        return f"expected ({', '.join(map(str, shape))}) {rule.dtype}, found {value.shape} {value.dtype}"
    sizes.update({axis: n for axis, n in zip(rule.shape, value.shape, strict=True) if isinstance(axis, str)})
    return ""


def _check_values(field: str, value: np.ndarray, count: int | None) -> str:
    """Return what is wrong with the values of a field with `count` classes."""
    rule = RULES[field]
    if value.dtype.kind == "f":
        wrong = np.isinf(value) if rule.nan else ~np.isfinite(value)
        if wrong.any():
            return f"expected numbers, found {wrong.sum()} that are NaN or infinite"
    return _check_classes(value, count) if rule.classes else rule.check(value)


def _check_classes(value: np.ndarray, count: int | None) -> str:
    """Return what is wrong with the class of each pixel (H, W), or of the image ()."""
    labels = value.ndim == 2
    top = count if count is not None else IGNORE if labels else np.inf
    wrong = value[((value < 0) | (value >= top)) & ~(labels & (value == IGNORE))]
    if not wrong.size:
        return ""
    expected = f"0 … {top - 1}" if np.isfinite(top) else "0 or more"
    pixels = f" ({wrong.size} pixels)" if wrong.size > 1 else ""
    return f"expected {expected}{f' or {IGNORE}' if labels else ''}, found {wrong.flat[0]}{pixels}"


def _check_range(value: np.ndarray, high: float = np.inf) -> str:
    """Return whether values lie below 0 or above `high`."""
    if value.size == 0 or (value.min() >= 0 and value.max() <= high):
        return ""
    expected = f"0 … {high:g}" if np.isfinite(high) else "0 or more"
    return f"expected {expected}, found {value.min():.4g} … {value.max():.4g}"


def _check_boxes(value: np.ndarray) -> str:
    """Return whether boxes (N, 4) have no area."""
    wrong = (value[:, 2:] <= value[:, :2]).any(1)
    return f"expected left < right and top < bottom, found {value[wrong][0].tolist()}" if wrong.any() else ""


def _check_normals(value: np.ndarray) -> str:
    """Return what is wrong with normals (3, H, W): each has length 1, or 0 for not known."""
    length = np.linalg.norm(value, axis=0)
    wrong = (np.abs(length - 1) > LENGTH_TOLERANCE) & (length > 0)
    return f"expected length 1 or 0, found {length[wrong][0]:.3g} ({wrong.sum()} pixels)" if wrong.any() else ""


def _check_K(K: np.ndarray) -> str:
    """Return what is wrong with intrinsics: upper triangular, focal lengths above 0, 1 in the corner."""
    fits = K[0, 0] > 0 and K[1, 1] > 0 and K[1, 0] == 0 and np.array_equal(K[2], [0, 0, 1])
    return "" if fits else f"expected [fx s cx; 0 fy cy; 0 0 1] with fx, fy > 0, found {_format(K)}"


def _check_motion(T: np.ndarray) -> str:
    """Return what is wrong with a rigid motion (4, 4): a rotation, a translation, and 0 0 0 1 below."""
    R = T[:3, :3].astype(np.float64)
    error = np.abs(R.T @ R - np.eye(3)).max()
    if error > ROTATION_TOLERANCE or np.linalg.det(R) < 0:
        return f"expected a rotation, found one off by {error:.2g} (det {np.linalg.det(R):.3g}) in {_format(T)}"
    return "" if np.array_equal(T[3], [0, 0, 0, 1]) else f"expected 0 0 0 1 in the last row, found {_format(T[3:])}"


def _check_motions(motions: np.ndarray) -> str:
    """Return what is wrong with the first bad one of rigid motions (S, 4, 4); all NaN means not known."""
    for T in motions[~np.isnan(motions).all((1, 2))]:
        error = f"expected a motion or all NaN, found {_format(T)}" if np.isnan(T).any() else _check_motion(T)
        if error:
            return error
    return ""


def _format(matrix: np.ndarray) -> str:
    """Return a matrix in one line."""
    return "[" + "; ".join(" ".join(f"{value:.4g}" for value in row) for row in matrix) + "]"


_COLOUR = partial(_check_range, high=1)

RULES: dict[str, Rule] = {
    "image": Rule((3, "H", "W"), "float32", _COLOUR),
    "depth": Rule((1, "H", "W"), "float32", _check_range),
    "pseudo_depth": Rule((1, "H", "W"), "float32", _check_range),
    "K": Rule((3, 3), "float32", _check_K),
    "world_T_target": Rule((4, 4), "float32", _check_motion),
    "sources": Rule(("S", 3, "H", "W"), "float32", _COLOUR),
    "source_T_target": Rule(("S", 4, 4), "float32", _check_motions, nan=True),
    "flow": Rule((2, "H", "W"), "float32", nan=True),
    "occluded": Rule((1, "H", "W"), "bool"),
    "labels": Rule(("H", "W"), "int64", classes=True),
    "instances": Rule(("H", "W"), "int64", _check_range),
    "planes": Rule((3, "H", "W"), "int64", _check_range),
    "normals": Rule((3, "H", "W"), "float32", _check_normals),
    "edges": Rule((1, "H", "W"), "bool"),
    "valid": Rule((1, "H", "W"), "bool"),
    "category": Rule((), "int64", classes=True),
    "boxes": Rule(("N", 4), "float32", _check_boxes),
    "box_classes": Rule(("N",), "int64", classes=True),
    "box_crowds": Rule(("N",), "bool"),
    "box_masks": Rule(("N", "H", "W"), "bool"),
}

MAX_PROBLEMS = 10
WIDTH = 98
"""Characters per line of the table."""


class FieldStatistics(Protocol):
    """Running statistics of one field."""

    def add(self, index: int, sample: maps.Arrays) -> None:
        """Count sample `index`, in which the field and those that it `NEEDS` are valid."""
        ...

    def summary(self) -> maps.Summary:
        """Return the statistics of all samples so far."""
        ...


NEEDS = {"K": ("image",), "sources": ("image",)}
"""Fields that the statistics of a field use in addition to itself."""

STATISTICS: dict[str, Callable[[Dataset, str], FieldStatistics]] = {
    "image": views.Images,
    "depth": partial(maps.Depth, unit=" m"),
    "pseudo_depth": maps.Depth,
    "K": views.Camera,
    "world_T_target": views.Poses,
    "sources": views.Sources,
    "flow": maps.Flow,
    "occluded": partial(maps.Mask, label="hidden or outside in the next frame:", missing=""),
    "labels": maps.Labels,
    "instances": maps.Segments,
    "planes": maps.Segments,
    "normals": maps.Normals,
    "edges": partial(maps.Mask, label="on an occluding edge:"),
    "valid": partial(maps.Mask, label="may be scored:", missing="no pixel to score"),
    "category": maps.Categories,
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
    names = {field: maps.class_names(dataset, field) for field in ("labels", "category")}
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
