"""Read numbers from text files: poses, calibrations, positions, lists of frames.

Every number that a dataset keeps as text comes through here, so that a line that is too short, a word where a
number belongs, or a NaN is named with its file and line, and never becomes a pose that is wrong by a column.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from cka_probe.errors import DataError


def read_lines(path: str | Path, what: str) -> list[tuple[int, str]]:
    """Return the lines of a text file that say something, each with its number from 1.

    Blank lines and those that begin with `#` say nothing; a last line needs no newline.

    Args:
        path: The file.
        what: What messages call it ("poses").

    Raises:
        DataError: It is not there, or no text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"expected {what} at {path}, found no file that can be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected {what} as text, found bytes that are none; fetch it again") from error
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def parse_numbers(text: str, columns: Collection[int], where: str, what: str) -> list[float]:
    """Return the numbers of one line, divided by blanks or commas.

    Args:
        text: The line.
        columns: How many there may be ((12, 16): either); empty: any number of them.
        where: What messages call the place: "FILE, line 3".
        what: What the numbers are, for messages.

    Raises:
        DataError: There are more or fewer, or one is no finite number.
    """
    words = text.replace(",", " ").split()
    if columns and len(words) not in columns:
        wanted = " or ".join(map(str, columns))
        raise DataError(f"{where}: expected {wanted} numbers ({what}), found {len(words)}; mend the line")
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise DataError(f"{where}: expected numbers ({what}), found {text[:60]!r}; mend the line") from error
    if not np.isfinite(numbers).all():
        raise DataError(f"{where}: expected finite numbers ({what}), found {text[:60]!r}; mend or remove the line")
    return numbers


def read_numbers(path: str | Path, columns: Collection[int], what: str) -> np.ndarray:
    """Return the numbers of a file, one row for each line.

    Args:
        path: The file.
        columns: How many numbers a line may have; all lines have the same.
        what: What the numbers are, for messages ("poses").

    Returns:
        (lines, columns) float64.

    Raises:
        DataError: The file is not there or empty, or a line holds something else.
    """
    rows = [(line, parse_numbers(text, columns, f"{path}, line {line}", what)) for line, text in read_lines(path, what)]
    if not rows:
        raise DataError(f"{path}: expected {what}, found no line; fetch it again or remove it")
    first = len(rows[0][1])
    for line, row in rows:
        if len(row) != first:
            raise DataError(f"{path}, line {line}: expected {first} numbers as above, found {len(row)}; mend the line")
    return np.array([row for _, row in rows], dtype=np.float64)


def read_named_numbers(path: str | Path, sizes: Mapping[str, int], what: str) -> dict[str, np.ndarray]:
    """Return the numbers behind names, from lines as KITTI's calibrations have them: "P_rect_02: 7.2e+02 …".

    Args:
        path: The file.
        sizes: The names that are wanted, and how many numbers each has; others may stand there too.
        what: What the file is, for messages ("a calibration").

    Returns:
        By name, (size,) float64.

    Raises:
        DataError: The file is not there, a name is missing, or a line holds something else.
    """
    lines = {}
    for number, line in read_lines(path, what):
        name, _, rest = line.replace(":", " ", 1).partition(" ")
        lines[name] = (number, rest)
    found = {}
    for name, size in sizes.items():
        if name not in lines:
            there = ", ".join(lines) or "nothing"
            raise DataError(f"{path}: expected a line '{name}:' with {size} numbers, found {there}; fetch it again")
        number, rest = lines[name]
        found[name] = np.array(parse_numbers(rest, (size,), f"{path}, line {number}", name))
    return found
