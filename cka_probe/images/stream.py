"""A stream of images from any source: read once, in one order, in batches large enough to centre.

Both models of a comparison are fed from one pass over the images, so a shuffled loader cannot feed them different ones.
Where each model has its own images, two streams are read in step; see `images.pairing`. The hash of every image is
recorded: only fingerprints of the same images, or of pairs of images, are compared.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b, sha256
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.conversion import (
    eight_bits,
    image_layout,
    images_of,
    is_image_list,
    is_single_image,
    to_example,
)
from cka_probe.images.datasets import open_dataset, sample_indices
from cka_probe.images.folder import Folder
from cka_probe.images.prefetch import prefetch

FEWEST = 4
"""The least number of images in a batch for an unbiased HSIC."""
BATCH = 64
"""Images in a batch by default."""

Read = Callable[[], Tensor | DataError]
"""Reads one image, in a thread; returns the error of one that cannot be read."""
Prepared = TypeVar("Prepared")
Row = TypeVar("Row")


@dataclass(frozen=True)
class Share:
    """Whole batches of a stream that one of several processes reads: `index`, `index + count`, `index + 2 count`, ….

    >>> Share(1, 2).within(Share(0, 3))  # the second of two processes, in the first of three jobs
    Share(index=3, count=6)
    """

    index: int = 0
    count: int = 1

    def within(self, other: "Share") -> "Share":
        """Return this share of the batches of another."""
        return Share(other.index + other.count * self.index, other.count * self.count)


WHOLE = Share()


@dataclass
class ImageStream:
    """Batches of images, to be iterated once.

    Attributes:
        source: Where the images come from, recorded in the result.
        total: Number of images, or None if it is not known.
        batch: Images in a batch; None for the size of the first batch of the source.
        rows: Called with the stream; yields what reads one image after another.
        workers: Number of threads that read; None for as many as there are cores, at most 16.
        skip_bad: Skip unreadable images instead of stopping at the first.
        skipped: Names and reasons of unreadable images that were skipped.
        unread: A sentence about files of a folder that are no images, or "".
        indexed: Images are read by their index, each on its own and any number of times; False for an iterable.
        samples: Hash of the first image of each batch of an iterable of which a share was read.
    """

    source: str
    total: int | None
    batch: int | None
    rows: Callable[["ImageStream"], Iterator[Read]]
    workers: int | None = None
    skip_bad: bool = False
    skipped: list[str] = field(default_factory=list)
    unread: str = ""
    indexed: bool = False
    samples: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[list[Tensor]]:
        """Yield lists of images; see `batches`."""
        return (images for (images,) in batches([self], lambda image, _: image))


def batches(
    streams: Sequence[ImageStream], prepare: Callable[[Tensor, int], Prepared], share: Share = WHOLE
) -> Iterator[list[list[Prepared]]]:
    """Yield a list of prepared images of each stream; a last batch of fewer than four is added to the one before it.

    Args:
        streams: One, or two that are read in step; the first sets the size of the batches.
        prepare: As in `examples`.
        share: Which of the batches to yield; the images of others are not read. The borders of batches are those of
            all images, so a part of the batches cannot be had with `skip_bad`; see `omit_rows`.

    Raises:
        DataError: There are fewer than four images, one is unreadable, or the streams differ in length.
    """
    for images in _batches(examples(streams, prepare, share=share), streams[0], least=0 if share.count > 1 else FEWEST):
        yield [list(column) for column in zip(*images, strict=True)]


def _batches(rows: Iterable[Row], stream: ImageStream, least: int = FEWEST) -> Iterator[list[Row]]:
    """Yield batches of rows, the last with up to three more.

    Args:
        rows: One of each image.
        stream: Sets the size of the batches, at its first row at the latest.
        least: Fewest rows there may be; yields nothing for none.

    Raises:
        DataError: There are fewer rows.
    """
    pending: list[Row] = []
    for row in rows:
        pending.append(row)
        if stream.batch and len(pending) == stream.batch + FEWEST:
            yield pending[: stream.batch]
            pending = pending[stream.batch :]
    if len(pending) < least:
        raise DataError(f"{stream.source}: expected at least {FEWEST} images, found {len(pending)}; give more")
    if pending:
        yield pending


def examples(
    streams: Sequence[ImageStream],
    prepare: Callable[[Tensor, int], Prepared],
    ahead: int | None = None,
    share: Share = WHOLE,
) -> Generator[tuple[Prepared, ...], None, None]:
    """Yield one prepared image of each stream at a time; with `skip_bad`, only where all of them can be read.

    Args:
        streams: One, or two that are read in step.
        prepare: Called with an image and the index of its stream, in the thread that reads it; the image is freed
            after that.
        ahead: Number of rows that are prepared ahead of the consumer; by default two batches.
        share: Which batches to read.

    Raises:
        DataError: An image is unreadable, or the streams differ in length.
    """

    def read(row: tuple[Read, ...]) -> list[Prepared | DataError]:
        images = [image() for image in row]
        return [prepare(image, index) if isinstance(image, Tensor) else image for index, image in enumerate(images)]

    rows: Iterator[tuple[Read, ...]] = _in_step(streams)
    if share != WHOLE:
        rows = _share_of(rows, streams, share)
    ahead = ahead or 2 * (streams[0].batch or BATCH)
    for images in prefetch(read, rows, streams[0].workers, ahead):
        for stream, image in zip(streams, images, strict=True):
            if isinstance(image, DataError):
                if not stream.skip_bad:
                    raise image
                stream.skipped.append(str(image))
        readable = tuple(image for image in images if not isinstance(image, DataError))
        if len(readable) == len(images):
            yield readable


def _share_of(
    rows: Iterable[tuple[Read, ...]], streams: Sequence[ImageStream], share: Share
) -> Iterator[tuple[Read, ...]]:
    """Yield the rows of a share of the batches; of each batch, the hash of the first image of an iterable is noted."""
    for number, batch in enumerate(_batches(rows, streams[0])):
        for stream, image in zip(streams, batch[0], strict=True):
            if not stream.indexed and isinstance(example := image(), Tensor):
                stream.samples.append(image_hash(example))
        if number % share.count == share.index:
            yield from batch


def _in_step(streams: Sequence[ImageStream]) -> Iterator[tuple[Read, ...]]:
    """Yield what reads the next image of each stream.

    Raises:
        DataError: The streams differ in length.
    """
    for done, row in enumerate(zip_longest(*(stream.rows(stream) for stream in streams))):
        if None in row:
            longer = "x" if row[0] is not None else "y"
            raise DataError(
                f"expected as many images of x as of y, found {done} in all and at least {done + 1} of {longer}; give "
                "the same number of both"
            )
        yield row


def unreadable(streams: Sequence[ImageStream], share: Share) -> dict[int, list[tuple[int, str]]]:
    """Return the rows with images that cannot be read, and of each of these images its stream and the reason.

    Args:
        streams: One, or two that are read in step; those that are not indexed are not read.
        share: Which rows to try, in place of batches: one of `count`, from row `index` on.
    """
    bad: dict[int, list[tuple[int, str]]] = {}
    for number, stream in enumerate(streams):
        if stream.indexed:
            rows = islice(enumerate(stream.rows(stream)), share.index, None, share.count)
            for index, reason in prefetch(_reason, rows, streams[0].workers):
                if reason:
                    bad.setdefault(index, []).append((number, reason))
    return bad


def _reason(row: tuple[int, Read]) -> tuple[int, str]:
    """Return the index of an image, and why it cannot be read, or ""."""
    image = row[1]()
    return row[0], str(image) if isinstance(image, DataError) else ""


def omit_rows(streams: Sequence[ImageStream], bad: Mapping[int, list[tuple[int, str]]]) -> None:
    """Omit the rows that `unreadable` returned, and list their images as skipped; all others must be readable then."""

    def readable(rows: Callable[[ImageStream], Iterator[Read]], stream: ImageStream) -> Iterator[Read]:
        return (image for index, image in enumerate(rows(stream)) if index not in bad)

    for number, stream in enumerate(streams):
        stream.skipped += [reason for index in sorted(bad) for at, reason in bad[index] if at == number]
        stream.rows, stream.skip_bad = partial(readable, stream.rows), False


@dataclass(frozen=True)
class ImageSource:
    """Images that are read by their index, or in the order of an iterable.

    Attributes:
        name: What results call it.
        rows: Called with indices and a stream; yields what reads the images of these indices. An iterable yields that
            of its first ones, as many as the stream has in all, and sets the size of the stream's batches if it has
            none.
        count: Number of images; None for an iterable.
        sampled: `num` images are a random choice in random order, not the first ones.
        listed: The images are those of a list, and not all that there are.
        describe: The name of the image of an index; None where images have no names.
        unread: A sentence about files of a folder that are no images, or "".
    """

    name: str
    rows: Callable[[Sequence[int], ImageStream], Iterator[Read]]
    count: int | None
    sampled: bool = False
    listed: bool = False
    describe: Callable[[int], str] | None = None
    unread: str = ""

    def indices(self, num: int | None, seed: int) -> Sequence[int]:
        """Return the indices of `num` images; none for an iterable."""
        if self.sampled:
            return sample_indices(self.count or 0, num, seed)
        return range(self.count or 0)[:num]

    def stream(
        self,
        indices: Sequence[int],
        *,
        num: int | None,
        batch: int | None,
        skip_bad: bool,
        workers: int | None = None,
    ) -> ImageStream:
        """Return the images of some indices, or the first `num` of an iterable, as a stream."""
        total, batch = (num, batch) if self.count is None else (len(indices), batch or BATCH)
        rows, indexed = partial(self.rows, indices), self.count is not None
        return ImageStream(self.name, total, batch, rows, workers, skip_bad, unread=self.unread, indexed=indexed)


def stream_images(
    images: Any,
    *,
    num: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    normalised: bool = False,
    workers: int | None = None,
    decode_size: int | None = None,
) -> ImageStream:
    """Return the images of a folder, a dataset, a loader or a tensor as one stream.

    Images become uint8, or float32 in [0, 1], channels first; other examples stay as they are. See
    `images.conversion`.

    Args:
        images: A folder, or a string that `open_dataset` takes; a dataset (a `Dataset`, or any object with a length
            and items that are images, or have one first or under "image", "images", "pixel_values" or "img"); a tensor
            or array of examples; a list of images; a mapping with one of these; or any iterable of images, or of
            batches such as a `DataLoader`. Examples without images may be under "input_ids".
        num: Largest number of images: of a folder or dataset a random choice in random order, else the first.
        batch: Images in a batch; by default 64, or the batches of an iterable.
        seed: Seed of the choice.
        skip_bad: Skip unreadable images, and list them, instead of stopping at the first.
        normalised: The images are floats as the models take them, and stay as they are.
        workers: Number of threads that read images; by default as many as there are cores, at most 16; 0 for none.
        decode_size: Decode JPEGs of a folder at a reduced scale; see `images.reading.decode_pixels`.

    Raises:
        DataError: There are fewer than four images, `num` or `batch` is below four, or images have values that are
            not in [0, 1].
    """
    check_counts(num, batch)
    source = image_source(images, normalised=normalised, decode_size=decode_size)
    return source.stream(source.indices(num, seed), num=num, batch=batch, skip_bad=skip_bad, workers=workers)


def check_counts(num: int | None, batch: int | None) -> None:
    """Raise `DataError` if there are to be fewer than four images, in all or in a batch."""
    if (num is not None and num < FEWEST) or (batch is not None and batch < FEWEST):
        limits = ", ".join(f"{name} {value}" for name, value in (("num", num), ("batch", batch)) if value is not None)
        raise DataError(f"expected at least {FEWEST} images, in all and in a batch, found {limits}")


def image_source(images: Any, *, normalised: bool = False, decode_size: int | None = None) -> ImageSource:
    """Return what `stream_images` takes as a source of images, none of which is read yet."""
    convert = partial(to_example, normalised=normalised)
    if isinstance(images, Mapping):
        images = images_of(images)
    name = str(images) if isinstance(images, str | Path) else type(images).__name__
    if isinstance(images, str | Path):
        images = open_dataset(images)
    if decode_size is not None and not isinstance(images, Folder):
        raise DataError(f"expected a folder of images for decode_size {decode_size}, found {name}; omit it")
    if isinstance(images, Folder):
        return _of_dataset(images, name, convert, partial(images.pixels, decode_size=decode_size))
    if isinstance(images, Tensor | np.ndarray) or (isinstance(images, list | tuple) and _is_example_list(images)):
        kind = {Tensor: "a tensor", np.ndarray: "an array"}
        name = next((name for type_, name in kind.items() if isinstance(images, type_)), "a list of images")
        read = partial(_read_row, images, convert)
        return ImageSource(name, lambda indices, _: (partial(read, index) for index in indices), len(images))
    if hasattr(images, "__getitem__") and hasattr(images, "__len__") and not isinstance(images, list | tuple):
        return _of_dataset(images, name, convert, getattr(images, "image", None))
    if not isinstance(images, Iterable):
        raise DataError(f"expected a folder, dataset, tensor or batches of images, found {name}")
    return ImageSource(name, lambda _, stream: _of_batches(images, stream, normalised), None)


def _is_example_list(items: Sequence[Any]) -> bool:
    """Return whether a list has examples, and not batches."""
    return bool(items) and (getattr(items[0], "ndim", 0) == 3 or image_layout(items[0]) is not None)


def _of_dataset(dataset: Any, name: str, convert: Callable[[Any], Tensor], sample_at: Any) -> ImageSource:
    """Return the images of a dataset with a length; `sample_at`, if it can be called, gives an image alone."""
    describe = getattr(dataset, "describe", None)

    def read(index: int) -> Tensor | DataError:
        try:
            sample = sample_at(index) if callable(sample_at) else dataset[index]
        except DataError as error:
            return error
        return convert(images_of(sample))  # outside: an image that was read and has wrong values is never skipped

    return ImageSource(
        name,
        lambda indices, _: (partial(read, index) for index in indices),
        len(dataset),
        sampled=True,
        listed=isinstance(dataset, Folder) and dataset.listed,
        describe=describe if callable(describe) else None,
        unread=dataset.unread() if isinstance(dataset, Folder) else "",
    )


def _read_row(rows: Any, convert: Callable[[Any], Tensor], index: int) -> Tensor:
    """Return an image of a tensor, an array or a list."""
    return convert(rows[index])


def _of_batches(batches: Iterable[Any], stream: ImageStream, normalised: bool) -> Iterator[Read]:
    """Yield what converts each row; the first batch sets the size of the stream's batches unless one is set."""
    count, single = 0, None
    for item in batches:
        rows = item if isinstance(item, list) and is_image_list(item) else images_of(item)
        if single is None:
            single = is_single_image(rows, normalised)
        if single:
            rows = [rows]
        if not hasattr(rows, "__len__"):
            raise DataError(f"expected batches of images, found {type(rows).__name__}; give tensors, arrays or lists")
        if stream.batch is None:
            stream.batch = BATCH if single else max(FEWEST, len(rows))
        for row in rows:
            if count == stream.total:
                return
            count += 1
            yield partial(to_example, _copied(row), normalised)


def _copied(row: Any) -> Any:
    """Return an example that the iterable cannot overwrite: a buffer or a frame of a file may be used again."""
    if isinstance(row, Tensor):
        return row.clone()
    if isinstance(row, np.ndarray) or (isinstance(row, Image.Image) and getattr(row, "n_frames", 1) > 1):
        return row.copy()
    return row


def list_hash(hashes: Iterable[str]) -> str:
    """Return one hash of a list of images, from the hashes of their contents, in order."""
    return blake2b("".join(hashes).encode(), digest_size=16).hexdigest()


def image_hash(image: Tensor) -> str:
    """Return 32 hexadecimal digits over dtype, shape and values of an image as read.

    Images of 8 bits have the hash of their uint8 values.

    >>> image_hash(torch.full((3, 4, 4), 0.2)) == image_hash(torch.full((3, 4, 4), 51, dtype=torch.uint8))
    True
    """
    if image.is_floating_point() and image_layout(image) == "CHW":
        image = eight_bits(image)
    digest = sha256(f"{image.dtype} {tuple(image.shape)}".encode())
    values = image.detach().cpu().movedim(0, -1) if image.dim() == 3 else image.detach().cpu()  # as decoded: no copy
    digest.update(values.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
