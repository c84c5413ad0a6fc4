"""Layouts: how the files of each scene are written, and how a dataset is completed from them.

`write` writes the files of one scene and returns a few lines about them. `finish` is called once after all scenes with
the lines of each: it writes lists, or assembles one large file from the parts of each scene. Neither keeps more than a
frame in memory. The set is in a hidden folder until `finish` returns, so that nobody reads it early. Both may be called
again after an interruption, so the same input has to give the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cka_probe.errors import DataError
from cka_probe.images.classes import Classes
from cka_probe.images.sample import IGNORE
from cka_probe.lab.scenes.scene import Scene, View

Split = TypeVar("Split")


@dataclass(frozen=True)
class SetFolders:
    """The folders of a set while it is generated.

    Attributes:
        tree: The folder that becomes the set.
        parts: A folder for files that only `finish` needs; deleted afterwards.
    """

    tree: Path
    parts: Path


@dataclass(frozen=True)
class Unit:
    """One scene to write.

    Attributes:
        index: Its number, from 0.
        test: Whether it is held out from training.
        scene: The scene.
        size: (height, width) of its images.
        see: From the number of a frame to (the view through the sensor, the exact view).
    """

    index: int
    test: bool
    scene: Scene
    size: tuple[int, int]
    see: Callable[[int], tuple[View, View]]

    @property
    def name(self) -> str:
        """Category and index, a unique name."""
        return f"{self.category}_{self.index:04d}"

    @property
    def category(self) -> str:
        """The category of the scene as part of a file name."""
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
        """Yield (number, view through the sensor, exact view) of each frame."""
        for frame in range(len(self.poses)):
            yield frame, *self.see(frame)


@dataclass(frozen=True)
class Written:
    """A scene that has been written.

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
    """The layout of a set on disk.

    Attributes:
        reader: Name of its reader in `cka_probe.images.datasets.DATASETS`.
        kinds: Kinds of scenes that it supports.
        holds: Fields of a sample that it can store.
        write: Writes one scene and returns lines about it.
        finish: Completes the set.
        partner: Whether it stores the image of the right camera.
        flow: Whether it stores optical flow.
        most: Maximum number of frames per scene; 0 for any.
        most_scenes: Maximum number of scenes; 0 for any.
    """

    reader: str
    kinds: tuple[str, ...]
    holds: frozenset[str]
    write: Callable[[Unit, SetFolders], list[str]]
    finish: Callable[[Iterable[Written], SetFolders], None]
    partner: bool = False
    flow: bool = False
    most: int = 0
    most_scenes: int = 0


def write_lists(
    written: Iterable[Written], paths: Mapping[Split, Path], split: Callable[[Written], Split] = attrgetter("test")
) -> None:
    """Write the lines of each scene to the list of its split.

    Args:
        written: The scenes.
        paths: The list of each split; by default of the scenes for training (False) and of those held out (True).
        split: Returns the split of a scene, a key of `paths`.
    """
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(path.open("w", encoding="utf-8", newline="\n")) for name, path in paths.items()
        }
        for scene in written:
            files[split(scene)].writelines(f"{line}\n" for line in scene.lines)


def nothing_left(written: Iterable[Written], folders: SetFolders) -> None:
    """Finish a layout without lists."""


def labels_in(view: View, scene: Scene, classes: Classes) -> NDArray[np.uint8]:
    """Return the labels of a view in the classes of a dataset.

    Args:
        view: The view.
        scene: Its scene.
        classes: The classes of the dataset.

    Returns:
        (H, W) uint8; 255 = no class.

    Raises:
        DataError: The scene has another class.
    """
    missing = [name for name in scene.classes if name not in classes.names]
    if missing:
        raise DataError(f"expected classes among {', '.join(classes.names)}, found {missing[0]!r}; use another layout")
    table = np.full(256, IGNORE, np.uint8)
    table[: len(scene.classes)] = [classes.names.index(name) for name in scene.classes]
    return table[view.labels]
