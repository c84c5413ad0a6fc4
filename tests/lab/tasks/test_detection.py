"""Detection: views of objects, strides of the pyramid, training that overfits, and its evaluation."""

import csv

import pytest
import torch
from helpers.instance_files import coco_objects_root
from torch import Generator

from cka_probe.errors import DataError, RecipeError
from cka_probe.images.datasets import DATASETS
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.lab.tasks.detection import Detection, SimplePyramid, num_right
from cka_probe.lab.training import run_recipe
from cka_probe.lab.training.recipe import recipe_of
from cka_probe.lab.training.sampling import collate
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

SIZE = (64, 96)


def square(left, top, side=20, size=SIZE, category=0, crowd=False):
    """Return a white square on black as a sample."""
    image, mask = torch.zeros(3, *size), torch.zeros(1, *size, dtype=torch.bool)
    image[:, top : top + side, left : left + side] = 1.0
    mask[:, top : top + side, left : left + side] = True
    box = torch.tensor([[left, top, left + side, top + side]], dtype=torch.float32)
    return {
        "image": image,
        "boxes": box,
        "box_classes": torch.tensor([category]),
        "box_crowds": torch.tensor([crowd]),
        "box_masks": mask,
    }


class Squares:
    """Squares at four places."""

    gives = frozenset(square(0, 0))

    def __init__(self, path, split):
        self.classes = None

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return square(8 * index, 4 * index)

    def describe(self, index):
        return f"square{index}"


@pytest.fixture
def squares(monkeypatch):
    monkeypatch.setitem(DATASETS, "squares", Squares)


def is_around(box, shown):
    """Whether a box is the least one around the bright pixels, to a pixel."""
    rows, columns = shown.any(1).nonzero(), shown.any(0).nonzero()
    least = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return (box - torch.tensor(least)).abs().max() <= 1.01


def test_boxes_and_masks_follow_every_view():
    task, count = Detection(SIZE, classes=1, scale=(0.5, 2.0)), 0
    for seed in range(40):
        view = task.prepare(square(30, 25), Generator().manual_seed(seed), train=True)
        assert view["image"].shape == (3, *SIZE)
        for box, mask in zip(view["boxes"], view["box_masks"], strict=True):
            bright = view["image"][0] > 0.5
            assert is_around(box, bright)
            assert (mask ^ bright).sum() <= 0.15 * mask.sum() + 8
            count += 1
    assert count > 20
    whole = task.prepare(square(30, 25, size=(128, 128)), Generator(), train=False)
    assert whole["boxes"].tolist() == [[15, 12.5, 25, 22.5]]  # half the size, on a canvas that is wider
    assert not whole["image"][:, :, 64:].any()


def test_crowds_and_what_is_out_of_sight_are_left_out():
    task = Detection(SIZE, classes=2)
    assert task.prepare(square(30, 25, crowd=True), Generator(), False)["boxes"].shape == (0, 4)
    with pytest.raises(DataError, match="expected classes from 0 to 1, found 2"):
        task.prepare(square(0, 0, category=2), Generator(), False)
    with pytest.raises(RecipeError, match="sides that are multiples of 32, found 60 x 96"):
        Detection((60, 96), classes=2)


def test_a_batch_is_filled_up_to_the_most_objects():
    task = Detection(SIZE, classes=1)
    views = [task.prepare(square(30, 25, crowd=crowd), Generator(), False) for crowd in (True, False)]
    batch = collate(views)
    assert batch["box_classes"].tolist() == [[-1], [0]]
    assert (batch["boxes"].shape, batch["box_masks"].shape) == ((2, 1, 4), (2, 1, *SIZE))
    assert batch["box_masks"].dtype == torch.bool


def test_the_simple_pyramid_has_four_strides():
    maps = SimplePyramid(64)([torch.rand(2, 64, 7, 7)])
    assert [tuple(part.shape) for part in maps] == [(2, 256, s, s) for s in (28, 14, 7, 3)]


@pytest.mark.parametrize(("name", "size"), [("dinov2_micro", 224), ("resnet18", 128)])
def test_maps_have_the_strides_of_the_boxes(name, size):
    backbone = Backbone(ARCHITECTURES[name].build(size=size), size=size)
    task = Detection((size, size), classes=1)
    head = task.head(backbone)
    maps = head.neck(task._pyramid(backbone, torch.rand(1, 3, size, size)))
    assert [size // part.shape[-1] for part in list(maps.values())[:4]] == [4, 8, 16, 32]


def test_a_right_detection_finds_one_object_of_its_class():
    truth = {"boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), "labels": torch.tensor([0, 1])}
    found = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [50, 50, 60, 60]]),
        "labels": torch.tensor([0, 0, 0, 1]),
    }
    assert num_right(found, truth) == 1
    assert num_right(found, {name: values[:0] for name, values in truth.items()}) == 0


def detector(steps, **keys):
    stage = {"task": "detection", "data": "squares:x:all", "validation": "squares:x:all", "steps": steps, "batch": 2,
             "lr": 2e-3, "log_every": 10, "weight_decay": 0.0, "clip": 1.0}  # fmt: skip
    stage |= {"options": {"classes": 1, "scale": [0.9, 1.1]}} | keys
    recipe = {"name": "t", "architecture": "resnet18", "size": list(SIZE), "seed": 0, "stages": {"detect": stage}}
    return recipe_of(recipe)


@pytest.mark.slow
def test_the_loss_falls(squares, tmp_path):
    run_recipe(detector(12), tmp_path, device="cpu", workers=0)
    rows = list(csv.DictReader((tmp_path / "detect/log.csv").read_text().splitlines()))
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])


def test_an_untrained_detector_is_trained_a_step_and_scored(squares, tmp_path):
    (path,) = run_recipe(detector(1), tmp_path, device="cpu", workers=0)
    header, last = (tmp_path / "detect/validation.csv").read_text().split()
    assert header == "step,recall50,precision50"
    assert last.startswith("1,")
    columns = (tmp_path / "detect/log.csv").read_text().split()[0].split(",")
    assert {"classifier", "box_reg", "mask", "objectness", "rpn_box_reg"} <= set(columns)
    scores = evaluate(path, Squares("", ""), device="cpu", resamples=20)
    assert scores.measures == ("map", "map50", "map75", "ap/0")
    assert 0 <= scores.values()["map"] <= scores.values()["map50"] <= 1
    root = coco_objects_root(tmp_path / "coco")
    with pytest.raises(DataError, match=r"expected a dataset with the model's 1 classes, found .* with 2"):
        evaluate(path, f"coco_instances:{root}:val", device="cpu")
    with pytest.raises(DataError, match="expected no folder for predictions"):
        evaluate(path, Squares("", ""), device="cpu", keep=tmp_path / "kept")


def test_boxes_are_in_the_pixels_of_the_image():
    task, found = Detection(SIZE, classes=1), [{"boxes": torch.tensor([[15.0, 12.5, 25, 22.5]])}]
    object.__setattr__(task, "predict", lambda *_: found)
    (boxes,) = task.detect(None, None, torch.rand(1, 3, 128, 128))
    assert boxes["boxes"].tolist() == [[30, 25, 50, 45]]
