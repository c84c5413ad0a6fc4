"""What a file is, in words, whether or not it can be loaded."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.checkpoint import Checkpoint, is_ckaprobe_checkpoint, read_header
from cka_probe.models.checkpoints.fitting import COUNTER, fitting, the_one
from cka_probe.models.checkpoints.loading import options_of
from cka_probe.models.checkpoints.naming import Grid
from cka_probe.models.checkpoints.reading import Contents, read_contents
from cka_probe.models.checkpoints.recognising import (
    Encoder,
    depths_of,
    folder_to_file,
    listed,
    recognise,
    with_config_beside,
)


@dataclass(frozen=True)
class FileReport:
    """What stands in a file of weights.

    Attributes:
        path: As it was given.
        kind: What wrote it, in words.
        container: How it is packed.
        tensors: Number of tensors in the file.
        parameters: Number of values of the encoder (without an encoder: of all tensors).
        architectures: Those in `ARCHITECTURES` that fit; usually one.
        size: Input height and width, pixels, or `None` where there is no encoder.
        windows: Of a Swin-v2, per stage.
        pretrained_windows: Those its position bias was trained with, if others.
        prefix: In front of the encoder's names.
        renamed: Renamings and how many tensors each concerns.
        dropped: Groups of tensors that are not of the encoder, with their number.
        heads: Names of classifiers' tensors.
        header: Of a checkpoint of ours.
        notes: What a reader should know; if it cannot be loaded, why.
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
        """Yield (label, text) of each line; an empty text is not shown."""
        yield "file", self.path
        yield "kind", f"{self.kind} ({self.container})"
        yield "architecture", " or ".join(self.architectures) or "none that is known"
        yield "input", f"{self.size[0]} x {self.size[1]} px (height x width)" if self.size else ""
        earlier = f", position bias in the coordinates of {_by(self.pretrained_windows)}"
        yield "windows", _by(self.windows) + (earlier if self.pretrained_windows else "")
        yield "tensors", f"{self.tensors} in the file, {self.parameters:,} parameters"
        yield "prefix", self.prefix
        yield "renamed", listed(dict(self.renamed))
        yield "dropped", listed(dict(self.dropped))
        yield "heads", ", ".join(self.heads)
        if self.header is not None:
            for field in fields(self.header):
                value = getattr(self.header, field.name)
                yield field.name, "" if value in ("", {}, ()) or field.name == "architecture" else str(value)
        for note in self.notes:
            yield "note", note


def inspect_file(path: str | Path) -> FileReport:
    """Say what a file of weights is, without building its model.

    Args:
        path: Any file `load_file` takes.

    Raises:
        CheckpointError: It cannot be read. A file that can be read but not loaded has its reason in the notes.
    """
    file = folder_to_file(path)
    if is_ckaprobe_checkpoint(file):
        return _report_ours(str(path), file)
    contents = with_config_beside(read_contents(file))
    number, values = len(contents.tensors), sum(tensor.numel() for tensor in contents.tensors.values())
    report = FileReport(str(path), "unknown", contents.container, number, values)
    try:
        encoder = recognise(contents)
    except CheckpointError as error:
        return replace(report, notes=(str(error),))
    report = replace(
        report,
        kind=encoder.about.title,
        parameters=sum(t.numel() for name, t in encoder.tensors.items() if not name.endswith(COUNTER)),
        architectures=fitting(encoder.tensors),
        prefix=encoder.prefix,
        renamed=tuple(encoder.changes.items()),
        dropped=tuple(encoder.dropped.items()),
        heads=encoder.heads,
        notes=encoder.notes,
    )
    return _with_input(report, contents, encoder)


def _with_input(report: FileReport, contents: Contents, encoder: Encoder) -> FileReport:
    """Add input size and windows; or, if the encoder cannot be built, why."""
    try:
        name = the_one(contents.path, encoder.tensors, depths_of(encoder.tensors))
        options, notes = options_of(contents, encoder, name)
    except CheckpointError as error:
        return replace(report, notes=(*report.notes, str(error)))
    return replace(_with_options(report, options), notes=(*report.notes, *notes))


def _with_options(report: FileReport, options: dict[str, Any]) -> FileReport:
    """Add what an architecture is built with."""
    size = options["size"]
    report = replace(report, size=(size, size) if isinstance(size, int) else tuple(size))
    if not report.architectures or not report.architectures[0].startswith("swinv2"):
        return report
    grid = Grid(size, options.get("window") or size // 16, tuple(options.get("pretrained_windows", ())))
    return replace(
        report,
        windows=grid.windows,
        pretrained_windows=grid.pretrained_windows if any(grid.pretrained_windows) else (),
    )


def _report_ours(path: str, file: Path) -> FileReport:
    """Return the report on a checkpoint of ours, which says itself what it is."""
    header = read_header(file)
    if header is None:
        raise CheckpointError(f"{file}: expected a ckaprobe checkpoint, found one without a header; write it again")
    contents = read_contents(file)
    backbone = [tensor for name, tensor in contents.tensors.items() if name.startswith("backbone.")]
    heads = tuple(name for name in contents.tensors if name.startswith("head."))
    report = FileReport(
        path,
        "ckaprobe checkpoint",
        contents.container,
        len(contents.tensors),
        sum(tensor.numel() for tensor in backbone),
        architectures=(header.architecture,) if header.architecture in ARCHITECTURES else (),
        heads=heads,
        header=header,
    )
    return _with_options(report, header.options)


def _by(windows: tuple[int, ...]) -> str:
    return ", ".join(map(str, windows))
