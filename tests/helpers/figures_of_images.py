"""Figures of images: of something usual, and of what is hard to draw."""

from collections.abc import Mapping

from cka_probe.plotting import Figure

FIGURES: Mapping[str, Figure] = {}
STRAINED: Mapping[str, Mapping[str, Figure]] = {}
