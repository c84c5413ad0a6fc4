"""What a folder holds, byte for byte, and files of figures that are not drawn."""

from pathlib import Path


def contents(root: Path) -> dict[str, bytes]:
    """Return every file below a folder, by its path from there."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def save_empty(figure, paths, dpi=None):
    """Write empty files in place of a figure, where another test draws it."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tuple(paths)
