"""Which architecture a file's tensors fit: by name and shape, all of them or not at all.

Shapes come from building each architecture on torch's `meta` device, where nothing is allocated, so that a new
line in `ARCHITECTURES` is recognised without another word here.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import timm
import torch
from torch import Size, Tensor

from cka_probe.errors import CheckpointError, UnknownNameError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.registry import suggestion

COUNTER = "num_batches_tracked"
"""Counts training steps and decides nothing; torchvision's older files lack it."""


@dataclass(frozen=True)
class Misfit:
    """How tensors differ from an architecture; false if they do not."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.shapes)

    def __str__(self) -> str:
        groups = (("", self.shapes), ("missing ", self.missing), ("unexpected ", self.unexpected))
        return "; ".join(f"{words}{self._first(names)}" for words, names in groups if names)

    @staticmethod
    def _first(names: tuple[str, ...]) -> str:
        return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


@lru_cache(maxsize=64)
def shapes_of(name: str) -> dict[str, Size]:
    """Return the shape of every tensor of an architecture of ours or a headless timm model."""
    with torch.device("meta"):
        if name in ARCHITECTURES:
            model = ARCHITECTURES[name].build(size=ARCHITECTURES[name].size)
        else:
            model = timm.create_model(name, pretrained=False, num_classes=0)
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


def misfit(tensors: dict[str, Tensor], name: str) -> Misfit:
    """Return how tensors differ from an architecture."""
    wanted = shapes_of(name)
    return Misfit(
        tuple(key for key in wanted if key not in tensors and not key.endswith(COUNTER)),
        tuple(key for key in tensors if key not in wanted),
        tuple(
            f"{key} is {tuple(tensors[key].shape)} for {tuple(shape)}"
            for key, shape in wanted.items()
            if key in tensors and tensors[key].shape != shape
        ),
    )


def fitting(tensors: dict[str, Tensor]) -> tuple[str, ...]:
    """Return the names in `ARCHITECTURES` that tensors fit."""
    return tuple(name for name in ARCHITECTURES if not misfit(tensors, name))


def the_one(path: Path, tensors: dict[str, Tensor], what: str) -> str:
    """Return the only architecture that tensors fit.

    Args:
        path: For messages.
        tensors: Under timm's names.
        what: What they look like, for messages.

    Raises:
        CheckpointError: None fits, or more than one.
    """
    names = fitting(tensors)
    if len(names) > 1:
        raise CheckpointError(f"{path}: {what} fits {' and '.join(names)}; choose one with --arch")
    if not names:
        misfits = {name: misfit(tensors, name) for name in ARCHITECTURES}
        nearest = min(misfits, key=lambda name: len(misfits[name]))
        if 10 * len(misfits[nearest]) < len(shapes_of(nearest)):
            raise CheckpointError(
                f"{path}: expected {nearest} whole and nothing else in it, found {misfits[nearest]}; save all of the "
                "encoder's state_dict(), or name another architecture with --arch"
            )
        raise CheckpointError(
            f"{path}: expected one of {', '.join(ARCHITECTURES)}, found {what}; nearest is {nearest}, but "
            f"{misfits[nearest]}; --arch takes the name of any timm model"
        )
    return names[0]


def check_fit(path: Path, tensors: dict[str, Tensor], name: str, what: str) -> None:
    """Raise unless every tensor of an architecture is there, of its shape, and no other.

    Raises:
        CheckpointError: What did not fit, and which architectures do.
    """
    found = misfit(tensors, name)
    if found:
        others = fitting(tensors)
        hint = f"--arch {others[0]} fits" if others else "--arch takes any of ours or the name of any timm model"
        raise CheckpointError(f"{path}: expected {name}, found {what}: {found}; {hint}")


def parse_arch(path: Path, arch: str | None) -> tuple[str | None, tuple[int, int] | None]:
    """Split `NAME`, `NAME@SIZE` or `NAME@HEIGHTxWIDTH`; timm's training tag after a dot is left out.

    Raises:
        UnknownNameError: Neither ours nor timm's.
        CheckpointError: The size is no number of pixels.

    >>> parse_arch(Path("x.pth"), "swinv2_base@256")
    ('swinv2_base', (256, 256))
    """
    if arch is None:
        return None, None
    name, at, size = arch.partition("@")
    name = name.split(".")[0]
    if name not in ARCHITECTURES and not timm.is_model(name):
        raise UnknownNameError(
            f"no architecture {name!r}; {suggestion(name, [*ARCHITECTURES, *timm.list_models()])}There are: "
            f"{', '.join(ARCHITECTURES)}, and every model of timm"
        )
    numbers = size.split("x") if at else []
    if len(numbers) > 2 or not all(number.isdecimal() and int(number) for number in numbers):
        raise CheckpointError(f"{path}: expected --arch NAME@SIZE or NAME@HEIGHTxWIDTH in pixels, found {arch!r}")
    return name, (int(numbers[0]), int(numbers[-1])) if numbers else None
