"""The errors that a user can cause.

Each message is one line: what was expected, what was found and what to do. The command line prints it and exits with 2.
Any other exception is a bug and keeps its traceback.
"""

from collections.abc import Iterator
from contextlib import contextmanager


def printable(text: str) -> str:
    """Return a text with control characters, such as those in the name of a file, as escapes: one line, safe to print.

    >>> printable("a\\n\\x1b[31mb")
    'a\\\\n\\\\x1b[31mb'
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class CkaProbeError(Exception):
    """An error that the user can fix; `str(error)` is one line: expected, found, what to do."""

    def __str__(self) -> str:
        return printable(super().__str__())


class CkaProbeWarning(UserWarning):
    """Something about a run that does not change its result; the command line prints it as one line."""

    def __str__(self) -> str:
        return printable(super().__str__())


class UnknownNameError(CkaProbeError):
    """A name that does not exist (of an architecture, dataset, task, measure, figure, recipe or option)."""


class CheckpointError(CkaProbeError):
    """A file or reference that is not a model, or does not fit its architecture."""


class LayerError(CkaProbeError):
    """A layer that does not exist, never runs, runs twice, or does not give one activation per image."""


class ModelError(CkaProbeError):
    """A model whose forward pass raised an exception; the message has the model's own and where it arose."""


class DataError(CkaProbeError):
    """Images or samples that are missing, unreadable, too few, or not the expected ones."""


class FingerprintError(CkaProbeError):
    """Fingerprints that cannot be compared: of other images, other batches or other settings."""


class RecipeError(CkaProbeError):
    """A recipe that lacks a setting, has an unknown one, or needs what its data do not give."""


class TrainingError(CkaProbeError):
    """Training that cannot continue, because a loss or gradient is not finite."""


class OutputError(CkaProbeError):
    """A path that cannot be written, or that has other contents already."""


class OutOfMemoryError(CkaProbeError):
    """A batch that does not fit into the memory of the device; the message names a batch to try."""


class DeviceError(CkaProbeError):
    """A device that does not exist on this machine."""


class MissingExtraError(CkaProbeError):
    """An optional package that is not installed; the message names the extra that installs it."""


@contextmanager
def prefixed_errors(name: str) -> Iterator[None]:
    """Begin the message of an error with what it is about, such as one of several models, unless it has it.

    >>> with prefixed_errors("runs/a.pth"):
    ...     raise LayerError("no layer 'fc'")
    Traceback (most recent call last):
    cka_probe.errors.LayerError: runs/a.pth: no layer 'fc'
    """
    try:
        yield
    except CkaProbeError as error:
        if name in str(error):
            raise
        raise type(error)(f"{name}: {error}") from error
