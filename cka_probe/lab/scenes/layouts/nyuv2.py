"""NYU Depth v2 in the folders of BTS and MIM-Depth, with list files.

    ROOT/nyu_train.txt, ROOT/nyu_test.txt               "/scene/rgb_00000.jpg /scene/sync_depth_00000.png focal"
    ROOT/nyu_depth_v2/<scene>/rgb_00000.jpg             JPEG of quality 95
                             /sync_depth_00000.png      uint16 millimetres, up to 65.5 m
                             /labels13_00000.png        uint8 places in NYU's 13 classes; 255 = none (rooms)
                             /cam.txt                   K, 3 x 3
                             /poses.txt                 a line a frame: camera to world, 4 x 4 by rows
    ROOT/nyu_depth_v2/official_splits/test/<scene>/     the same, of what is held out

The labels, cam.txt and poses.txt are ours: the original has no place for them.
"""

from collections.abc import Iterable

from cka_probe.lab.datasets.classes import NYU13
from cka_probe.lab.scenes.layouts.files import write_depth, write_image, write_matrix
from cka_probe.lab.scenes.layouts.layout import Layout, Place, Unit, Written, labels_in, write_lists

MILLIMETRE = 0.001


def write(unit: Unit, place: Place) -> list[str]:
    """Write the frames of one world; its lines are those of the list."""
    folder = place.tree / "nyu_depth_v2" / ("official_splits/test" if unit.test else "") / unit.name
    lines = []
    for frame, view, _ in unit.views():
        rgb, sync = f"rgb_{frame:05d}.jpg", f"sync_depth_{frame:05d}.png"
        write_image(folder / rgb, view.image)
        write_depth(folder / sync, view.depth, MILLIMETRE)
        if unit.world.kind == "rooms":
            write_image(folder / f"labels13_{frame:05d}.png", labels_in(view, unit.world, NYU13))
        lines.append(f"/{unit.name}/{rgb} /{unit.name}/{sync} {unit.K[0, 0]:.4f}")
    write_matrix(folder / "cam.txt", unit.K)
    write_matrix(folder / "poses.txt", unit.poses.reshape(-1, 16))
    return lines


def finish(written: Iterable[Written], place: Place) -> None:
    """Write the lists."""
    write_lists(written, {False: place.tree / "nyu_train.txt", True: place.tree / "nyu_test.txt"})


LAYOUT = Layout(
    reader="nyuv2",
    kinds=("rooms", "objects"),
    holds=frozenset({"image", "depth", "K", "labels", "world_T_target"}),
    write=write,
    finish=finish,
)
