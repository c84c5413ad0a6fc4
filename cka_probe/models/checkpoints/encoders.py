"""Choose among the encoders in a file: a teacher and its student, raw and averaged weights, a query and a key encoder.

Two subtrees of a file are copies of one encoder if their tensors have the same relative names and shapes. Which of them
is loaded depends on their names alone and never on the order in the file. It is the one that its authors evaluate:

1. averaged weights before raw ones: `state_dict_ema` of `state_dict` and `model_ema` of `model` (timm's
   `load_state_dict(use_ema=True)`, DeiT, ConvNeXt), any subtree with the `n_averaged` of `torch.optim.swa_utils`;
2. the teacher before the student (`--checkpoint_key teacher` in the evaluations of DINO, iBOT and DINOv2);
3. the target encoder of MSN and I-JEPA (`target_encoder` next to `encoder`);
4. the query, base or online encoder before the key, momentum or target one (`main_lincls.py` of MoCo v1 to v3 loads
   `encoder_q` or `base_encoder`; BYOL keeps the online network; ALBEF and BLIP evaluate the encoder without `_m`).

The exception to 1 are DAFormer and its kin, known by their `imnet_model`: they evaluate `model`, and `ema_model` only
labels images.

A teacher of another architecture than its student is that of a distillation, whose product is the student. A network of
pose is used only if there is no other encoder. Where the names do not decide, the user does.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from cka_probe.errors import CheckpointError
from cka_probe.models.checkpoints.reading import Contents

ROLES = (
    ("averaged", r"_?ema|ema_\w+|\w+_ema|swa|swa_\w+|\w+_swa|averaged_model"),
    ("initial", r"gram_teacher|imnet_model"),
    ("teacher", r"(\w+_)?teacher(_\w+)?"),
    ("student", r"(\w+_)?student(_\w+)?|current_model_state"),
    ("query", r"(encoder|backbone|model|net|network|trunk)_q|query_encoder|base_encoder|online(_\w+)?|\w+_online"),
    ("momentum", r"(encoder|backbone|model|net|network|trunk)_k|key_encoder|momentum(_\w+)?|\w+_momentum|\w*encoder_m"),
    ("target", r"target(_\w+)?"),
)
"""Roles of an encoder by the whole word of a part of its name; the first that fits."""

ORDER = ("averaged", "teacher", "query", "", "student", "momentum", "target", "initial")
"""Roles from the most to the least preferred; "" is an encoder without a role."""

REASONS = {
    "averaged": "the moving average of the weights",
    "teacher": "the one that DINO, iBOT and DINOv2 evaluate",
    "query": "the one that MoCo and BYOL evaluate",
    "target": "the one that MSN and I-JEPA evaluate",
}

POSE = re.compile(r"pose(_?(net|network|encoder|cnn|model))?", re.IGNORECASE)
"""Names of networks that estimate the motion between frames."""

MOST = 1000
"""The most tensors of one shape and last name that copies are looked for by."""

FEWEST = 8
"""The fewest tensors by which subtrees without a role are taken for encoders."""


@dataclass(frozen=True)
class _Copy:
    """A subtree that is a copy of another.

    Attributes:
        prefix: What precedes its names, "" or ending in a dot.
        shapes: Shapes by relative name.
        role: A role of `ORDER`.
    """

    prefix: str
    shapes: Mapping[str, tuple[int, ...]]
    role: str

    @property
    def label(self) -> str:
        """Its name after `FILE#`; "." is the top level of the file."""
        return self.prefix[:-1] or "."


def split_reference(reference: str | Path, encoder: str | None = None) -> tuple[str, str | None]:
    """Split `FILE#ENCODER`; the encoder is None if there is none, or if a file has the whole name.

    Args:
        reference: Path of a file, with or without an encoder.
        encoder: The encoder, if it is given in another way.

    Raises:
        CheckpointError: Two encoders are given.

    >>> split_reference("dino.pth#teacher")
    ('dino.pth', 'teacher')
    >>> split_reference("dino.pth")
    ('dino.pth', None)
    """
    file, mark, name = str(reference).rpartition("#")
    if not mark or not file or Path(reference).exists():
        return str(reference), encoder
    if encoder not in (None, name):
        raise CheckpointError(f"{file}: expected one encoder, found #{name} and --encoder {encoder}; omit one")
    return file, name


def choose_encoder(contents: Contents, name: str | None = None) -> tuple[Contents, tuple[str, ...]]:
    """Return the contents of a file with one encoder only, and notes on the choice.

    Args:
        contents: The contents of the file.
        name: The name of a subtree of the file, whole (`model.teacher`) or its end (`teacher`), or "." for the top
            level; by default the order of preference in this module decides.

    Raises:
        CheckpointError: There is no such subtree, or there are several encoders and their names do not decide.
    """
    notes, named = [], name is None
    tensors, pose = _without_pose(dict(contents.tensors), name)
    while pair := next(_copies(tensors), None):
        preferred, other, note = _prefer(contents, pair, tensors, name)
        named = named or _is_named(preferred, name)
        notes.append(note)
        tensors = _without(tensors, other, preferred)
    if name is not None and not named:
        tensors = _subtree(contents, name)
    tensors, distillation = _without_teacher(tensors)
    notes += [distillation, pose]
    return replace(contents, tensors=tensors), tuple(filter(None, notes))


@lru_cache(maxsize=1 << 16)
def _role(part: str) -> str:
    """Return the role that a part of a name says, or ""."""
    if part.isdecimal():  # the number of a layer, of which a file may have very many
        return ""
    return next((role for role, pattern in ROLES if re.fullmatch(pattern, part)), "")


def _copies(tensors: Mapping[str, Tensor]) -> Iterator[tuple[_Copy, _Copy]]:
    """Yield pairs of subtrees that are copies of one encoder, those with the shortest names first."""
    kinds = {name: (name.rpartition(".")[2], tuple(tensor.shape)) for name, tensor in tensors.items()}
    same: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, kind in kinds.items():
        same.setdefault(kind, []).append(name)
    anchors = {name for name, tensor in tensors.items() if _is_rgb_kernel(name, tensor)}
    anchors = {name for name in anchors if len(same[kinds[name]]) <= MOST} | _anchors(kinds)
    pairs = {
        tuple(sorted(_split(anchor, twin))) for anchor in anchors for twin in same[kinds[anchor]] if twin != anchor
    }
    for prefixes in sorted(pairs, key=lambda pair: (sum(prefix.count(".") for prefix in pair), pair)):
        first, second = (_copy(prefix, other, tensors) for prefix, other in (prefixes, prefixes[::-1]))
        shared = {name for name, shape in first.shapes.items() if second.shapes.get(name) == shape}
        is_encoder = first.role != second.role or (
            len(shared) >= FEWEST and any(_is_rgb_kernel(name, tensors[first.prefix + name]) for name in shared)
        )
        if is_encoder and len(shared) >= max(1, 0.9 * min(len(first.shapes), len(second.shapes))):
            yield first, second


def _is_rgb_kernel(name: str, tensor: Tensor) -> bool:
    """Return whether a tensor is the kernel of a convolution over RGB images."""
    return name.endswith(".weight") and tensor.ndim in (4, 5) and tensor.shape[1] == 3


def _anchors(kinds: Mapping[str, tuple[str, tuple[int, ...]]]) -> set[str]:
    """Return, for each subtree with a role, the name in it with the fewest twins outside: copies are found by it.

    Args:
        kinds: The last part and the shape of each name; twins have the same.
    """
    members: dict[str, list[str]] = {}
    for name in kinds:
        parts = name.split(".")
        for index, part in enumerate(parts[:-1]):
            prefix = "".join(f"{part}." for part in parts[: index + 1])
            if _role(part) or f"{prefix}n_averaged" in kinds:
                members.setdefault(prefix, []).append(name)
    total = Counter(kinds.values())
    anchors = set()
    for names in members.values():
        inside = Counter(kinds[name] for name in names)
        outside = {name: total[kinds[name]] - inside[kinds[name]] for name in sorted(names)}
        if candidates := [name for name in outside if 0 < outside[name] <= MOST]:
            anchors.add(min(candidates, key=outside.__getitem__))
    return anchors


def _split(first: str, second: str) -> tuple[str, str]:
    """Return what precedes the longest common end of two names.

    >>> _split("student.backbone.conv1.weight", "teacher.backbone.conv1.weight")
    ('student.', 'teacher.')
    """
    parts = first.split("."), second.split(".")
    common = 0
    while common < min(map(len, parts)) and parts[0][-common - 1] == parts[1][-common - 1]:
        common += 1
    first_prefix, second_prefix = ("".join(f"{part}." for part in names[: len(names) - common]) for names in parts)
    return first_prefix, second_prefix


def _copy(prefix: str, other: str, tensors: Mapping[str, Tensor]) -> _Copy:
    """Return a subtree, without another one that it may contain."""
    shapes = {
        name[len(prefix) :]: tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name.startswith(prefix) and not (len(other) > len(prefix) and name.startswith(other))
    }
    parts, others = prefix.split("."), other.split(".")
    common = next((i for i, (part, twin) in enumerate(zip(parts, others, strict=False)) if part != twin), 0)
    role = next(filter(None, map(_role, parts[common:])), "averaged" if "n_averaged" in shapes else "")
    return _Copy(prefix, shapes, role)


def _prefer(
    contents: Contents, pair: tuple[_Copy, _Copy], tensors: Mapping[str, Tensor], name: str | None
) -> tuple[_Copy, _Copy, str]:
    """Return the copy to load, the other one, and a note.

    Raises:
        CheckpointError: Neither the user nor the names decide.
    """
    named = [copy for copy in pair if copy.label == name or copy.label.endswith(f".{name}")]
    named = named or [copy for copy in pair if _is_named(copy, name)]
    if len(named) == 1:
        other = next(copy for copy in pair if copy is not named[0])
        return named[0], other, f"of two encoders in the file, {named[0].label!r} was chosen, not {other.label!r}"
    roles = {copy.role for copy in pair}
    order: tuple[str, ...] = ORDER
    if roles == {"target", ""} and any(copy.prefix.endswith("target_encoder.") for copy in pair):
        order = ("target", "")
    if roles == {"averaged", ""} and any("imnet_model" in key.split(".") for key in contents.tensors):
        order = ("", "averaged")
    preferred, other = sorted(pair, key=lambda copy: order.index(copy.role))
    if preferred.role == other.role:
        labels = sorted({copy.label for both in _copies(tensors) for copy in both})
        raise CheckpointError(
            f"{contents.path}: expected one encoder, found {len(labels)} of the same structure: {', '.join(labels)}; "
            f"choose one with FILE#{labels[0]} or --encoder {labels[0]}"
        )
    reason = REASONS.get(preferred.role) or f"not the {other.role} encoder"
    statistics = [name for name in other.shapes if name.endswith("running_mean") and name not in preferred.shapes]
    if preferred.role == "averaged" and statistics:
        preferred, other = other, preferred
        reason = "the average has no statistics of batch norms"
    return (
        preferred,
        other,
        (f"of two encoders in the file, {preferred.label!r} is loaded ({reason}); FILE#{other.label} for the other"),
    )


def _is_named(copy: _Copy, name: str | None) -> bool:
    """Return whether a user's name is a subtree of a copy, or the copy itself."""
    return name is not None and (
        copy.label == name or any(f".{name}." in f".{copy.prefix}{rest}" for rest in copy.shapes)
    )


