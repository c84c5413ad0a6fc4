"""Load a backbone from a file of any origin: read it, recognise it, rename its tensors, check them, and build it.

The file must have every parameter of the architecture, of its shape, and nothing else that looks like a part of the
encoder. A linear classifier is loaded with it; everything else in the file (decoders, other heads, optimisers) is
dropped, and a note says so.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Origin, classifier_from
from cka_probe.models.checkpoint import is_ckaprobe_checkpoint, read_checkpoint
from cka_probe.models.checkpoints.fitting import (
    COUNTER,
    check_fit,
    describe,
    infer_architecture,
    parse_arch,
    shapes_of,
    timm_twin,
)
from cka_probe.models.checkpoints.reading import Contents, read_contents, weights_file
from cka_probe.models.checkpoints.recognising import Encoder, Kind, dropped_note, recognise
from cka_probe.models.checkpoints.windows import find_windows, windows_of_timm
from cka_probe.models.selection import default_layers

Size = tuple[int, int]

CLASSIFIERS = ("fc", "head", "head.fc", "classifier")
"""Names of linear classifiers: of torchvision, of ViTs and Swins, of timm's Swins and ConvNeXts, of transformers."""


def load_file(path: str | Path, *, arch: str | None = None) -> Backbone:
    """Return the backbone in a file of weights, in evaluation mode on the CPU.

    Args:
        path: A file of ckaprobe, SimMIM, Swin-v2, MIM-Depth, SC-Depth, Monodepth2 (or its folder), torchvision, timm,
            MoCo, DINO, DINOv2, Depth Anything or transformers (or its folder).
        arch: `NAME`, `NAME@SIZE` or `NAME@HEIGHTxWIDTH`, with a name in `ARCHITECTURES` or of timm; by default
            inferred from the shapes of the tensors.

    Raises:
        CheckpointError: The file cannot be read, or does not fit.
        UnknownNameError: There is no such architecture.
    """
    file = weights_file(path)
    name, size = parse_arch(file, arch)
    if is_ckaprobe_checkpoint(file):
        return _load_checkpoint(file, name, size)
    contents = read_contents(file)
    twin = name if name is None or name in ARCHITECTURES else timm_twin(name)
    if name is not None and twin is None:
        return _load_with_timm(contents, name, size, str(path))
    encoder, kind = recognise(contents)
    if twin is None:
        twin = infer_architecture(file, encoder.tensors)
    else:
        check_fit(file, encoder.tensors, twin, describe(encoder.tensors))
    options, notes = build_options(contents, encoder, kind, twin, None if name in ARCHITECTURES else name, size)
    architecture = ARCHITECTURES[twin]
    with torch.random.fork_rng(devices=[]):
        model = architecture.build(**options)
    model.load_state_dict(_counters(model) | encoder.tensors)
    classifier, dropped = None, encoder.dropped
    if kind.classifies:
        classifier, dropped = find_classifier(contents.tensors, encoder.prefix, architecture.channels, dropped)
    notes = (*encoder.notes, *notes, *dropped_note(dropped))
    return Backbone(
        model,
        size=options["size"],
        mean=kind.mean,
        std=kind.std,
        layers=architecture.layers,
        origin=Origin(str(path), twin, options, notes),
        classifier=classifier,
    ).eval()


def find_classifier(
    tensors: Mapping[str, Tensor],
    prefix: str,
    features: int,
    dropped: Mapping[str, int],
    names: Sequence[str] = CLASSIFIERS,
) -> tuple[nn.Linear | None, dict[str, int]]:
    """Return the linear classifier in a file, and the dropped groups without its tensors.

    Args:
        tensors: The tensors of the file.
        prefix: What precedes the encoder's names; the classifier's are there, or nearer to the root.
        features: Channels of the pooled features.
        dropped: Groups of tensors that are not of the encoder, with their number.
        names: Names of the classifier to look for, in this order.
    """
    fronts = ["", *accumulate(f"{part}." for part in prefix.split(".")[:-1])]
    for name in [front + name for front in reversed(fronts) for name in names]:
        classifier = classifier_from(tensors, name, features)
        if classifier is not None:
            num = len(list(classifier.parameters()))
            groups = [g for g in dropped if f"{name}.".startswith((f"{g}.", f"{prefix}{g}.")) for _ in range(num)]
            rest = {group: number - groups.count(group) for group, number in dropped.items()}
            return classifier, {group: number for group, number in rest.items() if number > 0}
    return None, dict(dropped)


