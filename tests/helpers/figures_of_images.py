"""Figures of images: of something usual, and of what is hard to draw."""

from collections.abc import Mapping

import numpy as np
from helpers.samples import full

from cka_probe.images.classes import CITYSCAPES
from cka_probe.plotting import Figure
from cka_probe.plotting.cam_panel import CamColumn, CamPanel
from cka_probe.plotting.contact_sheet import FIELDS, ContactSheet, SampleTile
from cka_probe.plotting.predictions import DepthPanel, LabelPanel, PredictionRow

LONG_NAME = "pre-trained on a very large and rather heterogeneous collection of unlabelled street scenes"
LONG_NAMES = (LONG_NAME, LONG_NAME[::-1], "x" * 99)
EIGHT = tuple(f"arm {number} of an experiment" for number in range(8))
MODELS = ("no pre-training", "depth from video", "optical flow")


def tiles(count, *fields, height=6, width=8):
    """Samples with some of the fields, repeated to a size."""
    samples = []
    for seed in range(count):
        sample = {name: value for name, value in full(seed).items() if name in fields or not fields}
        maps = {
            name: np.tile(value, (1,) * (value.ndim - 2) + (height // 6, width // 8)) if name in FIELDS else value
            for name, value in sample.items()
        }
        samples.append(SampleTile(f"a/folder/with/a/long/name/of/a/scene/rgb_{seed:05d}.png", maps))
    return samples


NAMES = ("road", "sky", "a rather long name of a class", "never seen")
COLOURS = ((128, 64, 128), (70, 130, 180), (220, 20, 60), (1, 2, 3))


def sheet(samples, title="nyuv2:test: 6 of 654 frames"):
    return ContactSheet(title, samples, NAMES, COLOURS, ("kitchen", "living room"))


def depth_row(seed, models=("MP", "MP+GP", "MP+GP+SP"), shape=(12, 16), *, share=0.9):
    """One image with its depth, measured in some of its pixels."""
    random = np.random.default_rng(seed)
    depth = random.uniform(1, 6, shape)
    truth = np.where(random.random(shape) < share, depth, 0.0)
    edges = {name: random.random(shape) < 0.2 for name in ("truth", *models)}
    image = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
    predictions = {name: depth * (1 + 0.1 * number) for number, name in enumerate(models)}
    return PredictionRow(f"a/long/name/of/a/room/rgb_{seed:05d}.png", image, truth, predictions, edges)


def label_row(seed, models=MODELS, shape=(12, 16), *, classes=8, ignored=0.1, wrong=0.3, image_shape=None):
    """One image with its labels, some of them ignored and some predicted wrongly."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, shape)
    image = random.integers(0, 256, (*(image_shape or shape), 3), dtype=np.uint8)
    other = {name: random.integers(0, classes, shape) for name in models}
    predictions = {name: np.where(random.random(shape) < wrong, other[name], truth) for name in models}
    truth = np.where(random.random(shape) < ignored, 255, truth)
    return PredictionRow(f"a/long/name/of/a/street/aachen_{seed:06d}_000019.png", image, truth, predictions)


def label_panel(rows, parts=("labels", "wrong"), vocabulary=CITYSCAPES):
    return LabelPanel(rows, vocabulary.names, np.array(vocabulary.colours), parts)


def cams(count: int, networks: tuple[str, ...] = ("MP", "depth from video"), level: float | None = None) -> CamPanel:
    random = np.random.default_rng(count)

    def some(*shape: int) -> np.ndarray:
        return random.random(shape) if level is None else np.full(shape, level)

    columns = [
        CamColumn(
            f"a/long/name/of/a/street/aachen_{number:06d}_000019.png",
            random.integers(0, 256, (12, 16, 3), dtype=np.uint8),
            {name: some(3, 4) for name in networks},
            random.integers(0, 3, (12, 16)),
            {name: random.integers(0, 3, (12, 16)) for name in networks},
        )
        for number in range(count)
    ]
    return CamPanel(columns, "labels", ("road", "sky", "car"), np.array([(128, 64, 128), (70, 130, 180), (0, 0, 142)]))


FIGURES: Mapping[str, Figure] = {
    "depth_panel": DepthPanel([depth_row(0), depth_row(1)], ("depth", "error", "edges")),
    "label_panel": label_panel([label_row(0), label_row(1)]),
    "cam_panel": cams(3),
    "contact_sheet": sheet(tiles(3)),
}
STRAINED: Mapping[str, Mapping[str, Figure]] = {
    "depth_panel": {
        "one": DepthPanel([depth_row(0, ("MP",))]),
        "nothing measured": DepthPanel([depth_row(0, share=0.0)]),
        "eight models": DepthPanel([depth_row(0, EIGHT)], ("depth",)),
        "long names": DepthPanel([depth_row(0, LONG_NAMES)]),
    },
    "label_panel": {
        "eight models": label_panel([label_row(0, EIGHT, classes=19)]),
        "long names": label_panel([label_row(0, LONG_NAMES)]),
        "no labels": label_panel([label_row(0, ignored=2.0)]),
    },
    "cam_panel": {
        "one": cams(1, ("MP",)),
        "many": cams(5, EIGHT[:4]),
        "all equal": cams(2, level=0.0),
        "long names": cams(2, LONG_NAMES[:2]),
    },
    "contact_sheet": {
        "one image": sheet(tiles(1, "image"), title=LONG_NAME * 4),
        "many": sheet(tiles(40, "image", "category")),
        "wide": sheet(tiles(2, "image", "depth", "normals", "flow", "edges", width=64)),
        "tall": sheet(tiles(2, "image", "depth", height=48)),
    },
}
