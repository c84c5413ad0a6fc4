"""Which kinds of folder a page can be made of, and which of them a folder is: told by its files, never by its name.

A new kind is one file with `EXPECTED`, `is_here` and `read`, and one line in the table.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from cka_probe.errors import DataError
from cka_probe.report import comparison, gradients, scored, study, trained, written
from cka_probe.report.part import Part

KINDS: dict[str, ModuleType] = {
    "comparison": comparison,
    "gradcam": gradients,
    "scores": scored,
    "study": study,
    "training": trained,
    "written": written,
}
"""Kinds in the order in which they stand on a page. Each is a module: `EXPECTED` says which files tell it,
`is_here(folder) -> bool` whether they are there, `read(folder) -> Part` what they say."""
BELOW = ("comparison", "gradcam", "scores", "training")
"""Kinds that are looked for one level down too."""
NAMED = 6


def kinds_of(folder: Path) -> tuple[str, ...]:
    """Return the kinds that a folder is, in the order of the table."""
    return tuple(name for name, kind in KINDS.items() if kind.is_here(folder))


def parts_of(folder: str | Path) -> list[Part]:
    """Return what a folder, and the folders in it, have to say.

    Args:
        folder: Of results, of a run, or of a study. What lies in a study is the study's own and is not looked for.

    Raises:
        DataError: There is nothing that a page could be made of, or a file cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.is_file() else "nothing"
        raise DataError(f"expected a folder of results at {folder}, found {found}; give the folder they lie in")
    here = kinds_of(folder)
    below = () if "study" in here else sorted(path for path in folder.iterdir() if _is_looked_into(path))
    places = [(name, folder) for name in here]
    places += [(name, path) for path in below for name in kinds_of(path) if name in BELOW]
    if not places:
        raise DataError(_nothing_in(folder))
    order = list(KINDS)
    places.sort(key=lambda place: order.index(place[0]))  # stable: the folder itself before those in it
    parts = [KINDS[name].read(path) for name, path in places]
    return [
        part if path == folder else replace(part, label=_label(part, path, [other for _, other in places]))
        for part, (_, path) in zip(parts, places, strict=True)
    ]


def _label(part: Part, path: Path, places: Sequence[Path]) -> str:
    """Return what a part of a folder below is called: as the folder, and its kind where that is of several."""
    return path.name if places.count(path) == 1 else f"{path.name}, {part.label}"


def _is_looked_into(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _nothing_in(folder: Path) -> str:
    """Return that there is nothing to make a page of: what would be, what is there, what to do."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    found = f"{', '.join(names[:NAMED])}{more}" if names else "an empty folder"
    expected = "; ".join(kind.EXPECTED for kind in KINDS.values())
    inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and kinds_of(path)]
    todo = f"give one of the folders in it ({', '.join(inside[:NAMED])})" if inside else "give the folder of a result"
    return f"{folder}: expected one of: {expected}; found {found}; {todo}"
