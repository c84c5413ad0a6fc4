"""The table of what the papers ran names keys, claims and tests that exist."""

import csv
import re
from functools import cache
from pathlib import Path

import pytest
import tomllib
from helpers.paths import ROOT

from cka_probe.papers.depth_to_semantic.study import SCALES, TABLES

AUDIT = ROOT / "reports" / "papers_audit.md"
TEXT = AUDIT.read_text("utf-8")
LINKS = sorted(set(re.findall(r"\[([^\]]+)\]\(([^)]+)\)", TEXT)))


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names of a file that can be linked: dotted keys, claims, or functions."""
    text = path.read_text("utf-8")
    if path.suffix == ".toml":
        return frozenset(dotted(tomllib.loads(text)))
    if path.suffix == ".csv":
        return frozenset(row.get("name", "") for row in csv.DictReader(text.splitlines())) | {path.name}
    return frozenset(re.findall(r"^def (\w+)", text, re.MULTILINE))


def dotted(table, prefix=""):
    for key, value in table.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{key}.")


def test_there_is_something_to_check():
    assert len(LINKS) > 60


@pytest.mark.parametrize(("name", "target"), LINKS)
def test_every_link_names_something_in_its_file(name, target):
    assert name in names_in((AUDIT.parent / target).resolve())


def test_every_table_of_the_studies_is_mentioned():
    words = set(re.findall(r"\w+", TEXT))
    assert {"paper", "paper_resnet50"} <= words & set(SCALES)
    assert set(TABLES) - {"quirks"} <= words
