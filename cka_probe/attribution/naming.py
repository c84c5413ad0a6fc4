"""What checkpoints are called: the parts of their paths in which they differ."""

from collections.abc import Sequence
from pathlib import PureWindowsPath


def distinct_names(references: Sequence[str]) -> list[str]:
    """Return a short name for each reference: a file's stem, or with several the parts of the paths that differ.

    Args:
        references: Paths, or what else `load` takes; each once.

    >>> distinct_names(["runs/mesa/mp.safetensors"]), distinct_names(["a/mp.safetensors", "a/sp.safetensors"])
    (['mp'], ['mp', 'sp'])
    >>> distinct_names(["t/none/3/segment.safetensors", "t/video/3/segment.safetensors"])
    ['none', 'video']
    """
    parts = [list(PureWindowsPath(reference).parts) for reference in references]  # takes / and \\ alike
    parts = [[*own[:-1], own[-1].removesuffix(".safetensors")] if own else own for own in parts]
    if len(set(map(tuple, parts))) < len(parts):
        return list(references)
    while len(parts) > 1 and all(len(own) > 1 for own in parts) and len({own[-1] for own in parts}) == 1:
        parts = [own[:-1] for own in parts]
    last = [own[-1] if own else reference for own, reference in zip(parts, references, strict=True)]
    if len(set(last)) == len(last):
        return last
    while all(len(own) > 1 for own in parts) and len({own[0] for own in parts}) == 1:
        parts = [own[1:] for own in parts]
    return ["/".join(own) for own in parts]
