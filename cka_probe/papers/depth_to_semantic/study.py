"""The data of the study, its scales, and its paths.

Encoders are pre-trained on `objects`, `kitti`, `cityscapes` and `rooms`, and fine-tuned and tested on
`kitti_labels`, `cityscapes_labels` and `rooms_labels`. Each data set without a path is generated from its own seed, so
no scene of pre-training is one of fine-tuning, and tests are other scenes than both. Given data is used as it is: the
paper pre-trains on Cityscapes' images and fine-tunes on the same ones.

OUT/study.json                                         what is studied; the same command resumes, another is refused
OUT/data/<name>/                                       generated data sets
OUT/seed<k>/pre/<arm>.safetensors, <arm>/log.csv ...   the run of the pre-training recipe; `none` is untrained
OUT/seed<k>/tuned/<case>/<rate>/trial<t>/              a run of the segmentation recipe
    segment.safetensors, segment/log.csv, segment/validation.csv, recipe.json
    scores.json                                        `LabelScores` on the test images: the trial is finished
    predictions/                                       of first trials where everything learns
    diverged.json                                      instead of both, where the loss stopped being a number
OUT/seed<k>/rates.json                                 {base case: {"rate": ..., "tried": {rate: held-out mIoU}}}
OUT/seed<k>/fingerprints/<model>.safetensors           <model> is `<arm>` or `<case>~trial<t>`
OUT/seed<k>/similarity/<x>~~<y>.json                   similarity of two of these models
OUT/seed<k>/gradcam/gradcam.json, <case>.npz           how well maps follow outlines; the maps that are drawn
OUT/report/                                            the page, its tables and figures
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES, NYU13
from cka_probe.lab.scenes import Settings
from cka_probe.papers.depth_to_semantic.cases import ALL, ARMS, TABLES, Case
from cka_probe.papers.study import StudyPaths

PROTOCOLS = {
    "paper": "the paper as it is described",
    "released": "the same, and again with the faults of the released code, one by one and all together",
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

LABELLED = {
    "kitti": Labelled(
        "kitti_semantics:{kitti_labels}?split=train&validation={tested}",
        "kitti_semantics:{kitti_labels}?split=val&validation={tested}",
        len(CITYSCAPES.names),
        SEVEN,
    ),
    "cityscapes": Labelled(
        "cityscapes:{cityscapes_labels}:train", "cityscapes:{cityscapes_labels}:val", len(CITYSCAPES.names), SEVEN
    ),
    "rooms": Labelled(
        "nyuv2:{rooms_labels}?split=train&classes=13",
        "nyuv2:{rooms_labels}?split=test&classes=13",
        classes=len(NYU13.names),
    ),
}
"""What cases are fine-tuned on, by the names of `DATA`."""


@dataclass(frozen=True)
class Scale:
    """How large a study is.

    Attributes:
        pre: Bundled recipe; one stage for each arm but `none`.
        segment: Bundled recipe; its one stage fine-tunes.
        scenes: What is generated where no path is given, by name of the data.
        rates: Learning rates that are tried for each arm.
        tables: In `TABLES`: those whose cases are run; `quirks` is run under the protocol "released" alone.
        without: Arms whose cases are not run.
        trials: How often a case is run by default.
        tested: Of KITTI's labelled images, those to be tested on.
        num: Images of these that layers are compared over.
        calibrate: Batches from which a frozen untrained encoder takes its batch norms' statistics.
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

    def with_tables(self, tables: Sequence[str]) -> "Scale":
        """Return the scale with other tables: names in `TABLES` but `quirks`, or "all"."""
        if list(tables) == ["all"]:
            return replace(self, tables=ALL)
        for table in tables:
            registry.get(dict.fromkeys(ALL), table, "table")
        return replace(self, tables=tuple(tables))

    def cases(self, protocol: str = "paper") -> tuple[Case, ...]:
        """Return the cases that are run, each once, in the order of the tables."""
        registry.get(PROTOCOLS, protocol, "protocol")
        tables = (case for table in self.tables for case in TABLES[table])
        cases = dict.fromkeys(case for case in tables if case.arm not in self.without)
        if protocol == "released":
            arms = {case.arm for case in cases}
            cases |= dict.fromkeys(case for case in TABLES["quirks"] if case.arm in arms)
        return tuple(cases)

    def train(self, data: str, paths: Mapping[str, str]) -> str:
        """Return the training data, as `open_dataset` takes it; `paths` by name, `data` in `LABELLED`."""
        return LABELLED[data].train.format(**paths, tested=self.tested)

    def test(self, data: str, paths: Mapping[str, str]) -> str:
        """Return the test data; arguments as of `train`."""
        return LABELLED[data].test.format(**paths, tested=self.tested)

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that have a case, in the order of `ARMS`."""
        arms = {case.arm for case in self.cases()}
        return tuple(arm for arm in ARMS if arm in arms)


def _streets(seed: int, num: int, size: tuple[int, int], layout: str, frames: int = 1, test: float = 0.0) -> Settings:
    return Settings("streets", num=num, seed=seed, size=size, frames=frames, test=test, layout=layout)


def _rooms(seed: int, num: int, size: tuple[int, int], test: float) -> Settings:
    return Settings("rooms", num=num, seed=seed, size=size, frames=1, test=test, layout="nyuv2")


def _scenes(
    pre: int, labelled: tuple[int, int], size: tuple[int, int], labelled_size: tuple[int, int]
) -> Mapping[str, Settings]:
    """Return the generated data sets of a study.

    Args:
        pre: Streets, of three frames, that encoders are pre-trained on; three times as many images of objects, and
            as many streets with disparity and rooms with depth.
        labelled: Streets of Cityscapes, and rooms, to fine-tune on and to test on; of KITTI there are 200.
        size: (height, width) of the images of pre-training, pixels; those of Cityscapes are twice as large, so that
            a box of the network's size is a part of them.
        labelled_size: Of KITTI's and the rooms' labelled images.
    """
    cities, rooms = labelled
    large = (2 * size[0], 2 * size[1])
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

SEGMENT = "segment"
"""The one stage of the segmentation recipe."""

DIVERGED = "diverged.json"
"""Written instead of a trial's scores if its loss stopped being a number."""


