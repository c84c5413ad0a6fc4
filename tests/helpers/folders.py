"""What a folder holds, byte for byte."""

from pathlib import Path


def contents(root: Path) -> dict[str, bytes]:
    """Return every file below a folder, by its path from there."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
