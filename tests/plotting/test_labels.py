"""Names of layers and models fit, and no two become the same."""

import pytest
from helpers.matrices import CASES, LONG, MANY, NINE, TEN, made
from matplotlib.figure import Figure

from cka_probe.plotting import labels


@pytest.mark.parametrize("names", [NINE, TEN, MANY, LONG, ["fc"], ["a.b", "b"], ["1.0", "1.1"]])
@pytest.mark.parametrize("room", [4, 8, 12, 40])
def test_short_names_fit(names, room):
    short = labels.short_names(names, room)
    assert len(short) == len(names)
    assert max(map(labels.width, short)) <= room
    if room >= 8:
        assert len(set(short)) == len(names)


def test_models_of_one_file_name_are_told_apart():
    assert labels.model_names(made(NINE, NINE, x="a/last.pth", y="b\\last.pth"), 18) == ("a/last", "b/last")
    assert labels.model_names(made(NINE, NINE, x="timm:vit_b.in1k", y="x/w.pth.tar"), 18) == ("timm:vit_b.in1k", "w")
    first, second = labels.model_names(CASES["long names"], 18)
    assert first.startswith("first/")
    assert second.startswith("second/")
    assert first.endswith("nyu")


def test_stages_of_networks():
    swin = [f"encoder.layers.{stage}.blocks.{block}.norm1" for stage in range(4) for block in range(3)]
    assert [name for name, _, _ in labels.stages(swin)] == [f"encoder.layers.{stage}" for stage in range(4)]
    assert labels.stages(["a.b", "c.d", "e.f"]) == []
    assert labels.stages([f"features.{k}" for k in range(20)]) == []


@pytest.mark.parametrize("span", [(1e-7, 1e-3), (0.02, 30), (0.15, 2.8), (0.1, 0.7), (0.52, 0.61), (3.0, 3.3)])
def test_marks_of_an_axis_are_few_and_inside(span):
    ax = Figure().add_subplot()
    labels.logarithmic(ax, *span)
    low, high = ax.get_ylim()
    assert low < span[0] < span[1] < high
    marks = [mark for mark in ax.get_yticks() if low <= mark <= high]
    assert 2 <= len(marks) <= 6
