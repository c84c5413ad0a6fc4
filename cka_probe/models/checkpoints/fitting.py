"""Compare the tensors of a file with those of architectures: every one must be there, of its shape, and no other."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import timm
import torch
import torchvision
from torch import Size, Tensor

from cka_probe.errors import CheckpointError, UnknownNameError
from cka_probe.models.architectures import ARCHITECTURES, SHIFTED, VIT
from cka_probe.models.catalogue import COUNTER, Definition
from cka_probe.registry import suggestion

Misfit = dict[str, list[str]]
"""How tensors differ from an architecture: shapes under "", names under "missing " and "unexpected "; empty if not."""


@lru_cache(maxsize=64)
def shapes_of(name: str) -> dict[str, Size]:
    """Return the shape of every tensor of an architecture in `ARCHITECTURES`, or of a timm model without its head."""
    with torch.device("meta"):
        if name in ARCHITECTURES:
            model = ARCHITECTURES[name].build(size=ARCHITECTURES[name].size)
        else:
            model = timm.create_model(name, pretrained=False, num_classes=0)
    return {key: tensor.shape for key, tensor in model.state_dict().items()}


def misfit(tensors: Mapping[str, Tensor], name: str) -> Misfit:
    """Return how tensors differ from an architecture."""
    shapes = shapes_of(name)
    groups = {
        "": [
            f"{key} is {tuple(tensors[key].shape)} for {tuple(shape)}"
            for key, shape in shapes.items()
            if key in tensors and tensors[key].shape != shape
        ],
        "missing ": [key for key in shapes if key not in tensors and not key.endswith(COUNTER)],
        "unexpected ": [key for key in tensors if key not in shapes],
    }
    return {label: names for label, names in groups.items() if names}


def _format(differences: Misfit) -> str:
    """Return the first difference of each kind and the number of the others."""
    return "; ".join(
        f"{label}{names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for label, names in differences.items()
    )


def fitting_architectures(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the names in `ARCHITECTURES` that tensors fit, but of `SHIFTED` and `VIT`."""
    return tuple(name for name in _recognised() if not misfit(tensors, name))


def _recognised() -> list[str]:
    """Return the architectures that a file is compared with unless the user names one."""
    return [name for name in ARCHITECTURES if name not in SHIFTED and name not in VIT]


