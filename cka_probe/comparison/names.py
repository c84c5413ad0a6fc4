"""Short names of models, from the paths of their files."""

from collections.abc import Sequence
from pathlib import PureWindowsPath

FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".h5", ".npz", ".npy", ".fingerprint")
"""Suffixes of files of weights, features and fingerprints that the short name of a model does without."""


def distinct_names(references: Sequence[str]) -> list[str]:
    """Return a short name for each reference: the stem of a file, or the parts in which several paths differ.

    Args:
        references: Paths, or anything else that `load` takes; each once.

    >>> distinct_names(["runs/mesa/mp.safetensors"]), distinct_names(["a/mp.safetensors", "a/sp.safetensors"])
    (['mp'], ['mp', 'sp'])
    >>> distinct_names(["t/none/3/segment.safetensors", "t/video/3/segment.safetensors"])
    ['none', 'video']
    """
    paths = [PureWindowsPath(reference) for reference in references]  # / and \\
    split = [(path.with_suffix("") if path.suffix in FILE_SUFFIXES else path).parts for path in paths]
    if len(set(split)) < len(split):
        return list(references)
    while len(split) > 1 and all(len(parts) > 1 for parts in split) and len({parts[-1] for parts in split}) == 1:
        split = [parts[:-1] for parts in split]
    last = [parts[-1] if parts else reference for parts, reference in zip(split, references, strict=True)]
    if len(set(last)) == len(last):
        return last
    while all(len(parts) > 1 for parts in split) and len({parts[0] for parts in split}) == 1:
        split = [parts[1:] for parts in split]
    return ["/".join(parts) for parts in split]
