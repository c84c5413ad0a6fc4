"""A checkpoint of ours: one safetensors file that can rebuild its model without the command that made it.

Tensors are `backbone.<timm name>` and `head.<name>`; the header carries, as JSON under the key `ckaprobe`:
format, architecture, options of its `build`, mean, std, stage, task, step, seed, the recipe so far, the hash
of the parent checkpoint and the versions that wrote it. Reading executes nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cka_probe import registry
from cka_probe.errors import CheckpointError
from cka_probe.files import atomic_write
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Origin

FORMAT = "ckaprobe-checkpoint/1"


@cache
def versions() -> dict[str, str]:
    """Return the versions that a result or checkpoint was made with."""
    return {name: version(name) for name in ("cka-probe", "torch", "timm")}


@dataclass(frozen=True)
class Checkpoint:
    """What stands in a checkpoint's header.

    Attributes:
        architecture: A name in `ARCHITECTURES`.
        options: Keyword arguments of its `build`.
        mean: Input mean per channel, units of [0, 1].
        std: Input standard deviation per channel.
        stage: Name of the recipe's stage that made it.
        task: What was trained, a name in `TASKS`.
        task_options: Its options, so that the head can be rebuilt too.
        step: Optimiser steps of that stage.
        seed: The recipe's seed.
        recipe: All stages so far, as tables.
        parent: SHA-256 of the checkpoint it started from, "" for a random start.
        versions: Packages and their versions.
        size: Input height and width in pixels where they differ; () is a square, whose side is among the options.
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
        backbone: Its `model`'s state is written in full.
        head: Written under `head.`, if there is one.
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
        del fields["size"]  # as files were written before an image could be wider than high
    header = json.dumps(fields)  # in the order given: a recipe's stages have one
    with atomic_write(path) as beside:
        save_file(tensors, beside, metadata={"ckaprobe": header})
    return file_hash(path)


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_header(path: str | Path) -> Checkpoint | None:
    """Return the header of a checkpoint of ours, or `None` for another safetensors file.

    Raises:
        CheckpointError: The header is of a format this version does not know.
    """
    with safe_open(path, framework="pt") as file:
        header = (file.metadata() or {}).get("ckaprobe")
    if header is None:
        return None
    fields = json.loads(header)
    if fields.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected a checkpoint of format {FORMAT!r}, found {fields.get('format')!r}; "
            "read it with the version of cka-probe that wrote it"
        )
    return Checkpoint(**fields | {name: tuple(fields.get(name, ())) for name in ("mean", "std", "size")})


def read_checkpoint(path: str | Path) -> tuple[Backbone, dict[str, Tensor], Checkpoint]:
    """Rebuild a backbone from its file.

    Returns:
        The backbone in evaluation mode, the head's state by name (empty if there is none), and the header.
    """
    checkpoint = read_header(path)
    if checkpoint is None:
        raise CheckpointError(f"{path}: expected a checkpoint written by `ckaprobe train`, found another file")
    architecture = registry.get(ARCHITECTURES, checkpoint.architecture, "architecture")
    with torch.random.fork_rng(devices=[]):
        model = architecture.build(**checkpoint.options)
    states: dict[str, dict[str, Tensor]] = {"backbone": {}, "head": {}}
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - not a dict
            part, name = key.split(".", 1)
            states[part][name] = file.get_tensor(key)
    model.load_state_dict(states["backbone"])
    origin = Origin(str(path), checkpoint.architecture, checkpoint.options)
    backbone = Backbone(
        model,
        size=_height_width(checkpoint.size or checkpoint.options["size"]),
        mean=checkpoint.mean,
        std=checkpoint.std,
        layers=architecture.layers,
        origin=origin,
    )
    return backbone.eval(), states["head"], checkpoint


def _height_width(size: int | Sequence[int]) -> int | tuple[int, int]:
    """Return a size as a header holds it, a number or a list of two."""
    if isinstance(size, int):
        return size
    height, width = size
    return height, width
