"""The training loop: a batch, a loss, a step. It knows neither the model nor the task.

A batch may be processed in parts whose gradients are averaged. For a loss that is a mean over images this gives the
same step as the whole batch, to rounding, in the memory of one part. Batch norm normalises each part separately, and
means over valid pixels are taken in each part. Several processes share each part. Where their number does not divide
it, some have an image more than others, and gradients are averaged with these numbers as weights.

At intervals the loop writes a row of the log and a resume point; it evaluates at the end. A resumed run continues as if
it had never stopped: weights, optimizer state and step are in the file, and all random numbers of step s follow from
(seed, stage, s). On a CPU the result is the same bit for bit.
"""

import csv
import math
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from accelerate.utils import gather_object
from torch import Tensor, nn

from cka_probe.errors import CkaProbeWarning, OutOfMemoryError, OutputError, TrainingError
from cka_probe.files import atomic_write, disk_errors
from cka_probe.lab.tasks import Task
from cka_probe.lab.tasks.task import least_images
from cka_probe.lab.training.optimizer import OPTIMIZERS, multiplier, parameter_groups
from cka_probe.lab.training.recipe import Stage
from cka_probe.lab.training.sampling import (
    AugmentedDataset,
    Samples,
    batches,
    num_parts,
    reader_errors,
    seed_of,
    step_batches,
)
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoints.pickles import error_line

RESUME_POINTS = ("resume.pt", "resume.previous.pt")
"""The resume point of a stage, and the one before it, which is used where the first is damaged."""

MAX_IDLE_STEPS = 10
"""Steps in a row without a gradient after which training is given up."""


