"""The papers by name; one line each."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cka_probe.errors import RecipeError
from cka_probe.reproduce.depth_to_semantic.run import reproduce_depth_to_semantic
from cka_probe.reproduce.mesa.run import reproduce_mesa

PAPERS: dict[str, Callable[..., Path]] = {
    "mesa": reproduce_mesa,
    "depth-to-semantic": reproduce_depth_to_semantic,
}
"""Each is called with (out, scale, seeds=, settings=, means=), and what else it takes, and returns its page."""


def check_taken(paper: str, more: Mapping[str, Any]) -> None:
    """Check that a paper takes some options.

    Raises:
        RecipeError: It does not take one.
    """
    known = inspect.signature(PAPERS[paper]).parameters
    for name in more:
        if name not in known:
            others = ", ".join(other for other, again in PAPERS.items() if name in inspect.signature(again).parameters)
            raise RecipeError(f"--{name}: {paper} has no such thing, only {others} has; leave it out")
