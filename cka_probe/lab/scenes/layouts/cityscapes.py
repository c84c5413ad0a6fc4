"""Cityscapes: stereo pairs with fine labels, things and disparity; a city is a scene.

    ROOT/leftImg8bit/<split>/<city>/<city>_000000_000000_leftImg8bit.png
    ROOT/rightImg8bit/…_rightImg8bit.png
    ROOT/gtFine/…_gtFine_labelIds.png           uint8 ids 0 ... 33; 0 = none
               /…_gtFine_labelTrainIds.png      uint8 classes 0 ... 18; 255 = none
               /…_gtFine_instanceIds.png        uint16 1000 id + number of the thing from 0; other pixels their id
               /…_gtFine_color.png              RGB
    ROOT/disparity/…_disparity.png              uint16 256 d + 1, 0 = not measured;  d = f baseline / z
    ROOT/camera/…_camera.json                   focal lengths, principal point, baseline

The splits are "train" and "val", as the labels of the real "test" are not public. The sky, at no distance, is not
measured. Files are named by city, sequence and frame, and the sequence is always 0.
"""

import json
from pathlib import Path

import numpy as np

from cka_probe.images.classes import CITYSCAPES
from cka_probe.images.sample import IGNORE
from cka_probe.lab.scenes.layouts.files import STEPS, ids_of, street_things, write_image, write_text
from cka_probe.lab.scenes.layouts.layout import Layout, SetFolders, Unit, labels_in, nothing_left
from cka_probe.lab.scenes.scene import View


def write(unit: Unit, folders: SetFolders) -> list[str]:
    """Write the frames of one scene."""
    city = f"town{unit.index:04d}"
    below = f"{'val' if unit.test else 'train'}/{city}/{city}_000000"
    baseline = unit.scene.camera.baseline
    for frame, view, _ in unit.views():
        name = f"{below}_{frame:06d}"
        write_image(folders.tree / f"leftImg8bit/{name}_leftImg8bit.png", view.image)
        write_image(folders.tree / f"rightImg8bit/{name}_rightImg8bit.png", view.right)
        _write_labels(folders.tree / f"gtFine/{name}_gtFine", unit, view)
        with np.errstate(divide="ignore"):
            steps = np.round(256 * view.K[0, 0] * baseline / view.depth) + 1
        measured = (view.depth > 0) & (steps <= STEPS)
        disparity = np.where(measured, steps, 0).astype(np.uint16)
        write_image(folders.tree / f"disparity/{name}_disparity.png", disparity)
        write_text(folders.tree / f"camera/{name}_camera.json", _camera(view, baseline))
    return []


def _write_labels(path: Path, unit: Unit, view: View) -> None:
    """Write the four images of labels."""
    labels = labels_in(view, unit.scene, CITYSCAPES)
    ids = ids_of(labels, none=0)
    things = street_things(labels, view.instances, most=1000)
    instances = np.where(things > 0, ids.astype(np.int64) * 1000 + things - 1, ids).astype(np.uint16)
    colours = CITYSCAPES.paint(labels)
    colours[labels == IGNORE] = 0
    write_image(path.with_name(f"{path.name}_labelIds.png"), ids)
    write_image(path.with_name(f"{path.name}_labelTrainIds.png"), labels)
    write_image(path.with_name(f"{path.name}_instanceIds.png"), instances)
    write_image(path.with_name(f"{path.name}_color.png"), colours)


def _camera(view: View, baseline: float) -> str:
    """Return the camera's file; the car's own axes are not used here, so where the camera sits in it is 0."""
    pose = dict.fromkeys(("pitch", "roll", "x", "y", "yaw", "z"), 0.0)
    inside = {"fx": view.K[0, 0], "fy": view.K[1, 1], "u0": view.K[0, 2], "v0": view.K[1, 2]}
    camera = {"extrinsic": {"baseline": baseline} | pose, "intrinsic": inside}
    return json.dumps(camera, indent=4, default=float) + "\n"


LAYOUT = Layout(
    reader="cityscapes",
    kinds=("streets",),
    holds=frozenset({"image", "depth", "K", "labels", "instances", "sources", "source_T_target"}),
    write=write,
    finish=nothing_left,
    partner=True,
)
