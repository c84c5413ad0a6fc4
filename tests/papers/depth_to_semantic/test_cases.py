"""Cases of Depth-to-Semantic and their names."""

import pytest

from cka_probe.errors import UnknownNameError
from cka_probe.papers.depth_to_semantic.study import TABLES, Case


def test_the_name_of_every_case_is_parsed_back():
    for case in (case for cases in TABLES.values() for case in cases):
        assert Case.of(case.name) == case
    with pytest.raises(UnknownNameError, match="no quirk 'unmirored'; did you mean 'unmirrored'"):
        Case.of("video~unmirored")
