"""A dataset as a list of frames, each with readers of its fields.

Most datasets are folders of files that differ in where the files lie and what their numbers mean. A reader of a dataset
therefore only lists its frames,

    Frame("2011_09_26/…/0000000005.png", {"image": partial(read_image, path), "K": lambda: K, …})

and `Frames` does the rest: samples, neighbours in time and the stereo partner as `sources`, relative poses. A frame is
read only when asked for, one field at a time, in one place (`Frames.read`), where fields can be cached
(`Frames.cache_in`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import Classes
from cka_probe.images.sample import FIELDS, OBJECTS
from cka_probe.lab.datasets.cache import DecodedCache, key_of

PARTNER = ("partner", "partner_T_target")
"""Further fields of a frame with a stereo partner: its image (3, H, W), and its pose relative to the frame (4, 4)."""

SMALL = frozenset({"K", "world_T_target", "partner_T_target", "category", *OBJECTS})
"""Fields that are faster to read than to look up."""

NO_MAPS = ("K", "world_T_target", "category", "boxes", "box_classes", "box_crowds")
"""Fields that have no pixels."""

STEREO = "s"
"""The stereo partner among `sources`, as in Monodepth2."""


@dataclass(frozen=True)
class Frame:
    """One image and what is known about it.

    Attributes:
        name: A path below the root, with forward slashes, the same on all machines.
        fields: Reader of each field (names of `cka_probe.images.sample`, and those of `PARTNER`).
        target: False for a frame that is only a neighbour of targets (a list of the split does not name it); only its
            `image` and `world_T_target` are read.
    """

    name: str
    fields: Mapping[str, Callable[[], Tensor]]
    target: bool = True


def parse_sources(text: str) -> tuple[int | str, ...]:
    """Parse the option `sources` of a dataset.

    Args:
        text: Offsets in frames and `s` for the stereo partner, by commas.

    Raises:
        DataError: The text is something else.

    >>> parse_sources("-1,1,s")
    (-1, 1, 's')
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        sources = tuple(STEREO if part == STEREO else int(part) for part in parts)
    except ValueError as error:
        raise DataError(f"sources={text}: expected offsets in frames and 's', as in -1,1,s") from error
    if 0 in sources or len(set(sources)) < len(sources):
        raise DataError(f"sources={text}: expected each source once and not the frame itself (0)")
    return sources


class Frames:
    """Frames of scenes; those that lack one of the sources are no targets.

    Args:
        scenes: Videos, each a list of frames in order; a single image is a scene of one frame.
        sources: Offsets in frames, and "s" for the stereo partner.
        where: The data, for messages ("KITTI at data/kitti").
        classes: Names of the numbers in `labels`, or in `category` for a dataset without labels.
        categories: Names of the numbers in `category` for a dataset with both.

    Raises:
        DataError: There is no frame, none has all the sources, or there is no stereo partner.
    """

    def __init__(
        self,
        scenes: Sequence[Sequence[Frame]],
        sources: Sequence[int | str] = (),
        where: str = "the data",
        classes: Classes | None = None,
        categories: Classes | None = None,
    ):
        self.scenes, self.sources, self.where = [list(scene) for scene in scenes], tuple(sources), where
        self.classes = classes
        self.categories = categories
        self.cache: tuple[DecodedCache, str] | None = None
        offsets = [source for source in self.sources if isinstance(source, int)]
        self.places = [
            (scene, number)
            for scene, frames in enumerate(self.scenes)
            for number in range(len(frames))
            if frames[number].target and all(0 <= number + offset < len(frames) for offset in offsets)
        ]
        if not self.places:
            longest = max(map(len, self.scenes), default=0)
            raise DataError(
                f"expected frames with sources {', '.join(map(str, self.sources)) or 'none'} in {where}, found none "
                f"(its longest scene has {longest} frames); check the path or ask for fewer sources"
            )
        frames = [frame for scene in self.scenes for frame in scene]
        shared = frozenset.intersection(*(frozenset(frame.fields) for frame in frames if frame.target))
        if self.sources and not all("world_T_target" in frame.fields for frame in frames):
            shared -= {"world_T_target"}
        if STEREO in self.sources and not shared.issuperset(PARTNER):
            raise DataError(f"no stereo partner in {where}: omit 's' from the sources")
        self.gives = shared & frozenset((*FIELDS, *OBJECTS))
        if self.sources:
            self.gives |= {"sources"}
            if STEREO in self.sources or "world_T_target" in shared:
                self.gives |= {"source_T_target"}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.some(index, self.gives)

    def some(self, index: int, needs: Collection[str]) -> dict[str, Tensor]:
        """Return some fields of sample `index`, and its image, which determines their size; nothing else is read."""
        scene, number = self.places[index]
        names = [name for name in (*FIELDS, *OBJECTS) if name == "image" or (name in needs and name in self.gives)]
        fields = self.scenes[scene][number].fields
        sample = {name: self.read(scene, number, name) for name in names if name in fields}
        self._check_sizes(sample, self.describe(index))
        if "sources" in names:
            sources = {f"source {source}": self._source(scene, number, source) for source in self.sources}
            self._check_sizes({"image": sample["image"]} | sources, self.describe(index))
            sample["sources"] = torch.stack([*sources.values()])
        if "source_T_target" in names:
            sample["source_T_target"] = torch.stack([self._pose(scene, number, source) for source in self.sources])
        return sample

    def image(self, index: int) -> Tensor:
        """Return only the image of sample `index`, (3, H, W) float32 RGB in [0, 1]."""
        return self.read(*self.places[index], "image")

    def describe(self, index: int) -> str:
        """Return the name of sample `index`."""
        scene, number = self.places[index]
        return self.scenes[scene][number].name

    def read(self, scene: int, number: int, name: str) -> Tensor:
        """Return one field of one frame; all fields are read here."""
        read = self.scenes[scene][number].fields[name]
        if self.cache is None or name in SMALL:
            return read()
        cache, prefix = self.cache
        return cache.get(key_of(read) or (prefix, scene, number, name), read)

    def cache_in(self, cache: DecodedCache, prefix: str) -> None:
        """Cache fields from now on.

        Args:
            cache: The cache.
            prefix: A name that no other dataset uses in it.
        """
        self.cache = (cache, prefix)

    def _source(self, scene: int, number: int, source: int | str) -> Tensor:
        """Return the image of a source, (3, H, W)."""
        if isinstance(source, str):
            return self.read(scene, number, PARTNER[0])
        return self.read(scene, number + source, "image")

    def _pose(self, scene: int, number: int, source: int | str) -> Tensor:
        """Return `source_T_target`, (4, 4); NaN where there are no poses."""
        if isinstance(source, str):
            return self.read(scene, number, PARTNER[1])
        if "world_T_target" not in self.gives:
            return torch.full((4, 4), torch.nan)
        world_T_source, world_T_target = (
            self.read(scene, index, "world_T_target").double() for index in (number + source, number)
        )
        return torch.linalg.solve(world_T_source, world_T_target).float()

    def _check_sizes(self, sample: Mapping[str, Tensor], name: str) -> None:
        """Check that every map of a sample has the image's size."""
        size = sample["image"].shape[-2:]
        for field, value in sample.items():
            if field not in NO_MAPS and value.shape[-2:] != size:
                raise DataError(
                    f"{self.where}, {name}: expected {field} of the image's {size[1]}x{size[0]} pixels, found "
                    f"{value.shape[-1]}x{value.shape[-2]}; register one to the other first"
                )
