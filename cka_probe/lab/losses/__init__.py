"""Losses: pure functions of tensors, each with its formula and its source."""

from cka_probe.lab.losses.affine import affine_invariant as affine_invariant
from cka_probe.lab.losses.affine import gradient_matching as gradient_matching
from cka_probe.lab.losses.affine import least_squares_aligned as least_squares_aligned
from cka_probe.lab.losses.affine import normal_matching as normal_matching
from cka_probe.lab.losses.affine import standardised as standardised
from cka_probe.lab.losses.consistency import depth_difference as depth_difference
from cka_probe.lab.losses.consistency import less_rotation as less_rotation
from cka_probe.lab.losses.consistency import recognised_rotation as recognised_rotation
from cka_probe.lab.losses.consistency import valid_mean as valid_mean
from cka_probe.lab.losses.consistency import valid_mean_each as valid_mean_each
from cka_probe.lab.losses.depth_ranking import confident_depth_ranking as confident_depth_ranking
from cka_probe.lab.losses.depth_ranking import pairs_to_rank as pairs_to_rank
from cka_probe.lab.losses.photometric import NOISE as NOISE
from cka_probe.lab.losses.photometric import edge_aware_slope as edge_aware_slope
from cka_probe.lab.losses.photometric import minimum_error as minimum_error
from cka_probe.lab.losses.photometric import photometric_error as photometric_error
from cka_probe.lab.losses.photometric import smoothness as smoothness
from cka_probe.lab.losses.photometric import ssim as ssim
from cka_probe.lab.losses.relative_normal import edge_aware_relative_normal as edge_aware_relative_normal
from cka_probe.lab.losses.relative_normal import pairs_across_edges as pairs_across_edges
from cka_probe.lab.losses.silog import masked_l1 as masked_l1
from cka_probe.lab.losses.silog import normalised_locally as normalised_locally
from cka_probe.lab.losses.silog import silog as silog
