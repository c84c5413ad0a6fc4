"""Any other model of timm's, named by `--arch`: its tensors must be in the file under timm's own names."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Size, Tensor, nn

from cka_probe.errors import CheckpointError, UnknownNameError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import IMAGENET_MEAN, Backbone, Origin
from cka_probe.models.checkpoints.reading import Contents
from cka_probe.models.checkpoints.recognising import Encoder, dropped_note, recognise
from cka_probe.models.selection import default_layers
from cka_probe.registry import suggestion


def load_with_timm(contents: Contents, name: str, size: tuple[int, int] | None, reference: str) -> Backbone:
    """Return a timm model, headless, filled from a file.

    Args:
        contents: Of the file.
        name: timm's, without a training tag.
        size: Input height and width, if another than timm's.
        reference: What the user called the file.

    Raises:
        CheckpointError: Not every tensor of the model is there, or others are left over.
    """
    encoder = _known(contents)
    prefix = encoder.prefix if encoder else _prefix(contents.tensors, shapes_of(name))
    model: Any = _build(contents, name, size)
    own, dropped = _own(contents.tensors, prefix, _classifiers(model))
    check_fit(contents.path, own, name, f"{len(own)} tensors under {prefix!r}" if prefix else f"{len(own)} tensors")
    _fill(contents, model, own)
    told = model.pretrained_cfg
    about = encoder.about if encoder is not None and encoder.about.mean != IMAGENET_MEAN else None
    notes = (about.note if about else f"input normalised as timm does for {name}",)
    size = size or (encoder.size if encoder else None)
    return Backbone(
        model,
        size=size or tuple(told["input_size"][1:]),
        mean=about.mean if about else told["mean"],
        std=about.std if about else told["std"],
        layers=default_layers(model),
        origin=Origin(reference, name, {"size": size} if size else {}, notes + dropped_note(dropped)),
    ).eval()


def _fill(contents: Contents, model: nn.Module, own: dict[str, Tensor]) -> None:
    """Put a file's tensors into a model, whose shapes may depend on the input size that was asked for."""
    blank = model.state_dict()
    counters = {name: value for name, value in blank.items() if name.endswith(COUNTER)}
    try:
        model.load_state_dict(counters | {name: value.to(blank[name].dtype) for name, value in own.items()})
    except RuntimeError as error:
        raise CheckpointError(
            f"{contents.path}: expected tensors of the input size that --arch names, found others "
            f"({str(error).splitlines()[-1].strip()}); leave @SIZE out"
        ) from error


def _known(contents: Contents) -> Encoder | None:
    """Return the encoder if it is of a known family: a ResNet-34 of Monodepth2 is still Monodepth2's."""
    try:
        encoder = recognise(contents)
    except CheckpointError:
        return None
    return encoder if encoder.naming == "timm" else None


def _build(contents: Contents, name: str, size: tuple[int, int] | None) -> nn.Module:
    """Return the model, at another input size if it takes one."""
    with torch.random.fork_rng(devices=[]):
        if size is None:
            return timm.create_model(name, pretrained=False, num_classes=0)
        try:
            return timm.create_model(name, pretrained=False, num_classes=0, img_size=size)
        except TypeError:  # a convolutional network takes any size and no such word
            return timm.create_model(name, pretrained=False, num_classes=0)
        except Exception as error:
            raise CheckpointError(
                f"{contents.path}: expected an input size that {name} can take, found {size[0]}x{size[1]} "
                f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); choose another"
            ) from error


def _prefix(tensors: dict[str, Tensor], wanted: dict[str, torch.Size]) -> str:
    """Return what stands in front of most of the wanted names."""
    first = next(iter(wanted))
    fronts = [name[: -len(first)] for name in tensors if name == first or name.endswith(f".{first}")]
    return max(fronts, key=lambda front: sum(front + name in tensors for name in wanted), default="")


def _classifiers(model: Any) -> tuple[str, ...]:
    """Return the names of a timm model's classifiers."""
    names = model.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _own(
    tensors: dict[str, Tensor], prefix: str, classifiers: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return the tensors under the prefix without it, and the number in each group that is dropped."""
    own: dict[str, Tensor] = {}
    dropped: dict[str, int] = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(prefix)
        group = bare.rpartition(".")[0]
        if name.startswith(prefix) and group not in classifiers:
            own[bare] = tensor
        else:
            group = name.split(".")[0] if not name.startswith(prefix) else group
            dropped[group] = dropped.get(group, 0) + 1
    return own, dropped


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
