"""Segmentation of real images: streets, rooms and images of things; twenty steps, and the loss falls.

Enough to see that labels and images belong together and that all classes there are can be named; no number of these
means more.
"""

import csv
import math

import pytest
from helpers.paths import REAL

from cka_probe.lab.training import run_recipe
from cka_probe.lab.training.recipe import recipe_of

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings (../shared/data) are not here")

DATA = {
    "camvid": ("camvid:{}/camvid", 11),
    "nyuv2, 13 classes": ("nyuv2:{}/nyuv2?classes=13", 13),
    "nyuv2, 40 classes": ("nyuv2:{}/nyuv2?classes=40", 40),
    "coco": ("coco:{}/coco_semantic", 129),
}


def rows(path):
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(path.read_text().splitlines())]


def trained(folder, name, **keys):
    """Return the log and the evaluations of a short run on some of the data; ResNet-18 from chance."""
    spec, classes = DATA[name]
    stage = {"task": "segmentation", "data": spec.format(REAL), "steps": 20, "batch": 4, "lr": 1e-3, "clip": 1.0,
             "weight_decay": 0.0, "num": 24, "held_out": 4, "log_every": 1, "cache": True,
             "options": {"classes": classes}} | keys  # fmt: skip
    table = {"name": "real", "architecture": "resnet18", "size": 64, "stages": {"segment": stage}}
    run_recipe(recipe_of(table), folder, device="cpu")
    return rows(folder / "segment/log.csv"), rows(folder / "segment/validation.csv")


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_the_loss_falls_on_real_images(tmp_path, name):
    log, (scores,) = trained(tmp_path, name)
    losses = [row["loss"] for row in log]
    assert losses[0] == pytest.approx(math.log(DATA[name][1]), rel=0.15), "before the first step no class is favoured"
    assert sum(losses[-5:]) / 5 < 0.85 * losses[0]
    assert scores["cross_entropy"] < 1.1 * losses[0]
    if name != "coco":  # of whose 129 classes none need be right after so few steps
        assert 0 < scores["accuracy"] < 1
        assert 0 < scores["miou"] < 1