def _without(tensors: Mapping[str, Tensor], other: _Copy, preferred: _Copy) -> dict[str, Tensor]:
    """Return the tensors without those of a subtree; one that it contains stays."""
    names = {other.prefix + name for name in other.shapes}
    if preferred.prefix.startswith(other.prefix):  # what is next to the copy at the top level is no part of it
        names = {other.prefix + name for name in other.shapes if name in preferred.shapes}
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def _prefixes(names: Iterable[str]) -> set[str]:
    """Return the dotted name of every subtree."""
    return {".".join(parts[:end]) for parts in (name.split(".") for name in names) for end in range(1, len(parts))}


def _subtree(contents: Contents, name: str) -> dict[str, Tensor]:
    """Return the tensors of the subtree that a user named.

    Raises:
        CheckpointError: There is none, or there are several.
    """
    if name == ".":
        return dict(contents.tensors)
    prefixes = _prefixes(contents.tensors)
    matches = [name] if name in prefixes else sorted(prefix for prefix in prefixes if prefix.endswith(f".{name}"))
    matches = [match for match in matches if not any(match.startswith(f"{outer}.") for outer in matches)]
    if len(matches) == 1:
        return {key: tensor for key, tensor in contents.tensors.items() if key.startswith(f"{matches[0]}.")}
    groups = matches or sorted({key.split(".")[0] for key in contents.tensors})
    raise CheckpointError(
        f"{contents.path}: expected one encoder {name!r}, found {', '.join(groups[:8])}"
        f"{' …' if len(groups) > 8 else ''}; choose one of them"
    )


