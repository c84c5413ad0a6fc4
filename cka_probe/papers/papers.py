"""The papers by name; one line each."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cka_probe import registry
from cka_probe.errors import RecipeError

PAPERS: dict[str, str | Callable[..., Path]] = {
    "mesa": "cka_probe.papers.mesa.run:reproduce_mesa",
    "depth-to-semantic": "cka_probe.papers.depth_to_semantic.run:reproduce_depth_to_semantic",
}
"""Each is called with (out, scale, seeds=, settings=, means=), and what else it takes, and returns its page."""


def check_taken(paper: str, more: Mapping[str, Any]) -> None:
    """Check that a paper takes some options.

    Raises:
        RecipeError: It does not take one.
    """
    known = _options(registry.get(PAPERS, paper, "paper"))
    for name in more:
        if name not in known:
            takers = (other for other, entry in PAPERS.items() if name in _options(entry))
            others = ", ".join(takers)
            raise RecipeError(f"--{name}: {paper} has no such thing, only {others} has; leave it out")


def _options(entry: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a paper's function, by name."""
    return inspect.signature(registry.resolve(entry)).parameters
