"""Pseudo-depth: what a network takes the depth of images to be, written where SC-Depth's reader looks for it."""

from cka_probe.lab.pseudo_depth.files import write_pseudo_depth as write_pseudo_depth
from cka_probe.lab.pseudo_depth.sources import Source as Source
from cka_probe.lab.pseudo_depth.sources import open_source as open_source
