"""The names and colours of classes, and the tables from one numbering to another.

A label image holds only numbers. A vocabulary says what they mean: class `k` of a sample's `labels` is called
`names[k]` and drawn in `colours[k]`; 255 is no class.

Data sets number their classes differently. A table (numpy int64, indexed by the number in the file) maps their numbers
to those of a vocabulary; it holds 255 for ignored numbers and `UNKNOWN` for numbers that a file should not contain.

Sources: Cordts et al. 2016 (Cityscapes, its 19 training classes), Silberman et al. 2012 and Gupta et al. 2013
(NYU's 40 classes), Couprie et al. 2013 (its 13), Everingham et al. 2010 (VOC), Brostow et al. 2009 and
Badrinarayanan et al. 2017 (CamVid's 11), Zhou et al. 2017 (ADE20K).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cka_probe.errors import DataError
from cka_probe.images.sample import IGNORE

RGB = tuple[int, int, int]

UNKNOWN = -1
"""The entry of a table for a number that files should not contain."""

IGNORED: RGB = (255, 255, 255)
"""The colour of pixels of no class: no vocabulary has a white class, and VOC's background is black."""


@dataclass(frozen=True)
class Classes:
    """A vocabulary: the meaning of the numbers in `labels` (or `category`).

    Args:
        names: The names of classes 0, 1, …
        colours: Their colours, RGB in 0 … 255; by default those of `palette`.

    Raises:
        DataError: There are not as many colours as names.
    """

    names: tuple[str, ...]
    colours: tuple[RGB, ...] = ()

    def __post_init__(self) -> None:
        if not self.colours:
            object.__setattr__(self, "colours", palette(len(self.names)))
        if len(self.colours) != len(self.names):
            raise DataError(f"expected one colour for each of {len(self.names)} classes, found {len(self.colours)}")

    def __len__(self) -> int:
        return len(self.names)

    def paint(self, labels: np.ndarray) -> np.ndarray:
        """Return labels as an RGB image.

        Args:
            labels: (H, W) of any integer type; 255 (ignore) is drawn white.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            DataError: A label is neither a class nor 255.
        """
        labels = np.asarray(labels)
        wrong = np.unique(labels[(labels != IGNORE) & ((labels < 0) | (labels >= len(self)))])
        if len(wrong):
            raise DataError(f"expected labels below {len(self)} or {IGNORE}, found {wrong[0]}; give its own classes")
        colours = np.zeros((max(IGNORE + 1, len(self)), 3), np.uint8)
        colours[IGNORE] = IGNORED
        count = min(len(self), IGNORE)  # vocabularies of more classes are of categories, which are never painted
        colours[:count] = self.colours[:count]
        image: np.ndarray = colours[labels]
        return image


@lru_cache(maxsize=32)
def palette(count: int) -> tuple[RGB, ...]:
    """Return distinct colours, each as far as possible from those before it.

    The candidates are a lattice of RGB colours that are neither nearly black nor nearly white, so that they stand out
    from ignored pixels and from paper. The distance is Euclidean in CIELAB, where equal steps look about equal. The
    first colours are the same for every count, so a class keeps its colour when others are added.

    Args:
        count: Number of colours; beyond the size of the lattice they repeat.

    >>> palette(2) == palette(9)[:2]
    True
    """
    candidates, lab = _lattice()
    colours: list[RGB] = []
    nearest = np.full(len(lab), np.inf)
    index = int(np.argmax(lab[:, 1]))  # start with the reddest
    for _ in range(min(count, len(candidates))):
        red, green, blue = candidates[index].tolist()
        colours.append((red, green, blue))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[index], axis=1))
        index = int(np.argmax(nearest))
    return tuple(colours[number % len(colours)] for number in range(count))


@lru_cache(maxsize=1)
def _lattice() -> tuple[np.ndarray, np.ndarray]:
    """Return the candidates for a palette, (n, 3) uint8, and the same in CIELAB."""
    levels = np.linspace(0, 255, 13).round()
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = _lab(colours)
    visible = (lab[:, 0] > 25) & (lab[:, 0] < 92)
    return colours[visible].astype(np.uint8), lab[visible]


def _lab(colours: np.ndarray) -> np.ndarray:
    """Return sRGB colours (n, 3) in 0 … 255 as CIELAB under D65 (IEC 61966-2-1, CIE 15)."""
    values = colours / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = linear @ np.array(to_xyz).T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)


def table(pairs: dict[int, int], size: int = 256) -> np.ndarray:
    """Return a table that maps each key to its value, and everything else to `UNKNOWN`.

    Args:
        pairs: Class by number in the file; `IGNORE` for pixels of no class.
        size: Length of the table, greater than the largest number.

    Returns:
        (size,) int64.
    """
    entries = np.full(size, UNKNOWN, np.int64)
    entries[list(pairs)] = list(pairs.values())
    return entries


def numbered(count: int) -> Classes:
    """Return classes without names: "0", "1", …"""
    return Classes(tuple(map(str, range(count))))


def voc_colours(count: int) -> tuple[RGB, ...]:
    """Return VOC's colours: the bits of the class number go to R, G and B in turn, highest bit first."""
    colours: list[RGB] = []
    for number in range(count):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
        colours.append((colour[0], colour[1], colour[2]))
    return tuple(colours)


def _named(text: str, colours: Sequence[RGB] = ()) -> Classes:
    """Return classes from names separated by commas."""
    return Classes(tuple(name.strip() for name in text.split(",")), tuple(colours))


# fmt: off
NYU13 = _named(
    "bed, books, ceiling, chair, floor, furniture, objects, picture, sofa, table, tv, wall, window",
    [(0, 0, 255), (233, 89, 48), (0, 218, 0), (149, 0, 240), (222, 241, 24), (255, 206, 206), (0, 224, 229),
     (106, 136, 204), (117, 29, 41), (240, 35, 235), (0, 167, 156), (249, 139, 0), (225, 229, 194)],
)
NYU40 = _named(
    "wall, floor, cabinet, bed, chair, sofa, table, door, window, bookshelf, picture, counter, blinds, desk, shelves, "
    "curtain, dresser, pillow, mirror, floor mat, clothes, ceiling, books, refrigerator, television, paper, towel, "
    "shower curtain, box, whiteboard, person, night stand, toilet, sink, lamp, bathtub, bag, other structure, "
    "other furniture, other prop",
)
CITYSCAPES = _named(
    "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person, "
    "rider, car, truck, bus, train, motorcycle, bicycle",
    [(128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
     (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
     (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)],
)
VOC21 = _named(
    "background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, dining table, dog, horse, "
    "motorbike, person, potted plant, sheep, sofa, train, tv monitor",
    voc_colours(21),
)
CAMVID11 = _named(
    "sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist",
    [(128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0), (192, 128, 128),
     (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)],
)
ADE150 = numbered(150)

NYU40_TO_13 = table(
    dict(enumerate(np.array([
        12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5, 7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7,
        7, 7, 7, 6, 7,
    ]) - 1)) | {IGNORE: IGNORE}
)
"""(256,) int64: from `NYU40` (counted from 0) to `NYU13`."""

_TRAINED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_IDS = table(
    dict.fromkeys((*range(34), IGNORE), IGNORE) | {number: index for index, number in enumerate(_TRAINED)}
)
"""(256,) int64: from Cityscapes' (and KITTI's) ids 0 … 33 to `CITYSCAPES`; -1, stored as 255, is ignored."""
# fmt: on
