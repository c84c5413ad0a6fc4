"""At what scale: which recipes, on what data, which cases, compared over how many images.

Encoders are pre-trained on `objects`, `kitti`, `cityscapes` and `rooms`, and fine-tuned and tested on
`kitti_labels`, `cityscapes_labels` and `rooms_labels`. What is drawn where no path is given is drawn each from a seed
of its own, so that no scene of pre-training is one of fine-tuning, and tests are other scenes than both. Given data is
taken as it is: the paper pre-trains on Cityscapes' images and fine-tunes on the same ones, and so may you.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from cka_probe import registry
from cka_probe.images.classes import CITYSCAPES, NYU13
from cka_probe.lab.scenes import Settings
from cka_probe.papers.depth_to_semantic.cases import ARMS, TABLES, Case

PROTOCOLS = {
    "paper": "the paper as it says it was done",
    "released": "the same, and beside it once more with the faults of the released code, one by one and all together",
}


@dataclass(frozen=True)
class Labelled:
    """Data with labels.

    Attributes:
        train: What is fine-tuned on, with the path in braces, and the number of images to be tested on where the
            data has no split of its own.
        test: What is tested on, other images.
        classes: How many there are.
        subset: Those of the main score; () is all of them.
    """

    train: str
    test: str
    classes: int
    subset: tuple[int, ...] = ()


SEVEN = tuple(
    CITYSCAPES.names.index(name) for name in ("road", "sidewalk", "building", "vegetation", "terrain", "sky", "car")
)
"""The paper's seven classes, by their places among Cityscapes' 19."""

_STREETS = {"classes": len(CITYSCAPES.names), "subset": SEVEN}

LABELLED = {
    "kitti": Labelled(
        "kitti_semantics:{kitti_labels}?split=train&validation={tested}",
        "kitti_semantics:{kitti_labels}?split=val&validation={tested}",
        **_STREETS,
    ),
    "cityscapes": Labelled("cityscapes:{cityscapes_labels}:train", "cityscapes:{cityscapes_labels}:val", **_STREETS),
    "rooms": Labelled(
        "nyuv2:{rooms_labels}?split=train&classes=13",
        "nyuv2:{rooms_labels}?split=test&classes=13",
        classes=len(NYU13.names),
    ),
}
"""What cases are fine-tuned on, by the names of `cases.DATA`."""


ALL = tuple(table for table in TABLES if table != "quirks")
"""What a study can show; `quirks` comes with the protocol "released"."""


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
        pre: Bundled; one stage an arm, but for `none`.
        segment: Bundled; its one stage fine-tunes.
        scenes: What is drawn where no path is given, by name of the data.
        rates: Learning rates that are tried for each arm.
        tables: In `TABLES`: those whose cases are run; `quirks` is run under the protocol "released" alone.
        without: Arms whose cases are not run.
        trials: How often a case is run, unless it is said otherwise.
        tested: Of KITTI's labelled images, those to be tested on.
        num: Images of these that layers are compared over.
        calibrate: Batches that give a frozen encoder of chance its batch norms' statistics.
        pre_settings: More `--set` of the recipe of pre-training.
        segment_settings: And of that of fine-tuning.
    """

    pre: str
    segment: str
    scenes: Mapping[str, Settings]
    rates: tuple[float, ...]
    tables: tuple[str, ...]
    without: tuple[str, ...] = ()
    trials: int = 4
    tested: int = 90
    num: int = 90
    calibrate: int = 4
    pre_settings: tuple[str, ...] = ()
    segment_settings: tuple[str, ...] = ()

    def showing(self, tables: Sequence[str]) -> "Scale":
        """Return the scale with other tables than its own: names in `TABLES` but `quirks`, or "all" alone."""
        if list(tables) == ["all"]:
            return replace(self, tables=ALL)
        for table in tables:
            registry.get(dict.fromkeys(ALL), table, "table")
        return replace(self, tables=tuple(tables))

    def cases(self, protocol: str = "paper") -> tuple[Case, ...]:
        """Return what is run, each once, in the order of the tables."""
        registry.get(PROTOCOLS, protocol, "protocol")
        tables = (case for table in self.tables for case in TABLES[table])
        found = dict.fromkeys(case for case in tables if case.arm not in self.without)
        if protocol == "released":
            arms = {case.arm for case in found}
            found |= dict.fromkeys(case for case in TABLES["quirks"] if case.arm in arms)
        return tuple(found)

    def train(self, data: str, paths: Mapping[str, str]) -> str:
        """Return what is fine-tuned on, as `open_dataset` takes it; `paths` by name, `data` in `LABELLED`."""
        return LABELLED[data].train.format(**paths, tested=self.tested)

    def test(self, data: str, paths: Mapping[str, str]) -> str:
        """Return what is tested on; arguments as of `train`."""
        return LABELLED[data].test.format(**paths, tested=self.tested)

    @property
    def arms(self) -> tuple[str, ...]:
        """Return the arms that have a case, in the order of `ARMS`."""
        found = {case.arm for case in self.cases()}
        return tuple(arm for arm in ARMS if arm in found)


