"""Layouts by name: how a set of scenes lies on a disk.

Each is the layout of a real data set, byte for byte what its reader expects, so that the same reader opens both.
A layout serves some kinds of scene and holds some of what is known about them.
"""

from cka_probe.lab.scenes.layouts import cityscapes, ibims1, kitti, lsun, nyuv2, sc_depth
from cka_probe.lab.scenes.layouts.layout import Layout

LAYOUTS: dict[str, Layout] = {
    "cityscapes": cityscapes.LAYOUT,
    "ibims1": ibims1.LAYOUT,
    "imagenet": lsun.IMAGENET,
    "kitti": kitti.RAW,
    "kitti_odometry": kitti.ODOMETRY,
    "kitti_semantics": kitti.SEMANTICS,
    "lsun": lsun.LSUN,
    "nyuv2": nyuv2.FOLDERS,
    "nyuv2_mat": nyuv2.LABELED_MAT,
    "sc_depth": sc_depth.LAYOUT,
}

USUAL = {"rooms": "nyuv2", "streets": "kitti", "objects": "imagenet"}
"""The layout of a kind of scene, where none is asked for."""

__all__ = ["LAYOUTS", "USUAL", "Layout"]
