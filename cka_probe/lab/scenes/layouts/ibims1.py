"""iBims-1: a MATLAB file for each image, with planes and edges for detailed errors of depth.

    ROOT/imagelist.txt                     names, one per line
    ROOT/ibims1_core_mat/<name>.mat        struct `data`:
        rgb (H, W, 3) uint8; depth (H, W) metres, 0 = not measured; edges (H, W) 0/1
        calib (3, 3)                       K transposed, for pixels counted from 1
        mask_invalid, mask_transp (H, W)   1 = may be used
        mask_wall, mask_table, mask_floor  (H, W) number of the plane, from 1; 0 = none
        mask_*_paras (N, 7)                number, a point and the unit normal of each plane

Points and normals are in the axes of iBims-1: x right, y ahead, z up (those of a camera are x right, y down, z ahead).
Walls are the upright faces of that class, tables and floors the horizontal ones: the top of a table, not its legs.
Faces of less than a thousandth of the image are omitted. iBims-1 is for testing, so all scenes are in it.

Source: Koch et al. 2018, "Evaluation of CNN-based Single-Image Depth Estimation Methods".
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cka_probe.lab.scenes.layouts.files import write_mat, write_text
from cka_probe.lab.scenes.layouts.layout import Layout, SetFolders, Unit, Written
from cka_probe.lab.scenes.scene import View

UPRIGHT = 0.3  # walls: the most of |n . up|; level faces: the least is the other end's
SMALLEST = 0.001
PARTS = {"wall": ("wall",), "table": ("table",), "floor": ("floor",)}

ONE = np.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 1]])
"""Counts pixels from 1, as MATLAB does."""

Planes = tuple[NDArray[np.uint8], NDArray[np.float64]]


def write(unit: Unit, folders: SetFolders) -> list[str]:
    """Write the frames of one scene, and return their names."""
    names = []
    for frame, view, _ in unit.views():
        names.append(f"{unit.name}_{frame:02d}")
        write_mat(folders.tree / "ibims1_core_mat" / f"{names[-1]}.mat", {"data": _data(view, unit.scene.classes)})
    return names


def _data(view: View, classes: tuple[str, ...]) -> dict[str, NDArray]:
    """Return the fields of the struct."""
    usable = np.ones(view.depth.shape, np.uint8)
    data = {
        "rgb": view.image,
        "depth": view.depth,
        "edges": view.edges.astype(np.uint8),
        "calib": (ONE @ view.K).T,
        "mask_invalid": usable,
        "mask_transp": usable,
    }
    for part, names in PARTS.items():
        mask, paras = planes_of(view, classes, names)
        data |= {f"mask_{part}": mask, f"mask_{part}_paras": paras}
    return data


def planes_of(view: View, classes: tuple[str, ...], names: tuple[str, ...]) -> Planes:
    """Return the planes of some classes: their numbers at each pixel (H, W), and a row of 7 for each.

    Args:
        view: The view.
        classes: Classes of the scene.
        names: Classes whose planes are returned: upright planes of a "wall", horizontal planes of others.
    """
    mask = np.zeros(view.depth.shape, np.uint8)
    rows: list[list[float]] = []
    candidates = np.isin(view.labels, [classes.index(name) for name in names if name in classes]) & (view.planes > 0)
    for plane in np.unique(view.planes[candidates]):
        pixels = candidates & (view.planes == plane)
        normal = view.normals[pixels].astype(np.float64).mean(axis=0)
        normal /= np.linalg.norm(normal)
        up = abs((view.pose[:3, :3] @ normal)[2])
        fits = up < UPRIGHT if names == ("wall",) else up > 1 - UPRIGHT
        if not fits or pixels.mean() < SMALLEST or len(rows) == 255:
            continue
        mask[pixels] = len(rows) + 1
        rows.append([len(rows) + 1, *in_ibims_axes(_middle(view, pixels)), *in_ibims_axes(normal)])
    return mask, np.array(rows, np.float64).reshape(-1, 7)


def _middle(view: View, pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the point of a face at the centre of its pixels, (3,) metres in the axes of the camera."""
    down, across = np.nonzero(pixels)
    rays = np.linalg.solve(view.K, np.stack([across, down, np.ones(len(down))]))
    normal = view.normals[pixels].astype(np.float64).mean(axis=0)
    measured = view.depth[pixels] > 0
    if not measured.any():
        return np.zeros(3)
    offset = np.median((normal @ rays)[measured] * view.depth[pixels][measured])  # n . X, constant on the face
    ray = np.linalg.solve(view.K, [across.mean(), down.mean(), 1.0])
    return ray * offset / (normal @ ray)


def in_ibims_axes(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a vector of the camera's axes (x right, y down, z ahead) in iBims-1's (x right, y ahead, z up)."""
    return np.array([vector[0], vector[2], -vector[1]])


def finish(written: Iterable[Written], folders: SetFolders) -> None:
    """Write the list of names."""
    write_text(folders.tree / "imagelist.txt", "".join(f"{name}\n" for one in written for name in one.lines))


LAYOUT = Layout(
    reader="ibims1",
    kinds=("rooms",),
    holds=frozenset({"image", "depth", "K", "edges", "planes", "normals", "valid"}),
    write=write,
    finish=finish,
)
