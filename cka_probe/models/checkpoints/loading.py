"""Load a backbone from a file of any origin: read it, recognise it, rename its tensors, check them, and build it.

The file must have every parameter of the architecture, of its shape, and nothing else that looks like a part of the
encoder. A linear classifier is loaded with it; everything else in the file (decoders, other heads, optimisers) is
dropped, and a note says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import ARCHITECTURES, VIT, dilate_last_stages
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD, NORMALISATIONS, Backbone, Origin, classifier_from
from cka_probe.models.catalogue import COUNTER, Definition, NoInitialisation, shapes_of
from cka_probe.models.checkpoint import is_ckaprobe_checkpoint, read_checkpoint
from cka_probe.models.checkpoints.adapters import is_adapter, merge_adapter, needs_base
from cka_probe.models.checkpoints.encoders import split_reference
from cka_probe.models.checkpoints.fitting import (
    Arch,
    check_fit,
    describe,
    fitting_architectures,
    infer_architecture,
    no_architecture,
    parse_arch,
    timm_twin,
)
from cka_probe.models.checkpoints.foreign import one_encoder
from cka_probe.models.checkpoints.huggingface import is_transformers_config, load_with_transformers
from cka_probe.models.checkpoints.identifying import Match, filter_of, identify
from cka_probe.models.checkpoints.naming import find_prefixes
from cka_probe.models.checkpoints.openmmlab import apply_settings
from cka_probe.models.checkpoints.reading import Contents, read_contents, weights_file
from cka_probe.models.checkpoints.recognising import (
    Encoder,
    Kind,
    as_float32,
    dropped_note,
    groups_outside,
    normalisation_of,
    recognise,
)
from cka_probe.models.checkpoints.windows import find_windows, windows_of_timm
from cka_probe.models.default_layers import default_layers

Size = tuple[int, int]

CLASSIFIERS = ("fc", "head", "head.fc", "classifier")
"""Names of linear classifiers: of torchvision, of ViTs and Swins, of timm's Swins and ConvNeXts, of transformers."""


def load_file(
    path: str | Path, *, arch: str | None = None, encoder: str | None = None, base: str | Path | None = None
) -> Backbone:
    """Return the backbone in a file of weights, in evaluation mode on the CPU.

    Args:
        path: A file or folder of any origin in docs/models.md.
        arch: `NAME`, `NAME@SIZE` or `NAME@HEIGHTxWIDTH`, with a name in `ARCHITECTURES`, of timm or of torchvision; by
            default identified by the names and shapes of the tensors.
        encoder: Name of the encoder to load from a file with several, as after `FILE#`; see `choose_encoder`.
        base: The model that a LoRA adapter was trained on, a file or folder.

    Raises:
        CheckpointError: The file cannot be read, or does not fit.
        UnknownNameError: There is no such architecture.
    """
    reference, encoder = split_reference(path, encoder)
    file = weights_file(reference)
    request = parse_arch(file, arch)
    if is_ckaprobe_checkpoint(file):
        if encoder is not None:
            raise CheckpointError(f"{file}: expected no name of an encoder, found {encoder!r}; omit it")
        return _load_checkpoint(file, request)
    contents, adapter = _read_with_adapter(file, base)
    contents, naming, choice = one_encoder(contents, encoder)
    backbone = _load_contents(contents, request, str(path))
    if naming is not None:
        naming.apply(backbone)
    apply_settings(backbone, contents)
    backbone.origin = replace(backbone.origin, notes=(*adapter, *choice, *backbone.origin.notes))
    return backbone


def _read_with_adapter(file: Path, base: str | Path | None) -> tuple[Contents, tuple[str, ...]]:
    """Return the contents of a file, an adapter merged into those of its base, and notes on that."""
    contents = read_contents(file)
    if not is_adapter(contents):
        if base is not None:
            raise CheckpointError(f"{file}: expected a LoRA adapter, found a model; omit --base")
        return contents, ()
    if base is None:
        raise needs_base(contents)
    return merge_adapter(contents, read_contents(weights_file(base)))


