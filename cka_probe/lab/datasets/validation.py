"""What is wrong with a sample, held up against the contract of `cka_probe.images.sample`.

A reader refuses a file that is broken. What remains are samples that read well and still are not what their fields
promise: another shape or type, numbers that are none, a label no class has, a rotation that also stretches. Each is
said as expected and found, by field, so that a whole data set can be checked before anything learns from it.
"""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from cka_probe.images.sample import FIELDS, IGNORE

SHAPES: dict[str, tuple[tuple[int | str, ...], str]] = {
    "image": ((3, "H", "W"), "float32"),
    "depth": ((1, "H", "W"), "float32"),
    "pseudo_depth": ((1, "H", "W"), "float32"),
    "K": ((3, 3), "float32"),
    "world_T_target": ((4, 4), "float32"),
    "sources": (("S", 3, "H", "W"), "float32"),
    "source_T_target": (("S", 4, 4), "float32"),
    "flow": ((2, "H", "W"), "float32"),
    "occluded": ((1, "H", "W"), "bool"),
    "labels": (("H", "W"), "int64"),
    "instances": (("H", "W"), "int64"),
    "planes": ((3, "H", "W"), "int64"),
    "normals": ((3, "H", "W"), "float32"),
    "edges": ((1, "H", "W"), "bool"),
    "valid": ((1, "H", "W"), "bool"),
    "category": ((), "int64"),
}
"""The contract's shapes and types; equal letters are equal numbers within a sample."""

MAY_BE_NAN = ("flow", "source_T_target")
"""Fields in which NaN means "not known"."""

TURN = 1e-2
"""How far RᵀR may be from the identity: pose files hold few digits."""
UNIT = 2e-2
"""How far a normal's length may be from 1: they are stored in 8 bits."""


def validate_sample(
    sample: Mapping[str, np.ndarray], gives: Collection[str], counts: Mapping[str, int | None]
) -> dict[str, str]:
    """Return what is wrong with a sample, by field; nothing wrong is an empty dict.

    Args:
        sample: Its fields as numpy arrays.
        gives: The fields that the dataset declares.
        counts: How many classes "labels" and "category" have, where somebody said so.
    """
    faults: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for field in (*FIELDS, *sorted(set(sample) - set(FIELDS))):
        if (field in sample) != (field in gives):
            there, where = ("found it", "not declared") if field in sample else ("found none", "declared")
            fault = f"{there}, which `gives` has {where}"
        elif field not in sample:
            continue
        else:
            fault = _form(field, sample[field], sizes) or _content(field, sample[field], counts)
        if fault:
            faults[field] = fault
    return faults


def _form(field: str, value: np.ndarray, sizes: dict[str, int]) -> str:
    """Return what is wrong with shape and type; the first field of a sample sets H, W and S for the others."""
    shape, kind = SHAPES[field]
    known = [sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in shape]
    fits = len(known) == value.ndim and all(
        isinstance(axis, str) or axis == length for axis, length in zip(known, value.shape, strict=True)
    )
    if not fits or value.dtype != kind or 0 in value.shape[-2:]:
        expected = ", ".join(map(str, known)) + ("," if len(known) == 1 else "")
        return f"expected ({expected}) {kind}, found {value.shape} {value.dtype}"
    sizes.update({axis: n for axis, n in zip(shape, value.shape, strict=True) if isinstance(axis, str)})
    return ""


def _content(field: str, value: np.ndarray, counts: Mapping[str, int | None]) -> str:
    """Return what is wrong with the numbers."""
    if value.dtype.kind == "f":
        wrong = np.isinf(value) if field in MAY_BE_NAN else ~np.isfinite(value)
        if wrong.any():
            return f"expected numbers, found {wrong.sum()} that are NaN or infinite"
    if field in ("labels", "category"):
        return _classes(value, counts.get(field), field)
    return CHECKS[field](value) if field in CHECKS else ""


def _classes(value: np.ndarray, count: int | None, field: str) -> str:
    """Return what is wrong with the numbers of classes."""
    ignored = value == IGNORE if field == "labels" else np.zeros(value.shape, bool)
    top = count if count is not None else IGNORE if field == "labels" else np.iinfo(np.int64).max
    wrong = value[~ignored & ((value < 0) | (value >= top))]
    if not wrong.size:
        return ""
    range_ = f"0 … {top - 1}" if count is not None or field == "labels" else "0 or more"
    ignore = f" or {IGNORE}" if field == "labels" else ""
    return f"expected {range_}{ignore}, found {wrong.flat[0]}" + (f" ({wrong.size} pixels)" if wrong.size > 1 else "")


def _between(low: float, high: float) -> Callable[[np.ndarray], str]:
    """Return the check that nothing is below `low` or above `high`."""

    def check(value: np.ndarray) -> str:
        if value.size == 0 or (value.min() >= low and value.max() <= high):
            return ""
        wanted = f"{low:g} … {high:g}" if np.isfinite(high) else f"{low:g} or more"
        return f"expected {wanted}, found {value.min():.4g} … {value.max():.4g}"

    return check


def _unit_or_none(value: np.ndarray) -> str:
    """Return what is wrong with normals: each of length 1, or 0 for not known."""
    length = np.linalg.norm(value, axis=0)
    wrong = (np.abs(length - 1) > UNIT) & (length > 0)
    return f"expected length 1 or 0, found {length[wrong][0]:.3g} ({wrong.sum()} pixels)" if wrong.any() else ""


def _camera(K: np.ndarray) -> str:
    """Return what is wrong with intrinsics: upper triangular, focal lengths above 0, 1 in the corner."""
    fits = K[0, 0] > 0 and K[1, 1] > 0 and K[1, 0] == 0 and np.array_equal(K[2], [0, 0, 1])
    return "" if fits else f"expected [fx s cx; 0 fy cy; 0 0 1] with fx, fy > 0, found {_matrix(K)}"


def _motion(T: np.ndarray) -> str:
    """Return what is wrong with a rigid motion (4, 4): a rotation, a translation, and 0 0 0 1 below."""
    R = T[:3, :3].astype(np.float64)
    off = np.abs(R.T @ R - np.eye(3)).max()
    if off > TURN or np.linalg.det(R) < 0:
        return f"expected a rotation, found one off by {off:.2g} (det {np.linalg.det(R):.3g}) in {_matrix(T)}"
    return "" if np.array_equal(T[3], [0, 0, 0, 1]) else f"expected 0 0 0 1 in the last row, found {_matrix(T[3:])}"


def _motions(motions: np.ndarray) -> str:
    """Return what is wrong with the first bad one of rigid motions (S, 4, 4); all NaN is not known."""
    for T in motions[~np.isnan(motions).all((1, 2))]:
        fault = f"expected a motion or all NaN, found {_matrix(T)}" if np.isnan(T).any() else _motion(T)
        if fault:
            return fault
    return ""


def _matrix(matrix: np.ndarray) -> str:
    """Return a matrix in one line."""
    return "[" + "; ".join(" ".join(f"{value:.4g}" for value in row) for row in matrix) + "]"


CHECKS: dict[str, Callable[[np.ndarray], str]] = {
    "image": _between(0, 1),
    "sources": _between(0, 1),
    "depth": _between(0, np.inf),
    "pseudo_depth": _between(0, np.inf),
    "instances": _between(0, np.inf),
    "planes": _between(0, np.inf),
    "normals": _unit_or_none,
    "K": _camera,
    "world_T_target": _motion,
    "source_T_target": _motions,
}
