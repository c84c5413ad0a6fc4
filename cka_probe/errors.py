"""The errors a user can cause, and nothing else.

Each says in one line what was expected, what was found and what to do. The command line prints that line
and exits with 2; whatever is not a `CkaProbeError` is a bug and keeps its traceback.
"""


class CkaProbeError(Exception):
    """Something a user can put right; `str(error)` is one line: expected, found, what to do."""


class UnknownNameError(CkaProbeError):
    """A name that stands in no table (architecture, dataset, task, measure, figure, recipe, option)."""


class CheckpointError(CkaProbeError):
    """A file or reference that is not a model we can load, or does not fit the architecture it was given."""


class LayerError(CkaProbeError):
    """A layer that does not exist, never runs, runs twice, or does not give one activation per image."""


class DataError(CkaProbeError):
    """Images or samples that are missing, unreadable, too few, or not the ones expected."""


class FingerprintError(CkaProbeError):
    """Fingerprints that cannot be compared: other images, other batches, other settings."""


class RecipeError(CkaProbeError):
    """A recipe that does not say what it must, says something unknown, or asks for what its data cannot give."""


class TrainingError(CkaProbeError):
    """Training that cannot go on: a loss or gradient that is no number."""


class OutputError(CkaProbeError):
    """A place that cannot be written to, or that holds something else already."""


class OutOfMemoryError(CkaProbeError):
    """The device has no room for this batch; the message names a batch to try."""


class DeviceError(CkaProbeError):
    """A device that is not here."""


class MissingExtraError(CkaProbeError):
    """An optional package that is not installed; the message names the extra that brings it."""
