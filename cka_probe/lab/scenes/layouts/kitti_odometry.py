"""KITTI odometry: a numbered sequence a world, both colour cameras and the path.

    ROOT/sequences/00/image_2/000000.png, image_3/000000.png
                     /calib.txt               P0 to P3 and Tr (scanner to camera 0), 12 numbers each
                     /times.txt               seconds since the first frame
    ROOT/poses/00.txt                         12 numbers a frame: camera 0 to camera 0 of the first frame

The sequences of what is held out come last, as the benchmark's do; two digits number a hundred of them.
"""

import numpy as np

from cka_probe.lab.scenes.layouts.files import numbers, write_image, write_matrix, write_text
from cka_probe.lab.scenes.layouts.kitti_rig import CAM_T_VELO, LEFT, RECT, projections
from cka_probe.lab.scenes.layouts.layout import Layout, Place, Unit, nothing_left


def write(unit: Unit, place: Place) -> list[str]:
    """Write one sequence."""
    camera = unit.world.camera
    folder = place.tree / "sequences" / f"{unit.index:02d}"
    for frame, view, _ in unit.views():
        write_image(folder / f"image_2/{frame:06d}.png", view.image)
        write_image(folder / f"image_3/{frame:06d}.png", view.partner)
    rows = dict(enumerate(projections(unit.K, camera.baseline)))
    lines = [f"P{number}: {numbers(P)}\n" for number, P in rows.items()]
    write_text(folder / "calib.txt", "".join([*lines, f"Tr: {numbers((RECT @ CAM_T_VELO)[:3])}\n"]))
    write_text(folder / "times.txt", "".join(f"{time - camera.times[0]:e}\n" for time in camera.times))
    two_T_zero = np.eye(4)
    two_T_zero[0, 3] = -LEFT
    zero = camera.poses @ two_T_zero  # camera 0 in the world
    write_matrix(place.tree / "poses" / f"{unit.index:02d}.txt", np.linalg.solve(zero[0], zero)[:, :3].reshape(-1, 12))
    return []


LAYOUT = Layout(
    reader="kitti_odometry",
    kinds=("streets",),
    holds=frozenset({"image", "K", "world_T_target", "sources", "source_T_target"}),
    write=write,
    finish=nothing_left,
    partner=True,
    most_worlds=100,
)
