"""One batch of all images with flattened features on disk, against the same batch of Grams in memory."""

from collections import namedtuple
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import nn

from cka_probe import Backbone, compare
from cka_probe.comparison import stored
from cka_probe.errors import CkaProbeWarning, DataError, OutputError
from cka_probe.similarity import ESTIMATORS, cka_cells


def network(seed=0, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 3)).eval()


IMAGES = torch.rand(90, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def small_blocks(monkeypatch):
    """Read 64 features together, multiply 16 rows, and compute 32 rows together."""
    for name, value in (("WIDTH", 64), ("STEP", 16), ("ROWS_BYTES", 32 * 8 * 90)):
        monkeypatch.setattr(stored, name, value)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_flattened_features_on_disk_have_the_values_and_intervals_of_grams_in_memory(small_blocks, estimator, tmp_path):
    options = {"layers": ["0", "1", "2"], "layers_y": ["1", "2"], "estimator": estimator}
    with pytest.warns(CkaProbeWarning, match=r"taking 0\.00\d+ GiB of disk in .* for features and Grams of 90 images"):
        disk = compare(network(), network(1, 5), IMAGES, batch="all", **options)
    memory = compare(network(), network(1, 5), IMAGES, batch=90, **options)
    for name in ("values", "low", "high"):
        np.testing.assert_allclose(getattr(disk, name), getattr(memory, name), atol=1e-6)  # the forward passes round
    np.testing.assert_allclose([axis.rms for axis in disk.rows], [axis.rms for axis in memory.rows], rtol=1e-6)
    np.testing.assert_allclose(disk.null, memory.null, atol=0.02)
    assert disk.images == memory.images
    assert disk.settings["batch"] == "all"
    assert disk.settings["null"] == "Pearson type III"


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_values_are_those_of_float64_grams_to_the_eighth_digit(small_blocks, estimator, tmp_path):
    x, y = torch.randn(90, 200) + 30, torch.randn(90, 70).bfloat16()
    stack = ExitStack()
    files = stored.StoredFeatures(total=90, seed=0, files=stack, folder=tmp_path)
    parts = [([x[rows]], [y[rows]]) for rows in torch.arange(90).split([31, 40, 19])]
    with pytest.warns(CkaProbeWarning):
        files.add(*parts[0])
    files.add(*parts[1])
    files.add(*parts[2])
    hsic = ESTIMATORS[estimator]
    grams = [(side.double() - side.double().mean(0)) @ (side.double() - side.double().mean(0)).mT for side in (x, y)]
    exact = cka_cells([grams[0][None]], [grams[1][None]], hsic, permutations=5000, seed=0, per_image=1)
    with stack:
        cells = files.cells(hsic)
    for name in ("values", "low", "high"):
        torch.testing.assert_close(getattr(cells, name), getattr(exact, name), atol=1e-8, rtol=0)
    assert float(cells.null) == pytest.approx(float(exact.null), abs=0.003)
    assert not list(tmp_path.iterdir())


def test_layers_without_a_value_and_one_model_on_both_sides(small_blocks):
    x = network()
    x[0].weight.data[:] = torch.nan
    y = network(1)
    y[2].weight.data[:] = 0
    with pytest.warns(CkaProbeWarning):
        result = compare(x, y, IMAGES, layers="*", batch="all")
    assert [axis.undefined for axis in result.rows] == ["it puts out NaN or infinite values"] * 3
    assert [axis.undefined for axis in result.columns] == ["", "", "it is the same for every image"]
    assert np.isnan(result.values).all()
    counts: list[tuple[int, int | None]] = []
    with pytest.warns(CkaProbeWarning, match="taking"):
        twice = compare(y, y, IMAGES, layers=["0", "1"], batch="all", progress=lambda *count: counts.append(count))
    np.testing.assert_allclose(twice.values.diagonal(), 1)
    assert {total for _, total in counts} == {180}
    done = [count for count, _ in counts]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 180)
    assert 90 in done


def test_memory_order_that_changes_between_batches_changes_nothing(small_blocks):
    class Turning(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.calls = network()[0], 0

        def forward(self, images):
            self.calls += 1
            turned = torch.channels_last if self.calls % 2 else torch.contiguous_format
            return self.convolution(images.contiguous(memory_format=turned))

    with pytest.warns(CkaProbeWarning):
        turning = compare(Turning(), network(), IMAGES, layers=["convolution"], layers_y=["0"], batch="all")
    np.testing.assert_allclose(turning.values, 1, atol=1e-6)


def test_too_little_space_an_unknown_number_and_other_sizes_are_refused(monkeypatch):
    free = namedtuple("Usage", "free")
    monkeypatch.setattr(stored, "disk_usage", lambda _: free(1000))
    with pytest.raises(OutputError, match=r"expected .* GiB of disk in .*, found 9.31e-07 GiB free; free some, "):
        compare(network(), network(1), IMAGES, batch="all")
    with pytest.raises(DataError, match="expected images whose number is known"):
        compare(network(), network(1), iter(IMAGES), batch="all", num=None)
    monkeypatch.undo()
    images = [*IMAGES[:64], *torch.rand(20, 3, 10, 10)]
    nets = [Backbone(network(seed), mean=(0.0,), std=(1.0,)) for seed in range(2)]
    with (
        pytest.warns(CkaProbeWarning),
        pytest.raises(DataError, match="expected layers of 600 features for every"),
    ):
        compare(*nets, images, layers=["0"], batch="all")
