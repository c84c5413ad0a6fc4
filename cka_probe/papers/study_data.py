"""The data of a study: paths that were given, and procedural scenes where none was."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cka_probe.errors import DataError
from cka_probe.lab.scenes import Settings, make_scenes

NamedProgress = Callable[[str, int, int | None], None]
"""Called with the name of a set, how many more of its scenes are made, and how many there will be."""


def check_given(needed: Iterable[str], given: Mapping[str, str], scenes: Mapping[str, Settings]) -> None:
    """Check that all data is given or can be drawn.

    Raises:
        DataError: A set was not given and is not drawn at this scale, or a name was given that is none of these.
    """
    needed = tuple(needed)
    if strange := sorted(set(given) - set(needed)):
        raise DataError(f"--set data.{strange[0]}: no such data; there are: {', '.join(needed)}")
    if missing := [name for name in needed if not given.get(name) and name not in scenes]:
        raise DataError(
            f"expected a path for {', '.join(missing)}, found none, and this scale draws none; say "
            + " ".join(f"--set data.{name}=PATH" for name in missing)
        )


def prepare(
    needed: Iterable[str],
    given: Mapping[str, str],
    scenes: Mapping[str, Settings],
    folder: Path,
    *,
    workers: int = 1,
    progress: NamedProgress = lambda name, done, total: None,
) -> dict[str, str]:
    """Return a path for each set of data, having drawn those that were not given.

    Args:
        needed: Names; all of them given or among the scenes.
        given: Paths by name.
        scenes: What to draw where no path was given, by name.
        folder: Where to; a set that is there already is kept, one half drawn is finished.
        workers: Processes that draw.
        progress: Called as scenes are made.
    """
    paths = {}
    for name in needed:
        if given.get(name):
            paths[name] = str(given[name])
            continue

        def count(done: int, total: int | None, name: str = name) -> None:
            progress(name, done, total)

        paths[name] = str(make_scenes(folder / name, scenes[name], workers=workers, progress=count))
    return paths
