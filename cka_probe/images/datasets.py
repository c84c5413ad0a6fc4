"""Datasets: their protocol, their names, and the strings that open them.

A dataset is any object with the members of `Dataset`, without a base class; one line in `DATASETS` gives it a name. It
reads samples at their stored size. Resizing, cropping and batching happen elsewhere, so that models of different input
sizes can be compared on the same images.

A string names a dataset on the command line, in a recipe and in a result:

    images/                             any folder of images
    folder:images/:val                  the images below images/val
    nyuv2:nyu/:test                     the test frames of NYU Depth v2, in any of its layouts
    nyuv2:nyu/?split=test&classes=40    the same with labels of 40 classes
    kitti:kitti/?sources=-1,1,s         video and stereo of KITTI: each frame with its neighbours and partner
    scenes:rooms?num=100                procedural rooms, drawn as they are read

The options after the question mark are those of the reader.

Every command that takes `num` and `seed`, and every stage of a recipe, chooses images by `sample_indices`.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.prefetch import prefetch
from cka_probe.images.sample import Sample

SPLITS = ("train", "val", "test", "all")


class Dataset(Protocol):
    """Samples by index; `gives` are the fields (see `cka_probe.images.sample`) that each sample has."""

    gives: frozenset[str]

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return the sample `index`, every field in `gives`, at its stored size."""
        ...

    def image(self, index: int) -> Tensor:
        """Return the image of sample `index`, (3, H, W) float32 RGB in [0, 1], without reading other fields."""
        ...

    def describe(self, index: int) -> str:
        """Return a name of the image that does not depend on the location of the data: its path below the root."""
        ...


DATASETS: dict[str, str | Callable[..., Dataset]] = {
    "ade20k_instances": "cka_probe.lab.datasets.instances:ade20k_instances",
    "ade20k": "cka_probe.lab.datasets.labelled:ade20k",
    "camvid": "cka_probe.lab.datasets.camvid:camvid",
    "cityscapes": "cka_probe.lab.datasets.cityscapes:cityscapes",
    "cityscapes_instances": "cka_probe.lab.datasets.instances:cityscapes_instances",
    "coco": "cka_probe.lab.datasets.coco:coco",
    "coco_instances": "cka_probe.lab.datasets.instances:coco_instances",
    "folder": "cka_probe.images.folder:Folder",
    "ibims1": "cka_probe.lab.datasets.ibims1:ibims1",
    "imagenet": "cka_probe.lab.datasets.imagenet:imagenet",
    "kitti": "cka_probe.lab.datasets.kitti:kitti",
    "kitti_odometry": "cka_probe.lab.datasets.kitti_odometry:kitti_odometry",
    "kitti_semantics": "cka_probe.lab.datasets.kitti_semantics:kitti_semantics",
    "lsun": "cka_probe.lab.datasets.lsun:lsun",
    "nyuv2": "cka_probe.lab.datasets.nyuv2:nyuv2",
    "rgbd": "cka_probe.lab.datasets.video:rgbd",
    "scdepth": "cka_probe.lab.datasets.sc_depth:sc_depth",
    "video": "cka_probe.lab.datasets.video:video",
    "voc": "cka_probe.lab.datasets.labelled:voc",
    "scenes": "cka_probe.lab.datasets.scenes:scenes",
}
"""Readers: called with a path, `split` ("all" by default) and further options (str, int or bool)."""


def check_split(split: str, splits: Collection[str], source: object) -> None:
    """Check that a dataset has the split asked for.

    Args:
        split: The split asked for.
        splits: The splits that this dataset has.
        source: What the message calls the dataset ("folder images").

    Raises:
        UnknownNameError: No dataset has a split of this name.
        DataError: Other datasets have it, this one does not.
    """
    registry.get(dict.fromkeys((*SPLITS, *splits)), split, "split")
    if split not in splits:
        raise DataError(f"no split {split!r} in {source}; there are: {', '.join(splits)}")


