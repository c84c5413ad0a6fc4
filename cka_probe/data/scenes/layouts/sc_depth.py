"""The folders that SC-Depth trains on: a folder a scene, with camera, depth and poses.

    ROOT/training/train.txt, val.txt                a scene a line
    ROOT/training/<scene>/000000.jpg                JPEG of quality 95
                         /depth/000000.png          uint16, metres x 5000 (as its NYU folders), up to 13.1 m
                         /cam.txt                   K, 3 x 3
                         /poses.txt                 a line a frame: camera to world, 4 x 4 by rows
    ROOT/testing/color/<scene>_000000.jpg, ROOT/testing/depth/<scene>_000000.png

Of what is held out the worlds of odd number are the scenes of val.txt, the others lie in `testing`.
"""

from collections.abc import Iterable

from cka_probe.data.scenes.layouts.files import write_depth, write_matrix, write_picture
from cka_probe.data.scenes.layouts.layout import Layout, Place, Unit, Written, write_lists

UNIT = 1 / 5000


def write(unit: Unit, place: Place) -> list[str]:
    """Write one world as a scene, or into the pictures for testing; its line is the scene's name."""
    if unit.test and unit.index % 2 == 0:
        color, depth = place.tree / "testing" / "color", place.tree / "testing" / "depth"
        before = f"{unit.name}_"
    else:
        color = place.tree / "training" / unit.name
        depth, before = color / "depth", ""
        write_matrix(color / "cam.txt", unit.K)
        write_matrix(color / "poses.txt", unit.poses.reshape(-1, 16))
    for frame, view in unit.views():
        write_picture(color / f"{before}{frame:06d}.jpg", view.image)
        write_depth(depth / f"{before}{frame:06d}.png", view.depth, UNIT)
    return [] if before else [unit.name]


def finish(written: Iterable[Written], place: Place) -> None:
    """Write the lists of scenes."""
    training = place.tree / "training"
    write_lists(written, {False: training / "train.txt", True: training / "val.txt"})


LAYOUT = Layout(
    reader="scdepth",
    kinds=("rooms", "objects"),
    holds=frozenset({"image", "depth", "K", "world_T_target"}),
    write=write,
    finish=finish,
)