def _streets(seed: int, num: int, size: tuple[int, int], layout: str, frames: int = 1, test: float = 0.0) -> Settings:
    return Settings("streets", num=num, seed=seed, size=size, frames=frames, test=test, layout=layout)


def _rooms(seed: int, num: int, size: tuple[int, int], test: float) -> Settings:
    return Settings("rooms", num=num, seed=seed, size=size, frames=1, test=test, layout="nyuv2")


def _scenes(pre: int, labelled: tuple[int, int], size: tuple[int, int], labelled_size: tuple[int, int]) -> Mapping:
    """Return the procedural sets of a study.

    Args:
        pre: Streets, of three frames, that encoders are pre-trained on; three times as many images of objects, and
            as many streets with disparity and rooms with depth.
        labelled: Streets of Cityscapes, and rooms, to fine-tune on and to test on; of KITTI there are 200.
        size: (height, width) of the images of pre-training, pixels; those of Cityscapes are twice as large, so that
            a box of the network's size is a part of them.
        labelled_size: Of KITTI's and the rooms' labelled images.
    """
    cities, rooms = labelled
    large = tuple(2 * side for side in size)
    return MappingProxyType(
        {
            "objects": Settings("objects", num=3 * pre, seed=201, size=size, frames=1, test=0.1, layout="imagenet"),
            "kitti": _streets(202, pre, size, "kitti", frames=3, test=0.2),
            "kitti_labels": _streets(203, 200, labelled_size, "kitti_semantics"),
            "cityscapes": _streets(204, pre, large, "cityscapes", test=0.1),
            "cityscapes_labels": _streets(205, cities, large, "cityscapes", test=0.4),
            "rooms": _rooms(206, pre, size, 0.1),
            "rooms_labels": _rooms(207, rooms, labelled_size, 0.4),
        }
    )


SCALES = {
    "demo": Scale(
        "depth_to_semantic_demo",
        "segmentation_demo",
        _scenes(240, (200, 200), (64, 96), (128, 192)),
        rates=(3e-4, 1e-3, 3e-3),
        tables=("table1", "table2", "table3", "table4", "table6", "figure3", "figure7"),
        without=("video_stereo",),  # the dearest arm, and no claim is of it
        trials=1,
        segment_settings=("segment.steps=80", "segment.held_out=24", "segment.validate_every=20"),
    ),
    "gpu": Scale(
        "depth_to_semantic_gpu",
        "segmentation_demo",
        _scenes(4000, (600, 600), (128, 192), (256, 384)),
        rates=(1e-4, 3e-4, 1e-3),
        tables=ALL,
        segment_settings=("size=[128, 192]", "segment.steps=1000", "segment.batch=16", "segment.validate_every=100"),
    ),
    "paper": Scale(
        "depth_to_semantic_paper",
        "segmentation",
        MappingProxyType({}),
        rates=(1e-5, 1e-4),
        tables=ALL,
    ),
}
