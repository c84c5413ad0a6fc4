"""Datasets by name, and one opened from one word.

A dataset is written as a string, so that a command line, a recipe and a result file can all say it:

    images/                             any folder of images
    folder:images/:val                  the images below images/val
    nyuv2:nyu/:test                       the test frames of NYU Depth v2, in whichever of its layouts
    nyuv2:nyu/?split=test&classes=40      the same with labels of 40 classes
    kitti:kitti/?sources=-1,1,s           video and stereo of KITTI: each frame with its neighbours and partner
    scenes:rooms?num=100                  procedural rooms, drawn as they are read

What stands behind the question mark are the reader's own options, by name.
"""

import inspect
from collections.abc import Callable
from pathlib import Path

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.dataset import SPLITS, Dataset

DATASETS: dict[str, str | Callable[..., Dataset]] = {
    "ade20k": "cka_probe.lab.datasets.ade20k:ade20k",
    "camvid": "cka_probe.lab.datasets.camvid:camvid",
    "cityscapes": "cka_probe.lab.datasets.cityscapes:cityscapes",
    "coco": "cka_probe.lab.datasets.coco:coco",
    "folder": "cka_probe.images.folder:Folder",
    "ibims1": "cka_probe.lab.datasets.ibims1:ibims1",
    "imagenet": "cka_probe.lab.datasets.imagenet:imagenet",
    "kitti": "cka_probe.lab.datasets.kitti:kitti",
    "kitti_odometry": "cka_probe.lab.datasets.kitti_odometry:kitti_odometry",
    "kitti_semantics": "cka_probe.lab.datasets.kitti_semantics:kitti_semantics",
    "lsun": "cka_probe.lab.datasets.lsun:lsun",
    "nyuv2": "cka_probe.lab.datasets.nyuv2:nyuv2",
    "rgbd": "cka_probe.lab.datasets.rgbd:rgbd",
    "scdepth": "cka_probe.lab.datasets.sc_depth:sc_depth",
    "video": "cka_probe.lab.datasets.video:video",
    "voc": "cka_probe.lab.datasets.voc:voc",
    "scenes": "cka_probe.lab.datasets.scenes:scenes",
}
"""Readers: called with a path, `split` ("all" unless one is said) and options of their own (str, int or bool)."""


def open_dataset(spec: str | Path) -> Dataset:
    """Return the dataset a string means.

    Args:
        spec: `NAME:PATH`, `NAME:PATH:SPLIT` or `NAME:PATH?option=value&option=value` with a name in `DATASETS`,
            or a bare `PATH`, which is a folder of images. Without a split it is everything there is.

    Raises:
        UnknownNameError: There is no such dataset, split or option.
        DataError: The path does not hold what the dataset expects.
    """
    spec = str(spec)
    if Path(spec).exists():
        return registry.get(DATASETS, "folder", "dataset")(spec, "all")  # a path may hold a colon or a question mark
    place, _, query = spec.partition("?")
    name, path, split = _parts(place)
    reader = registry.get(DATASETS, name, "dataset")
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
        options[key] = _value(f"{key}={text}", text, registry.get(known, key, f"option of {name}").annotation)
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
