"""Find a name in a table, or say what exists and what was probably meant."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from cka_probe.errors import UnknownNameError

T = TypeVar("T")


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return `table[name]`.

    Args:
        table: What exists, by name.
        name: What was asked for.
        kind: What the table holds, in one word for the message ("architecture").

    Raises:
        UnknownNameError: With the nearest names first and then all of them.

    >>> lookup({"flatten": 1, "gap": 2}, "gap", "features")
    2
    >>> lookup({"flatten": 1, "gap": 2}, "flaten", "features")
    Traceback (most recent call last):
    ...
    cka_probe.errors.UnknownNameError: no features 'flaten'; did you mean 'flatten'? There are: flatten, gap
    """
    if name in table:
        return table[name]
    raise UnknownNameError(f"no {kind} {name!r}; {suggestion(name, table)}There are: {', '.join(table) or 'none'}")


def suggestion(name: str, names: Mapping[str, object] | list[str], most: int = 3) -> str:
    """Return "did you mean 'a' or 'b'? " for the names nearest to `name`, or an empty string.

    >>> suggestion("layer5", ["layer1", "layer4", "fc"], most=1)
    "did you mean 'layer4'? "
    """
    near = get_close_matches(name, list(dict.fromkeys(names)), n=most, cutoff=0.6)
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""
