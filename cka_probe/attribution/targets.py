"""What a map explains: a score of each image, made of what the network puts out.

| target | for | score S of an image |
|---|---|---|
| `segmentation` | logits s (n, K, H, W) | sum over pixels of s_P, P the predicted class; and a score for each class |
| `segmentation:K` | the same | sum of s_K over the pixels predicted K |
| `class` | logits (n, K) | the logit of the predicted class |
| `class:K` | the same, or (n, K, H, W) | the logit of class K; of a segmentation as `segmentation:K` |
| `depth` | depth (n, 1, H, W) or (n, H, W) | sum of the predicted depth |
| `none` | any network | none, and no gradient |

With P = argmax_k s_k held constant, the scores of the classes, sums over the pixels {P = k}, add up to that of
`segmentation`, and so do their maps before the ReLU (Lao et al., "On the Viability of Monocular Depth Pre-training for
Semantic Segmentation", ECCV 2024; Vinogradova, Dibrov & Myers, "Towards Interpretable Semantic Segmentation via
Gradient-weighted Class Activation Mapping", AAAI 2020).

A cross-entropy does not see a constant added to all logits of a pixel, but S does: two networks that predict the same
probabilities may have different maps. With log-softmax in place of the logits it does not.

Anything else that can be differentiated is a target too: a callable that takes what the network puts out and returns a
number for each image, (n,).

A region (a mask, a box) restricts a score to some of the pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError, UnknownNameError

Region = Tensor | tuple[int, int, int, int] | None
"""A bool mask (n, H, W) or (H, W) at the size of the prediction; a box (top, left, height, width) in pixels of it, the
same for all images; or `None` for everything."""


def region_mask(region: Region, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a region as a mask.

    Args:
        region: See `Region`.
        shape: (n, H, W) of the prediction.
        device: Where the mask is to be.

    Returns:
        (n, H, W) bool.

    Raises:
        DataError: The region has another size, or is empty or not inside the image.
    """
    n, height, width = shape
    if region is None:
        return torch.ones(shape, dtype=torch.bool, device=device)
    if isinstance(region, Tensor):
        if region.dtype != torch.bool or tuple(region.shape) not in ((n, height, width), (height, width)):
            raise DataError(
                f"expected a region as bool mask {(n, height, width)} or {(height, width)}, the size of the "
                f"prediction, found {region.dtype} {tuple(region.shape)}; scale it to the nearest pixel"
            )
        return region.to(device).expand(n, height, width)
    top, left, high, wide = region
    if min(top, left) < 0 or min(high, wide) < 1 or top + high > height or left + wide > width:
        raise DataError(
            f"expected a region as box (top, left, height, width) inside a prediction of {height} rows and {width} "
            f"columns, found {tuple(region)}"
        )
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    mask[:, top : top + high, left : left + wide] = True
    return mask


@dataclass(frozen=True)
class Scored:
    """What a target makes of an output.

    Attributes:
        rows: Scores, (n,) each, that can be differentiated; their sum is the target's value.
        predictions: Detached: labels (n, H, W) int64, classes (n,) int64, or depth (n, H, W); `None` if unknown.
        classes: The class of each row, where rows are classes of a segmentation.
        num_classes: Of a segmentation of which all classes are asked for; else 0.
    """

    rows: tuple[Tensor, ...]
    predictions: Tensor | None = None
    classes: tuple[int, ...] = ()
    num_classes: int = 0


@dataclass(frozen=True)
class Target:
    """What is asked of a network.

    Attributes:
        name: As it was asked for.
        score: Takes what the network puts out; `None` where there is nothing to differentiate.
    """

    name: str
    score: Callable[[Any], Scored] | None


@dataclass(frozen=True)
class TargetOptions:
    """The options of a target.

    Attributes:
        argument: What stands behind the colon, or "".
        region: Which pixels count.
        log_softmax: Take log-softmax in place of the logits.
    """

    argument: str = ""
    region: Region = None
    log_softmax: bool = False


def segmentation_score(asked: TargetOptions) -> Callable[[Any], Scored]:
    """Return the score of labels: of every class that is predicted, or of one."""
    only = class_number(asked.argument) if asked.argument else None

    def score(output: Any) -> Scored:
        logits = output_of(output, ("out", "logits"))
        if logits.dim() != 4 or logits.shape[1] < 2:
            raise DataError(
                f"expected logits (n, classes, H, W) for a target of segmentation, found {_shape(logits)}; take "
                f"{_rather(logits)}"
            )
        if only is not None:
            _check_class(only, logits.shape[1])
        values, labels = (logits.log_softmax(1) if asked.log_softmax else logits).float(), logits.argmax(1)
        values = values.gather(1, labels[:, None])[:, 0]  # argmax is constant under the gradient
        inside = region_mask(asked.region, labels.shape, labels.device)
        classes = labels[inside].unique().tolist() if only is None else [only]
        rows = tuple((values * ((labels == k) & inside)).sum((1, 2)) for k in classes or [0])
        return Scored(rows, labels, tuple(classes or [0]), logits.shape[1] if only is None else 0)

    return score


