"""Where a monitor logs to: TensorBoard, Weights & Biases, MLflow, a logger of a trainer, or a function."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cka_probe import registry
from cka_probe.errors import DataError, MissingExtraError

Write = Callable[[Mapping[str, float], int], None]
"""Logs numbers by name at a step."""

BY_NAME = dict.fromkeys(("tensorboard", "wandb", "mlflow"))
"""What can be given by name, each the name of its package."""


def check_log(log: Any) -> None:
    """Check that what a monitor is to log to exists, and that its package is installed.

    Raises:
        UnknownNameError: There is no such name.
        MissingExtraError: The package is not installed.
        DataError: It is nothing that numbers can be logged to.
    """
    if not isinstance(log, str):
        _write_to(log)
        return
    registry.get(BY_NAME, log, "log")
    if find_spec(log) is None:
        raise MissingExtraError(
            f"log {log!r} needs a package that is not installed; install it with: pip install {log}"
        )


def open_log(log: Any, folder: Path, closing: ExitStack) -> Write:
    """Return a function that logs numbers.

    Args:
        log: A name in `BY_NAME`, or an object, as in `DriftMonitor`.
        folder: For the files of TensorBoard.
        closing: Closes what was opened here.

    Raises:
        DataError: No run of W&B has begun.
    """
    if isinstance(log, str) and log == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        log = closing.enter_context(SummaryWriter(str(folder)))
    elif isinstance(log, str):
        package = import_module(log)
        log = package if log == "mlflow" else package.run
        if log is None:
            raise DataError("expected a run of W&B to log to, found none; call wandb.init before training")
    return _write_to(log)


def _write_to(log: Any) -> Write:
    """Return a function that logs to an object, recognised by its methods."""
    if hasattr(log, "add_scalar"):  # SummaryWriter

        def add_scalars(values: Mapping[str, float], step: int) -> None:
            for name, value in values.items():
                log.add_scalar(name, value, step)

        return add_scalars
    if hasattr(log, "log_metrics"):  # MLflow, loggers of Lightning
        return lambda values, step: log.log_metrics(dict(values), step=step)
    if hasattr(log, "define_metric"):  # W&B, whose own step must not decrease, and is that of the trainer
        return lambda values, step: _log_to_wandb(log, values, step)
    if hasattr(log, "log"):  # trackers of accelerate
        return lambda values, step: log.log(dict(values), step=step)
    if callable(log):
        return lambda values, step: log(values, step)
    raise DataError(
        f"expected {', '.join(BY_NAME)}, a SummaryWriter, a logger or a function to log to, found "
        f"{type(log).__name__}; give one of these"
    )


def _log_to_wandb(run: Any, values: Mapping[str, float], step: int) -> None:
    """Log to a run of W&B, with the step as an axis of its own."""
    axis = f"{next(iter(values)).partition('/')[0]}/step"
    for name in values:
        run.define_metric(name, step_metric=axis)
    run.log({**values, axis: step})