def _load_contents(contents: Contents, request: Arch | None, reference: str) -> Backbone:
    """Return the backbone in the contents of a file; `reference` is the user's name of it."""
    if request is not None and request.name in VIT:
        from cka_probe.models.checkpoints.vit import load_vit  # for a ViT to be trained alone

        return load_vit(contents, request, reference, _stated_normalisation(contents, None))
    if request is None and is_transformers_config(contents.config):
        return load_with_transformers(contents, reference)
    try:
        known = find_encoder(contents, request)
    except CheckpointError:
        if request is None and "model_type" in contents.config:  # a Swin-v2 or DINOv2 of another size
            return load_with_transformers(contents, reference)
        raise
    if isinstance(known, Match):
        return _load_match(contents, known, request, reference)
    return _load_known(contents, *known, request, reference)


def find_encoder(contents: Contents, request: Arch | None = None) -> Match | tuple[Encoder, Kind, str]:
    """Return the encoder in a file: of `ARCHITECTURES`, with its kind and name, or matched with a library's definition.

    Raises:
        CheckpointError: There is none, or not the one that the user asks for.
    """
    twin = _twin(request)
    if request is not None and twin is None:
        return identify(contents, request.definition)
    try:
        encoder, kind = recognise(contents)
    except CheckpointError as error:
        if twin is not None:
            raise
        return _identify(contents, error)
    if twin is not None:
        check_fit(contents.path, encoder.tensors, twin, describe(encoder.tensors))
    elif not fitting_architectures(encoder.tensors):
        return _identify(contents, no_architecture(contents.path, encoder.tensors))
    return encoder, kind, twin or infer_architecture(contents.path, encoder.tensors)


def _twin(request: Arch | None) -> str | None:
    """Return the name in `ARCHITECTURES` of what the user asks for, `None` if there is none."""
    if request is None:
        return None
    return request.name if request.name in ARCHITECTURES else timm_twin(request.name)


def _identify(contents: Contents, error: CheckpointError) -> Match:
    """Return the definition that a file fits; `error` says why it is none of `ARCHITECTURES`."""
    try:
        return identify(contents)
    except CheckpointError:
        if find_prefixes(contents.tensors):
            raise error from None
        raise


def _load_known(
    contents: Contents, encoder: Encoder, kind: Kind, name: str, request: Arch | None, reference: str
) -> Backbone:
    """Return an encoder of `ARCHITECTURES` with the weights of a file."""
    asked, size = (None, None) if request is None else (request.name, request.size)
    timm_name = None if asked in ARCHITECTURES else asked
    options, notes = build_options(contents, encoder, kind, name, timm_name, size)
    architecture = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]), NoInitialisation():
        model = architecture.build(**options)
    model.load_state_dict(_counters(model) | encoder.tensors)
    classifier, dropped = None, encoder.dropped
    if kind.classifies:
        classifier, dropped = find_classifier(contents.tensors, encoder.prefix, architecture.channels, dropped)
    stated = _stated_normalisation(contents, request) if kind.normalisation == "imagenet" else None
    mean, std, note = stated or (kind.mean, kind.std, "")
    notes = (*encoder.notes, *notes, *([note] if (mean, std) != (kind.mean, kind.std) else []), *dropped_note(dropped))
    return Backbone(
        model,
        size=options["size"],
        mean=mean,
        std=std,
        layers=architecture.layers,
        origin=Origin(reference, name, options, notes),
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


def _load_checkpoint(file: Path, request: Arch | None) -> Backbone:
    """Return the backbone of a checkpoint of ckaprobe, which records its architecture."""
    try:
        backbone = read_checkpoint(file)[0]
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{file}: expected a checkpoint whose weights fit its header, found others "
            f"({type(error).__name__}: {str(error).splitlines()[-1].strip()}); copy it again, or train it again"
        ) from error
    architecture = backbone.origin.architecture
    if request is not None and (request.size is not None or request.name != architecture):
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


