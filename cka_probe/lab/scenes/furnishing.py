"""Which furniture stands in which rooms, and what NYU's 13 classes call it."""

from collections.abc import Callable

import numpy as np

from cka_probe.lab.scenes.furniture import (
    Piece,
    bed,
    bookcase,
    boxes,
    coffee_table,
    counter,
    cupboard,
    desk,
    dining,
    floor_lamp,
    nightstand,
    plant,
    sofa,
    television,
)
from cka_probe.lab.scenes.palette import Palette

Maker = Callable[[np.random.Generator, Palette], Piece]

AT_WALLS: dict[str, tuple[Maker, ...]] = {
    "bedroom": (bed, nightstand, cupboard, cupboard, bookcase, desk, plant, sofa, boxes),
    "dining_room": (cupboard, bookcase, floor_lamp, plant, sofa, boxes),
    "living_room": (sofa, sofa, television, bookcase, floor_lamp, plant, cupboard, desk, boxes),
    "kitchen": (counter, counter, cupboard, plant, dining, boxes),
}
IN_THE_MIDDLE: dict[str, tuple[Maker, ...]] = {
    "bedroom": (bed, sofa, coffee_table),
    "dining_room": (dining,),
    "living_room": (coffee_table, coffee_table, sofa),
    "kitchen": (dining,),
}
"""What stands in rooms of each category of LSUN's that papers train on; the first at the walls is always there."""

LABELS: dict[Maker, str] = {
    bed: "bed",
    bookcase: "furniture",
    boxes: "objects",
    coffee_table: "table",
    counter: "furniture",
    cupboard: "furniture",
    desk: "table",
    dining: "table",
    floor_lamp: "objects",
    nightstand: "furniture",
    plant: "objects",
    sofa: "sofa",
    television: "furniture",
}
"""The class of each piece among NYU's 13; parts that are of another say so themselves."""
