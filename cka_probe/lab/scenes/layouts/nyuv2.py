"""NYU Depth v2 in the folders of BTS and MIM-Depth, with list files.

    ROOT/nyu_train.txt, ROOT/nyu_test.txt               "/scene/rgb_00000.jpg /scene/sync_depth_00000.png focal"
    ROOT/nyu_depth_v2/<scene>/rgb_00000.jpg             JPEG of quality 95
                             /sync_depth_00000.png      uint16 millimetres, up to 65.5 m
                             /labels13_00000.png        uint8 places in NYU's 13 classes; 255 = none (rooms)
                             /cam.txt                   K, 3 x 3
                             /poses.txt                 a line a frame: camera to world, 4 x 4 by rows
    ROOT/nyu_depth_v2/official_splits/test/<scene>/     the same, of what is held out

The original has no labels13, cam.txt and poses.txt.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cka_probe.images.classes import NYU13
from cka_probe.lab.scenes.layouts.files import counted, write_depth, write_image, write_mat, write_matrix, write_text
from cka_probe.lab.scenes.layouts.layout import Layout, SetFolders, Unit, Written, labels_in, write_lists
from cka_probe.lab.scenes.scene import View

if TYPE_CHECKING:
    import h5py

MILLIMETRE = 0.001


def write_folders(unit: Unit, folders: SetFolders) -> list[str]:
    """Write the frames of one scene, and return their lines in the list."""
    folder = folders.tree / "nyu_depth_v2" / ("official_splits/test" if unit.test else "") / unit.name
    lines = []
    for frame, view, _ in unit.views():
        rgb, sync = f"rgb_{frame:05d}.jpg", f"sync_depth_{frame:05d}.png"
        write_image(folder / rgb, view.image)
        write_depth(folder / sync, view.depth, MILLIMETRE)
        if unit.scene.kind == "rooms":
            write_image(folder / f"labels13_{frame:05d}.png", labels_in(view, unit.scene, NYU13))
        lines.append(f"/{unit.name}/{rgb} /{unit.name}/{sync} {unit.K[0, 0]:.4f}")
    write_matrix(folder / "cam.txt", unit.K)
    write_matrix(folder / "poses.txt", unit.poses.reshape(-1, 16))
    return lines


def finish_folders(written: Iterable[Written], folders: SetFolders) -> None:
    """Write the lists."""
    write_lists(written, {False: folders.tree / "nyu_train.txt", True: folders.tree / "nyu_test.txt"})


FOLDERS = Layout(
    reader="nyuv2",
    kinds=("rooms", "objects"),
    holds=frozenset({"image", "depth", "K", "labels", "world_T_target"}),
    write=write_folders,
    finish=finish_folders,
)

LABELS = 894
NUMBERS = {  # class: (its label, its class of the 40)
    "bed": (157, 4),
    "books": (1, 23),
    "ceiling": (4, 22),
    "chair": (5, 5),
    "floor": (11, 2),
    "furniture": (3, 3),
    "objects": (894, 40),
    "picture": (64, 11),
    "sofa": (83, 6),
    "table": (19, 7),
    "tv": (172, 25),
    "wall": (21, 1),
    "window": (59, 9),
}
OTHER = 40
_USERBLOCK = 512
_TEXTS = ("scenes", "sceneTypes", "rawDepthFilenames", "rawRgbFilenames")
_NUMBERS = {"uint8": "uint8", "uint16": "uint16", "float32": "single"}


def write_frames(unit: Unit, folders: SetFolders) -> list[str]:
    """Write the frames of one scene as parts, and return a line that describes them."""
    table = np.zeros(256, np.uint16)
    table[: len(NYU13)] = [NUMBERS[name][0] for name in NYU13.names]
    for frame, view, truth in unit.views():
        labels = table[labels_in(view, unit.scene, NYU13)]
        folders.parts.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = _arrays(view, truth, labels)
        np.savez(folders.parts / f"{unit.index:06d}_{frame:05d}.npz", **arrays)
    scene = {"frames": len(unit.poses), "scene": unit.name, "type": unit.category}
    (fx, _, cx), (_, fy, cy) = unit.K[:2].tolist()
    camera = {"width": unit.size[1], "height": unit.size[0], "fx": fx, "fy": fy, "cx": cx, "cy": cy}
    return [json.dumps(scene | {"camera": camera}, sort_keys=True)]


def _arrays(view: View, truth: View, labels: NDArray[np.uint16]) -> dict[str, NDArray]:
    """Return the variables of one frame, with axes reversed as in HDF5 files of MATLAB."""
    return {
        "images": view.image.transpose(2, 1, 0),
        "depths": truth.depth.T.astype(np.float32),
        "rawDepths": view.depth.T.astype(np.float32),
        "labels": labels.T,
        "instances": counted(labels, view.instances, most=255).astype(np.uint8).T,
    }


def finish_mat(written: Iterable[Written], folders: SetFolders) -> None:
    """Assemble the file frame by frame, and write the files next to it."""
    sides: dict[bool, list[int]] = {False: [], True: []}
    texts: dict[str, list[str]] = {name: [] for name in _TEXTS}
    frames, camera = [], {}
    for one in written:
        scene = json.loads(one.lines[0])
        camera = scene["camera"]
        for frame in range(scene["frames"]):
            frames.append(folders.parts / f"{one.index:06d}_{frame:05d}.npz")
            sides[one.test].append(len(frames))  # counted from 1
            for name, text in zip(_TEXTS, _texts(scene, frame), strict=True):
                texts[name].append(text)
    _write_labelled(folders.tree / "nyu_depth_v2_labeled.mat", frames, texts)
    ndxs = {f"{'test' if test else 'train'}Ndxs": np.array(side, np.float64)[:, None] for test, side in sides.items()}
    write_mat(folders.tree / "splits.mat", ndxs)
    mapping = np.full((1, LABELS), OTHER, np.uint8)
    for label, forty in NUMBERS.values():
        mapping[0, label - 1] = forty
    write_mat(folders.tree / "classMapping40.mat", {"mapClass": mapping})
    write_text(folders.tree / "intrinsics.json", json.dumps(camera, indent=1, sort_keys=True) + "\n")


def _texts(scene: dict, frame: int) -> tuple[str, ...]:
    """Return the scene and the type of a frame, and the names of its raw files."""
    name = scene["scene"]
    return name, scene["type"], f"{name}/d-{frame:05d}.pgm", f"{name}/r-{frame:05d}.ppm"


def _write_labelled(path: Path, frames: list[Path], texts: dict[str, list[str]]) -> None:
    """Write the large file from the parts of its frames."""
    import h5py  # only this layout needs the extra

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=_USERBLOCK) as file:
        for number, arrays in enumerate(map(_loaded, frames)):
            for name, array in arrays.items():
                if name not in file:
                    options = {"chunks": (1, *array.shape), "compression": "gzip", "compression_opts": 1}
                    file.create_dataset(name, (len(frames), *array.shape), array.dtype, **options)
                    file[name].attrs["MATLAB_class"] = np.bytes_(_NUMBERS[array.dtype.name])
                file[name][number] = array
        for name, cells in ({"names": list(_names())} | texts).items():
            _write_cells(file, name, cells)
    with path.open("r+b") as file:  # by which MATLAB recognises its files
        file.write(b"MATLAB 7.3 MAT-file, written by ckaprobe".ljust(124) + b"\x00\x02IM")


def _loaded(path: Path) -> dict[str, NDArray]:
    """Return the arrays of a part."""
    with np.load(path) as arrays:
        return dict(arrays)


def _names() -> Iterator[str]:
    """Yield the names of the labels, from 1 on."""
    known = {label: name for name, (label, _) in NUMBERS.items()}
    for label in range(1, LABELS + 1):
        yield known.get(label, f"unused {label}")


def _write_cells(file: "h5py.File", name: str, texts: list[str]) -> None:
    """Write a cell array of strings: references to arrays of UTF-16."""
    import h5py

    refs = file.require_group("#refs#")
    cells = np.empty((1, len(texts)), h5py.ref_dtype)
    for index, text in enumerate(texts):
        units = np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None]
        refs[f"{name}_{index}"] = units
        refs[f"{name}_{index}"].attrs["MATLAB_class"] = np.bytes_("char")
        refs[f"{name}_{index}"].attrs["MATLAB_int_decode"] = np.int32(2)
        cells[0, index] = refs[f"{name}_{index}"].ref
    file.create_dataset(name, data=cells, dtype=h5py.ref_dtype)
    file[name].attrs["MATLAB_class"] = np.bytes_("cell")


LABELED_MAT = Layout(
    reader="nyuv2",
    kinds=("rooms",),
    holds=frozenset({"image", "depth", "K", "labels", "instances"}),
    write=write_frames,
    finish=finish_mat,
)
