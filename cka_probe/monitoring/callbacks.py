"""A monitor as a callback of Lightning's `Trainer`, or of that of Hugging Face Transformers.

Each package is imported when its callback is asked for.
"""

import sys
from importlib import import_module
from typing import Any

from cka_probe.errors import MissingExtraError
from cka_probe.monitoring.monitor import DriftMonitor

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
"""The names of Lightning, one package under two names: that of the trainer counts."""


def lightning_callback(monitor: DriftMonitor) -> Any:
    """Return a monitor as a callback of Lightning, which logs to the loggers of the trainer as well.

    The model of the monitor is the `LightningModule` or, where its `forward` is not that of the network, the network
    in it. Steps are those of the optimizers, `trainer.global_step`. Give the monitor `resume=True` if the training may
    resume from a checkpoint.

    Args:
        monitor: The monitor.

    Raises:
        MissingExtraError: Lightning is not installed.

    Example:
        monitor = cka_probe.DriftMonitor(module.backbone, "images/", out="runs/drift")
        trainer = lightning.Trainer(callbacks=[cka_probe.lightning_callback(monitor)])
    """
    package = next((name for name in LIGHTNING if name in sys.modules), LIGHTNING[0])
    Callback: Any = _imported(package).Callback

    class DriftCallback(Callback):
        """Calls the monitor at the start, after each batch and at the end of the training."""

        def on_train_start(self, trainer: Any, module: Any) -> None:
            monitor.check_model(module)
            monitor.logs += [logger for logger in trainer.loggers if logger not in monitor.logs]
            monitor.step(trainer.global_step)

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            monitor.step(trainer.global_step)

        def on_train_end(self, _trainer: Any, _module: Any) -> None:
            monitor.finish()

        def on_exception(self, *_: Any) -> None:
            monitor.close()

    return DriftCallback()


def transformers_callback(monitor: DriftMonitor) -> Any:
    """Return a monitor as a `TrainerCallback` of Hugging Face Transformers.

    Give the monitor `resume=True` if the training may resume from a checkpoint, and as `log` what the trainer reports
    to: `tensorboard`, `wandb` or `mlflow`.

    Args:
        monitor: The monitor; its model is that of the trainer, or a module in it.

    Raises:
        MissingExtraError: Transformers is not installed.

    Example:
        monitor = cka_probe.DriftMonitor(model, "images/", out="runs/drift", log="wandb")
        trainer = transformers.Trainer(model, args, callbacks=[cka_probe.transformers_callback(monitor)])
    """
    TrainerCallback: Any = _imported("transformers").TrainerCallback

    class DriftCallback(TrainerCallback):
        """Calls the monitor at the start, after each step and at the end of the training."""

        def on_train_begin(self, _args: Any, state: Any, _control: Any, model: Any = None, **_: Any) -> None:
            monitor.check_model(model)
            monitor.step(state.global_step)

        def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            monitor.step(state.global_step)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            monitor.finish()

    return DriftCallback()


def _imported(module: str) -> Any:
    """Return a module.

    Raises:
        MissingExtraError: Its package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise
        raise MissingExtraError(
            f"this needs the package {package}, which is not installed; run: pip install {package}"
        ) from error
