"""Two sources of images in pairs: image i of x and image i of y show the same, such as a clean and a noisy image.

Which images belong together is never a guess:

    name     both sources are folders or datasets whose images have the same names: their paths without suffix
    order    the sources have no names: tensors, lists and loaders, with as many images in x as in y, read in order

`num`, `seed` and a list of images of x choose pairs, so x sees the images that it would see without y.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.reading import SUFFIXES
from cka_probe.images.stream import ImageSource, ImageStream, check_counts, image_source

NAME, ORDER = "name", "order"
PAIRINGS = dict.fromkeys((NAME, ORDER))
NAMED = 3
"""Number of images that a message names."""


def stream_pairs(
    images: Any,
    images_y: Any,
    *,
    pair: str | None = None,
    num: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    normalised: bool = False,
    workers: int | None = None,
    decode_size: int | None = None,
) -> tuple[tuple[ImageStream, ImageStream], str]:
    """Return the images of x and of y as two streams to be read in step, and how they are paired.

    Args:
        images: Of x, as in `stream_images`.
        images_y: Of y; the dataset of x if it draws another random crop each time.
        pair: `name` or `order`; by default by name if the images of both have names, else by order.
        num: Largest number of pairs: of folders and datasets a random choice, else the first.
        batch: Pairs in a batch; by default 64, or the batches of x if that is an iterable.
        seed: Seed of the choice.
        skip_bad: Skip pairs with an unreadable image.
        normalised: The images are floats as the models take them.
        workers: Number of threads that read images.
        decode_size: As in `stream_images`.

    Raises:
        UnknownNameError: There is no such pairing.
        DataError: An image has no partner, the numbers of images differ, or a loader shuffles.
    """
    check_counts(num, batch)
    if pair is not None:
        registry.get(PAIRINGS, pair, "pairing")
    if images is images_y and isinstance(images, Iterator):
        raise DataError("expected another iterator for y, found that of x, which is read once; give two, or a list")
    x, y = (image_source(side, normalised=normalised, decode_size=decode_size) for side in (images, images_y))
    have_names = x.describe is not None and y.describe is not None
    partners: Sequence[int]
    if pair == NAME and not have_names:
        source = y if x.describe else x
        raise DataError(f"expected names of images to pair them by, found {source.name}, which has none; pair by order")
    if pair != ORDER and have_names:
        pairing, partners = NAME, _partners(x, y)
    else:
        pairing, partners = ORDER, _same_count(x, y)
        for side, source in (("x", images), ("y", images_y)):
            if pair is None and isinstance(source, DataLoader) and not _in_order(source):
                raise DataError(
                    f"expected images in a fixed order to pair them, found a DataLoader of {side} that shuffles; use "
                    "shuffle=False, or pair='order' if both loaders have the same order"
                )
    readable = x.count is not None and y.count is not None  # by index
    leader = x if x.sampled or not y.sampled else y
    indices = leader.indices(num, seed) if readable else range(len(partners))[:num]
    stream_x = x.stream(indices, num=num, batch=batch, skip_bad=skip_bad, workers=workers)
    stream_y = y.stream(
        [partners[index] for index in indices], num=num, batch=batch, skip_bad=skip_bad, workers=workers
    )
    return (stream_x, stream_y), pairing


def _partners(x: ImageSource, y: ImageSource) -> list[int]:
    """Return for each image of x the index of that of y with the same name.

    Raises:
        DataError: Images of one have no partner in the other, or two have the same name.
    """
    names = _names(x), _names(y)
    for source, side in zip((x, y), names, strict=True):
        if twice := [name for name, count in Counter(side).items() if count > 1]:
            raise DataError(
                f"expected images of different names in {source.name}, to pair them by, found {twice[0]} twice, with "
                "different endings; remove one, or pair by order (--pair order)"
            )
    index = {name: number for number, name in enumerate(names[1])}
    alone = [
        [name for name in side if name not in other] for side, other in zip(names, (index, {*names[0]}), strict=True)
    ]
    if x.listed and not y.listed:
        alone[1] = []  # the list of x chooses among the images of y
    if any(alone):
        parts = [f"{_listed(side)} of {source.name}" for side, source in zip(alone, (x, y), strict=True) if side]
        raise DataError(
            f"expected images of the same names on both sides, found {x.count} in {x.name} and {y.count} in {y.name}; "
            f"without a partner: {' and '.join(parts)}; complete them, or pair by order (--pair order)"
        )
    return [index[name] for name in names[0]]


def _names(source: ImageSource) -> list[str]:
    """Return the names of all images, without the suffix of a file."""
    if source.describe is None:
        return []
    paths = (PurePosixPath(source.describe(index)) for index in range(source.count or 0))
    return [str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else str(path) for path in paths]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _same_count(x: ImageSource, y: ImageSource) -> Sequence[int]:
    """Return the indices of pairs by order; those of iterables are counted as they are read.

    Raises:
        DataError: There are other numbers of images in x and y.
    """
    counts = [source.count for source in (x, y) if source.count is not None]
    if len(set(counts)) > 1:
        raise DataError(
            f"expected as many images of x as of y, which are paired by order, found {x.count} in {x.name} and "
            f"{y.count} in {y.name}; give the same number of both"
        )
    return range(max(counts, default=0))


def _in_order(loader: DataLoader[Any]) -> bool:
    """Return whether a loader gives its dataset in order."""
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    return isinstance(loader.dataset, IterableDataset) or isinstance(sampler, SequentialSampler)
