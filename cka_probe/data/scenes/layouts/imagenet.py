"""An ImageNet folder: pictures of things in a folder for each class.

    ROOT/train/<class>/<class>_0000_0.JPEG
    ROOT/val/<class>/…

The folders have the classes' names where ImageNet's have the numbers of WordNet; readers take any. JPEG, quality 95.
"""

from cka_probe.data.scenes.layouts.files import write_picture
from cka_probe.data.scenes.layouts.layout import Layout, Place, Unit, nothing_left


def write(unit: Unit, place: Place) -> list[str]:
    """Write the pictures of one world."""
    folder = place.tree / ("val" if unit.test else "train") / unit.category
    for frame, view in unit.views():
        write_picture(folder / f"{unit.name}_{frame}.JPEG", view.image)
    return []


LAYOUT = Layout(
    reader="imagenet",
    kinds=("objects", "rooms"),
    holds=frozenset({"image", "category"}),
    write=write,
    finish=nothing_left,
)
