"""Losses: pure functions of tensors, each with its formula and its source."""

from cka_probe.losses.masked import masked_l1 as masked_l1
from cka_probe.losses.masked import normalised_locally as normalised_locally
from cka_probe.losses.silog import silog as silog
