"""Validate a sample against the contract of `cka_probe.images.sample`.

A reader refuses a file that is broken. What remains are samples that can be read but do not match the contract:
another shape or dtype, NaN, a label without a class, a rotation that also stretches. `RULES` has one row per field.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from cka_probe.images.sample import FIELDS, IGNORE

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
    for field in (*FIELDS, *sorted(set(sample) - set(FIELDS))):
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
    if not fits or value.dtype != rule.dtype or 0 in value.shape[-2:]:
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


def _check_range(value: np.ndarray, low: float = 0, high: float = np.inf) -> str:
    """Return whether values lie below `low` or above `high`."""
    if value.size == 0 or (value.min() >= low and value.max() <= high):
        return ""
    expected = f"{low:g} … {high:g}" if np.isfinite(high) else f"{low:g} or more"
    return f"expected {expected}, found {value.min():.4g} … {value.max():.4g}"


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
}
