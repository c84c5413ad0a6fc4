"""Why a cell has its value, from fingerprints."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cka_probe import compare_fingerprints, fingerprint
from cka_probe.comparison.explanation import explain
from cka_probe.errors import DataError, LayerError


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())


def prints(images):
    return [fingerprint(network(seed), images, layers="0,1,3", batch=32) for seed in (0, 1)]


@pytest.fixture(scope="module")
def images():
    images = torch.randn(64, 8, generator=torch.Generator().manual_seed(3))
    images[40] *= 30
    images[7] = images[2]
    return images


def test_an_outlier_carries_a_cell_and_copies_are_named(images):
    x, y = prints(images)
    why = explain(x, y, "0")
    assert why.layers == ("0", "0")
    assert why.value == pytest.approx(compare_fingerprints(x, y, permutations=0).values[0, 0])
    assert why.ranking[0] == 40
    assert why.outliers == (40,)
    assert why.copies == {"exact": [[2, 7]]}
    assert [count for count, _ in why.curve] == [1, 2, 4, 8, 16]
    rest = images[[i for i in range(32, 64) if i != 40]]
    batches = [images[:32], rest]
    alone = [fingerprint(network(seed), batches, layers="0") for seed in (0, 1)]
    assert why.curve[0][1] == pytest.approx(compare_fingerprints(*alone, permutations=0).values[0, 0])
    table = why.to_frame()
    assert table.iloc[0].to_dict() == {
        "image": 40, "hash": x.images[40], "influence": why.influences[40], "outlier": True, "copy": False,
    }  # fmt: skip
    assert "exact copies: 2 and 7" in why.summary()
    named = explain(x, y, "0", names=[f"{image}.png" for image in range(64)])
    assert "exact copies: 2.png and 7.png" in named.summary()
    assert "outliers: 40.png" in named.summary()
    assert named.to_frame()["name"].iloc[0] == "40.png"
    with pytest.raises(DataError, match="name of each of 64 images, found 2"):
        explain(x, y, "0", names=["a", "b"])


def test_the_images_and_the_untrained_model_are_baselines(images):
    x, y = prints(images)
    inputs = fingerprint(nn.Sequential(nn.Identity(), nn.Linear(8, 2)), images, layers="0", batch=32)
    why = explain(x, y, "3", "1", inputs=inputs, untrained=y)
    xz, yz = (compare_fingerprints(side, inputs, permutations=0).values[row, 0] for side, row in ((x, 2), (y, 1)))
    assert why.partial == pytest.approx((why.value - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))
    assert why.untrained[0] == pytest.approx(compare_fingerprints(y, y, permutations=0).values[2, 1])


def test_an_explanation_is_one_document(images, tmp_path):
    why = explain(*prints(images), "1", "3")
    document = json.loads(why.save(tmp_path / "why.json").read_text())
    assert document["layers"] == ["1", "3"]
    assert len(document["influences"]) == 64
    assert why.save(tmp_path / "why.csv").read_text().startswith("image,hash,influence,outlier,copy\n")


def test_cells_that_cannot_be_explained_are_refused(images):
    x, y = prints(images)
    with pytest.raises(LayerError, match="no layer 'fc'"):
        explain(x, y, "fc")
    with pytest.raises(DataError, match="expected one layer of x, found 3"):
        explain(x, y, "*")
    dead = replace(x, grams=tuple(torch.zeros_like(stack) for stack in x.grams))
    with pytest.raises(DataError, match="expected two layers with a similarity, found it is the same"):
        explain(dead, y, "0")
