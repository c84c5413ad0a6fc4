"""Any folder of pictures, with or without folders in it (an ImageNet folder too).

Where the folder has `train`, `val` or `test` in it these are its splits; "all" is every picture below the
root. Folders below that are classes only to a reader who wants classes: here a picture is a picture.
"""

from pathlib import Path

from torch import Tensor

from cka_probe.data.dataset import check_split
from cka_probe.data.pictures import find_pictures, read_picture


class Folder:
    """The pictures below a folder, sorted by path.

    Args:
        root: The folder.
        split: "all", or the name of a folder in it: "train", "val" or "test".

    Raises:
        UnknownNameError: The split's name is not one of these.
        DataError: There is no such folder, no such split in it, or no picture.
    """

    gives = frozenset({"image"})

    def __init__(self, root: str | Path, split: str = "all"):
        self.root = Path(root)
        there = [name for name in ("train", "val", "test") if (self.root / name).is_dir()]
        if self.root.is_dir():  # else find_pictures says it better
            check_split(split, [*there, "all"], f"folder {self.root}")
        self.paths = find_pictures(self.root if split == "all" else self.root / split)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.picture(index)}

    def picture(self, index: int) -> Tensor:
        """Return picture `index`, (3, H, W) float32 RGB in [0, 1]."""
        return read_picture(self.paths[index])

    def describe(self, index: int) -> str:
        """Return the picture's path below the root, with forward slashes."""
        return self.paths[index].relative_to(self.root).as_posix()
