"""Identify the model definition of timm or torchvision that a file's tensors belong to, by evidence.

1. Names and shapes: every tensor of the encoder must be in the file, of its shape, and none may be left over in it.
   Files in the names of the original code (CLIP, SAM, ConvNeXt, Swin, DINOv3 …) are renamed by timm's own filters.
2. Of definitions that have the same tensors and compute the same, the plain one is taken. A note names another whose
   inputs are normalised differently.
3. Of definitions that have the same tensors and compute different things, the one is taken that the file records
   (`arch`, `config.json`) or that its name starts with. Otherwise `--arch` decides.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from torch import Size, Tensor, nn

from cka_probe.errors import CheckpointError
from cka_probe.models.catalogue import (
    COUNTER,
    POSITIONS,
    Definition,
    candidates,
    computation,
    nearest_definition,
    shapes_of,
    signatures,
)
from cka_probe.models.checkpoints.reading import Contents
from cka_probe.models.checkpoints.recognising import DROPPABLE
from cka_probe.models.checkpoints.windows import BUFFERS

BESIDES = (
    DROPPABLE
    | {"decoder_blocks", "decoder_embed", "decoder_norm", "decoder_pos_embed", "decoder_pred"}
    | {"pre_logits", "heads", "aux1", "aux2", "AuxLogits", "projection_head", "projector", "predictor", "logit_scale"}
)
"""Groups of tensors next to those of an encoder that are not part of it: classifiers, decoders, projections."""

VARIANTS = re.compile(r"resnet(aa|blur)|_(aa|blur)_|_pruned|_distilled")
"""Names of definitions that are rare next to a plain one with the same tensors."""


OF_OPENAI = {"input_resolution", "context_length", "vocab_size"}
"""Numbers in the state dict of OpenAI's own CLIP, whose activation is QuickGELU; open_clip removes them."""


@dataclass(frozen=True)
class Original:
    """Names of an encoder in its authors' own code, which a filter of timm changes to timm's.

    Attributes:
        title: Name for people.
        anchor: A tensor that only files of this kind have.
        stem: The weight of its first convolution.
        models: Names of timm's definitions, as a glob.
    """

    title: str
    anchor: str
    stem: str
    models: str


ORIGINALS = (
    Original("CLIP (ViT)", "visual.class_embedding", "visual.conv1.weight", "vit_*_clip_*"),
    Original("CLIP (ResNet)", "visual.attnpool.positional_embedding", "visual.conv1.weight", "resnet*_clip*"),
    Original("SAM", "image_encoder.neck.0.weight", "image_encoder.patch_embed.proj.weight", "samvit_*"),
    Original("ConvNeXt", "downsample_layers.0.0.weight", "downsample_layers.0.0.weight", "convnext*"),
    Original("Swin", "layers.0.downsample.reduction.weight", "patch_embed.proj.weight", "swin_*"),
    Original("DINOv3 (ViT)", "storage_tokens", "patch_embed.proj.weight", "vit_*_dinov3*"),
    Original("PVT v2", "block1.0.mlp.dwconv.dwconv.weight", "patch_embed1.proj.weight", "pvt_v2_*"),
    Original("DINOv2", "register_tokens", "patch_embed.proj.weight", "vit_*_reg4_dinov2"),
    Original("DINOv2", "blocks.0.mlp.w12.weight", "patch_embed.proj.weight", "vit_giant_patch14*dinov2"),
)
"""From the most to the least specific."""


@dataclass(frozen=True)
class Match:
    """An encoder in a file and the definition that it fits.

    Attributes:
        definition: The definition.
        prefix: What precedes the encoder's names in the file.
        tensors: Its tensors by the definition's names.
        head: The tensors that follow the prefix without being part of the encoder, by name.
        size: Height and width of the input that position embeddings are of; `None` for the definition's.
        title: The kind of file, for people.
        twin: A definition that computes the same from inputs that are normalised differently, or "".
        notes: Remarks for the user.
    """

    definition: Definition
    prefix: str
    tensors: dict[str, Tensor]
    head: dict[str, Tensor]
    size: tuple[int, int] | None = None
    title: str = ""
    twin: str = ""
    notes: tuple[str, ...] = ()


