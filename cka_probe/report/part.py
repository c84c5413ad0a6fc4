"""What one kind of folder gives to a page: a reading of its files, with nothing of how a page looks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cka_probe.report.page import FigureItem, Page

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".svg")
"""Suffixes of what can be shown, the first that is there is."""
BESIDE = (".pdf", ".svg")
"""Suffixes of what can be taken away beside it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Part(Page):
    """What was read of one folder: the page it would make alone.

    Attributes:
        label: What it is called where it is one of several.
    """

    label: str


def called(reference: str) -> str:
    """Return what a model is called for short: a file's name without folder and suffix, any other reference whole.

    >>> called("runs/first_road/masked.safetensors"), called("random:swinv2_micro:1")
    ('masked', 'random:swinv2_micro:1')
    """
    path = Path(reference)
    return path.stem if path.suffix in (".safetensors", ".pth", ".pt", ".ckpt", ".bin") else reference


def own_name(folder: Path) -> str:
    """Return what a folder is called, wherever the command was given."""
    return folder.resolve().name


def figure(image: Path, caption: str) -> FigureItem:
    """Return an image that lies in a folder, with the other files of the same figure to take away."""
    beside = [image.with_suffix(suffix) for suffix in BESIDE if suffix != image.suffix]
    return FigureItem(image, caption, image.stem, tuple(path for path in beside if path.is_file()))


def figures_in(folder: Path, captions: Mapping[str, str]) -> tuple[FigureItem, ...]:
    """Return the figures of a folder that have a caption, in the captions' order."""
    found = []
    for stem, caption in captions.items():
        images = [folder / f"{stem}{suffix}" for suffix in IMAGES]
        found += [figure(path, caption) for path in images if path.is_file()][:1]
    return tuple(found)


def in_words(value: Any) -> str:
    """Return a setting as a reader has it.

    >>> in_words([64, 96]), in_words(None), in_words(True), in_words(0.00025), in_words({"a": 1})
    ('64, 96', 'not given', 'yes', '0.00025', 'a 1')
    """
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {in_words(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings_pairs(
    settings: Mapping[str, Any], versions: Mapping[str, Any], file_format: str
) -> tuple[tuple[str, str], ...]:
    """Return settings, versions and format of a result as they stand at the foot of a page."""
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    pairs = [(str(name).replace("_", " "), in_words(value)) for name, value in settings.items()]
    return (*pairs, ("versions", said or "not recorded"), ("format", file_format))
