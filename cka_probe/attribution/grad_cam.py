"""Grad-CAM: which regions of an image a score comes from, at one layer of any network.

For a layer's activation A (C, h, w) and a score S of the image (`targets`),

    alpha_c = 1 / (h w) * sum_uv dS / dA_c(u, v),        map = ReLU(sum_c alpha_c A_c)

(Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017).
Figure 6 of Lao et al. (ECCV 2024) uses the score of a segmentation and the output of the first ReLU, before any
pooling, where maps have half the image's resolution: the layer `first`. There is one such map for each predicted class,
of the score of its pixels, and the map of a segmentation is their sum:

    map = sum_k ReLU(sum_c alpha_c^k A_c)

With one ReLU over the sum of all classes, what speaks against one class would hide what speaks for another, and many
maps would be zero everywhere (`reports/grad_cam.md`); `signed` is that sum before its ReLU.

The network runs once, in evaluation mode and in full float32; each predicted class of a segmentation costs one more
backward pass. Hooks, gradients and modes are restored afterwards (`attribution.gradients`).

A map shows what a linear reading of a layer contributes to the score, not what the network would predict without it.
For a network without a head, the target `none` gives the root mean square of the activation over its channels: where
the layer is active, whether or not that is useful for a prediction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cka_probe.attribution.gradients import gradients
from cka_probe.attribution.networks import Network, network_of
from cka_probe.attribution.targets import Region, Scored, target_score, target_with_number
from cka_probe.errors import DataError
from cka_probe.models.backbone import Preprocessing
from cka_probe.models.checkpoint import Trained
from cka_probe.models.devices import full_float32
from cka_probe.models.layers import call_name, split_call
from cka_probe.models.layouts import check_layout, infer_layout, parse_layout
from cka_probe.models.recording import Place, record
from cka_probe.progress import Progress, ProgressSpec, reporting

ROUNDING = 1e-6
"""Share of a map's maximum below which differences are rounding errors of the interpolation."""


@dataclass(frozen=True, eq=False)
class Maps:
    """Grad-CAM maps of a batch of images at one layer; all tensors are on the CPU.

    Attributes:
        layer: Dotted path of the layer in the encoder; with `head.` before it in the head.
        target: The name of the target.
        signed: (n, h, w) float32, sum_c alpha_c A_c before the ReLU, at the layer's resolution. For the target `none`
            the root mean square of the activation over its channels.
        per_class: (n, K, h, w) float32, for the target `segmentation` only: the map of each class's score, 0 for a
            class that is not predicted. Their sum over K is `signed`.
        scores: (n,) float32, the target's value; NaN for the target `none`.
        predictions: Of segmentation, labels (n, H, W) int64; of depth, depth (n, H, W) float32; of classification,
            classes (n,) int64; else `None`. H and W are the network's output size.
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
    def positive(self) -> Tensor:
        """(n, h, w) float32: the map: the ReLU of `signed`, or of each class's map, summed over classes."""
        return self.signed.clamp_min(0) if self.per_class is None else self.per_class.clamp_min(0).sum(1)

    @property
    def empty(self) -> Tensor:
        """(n,) bool: whether an image's map is nowhere positive, so that the ReLU sets all of it to 0.

        This is not an error: at this layer nothing supports the score more than it opposes it, or nothing there reaches
        the score at all, as with the patches of a vision transformer after its last attention, if only the class token
        is read.
        """
        return (self.positive == 0).flatten(1).all(1)

    def heatmaps(self, size: tuple[int, int] | None = None) -> Tensor:
        """Return the maps for display: bilinear resizing (align_corners=False), each scaled to [0, 1].

        Args:
            size: (height, width); by default the size of the images.

        Returns:
            (n, H, W) float32, with minimum 0 and maximum 1 in each image. A map that is `empty` or constant is 0.

        Raises:
            DataError: The size is not a pair of positive numbers.
        """
        return to_heatmaps(self.positive, self.size if size is None else size)


