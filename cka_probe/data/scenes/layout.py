"""Write procedural rooms as NYU Depth v2 lies on disks, so that nothing but the pictures tells them apart.

    ROOT/scenes.json                                    what they were drawn from
    ROOT/nyu_train.txt, ROOT/nyu_test.txt               "/scene/rgb_00000.jpg /scene/sync_depth_00000.png focal"
    ROOT/nyu_depth_v2/<kind>_<number>/rgb_00000.jpg
                                     /sync_depth_00000.png   uint16 millimetres, exact to the rounding
                                     /cam.txt                K, 3 x 3
                                     /poses.txt              a line a frame: camera to world, 4 x 4 by rows
    ROOT/nyu_depth_v2/official_splits/test/<kind>_<number>/  the same, of the test rooms

Rooms are made beside the place they are wanted at and moved there whole, so a half-written set is never read.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cka_probe.data.scenes.room import draw_room
from cka_probe.data.scenes.view import views
from cka_probe.data.scenes.world import World
from cka_probe.errors import DataError, OutputError

VERSION = 2  # raised when the same seed gives other pictures than before


@dataclass(frozen=True)
class _Settings:
    """What a set of scenes is drawn from: equal settings, equal bytes."""

    rooms: int
    frames: int
    size: tuple[int, int]
    seed: int
    test: float
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.rooms < 1 or self.frames < 1 or min(self.size) < 8:
            raise DataError(
                f"expected at least 1 room, 1 frame and 8x8 pixels, found {self.rooms} rooms, {self.frames} frames "
                f"and {self.size[1]}x{self.size[0]} pixels; ask for more"
            )
        if not 0 <= self.test < 1:
            raise DataError(f"expected a share of test rooms from 0 to below 1, found {self.test}; try 0.25")

    def text(self) -> str:
        return json.dumps({**asdict(self), "size": list(self.size)}, indent=1, sort_keys=True) + "\n"


def write_scenes(
    root: str | Path,
    *,
    rooms: int = 240,
    frames: int = 2,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    test: float = 0.25,
    progress: Callable[[Iterable], Iterable] | None = None,
) -> Path:
    """Write procedural indoor rooms with exact depth; open them with `nyuv2:ROOT`.

    A root that holds the scenes of the same settings already is left as it is.

    Args:
        root: The folder to make.
        rooms: Number of rooms.
        frames: Pictures of each, a few centimetres apart.
        size: (height, width) in pixels.
        seed: Room i of a seed is the same room however many there are.
        test: Share of the rooms (the last ones) that are for testing.
        progress: Wraps the iteration over rooms (`tqdm`, say).

    Returns:
        `root`.

    Raises:
        DataError: The settings make no scenes.
        OutputError: Something else stands at `root`, or it cannot be written.
    """
    root, settings = Path(root), _Settings(rooms, frames, tuple(size), seed, test)
    if _are_there(root, settings):
        return root
    place = root.resolve()
    beside = place.with_name(f".{os.getpid()}.{place.name}")
    try:
        (beside / "nyu_depth_v2").mkdir(parents=True)
        _write_all(beside, settings, progress or iter)
        if place.is_dir():
            place.rmdir()  # an empty folder, as `_are_there` has seen
        os.replace(beside, place)
    except OSError as error:
        raise OutputError(f"cannot write scenes to {root}: {error.strerror or error}; choose another folder") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return root


def _are_there(root: Path, settings: _Settings) -> bool:
    """Return whether the same scenes lie at `root`; False when nothing does."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    note = root / "scenes.json"
    if note.is_file() and note.read_text(encoding="utf-8") == settings.text():
        return True
    found = "scenes of other settings" if note.is_file() else "something else"
    raise OutputError(f"expected nothing at {root}, or the same scenes; found {found}; remove it or choose another")


def _write_all(root: Path, settings: _Settings, progress: Callable[[Iterable], Iterable]) -> None:
    """Write every room, then the lists and the note."""
    first_test = settings.rooms - round(settings.rooms * settings.test)
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number in progress(range(settings.rooms)):
        room = draw_room(settings.seed, number, settings.frames)
        part, below = ("train", "") if number < first_test else ("test", "official_splits/test")
        name = f"{room.category}_{number:04d}"
        lists[part] += _write_room(root / "nyu_depth_v2" / below / name, name, room, settings.size)
    for part, lines in lists.items():
        (root / f"nyu_{part}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (root / "scenes.json").write_text(settings.text(), encoding="utf-8")


def _write_room(folder: Path, name: str, room: World, size: tuple[int, int]) -> list[str]:
    """Write the frames of one room and return their lines for the list."""
    folder.mkdir(parents=True)
    K, poses, lines = room.camera.intrinsics(size), room.camera.poses, []
    for frame, view in enumerate(views(room, size)):
        rgb, sync = f"rgb_{frame:05d}.jpg", f"sync_depth_{frame:05d}.png"
        Image.fromarray(view.image).save(folder / rgb, quality=95, subsampling=0)
        Image.fromarray(np.round(view.depth * 1000).astype(np.uint16)).save(folder / sync)
        lines.append(f"/{name}/{rgb} /{name}/{sync} {K[0, 0]:.4f}")
    np.savetxt(folder / "cam.txt", K, fmt="%.8f")
    np.savetxt(folder / "poses.txt", poses.reshape(len(poses), 16), fmt="%.9f")
    return lines