def identify(contents: Contents, definition: Definition | None = None) -> Match:
    """Return the encoder in a file and the definition that it fits.

    Args:
        contents: The contents of the file.
        definition: The definition that the user asks for; by default any.

    Raises:
        CheckpointError: None fits, or several that compute different things, or the file has several encoders.
    """
    if definition is not None:
        return _asked(contents, definition)
    matches = _matches(contents.tensors) or _originals(contents.tensors)
    if not matches:
        raise CheckpointError(f"{contents.path}: {_nearest(contents)}")
    prefixes = sorted({match.prefix for match in matches})
    if len(prefixes) > 1:
        raise CheckpointError(
            f"{contents.path}: expected one encoder, found {len(prefixes)}: {', '.join(map(repr, prefixes))}; choose "
            "one, as in FILE#NAME"
        )
    return _choose(contents, matches)


def _asked(contents: Contents, definition: Definition) -> Match:
    """Return the encoder in a file if it fits a definition."""
    first = next(iter(shapes_of(definition.skeleton())))
    prefixes = [name[: -len(first)] for name in contents.tensors if name == first or name.endswith(f".{first}")]
    fits = [fit(contents.tensors, definition, prefix) for prefix in prefixes]
    matches = [match for match in fits if isinstance(match, Match)]
    matches = matches or _originals(contents.tensors, definition)
    if not matches:
        try:
            hint = f"--arch {identify(contents).definition.name} fits"
        except CheckpointError:
            hint = "--arch takes any model of timm or torchvision"
        differences = min((text for text in fits if isinstance(text, str)), key=len, default=f"no {first}")
        raise CheckpointError(
            f"{contents.path}: expected {definition.name}, found {len(contents.tensors)} tensors: {differences}; {hint}"
        )
    if len(matches) > 1:
        listed = ", ".join(repr(match.prefix) for match in matches)
        raise CheckpointError(
            f"{contents.path}: expected one encoder, found {len(matches)}: {listed}; choose one, as in FILE#NAME"
        )
    return matches[0]


def fit(tensors: Mapping[str, Tensor], definition: Definition, prefix: str, notes: tuple[str, ...] = ()) -> Match | str:
    """Return the encoder under a prefix if it fits a definition, else how it differs.

    Position embeddings may be of another input size, which is then the size of the match.
    """
    inside = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    model = definition.skeleton()
    heads = tuple(f"{name}." for name in definition.classifiers)  # timm's models are built without
    if group := definition.hidden_head:
        hidden = (name for name in shapes_of(model) if name.startswith(f"{group}.") and not name.startswith(heads))
        if any(name not in inside or inside[name].shape != shapes_of(model)[name] for name in hidden):
            heads = (f"{group}.",)  # another head, or none
    shapes = {name: shape for name, shape in shapes_of(model).items() if not name.startswith(heads)}
    differences = difference(inside, shapes, known=model.state_dict().keys())
    if differences:
        return differences
    size = _size_of_positions(inside, definition)
    resized = shapes_of(definition.skeleton(size))
    wrong = [name for name in shapes if inside[name].shape != resized[name]]
    if wrong:
        return f"{wrong[0]} is {tuple(inside[wrong[0]].shape)} for {tuple(resized[wrong[0]])}"
    encoder = {name: inside[name] for name in shapes}
    head = {name: tensor for name, tensor in inside.items() if name not in shapes and name.split(".")[0] in BESIDES}
    return Match(definition, prefix, encoder, head, size, notes=notes)


def difference(tensors: Mapping[str, Tensor], shapes: Mapping[str, Size], known: Iterable[str] = ()) -> str:
    """Return the first difference of each kind between tensors and the shapes they should have; "" if there is none.

    Args:
        tensors: By the names of `shapes`; other groups than the encoder's are `BESIDES`.
        shapes: Every tensor of the encoder; the length of position embeddings may differ.
        known: Names that may be there although nothing depends on them, such as index buffers.
    """
    known = set(known)
    groups = {
        "": [
            f"{name} is {tuple(tensors[name].shape)} for {tuple(shape)}"
            for name, shape in shapes.items()
            if name in tensors and tensors[name].shape != shape and not POSITIONS.fullmatch(name)
        ],
        "missing ": [name for name in shapes if name not in tensors],
        "unexpected ": [
            name
            for name in tensors
            if name not in shapes
            and name not in known
            and name.split(".")[0] not in BESIDES
            and not name.endswith((COUNTER, *BUFFERS))
        ],
    }
    return "; ".join(
        f"{label}{names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for label, names in groups.items()
        if names
    )


