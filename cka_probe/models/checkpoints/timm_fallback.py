"""Any other model of timm's, named by `--arch`: its tensors must be in the file under timm's own names."""

import timm
import torch
from torch import Tensor, nn

from cka_probe.errors import CheckpointError
from cka_probe.models.backbone import IMAGENET_MEAN, Backbone, Origin
from cka_probe.models.checkpoints.fitting import COUNTER, check_fit, shapes_of
from cka_probe.models.checkpoints.reading import Contents
from cka_probe.models.checkpoints.recognising import Encoder, dropped_note, recognise
from cka_probe.models.selection import default_layers


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
    model = _build(contents, name, size)
    own, dropped = _own(contents.tensors, prefix, _classifiers(model))
    check_fit(contents.path, own, name, f"{len(own)} tensors under {prefix!r}" if prefix else f"{len(own)} tensors")
    _fill(contents, model, own)
    told = model.pretrained_cfg
    own_input = encoder is not None and encoder.about.mean != IMAGENET_MEAN
    notes = (encoder.about.note if own_input else f"input normalised as timm does for {name}",)
    size = size or (encoder.size if encoder else None)
    return Backbone(
        model,
        size=size or tuple(told["input_size"][1:]),
        mean=encoder.about.mean if own_input else told["mean"],
        std=encoder.about.std if own_input else told["std"],
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


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    """Return the names of a timm model's classifiers."""
    names = model.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _own(
    tensors: dict[str, Tensor], prefix: str, classifiers: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return the tensors under the prefix without it, and the number in each group that is dropped."""
    own, dropped = {}, {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(prefix)
        group = bare.rpartition(".")[0]
        if name.startswith(prefix) and group not in classifiers:
            own[bare] = tensor
        else:
            group = name.split(".")[0] if not name.startswith(prefix) else group
            dropped[group] = dropped.get(group, 0) + 1
    return own, dropped
