"""The training folders of SC-Depth: a folder per scene, with camera, depth and poses.

    ROOT/training/train.txt, val.txt                a scene a line
    ROOT/training/<scene>/000000.jpg                JPEG of quality 95
                         /depth/000000.png          uint16, metres x 5000 (as its NYU folders), up to 13.1 m
                         /leres_depth/000000.png    uint16, 60000 at the farthest: depth up to scale and shift
                         /cam.txt                   K, 3 x 3
                         /poses.txt                 a line a frame: camera to world, 4 x 4 by rows
    ROOT/testing/color/<scene>_000000.jpg, ROOT/testing/depth/<scene>_000000.png

Held-out scenes with an odd number are those of val.txt, the others are in `testing`.

In the real folders `leres_depth` is the prediction of the network LeReS. Here it is derived from the ground truth:
blurred, distorted by a smooth field of 5 %, and without scale or shift like that of the network ((p - min + 0.01) / max
in 60000 steps). Results with it do not carry over to predicted depth.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cka_probe.lab.scenes.layouts.files import write_affine_depth, write_depth, write_image, write_matrix
from cka_probe.lab.scenes.layouts.layout import Layout, SetFolders, Unit, Written, write_lists

UNIT = 1 / 5000


def write(unit: Unit, folders: SetFolders) -> list[str]:
    """Write one scene as a scene, and return its name, or into the images for testing."""
    if unit.test and unit.index % 2 == 0:
        color, depth = folders.tree / "testing" / "color", folders.tree / "testing" / "depth"
        before = f"{unit.name}_"
    else:
        color = folders.tree / "training" / unit.name
        depth, before = color / "depth", ""
        write_matrix(color / "cam.txt", unit.K)
        write_matrix(color / "poses.txt", unit.poses.reshape(-1, 16))
    for frame, view, truth in unit.views():
        write_image(color / f"{before}{frame:06d}.jpg", view.image)
        write_depth(depth / f"{before}{frame:06d}.png", view.depth, UNIT)
        if not before:
            _write_pseudo_depth(depth.with_name("leres_depth") / f"{frame:06d}.png", truth.depth, (unit.index, frame))
    return [] if before else [unit.name]


def _write_pseudo_depth(path: Path, depth: NDArray[np.floating], seed: tuple[int, int]) -> None:
    """Write depth as a network might predict it, distorted differently in each frame."""
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(depth.shape), max(depth.shape) / 8)
    bent = gaussian_filter(depth, max(depth.shape) / 200) * (1 + 0.05 * field / field.std())
    write_affine_depth(path, bent)


def finish(written: Iterable[Written], folders: SetFolders) -> None:
    """Write the lists of scenes."""
    training = folders.tree / "training"
    write_lists(written, {False: training / "train.txt", True: training / "val.txt"})


LAYOUT = Layout(
    reader="scdepth",
    kinds=("rooms", "objects"),
    holds=frozenset({"image", "depth", "pseudo_depth", "K", "world_T_target"}),
    write=write,
    finish=finish,
)
