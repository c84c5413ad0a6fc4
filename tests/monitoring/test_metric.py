"""CKA of two streams of features: the numbers of `compare`, in any order, in any number of processes."""

import pytest
import torch
from helpers.prints import normal, print_of
from helpers.processes import run_in_processes

import cka_probe
from cka_probe.errors import CkaProbeError
from cka_probe.monitoring.metric import CKAMetric


def streams(n=40):
    x = normal(n, 6)
    return x.float(), (x[:, :4] + normal(n, 4, seed=1)).float().view(n, 2, 2)


def metric_of(x, y, sizes, **options):
    metric = CKAMetric(**options)
    for batch in zip(x.split(sizes), y.split(sizes), strict=True):
        metric.update(*batch)
    return metric


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_the_value_is_that_of_a_comparison(estimator):
    x, y = streams()
    sides = [print_of([side.flatten(1)], 16) for side in (x[:32], y[:32])]
    expected = cka_probe.compare_fingerprints(*sides, estimator=estimator, permutations=0).values[0, 0]
    value = metric_of(x[:32], y[:32], [16, 16], estimator=estimator).compute()
    assert value.dtype == torch.float64
    assert abs(value - expected) < 1e-12


def test_batches_of_several_sizes_commute():
    x, y = streams()
    value = metric_of(x, y, [16, 16, 8]).compute()
    other = metric_of(x[24:], y[24:], [8, 8])
    first = metric_of(x[:24], y[:24], [24])
    first.reset()
    first.update(x[:16], y[:16])
    first.update(x[16:32], y[16:32])
    other.reset()
    other.update(x[32:], y[32:])
    for name in ("sum_xy", "sum_xx", "sum_yy"):
        setattr(first, name, getattr(first, name) + getattr(other, name))
    assert abs(first.compute() - value) < 1e-12


def test_a_stream_that_does_not_vary_in_a_batch_is_undefined():
    x, y = streams()
    y[:16] = 1
    assert metric_of(x, y, [16, 24]).compute().isnan()
    y[0] = torch.inf
    assert metric_of(x, y, [16, 24]).compute().isnan()


def test_it_stays_float64_where_models_become_half():
    x, y = streams()
    expected = metric_of(x, y, [40]).compute()
    metric = CKAMetric()
    torch.nn.ModuleList([metric]).half()
    metric.update(x, y)
    assert metric.compute() == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert metric_of(x, y, [40]).compute() == expected


def test_wrong_batches_are_refused():
    x, y = streams()
    for pair in ((x[:3], y[:3]), (x, y[:8]), (x[0, 0], y)):
        with pytest.raises(CkaProbeError, match="at least 4"):
            CKAMetric().update(*pair)
    with pytest.raises(CkaProbeError, match="unbiased"):
        CKAMetric("debiased")


PROGRAM = """
import pathlib, torch
import torch.distributed as dist
from helpers.prints import normal
from cka_probe.monitoring.metric import CKAMetric

dist.init_process_group("gloo")
metric = CKAMetric()
x, y = normal(40, 6).float(), normal(40, 4, seed=1).float()
for number in range(dist.get_rank(), 5, 2):
    metric.update(x[8 * number : 8 * number + 8], y[8 * number : 8 * number + 8])
pathlib.Path(f"{dist.get_rank()}.txt").write_text(str(float(metric.compute())))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_reduce_to_the_value_of_one(tmp_path):
    run_in_processes(PROGRAM, tmp_path)
    expected = metric_of(normal(40, 6).float(), normal(40, 4, seed=1).float(), [8] * 5).compute()
    for rank in (0, 1):
        assert abs(float((tmp_path / f"{rank}.txt").read_text()) - expected) < 1e-12