@dataclass(frozen=True)
class SemanticPaths(StudyPaths):
    """Paths of the parts of this study."""

    def pre(self, seed: int) -> Path:
        """Return the folder of the pre-training under a seed."""
        return self.run(seed) / "pre"

    def checkpoint(self, seed: int, arm: str) -> Path:
        """Return the checkpoint that ends an arm's pre-training."""
        return self.pre(seed) / f"{arm}.safetensors"

    def tuned(self, seed: int, case: Case, rate: float, trial: int) -> Path:
        """Return the folder of one fine-tuning."""
        return self.run(seed) / "tuned" / case.name / f"{rate:g}" / f"trial{trial}"

    def rates(self, seed: int) -> Path:
        """Return the file with the chosen learning rate of each base case."""
        return self.run(seed) / "rates.json"

    def rate(self, seed: int, case: Case) -> float | None:
        """Return the learning rate that was chosen for a case, or `None`."""
        path = self.rates(seed)
        if not path.exists():
            return None
        try:
            entry = json.loads(path.read_text("utf-8")).get(case.base.name)
            return None if entry is None else float(entry["rate"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: expected the chosen learning rates, found: {error}; delete it") from error

    def fingerprint(self, seed: int, model: str, features: str = "flatten") -> Path:
        """Return the fingerprint of a model."""
        return self.run(seed) / "fingerprints" / f"{model}.safetensors"

    def gradcam(self, seed: int) -> Path:
        """Return the file on how well the maps of first trials follow the outlines of classes."""
        return self.run(seed) / "gradcam" / "gradcam.json"

    def maps(self, seed: int, case: str) -> Path:
        """Return the file of a case's maps that are drawn."""
        return self.run(seed) / "gradcam" / f"{case}.npz"

    def similarity(self, seed: int, x: str, y: str, variant: str = "paper") -> Path:
        """Return the file of the similarity of two models."""
        return self.run(seed) / "similarity" / f"{x}~~{y}.json"
