"""A dataset as a list of frames, each with a way to read every field it has.

Most datasets are folders of files: what tells them apart is where the files lie and what their numbers mean. A
reader therefore only lists its frames,

    Frame("2011_09_26/…/0000000005.png", {"image": partial(read_image, path), "K": lambda: K, …})

and `Frames` does the rest: samples, neighbours in time and the stereo partner as `sources`, relative poses.
A frame is read only when asked for, one field at a time, through one place (`Frames.read`); there, what was read
can be kept (`Frames.keep`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import Classes
from cka_probe.images.sample import FIELDS
from cka_probe.lab.datasets.cache import DecodedCache, key_of

PARTNER = ("partner", "partner_T_target")
"""What a frame with a stereo partner has besides: its image (3, H, W), and its pose from here (4, 4)."""

SMALL = frozenset({"K", "world_T_target", "partner_T_target", "category"})
"""What is read faster than looked up."""

STEREO = "s"
"""The stereo partner among `sources`, as Monodepth2 writes it."""


@dataclass(frozen=True)
class Frame:
    """One image and what is known of it.

    Attributes:
        name: The same wherever the data lies: a path below the root, with forward slashes.
        fields: How to read each field (names of `cka_probe.images.sample`, and those of `PARTNER`).
        target: False: it is there only for its neighbours' sake (a split's list names them and not it); its
            `image` and `world_T_target` are all that is asked of it.
    """

    name: str
    fields: Mapping[str, Callable[[], Tensor]]
    target: bool = True


def parse_sources(text: str) -> tuple[int | str, ...]:
    """Return sources from a dataset's string.

    Args:
        text: Offsets in frames and `s` for the stereo partner, by commas.

    Raises:
        DataError: It is something else.

    >>> parse_sources("-1,1,s")
    (-1, 1, 's')
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        found = tuple(STEREO if part == STEREO else int(part) for part in parts)
    except ValueError as error:
        raise DataError(f"sources={text}: expected offsets in frames and 's', as in -1,1,s") from error
    if 0 in found or len(set(found)) < len(found):
        raise DataError(f"sources={text}: expected each source once and not the frame itself (0)")
    return found


class Frames:
    """Frames of scenes; those that lack one of the sources are no targets.

    Args:
        scenes: Videos, frames in their order; a single image is a scene of one.
        sources: Offsets in frames, and "s" for the stereo partner.
        where: What messages call the data ("KITTI at data/kitti").
        classes: What the numbers in `labels` (or, without labels, in `category`) mean.
        categories: What the numbers in `category` mean, where a dataset has both.

    Raises:
        DataError: There is no frame, none has all the sources, or a partner is asked for that is not there.
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
        self.kept: tuple[DecodedCache, str] | None = None
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
            raise DataError(f"no stereo partner in {where}: leave 's' out of the sources")
        self.gives = shared & frozenset(FIELDS)
        if self.sources:
            self.gives |= {"sources"}
            if STEREO in self.sources or "world_T_target" in shared:
                self.gives |= {"source_T_target"}

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.some(index, self.gives)

    def some(self, index: int, needs: Collection[str]) -> dict[str, Tensor]:
        """Return some fields of sample `index`, and its image, which says their size; nothing else is read."""
        scene, number = self.places[index]
        wanted = [name for name in FIELDS if name == "image" or (name in needs and name in self.gives)]
        there = self.scenes[scene][number].fields
        sample = {name: self.read(scene, number, name) for name in wanted if name in there}
        self._check_sizes(sample, self.describe(index))
        if "sources" in wanted:
            sources = {f"source {source}": self._source(scene, number, source) for source in self.sources}
            self._check_sizes({"image": sample["image"]} | sources, self.describe(index))
            sample["sources"] = torch.stack([*sources.values()])
        if "source_T_target" in wanted:
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
        """Return one field of one frame; everything that is read goes through here."""
        read = self.scenes[scene][number].fields[name]
        if self.kept is None or name in SMALL:
            return read()
        kept, where = self.kept
        return kept.get(key_of(read) or (where, scene, number, name), read)

    def keep(self, kept: DecodedCache, where: str) -> None:
        """Keep what is read from now on.

        Args:
            kept: Where.
            where: A name that no other data has there.
        """
        self.kept = (kept, where)

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
            self.read(scene, place, "world_T_target").double() for place in (number + source, number)
        )
        return torch.linalg.solve(world_T_source, world_T_target).float()

    def _check_sizes(self, sample: Mapping[str, Tensor], name: str) -> None:
        """Check that every map of a sample has the image's size."""
        size = sample["image"].shape[-2:]
        for field, value in sample.items():
            if field not in ("K", "world_T_target", "category") and value.shape[-2:] != size:
                raise DataError(
                    f"{self.where}, {name}: expected {field} of the image's {size[1]}x{size[0]} pixels, found "
                    f"{value.shape[-1]}x{value.shape[-2]}; register one to the other first"
                )
