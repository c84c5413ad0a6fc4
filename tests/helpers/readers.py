"""A small set on disk in each layout of each reader."""

from functools import partial

from helpers.coco_files import instances_root, panoptic_root
from helpers.dataset_files import listed_root, mat_root, pairs_root, scenes_root
from helpers.image_files import exported_root, imagenet_root, lsun_root
from helpers.instance_files import ade_objects_root, cityscapes_objects_root, coco_objects_root
from helpers.label_files import ade_root, drawn_root, masks_root, segnet_root, stuff_root, voc_root
from helpers.street_files import cityscapes_root, kitti_root
from helpers.video_files import posed, sc_root, stereo, tum

from cka_probe.lab.scenes.make import make_scenes
from cka_probe.lab.scenes.settings import Settings


def scenes_of(kind, layout):
    """Let the generator make a set in the layout of a data set."""

    def make(root):
        make_scenes(root / "set", Settings(kind, 1, 2, (24, 32), 5, layout=layout))
        return root / "set"

    return make


ROOTS = {
    "ade20k": [ade_root],
    "ade20k_instances": [ade_objects_root],
    "camvid": [segnet_root, drawn_root],
    "cityscapes": [cityscapes_root],
    "cityscapes_instances": [cityscapes_objects_root],
    "coco_instances": [coco_objects_root],
    "coco": [masks_root, stuff_root, panoptic_root, instances_root],
    "ibims1": [scenes_of("rooms", "ibims1")],
    "imagenet": [imagenet_root],
    "kitti": [scenes_of("streets", "kitti")],
    "kitti_odometry": [scenes_of("streets", "kitti_odometry")],
    "kitti_semantics": [partial(kitti_root, testing=0)],
    "lsun": [lsun_root, exported_root],
    "nyuv2": [mat_root, scenes_root, listed_root, pairs_root],
    "rgbd": [tum, posed],
    "scdepth": [sc_root],
    "video": [stereo],
    "voc": [voc_root],
}
