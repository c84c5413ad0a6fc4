"""Targets: the score of each image that a map explains, computed from the network's output.

| target | output | score S of an image |
|---|---|---|
| `segmentation` | logits s (n, K, H, W) | sum over pixels of s_P, P the predicted class; and a score for each class |
| `segmentation:K` | the same | sum of s_K over the pixels predicted K |
| `class` | logits (n, K) | the logit of the predicted class |
| `class:K` | the same, or (n, K, H, W) | the logit of class K; of a segmentation as `segmentation:K` |
| `depth` | depth (n, 1, H, W) or (n, H, W) | sum of the predicted depth |
| `none` | any | none, and no gradient |

With P = argmax_k s_k held constant, the scores of the classes, sums over the pixels {P = k}, add up to that of
`segmentation`, and so do their maps before the ReLU (Lao et al., "On the Viability of Monocular Depth Pre-training for
Semantic Segmentation", ECCV 2024; Vinogradova, Dibrov & Myers, "Towards Interpretable Semantic Segmentation via
Gradient-weighted Class Activation Mapping", AAAI 2020).

A cross-entropy does not change with a constant added to all logits of a pixel, but S does: two networks that predict
the same probabilities may have different maps. With log-softmax in place of the logits they have the same.

Any callable that can be differentiated is a target too: it takes the network's output and returns a number for each
image, (n,). A region (a mask or a box) restricts a score to some of the pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError, UnknownNameError
from cka_probe.registry import suggestion

Region = Tensor | tuple[int, int, int, int] | None
"""A bool mask (n, H, W) or (H, W) of the prediction's size; a box (top, left, height, width) in its pixels, the same
for all images; or `None` for all pixels."""


PREDICTIONS = ("out", "logits", "predicted_depth", "depth")
"""Names of dense predictions in an output with several entries."""


@dataclass(frozen=True)
class Scored:
    """The result of a target.

    Attributes:
        rows: Scores, (n,) each, that can be differentiated; their sum is the target's value.
        predictions: Detached: labels (n, H, W) int64, classes (n,) int64, or depth (n, H, W); `None` if unknown.
        classes: The class of each row, if rows are the classes of a segmentation.
        num_classes: The number of classes, if the target is a whole segmentation; else 0.
    """

    rows: tuple[Tensor, ...]
    predictions: Tensor | None = None
    classes: tuple[int, ...] = ()
    num_classes: int = 0


@dataclass(frozen=True)
class TargetOptions:
    """The options of a target.

    Attributes:
        only: The class after the colon; `None` for the predicted classes.
        region: The pixels that count.
        log_softmax: Use log-softmax instead of the logits.
    """

    only: int | None = None
    region: Region = None
    log_softmax: bool = False

    def values(self, logits: Tensor) -> Tensor:
        """Return logits (n, K, ...) or their log-softmax, float32."""
        if self.only is not None and self.only >= logits.shape[1]:
            raise no_such_class(self.only, logits.shape[1])
        return (logits.log_softmax(1) if self.log_softmax else logits).float()


def no_such_class(number: int, count: int) -> UnknownNameError:
    """Return the error for a class that a network of so many classes does not have."""
    return UnknownNameError(f"no class {number}: the network has {count}, from 0 to {count - 1}")


def segmentation_score(output: Any, options: TargetOptions) -> Scored:
    """Return the score of each predicted class, or of one class."""
    logits = tensor_in(output, ("out", "logits"))
    if logits.dim() != 4 or logits.shape[1] < 2:
        raise _wrong_output("logits (n, classes, H, W)", "segmentation", logits)
    values, labels = options.values(logits), logits.argmax(1)
    values = values.gather(1, labels[:, None])[:, 0]  # argmax is constant under the gradient
    inside = region_mask(options.region, labels.shape, labels.device)
    classes = [options.only] if options.only is not None else labels[inside].unique().tolist() or [0]
    rows = tuple((values * ((labels == k) & inside)).sum((1, 2)) for k in classes)
    return Scored(rows, labels, tuple(classes), logits.shape[1] if options.only is None else 0)


def class_score(output: Any, options: TargetOptions) -> Scored:
    """Return the score of the predicted class of an image, or of one class."""
    logits = tensor_in(output, ("logits", "out"))
    if logits.dim() == 4 and options.only is not None:
        return segmentation_score(output, options)
    if logits.dim() != 2:
        raise _wrong_output("logits (n, classes)", "class", logits)
    if options.region is not None:
        raise DataError("expected a target with a value at each pixel for a region, found one class per image")
    values, predicted = options.values(logits), logits.argmax(1)
    classes = predicted if options.only is None else torch.full_like(predicted, options.only)
    return Scored((values.gather(1, classes[:, None])[:, 0],), predicted)


def depth_score(output: Any, options: TargetOptions) -> Scored:
    """Return the sum of depth, over the image or a region of it."""
    depth = tensor_in(output, ("predicted_depth", "depth", "out"))
    if not (depth.dim() == 3 or (depth.dim() == 4 and depth.shape[1] == 1)):
        raise _wrong_output("depth (n, 1, H, W)", "depth", depth)
    depth = (depth[:, 0] if depth.dim() == 4 else depth).float()
    inside = region_mask(options.region, depth.shape, depth.device)
    return Scored(((depth * inside).sum((1, 2)),), depth.detach())


TARGETS: dict[str, Callable[[Any, TargetOptions], Scored] | None] = {
    "segmentation": segmentation_score,
    "class": class_score,
    "depth": depth_score,
    "none": None,
}


def target_with_number(
    target: str | int | Callable[[Any], Tensor], names: Sequence[str] = ()
) -> str | Callable[[Any], Tensor]:
    """Return a target with the number of its class instead of the name, and `class:K` for a number K.

    Args:
        target: As for `grad_cam`.
        names: The names of classes 0, 1, …; a name may have synonyms after commas, and each is a name.

    Raises:
        UnknownNameError: There is no such class, or several have this name.
        DataError: The target is neither a name nor a number nor a callable.

    >>> target_with_number("class:tabby cat", ["tench", "tabby, tabby cat"]), target_with_number(3)
    ('class:1', 'class:3')
    """
    if callable(target):
        return target
    if isinstance(target, Integral) and not isinstance(target, bool) and target >= 0:
        return f"class:{target}"
    if not isinstance(target, str):
        raise DataError(f"expected a target such as 'class:3', a number from 0 or a callable, found {target!r}")
    kind, _, word = target.partition(":")
    if not word or word.isdigit() or not names:
        return target
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        for synonym in {name, *name.split(", ")}:
            numbers.setdefault(synonym.lower(), []).append(number)
    if word.lower() not in numbers:
        hint = suggestion(word.lower(), numbers)
        raise UnknownNameError(f"no class {word!r}; {hint}give a name of the {len(names)} classes, or a number from 0")
    matches = numbers[word.lower()]
    if len(matches) > 1:
        raise UnknownNameError(f"{len(matches)} classes are called {word!r}: give one of the numbers {matches}")
    return f"{kind}:{matches[0]}"


def target_score(
    target: str | Callable[[Any], Tensor], *, region: Region = None, log_softmax: bool = False
) -> Callable[[Any], Scored] | None:
    """Return the function from a network's output to its scores; `None` for the target `none`.

    Args:
        target: A name in `TARGETS`, `segmentation:K` or `class:K`, or a callable from the network's output to (n,).
        region: The pixels that count, for a target that has a value at each: see `Region`.
        log_softmax: Use log-softmax instead of logits.

    Raises:
        UnknownNameError: There is no such target.
        DataError: The target does not have one of the options.
    """
    if callable(target):
        if region is not None or log_softmax:
            raise DataError("expected no region and no log-softmax with a callable target; apply them in the callable")
        return lambda output: Scored((target(output),))
    name, colon, word = target.partition(":")
    if colon and not word:
        raise UnknownNameError(f"expected a class after the colon, found {target!r}; write {name}:3, say, or {name}")
    score = registry.get(TARGETS, name, "target")
    if name == "depth" and (word or log_softmax):
        raise DataError("target depth: expected no class and no log-softmax, which are for classes; omit them")
    if score is None:
        if word or region is not None or log_softmax:
            raise DataError("target none: expected no class, region or log-softmax, as there is no score; omit them")
        return None
    if word and not (word.isascii() and word.isdigit()):
        raise UnknownNameError(f"expected the number of a class after the colon, from 0, found {word!r}")
    options = TargetOptions(int(word) if word else None, region, log_softmax)
    return lambda output: score(output, options)


def region_mask(region: Region, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a region as a mask.

    Args:
        region: See `Region`.
        shape: (n, H, W) of the prediction.
        device: The device of the mask.

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
                f"prediction, found {region.dtype} {tuple(region.shape)}; resize it (nearest)"
            )
        return region.to(device).expand(n, height, width)
    top, left, rows, columns = region
    if min(top, left) < 0 or min(rows, columns) < 1 or top + rows > height or left + columns > width:
        raise DataError(
            f"expected a region as box (top, left, height, width) inside a prediction of {height} rows and {width} "
            f"columns, found {tuple(region)}"
        )
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    mask[:, top : top + rows, left : left + columns] = True
    return mask


def tensor_in(output: Any, names: tuple[str, ...]) -> Tensor:
    """Return the tensor in a network's output: the output itself, its entry of one of these names, or its only entry.

    Raises:
        DataError: There is no tensor, or several and none of these names.
    """
    if hasattr(output, "keys"):
        tensors = {key: value for key, value in output.items() if isinstance(value, Tensor)}
        named = next((tensors[name] for name in names if name in tensors), None)
        output = next(iter(tensors.values())) if named is None and len(tensors) == 1 else named
    elif isinstance(output, tuple | list) and len(output) == 1:
        output = output[0]
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise DataError(
            f"expected a network that returns one float tensor, or several by name with {' or '.join(names)} among "
            "them; give a callable as target that takes the output and returns a number for each image"
        )
    return output


def _wrong_output(expected: str, target: str, output: Tensor) -> DataError:
    """Return the error for an output that a target cannot score; it names the target that can."""
    by_dim = {2: "class", 3: "depth", 4: "segmentation" if output.shape[1:2] > (1,) else "depth"}
    return DataError(
        f"expected {expected} for the target {target}, found {tuple(output.shape)}; use the target "
        f"{by_dim.get(output.dim(), 'none')}"
    )
