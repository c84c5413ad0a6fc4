"""A stream of images from any source: read once, in one order, in batches large enough to centre.

Both models of a comparison are fed from one pass over the images, so a shuffled loader cannot feed them different ones.
The hash of every image is recorded: only fingerprints of the same images are compared.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.conversion import image_layout, images_of, is_image_list, is_single_image, to_example
from cka_probe.images.datasets import open_dataset
from cka_probe.images.folder import Folder
from cka_probe.images.prefetch import prefetch
from cka_probe.images.sampling import sample_indices

FEWEST = 4
"""The least number of images in a batch for an unbiased HSIC."""


@dataclass
class ImageStream:
    """Batches of images, to be iterated once.

    Attributes:
        source: Where the images come from, recorded in the result.
        total: Number of images, or None if it is not known.
        batch: Images in a batch; None for the size of the first batch of the source.
        skipped: Names and reasons of unreadable images that were skipped.
        rows: Called with the stream; yields one image at a time.
        unread: A sentence about files of a folder that are no images, or "".
    """

    source: str
    total: int | None
    batch: int | None
    rows: Callable[["ImageStream"], Iterator[Tensor]]
    skipped: list[str] = field(default_factory=list)
    unread: str = ""

    def __iter__(self) -> Iterator[list[Tensor]]:
        """Yield lists of images; a last batch of fewer than four is added to the one before it.

        Raises:
            DataError: There are fewer than four images.
        """
        pending: list[Tensor] = []
        for row in self.rows(self):
            pending.append(row)
            if self.batch and len(pending) == self.batch + FEWEST:
                yield pending[: self.batch]
                pending = pending[self.batch :]
        if len(pending) < FEWEST:
            raise DataError(f"{self.source}: expected at least {FEWEST} images, found {len(pending)}; give more")
        yield pending


def stream_images(
    images: Any,
    *,
    num: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    normalised: bool = False,
) -> ImageStream:
    """Return the images of a folder, a dataset, a loader or a tensor as one stream.

    Images become float32 in [0, 1], channels first; other examples stay as they are. See `images.conversion`.

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

    Raises:
        DataError: There are fewer than four images, `num` or `batch` is below four, or images have values that are
            not in [0, 1].
    """
    if (num is not None and num < FEWEST) or (batch is not None and batch < FEWEST):
        limits = ", ".join(f"{name} {value}" for name, value in (("num", num), ("batch", batch)) if value is not None)
        raise DataError(f"expected at least {FEWEST} images, in all and in a batch, found {limits}")
    convert = partial(to_example, normalised=normalised)
    if isinstance(images, Mapping):
        images = images_of(images)
    if isinstance(images, str | Path):
        return _of_dataset(open_dataset(images), str(images), num, batch or 64, seed, skip_bad, convert)
    if isinstance(images, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(images, Tensor) else "an array"
        return ImageStream(kind, len(images[:num]), batch or 64, lambda _: map(convert, images[:num]))
    if isinstance(images, list | tuple) and images and _is_example(images[0]):
        return ImageStream("a list of images", len(images[:num]), batch or 64, lambda _: map(convert, images[:num]))
    if hasattr(images, "__getitem__") and hasattr(images, "__len__") and not isinstance(images, list | tuple):
        return _of_dataset(images, type(images).__name__, num, batch or 64, seed, skip_bad, convert)
    if not isinstance(images, Iterable):
        raise DataError(f"expected a folder, dataset, tensor or batches of images, found {type(images).__name__}")
    return ImageStream(type(images).__name__, num, batch, lambda stream: _of_batches(images, num, stream, normalised))


def _is_example(item: Any) -> bool:
    """Return whether an item of a list is one example and not a batch."""
    return getattr(item, "ndim", 0) == 3 or image_layout(item) is not None


def _of_dataset(
    dataset: Any,
    source: str,
    num: int | None,
    batch: int,
    seed: int,
    skip_bad: bool,
    convert: Callable[[Any], Tensor],
) -> ImageStream:
    """Return the stream of a dataset with a length."""
    indices = sample_indices(len(dataset), num, seed)
    image_at = getattr(dataset, "image", None)

    def read(index: int) -> Tensor | DataError:
        try:
            sample = image_at(index) if callable(image_at) else dataset[index]
        except DataError as error:
            return error
        return convert(images_of(sample))  # outside: an image that was read and has wrong values is never skipped

    def rows(stream: ImageStream) -> Iterator[Tensor]:
        for image in prefetch(read, indices):
            if isinstance(image, Tensor):
                yield image
            elif skip_bad:
                stream.skipped.append(str(image))
            else:
                raise image

    unread = dataset.unread() if isinstance(dataset, Folder) else ""
    return ImageStream(source, len(indices), batch, rows, unread=unread)


def _of_batches(batches: Iterable[Any], num: int | None, stream: ImageStream, normalised: bool) -> Iterator[Tensor]:
    """Yield the rows of each batch; the first batch sets the size of the stream's batches unless one is set."""
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
            stream.batch = 64 if single else max(FEWEST, len(rows))
        for row in rows:
            if count == num:
                return
            count += 1
            yield to_example(row, normalised)


def list_hash(hashes: Iterable[str]) -> str:
    """Return one hash of a list of images, from the hashes of their contents, in order."""
    return blake2b("".join(hashes).encode(), digest_size=16).hexdigest()


def image_hash(image: Tensor) -> str:
    """Return 32 hexadecimal digits over dtype, shape and values of an image as read."""
    digest = sha256(f"{image.dtype} {tuple(image.shape)}".encode())
    digest.update(image.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
