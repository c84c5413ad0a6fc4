"""Grad-CAM: which places of an image a score comes from, at one layer of any network.

For a layer's activation A (C, h, w) and a score S of the image (`targets`),

    alpha_c = 1 / (h w) * sum_uv dS / dA_c(u, v),        map = ReLU(sum_c alpha_c A_c)

(Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017).
Figure 6 of Lao et al. (ECCV 2024) uses the score of a segmentation and the output of the first ReLU, before any
pooling, where maps have half the image's resolution: the layer `first`.

The network runs once, in evaluation mode, in full float32; each predicted class of a segmentation costs one more
backward pass. Hooks, gradients and modes are restored afterwards (`models.gradients`).

A map shows what a linear reading of a layer contributes to the score, not what the network would predict without it.
For a network without a head, the target `none` gives the root mean square of the activation over its channels: where
the layer is active, whether or not that is useful for a prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cka_probe.attribution.layouts import Layout, check_layout, infer_layout, parse_layout
from cka_probe.attribution.networks import Network, network_of
from cka_probe.attribution.targets import Region, Scored, target_of
from cka_probe.errors import DataError
from cka_probe.models.checkpoint import Trained
from cka_probe.models.gradients import gradients
from cka_probe.models.recording import full_float32, record


@dataclass(frozen=True, eq=False)
class Maps:
    """Grad-CAM maps of a batch of images at one layer; all tensors are on the CPU.

    Attributes:
        layer: Dotted path of the layer in the encoder; `head.` before one of the head.
        target: What was scored, as it was asked for.
        signed: (n, h, w) float32, sum_c alpha_c A_c before the ReLU, at the layer's resolution. For the target `none`
            the root mean square of the activation over its channels.
        per_class: (n, K, h, w) float32, of the target `segmentation` alone: the map of each class's score, 0 for a
            class that is not predicted. Their sum over K is `signed`.
        scores: (n,) float32, the target's value; NaN for the target `none`.
        predictions: Of segmentation, labels (n, H, W) int64; of depth, depth (n, H, W) float32; of classification,
            classes (n,) int64; else `None`. H and W are those of what the network puts out.
        size: (height, width) of the images as the network saw them.
    """

    layer: str
    target: str
    signed: Tensor
    per_class: Tensor | None
    scores: Tensor
    predictions: Tensor | None
    size: tuple[int, int]

    @property
    def empty(self) -> Tensor:
        """(n,) bool: whether an image's map is nowhere positive, so that the ReLU leaves nothing of it.

        That is no fault: at this layer nothing speaks for the score more than against it, or nothing there reaches the
        score at all, as the cells of a vision transformer after its last attention, where the class token alone is
        read. Such a map is shown as 0.
        """
        return (self.signed <= 0).flatten(1).all(1)

    def shown(self, size: tuple[int, int] | None = None) -> Tensor:
        """Return the maps for the eye: ReLU, bilinear (corners not aligned), each from 0 to 1.

        Args:
            size: (height, width); by default that of the images.

        Returns:
            (n, H, W) float32 in [0, 1], least 0 and greatest 1 in each image. A map that is `empty`, or the same
            everywhere, is 0: nothing in it stands out.

        Raises:
            DataError: The size is none.
        """
        wanted = self.size if size is None else tuple(size)
        if len(wanted) != 2 or min(wanted) < 1:
            raise DataError(f"expected a size as (height, width) in pixels, found {size}")
        positive = self.signed.clamp_min(0)[:, None]
        return _stretched(interpolate(positive, wanted, mode="bilinear", align_corners=False)[:, 0])


ROUNDING = 1e-6
"""Share of a map's greatest value below which its differences are the interpolation's rounding."""


def _stretched(maps: Tensor) -> Tensor:
    """Return (n, H, W) maps from 0 to 1 each; 0 where a map is the same everywhere."""
    least, greatest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    varies = greatest - least > ROUNDING * greatest
    return ((maps - least) / (greatest - least).where(varies, 1) * varies).clamp(0, 1)


def grad_cam(
    model: str | Path | Trained | nn.Module,
    images: Tensor,
    layer: str | int = "first",
    target: str | Callable[[Any], Tensor] = "segmentation",
    *,
    region: Region = None,
    log_softmax: bool = False,
) -> Maps:
    """Return the Grad-CAM maps of images.

    Args:
        model: A checkpoint of `ckaprobe train` with its head, any reference that `load` takes, what `load_trained` or
            `load` returned, or any module. One that is neither ours nor timm's is fed the images as they are.
        images: (n, 3, H, W) float32 RGB in [0, 1], of a size that the network takes.
        layer: `first` (the first ReLU before pooling, or the patch embedding), an index into the encoder's map of
            layers, a name in the paper's, a dotted path in the encoder, or one in the head with `head.` before it. How
            its numbers lie may be said behind an @: `NAME@NHWC`, `NAME@NCHW`, or the grid of tokens, `NAME@14x14`.
        target: In `targets.TARGETS`: `segmentation`, `segmentation:K`, `class`, `class:K`, `depth`, `none`; or a
            callable that takes what the network puts out and returns a number for each image, (n,).
        region: Which pixels of a prediction count: a bool mask (n, H, W) or (H, W), or a box (top, left, height,
            width).
        log_softmax: Take log-softmax in place of logits, so that a constant added to all logits changes nothing.

    Raises:
        CheckpointError: The model cannot be loaded.
        LayerError: The layer does not exist, never runs, runs twice, does not affect the score, or has no positions
            that can be told from its channels.
        DataError: The images do not fit the network, or the target what the network puts out.
        UnknownNameError: There is no such target or class.
    """
    wanted = target_of(target, region=region, log_softmax=log_softmax)
    with torch.inference_mode(False):  # what is loaded in inference mode could not be differentiated
        network = network_of(model)
        images = network.prepare_inputs(images.clone() if images.is_inference() else images)
        if network.lacks and wanted.score is not None and isinstance(target, str):
            raise DataError(f"nothing to explain: {network.lacks}; give a network with a head, or the target none")
        height, width = images.shape[-2:]
        name, at, spec = str(layer).partition("@")
        with full_float32(images.device), network.evaluating():
            address, owner, inner = network.place(name if at else layer, images)

            def laid(activation: Tensor) -> Layout:
                shape = tuple(activation.shape)
                if not at:
                    return infer_layout(shape, (height, width), inner, owner)
                layout = parse_layout(spec)
                check_layout(layout, shape, inner, owner.get_submodule(inner))
                return layout

            if wanted.score is None:
                signed, scored, scores = _strength(network, images, address, laid)
            else:
                signed, scored, scores = _explained(network, images, address, laid, wanted.score)
    return _maps(address, wanted.name, signed, scored, scores, (height, width))


def weighted(activation: Tensor, gradient: Tensor) -> Tensor:
    """Return sum_c alpha_c A_c, (n, h, w) float32, of an activation and its gradient, (n, C, h, w)."""
    precision = torch.promote_types(activation.dtype, torch.float32)  # no less: terms may nearly cancel
    alpha = gradient.to(precision).mean((2, 3))
    return torch.einsum("nc,nchw->nhw", alpha, activation.to(precision)).float()


def _explained(
    network: Network,
    images: Tensor,
    address: str,
    laid: Callable[[Tensor], Layout],
    score: Callable[[Any], Scored],
) -> tuple[list[Tensor], Scored, Tensor]:
    """Return the map of each score, what the target made of the prediction, and the scores."""
    scored: list[Scored] = []

    def scores(output: Any) -> tuple[Tensor, ...]:
        scored.append(score(output))
        return scored[0].rows

    def keep(_name: str, activation: Tensor, gradient: Tensor) -> Tensor:
        layout = laid(activation)
        return weighted(layout.map(activation), layout.map(gradient)).cpu()

    values, maps = gradients(network.root, images, [address], scores, keep, run=network.predict)
    return [row[0] for row in maps], scored[0], values.sum(0).float().cpu()


def _strength(
    network: Network, images: Tensor, address: str, laid: Callable[[Tensor], Layout]
) -> tuple[list[Tensor], Scored, Tensor]:
    """Return the root mean square of the activation over its channels, and that there is no score."""

    def keep(_name: str, activation: Tensor) -> Tensor:
        return laid(activation).map(activation).float().square().mean(1).sqrt().cpu()

    maps = record(network.root, images, [address], keep, run=network.predict, stop=False)
    return maps, Scored(()), torch.full((len(images),), torch.nan)


def _maps(layer: str, target: str, rows: list[Tensor], scored: Scored, scores: Tensor, size: tuple[int, int]) -> Maps:
    """Return the result; of a segmentation the maps of its classes and their sum."""
    if not all(row.isfinite().all() for row in rows):
        raise DataError(f"layer {layer!r}: expected finite maps, found NaN or infinity; look at the weights or images")
    predictions = None if scored.predictions is None else scored.predictions.cpu()
    if not scored.num_classes:
        return Maps(layer, target, rows[0], None, scores, predictions, size)
    per_class = rows[0].new_zeros(len(rows[0]), scored.num_classes, *rows[0].shape[1:])
    for number, row in zip(scored.classes, rows, strict=True):
        per_class[:, number] = row
    return Maps(layer, target, per_class.sum(1), per_class, scores, predictions, size)
