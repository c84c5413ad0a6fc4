"""Progress: a callback as it is, a bar on stderr, or nothing."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import cka_probe
from cka_probe.progress import reporting


def test_a_callback_is_called_as_it_is():
    calls = []
    with reporting(lambda *call: calls.append(call)) as progress:
        progress(3, None)
    assert calls == [(3, None)]


@pytest.mark.parametrize("option", [None, False])
def test_nothing_is_drawn_unless_asked_for(option, capfd):
    with reporting(option) as progress:
        progress(0, 2)
        progress(2, 2)
    assert capfd.readouterr() == ("", "")


def test_a_bar_is_drawn_on_stderr_and_closed_after_an_error(capfd):
    bar = reporting(True, "frames")
    progress = bar.__enter__()
    progress(0, 4)
    progress(2, 4)
    with pytest.raises(ValueError, match="half-way"):
        bar.gen.throw(ValueError("half-way"))
    out, err = capfd.readouterr()
    assert out == ""
    assert "frames:" in err
    assert "2/4" in err
    assert err.endswith("\n")


def test_nothing_is_drawn_of_work_that_was_done_before(capfd):
    with reporting(True) as progress:
        progress(4, 4)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_comparison_moves_within_a_batch_and_ends_at_all_images():
    models = [nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)) for _ in "xy"]
    calls = []
    cka_probe.compare(
        *models, torch.randn(24, 6), layers="*", batch=12, permutations=0, progress=lambda *c: calls.append(c)
    )
    assert (calls[0], calls[-1]) == ((0, 24), (24, 24))
    done = [images for images, _ in calls]
    assert all(earlier <= later for earlier, later in pairwise(done))
    assert {14, 16, 18, 20, 22} < set(done)  # three layers of two models, of the second batch
    assert len({count for count in done if count < 12}) > 3  # of the first, some images run in the probe


def test_a_comparison_draws_a_bar(capfd):
    net = nn.Sequential(nn.Linear(6, 5))
    cka_probe.fingerprint(net, torch.randn(8, 6), layers="*", progress=True)
    assert "images:" in capfd.readouterr().err
