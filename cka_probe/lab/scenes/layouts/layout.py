"""What a layout is: how one scene goes into files, and what makes the files of all scenes a data set.

The work is cut by scenes. `write` puts the files of one scene where they belong in the growing set and returns a
few lines about them; `finish` is called once, when all scenes are there, with the lines of each: it writes lists,
and layouts of one large file put that together from the parts each scene left. Neither keeps more than a frame in
memory. The set stands at a hidden place until `finish` is through, so neither has to fear a reader; and both may be
called again after an interruption, so the same input has to give the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cka_probe.errors import DataError
from cka_probe.images.classes import Classes
from cka_probe.images.sample import IGNORE
from cka_probe.lab.scenes.scene import Scene, View


@dataclass(frozen=True)
class Place:
    """Where a set grows.

    Attributes:
        tree: The folder that becomes the set.
        parts: A folder for what only `finish` needs; it is gone afterwards.
    """

    tree: Path
    parts: Path


@dataclass(frozen=True)
class Unit:
    """One scene on its way into files.

    Attributes:
        index: Its number, from 0.
        test: Whether it is held out from training.
        scene: The scene.
        size: (height, width) of its images.
        see: Frame number to (the view as the sensor gives it, the true one).
    """

    index: int
    test: bool
    scene: Scene
    size: tuple[int, int]
    see: Callable[[int], tuple[View, View]]

    @property
    def name(self) -> str:
        """Category and number: a name that is not given twice."""
        return f"{self.category}_{self.index:04d}"

    @property
    def category(self) -> str:
        """The scene's category as a file's name may have it."""
        return self.scene.category.replace(" ", "_")

    @property
    def K(self) -> NDArray[np.float64]:
        """Intrinsics (3, 3) of its images."""
        return self.scene.camera.intrinsics(self.size)

    @property
    def poses(self) -> NDArray[np.float64]:
        """(frames, 4, 4) camera to world."""
        return self.scene.camera.poses

    def views(self) -> Iterator[tuple[int, View, View]]:
        """Yield (number, view as the sensor gives it, true view) of each frame, one at a time."""
        for frame in range(len(self.poses)):
            yield frame, *self.see(frame)


@dataclass(frozen=True)
class Written:
    """A scene that lies in files.

    Attributes:
        index: Its number.
        test: Whether it is held out.
        lines: What `write` returned about it.
    """

    index: int
    test: bool
    lines: list[str]


@dataclass(frozen=True)
class Layout:
    """One way of laying a set on a disk.

    Attributes:
        reader: The data set's name in `cka_probe.images.datasets.DATASETS` that reads it.
        kinds: The kinds of scene it serves.
        holds: The fields of a sample that it can hold.
        write: Writes one scene and returns lines about it.
        finish: Makes a set of the written scenes.
        partner: Whether it wants the stereo partner's image.
        flow: Whether it wants flow.
        most: The most frames of a scene it has room for; 0: any number.
        most_scenes: The most scenes it has room for; 0: any number.
    """

    reader: str
    kinds: tuple[str, ...]
    holds: frozenset[str]
    write: Callable[[Unit, Place], list[str]]
    finish: Callable[[Iterable[Written], Place], None]
    partner: bool = False
    flow: bool = False
    most: int = 0
    most_scenes: int = 0


def write_lists(written: Iterable[Written], paths: dict[bool, Path]) -> None:
    """Write each scene's lines to the list of its side.

    Args:
        written: The scenes.
        paths: The list of what is for training (False) and of what is held out (True).
    """
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    files = {test: path.open("w", encoding="utf-8", newline="\n") for test, path in paths.items()}
    try:
        for one in written:
            files[one.test].writelines(f"{line}\n" for line in one.lines)
    finally:
        for file in files.values():
            file.close()


def nothing_left(written: Iterable[Written], place: Place) -> None:
    """Finish a layout whose files say all by their places."""


def labels_in(view: View, scene: Scene, classes: Classes) -> NDArray[np.uint8]:
    """Return a view's labels by a vocabulary.

    Args:
        view: The view.
        scene: Whose classes its labels are.
        classes: The vocabulary a layout writes.

    Returns:
        (H, W) uint8; 255 = no class.

    Raises:
        DataError: The scene has a class that the vocabulary lacks.
    """
    missing = [name for name in scene.classes if name not in classes.names]
    if missing:
        raise DataError(f"expected classes among {', '.join(classes.names)}, found {missing[0]!r}; use another layout")
    table = np.full(256, IGNORE, np.uint8)
    table[: len(scene.classes)] = [classes.names.index(name) for name in scene.classes]
    return table[view.labels]
