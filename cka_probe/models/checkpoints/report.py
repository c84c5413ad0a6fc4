"""Report what a file of weights is, whether or not it can be loaded."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.catalogue import COUNTER
from cka_probe.models.checkpoint import Checkpoint, is_ckaprobe_checkpoint, read_header
from cka_probe.models.checkpoints.adapters import is_adapter, needs_base
from cka_probe.models.checkpoints.encoders import split_reference
from cka_probe.models.checkpoints.fitting import fitting_architectures
from cka_probe.models.checkpoints.foreign import one_encoder
from cka_probe.models.checkpoints.huggingface import is_transformers_config
from cka_probe.models.checkpoints.identifying import Match
from cka_probe.models.checkpoints.loading import build_options, find_classifier, find_encoder
from cka_probe.models.checkpoints.openmmlab import read_settings
from cka_probe.models.checkpoints.reading import read_contents, weights_file
from cka_probe.models.checkpoints.recognising import count_groups
from cka_probe.models.checkpoints.windows import SAME, Windows, join


@dataclass(frozen=True)
class FileReport:
    """What a file of weights is.

    Attributes:
        path: The path that the user gave.
        kind: What wrote it.
        container: Its format.
        tensors: Number of tensors in the file.
        parameters: Number of values of the encoder, or of all tensors if there is no encoder.
        architectures: Names in `ARCHITECTURES` that fit; usually one.
        size: Input height and width in pixels, or `None` if there is no encoder.
        windows: Window of each stage of a Swin-v2.
        pretrained_windows: Those that its position bias was trained with, if they differ.
        prefix: What precedes the encoder's names.
        renamed: Changes of names, and how many tensors each concerns.
        dropped: Groups of tensors that are not part of the encoder, with their number.
        heads: Names of classifiers' tensors.
        header: Header of a checkpoint of ckaprobe.
        notes: Remarks for the user; if the file cannot be loaded, why.
    """

    path: str
    kind: str
    container: str
    tensors: int
    parameters: int
    architectures: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    windows: tuple[int, ...] = ()
    pretrained_windows: tuple[int, ...] = ()
    prefix: str = ""
    renamed: tuple[tuple[str, int], ...] = ()
    dropped: tuple[tuple[str, int], ...] = ()
    heads: tuple[str, ...] = ()
    header: Checkpoint | None = None
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        return [f"{label + ':':<14}{text}" for label, text in self._entries() if text]

    def _entries(self) -> Iterator[tuple[str, str]]:
        """Yield (label, text) of each line; lines without text are omitted."""
        yield "file", self.path
        yield "kind", f"{self.kind} ({self.container})"
        yield "architecture", " or ".join(self.architectures) or "none that is known"
        yield "input", f"{self.size[0]} x {self.size[1]} px (height x width)" if self.size else ""
        bias = f", position bias in the coordinates of {join(self.pretrained_windows)}"
        yield "windows", join(self.windows) + (bias if self.pretrained_windows else "")
        yield "tensors", f"{self.tensors} in the file, {self.parameters:,} parameters"
        yield "prefix", self.prefix
        yield "renamed", count_groups(dict(self.renamed))
        yield "dropped", count_groups(dict(self.dropped))
        yield "heads", ", ".join(self.heads)
        for field in fields(self.header) if self.header is not None else ():
            value = getattr(self.header, field.name)
            yield field.name, "" if value in ("", {}, ()) or field.name == "architecture" else str(value)
        for note in self.notes:
            yield "note", note

    def with_options(self, options: dict[str, Any]) -> "FileReport":
        """Return the report with the input size and windows that an architecture is built with."""
        size = options["size"]
        report = replace(self, size=(size, size) if isinstance(size, int) else tuple(size))
        if not self.architectures or not self.architectures[0].startswith("swinv2"):
            return report
        pretrained = tuple(options.get("pretrained_windows", SAME))
        windows = Windows(size, options.get("window") or size // 16, pretrained)
        return replace(report, windows=windows.per_stage, pretrained_windows=pretrained if any(pretrained) else ())


def inspect_file(path: str | Path) -> FileReport:
    """Return what a file of weights is, without building its model.

    Args:
        path: Any file that `load_file` takes.

    Raises:
        CheckpointError: It cannot be read. If it can be read but not loaded, the notes say why.
    """
    reference, encoder_name = split_reference(path)
    file = weights_file(reference)
    header = read_header(file) if is_ckaprobe_checkpoint(file) else None
    contents = read_contents(file)
    values = sum(tensor.numel() for tensor in contents.tensors.values())
    report = FileReport(str(path), "unknown", contents.container, len(contents.tensors), values)
    if header is not None:
        backbone = [tensor for name, tensor in contents.tensors.items() if name.startswith("backbone.")]
        return replace(
            report,
            kind="ckaprobe checkpoint",
            parameters=sum(tensor.numel() for tensor in backbone),
            architectures=(header.architecture,) if header.architecture in ARCHITECTURES else (),
            heads=tuple(name for name in contents.tensors if name.startswith("head.")),
            header=header,
        ).with_options(header.options)
    try:
        if is_adapter(contents):
            raise needs_base(contents)
        contents, naming, choice = one_encoder(contents, encoder_name)
        settings = ("its settings, where they state them, decide on normalisation, strides and dilations",)
        choice = (*choice, *(naming.notes if naming else ()), *(settings if read_settings(contents.values) else ()))
        report = replace(report, notes=choice)
        if is_transformers_config(contents.config):
            return _of_transformers(report, contents.config)
        known = find_encoder(contents)
        if isinstance(known, Match):
            return _of_match(report, known)
        encoder, kind, name = known
        report = replace(
            report,
            kind=kind.title,
            parameters=sum(t.numel() for name, t in encoder.tensors.items() if not name.endswith(COUNTER)),
            architectures=fitting_architectures(encoder.tensors),
            prefix=encoder.prefix,
            renamed=tuple(encoder.changes.items()),
            dropped=tuple(encoder.dropped.items()),
            heads=encoder.heads,
            notes=(*choice, *encoder.notes),
        )
        options, notes = build_options(contents, encoder, kind, name)
        if kind.classifies:
            features = ARCHITECTURES[name].channels
            dropped = find_classifier(contents.tensors, encoder.prefix, features, encoder.dropped)[1]
            report = replace(report, dropped=tuple(dropped.items()))
    except CheckpointError as error:
        return replace(report, notes=(*report.notes, str(error)))
    return replace(report.with_options(options), notes=(*report.notes, *notes))


def _of_transformers(report: FileReport, config: Mapping[str, Any]) -> FileReport:
    """Return the report of a folder that transformers loads, from its `config.json`."""
    size = config.get("image_size") or config.get("vision_config", {}).get("image_size")
    return replace(
        report,
        kind=f"transformers, {config['model_type']}",
        architectures=tuple(map(str, config.get("architectures") or [config["model_type"]])),
        size=(size, size) if isinstance(size, int) else None,
    )


def _of_match(report: FileReport, match: Match) -> FileReport:
    """Return the report of an encoder of timm or torchvision."""
    groups = Counter(name.rpartition(".")[0] or name for name in match.head)
    return replace(
        report,
        kind=f"{match.title or 'an encoder'} in the names of {match.definition.library}",
        parameters=sum(tensor.numel() for tensor in match.tensors.values()),
        architectures=(match.definition.name,),
        size=match.size or match.definition.size,
        prefix=match.prefix,
        heads=tuple(groups),
        notes=(*report.notes, *match.notes),
    )