def infer_architecture(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Return the only architecture that tensors fit.

    Args:
        path: The file, for messages.
        tensors: By timm's names.

    Raises:
        CheckpointError: They fit none, or more than one.
    """
    names = fitting_architectures(tensors)
    if len(names) == 1:
        return names[0]
    if names:
        raise CheckpointError(f"{path}: {describe(tensors)} fits {' and '.join(names)}; choose one with --arch")
    raise no_architecture(path, tensors)


def no_architecture(path: Path, tensors: Mapping[str, Tensor]) -> CheckpointError:
    """Return the error for tensors that fit none of `ARCHITECTURES`."""
    misfits = {name: misfit(tensors, name) for name in _recognised()}
    counts = {name: sum(map(len, differences.values())) for name, differences in misfits.items()}
    nearest = min(counts, key=counts.__getitem__)
    if 10 * counts[nearest] < len(shapes_of(nearest)):
        return CheckpointError(
            f"{path}: expected {nearest} whole and nothing else in it, found {_format(misfits[nearest])}; save all of "
            "the encoder's state_dict(), or name another architecture with --arch"
        )
    return CheckpointError(
        f"{path}: expected one of {', '.join(_recognised())}, found {describe(tensors)}; nearest is {nearest}, but "
        f"{_format(misfits[nearest])}; --arch takes the name of any timm model"
    )


def check_fit(path: Path, tensors: Mapping[str, Tensor], name: str, description: str) -> None:
    """Check that tensors are exactly those of an architecture.

    Args:
        path: The file, for messages.
        tensors: By timm's names.
        name: The architecture.
        description: What the tensors are, for messages.

    Raises:
        CheckpointError: They are not; the message names an architecture that fits.
    """
    if differences := misfit(tensors, name):
        names = fitting_architectures(tensors)
        hint = f"--arch {names[0]} fits" if names else "--arch takes the name of any timm model"
        raise CheckpointError(f"{path}: expected {name}, found {description}: {_format(differences)}; {hint}")


def describe(tensors: Mapping[str, Tensor]) -> str:
    """Return family, width and depths of a Swin-v2, ResNet or DINOv2, for messages."""
    if "pos_embed" in tensors:
        blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
        positions, width = tensors["pos_embed"].shape[-2:]
        return f"a DINOv2 of width {width}, {len(blocks)} blocks and {positions} positions"
    stages: dict[str, set[str]] = {}
    for name in tensors:
        if match := re.match(r"layers?\.?(\d)\.(?:blocks\.)?(\d+)\.", name):
            stages.setdefault(match[1], set()).add(match[2])
    depths = tuple(len(blocks) for _, blocks in sorted(stages.items()))
    first = tensors.get("patch_embed.proj.weight", tensors.get("conv1.weight"))
    family = "Swin-v2" if "patch_embed.proj.weight" in tensors else "ResNet"
    of_width = f" of width {first.shape[0]}" if first is not None and first.ndim else ""
    return f"a {family}{of_width} and depths {depths}"


@dataclass(frozen=True)
class Arch:
    """An architecture that the user asks for.

    Attributes:
        name: A name in `ARCHITECTURES`, of timm, or of torchvision where timm has none of that name.
        tag: The training tag of timm after a dot, which names published weights and thereby the normalisation; or "".
        size: Input height and width, if asked for.
    """

    name: str
    tag: str = ""
    size: tuple[int, int] | None = None

    @property
    def definition(self) -> Definition:
        """The definition of this name in timm, or in torchvision."""
        return Definition("timm" if timm.is_model(self.name) else "torchvision", self.name)


def check_architecture(name: str) -> None:
    """Raise `UnknownNameError` unless a name is in `ARCHITECTURES`, timm's (with or without a tag) or torchvision's."""
    known = [*ARCHITECTURES, *timm.list_models(), *torchvision.models.list_models(module=torchvision.models)]
    if name.split(".")[0] not in known:
        raise UnknownNameError(
            f"no architecture {name!r}; {suggestion(name, known)}There are: {', '.join(ARCHITECTURES)}, and every "
            "model of timm (timm.list_models()) and torchvision (torchvision.models.list_models())"
        )


def parse_arch(path: Path, arch: str | None) -> Arch | None:
    """Return what `NAME`, `NAME.TAG`, `NAME@SIZE` or `NAME@HEIGHTxWIDTH` asks for; `None` for "auto".

    Raises:
        UnknownNameError: There is no such architecture.
        CheckpointError: The size is not a number of pixels.

    >>> parse_arch(Path("x.pth"), "swinv2_base@256")
    Arch(name='swinv2_base', tag='', size=(256, 256))
    """
    if arch in (None, "auto"):
        return None
    name, at, size = arch.partition("@")
    check_architecture(name)
    numbers = size.split("x") if at else []
    if len(numbers) > 2 or not all(number.isdecimal() and int(number) for number in numbers):
        raise CheckpointError(f"{path}: expected --arch NAME@SIZE or NAME@HEIGHTxWIDTH in pixels, found {arch!r}")
    name, _, tag = name.partition(".")
    tags = [model.partition(".")[2] for model in timm.list_models(f"{name}.*", pretrained=True)] if tag else []
    if tag and tag not in tags:
        known = ", ".join(tags) or "none"
        raise UnknownNameError(f"no weights {tag!r} of {name} in timm; there are: {known}; omit .{tag}")
    return Arch(name, tag, (int(numbers[0]), int(numbers[-1])) if numbers else None)


def timm_twin(name: str) -> str | None:
    """Return the architecture in `ARCHITECTURES` whose tensors are those of a timm model, if there is one.

    >>> timm_twin("swinv2_base_window12to16_192to256")
    'swinv2_base'
    """
    name = name.split(".")[0]
    if not timm.is_model(name) or not name.startswith(("swinv2_", "resnet", "vit_")):
        return None
    shapes = shapes_of(name)
    return next((twin for twin in _recognised() if shapes_of(twin) == shapes), None)
