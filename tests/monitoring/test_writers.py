"""What a monitor logs reaches each tracker, by its real package where that is installed."""

from contextlib import ExitStack

import pytest
from helpers.trackers import Recorder

from cka_probe.errors import CkaProbeError
from cka_probe.monitoring.writers import check_log, open_log

STEPS = {0: {"cka_to_start/layer1.0": 1.0, "cka_to_start/relu:2": 0.5}, 500: {"cka_to_start/layer1.0": 0.25}}


def write(log, folder):
    check_log(log)
    with ExitStack() as closing:
        writer = open_log(log, folder, closing)
        for step, values in STEPS.items():
            writer(values, step)


@pytest.mark.slow
def test_tensorboard(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    write("tensorboard", tmp_path)
    events = accumulators.EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("cka_to_start/layer1.0")] == [(0, 1.0), (500, 0.25)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        write("mlflow", tmp_path)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "cka_to_start/layer1.0")
    assert [(metric.step, metric.value) for metric in history] == [(0, 1.0), (500, 0.25)]


@pytest.mark.slow
def test_wandb(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with pytest.raises(CkaProbeError, match=r"call wandb\.init"):
        write("wandb", tmp_path)
    with wandb.init(mode="offline") as run:
        write("wandb", tmp_path)
        assert run.summary["cka_to_start/layer1.0"] == 0.25
        assert run.summary["cka_to_start/step"] == 500


def test_a_tracker_of_accelerate(tmp_path):
    write(tracker := Recorder("project"), tmp_path)
    assert tracker.calls[-2:] == [("log", step, values) for step, values in STEPS.items()]


def test_a_function(tmp_path):
    calls = []
    write(lambda values, step: calls.append((step, values)), tmp_path)
    assert dict(calls) == STEPS


def test_a_package_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr("cka_probe.monitoring.writers.find_spec", lambda _name: None)
    with pytest.raises(CkaProbeError, match="pip install mlflow"):
        check_log("mlflow")
