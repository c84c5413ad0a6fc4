"""Measures of predicted labels: one confusion matrix per image, and what follows from it.

C[t, p] counts the pixels of class t that are predicted p; pixels labelled 255 are not counted. Then, over the images
whose matrices are summed,

    IoU_k = C_kk / (sum_p C_kp + sum_t C_tk - C_kk)      accuracy = sum_k C_kk / sum C

and mIoU is the mean of IoU_k over the classes, or over a fixed subset of them. Matrices are integers and add up over
images, batches and processes, in any order. The mean of the mIoU of each image is a different number, often several
points away from that of the sum; both are in use and have different names here.

A class that neither occurs nor is predicted has an empty union: its IoU is NaN, not 0, and it enters no mean.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.sample import IGNORE


def confusion_matrices(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return how often each class is predicted as each, per image.

    Args:
        predicted: (n, H, W) integers, 0 … classes - 1; ignored where the label is 255.
        labels: (n, H, W) integers on the same device, 0 … classes - 1, or 255 = ignore.
        classes: K.

    Returns:
        (n, K, K) int64 on their device, [image, truth, prediction].

    Raises:
        DataError: Shapes differ, or values are not integers or not classes.

    >>> confusion_matrices(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 255]]]), 2).tolist()
    [[[1, 1], [0, 0]]]
    """
    _check(predicted, labels, classes)
    counted = labels != IGNORE
    images = torch.arange(len(labels), device=labels.device).view(-1, 1, 1).expand_as(labels)[counted]
    truth, prediction = labels[counted].long(), predicted[counted].long()
    for name, numbers in (("labels", truth), ("predictions", prediction)):
        least, most = (int(end) for end in numbers.aminmax()) if numbers.numel() else (0, 0)
        if least < 0 or most >= classes:
            raise DataError(
                f"expected {name} of {classes} classes, 0 to {classes - 1}, found numbers from {least} to {most}; "
                "use data and a model of the same classes"
            )
    cells = (images * classes + truth) * classes + prediction
    return torch.bincount(cells, minlength=len(labels) * classes**2).view(len(labels), classes, classes)


def intersection_over_union(confusion: Tensor) -> Tensor:
    """Return the IoU of each class.

    Args:
        confusion: (..., K, K) [truth, prediction], of one image or summed over several.

    Returns:
        (..., K) float64; NaN for a class that neither occurs nor is predicted.

    >>> intersection_over_union(torch.tensor([[1, 1, 0], [0, 2, 0], [0, 0, 0]])).tolist()
    [0.5, 0.6666666666666666, nan]
    """
    confusion = confusion.double()
    hit = confusion.diagonal(dim1=-2, dim2=-1)
    return hit / (confusion.sum(-1) + confusion.sum(-2) - hit)  # 0 / 0 is NaN


def mean_iou(confusion: Tensor, subset: Sequence[int] = ()) -> Tensor:
    """Return the mean IoU over the classes that have a union.

    The whole matrix counts, whatever the subset: a pixel of the subset that is predicted as another class is an error.

    Args:
        confusion: (..., K, K) [truth, prediction].
        subset: Numbers of the classes of the mean; empty for all.

    Returns:
        (...) float64; NaN if no class of the subset has a union.

    Raises:
        DataError: The subset has a number that is not a class.

    >>> mean_iou(torch.tensor([[3, 1], [0, 0]])).item(), mean_iou(torch.tensor([[3, 1], [0, 0]]), [0]).item()
    (0.375, 0.75)
    """
    classes = confusion.shape[-1]
    if wrong := [number for number in subset if not 0 <= number < classes]:
        raise DataError(f"expected a subset of the {classes} classes 0 to {classes - 1}, found {wrong}; omit them")
    union = intersection_over_union(confusion)
    return (union[..., list(subset)] if len(subset) else union).nanmean(-1)


def pixel_accuracy(confusion: Tensor) -> Tensor:
    """Return the share of labelled pixels that are correct.

    Args:
        confusion: (..., K, K) [truth, prediction].

    Returns:
        (...) float64; NaN if no pixel is labelled.
    """
    confusion = confusion.double()
    return confusion.diagonal(dim1=-2, dim2=-1).sum(-1) / confusion.sum((-2, -1))


def _check(predicted: Tensor, labels: Tensor, classes: int) -> None:
    if predicted.shape != labels.shape or labels.ndim != 3:
        raise DataError(
            f"expected predictions and labels of one shape (n, H, W), found {tuple(predicted.shape)} and "
            f"{tuple(labels.shape)}; resize one of them"
        )
    if predicted.is_floating_point() or labels.is_floating_point():
        raise DataError(
            f"expected integer classes, found {predicted.dtype} and {labels.dtype}; take the argmax of logits"
        )
    if not 0 < classes <= IGNORE:
        raise DataError(f"expected 1 to {IGNORE} classes, found {classes}; {IGNORE} itself means ignore")
