"""Watch how the layers of a model drift while it is trained: fingerprints of the live model over fixed images.

    monitor = cka_probe.DriftMonitor(model, "images/", out="runs/drift", every=500)
    monitor.step(0)  # before the first step: the start, to which later ones are compared
    for step, batch in enumerate(loader, start=1):
        ...
        optimizer.step()
        monitor.step(step)
    monitor.finish()

The drift of a layer is seen in its debiased CKA with the same layer at the start, or in a reference: 1 while it
represents the images as there, up to rotation and scale. The fingerprints show afterwards when each layer reached its
final representation.

The model is neither copied nor changed: modes, gradients, buffers, random numbers and autocast are as before, so the
weights of a training run are the same bits with a monitor and without.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import torch.distributed as dist
from torch import nn

from cka_probe.comparison.compare import compare_fingerprints
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.comparison.sides import UNSET, Options, Unset
from cka_probe.errors import DataError, LayerError, OutputError
from cka_probe.files import atomic_write, check_writable
from cka_probe.models.selection import LayerSpec, recorded_layers
from cka_probe.monitoring.live import LiveModel
from cka_probe.monitoring.writers import Write, check_log, open_log

START, REFERENCE = "start", "reference"
TABLE, FINGERPRINTS = "drift.csv", "fingerprints"
"""Names in the folder of a monitor."""
COLUMNS = ["step", "layer_index", "layer", "value", "low", "high", "undefined"]
NUM = 128
"""Images by default."""


class DriftMonitor:
    """Fingerprints a model every so many steps of its training, and logs the similarity of each layer to the start.

    In a process group, `step` is called in every process. The first one works while the others go on, unless the
    weights lie in several processes, as with `fully_shard`; then all of them run the images.

    Args:
        model: The module that is trained, or a `Backbone` around it that states its size, mean and std. Of
            `DistributedDataParallel`, what is in it.
        images: As in `compare`: a folder, dataset, tensor or loader. They are read once and stay in memory.
        out: Folder for `drift.csv` and `fingerprints/`.
        every: Number of steps from one fingerprint to the next.
        layers: As in `compare`; by default the default layers.
        reference: `start`, which is the first fingerprint, or a fingerprint of the same images or its file. Then its
            settings are used.
        keep: Keep all fingerprints; if False, only that of the start.
        resume: Continue what an earlier run wrote to `out`, from the first step of this one.
        log: Where values go besides `drift.csv`: `tensorboard`, `wandb` or `mlflow`, a `SummaryWriter`, a run of W&B,
            a logger of Lightning, a tracker of accelerate, or a function called as `log(values, step)`; or several of
            these. An undefined layer is left out.
        num: Largest number of images; by default 128.
        batch: Images in a batch; by default 64.
        seed: Seed of the choice of images, and of models that draw random numbers.
        features: `flatten` (default), `gap` or `tokens`.
        precision: `float32` (default), `tf32` or `bfloat16`.
        size: Input size in place of the model's own.
        normalised: The images are normalised floats of the model's input size.
        skip_bad: Skip unreadable images.
        forward_batch: Images in a forward pass; by default those of a batch.

    Attributes:
        table: What `drift.csv` has: step, layer_index, layer, value, low and high (of the 95 % interval), and why a
            layer without a value is undefined.
        logs: What is logged to; more may be added before the first step.

    Raises:
        CkaProbeError: One line: what was expected, what was found, what to do.

    >>> import tempfile, torch
    >>> net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    >>> monitor = DriftMonitor(net, torch.randn(16, 6), layers=["0", "2"], out=tempfile.mkdtemp(), every=2)
    >>> for step in range(4):
    ...     monitor.step(step)
    >>> monitor.finish()
    >>> monitor.table["step"].unique().tolist(), monitor.table["value"].round(6).unique().tolist()
    ([0, 2, 3], [1.0])
    """

    def __init__(
        self,
        model: nn.Module,
        images: Any,
        *,
        out: str | Path,
        every: int = 500,
        layers: LayerSpec = None,
        reference: str | Path | Fingerprint = START,
        keep: bool = True,
        resume: bool = False,
        log: Any = (),
        num: int | Unset | None = UNSET,
        batch: int | Unset | None = UNSET,
        seed: int | Unset = UNSET,
        features: str | Unset = UNSET,
        precision: str | Unset = UNSET,
        size: int | str | Sequence[int] | Unset | None = UNSET,
        normalised: bool | Unset = UNSET,
        skip_bad: bool = False,
        forward_batch: int | None = None,
    ):
        if every < 1:
            raise DataError(f"expected at least 1 step from one fingerprint to the next, found {every}; give more")
        self.out, self.every, self.keep, self.resume = Path(out), every, keep, resume
        self.logs = list(log) if isinstance(log, list | tuple) else [log]
        for each in self.logs:
            check_log(each)
        self.table = pd.DataFrame(columns=COLUMNS)
        self._to = START if reference == START else REFERENCE
        self._reference = None if reference == START else _open(reference)
        self._step, self._measured = -1, -1
        self._writes: list[Write] | None = None
        self._closing = ExitStack()
        num = NUM if num is UNSET and self._reference is None else num
        options = Options(
            num, batch, seed, features, precision, UNSET, size, normalised,
            skip_bad=skip_bad, forward_batch=forward_batch,
        )  # fmt: skip
        self._model = LiveModel(model, images, layers, self._reference, options)
        if _is_main() and not int(os.environ.get("LOCAL_RANK") or 0):  # the process group may not have begun
            check_writable(self.out)
            if not resume and (self.out / TABLE).exists():
                raise OutputError(
                    f"{self.out / TABLE} is of an earlier run; continue it with resume=True, or give another folder"
                )

    def step(self, step: int) -> None:
        """Fingerprint the model if the step is a multiple of `every`, or the first that is given.

        Args:
            step: Number of steps of the optimizer so far. To give it twice does nothing.

        Raises:
            DataError: It is less than the one before.
        """
        if step < self._step:
            raise DataError(
                f"expected steps that increase, found {step} after {self._step}; create a monitor for each training"
            )
        first, changed = self._step < 0, step != self._step
        self._step = step
        if first or (changed and step % self.every == 0):
            self._measure(step)

    def check_model(self, trained: nn.Module) -> None:
        """Check that the model is the one that a trainer trains, or a part of it.

        Raises:
            DataError: It is another one, such as a copy that the trainer created.
        """
        if not self._model.is_part_of(trained):
            raise DataError(
                "expected a monitor of the model that is trained or of a module in it, found one of another "
                f"model than this {type(trained).__name__}; create the monitor with the model of the trainer"
            )

    def finish(self) -> None:
        """Fingerprint the model at the last step, if that was not done, and close what the monitor opened."""
        if self._step != self._measured:
            self._measure(self._step)
        self.close()

    def close(self) -> None:
        """Close what the monitor opened to log to."""
        self._closing.close()
        self._writes = None

    def _measure(self, step: int) -> None:
        """Fingerprint the model, and log its similarity to the reference."""
        first, self._measured = self._measured < 0, step
        if not _is_main() and not self._model.is_distributed:
            return
        fingerprint = self._model.fingerprint(step)
        if not _is_main():
            return
        if first:
            self._begin(step)
        if self.keep or self._reference is None:
            fingerprint.save(self._path(step))
        if self._reference is None:
            self._reference = fingerprint
        self._add(step, compare_fingerprints(*_same_layers(self._reference, fingerprint), permutations=0))

    def _begin(self, step: int) -> None:
        """Forget what an earlier run wrote of this step and later ones, and take its start for this run's."""
        if not self.resume or not (self.out / TABLE).exists():
            return
        self.table = read_table(self.out / TABLE)
        self.table = self.table[self.table["step"] < step]
        paths = sorted((self.out / FINGERPRINTS).glob("step-*.fingerprint"))
        for path in paths:
            if path >= self._path(step):
                path.unlink()
        if self._to == START and len(self.table):
            if not paths or paths[0] >= self._path(step):
                raise OutputError(
                    f"expected the fingerprint of the start in {self.out / FINGERPRINTS}, found none; "
                    "give another folder"
                )
            self._reference = Fingerprint.load(paths[0])

    def _path(self, step: int) -> Path:
        """Return the file of a fingerprint; names are in the order of steps."""
        return self.out / FINGERPRINTS / f"step-{step:09d}.fingerprint"

    def _add(self, step: int, result: SimilarityMatrix) -> None:
        """Add the diagonal of a comparison of the reference with a step to the table and to the logs."""
        where = "at" if self._to == START else "in"
        rows = pd.DataFrame(
            {
                "step": step,
                "layer_index": range(len(result.rows)),
                "layer": [axis.name for axis in result.columns],
                "value": result.values.diagonal(),
                "low": result.low.diagonal(),
                "high": result.high.diagonal(),
                "undefined": [
                    now.undefined or (before.undefined and f"{where} the {self._to}: {before.undefined}")
                    for before, now in zip(result.rows, result.columns, strict=True)
                ],
            }
        )
        self.table = pd.concat([self.table, rows], ignore_index=True) if len(self.table) else rows
        with atomic_write(self.out / TABLE) as temporary:
            self.table.to_csv(temporary, index=False, lineterminator="\n")
        if self._writes is None:
            self._writes = [open_log(log, self.out, self._closing) for log in self.logs]
        # the number of a call, as in relu#2, is not allowed in names of MLflow
        values = {
            f"cka_to_{self._to}/{name.replace('#', ':')}": value
            for name, value in zip(rows["layer"], rows["value"].tolist(), strict=True)
            if value == value
        }
        for write in self._writes if values else ():
            write(values, step)