def to_heatmaps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (n, h, w), nowhere negative, as heat maps (n, H, W) of a size: see `Maps.heatmaps`."""
    if len(size) != 2 or min(size) < 1:
        raise DataError(f"expected a size as (height, width) in pixels, found {size}")
    maps = interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]
    least, greatest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    varies = greatest - least > ROUNDING * greatest
    return ((maps - least) / (greatest - least).where(varies, 1) * varies).clamp(0, 1)


def grad_cam(
    model: str | Path | Trained | nn.Module | Network,
    images: Any,
    layer: str | int = "auto",
    target: str | int | Callable[[Any], Tensor] = "auto",
    *,
    region: Region = None,
    log_softmax: bool = False,
    size: int | str | Sequence[int] | None = None,
    normalised: bool = False,
    progress: ProgressSpec = None,
) -> Maps:
    """Return the Grad-CAM maps of images.

    Args:
        model: A checkpoint of `ckaprobe train` with its head, any reference that `load` takes, the result of
            `load_trained` or `load`, or any module. A module that is neither ckaprobe's nor timm's gets the images as
            they are.
        images: A batch (n, 3, H, W) or (n, H, W, 3), uint8 or floats in [0, 1], or a mapping with one under `image`,
            `pixel_values` …, of a size that the network takes; or a list of images, PIL images included, which are
            resized and cropped to the network's size. Converted as in `compare` (`images.conversion`).
        layer: `first` (the first ReLU before pooling, or the patch embedding), `last` (the last feature map that the
            score depends on), an index into the encoder's default layers, a name in the paper's map, a dotted path in
            the encoder, or one in the head with `head.` before it. By default `last` for a class or a callable, and
            `first` for other targets. A layout may follow an @: `NAME@NHWC`, `NAME@NCHW`, or the grid of patches,
            `NAME@14x14`.
        target: In `targets.TARGETS`: `segmentation`, `segmentation:K`, `class`, `class:K`, `depth`, `none`, where K is
            the number of a class, or its name if the network's are known; a number, for `class:K`; or a callable that
            takes the network's output and returns a number for each image, (n,). By default `class` for a classifier of
            timm, torchvision, transformers or a file, else `segmentation`.
        region: The pixels of the prediction that count: a bool mask (n, H, W) or (H, W), or a box (top, left, height,
            width).
        log_softmax: Use log-softmax instead of logits, so that a constant added to all logits changes nothing.
        size: Input size in place of the network's own, as in `compare`; all images are resized and cropped to it.
        normalised: The images are normalised floats: the network gets them as they are.
        progress: True for a bar on stderr, or a function called as `progress(images_done, total)`. Within the batch an
            image counts as done in proportion to the backward passes.

    Raises:
        CheckpointError: The model cannot be loaded.
        LayerError: The layer does not exist, never runs, runs twice, does not affect the score, or has no positions
            that can be told from its channels.
        DataError: The images do not fit the network, or the network's output does not fit the target.
        UnknownNameError: There is no such target or class.
    """
    if size is not None and normalised:
        raise DataError("expected size or normalised, found both: normalised images are not resized; omit one")
    with torch.inference_mode(False):  # weights loaded in inference mode could not be differentiated
        network = network_of(model, size=size)
        if normalised:
            before = network.backbone.preprocessing
            network = network.with_preprocessing(Preprocessing(before.size, channels=before.channels))
        target = network.default_target if target == "auto" else target_with_number(target, network.class_names)
        score = target_score(target, region=region, log_softmax=log_softmax)
        name = target if isinstance(target, str) else getattr(target, "__name__", type(target).__name__)
        if layer == "auto":
            layer = "last" if callable(target) or target.startswith("class") else "first"
        network.check_target(target)
        if isinstance(images, Tensor) and images.is_inference():
            images = images.clone()
        images = network.prepare_inputs(images, fit=size is not None, normalised=normalised)
        with full_float32(images.device), network.evaluating(), reporting(progress) as report:
            report(0, len(images))
            path, feature_map = _layer_and_view(network, layer, images, score)
            module, number = split_call(path)
            call = call_name(module, number or 1)
            place = network.places(images).get(call, Place())
            if score is None:

                def rms(_path: str, activation: Tensor) -> Tensor:
                    return feature_map(activation).float().square().mean(1).sqrt().cpu()

                rows = record(network.root, images, [path], rms, run=network.predict, stop=False, places={call: place})
                scored, scores = Scored(()), torch.full((len(images),), torch.nan)
            else:
                rows, scored, scores = _differentiate(network, images, path, place, feature_map, score, report)
            report(len(images), len(images))
    return _assemble(path, name, rows, scored, scores, (images.shape[-2], images.shape[-1]))


def weighted(activation: Tensor, gradient: Tensor) -> Tensor:
    """Return sum_c alpha_c A_c, (n, h, w) float32, of an activation and its gradient, (n, C, h, w)."""
    precision = torch.promote_types(activation.dtype, torch.float32)  # at least: terms may nearly cancel
    alpha = gradient.to(precision).mean((2, 3))
    return torch.einsum("nc,nchw->nhw", alpha, activation.to(precision)).float()


def _layer_and_view(
    network: Network, layer: str | int, images: Tensor, score: Callable[[Any], Scored] | None
) -> tuple[str, Callable[[Tensor], Tensor]]:
    """Return the path of a layer under `network.root`, and the function that views its activation as (n, C, h, w)."""
    name, at, word = str(layer).partition("@")
    path, part, inner = network.find_layer(name if at else layer, images, score)
    module, (height, width) = split_call(inner)[0], images.shape[-2:]

    def feature_map(activation: Tensor) -> Tensor:
        shape = tuple(activation.shape)
        if not at:
            return infer_layout(shape, (height, width), module, part).feature_map(activation)
        layout = parse_layout(word)
        check_layout(layout, shape, inner, part.get_submodule(module))
        return layout.feature_map(activation)

    return path, feature_map


def _differentiate(
    network: Network,
    images: Tensor,
    path: str,
    place: Place,
    feature_map: Callable[[Tensor], Tensor],
    score: Callable[[Any], Scored],
    report: Progress,
) -> tuple[list[Tensor], Scored, Tensor]:
    """Return the map of each row of scores, (n, h, w), the result of the target, and the scores, (n,)."""
    scored: list[Scored] = []
    passes = count(1)

    def rows_of(output: Any) -> tuple[Tensor, ...]:
        scored.append(score(output))
        return scored[0].rows

    def weigh(activation: Tensor, gradient: Tensor) -> Tensor:
        report(len(images) * next(passes) // len(scored[0].rows), len(images))
        return weighted(feature_map(activation), feature_map(gradient)).cpu()

    values, maps = gradients(network.root, images, path, rows_of, weigh, run=network.predict, place=place)
    return maps, scored[0], values.sum(0).float().cpu()


def _assemble(
    layer: str, target: str, rows: list[Tensor], scored: Scored, scores: Tensor, size: tuple[int, int]
) -> Maps:
    """Return the result; for a segmentation the maps of its classes and their sum."""
    if not all(row.isfinite().all() for row in rows):
        raise DataError(f"layer {layer!r}: expected finite maps, found NaN or infinity; check the weights and images")
    predictions = None if scored.predictions is None else scored.predictions.cpu()
    if not scored.num_classes:
        return Maps(layer, target, rows[0], None, scores, predictions, size)
    per_class = rows[0].new_zeros(len(rows[0]), scored.num_classes, *rows[0].shape[1:])
    for number, row in zip(scored.classes, rows, strict=True):
        per_class[:, number] = row
    return Maps(layer, target, per_class.sum(1), per_class, scores, predictions, size)
