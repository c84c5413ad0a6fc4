"""KITTI raw: a drive a world, with both colour cameras, laser scans, GPS and dense depth.

    ROOT/<date>/calib_{cam_to_cam,velo_to_cam,imu_to_velo}.txt
    ROOT/<date>/<drive>/image_02/data/0000000000.png                       left
                       /image_03/data/0000000000.png                       right
                       /image_0x/timestamps.txt
                       /velodyne_points/data/0000000000.bin                float32 x, y, z, reflectance
                       /oxts/data/0000000000.txt                           30 numbers: place, attitude, speed
                       /proj_depth/groundtruth/image_02/0000000000.png     uint16 metres x 256, up to 256 m
    ROOT/splits/{train,val,test}_files.txt                                 "date/drive frame l" a line

A day has one calibration, so each world is a day's only drive. The scan holds what the scanner of 64 rows would hit
of what the left camera sees (`sensor.lidar_pixels`); the depth PNG is the truth of every pixel where KITTI's own has
a sixth of them. Of the held-out worlds those of odd number are for validation, the others for testing.
"""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np

from cka_probe.lab.scenes.layouts.files import write_depth, write_image, write_text
from cka_probe.lab.scenes.layouts.kitti_rig import START, camera_T_velo, gps, stamps, write_rig
from cka_probe.lab.scenes.layouts.layout import Layout, Place, Unit, Written
from cka_probe.lab.scenes.sensor import FARTHEST, lidar_pixels
from cka_probe.lab.scenes.world import View

STEP = 1 / 256


def write(unit: Unit, place: Place) -> list[str]:
    """Write one drive; its lines are those of a split file."""
    date = f"{START + timedelta(days=unit.index):%Y_%m_%d}"
    name = f"{date}/{date}_drive_0001_sync"
    folder = place.tree / name
    camera = unit.world.camera
    write_rig(folder.parent, unit.K, camera.baseline, unit.size)
    for sensor in ("image_02", "image_03", "velodyne_points", "oxts"):
        write_text(folder / sensor / "timestamps.txt", stamps(camera.times))
    fixes = gps(camera.poses, camera.times)
    for frame, view, _ in unit.views():
        number = f"{frame:010d}"
        write_image(folder / f"image_02/data/{number}.png", view.image)
        write_image(folder / f"image_03/data/{number}.png", view.partner)
        write_depth(folder / f"proj_depth/groundtruth/image_02/{number}.png", view.depth, STEP)
        write_text(folder / f"oxts/data/{number}.txt", f"{fixes[frame]}\n")
        _write_scan(folder / f"velodyne_points/data/{number}.bin", view)
    return [f"{name} {frame} l" for frame in range(len(camera.poses))]


def _write_scan(path: Path, view: View) -> None:
    """Write the points of a scan in the scanner's axes; a point's reflectance is its pixel's brightness."""
    v, u = np.nonzero(
        lidar_pixels(view.K, view.depth.shape, camera_T_velo()) & (view.depth > 0) & (view.depth <= FARTHEST)
    )
    rays = np.linalg.solve(view.K, np.stack([u, v, np.ones(len(u))]))
    points = np.linalg.inv(camera_T_velo()) @ np.vstack([rays * view.depth[v, u], np.ones(len(u))])
    scan = np.column_stack([points[:3].T, view.image[v, u].mean(axis=1) / 255])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(scan.astype("<f4").tobytes())


def finish(written: Iterable[Written], place: Place) -> None:
    """Write the split files."""
    folder = place.tree / "splits"
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: (folder / f"{name}_files.txt").open("w", encoding="utf-8") for name in ("train", "val", "test")}
    try:
        for one in written:
            name = "train" if not one.test else "val" if one.index % 2 else "test"
            files[name].writelines(f"{line}\n" for line in one.lines)
    finally:
        for file in files.values():
            file.close()


LAYOUT = Layout(
    reader="kitti",
    kinds=("streets",),
    holds=frozenset({"image", "depth", "K", "world_T_target", "sources", "source_T_target"}),
    write=write,
    finish=finish,
    partner=True,
)
