"""Numbers of things: the way data sets count them, and the ids of Cityscapes and KITTI for their classes."""

import numpy as np
from numpy.typing import NDArray

from cka_probe.errors import DataError
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.classes import CITYSCAPES, CITYSCAPES_IDS

FIRST_THING = CITYSCAPES.names.index("person")
"""Persons, riders and vehicles are things, one by one; what comes before them in the vocabulary is not."""


def counted(kinds: NDArray[np.integer], pieces: NDArray[np.integer], most: int) -> NDArray[np.int64]:
    """Return the number of the thing at each pixel, counted from 1 in each kind; 0 where there is none.

    Args:
        kinds: (H, W) what it is a thing of; 0 = none.
        pieces: (H, W) the world's number of the piece; 0 = none.
        most: The most things of a kind that the format has numbers for.

    Raises:
        DataError: There are more.
    """
    things = np.zeros(kinds.shape, np.int64)
    some = (kinds > 0) & (pieces > 0)
    for kind in np.unique(kinds[some]):
        here = some & (kinds == kind)
        there, numbers = np.unique(pieces[here], return_inverse=True)
        if len(there) > most:
            raise DataError(
                f"expected at most {most} things of one kind in an image, found {len(there)}; use another layout"
            )
        things[here] = numbers.ravel() + 1
    return things


def street_things(labels: NDArray[np.uint8], pieces: NDArray[np.integer], most: int) -> NDArray[np.int64]:
    """Return `counted` of what counts in a street: labels (H, W) are places in `CITYSCAPES`."""
    kinds = np.where((labels >= FIRST_THING) & (labels != IGNORE), labels, 0)
    return counted(kinds, pieces, most)


def ids_of(labels: NDArray[np.uint8], none: int) -> NDArray[np.uint8]:
    """Return labels (H, W) of the 19 training classes as ids 0 ... 33, and `none` where there is no class."""
    table = np.full(256, none, np.uint8)
    for number, label in enumerate(CITYSCAPES_IDS[:34]):
        if label != IGNORE:
            table[label] = number
    return table[labels]
