"""Regions of images: what a feature is, which images count, and what is refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.comparisons import small

from cka_probe import compare
from cka_probe.comparison.regions import BORDER, INTERIOR, compare_regions
from cka_probe.errors import DataError, LayerError
from cka_probe.images.classes import Classes
from cka_probe.images.sample import IGNORE

N = 24


class Labelled:
    """Images of 8 pixels, left half of class 0, right half of class 1; an ignored first row; some without class 1."""

    gives = frozenset({"image", "labels"})
    classes = Classes(("left", "right", "never"))

    def __init__(self, without=()):
        self.images = torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        self.without = without

    def __len__(self):
        return N

    def __getitem__(self, index):
        labels = torch.zeros(8, 8, dtype=torch.int64)
        labels[:, 4:] = 0 if index in self.without else 1
        labels[0] = IGNORE
        return {"image": self.images[index], "labels": labels}

    def image(self, index):
        return self.images[index]

    def describe(self, index):
        return str(index)


def test_a_feature_is_the_mean_over_a_region_weighted_by_its_area():
    x, y, data = small(0).eval(), small(1).eval(), Labelled()
    got = compare_regions(x, y, data, ["left", "right"], layers=["0"], batch=N, permutations=0)
    weights = F.adaptive_avg_pool2d((data[0]["labels"] == 1).float()[None], 6)
    with torch.no_grad():
        means = [(net[0](data.images) * weights).sum((2, 3)) / weights.sum() for net in (x, y)]
    expected = compare(*(features.double() for features in means), batch=N, permutations=0)
    np.testing.assert_allclose(got.results["right"].values, expected.values, atol=1e-6)
    assert abs(got.results["left"].values - got.results["right"].values) > 1e-3
    np.testing.assert_allclose(
        got.differences["right"].values, got.results["right"].values - got.results["left"].values, atol=1e-12
    )
    assert got.differences["right"].how == "paired over images"
    frame = got.to_frame()
    assert [*frame["region"]] == ["left", "right"]
    assert frame["difference_value"].notna().tolist() == [False, True]


def test_a_region_of_all_pixels_is_global_average_pooling():
    class Whole(Labelled):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"labels": torch.zeros(8, 8, dtype=torch.int64)}

    x, y = small(0).eval(), small(1).eval()
    got = compare_regions(x, y, Whole(), ["0"], layers=["0", "1"], batch=N, permutations=0).results["left"]
    expected = compare(x, y, Whole().images, layers=["0", "1"], features="gap", batch=N, permutations=0)
    np.testing.assert_allclose(got.values, expected.values, atol=1e-6)


def test_results_of_regions_are_of_the_same_images_and_settings_as_a_comparison():
    class Whole(Labelled):
        """Images of 8 bits, all of class 0, larger than the models' input."""

        def __init__(self):
            super().__init__()
            self.images = torch.randint(0, 256, (N, 3, 20, 24), generator=torch.Generator().manual_seed(1)) / 255

        def __getitem__(self, index):
            return {"image": self.images[index], "labels": torch.zeros(20, 24, dtype=torch.int64)}

    x, y = small(0).eval(), small(1).eval()
    options = {"layers": ["0", "1"], "batch": 8, "num": 20, "size": 8, "seed": 3, "permutations": 9}
    got = compare_regions(x, y, Whole(), ["0"], **options).results["left"]
    expected = compare(x, y, Whole(), features="gap", **options)
    np.testing.assert_allclose(got.values, expected.values, atol=1e-6)
    np.testing.assert_allclose(got.null, expected.null, atol=1e-6)
    assert got.images["hash"] == expected.images["hash"]
    assert got.settings == expected.settings
    assert got.x.preprocessing == expected.x.preprocessing
    assert (got.x.hash, got.x.notes[0], got.x.notes[-1]) == (
        expected.x.hash,
        expected.x.notes[0],
        "left: 20 of 20 images",
    )


def test_borders_and_interiors_share_the_labelled_pixels():
    from cka_probe.comparison.regions import _Region

    labels = Labelled()[0]["labels"]
    border, interior = (_Region(name).mask(labels)[0] for name in (BORDER, INTERIOR))
    assert torch.equal(border + interior, (labels != IGNORE).float())  # the ignored row makes no border
    assert border[1].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


def test_all_regions_have_the_images_with_every_region():
    data = Labelled(without=range(5))
    got = compare_regions(small(0), small(1), data, ["left", "right"], layers=["0"], batch=8, permutations=0)
    for pair in got.sides.values():
        assert [len(side.images) for side in pair] == [N - 5, N - 5]
    assert f"right: {N - 5} of {N} images" in got.results["right"].x.notes


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        (["lift"], "did you mean 'left'"),
        (["3"], "no region '3'"),
        ([], "expected regions"),
        (["left", "never"], "expected at least 4 images with left and never, found 0 of 24"),
    ],
)
def test_what_is_no_region_is_an_error(regions, message):
    with pytest.raises(DataError, match=message):
        compare_regions(small(0), small(1), Labelled(), regions, layers=["0"], permutations=0)


def test_a_layer_without_positions_is_an_error():
    with pytest.raises(LayerError, match="no positions"):
        compare_regions(small(0), small(1), Labelled(), ["left"], layers=["4"], permutations=0)


def test_layers_of_a_pattern_without_positions_are_left_out_and_named():
    found, named = (
        compare_regions(small(0), small(1), Labelled(), ["left"], layers=layers, permutations=0).results["left"]
        for layers in ("*", ["0", "1", "2"])
    )
    assert [axis.module for axis in found.rows] == ["0", "1", "2"]
    np.testing.assert_array_equal(found.values, named.values)
    assert any("left out: no positions in the image (3, 4)" in warning for warning in found.x.warnings)
    with pytest.raises(LayerError, match="no positions"):
        compare_regions(small(0), small(1), Labelled(), ["left"], layers="[34]", permutations=0)
