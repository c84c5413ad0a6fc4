"""Files of weights of any origin: read safely, recognised, renamed to timm's names, and loaded only if they fit."""

from cka_probe.models.checkpoints.loading import load_file as load_file
from cka_probe.models.checkpoints.report import FileReport as FileReport
from cka_probe.models.checkpoints.report import inspect_file as inspect_file
