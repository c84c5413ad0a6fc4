"""The papers by name; one line each."""

from collections.abc import Callable
from pathlib import Path

from cka_probe.reproduce.mesa.run import reproduce_mesa

PAPERS: dict[str, Callable[..., Path]] = {"mesa": reproduce_mesa}
"""Each is called with (out, scale, seeds=, settings=, means=) and returns its page."""