class Log:
    """A CSV file whose first column is `step`.

    Args:
        path: Of the file.
        step: The step of the resume point. Rows after it are removed: an interrupted run wrote them, and the resumed
            run will write them again.
        trackers: Are given all rows too.
        prefix: Of the names that they are given.
    """

    def __init__(self, path: Path, step: int = 0, trackers: Sequence[GeneralTracker] = (), prefix: str = ""):
        self.path, self.trackers, self.prefix = path, trackers, prefix
        if step == 0:
            path.unlink(missing_ok=True)
        elif path.exists():
            try:
                header, *rows = path.read_text("utf-8").splitlines(keepends=True)
                rows = [row for row in rows if row.endswith("\n") and int(row.split(",", 1)[0]) <= step]
            except ValueError as error:
                raise OutputError(f"{path}: expected the log of this stage, found: {error}; delete it") from error
            with atomic_write(path) as temporary:
                temporary.write_text("".join([header, *rows]), "utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row, the first of which determines the columns, and give it to the trackers."""
        rows: list[list] = [] if self.path.exists() else [["step", *values]]
        rows.append([step, *(f"{value:.6g}" for value in values.values())])
        with disk_errors(str(self.path)), self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        for tracker in self.trackers:
            tracker.log({f"{self.prefix}{name}": value for name, value in values.items()}, step=step)


StepCallback = Callable[[str, int, int, Mapping[str, float]], None]
"""Called after each step with the stage's name, the step, the number of steps, and the loss and its parts."""


class Objective(nn.Module):
    """Backbone, head and task as one module from batch to loss, so that processes can share its gradients."""

    def __init__(self, backbone: Backbone, head: nn.Module, task: Task):
        super().__init__()
        self.backbone, self.head, self.task = backbone, head, task

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts, scalars."""
        return self.task.loss(self.backbone, self.head, batch)


class Trainer:
    """One stage, from its resume point if there is one.

    Args:
        stage: Its settings.
        seed: Of the recipe.
        objective: To train, in place.
        samples: (training, validation); the second may be empty.
        accelerator: Device, precision and processes.
        folder: Of the log and the resume point.
    """

    def __init__(
        self,
        stage: Stage,
        seed: int,
        objective: Objective,
        samples: tuple[Samples, Samples],
        accelerator: Accelerator,
        folder: Path,
    ):
        self.stage, self.objective, self.accelerator = stage, objective, accelerator
        self.seed = seed_of(seed, stage.name)
        self.views = AugmentedDataset(samples[0], objective.task, self.seed, train=True)
        self.validation = AugmentedDataset(samples[1], objective.task, seed_of(self.seed, "validation"), train=False)
        self.folder, self.resume_point = folder, folder / RESUME_POINTS[0]
        self.saved = 0  # the step of the resume point
        decay = (stage.weight_decay, stage.layer_decay, stage.undecayed)
        groups = parameter_groups(objective.backbone, objective.head, *decay, decay_all=stage.optimizer == "sgd")
        optimiser = OPTIMIZERS[stage.optimizer](groups)
        self.model, self.optimiser = accelerator.prepare(objective, optimiser)
        processes = accelerator.num_processes
        self.parts = num_parts(stage.batch, stage.accumulate, processes, least_images(objective.task))
        self.part = stage.batch // self.parts  # images over all processes
        self.images = range(self.part)[accelerator.process_index :: processes]  # those of this process
        self.weight = len(self.images) * processes / self.part  # of its means among those of all, 1 on average
        self.step = 0  # number of finished steps
        self.idle_steps = 0  # the last ones, whose gradient was 0
        self.restore()

    def run(
        self, progress: StepCallback | None = None, workers: int = 0, trackers: Sequence[GeneralTracker] = ()
    ) -> None:
        """Train to the last step, and evaluate.

        Args:
            progress: Called after each step, in the main process.
            workers: Number of processes that prefetch.
            trackers: Are given what the logs are given, scores as `validation/NAME`.

        Raises:
            TrainingError: The loss or its gradient is not finite, or the gradient stays 0.
            KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM; a resume point was written.
        """
        if self.step == 0 and self.stage.calibrate:
            self._calibrate(workers)
        if self.accelerator.is_main_process:
            logs = {"log": "", "validation": "validation/"}
            self.log, self.scores = (
                Log(self.folder / f"{name}.csv", self.step, trackers, prefix) for name, prefix in logs.items()
            )
        device = self.accelerator.device
        with stop_requests() as requested, torch.random.fork_rng([device] if device.type == "cuda" else []):
            batch, steps = self.stage.batch, self.stage.steps
            parts = self._batches(self.views, range(self.step * batch, steps * batch), workers)
            while self.step < steps:
                scalars = self._step(parts)
                if self.accelerator.is_main_process and progress is not None:
                    progress(self.stage.name, self.step, self.stage.steps, scalars)
                stop = self._in_any_process(requested())
                self._write(scalars, stop, workers)
                if stop:
                    raise KeyboardInterrupt(
                        f"stopped after step {self.step} of {self.stage.steps} of stage {self.stage.name!r}; "
                        "the same command resumes there"
                    )

    def _step(self, parts: Iterator[dict[str, Tensor]]) -> dict[str, float]:
        """Do one step with the next parts of a batch; return rate, loss, its parts and the gradient's norm."""
        torch.manual_seed(seed_of(self.seed, self.step, self.accelerator.process_index))
        rate = self._set_rate()
        try:
            scalars = self._descend(parts)
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"no room on the device for {len(self.images)} images of "
                f"{self.stage.size} pixels at a time; try {self._smaller()}"
            ) from error
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.stage.clip or math.inf)
        values = torch.stack([*scalars.values(), norm]).tolist()  # one synchronisation with the device
        self._check(values[0], "loss")
        self._check_moves(values[-1])
        if self.accelerator.scaler is None:  # the scaler of fp16 handles infinite gradients
            self._check(values[-1], "gradient")
        self.optimiser.step()
        if self.stage.zero_grad:
            self.optimiser.zero_grad()
        self.step += 1
        return {"lr": rate, **dict(zip([*scalars, "gradient"], values, strict=True))}

    def _descend(self, parts: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Compute the mean gradient of the next parts; return the means of the loss and its parts."""
        count = self.parts
        sums: dict[str, Tensor] = {}
        for number in range(count):
            batch = next(parts)
            # processes share their gradients once a step, with those of the last part
            with self.accelerator.no_sync(self.model) if number + 1 < count else nullcontext():
                loss, named = self.model(batch)
                self.accelerator.backward(loss * (self.weight / count))
            for name, value in {"loss": loss, **named}.items():
                sums[name] = sums.get(name, 0) + value.detach().float() / count
        return sums

    def _smaller(self) -> str:
        """Return settings that need less memory."""
        batch, most = self.stage.batch, self.stage.batch // self.accelerator.num_processes
        more = [number for number in range(self.parts + 1, most + 1) if batch % number == 0]
        return f"--set {self.stage.name}." + (f"accumulate={more[0]}" if more else f"size={self.stage.shape[0] // 2}")

    def _set_rate(self) -> float:
        """Set and return the learning rate of the coming step."""
        stage, step = self.stage, self.step
        if stage.rate_per == "epoch":  # the first step of the epoch
            images = len(self.views.samples)
            step = math.ceil(step * stage.batch // images * images / stage.batch)
        factor = multiplier(step, stage.steps, stage.warmup, stage.schedule, stage.milestones, stage.gamma)
        rate = stage.lr_min + (stage.lr - stage.lr_min) * factor
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        return rate

    def _check(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"stage {self.stage.name!r}, step {self.step + 1}: expected a finite {what}, found {value}; "
                f"try --set {self.stage.name}.lr={self.stage.lr / 3:.1g}, more warmup, or clip=1"
                + ("" if self.stage.precision == "no" else ", or precision=no")
                + (f"; the weights after step {self.saved} are in {self.resume_point}" if self.saved else "")
            )

    def _check_moves(self, gradient: float) -> None:
        """Raise `TrainingError` if the gradient was 0 in each of the last steps: then nothing is learnt."""
        self.idle_steps = self.idle_steps + 1 if gradient == 0.0 else 0
        if self.idle_steps >= min(MAX_IDLE_STEPS, self.stage.steps):
            raise TrainingError(
                f"stage {self.stage.name!r}: expected a gradient that is not 0, found 0 in {self.idle_steps} steps: "
                "nothing in its data counts for the loss (no measured depth, no labels?); check them with `ckaprobe "
                "data check`"
            )

    def _write(self, scalars: Mapping[str, float], stop: bool, workers: int) -> None:
        """Write the log, the scores and the resume point where they are due after this step."""
        stage, last = self.stage, self.step == self.stage.steps
        if self.step % stage.log_every == 0 or self.step == 1 or last:
            values = torch.tensor(list(scalars.values()), device=self.accelerator.device)
            means = self.accelerator.reduce(self.weight * values, "mean").tolist()
            if self.accelerator.is_main_process:
                self.log.write(self.step, dict(zip(scalars, means, strict=True)))
        if (stage.validate_every and self.step % stage.validate_every == 0) or last:
            scores = self.evaluate(workers)
            if self.accelerator.is_main_process and scores:
                self.scores.write(self.step, scores)
        if self.step % stage.save_every == 0 or last or stop:
            self.save()

    def evaluate(self, workers: int = 0) -> dict[str, float]:
        """Return the mean of each of the task's values over the validation images that have it, and its summary."""
        if not len(self.validation.samples):
            return {}
        rows: list[dict[str, float]] = []
        sums: dict[str, Tensor] = {}
        indices = range(len(self.validation.samples))
        modes = {module: module.training for module in self.objective.modules()}
        self.objective.eval()
        with torch.no_grad(), self.accelerator.autocast():
            for batch in self._batches(self.validation, indices, workers):
                values = self.objective.task.evaluate(self.objective.backbone, self.objective.head, batch)
                for name in [name for name, value in values.items() if value.ndim > 1]:
                    sums[name] = sums.get(name, 0) + values.pop(name).double().sum(0).cpu()
                columns = [value.tolist() for value in values.values()]
                rows += [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]
        for module, mode in modes.items():
            module.training = mode
        gathered = gather_object(rows)  # their order does not change an exact sum
        means = {name: _mean([row[name] for row in gathered]) for name in (gathered[0] if gathered else ())}
        parts = gather_object([sums])  # one per process, empty for a process without images
        names = dict.fromkeys(name for part in parts for name in part)
        totals = {name: sum(part[name] for part in parts if name in part) for name in names}
        task: Any = self.objective.task  # tasks with such values have a `summary`
        return means | task.summary(totals) if totals else means

    def _calibrate(self, workers: int) -> None:
        """Take the statistics of the encoder's batch norms from the first batches, with equal weights."""
        norms = [m for m in self.objective.backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        before = [(norm.training, norm.momentum) for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over batches
            norm.train()
        with torch.no_grad():
            for batch in self._batches(self.views, range(self.stage.calibrate * self.stage.batch), workers):
                self.objective.backbone.features(batch["image"])
        for norm, (training, momentum) in zip(norms, before, strict=True):
            norm.training, norm.momentum = training, momentum
            for name in ("running_mean", "running_var"):
                setattr(norm, name, self.accelerator.reduce(self.weight * getattr(norm, name), "mean"))

    def save(self) -> None:
        """Write the resume point, in the main process."""
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = {
                "step": self.step,
                "objective": self.objective.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": {} if scaler is None else scaler.state_dict(),
                "gradients": [] if self.stage.zero_grad else [p.grad for p in self.objective.parameters()],
            }
            with atomic_write(self.resume_point) as temporary:
                torch.save(state, temporary)
                if self.resume_point.exists():
                    os.replace(self.resume_point, self.folder / RESUME_POINTS[1])
        self.saved = self.step
        self.accelerator.wait_for_everyone()

    def restore(self) -> None:
        """Load the resume point, if there is one; where it is damaged, the one before it.

        Raises:
            OutputError: All are damaged.
        """
        paths = [path for name in RESUME_POINTS if (path := self.folder / name).exists()]
        for number, path in enumerate(paths, 1):
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
                self.objective.load_state_dict(state["objective"])
                self.optimiser.load_state_dict(state["optimiser"])
                step = int(state["step"])
                if self.accelerator.scaler is not None:
                    self.accelerator.scaler.load_state_dict(state["scaler"])
                for parameter, gradient in zip(self.objective.parameters(), state.get("gradients", []), strict=False):
                    parameter.grad = None if gradient is None else gradient.to(parameter.device)
                break
            except Exception as error:  # a broken file can fail in any way
                found = f"{path}: expected a resume point of this stage, found: {error_line(error)}"
                if number == len(paths):
                    raise OutputError(f"{found}; delete it to start again") from error
                if self.accelerator.is_main_process:
                    warnings.warn(f"{found}; resuming from {paths[number]}", CkaProbeWarning, stacklevel=2)
        else:
            return
        self.step = self.saved = step

    def _batches(self, views: AugmentedDataset, positions: range, workers: int) -> Iterator[dict[str, Tensor]]:
        """Yield this process's batches, each one part of a step, on its device."""
        accelerator = self.accelerator
        steps = step_batches(positions, self.part, accelerator.process_index, accelerator.num_processes)
        with reader_errors():
            for batch in batches(views, steps, workers, pin=accelerator.device.type == "cuda"):
                yield {name: field.to(accelerator.device, non_blocking=True) for name, field in batch.items()}

    def _in_any_process(self, condition: bool) -> bool:
        """Return whether a condition holds in any process."""
        if self.accelerator.num_processes == 1:
            return condition
        return self.accelerator.reduce(torch.tensor(float(condition), device=self.accelerator.device), "sum").item() > 0


def _mean(values: list[float]) -> float:
    """Return the mean of the values that are not NaN; NaN without any."""
    numbers = [value for value in values if not math.isnan(value)]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Record the first Ctrl-C or SIGTERM, so that the step is finished; the second acts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    requested = threading.Event()

    def restore() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def record(*_: object) -> None:
        requested.set()
        restore()

    for number in handlers:
        signal.signal(number, record)
    try:
        yield requested.is_set
    finally:
        restore()
