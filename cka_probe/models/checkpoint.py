"""Checkpoints of ckaprobe: one safetensors file that can rebuild its model without the command that wrote it.

Tensors are named `backbone.<timm name>` and `head.<name>`. The header holds, as JSON under the key `ckaprobe`, the
fields of `Checkpoint`. Reading a file executes nothing of it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cka_probe import registry
from cka_probe.errors import CheckpointError, CkaProbeError, MissingExtraError
from cka_probe.files import atomic_write, read_metadata
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Origin
from cka_probe.models.default_layers import layers_or_default

FORMAT = "ckaprobe-checkpoint/1"


@cache
def versions() -> dict[str, str]:
    """Return the versions that a result or checkpoint was made with."""
    return {name: version(name) for name in ("cka-probe", "torch", "timm")}


@dataclass(frozen=True)
class Checkpoint:
    """The header of a checkpoint.

    Attributes:
        architecture: A name in `ARCHITECTURES`.
        options: Keyword arguments of its `build`.
        mean: Input mean per channel, units of [0, 1].
        std: Input standard deviation per channel.
        stage: Name of the recipe's stage that trained it.
        task: What was trained, a name in `TASKS`.
        task_options: Options of the task, from which the head can be rebuilt.
        step: Optimiser steps of that stage.
        seed: The recipe's seed.
        recipe: All stages up to this one, as tables.
        parent: SHA-256 of the checkpoint it started from, "" for random weights.
        versions: Packages and their versions.
        size: Height and width of the input in pixels where they differ; () for a square, whose side is in `options`.
    """

    architecture: str
    options: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stage: str = ""
    task: str = ""
    task_options: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    seed: int = 0
    recipe: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    versions: dict[str, Any] = field(default_factory=versions)
    size: tuple[int, ...] = ()
    format: str = FORMAT


def save_checkpoint(path: str | Path, backbone: Backbone, head: nn.Module | None, checkpoint: Checkpoint) -> str:
    """Write backbone and head to one file.

    Args:
        path: `*.safetensors`.
        backbone: The state of its `model` is written in full.
        head: Written under `head.`, unless None.
        checkpoint: The header.

    Returns:
        The SHA-256 of the file, for the next stage's `parent`.
    """
    tensors = {f"backbone.{name}": value for name, value in backbone.model.state_dict().items()}
    if head is not None:
        tensors |= {f"head.{name}": value for name, value in head.state_dict().items()}
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    fields = asdict(checkpoint)
    if not checkpoint.size:
        del fields["size"]  # square inputs: the same bytes as before there was this field
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={"ckaprobe": json.dumps(fields)})  # not sorted: stages have an order
    return file_hash(path)


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_header(path: str | Path) -> Checkpoint | None:
    """Return the header of a checkpoint of ckaprobe, or `None` for any other file.

    Raises:
        CheckpointError: There is no such file, it is damaged, or its format is not known to this version.
    """
    with _whole(path):
        return _header(path)


@contextmanager
def _whole(path: str | Path) -> Iterator[None]:
    """Raise `CheckpointError` for whatever a damaged or hostile file makes fail."""
    try:
        yield
    except (CheckpointError, MissingExtraError):
        raise
    except CkaProbeError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:
        found = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise CheckpointError(
            f"{path}: expected a whole file of `ckaprobe train`, found a damaged file ({found}); copy it again"
        ) from error


def _header(path: str | Path) -> Checkpoint | None:
    """Return what `read_header` does; a damaged file fails in any way."""
    if not Path(path).exists():
        raise CheckpointError(f"{path}: expected a file of weights, found no such file; check the path")
    fields = read_metadata(path)
    if not isinstance(fields, dict):
        return None
    if fields.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected a checkpoint of format {FORMAT!r}, found {fields.get('format')!r}; "
            "read it with the version of cka-probe that wrote it"
        )
    header = Checkpoint(**fields | {name: tuple(fields.get(name, ())) for name in ("mean", "std", "size")})
    plain = Checkpoint("", {}, (), ())
    if wrong := [name for name, value in vars(plain).items() if type(getattr(header, name)) is not type(value)]:
        raise TypeError(f"a header with {wrong[0]} {getattr(header, wrong[0])!r}")
    if not all(isinstance(number, int | float) for number in (*header.mean, *header.std, *header.size)):
        raise TypeError(f"a header with mean {header.mean}, std {header.std} and size {header.size}")
    return header


def is_ckaprobe_checkpoint(path: str | Path) -> bool:
    """Return whether a file is a checkpoint of ckaprobe; False for a damaged file, which `read_contents` reports.

    Raises:
        CheckpointError: As in `read_header`.
    """
    try:
        return _header(path) is not None
    except (SafetensorError, ValueError, TypeError, AttributeError):
        return False


def read_checkpoint(path: str | Path) -> tuple[Backbone, dict[str, Tensor], Checkpoint]:
    """Rebuild a backbone from a checkpoint of ckaprobe.

    Returns:
        The backbone in evaluation mode, the head's state by name (empty if there is none), and the header.

    Raises:
        CheckpointError: It is no such file, or a damaged one.
    """
    with _whole(path):
        return _read(path)


def _read(path: str | Path) -> tuple[Backbone, dict[str, Tensor], Checkpoint]:
    """Return what `read_checkpoint` does; a damaged file fails in any way."""
    checkpoint = read_header(path)
    if checkpoint is None:
        raise CheckpointError(f"{path}: expected a checkpoint written by `ckaprobe train`, found another file")
    architecture = registry.get(ARCHITECTURES, checkpoint.architecture, "architecture")
    states: dict[str, dict[str, Tensor]] = {"backbone": {}, "head": {}}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - not a dict
            part, name = key.split(".", 1)
            states[part][name] = file.get_tensor(key)
    blocks = [value for name, value in checkpoint.options.items() if "depth" in name]
    if sum(np.sum(value) for value in blocks) > len(states["backbone"]):
        raise ValueError(f"fewer tensors than blocks in {checkpoint.options}")
    with torch.device("meta"):  # first without memory: options that do not fit the file's tensors may be any number
        state = architecture.build(**checkpoint.options).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if {name: tuple(tensor.shape) for name, tensor in states["backbone"].items()} != shapes:
        raise ValueError(f"tensors of another model than {checkpoint.architecture} with {checkpoint.options}")
    with torch.random.fork_rng(devices=[]):
        model = architecture.build(**checkpoint.options)
    model.load_state_dict(states["backbone"])
    backbone = Backbone(
        model,
        size=checkpoint.size or checkpoint.options["size"],
        mean=checkpoint.mean,
        std=checkpoint.std,
        layers=layers_or_default(architecture.layers, model),
        origin=Origin(str(path), checkpoint.architecture, checkpoint.options),
    )
    return backbone.eval(), states["head"], checkpoint


TASKS = "cka_probe.lab.tasks:TASKS"


@dataclass(frozen=True)
class Trained:
    """A trained model: what `ckaprobe train` wrote for a stage, in evaluation mode on the CPU.

    Attributes:
        backbone: The encoder.
        head: What was trained on top of it.
        task: Applies the two: `task.predict(backbone, head, images)` returns depth, say.
    """

    backbone: Backbone
    head: nn.Module
    task: Any


def load_trained(path: str | Path) -> Trained:
    """Return backbone, head and task from a checkpoint of `ckaprobe train`.

    Raises:
        CheckpointError: The file has no head, is damaged, or is not a checkpoint of ckaprobe.
    """
    backbone, state, header = read_checkpoint(path)
    if not state:
        raise CheckpointError(
            f"{path}: expected a checkpoint with a head, found a backbone alone; train a stage with it"
        )
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in header.task_options.items()}
    with _whole(path):
        task = registry.get(registry.resolve(TASKS), header.task, "task")(backbone.preprocessing.size, **options)
        with torch.random.fork_rng(devices=[]):
            head = task.head(backbone)
        head.load_state_dict(state)
    return Trained(backbone, head.eval(), task)