def open_dataset(spec: str | Path) -> Dataset:
    """Return the dataset that a string names.

    Args:
        spec: `NAME:PATH`, `NAME:PATH:SPLIT` or `NAME:PATH?option=value&option=value` with a name in `DATASETS`,
            or a bare `PATH`, which is a folder of images. Without a split, the dataset is everything it has.

    Raises:
        UnknownNameError: There is no such dataset, split or option.
        DataError: The path does not hold what the dataset expects.
    """
    spec = str(spec)
    if Path(spec).exists():  # a path may contain a colon or a question mark
        return cast(Dataset, registry.get(DATASETS, "folder", "dataset")(spec, "all"))
    location, _, query = spec.partition("?")
    name, path, split = _split_spec(location)
    reader = registry.get(DATASETS, name, "dataset")
    options = _parse_options(name, reader, query) if query else {}
    if split and "split" in options:
        raise DataError(f"expected one split, found two in {spec!r}: omit ':{split}' or 'split='")
    return cast(Dataset, reader(path, **({"split": split or "all"} | options)))


def _parse_options(name: str, reader: Callable[..., Dataset], query: str) -> dict[str, str | int | bool]:
    """Return the options after a question mark, each of the type that the reader declares."""
    parameters = {parameter.name: parameter for parameter in list(inspect.signature(reader).parameters.values())[1:]}
    options: dict[str, str | int | bool] = {}
    for option in query.split("&"):
        key, equals, text = option.partition("=")
        if not equals or key in options:
            raise DataError(f"expected option=value, each once and joined by '&', found {option!r} in ?{query}")
        options[key] = _parse_value(option, text, registry.get(parameters, key, f"option of {name}").annotation)
    return options


def _parse_value(option: str, text: str, kind: type) -> str | int | bool:
    """Return the text of an option as a bool or an int where the reader declares one."""
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise DataError(f"?{option}: expected true or false")
        return text.lower() == "true"
    if kind is int:
        try:
            return int(text)
        except ValueError as error:
            raise DataError(f"?{option}: expected a whole number") from error
    return text


def _split_spec(spec: str) -> tuple[str, str, str]:
    """Return (name, path, split) of a dataset's string; the split is "" where there is none."""
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


def open_with_field(data: str | Path | Dataset, field: str, example: str) -> tuple[Dataset, str]:
    """Return a dataset that gives images and another field, and the name of its source.

    Args:
        data: A dataset, or what `open_dataset` takes for one.
        field: A field of `images.sample`, required in addition to `image`.
        example: An example of such a dataset, for the message.

    Raises:
        DataError: The dataset lacks one of the two.
    """
    if isinstance(data, str | Path):
        dataset, source = open_dataset(data), str(data)
    else:
        dataset, source = data, type(data).__name__
    if {"image", field} - dataset.gives:
        raise DataError(
            f"expected a dataset with {field}, found {source}, which gives {', '.join(sorted(dataset.gives))}; "
            f"give one as {example}"
        )
    return dataset, source


def sample_indices(total: int, num: int | None, seed: int) -> list[int]:
    """Return `num` of `total` indices (None: all) in random order; fewer of the same seed are the first of more.

    Args:
        total: Number of images.
        num: Number of indices.
        seed: Any integer.

    >>> sample_indices(10, 3, seed=0) == sample_indices(10, 5, seed=0)[:3]
    True
    """
    indices: list[int] = np.random.default_rng(seed % (1 << 64)).permutation(total)[:num].tolist()
    return indices


def read_samples(dataset: Dataset, indices: Iterable[int], fields: frozenset[str]) -> Iterator[Sample]:
    """Yield the samples at some indices, prefetched, with those of `fields` that the dataset has."""

    def read(index: int) -> Sample:
        sample = dataset.some(index, fields) if hasattr(dataset, "some") else dataset[index]
        return {name: sample[name] for name in fields & sample.keys()}

    yield from prefetch(read, indices)


def batches_of_one_size(samples: Iterable[Sample], batch: int) -> Iterator[list[Sample]]:
    """Yield consecutive samples whose images have the same size, at most `batch` of them."""
    pending: list[Sample] = []
    for sample in samples:
        if pending and (len(pending) == batch or pending[0]["image"].shape != sample["image"].shape):
            yield pending
            pending = []
        pending.append(sample)
    if pending:
        yield pending