def _load_match(contents: Contents, match: Match, request: Arch | None, reference: str) -> Backbone:
    """Return a model of timm or torchvision with the weights of a file.

    Raises:
        CheckpointError: The model cannot have the input size that the user asks for.
    """
    definition = match.definition
    encoder, kind = _kind(contents, match)
    size = match.size if encoder is None else encoder.size or match.size
    if request is not None and request.size is not None:
        size = request.size
    with torch.random.fork_rng(devices=[]), NoInitialisation():
        model = definition.build(size)
    features = definition.detach_classifier(model)
    head = definition.hidden_head
    if headless := bool(head) and not any(name.startswith(f"{head}.") for name in match.tensors):
        model.set_submodule(head, nn.Identity())
    tensors, notes = as_float32(match.tensors)
    tensors, resized = _resized(contents.path, tensors, definition, model)
    state = model.state_dict()  # keeps the version that torchvision's MNASNet needs
    for name, _ in model.named_parameters():
        state.pop(name, None)  # a parameter that is not in the file is an error
    state.update(tensors)
    model.load_state_dict(state)
    classifier, dropped = None, groups_outside(match.prefix, contents.tensors)
    for name in match.head:
        group = name.rpartition(".")[0] or name
        dropped[group] = dropped.get(group, 0) + 1
    if kind is not None and kind.output_stride == 8:
        dilate_last_stages(model)
        notes = (*notes, kind.note)
    if definition.ends_linearly and not headless and (kind is None or kind.classifies):
        names = (*definition.classifiers, *CLASSIFIERS)
        classifier, dropped = find_classifier(contents.tensors, match.prefix, features, dropped, names)
    mean, std, note = _normalisation(contents, match, kind, request)
    return Backbone(
        model,
        size=size or definition.size,
        mean=mean,
        std=std,
        layers=default_layers(model),
        origin=Origin(
            reference,
            definition.name,
            {"size": size} if size else {},
            (*match.notes, *notes, *resized, note, *dropped_note(dropped)),
        ),
        classifier=classifier,
    ).eval()


def _kind(contents: Contents, match: Match) -> tuple[Encoder | None, Kind | None]:
    """Return the encoder and kind of a file of a known project: a ResNet-34 of Monodepth2 is normalised as there."""
    try:
        encoder, kind = recognise(contents)
    except CheckpointError:
        return None, None
    return (encoder, kind) if encoder.prefix == match.prefix else (None, None)


def _resized(
    path: Path, tensors: dict[str, Tensor], definition: Definition, model: nn.Module
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return tensors with their position embeddings resampled to the input size of a model, and a note if they were."""
    shapes = shapes_of(model)
    changed = [name for name, tensor in tensors.items() if tensor.shape != shapes[name]]
    if not changed:
        return tensors, ()
    rename = filter_of(model)
    resized = rename(dict(tensors), model) if rename is not None else tensors
    if any(resized[name].shape != shapes[name] for name in changed):
        raise CheckpointError(
            f"{path}: {changed[0]} is {tuple(tensors[changed[0]].shape)}, and {definition.name} of this size needs "
            f"{tuple(shapes[changed[0]])}; it cannot be resampled here: omit @SIZE"
        )
    lengths = f"{tuple(tensors[changed[0]].shape)} to {tuple(shapes[changed[0]])}"
    return resized, (f"{changed[0]} resampled from {lengths} by timm, for another input size than the file's",)


def _stated_normalisation(
    contents: Contents, request: Arch | None
) -> tuple[tuple[float, ...], tuple[float, ...], str] | None:
    """Return the mean and standard deviation that `config.json` or the training tag of `--arch` states, and a note."""
    config = contents.config.get("pretrained_cfg") or contents.config.get("preprocess_cfg") or {}
    source = "its config.json says"
    if request is not None and request.tag:
        published: Any = timm.get_pretrained_cfg(f"{request.name}.{request.tag}")
        config, source = published.to_dict(), f"timm's weights {request.tag} are"
    if not config.get("mean") or not config.get("std"):
        return None
    return tuple(config["mean"]), tuple(config["std"]), f"input normalised as {source}"


def _normalisation(
    contents: Contents, match: Match, kind: Kind | None, request: Arch | None
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return mean, standard deviation, and a note on where they come from."""
    definition = match.definition
    if stated := _stated_normalisation(contents, request):
        return stated
    if kind is not None and kind.normalisation != "imagenet":
        return kind.mean, kind.std, kind.note
    if evidence := normalisation_of(contents.tensors):
        title, normalisation = evidence
        mean, std = NORMALISATIONS[normalisation]
        return mean, std, f"input normalised as for {title}"
    if definition.library == "torchvision":
        return IMAGENET_MEAN, IMAGENET_STD, "input normalised as torchvision does"
    config, name = definition.config, definition.name
    doubt = f"; {match.twin}, with the same tensors, has others: --arch decides" if match.twin else ""
    return tuple(config["mean"]), tuple(config["std"]), f"input normalised as timm does for {name}{doubt}"
