"""A table of TOML into a frozen dataclass, strictly: no unknown key, none missing, none of another type."""

import sys
import types
from dataclasses import MISSING, fields
from typing import Any, TypeVar, Union, get_args, get_origin

from cka_probe.errors import RecipeError
from cka_probe.registry import suggestion

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def read_table(kind: type[T], table: dict[str, Any], where: str, **given: Any) -> T:
    """Return `kind(**given, **table)`.

    Args:
        kind: A dataclass.
        table: Its fields by name, as TOML gives them; a number stands for a float, a list or one value for a
            tuple.
        where: What the message calls the table ("stages.depth").
        given: Fields that do not come from the table and may not stand in it.

    Raises:
        RecipeError: Naming the key, what was expected and what was found.
    """
    wanted = {field.name: field for field in fields(kind) if field.name not in given}
    for key in table:
        if key not in wanted:
            raise RecipeError(
                f"{where}: unknown key {key!r}; {suggestion(key, list(wanted))}There are: {', '.join(wanted)}"
            )
    for key, field in wanted.items():
        if key not in table and field.default is MISSING and field.default_factory is MISSING:
            raise RecipeError(f"{where}: expected the key {key!r} ({_words(field.type)}), found nothing")
    return kind(**given, **{key: _converted(wanted[key].type, value, f"{where}.{key}") for key, value in table.items()})


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return TOML as a dict, or say where it is broken."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where}: expected TOML, found {error}") from error


def parse_value(text: str) -> Any:
    """Return a TOML value; what is none is a string without quotes.

    >>> parse_value("1e-3"), parse_value("[8, 16]"), parse_value("cosine")
    (0.001, [8, 16], 'cosine')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _converted(expected: Any, value: Any, where: str) -> Any:
    """Return a TOML value as the type a field has."""
    origin = get_origin(expected)
    if origin is tuple:
        element, *more = get_args(expected)
        values = value if isinstance(value, list | tuple) else [value]
        if more and more[0] is not Ellipsis and len(values) != 1 + len(more):
            raise RecipeError(f"{where}: expected {1 + len(more)} values, found {value!r}")
        return tuple(_converted(element, item, where) for item in values)
    if origin in (Union, types.UnionType):
        return value
    kind = origin or expected
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RecipeError(f"{where}: expected {_words(expected)}, found {value!r}")
    return value


def _words(kind: Any) -> str:
    """Return a type in words."""
    words = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}
    if get_origin(kind) is tuple:
        return f"a list, each {_words(get_args(kind)[0])}"
    return words.get(get_origin(kind) or kind, str(kind))
