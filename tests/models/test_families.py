"""The table of families in the documentation is what the code does."""

from pathlib import Path

import pytest

from cka_probe.models.families import FAMILIES, page

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.mark.slow
def test_the_documented_table_is_the_current_one():
    assert DOCUMENT.read_text(encoding="utf-8") == page(), "run python -m cka_probe.models.families > docs/models.md"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_has_a_few_default_layers_and_the_stem_among_them(family):
    row = next(line for line in page().splitlines() if line.startswith(f"| {family.name} |"))
    count = int(row.split("|")[4].split(":")[0])
    assert 4 <= count <= 25
