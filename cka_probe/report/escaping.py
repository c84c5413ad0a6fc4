"""Words and data on their way into a document: code spans, anchors, JSON inside a script, data URIs, policy.

Everything that comes from a result is a stranger's text. Jinja escapes it in the document; here is what it does not
know of: JSON that must not end its script, names that become ids, and folders of a machine that nobody else has.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

PLACE = re.compile(r"(?:(?<=^)|(?<=[\s:=('\"]))(?:~|[A-Za-z]:)?[/\\](?:[^/\\\s:'\"]+[/\\])*(?=[^/\\\s:'\"]+)")
"""The folders of an absolute path, up to its last name: after a space, a colon, `=`, a bracket or a quote."""

STRONG = re.compile(r"\*\*(\S(?:[^*]*\S)?)\*\*")


def with_code(text: str) -> Markup:
    """Return escaped text with what stands between backticks set as code, and between two pairs of stars as strong.

    >>> with_code("`a<b` is **less**")
    Markup('<code>a&lt;b</code> is <strong>less</strong>')
    """
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # a backtick without its other: only a character
        return _with_strong(str(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else _with_strong(part) for index, part in enumerate(parts)
    )


def _with_strong(text: str) -> Markup:
    parts = STRONG.split(text)
    return Markup("").join(
        Markup("<strong>{}</strong>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def script_json(value: Any) -> Markup:
    """Return JSON that can stand in a `<script>`: no `<`, `>` or `&` that a parser of HTML could read, no NaN.

    >>> script_json({"name": "</script><!--"})
    Markup('{"name":"\\\\u003c/script\\\\u003e\\\\u003c!--"}')
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # nothing is left of which HTML could be made


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes as an address that holds them.

    >>> data_uri(b"a", "text/csv")
    'data:text/csv;base64,YQ=='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def policy(script: str, style: str) -> str:
    """Return the Content-Security-Policy of a document that runs this script, has this style, and asks for nothing."""
    allowed = {name: f"'sha256-{_digest(text)}'" for name, text in (("script-src", script), ("style-src", style))}
    rules = {"default-src": "'none'", "img-src": "data:", **allowed, "base-uri": "'none'", "form-action": "'none'"}
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


class Anchors:
    """Ids of one document: made of titles, none given twice.

    >>> anchors = Anchors()
    >>> anchors.of("CKA, unbiased"), anchors.of("CKA (unbiased)"), anchors.of("?")
    ('cka-unbiased', 'cka-unbiased-2', 'part')
    """

    def __init__(self):
        self._given: set[str] = set()

    def of(self, title: str) -> str:
        """Return a new id of the title's ASCII letters and digits."""
        stem = re.sub(r"[^a-z0-9]+", "-", str(title).lower()).strip("-") or "part"
        number, anchor = 1, stem
        while anchor in self._given:
            number += 1
            anchor = f"{stem}-{number}"
        self._given.add(anchor)
        return anchor


def without_places(value: Any) -> Any:
    """Return text, or lists and tables of text, without the folders of absolute paths.

    A page is given to others; where a file lay on one machine tells them nothing and is nobody's business.

    >>> without_places("nyuv2:/srv/data/nyuv2:test"), without_places("runs/a.safetensors")
    ('nyuv2:…/nyuv2:test', 'runs/a.safetensors')
    """
    if isinstance(value, str):
        return PLACE.sub("…/", value)
    if isinstance(value, Mapping):
        return {name: without_places(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    return value
