"""The architectures known by name; one line each, and every test of the table covers a new one."""

from cka_probe.models.architectures.architecture import Architecture as Architecture
from cka_probe.models.architectures.dinov2 import DINOV2
from cka_probe.models.architectures.resnet import RESNET
from cka_probe.models.architectures.swinv2 import SWINV2

ARCHITECTURES: dict[str, Architecture] = {**SWINV2, **RESNET, **DINOV2}
