"""Results as JSON files that say themselves what they are: a format's name first, then the fields.

There is no time stamp in them: the same result gives the same bytes. NaN and infinity, which JSON does not know, are
`null`.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.errors import DataError
from cka_probe.files import atomic_write

SUFFIXES = (".json", ".csv")

SCORES = ("scores", "a scores.json of `ckaprobe evaluate`", "run the evaluation again")
"""What most documents hold, what file they are, and how to make it again."""


def check_suffix(path: str | Path, what: str = "scores") -> Path:
    """Return the path of a file that scores, or `what`, are to be written to.

    Raises:
        DataError: It ends neither as JSON nor as a table does.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise DataError(f"{what} are saved as .json or .csv, found {path.suffix or 'no suffix'!r} in {path}")
    return path


def write_document(path: str | Path, document: Mapping[str, Any]) -> Path:
    """Write a document, whole or not at all, and return the path.

    Args:
        path: Where to.
        document: Its first key is `format`; values are what `plain` takes.

    Raises:
        OutputError: It cannot be written there.
    """
    text = json.dumps(plain(document), indent=1, allow_nan=False, ensure_ascii=False)
    with atomic_write(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def save_either(path: str | Path, what: str, document: Mapping[str, Any], cells: pd.DataFrame) -> Path:
    """Write a document as JSON, or its cells as CSV, as the suffix says, and return the path.

    Args:
        path: `*.json` or `*.csv`.
        what: Is saved, for the message.
        document: As for `write_document`.
        cells: Long form.

    Raises:
        DataError: The suffix is another.
        OutputError: It cannot be written there.
    """
    path = check_suffix(path, what)
    if path.suffix == ".json":
        return write_document(path, document)
    with atomic_write(path) as beside:
        cells.to_csv(beside, index=False)
    return path


def read_document(
    path: str | Path, format_name: str, keys: Set[str], made_by: tuple[str, str, str] = SCORES
) -> dict[str, Any]:
    """Return what stands in a document, without its format.

    Args:
        path: Of the file.
        format_name: The format that is expected.
        keys: All that it must hold, and nothing else, besides `format`.
        made_by: What it holds, what file that is, and how to make it again, in the words of a message.

    Raises:
        DataError: The file is not there, or is another's.
    """
    what, file, again = made_by
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"expected {file} at {path}, found nothing; check the path, or {again}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"expected {file} at {path}, found: {error}; {again}") from error
    found = document.pop("format", None) if isinstance(document, dict) else None
    if found != format_name or set(document) != keys:
        raise DataError(f"{path}: expected {what} of format {format_name!r}, found {found!r}; {again}")
    return document


def plain(value: Any) -> Any:
    """Return `value` in JSON's types; NaN and infinity as None.

    >>> plain({"a": (np.float64(0.5), float("nan")), "b": np.int64(3)})
    {'a': [0.5, None], 'b': 3}
    """
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if is_dataclass(value):
        return plain(asdict(value))
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value
