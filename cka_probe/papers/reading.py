"""Files of a study that are tables: what it says of itself, and logs of training."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from cka_probe.errors import DataError


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Return the table in a JSON file; `what` says what it is.

    Raises:
        DataError: It is missing, broken, or no table.
    """
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"expected {what} at {path}, found: {error}") from error
    if not isinstance(table, dict):
        raise DataError(f"expected {what} at {path}, found a {type(table).__name__}")
    return table


def read_log(path: Path) -> pd.DataFrame | None:
    """Return a CSV whose first column is the step, or `None` if it is not there.

    Raises:
        DataError: It is broken, or has no steps.
    """
    if not path.exists():
        return None
    try:
        table = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path}: expected the log of a training run, found: {error}") from error
    if "step" not in table:
        raise DataError(f"{path}: expected a column 'step', found {', '.join(table.columns)}")
    return table
