"""Layouts of a set of scenes on disk, by name.

Each is the layout of a real dataset, so that its reader opens both. A layout supports some kinds of scenes and stores
some of their ground truth.
"""

from cka_probe.lab.scenes.layouts import cityscapes, ibims1, kitti, labelled, lsun, nyuv2, objects, sc_depth
from cka_probe.lab.scenes.layouts.layout import Layout

LAYOUTS: dict[str, Layout] = {
    "ade20k": labelled.ADE20K,
    "ade20k_instances": objects.ADE20K,
    "cityscapes": cityscapes.LAYOUT,
    "coco_instances": objects.COCO,
    "ibims1": ibims1.LAYOUT,
    "imagenet": lsun.IMAGENET,
    "kitti": kitti.RAW,
    "kitti_odometry": kitti.ODOMETRY,
    "kitti_semantics": kitti.SEMANTICS,
    "lsun": lsun.LSUN,
    "nyuv2": nyuv2.FOLDERS,
    "nyuv2_mat": nyuv2.LABELED_MAT,
    "sc_depth": sc_depth.LAYOUT,
    "voc": labelled.VOC,
}

USUAL = {"rooms": "nyuv2", "streets": "kitti", "objects": "imagenet"}
"""The default layout of each kind of scene."""

__all__ = ["LAYOUTS", "USUAL", "Layout"]
