"""Reproductions of papers: one study engine, and each paper as declarations of arms, claims, tables and figures."""

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
"""Each is called with (out, scale, seeds=, settings=, context=) and its own options, and returns the page it wrote."""


def check_options(paper: str, options: Mapping[str, Any]) -> None:
    """Check that a paper accepts some options.

    Raises:
        RecipeError: It does not accept one of them.
    """
    known = _parameters(registry.get(PAPERS, paper, "paper"))
    for name in options:
        if name not in known:
            others = ", ".join(other for other, entry in PAPERS.items() if name in _parameters(entry))
            raise RecipeError(f"--{name}: {paper} has no such option, only {others} has; omit it")


def _parameters(entry: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(registry.resolve(entry)).parameters