def _without_teacher(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the tensors without a teacher of another architecture than its student, and a note."""
    prefixes = _prefixes(tensors)
    for student in sorted(prefix for prefix in prefixes if prefix.rpartition(".")[2] == "student"):
        teacher = f"{student.removesuffix('student')}teacher"
        if teacher in prefixes:
            rest = {key: tensor for key, tensor in tensors.items() if not key.startswith(f"{teacher}.")}
            return rest, (
                f"of two encoders in the file, {student!r} is loaded (the product of a distillation, for the teacher "
                f"has another architecture); FILE#{teacher} for the other"
            )
    return tensors, ""


def _without_pose(tensors: dict[str, Tensor], name: str | None) -> tuple[dict[str, Tensor], str]:
    """Return the tensors without those of a network of pose, unless there is no other encoder, and a note."""

    def of_pose(key: str) -> bool:
        return any(POSE.fullmatch(part) for part in key.split("."))

    kernels = [key for key, tensor in tensors.items() if tensor.ndim == 4 and tensor.shape[1] in (3, 6)]
    pose = [key for key in kernels if of_pose(key)]
    if not pose or len(pose) == len(kernels) or (name is not None and of_pose(name)):
        return tensors, ""
    label = next(part for part in pose[0].split(".") if POSE.fullmatch(part))
    rest = {key: tensor for key, tensor in tensors.items() if not of_pose(key)}
    return rest, f"{label!r}, a network of pose, is not loaded; FILE#{label} for it"
