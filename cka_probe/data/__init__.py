"""Datasets by name, and one opened from one word.

A dataset is written as a string, so that a command line, a recipe and a result file can all say it:

    pictures/                             any folder of pictures
    folder:pictures/:val                  the pictures below pictures/val
    nyuv2:nyu/:test                       the test frames of NYU Depth v2, in whichever of its layouts
    nyuv2:nyu/?split=test&classes=40      the same with labels of 40 classes
    kitti:kitti/?sources=-1,1,s           video and stereo of KITTI: each frame with its neighbours and partner
    worlds:rooms?num=100                  procedural rooms, drawn as they are read

What stands behind the question mark are the reader's own options, by name.
"""

import inspect
from collections.abc import Callable
from pathlib import Path

from cka_probe.data.ade20k import ade20k
from cka_probe.data.camvid import camvid
from cka_probe.data.cityscapes import cityscapes
from cka_probe.data.coco import coco
from cka_probe.data.dataset import SPLITS, Dataset
from cka_probe.data.folder import Folder
from cka_probe.data.ibims1 import ibims1
from cka_probe.data.imagenet import imagenet
from cka_probe.data.kitti import kitti
from cka_probe.data.kitti_odometry import kitti_odometry
from cka_probe.data.kitti_semantics import kitti_semantics
from cka_probe.data.lsun import lsun
from cka_probe.data.nyuv2 import nyuv2
from cka_probe.data.rgbd import rgbd
from cka_probe.data.sc_depth import sc_depth
from cka_probe.data.video import video
from cka_probe.data.voc import voc
from cka_probe.data.worlds import worlds
from cka_probe.errors import DataError
from cka_probe.lookup import lookup

DATASETS: dict[str, Callable[..., Dataset]] = {
    "ade20k": ade20k,
    "camvid": camvid,
    "cityscapes": cityscapes,
    "coco": coco,
    "folder": Folder,
    "ibims1": ibims1,
    "imagenet": imagenet,
    "kitti": kitti,
    "kitti_odometry": kitti_odometry,
    "kitti_semantics": kitti_semantics,
    "lsun": lsun,
    "nyuv2": nyuv2,
    "rgbd": rgbd,
    "scdepth": sc_depth,
    "video": video,
    "voc": voc,
    "worlds": worlds,
}
"""Readers: called with a path, `split` ("all" unless one is said) and options of their own (str, int or bool)."""


def open_dataset(spec: str | Path) -> Dataset:
    """Return the dataset a string means.

    Args:
        spec: `NAME:PATH`, `NAME:PATH:SPLIT` or `NAME:PATH?option=value&option=value` with a name in `DATASETS`,
            or a bare `PATH`, which is a folder of pictures. Without a split it is everything there is.

    Raises:
        UnknownNameError: There is no such dataset, split or option.
        DataError: The path does not hold what the dataset expects.
    """
    spec = str(spec)
    if Path(spec).exists():
        return DATASETS["folder"](spec, "all")  # a path may hold a colon or a question mark
    place, _, query = spec.partition("?")
    name, path, split = _parts(place)
    reader = lookup(DATASETS, name, "dataset")
    options = _options(name, reader, query) if query else {}
    if split and "split" in options:
        raise DataError(f"expected one split, found two in {spec!r}: leave out ':{split}' or 'split='")
    return reader(path, **({"split": split or "all"} | options))


def _options(name: str, reader: Callable[..., Dataset], query: str) -> dict[str, str | int | bool]:
    """Return the options behind a question mark, each of the type that the reader declares."""
    known = {parameter.name: parameter for parameter in list(inspect.signature(reader).parameters.values())[1:]}
    options: dict[str, str | int | bool] = {}
    for part in query.split("&"):
        key, equals, text = part.partition("=")
        if not equals or key in options:
            raise DataError(f"expected option=value, each once and joined by '&', found {part!r} in ?{query}")
        options[key] = _value(f"{key}={text}", text, lookup(known, key, f"option of {name}").annotation)
    return options


def _value(said: str, text: str, kind: type) -> str | int | bool:
    """Return an option's text as a bool or an int where the reader wants one."""
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise DataError(f"?{said}: expected true or false")
        return text.lower() == "true"
    if kind is int:
        try:
            return int(text)
        except ValueError as error:
            raise DataError(f"?{said}: expected a whole number") from error
    return text


def _parts(spec: str) -> tuple[str, str, str]:
    """Return (name, path, split) of a dataset's string; no split is ""."""
    name, colon, path = spec.partition(":")
    if not colon or (name not in DATASETS and (len(name) == 1 or "/" in name)):
        return "folder", spec, ""  # one letter before a colon is a Windows drive
    head, colon, tail = path.rpartition(":")
    split = ""
    if colon and (tail in SPLITS or ("/" not in tail and "\\" not in tail and not Path(path).exists())):
        path, split = head, tail
    if not path:
        raise DataError(f"expected NAME:PATH or NAME:PATH:SPLIT, found {spec!r} without a path")
    return name, path, split


__all__ = ["DATASETS", "SPLITS", "Dataset", "open_dataset"]
