"""Cityscapes' numbers for what is in a street: ids of classes, and numbers of things."""

import numpy as np
from numpy.typing import NDArray

from cka_probe.data.classes import CITYSCAPES, CITYSCAPES_IDS
from cka_probe.data.sample import IGNORE
from cka_probe.errors import DataError

FIRST_THING = CITYSCAPES.names.index("person")
"""Persons, riders and vehicles are things, one by one; what comes before them in the vocabulary is not."""


def ids_of(labels: NDArray[np.uint8], none: int) -> NDArray[np.uint8]:
    """Return labels (H, W) of the 19 training classes as ids 0 ... 33, and `none` where there is no class."""
    table = np.full(256, none, np.uint8)
    for number, label in enumerate(CITYSCAPES_IDS[:34]):
        if label != IGNORE:
            table[label] = number
    return table[labels]


def things_in(labels: NDArray[np.uint8], pieces: NDArray[np.int32], most: int) -> NDArray[np.int64]:
    """Return the number of the thing at each pixel, from 1 in each class; 0 where there is none.

    Args:
        labels: (H, W) places in `CITYSCAPES`.
        pieces: (H, W) the world's numbers of its pieces.
        most: The most things of a class that the format has numbers for.

    Raises:
        DataError: There are more.
    """
    things = np.zeros(labels.shape, np.int64)
    for label in np.unique(labels[(labels >= FIRST_THING) & (labels != IGNORE)]):
        here = labels == label
        pieces_here, numbers = np.unique(pieces[here], return_inverse=True)
        if len(pieces_here) > most:
            raise DataError(
                f"expected at most {most} of the class {CITYSCAPES.names[label]!r} in a picture, found "
                f"{len(pieces_here)}; use another layout"
            )
        things[here] = numbers.ravel() + 1
    return things
