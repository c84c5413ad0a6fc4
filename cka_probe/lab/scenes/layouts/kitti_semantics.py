"""KITTI's benchmark of 2015 with semantic labels: two frames of each world, one of them labelled.

    ROOT/training/image_2/000000_10.png, 000000_11.png      left, now and in the next frame
                 /image_3/000000_10.png, 000000_11.png      right
                 /semantic/000000_10.png                    uint8 Cityscapes ids; 255 = none
                 /instance/000000_10.png                    uint16 256 id + number of the thing (0: no thing)
                 /flow_occ/000000_10.png, flow_noc/…        uint16 RGB: flow of all, and of what is seen in both
                 /calib_cam_to_cam/000000.txt

The labels of the benchmark's own test images are not public, so all worlds are training images here, and a
reader that splits them at random splits worlds.
"""

import numpy as np
from numpy.typing import NDArray

from cka_probe.lab.datasets.classes import CITYSCAPES
from cka_probe.lab.scenes.layouts.files import write_flow, write_image, write_text
from cka_probe.lab.scenes.layouts.kitti_rig import calibration
from cka_probe.lab.scenes.layouts.layout import Layout, Place, Unit, labels_in, nothing_left
from cka_probe.lab.scenes.layouts.things import ids_of, street_things


def write(unit: Unit, place: Place) -> list[str]:
    """Write one world's pair of frames and the truth of the first."""
    folder, number = place.tree / "training", f"{unit.index:06d}"
    for frame, view, _ in unit.views():
        name = f"{number}_{10 + frame}.png"
        write_image(folder / "image_2" / name, view.image)
        write_image(folder / "image_3" / name, view.partner)
        if frame:
            continue
        labels = labels_in(view, unit.world, CITYSCAPES)
        ids = ids_of(labels, none=255)
        write_image(folder / "semantic" / name, ids)
        write_image(folder / "instance" / name, _instances(labels, ids, view.instances))
        if view.flow is not None:
            write_flow(folder / "flow_occ" / name, view.flow, np.ones_like(view.occluded))
            write_flow(folder / "flow_noc" / name, view.flow, ~view.occluded)
    text = calibration(unit.K, unit.world.camera.baseline, unit.size)
    write_text(folder / "calib_cam_to_cam" / f"{number}.txt", text)
    return []


def _instances(labels: NDArray[np.uint8], ids: NDArray[np.uint8], pieces: NDArray[np.int32]) -> NDArray[np.uint16]:
    """Return 256 id + number, things numbered from 1 in each class."""
    things = street_things(labels, pieces, most=255)
    return np.where(labels == 255, 0, ids.astype(np.uint16) * 256 + things).astype(np.uint16)


LAYOUT = Layout(
    reader="kitti_semantics",
    kinds=("streets",),
    holds=frozenset({"image", "labels", "instances", "flow", "occluded", "K", "sources", "source_T_target"}),
    write=write,
    finish=nothing_left,
    partner=True,
    flow=True,
    most=2,
)
