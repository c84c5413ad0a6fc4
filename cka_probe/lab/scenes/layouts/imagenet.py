"""An ImageNet folder: images of things in a folder for each class.

    ROOT/train/<class>/<class>_0000_0.JPEG
    ROOT/val/<class>/…

The folders have the classes' names where ImageNet's have the numbers of WordNet; readers take any. JPEG, quality 95.
In `train` there is a folder for every class, even of one that this set has no image of: readers number the classes
by these, and a class should have one number in all sets.
"""

from collections.abc import Iterable

from cka_probe.lab.scenes.layouts.files import write_image
from cka_probe.lab.scenes.layouts.layout import Layout, Place, Unit, Written


def write(unit: Unit, place: Place) -> list[str]:
    """Write the images of one scene; its lines are the classes that there are."""
    folder = place.tree / ("val" if unit.test else "train") / unit.category
    for frame, view, _ in unit.views():
        write_image(folder / f"{unit.name}_{frame}.JPEG", view.image)
    classes = unit.scene.classes
    return [name.replace(" ", "_") for name in classes] if unit.scene.category in classes else [unit.category]


def finish(written: Iterable[Written], place: Place) -> None:
    """Make the folders of the classes."""
    for name in {name for one in written for name in one.lines}:
        (place.tree / "train" / name).mkdir(parents=True, exist_ok=True)


LAYOUT = Layout(
    reader="imagenet",
    kinds=("objects", "rooms"),
    holds=frozenset({"image", "category"}),
    write=write,
    finish=finish,
)