def class_score(asked: TargetOptions) -> Callable[[Any], Scored]:
    """Return the score of one class of an image, or of the class that is predicted."""
    only = class_number(asked.argument) if asked.argument else None

    def score(output: Any) -> Scored:
        logits = output_of(output, ("logits", "out"))
        if logits.dim() == 4 and only is not None:
            return segmentation_score(asked)(output)
        if logits.dim() != 2:
            raise DataError(
                f"expected logits (n, classes) for a target of classification, found {_shape(logits)}; take "
                f"{_rather(logits)}"
            )
        if asked.region is not None:
            raise DataError("expected a target with a value at each pixel for a region, found one class an image")
        if only is not None:
            _check_class(only, logits.shape[1])
        values, predicted = (logits.log_softmax(1) if asked.log_softmax else logits).float(), logits.argmax(1)
        wanted = predicted if only is None else torch.full_like(predicted, only)
        return Scored((values.gather(1, wanted[:, None])[:, 0],), predicted)

    return score


def depth_score(asked: TargetOptions) -> Callable[[Any], Scored]:
    """Return the score of depth: its sum, over the image or a region of it."""
    if asked.argument or asked.log_softmax:
        raise DataError("target depth: expected no class and no log-softmax, which are of classes; leave them out")

    def score(output: Any) -> Scored:
        depth = output_of(output, ("predicted_depth", "depth", "out"))
        if not (depth.dim() == 3 or (depth.dim() == 4 and depth.shape[1] == 1)):
            raise DataError(
                f"expected depth (n, 1, H, W) for the target depth, found {_shape(depth)}; take {_rather(depth)}"
            )
        depth = (depth[:, 0] if depth.dim() == 4 else depth).float()
        inside = region_mask(asked.region, depth.shape, depth.device)
        return Scored(((depth * inside).sum((1, 2)),), depth.detach())

    return score


def no_score(asked: TargetOptions) -> None:
    """Return that there is no score."""
    if asked.argument or asked.region is not None or asked.log_softmax:
        raise DataError(
            "target none: expected no class, region or log-softmax, since there is no score; leave them out"
        )


TARGETS: dict[str, Callable[[TargetOptions], Callable[[Any], Scored] | None]] = {
    "segmentation": segmentation_score,
    "class": class_score,
    "depth": depth_score,
    "none": no_score,
}


def target_of(spec: str | Callable, *, region: Region = None, log_softmax: bool = False) -> Target:
    """Return the target that is asked for.

    Args:
        spec: A name in `TARGETS`, `segmentation:K` or `class:K`, or a callable from the network's output to (n,).
        region: Which pixels count, of a target that has a value at each: see `Region`.
        log_softmax: Take log-softmax in place of logits.

    Raises:
        UnknownNameError: There is no such target.
        DataError: An option that the target does not have.
    """
    if callable(spec):
        if region is not None or log_softmax:
            raise DataError("expected no region and no log-softmax beside a target of your own; put them into it")
        return Target(getattr(spec, "__name__", type(spec).__name__), lambda output: Scored((spec(output),)))
    name, colon, argument = spec.partition(":")
    if colon and not argument:
        raise UnknownNameError(f"expected a class behind the colon, found {spec!r}; write {name}:3, say, or {name}")
    score = registry.get(TARGETS, name, "target")(TargetOptions(argument, region, log_softmax))
    return Target(spec, score)


def class_number(word: str) -> int:
    """Return the class that stands behind the colon."""
    if not word.isascii() or not word.isdigit():
        raise UnknownNameError(f"expected the number of a class behind the colon, from 0, found {word!r}")
    return int(word)


def output_of(output: Any, names: tuple[str, ...]) -> Tensor:
    """Return the tensor in what a network puts out: itself, or an entry of one of these names, or the only one.

    Raises:
        DataError: There is none, or several and none so named.
    """
    if hasattr(output, "keys"):
        tensors = {key: value for key, value in output.items() if isinstance(value, Tensor)}
        found = next((tensors[name] for name in names if name in tensors), None)
        output = next(iter(tensors.values())) if found is None and len(tensors) == 1 else found
    elif isinstance(output, tuple | list) and len(output) == 1:
        output = output[0]
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise DataError(
            f"expected a network that puts out one float tensor, or several by name with {' or '.join(names)} among "
            "them; give a callable as target that takes what yours puts out and returns a number for each image"
        )
    return output


def _check_class(number: int, classes: int) -> None:
    """Check that there is such a class."""
    if number >= classes:
        raise UnknownNameError(f"no class {number}: the network has {classes}, from 0 to {classes - 1}")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _rather(output: Tensor) -> str:
    """Return the target that an output of this shape is for."""
    if output.dim() == 2:
        return "the target class"
    dense = output.dim() == 4 and output.shape[1] > 1
    return "the target segmentation" if dense else "the target depth" if output.dim() in (3, 4) else "the target none"