def _counters(model: nn.Module) -> dict[str, Tensor]:
    """Return the step counters of batch norms, which a file may lack."""
    return {name: value for name, value in model.state_dict().items() if name.endswith(COUNTER)}


def _load_checkpoint(file: Path, name: str | None, size: Size | None) -> Backbone:
    """Return the backbone of a checkpoint of ckaprobe, which records its architecture."""
    try:
        backbone = read_checkpoint(file)[0]
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{file}: expected a checkpoint whose weights fit its header, found others "
            f"({type(error).__name__}: {str(error).splitlines()[-1].strip()}); copy it again, or train it again"
        ) from error
    architecture = backbone.origin.architecture
    if size is not None or name not in (None, architecture):
        raise CheckpointError(
            f"{file}: expected no --arch, for this checkpoint records that it is {architecture} of "
            f"{backbone.origin.options['size']} px; omit --arch"
        )
    return backbone


def build_options(
    contents: Contents,
    encoder: Encoder,
    kind: Kind,
    name: str,
    timm_name: str | None = None,
    size: Size | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the options to build an architecture with, so that it computes the same as the file's model.

    Args:
        contents: The contents of the file.
        encoder: The encoder in it.
        kind: The kind of the file.
        name: The architecture, in `ARCHITECTURES`.
        timm_name: The timm model that the user asked for, if any.
        size: Input height and width that the user asked for, if any.

    Returns:
        The options of its `build`, and notes on assumptions.

    Raises:
        CheckpointError: The model cannot have this input size, or the file contradicts the timm model.
    """
    path, architecture = contents.path, ARCHITECTURES[name]
    if name.startswith("swinv2"):
        options, notes = _swin_options(contents, encoder, name, timm_name, size)
        return options | ({} if kind.norm_eps is None else {"norm_eps": kind.norm_eps}), notes
    options, notes = {"size": encoder.size}, ()
    if size is not None:
        if any(side % architecture.token for side in size):
            raise CheckpointError(
                f"{path}: expected an input size that is a multiple of {architecture.token}, found "
                f"{size[0]}x{size[1]}; {name} has tokens of {architecture.token} px"
            )
        options["size"] = size[0] if size[0] == size[1] else size
    elif encoder.size is None:
        options["size"] = architecture.size
        notes = (f"the file does not say its input size: {architecture.size} px; --arch {name}@SIZE for another",)
    return options | ({"output_stride": kind.output_stride} if kind.output_stride != 32 else {}), notes


def _swin_options(
    contents: Contents, encoder: Encoder, name: str, timm_name: str | None, size: Size | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the size and windows to build a Swin-v2 with, and notes on assumptions."""
    path = contents.path
    if size is not None and size[0] != size[1]:
        raise CheckpointError(f"{path}: expected one number for the size of a Swin-v2, found {size[0]}x{size[1]}")
    windows = find_windows(path, encoder.buffers, contents.values, ARCHITECTURES[name].size)
    model = timm_name or contents.values.get("config.json.architecture")
    timm_windows = windows_of_timm(model) if isinstance(model, str) and timm_twin(model) == name else None
    if timm_windows and not encoder.buffers:
        windows = timm_windows
    elif timm_windows and timm_name and timm_windows.per_stage != windows.per_stage:
        raise CheckpointError(
            f"{path}: expected the windows {timm_windows.per_stage} of {timm_name}, found {windows.per_stage} for "
            f"{windows.size} px in the file; --arch {name} uses those, --arch {name}@SIZE resizes them"
        )
    if size is not None:
        windows = windows.resize(path, size[0])
    return windows.options(), windows.notes


def _load_with_timm(contents: Contents, name: str, size: Size | None, reference: str) -> Backbone:
    """Return a timm model without its head, filled from a file whose tensors have timm's names.

    Args:
        contents: The contents of the file.
        name: Name in timm, without a training tag.
        size: Input height and width that the user asked for, if any.
        reference: The user's name of the file.

    Raises:
        CheckpointError: Tensors of the model are missing, or there are others.
    """
    try:  # a ResNet-34 of Monodepth2, say, keeps the normalisation of Monodepth2
        recognised = recognise(contents)
    except CheckpointError:
        recognised = None
    if recognised is not None and recognised[0].naming != "timm":
        recognised = None
    prefix = recognised[0].prefix if recognised else _best_prefix(contents.tensors, shapes_of(name))
    model = _build_with_timm(contents.path, name, size)
    config = model.pretrained_cfg
    heads = config.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)  # two if distilled
    tensors: dict[str, Tensor] = {}
    dropped: dict[str, int] = {}
    for key, tensor in contents.tensors.items():
        inside = key.startswith(prefix)
        group = key.removeprefix(prefix).rpartition(".")[0] if inside else key.split(".")[0]
        if inside and group not in heads:
            tensors[key.removeprefix(prefix)] = tensor
        else:
            dropped[group] = dropped.get(group, 0) + 1
    description = f"{len(tensors)} tensors under {prefix!r}" if prefix else f"{len(tensors)} tensors"
    check_fit(contents.path, tensors, name, description)
    state = model.state_dict()
    try:
        model.load_state_dict(_counters(model) | {key: value.to(state[key].dtype) for key, value in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(
            f"{contents.path}: expected tensors of the input size that --arch names, found others "
            f"({str(error).splitlines()[-1].strip()}); omit @SIZE"
        ) from error
    classifier = None
    if len(heads) == 1 and (recognised is None or recognised[1].classifies):
        names, features = (*heads, *CLASSIFIERS), model.head_hidden_size
        classifier, dropped = find_classifier(contents.tensors, prefix, features, dropped, names)
    mean, std, note = config["mean"], config["std"], f"input normalised as timm does for {name}"
    if recognised:
        encoder, kind = recognised
        size = size or encoder.size
        if kind.normalisation != "imagenet":
            mean, std, note = kind.mean, kind.std, kind.note
    return Backbone(
        model,
        size=size or tuple(config["input_size"][1:]),
        mean=mean,
        std=std,
        layers=default_layers(model),
        origin=Origin(reference, name, {"size": size} if size else {}, (note, *dropped_note(dropped))),
        classifier=classifier,
    ).eval()


def _best_prefix(tensors: dict[str, Tensor], shapes: dict[str, torch.Size]) -> str:
    """Return the prefix with which most tensors of a model are in a file."""
    first = next(iter(shapes))
    prefixes = [name[: -len(first)] for name in tensors if name == first or name.endswith(f".{first}")]
    return max(prefixes, key=lambda prefix: sum(prefix + name in tensors for name in shapes), default="")


def _build_with_timm(path: Path, name: str, size: Size | None) -> Any:
    """Return a timm model without its head, at another input size if it depends on one."""
    with torch.random.fork_rng(devices=[]):
        if size is not None:
            try:
                return timm.create_model(name, pretrained=False, num_classes=0, img_size=size)
            except TypeError:  # a convolutional network takes any size and has no such argument
                pass
            except Exception as error:
                raise CheckpointError(
                    f"{path}: expected an input size that {name} can take, found {size[0]}x{size[1]} "
                    f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); choose another"
                ) from error
        return timm.create_model(name, pretrained=False, num_classes=0)
