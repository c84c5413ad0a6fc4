"""Results as self-describing JSON: the format's name first, then the fields; or as a long-form CSV table.

A document has no time stamp: the same result gives the same bytes. NaN and infinity, which JSON lacks, become `null`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cka_probe.errors import DataError
from cka_probe.files import atomic_write, read_json

SUFFIXES = (".json", ".csv")
SHOWN = 24
"""Rows and columns of a table that a notebook shows."""

SCORES = ("scores", "a scores.json of `ckaprobe evaluate`", "run the evaluation again")
"""For messages about most documents: what they are, the file they are in, and how to create them again."""


class Document:
    """A result that is saved as JSON, which holds everything, or as CSV, which holds its table.

    A subclass defines `as_document` and `to_frame`, and reads its JSON with `read_document`.

    Attributes:
        noun: What the documents of the class are, in the plural; for error messages.
        suffixes: Of the files that `save` writes.
    """

    noun: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    def as_document(self) -> dict[str, Any]:
        """Return everything that `save` writes as JSON; the first key is `format`."""
        raise NotImplementedError

    def to_frame(self) -> pd.DataFrame:
        """Return the table that `save` writes as CSV, in long form."""
        raise NotImplementedError

    def to_latex(self) -> str:
        """Return what `save` writes as LaTeX, where `suffixes` has `.tex`."""
        raise NotImplementedError

    def summary(self) -> str:
        """Return what a terminal shows."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the summary and a table, whose middle is left out if it is long."""
        table = self._notebook_table().to_html(max_rows=SHOWN, max_cols=SHOWN, border=0, float_format="{:.3f}".format)
        return f"<pre>{escape(self.summary())}</pre>{table}"

    def _notebook_table(self) -> pd.DataFrame:
        """Return the table that a notebook shows."""
        return self.to_frame()

    def save(self, path: str | Path) -> Path:
        """Write everything as JSON, or a table as CSV or (if it is a matrix of layers) LaTeX, depending on the suffix.

        Args:
            path: `*.json`, which `load` reads, `*.csv` or `*.tex`.

        Returns:
            The path written.

        Raises:
            DataError: The path has another suffix.
            OutputError: The path cannot be written.
        """
        path = check_suffix(path, self.noun, self.suffixes)
        if path.suffix == ".json":
            return write_document(path, self.as_document())
        if path.suffix == ".tex":
            text = self.to_latex()
            with atomic_write(path) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="\n")
            return path
        frame = self.to_frame()
        with atomic_write(path) as temporary:
            frame.to_csv(temporary, index=frame.index.name is not None, lineterminator="\n")
        return path


def check_suffix(path: str | Path, what: str = "scores", suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """Return the path of a document that is to be written.

    Raises:
        DataError: The suffix is none of `suffixes`.
    """
    path = Path(path)
    if path.suffix not in suffixes:
        names = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise DataError(f"{what} are saved as {names}, found {path.suffix or 'no suffix'!r} in {path}")
    return path


def write_document(path: str | Path, document: Mapping[str, Any]) -> Path:
    """Write a document completely or not at all, and return the path.

    Args:
        path: The file to write.
        document: Its first key is `format`; values are what `plain` accepts.

    Raises:
        OutputError: The path cannot be written.
    """
    text = _indented(plain(document))
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return Path(path)


def _indented(value: Any, start: str = "\n") -> str:
    """Return JSON types as `json.dumps` with an indent of 1 does, in a third of its time for long lists of numbers."""
    if type(value) is float:
        return repr(value)
    if not value or not isinstance(value, dict | list):
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    inner = start + " "
    if isinstance(value, dict):
        items = [f"{json.dumps(key, ensure_ascii=False)}: {_indented(item, inner)}" for key, item in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{start}}}"
    return f"[{inner}{f',{inner}'.join([_indented(item, inner) for item in value])}{start}]"


def read_document(
    path: str | Path,
    format_name: str,
    keys: Set[str],
    made_by: tuple[str, str, str] = SCORES,
    optional: Set[str] = frozenset(),
) -> dict[str, Any]:
    """Return the fields of a document, without its format.

    Args:
        path: The file to read.
        format_name: The expected format.
        keys: The keys that the document must have besides `format`.
        made_by: What the document holds, which file that is, and how to create it again; for error messages.
        optional: The keys that it may have, which older files do not; it has no others.

    Raises:
        DataError: The file does not exist, is not JSON, or has another format or other keys.
    """
    what, file, again = made_by
    try:
        document = read_json(path)
    except FileNotFoundError as error:
        raise DataError(f"expected {file} at {path}, found nothing; check the path, or {again}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"expected {file} at {path}, found: {error}; {again}") from error
    name = document.pop("format", None) if isinstance(document, dict) else None
    if name != format_name or not keys <= set(document) <= keys | optional:
        raise DataError(f"{path}: expected {what} of format {format_name!r}, found {name!r}; {again}")
    return document


@contextmanager
def checked_document(path: str | Path, made_by: tuple[str, str, str] = SCORES) -> Iterator[None]:
    """Raise `DataError` where a document has all keys, but values that cannot be used; arguments as `read_document`."""
    what, _, again = made_by
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        found = " ".join(f"a damaged file ({type(error).__name__}: {error})".split())[:160]
        raise DataError(f"{path}: expected {what}, found {found}; copy it again, or {again}") from error


def expect(condition: bool, what: str) -> None:
    """Raise `ValueError`, inside of `checked_document`, where a value of a document is not what it has to be."""
    if not condition:
        raise ValueError(f"expected {what}")


def plain(value: Any) -> Any:
    """Return `value` as JSON types; NaN and infinity become None.

    >>> plain({"a": (np.float64(0.5), float("nan")), "b": np.int64(3)})
    {'a': [0.5, None], 'b': 3}
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        if (finite := np.isfinite(value)).all():
            return value.tolist()
        value = value.astype(object)
        value[~finite] = None
        return value.tolist()
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value
