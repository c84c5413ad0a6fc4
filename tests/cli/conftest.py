"""Inputs that the tests of every command share."""

import pytest
from helpers.every_command import make_inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder
