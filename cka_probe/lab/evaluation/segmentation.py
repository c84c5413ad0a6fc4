"""How well labels are predicted: one confusion matrix per image, and what follows from it.

C[t, p] counts the pixels of class t that were called p; pixels labelled 255 are not counted. Then, over the images
whose matrices are summed,

    IoU_k = C_kk / (sum_p C_kp + sum_t C_tk - C_kk)      accuracy = sum_k C_kk / sum C

and mIoU is the mean of IoU_k over the classes, or over a fixed subset of them. Matrices are whole numbers and add: over
images, over batches, over processes, in any order. The mean of the mIoU of each image is another number, often
several points away from that of the sum; both are in use and are never given the same name here.

A class that neither occurs nor is predicted has an empty union: its IoU is NaN, not 0, and it is in no mean.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.sample import IGNORE


def confusion_matrices(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return how often each class was called each, per image.

    Args:
        predicted: (n, H, W) whole numbers, 0 … classes - 1; what stands where the label is 255 does not matter.
        labels: (n, H, W) whole numbers on the same device, 0 … classes - 1, or 255 = ignore.
        classes: K.

    Returns:
        (n, K, K) int64 on their device, [image, truth, prediction].

    Raises:
        DataError: Shapes differ, numbers are not whole, or one of them is no class.

    >>> confusion_matrices(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 255]]]), 2).tolist()
    [[[1, 1], [0, 0]]]
    """
    _check(predicted, labels, classes)
    counted = labels != IGNORE
    images = torch.arange(len(labels), device=labels.device).view(-1, 1, 1).expand_as(labels)[counted]
    truth, found = labels[counted].long(), predicted[counted].long()
    for name, numbers in (("labels", truth), ("predictions", found)):
        least, most = (int(end) for end in numbers.aminmax()) if numbers.numel() else (0, 0)
        if least < 0 or most >= classes:
            raise DataError(
                f"expected {name} of {classes} classes, 0 to {classes - 1}, found numbers from {least} to {most}; "
                "give data and a model of the same classes"
            )
    places = (images * classes + truth) * classes + found
    return torch.bincount(places, minlength=len(labels) * classes**2).view(len(labels), classes, classes)


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
    return hit / (confusion.sum(-1) + confusion.sum(-2) - hit)  # 0 / 0 is the NaN that is meant


def mean_iou(confusion: Tensor, subset: Sequence[int] = ()) -> Tensor:
    """Return the mean IoU over the classes that have a union.

    The whole matrix counts, whatever the subset: a pixel of a class of the subset that was called another is missed.

    Args:
        confusion: (..., K, K) [truth, prediction].
        subset: Numbers of the classes that the mean is over; empty for all.

    Returns:
        (...) float64; NaN where no class of the subset has a union.

    Raises:
        DataError: The subset names a class that there is not.

    >>> mean_iou(torch.tensor([[3, 1], [0, 0]])).item(), mean_iou(torch.tensor([[3, 1], [0, 0]]), [0]).item()
    (0.375, 0.75)
    """
    classes = confusion.shape[-1]
    if wrong := [number for number in subset if not 0 <= number < classes]:
        raise DataError(f"expected a subset of the {classes} classes 0 to {classes - 1}, found {wrong}; leave them out")
    union = intersection_over_union(confusion)
    return (union[..., list(subset)] if len(subset) else union).nanmean(-1)


def pixel_accuracy(confusion: Tensor) -> Tensor:
    """Return the share of labelled pixels that were called what they are.

    Args:
        confusion: (..., K, K) [truth, prediction].

    Returns:
        (...) float64; NaN where no pixel is labelled.
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
            f"expected whole numbers of classes, found {predicted.dtype} and {labels.dtype}; take the argmax of logits"
        )
    if not 0 < classes <= IGNORE:
        raise DataError(f"expected 1 to {IGNORE} classes, found {classes}; {IGNORE} itself means: ignore")
