"""Look up names in tables, with suggestions for names that do not exist.

A table is a plain dict. Its values are objects, or `"package.module:name"` strings of objects whose module is imported
on first use, so that a table costs nothing to import.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from cka_probe.errors import MissingExtraError, UnknownNameError

REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

EXTRAS = {
    "accelerate": "train",
    "h5py": "train",
    "lmdb": "train",
    "segmentation_models_pytorch": "train",
    "skimage": "train",
    "torchmetrics": "monitoring",
    "transformers": "transformers",
}
"""Optional packages, and the extra of `cka-probe` that installs each."""


def get(table: Mapping[str, Any], name: str, kind: str) -> Any:
    """Return `table[name]`, imported if the table has a `"module:name"` string.

    Args:
        table: Objects by name.
        name: The name to look up.
        kind: What the objects are, in one word for messages ("architecture").

    Raises:
        UnknownNameError: There is no such name; the message has the nearest names, then all of them.
        MissingExtraError: The object needs a package that is not installed.

    >>> get({"flatten": 1, "gap": 2}, "gap", "features")
    2
    >>> get({"flatten": 1, "gap": 2}, "flaten", "features")
    Traceback (most recent call last):
    ...
    cka_probe.errors.UnknownNameError: no features 'flaten'; did you mean 'flatten'? There are: flatten, gap
    >>> get({"root": "math:sqrt"}, "root", "function")(9)
    3.0
    """
    if name not in table:
        raise UnknownNameError(f"no {kind} {name!r}; {suggestion(name, table)}There are: {', '.join(table) or 'none'}")
    return resolve(table[name])


def resolve(entry: Any) -> Any:
    """Return the object of a table's entry: imported if it is a `"module:name"` string, else the entry itself.

    Raises:
        MissingExtraError: The module needs a package that is not installed.
    """
    if not isinstance(entry, str) or not REFERENCE.fullmatch(entry):
        return entry
    module, name = entry.split(":")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error


def missing_extra(error: ModuleNotFoundError) -> Exception:
    """Return the one-line error for an optional package that is not installed, or `error` itself for any other.

    >>> str(missing_extra(ModuleNotFoundError("No module named 'lmdb'", name="lmdb")))[:49]
    'this needs the package lmdb, which is not install'
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return error
    return MissingExtraError(
        f"this needs the package {package}, which is not installed; "
        f"install it with: pip install 'cka-probe[{EXTRAS[package]}]'"
    )


def suggestion(name: str, names: Iterable[str], most: int = 3) -> str:
    """Return "did you mean 'a' or 'b'? " for the names nearest to `name`, or an empty string.

    >>> suggestion("layer5", ["layer1", "layer4", "fc"], most=1)
    "did you mean 'layer4'? "
    """
    near = get_close_matches(name, list(dict.fromkeys(names)), n=most, cutoff=0.6)
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""