def _size_of_positions(tensors: Mapping[str, Tensor], definition: Definition) -> tuple[int, int] | None:
    """Return the square input size that the position embeddings in a file are of, `None` if it is the definition's."""
    default = next((s for name, s in shapes_of(definition.skeleton()).items() if POSITIONS.fullmatch(name)), None)
    tensor = next((tensor for name, tensor in tensors.items() if POSITIONS.fullmatch(name)), None)
    if default is None or tensor is None or tensor.ndim < 2 or tensor.numel() == math.prod(default):
        return None
    side, grid = definition.size[0], definition.grid
    length = tensor.shape[-2] ** 2 if tensor.ndim == 4 else tensor.shape[-2]
    for prefix_tokens in (0 if tensor.ndim == 4 else default[-2] - grid[0] * grid[1], 1, 0):
        patches = math.isqrt(max(length - prefix_tokens, 0))
        if patches and patches**2 == length - prefix_tokens and side * patches % grid[0] == 0:
            return side * patches // grid[0], side * patches // grid[0]
    return None


def _matches(tensors: Mapping[str, Tensor]) -> list[Match]:
    """Return the definitions that a file fits in their own names."""
    groups = candidates({name: tensor.shape for name, tensor in tensors.items()})
    fits = (fit(tensors, definition, prefix) for prefix, group in groups.items() for definition in group)
    matches = [match for match in fits if isinstance(match, Match)]
    in_timm = {match.definition.name for match in matches if match.definition.library == "timm"}
    return [match for match in matches if match.definition.library == "timm" or match.definition.name not in in_timm]


def _originals(tensors: Mapping[str, Tensor], definition: Definition | None = None) -> list[Match]:
    """Return the definitions, or the one asked for, that a file in the names of an encoder's own code fits."""
    for original in ORIGINALS:
        for name in (name for name in tensors if name.endswith(original.anchor)):
            prefix = name[: -len(original.anchor)]
            stem = tensors.get(prefix + original.stem)
            if prefix[-1:] not in ("", ".") or stem is None:
                continue
            inside = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            shape = "x".join(map(str, stem.shape))
            definitions = [
                signature.definition
                for signature in signatures()
                if signature.stem == shape
                and fnmatchcase(signature.definition.name, original.models)
                and definition in (None, signature.definition)
            ]
            fits = (_renamed(inside, definition, original) for definition in definitions)
            if matches := [replace(match, prefix=prefix) for match in fits if match is not None]:
                return matches
    return []


def filter_of(model: nn.Module) -> Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]] | None:
    """Return timm's function that renames the tensors of an original file and resamples position embeddings."""
    rename: Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]] | None
    rename = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return rename


def _renamed(tensors: Mapping[str, Tensor], definition: Definition, original: Original) -> Match | None:
    """Return the match of tensors that a filter of timm renames, `None` if they do not fit."""
    model = definition.skeleton(_size_of_positions(tensors, definition))
    rename = filter_of(model)
    if rename is None:
        return None
    try:
        renamed = rename(dict(tensors), model)
    except (KeyError, RuntimeError, AttributeError, ValueError):  # a filter expects the model it was written for
        return None
    match = fit(renamed, definition, "")
    return replace(match, title=original.title) if isinstance(match, Match) else None