def read_table(path: str | Path) -> pd.DataFrame:
    """Return the table of a monitor, as in `DriftMonitor.table`.

    Raises:
        OutputError: The file is not of a monitor.
    """
    try:
        table = pd.read_csv(path, dtype=str).fillna({"undefined": ""})
        if list(table.columns) != COLUMNS:
            raise ValueError(f"the columns {', '.join(table.columns)}")
        return table.astype({"step": int, "layer_index": int, "value": float, "low": float, "high": float})
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: expected a {TABLE} of a monitor, found {error}; give another folder") from error


def _open(reference: str | Path | Fingerprint) -> Fingerprint:
    """Return a fingerprint or that of a file."""
    return reference if isinstance(reference, Fingerprint) else Fingerprint.load(reference)


def _same_layers(reference: Fingerprint, fingerprint: Fingerprint) -> tuple[Fingerprint, Fingerprint]:
    """Return both with the layers of the second, which the first has to have."""
    layers = recorded_layers(fingerprint.layers, reference.layers)
    if missing := [name for name in fingerprint.layers.modules if name not in layers.modules]:
        raise LayerError(
            f"the reference {reference.side.reference} has no layer {missing[0]!r}; it has "
            f"{', '.join(reference.layers.modules)}; name layers that both have"
        )
    return reference.subset(layers), fingerprint


def _is_main() -> bool:
    """Return whether this is the first process, or the only one."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
