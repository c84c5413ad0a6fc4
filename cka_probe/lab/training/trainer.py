"""The training loop: a batch, a loss, a step. It knows neither the model nor the task.

A batch may be processed in parts whose gradients are averaged. For a loss that is a mean over images this gives the
same step as the whole batch, to rounding, in the memory of one part. Batch norm sees one part at a time, and a mean
over valid pixels weighs them part by part.

At intervals the loop writes a row of the log and a resume point; it evaluates at the end. A resumed run continues as if
it had never stopped: weights, optimizer state and step are in the file, and all randomness of step s follows from
(seed, stage, s). On a CPU the result is the same bit for bit.
"""

import csv
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from cka_probe.errors import OutOfMemoryError, OutputError, RecipeError, TrainingError
from cka_probe.files import atomic_write
from cka_probe.lab.tasks import Task
from cka_probe.lab.training.optimizer import adamw, multiplier, parameter_groups
from cka_probe.lab.training.recipe import Stage
from cka_probe.lab.training.sampling import AugmentedDataset, Samples, StepBatchSampler, batches, seed_of
from cka_probe.models.backbone import Backbone


class Log:
    """A CSV file whose first column is `step`.

    Args:
        path: Where it is.
        step: Rows after this step are taken out: they belong to a run that was interrupted after its last
            resume point, and will be written again.
    """

    def __init__(self, path: Path, step: int = 0):
        self.path = path
        if step == 0:
            path.unlink(missing_ok=True)
        elif path.exists():
            head, *rows = path.read_text("utf-8").splitlines(keepends=True)
            kept = [row for row in rows if row.endswith("\n") and int(row.split(",", 1)[0]) <= step]
            with atomic_write(path) as beside:
                beside.write_text("".join([head, *kept]), "utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row; the first one decides the columns."""
        try:
            new = not self.path.exists()
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                if new:
                    writer.writerow(["step", *values])
                writer.writerow([step, *(f"{value:.6g}" for value in values.values())])
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; free space and run again") from error


StepCallback = Callable[[str, int, int, Mapping[str, float]], None]
"""Called after each step with the stage's name, the step, the steps there are, and the loss and its parts."""


class Objective(nn.Module):
    """Backbone, head and task as one module from batch to loss, so that processes can share its gradients."""

    def __init__(self, backbone: Backbone, head: nn.Module, task: Task):
        super().__init__()
        self.backbone, self.head, self.task = backbone, head, task

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts, scalars."""
        return self.task.loss(self.backbone, self.head, batch)


class Trainer:
    """One stage.

    Args:
        stage: What to do.
        seed: Of the recipe.
        objective: What to train; on return of `run` it is trained.
        samples: (training, validation); the second may be empty.
        accelerator: Device, precision, processes.
        folder: For the log and the resume point.
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
        self.folder, self.resume_point = folder, folder / "resume.pt"
        decay = (stage.weight_decay, stage.layer_decay, stage.undecayed)
        groups = parameter_groups(objective.backbone, objective.head, *decay)
        self.model, self.optimiser = accelerator.prepare(objective, adamw(groups))
        self.step = 0  # steps that are done

    def run(self, progress: StepCallback | None = None, workers: int = 0) -> None:
        """Train from the resume point, or from the start, to the last step, and evaluate.

        Args:
            progress: Called after each step, in the main process.
            workers: Processes that read ahead.

        Raises:
            TrainingError: The loss or its gradient is no longer a number.
            KeyboardInterrupt: Stopped by Ctrl-C or SIGTERM; a resume point was written.
        """
        self.restore()
        if self.step == 0 and self.stage.calibrate:
            self._calibrate(workers)
        if self.accelerator.is_main_process:
            self.log, self.scores = (Log(self.folder / f"{name}.csv", self.step) for name in ("log", "validation"))
        with asked_to_stop() as stop, torch.random.fork_rng(self._cuda()):
            parts = self._batches(self.views, self._positions(), workers)
            while self.step < self.stage.steps:
                scalars = self._step(parts)
                if self.accelerator.is_main_process and progress is not None:
                    progress(self.stage.name, self.step, self.stage.steps, scalars)
                stopping = self._anywhere(stop())
                self._write(scalars, stopping, workers)
                if stopping:
                    raise KeyboardInterrupt(
                        f"stopped after step {self.step} of {self.stage.steps} of stage {self.stage.name!r}; "
                        "the same command goes on from there"
                    )

    def _step(self, parts: Iterator[dict[str, Tensor]]) -> dict[str, float]:
        """Do one step with the next parts of a batch; return the loss, its parts and the gradient's length."""
        torch.manual_seed(seed_of(self.seed, self.step, self.accelerator.process_index))
        rate = self._set_rate()
        try:
            scalars = self._descend(parts)
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"no room on the device for {self.stage.batch // self.stage.accumulate} images of "
                f"{self.stage.size} pixels at a time; try {self._smaller()}"
            ) from error
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.stage.clip or math.inf)
        values = torch.stack([*scalars.values(), norm]).tolist()  # the device is waited for once, not once for each
        self._check(values[0], "loss")
        if self.accelerator.scaler is None:  # with fp16 a gradient too large is met by a smaller scale
            self._check(values[-1], "gradient")
        self.optimiser.step()
        if self.stage.zero_grad:
            self.optimiser.zero_grad()
        self.step += 1
        return {"lr": rate, **dict(zip([*scalars, "gradient"], values, strict=True))}

    def _descend(self, parts: Iterator[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Leave the mean gradient of the next parts in the weights; return the means of the loss and its parts."""
        count = self.stage.accumulate
        sums: dict[str, Tensor] = {}
        for number in range(count):
            batch = next(parts)
            # processes share their gradients once a step, with those of the last part
            alone = self.accelerator.no_sync(self.model) if number + 1 < count else nullcontext()
            with alone:
                loss, named = self.model(batch)
                self.accelerator.backward(loss / count)
            for name, value in {"loss": loss, **named}.items():
                sums[name] = sums.get(name, 0) + value.detach().float() / count
        return sums

    def _smaller(self) -> str:
        """Return what to set so that less is on the device at a time."""
        share, now = self.stage.batch // self.accelerator.num_processes, self.stage.accumulate
        more = [parts for parts in range(now + 1, share + 1) if share % parts == 0]
        return f"--set {self.stage.name}." + (f"accumulate={more[0]}" if more else f"size={self.stage.shape[0] // 2}")

    def _set_rate(self) -> float:
        """Set and return the learning rate of the coming step."""
        stage = self.stage
        step = self.step
        if stage.rate_per == "epoch":  # the first step that begins in the epoch that this one begins in
            images = len(self.views.samples)
            step = math.ceil(step * stage.batch // images * images / stage.batch)
        factor = multiplier(step, stage.steps, stage.warmup, stage.schedule)
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
            )

    def _write(self, scalars: Mapping[str, float], stopping: bool, workers: int) -> None:
        """Write whatever is due after this step."""
        stage, last = self.stage, self.step == self.stage.steps
        if self.step % stage.log_every == 0 or self.step == 1 or last:
            names = list(scalars)
            values = torch.tensor(list(scalars.values()), device=self.accelerator.device)
            mean = self.accelerator.reduce(values, "mean")
            if self.accelerator.is_main_process:
                self.log.write(self.step, dict(zip(names, mean.tolist(), strict=True)))
        if (stage.validate_every and self.step % stage.validate_every == 0) or last:
            scores = self.evaluate(workers)
            if self.accelerator.is_main_process and scores:
                self.scores.write(self.step, scores)
        if self.step % stage.save_every == 0 or last or stopping:
            self.save()

    def evaluate(self, workers: int = 0) -> dict[str, float]:
        """Return each of the task's values, averaged over the validation images that have it, and its summary."""
        if not len(self.validation.samples):
            return {}
        rows: list[tuple[int, dict[str, float]]] = []
        sums: dict[str, Tensor] = {}
        indices = range(len(self.validation.samples))
        mine = indices[self.accelerator.process_index :: self.accelerator.num_processes]
        modes = {module: module.training for module in self.objective.modules()}
        self.objective.eval()
        with torch.no_grad(), self.accelerator.autocast():
            for batch in self._batches(self.validation, indices, workers):
                values = self.objective.task.evaluate(self.objective.backbone, self.objective.head, batch)
                for name in [name for name, value in values.items() if value.ndim > 1]:
                    sums[name] = sums.get(name, 0) + values.pop(name).double().sum(0).cpu()
                columns = {name: value.tolist() for name, value in values.items()}
                for place in range(len(batch["image"])):
                    rows.append((mine[len(rows)], {name: column[place] for name, column in columns.items()}))
        for module, mode in modes.items():
            module.training = mode
        # in the order of the images, so that the sum is the same for any number of processes
        gathered = [row for _, row in sorted(gather_object(rows), key=lambda row: row[0])]
        means = {name: _mean([row[name] for row in gathered]) for name in gathered[0]}
        parts = gather_object([sums])  # of every process, also of one that had no image
        names = dict.fromkeys(name for part in parts for name in part)
        whole = {name: sum(part[name] for part in parts if name in part) for name in names}
        task: Any = self.objective.task  # those with such values have a `summary`
        return means | task.summary(whole) if whole else means

    def _calibrate(self, workers: int) -> None:
        """Take the statistics of the encoder's batch norms from the first batches, each counting alike."""
        norms = [m for m in self.objective.backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        before = [(norm.training, norm.momentum) for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over batches
            norm.train()
        positions = range(self.stage.calibrate * self.stage.batch)
        with torch.no_grad():
            for batch in self._batches(self.views, positions, workers):
                self.objective.backbone.features(batch["image"])
        for norm, (training, momentum) in zip(norms, before, strict=True):
            norm.training, norm.momentum = training, momentum
            for name in ("running_mean", "running_var"):
                setattr(norm, name, self.accelerator.reduce(getattr(norm, name), "mean"))

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
            with atomic_write(self.resume_point) as beside:
                torch.save(state, beside)
        self.accelerator.wait_for_everyone()

    def restore(self) -> None:
        """Go to the resume point, if there is one."""
        if not self.resume_point.exists():
            return
        try:
            state = torch.load(self.resume_point, map_location="cpu", weights_only=True)
            self.objective.load_state_dict(state["objective"])
            self.optimiser.load_state_dict(state["optimiser"])
        except Exception as error:  # a broken file can fail in any way
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise OutputError(
                f"{self.resume_point}: expected a resume point of this stage, found: {first}; delete it to begin anew"
            ) from error
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        for parameter, gradient in zip(self.objective.parameters(), state.get("gradients", []), strict=False):
            parameter.grad = None if gradient is None else gradient.to(parameter.device)
        self.step = state["step"]

    def _positions(self) -> range:
        """Return the positions that are left."""
        batch, parts = self.stage.batch, self.stage.accumulate
        processes = self.accelerator.num_processes
        if batch % (processes * parts):
            where = f"stages.{self.stage.name}.batch"
            times = f"{processes} processes" + (f" times {parts} parts" if parts > 1 else "")
            raise RecipeError(f"{where}: expected a multiple of the {times}, found {batch}")
        return range(self.step * batch, self.stage.steps * batch)

    def _batches(self, views: AugmentedDataset, positions: range, workers: int) -> Iterator[dict[str, Tensor]]:
        """Return this process's batches, on its device: as many positions at a time as a part of a step has."""
        accelerator = self.accelerator
        part = self.stage.batch // self.stage.accumulate
        steps = StepBatchSampler(positions, part, accelerator.process_index, accelerator.num_processes)
        for loaded in batches(views, steps, workers, pin=accelerator.device.type == "cuda"):
            yield {name: field.to(accelerator.device, non_blocking=True) for name, field in loaded.items()}

    def _anywhere(self, here: bool) -> bool:
        """Return whether something holds in any process."""
        if self.accelerator.num_processes == 1:
            return here
        return self.accelerator.reduce(torch.tensor(float(here), device=self.accelerator.device), "sum").item() > 0

    def _cuda(self) -> list[torch.device]:
        return [self.accelerator.device] if self.accelerator.device.type == "cuda" else []


def _mean(values: list[float]) -> float:
    """Return the mean of what is a number; NaN if nothing is."""
    numbers = [value for value in values if not math.isnan(value)]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C or SIGTERM instead of dying in the middle of a step; the second acts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    asked = threading.Event()

    def note(*_: object) -> None:
        asked.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        restore()