def _choose(contents: Contents, matches: list[Match]) -> Match:
    """Return one of several matches of the same tensors; see the docstring of the module."""
    matches = _fullest(contents, matches)
    recorded = (contents.values.get("arch"), contents.config.get("architecture"))
    for match in matches:
        if match.definition.name in recorded:
            return match
    groups = _groups(matches)
    label = f"{contents.path.parent.name}/{contents.path.stem}".lower()
    named = [match for match in matches if match.definition.name in label]
    if named and len(matches) > 1:
        match = max(named, key=lambda match: len(match.definition.name))
        others = _alternatives(other for other in matches if other is not match)
        note = f"taken for {match.definition.name}, as the file is called; its tensors fit {others} too"
        return replace(match, notes=(*match.notes, note))
    plain = [group for group in groups if not all(VARIANTS.search(match.definition.name) for match in group)] or groups
    if len(plain) > 1:
        firsts = [group[0] for group in plain]
        raise CheckpointError(
            f"{contents.path}: expected tensors of one definition, found those of {_alternatives(firsts)}, which "
            f"differ in {_contrast(firsts)}; choose one, as in --arch {firsts[0].definition.name}"
        )
    plainest, *rest = plain[0]
    mean = plainest.definition.config.get("mean")
    twins = [match.definition.name for match in rest if match.definition.config.get("mean") != mean]
    return replace(plainest, twin=twins[0]) if twins else plainest


def _fullest(contents: Contents, matches: list[Match]) -> list[Match]:
    """Return the matches with most tensors, of OpenAI's CLIP those with QuickGELU.

    A ResNet of CLIP has attention pooling, which others leave out.
    """
    most = max(len(match.tensors) for match in matches)
    matches = [match for match in matches if len(match.tensors) == most]
    if not contents.tensors.keys() >= OF_OPENAI:
        return matches
    note = "CLIP of OpenAI: with QuickGELU"
    quick = [match for match in matches if "quickgelu" in match.definition.name]
    return [replace(match, notes=(*match.notes, note)) for match in quick] or matches


def _groups(matches: Iterable[Match]) -> list[list[Match]]:
    """Return matches that compute the same together, the plainest first in and among the groups."""

    def plainness(match: Match) -> tuple[bool, int, str]:
        name = match.definition.name
        return match.size is not None, len(name), name

    groups: list[tuple[list[tuple[Any, ...]], list[Match]]] = []
    for match in sorted(matches, key=plainness):
        settings = computation(match.definition.skeleton(match.size))
        group = next((members for other, members in groups if other == settings), None)
        if group is None:
            groups.append((settings, [match]))
        else:
            group.append(match)
    return [members for _, members in groups]


def _contrast(matches: Sequence[Match]) -> str:
    """Return in what definitions with the same tensors differ: classes and settings of their modules, three at most.

    The values are in the order of the definitions: "GELU or QuickGELU", "eps 1e-05 or 0.001".
    """
    models = [{row[0]: row[1:] for row in computation(match.definition.skeleton(match.size))} for match in matches]
    differences = []
    for name in models[0]:
        rows = [model.get(name, ("nothing",)) for model in models]
        classes = [row[0] for row in rows]
        if len(set(classes)) > 1:
            differences.append(" or ".join(dict.fromkeys(classes)))
            continue
        settings: list[dict[str, str]] = [dict(row[1:]) for row in rows]
        for key in settings[0]:
            values = [setting.get(key, "none") for setting in settings]
            if len(set(values)) > 1:
                differences.append(f"{key} {' or '.join(dict.fromkeys(values))}")
    return ", ".join(list(dict.fromkeys(differences))[:3]) or "their modules"


def _alternatives(matches: Iterable[Match]) -> str:
    """Return the names of definitions as text, "a, b and c"."""
    *names, last = [match.definition.name for match in matches]
    return f"{', '.join(names)} and {last}" if names else last


def _nearest(contents: Contents) -> str:
    """Return what was expected and found in a file that no definition fits, with the nearest one."""
    shapes = {name: tensor.shape for name, tensor in contents.tensors.items()}
    nearest = nearest_definition(shapes)
    if nearest is not None:
        prefix, definition = nearest
        differences = fit(contents.tensors, definition, prefix)
        if isinstance(differences, str):
            return (
                f"expected a whole encoder, nearest is {definition.name}, found {differences}; save all of its tensors"
            )
    names = ", ".join(list(contents.tensors)[:3])
    return (
        f"expected an encoder of timm, torchvision or transformers, found {len(contents.tensors)} tensors ({names} …); "
        "name its definition with --arch, give package.module:function, or pass the module in Python"
    )
