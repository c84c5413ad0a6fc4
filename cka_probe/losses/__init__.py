"""Losses: pure functions of tensors, each with its formula and its source."""

from cka_probe.losses.consistency import depth_difference as depth_difference
from cka_probe.losses.consistency import valid_mean as valid_mean
from cka_probe.losses.masked import masked_l1 as masked_l1
from cka_probe.losses.masked import normalised_locally as normalised_locally
from cka_probe.losses.photometric import photometric_error as photometric_error
from cka_probe.losses.photometric import ssim as ssim
from cka_probe.losses.rectification import less_rotation as less_rotation
from cka_probe.losses.rectification import recognised_rotation as recognised_rotation
from cka_probe.losses.silog import silog as silog
from cka_probe.losses.smoothness import smoothness as smoothness
