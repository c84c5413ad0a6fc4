"""The floor plan of a room while it is filled, so that nothing stands in anything else or before the camera."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cka_probe.lab.scenes.solids import Point, Solid, bounds, moved

YAWS = {"far": np.pi, "left": -np.pi / 2, "right": np.pi / 2, "near": 0.0}
TALL = 0.95

Area = tuple[float, float, float, float, float]


def area_of(solids: Sequence[Solid]) -> Area:
    """Return (x0, x1, y0, y1, height) of what some solids take of the floor."""
    low, high = bounds(solids)
    return (low[0], high[0], low[1], high[1], high[2])


class Plan:
    """What is taken of a floor, as areas (x0, x1, y0, y1, height).

    An area of height 0 lies before a window: low furniture may stand there and high may not.

    Args:
        size: Of the room.
        poses: (frames, 4, 4) of the camera, around and before which nothing may stand.
    """

    def __init__(self, size: Point, poses: Iterable[NDArray[np.float64]]):
        self.size = size
        self.taken: list[Area] = []
        for pose in poses:
            for ahead, margin in ((0.0, 0.4), (0.7, 0.45)):
                x, y = pose[:2, 3] + ahead * pose[:2, 2]
                self.taken.append((x - margin, x + margin, y - margin, y + margin, size[2]))

    def fits(self, area: Area, above: float = 0.0) -> bool:
        """Return whether an area is in the room and meets no area higher than `above`."""
        x0, x1, y0, y1, _ = area
        inside = x0 > -0.01 and y0 > -0.01 and x1 < self.size[0] + 0.01 and y1 < self.size[1] + 0.01
        apart = (x1 <= a or x0 >= b or y1 <= c or y0 >= d for a, b, c, d, height in self.taken if height > above)
        return inside and all(apart)

    def put(self, piece: Sequence[Solid]) -> bool:
        """Take the area of a piece of furniture if it is free, and return whether it was."""
        area = area_of(piece)
        fits = self.fits(area, above=-1.0 if area[4] > TALL else 0.0)
        if fits:
            self.taken.append(area)
        return fits

    def at_wall(self, piece: Sequence[Solid], wall: str, along: float) -> list[Solid]:
        """Return a piece moved to a wall of `YAWS`, its middle at the share `along` of it."""
        w, d, _ = self.size
        place = {"far": (along * w, d), "near": (along * w, 0.0), "left": (0.0, along * d), "right": (w, along * d)}
        return list(moved(piece, (*place[wall], 0.0), YAWS[wall]))
