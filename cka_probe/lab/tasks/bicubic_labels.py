"""Label images scaled as images are: a fault of the released code of Depth-to-Semantic, to be measured.

It opens Cityscapes' ids (7 road, 8 sidewalk, 11 building, …) as a grey image and scales that by Pillow's default,
which is bicubic. Between a road of 7 and a building of 11 there then stand 8 and 9 and, where the curve overshoots, 6
and 12: sidewalks, walls and pixels that count no more. Where generated streets of KITTI's size are scaled to 640 x 192,
3 % of the pixels differ from the nearest label, from 192 x 128 to 96 x 64 it is 11 %; where nothing is scaled, none.
Here the classes are numbered by their ids again, scaled, and read as ids.

What a data set said to ignore has lost its id when it is read, and is 0 (unlabelled) here; there it was whatever id it
had, most often between 0 and 6.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cka_probe.images.classes import CITYSCAPES, CITYSCAPES_IDS, UNKNOWN
from cka_probe.images.sample import IGNORE


def _ids() -> np.ndarray:
    """Return the id of each class, (256,) uint8; 0 for what is ignored."""
    ids = np.zeros(IGNORE + 1, np.uint8)
    for number, place in enumerate(CITYSCAPES_IDS):
        if 0 <= place < len(CITYSCAPES):
            ids[place] = number
    return ids


_IDS = _ids()


def bicubic_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return labels scaled as if their ids were brightness.

    Args:
        labels: (H, W) int64, numbered as `CITYSCAPES`; 255 = ignore.
        size: (height, width) in pixels.

    Returns:
        (height, width) int64; an invented id is the class it names, or 255 where it names none.
    """
    image = Image.fromarray(_IDS[labels.numpy()])
    scaled = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    found = CITYSCAPES_IDS[scaled]
    return torch.from_numpy(np.where(found == UNKNOWN, IGNORE, found))
