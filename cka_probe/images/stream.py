"""A stream of images from any source: read once, in one order, in batches large enough to centre.

Both models of a comparison are fed from one pass over the images, so a shuffled loader cannot feed them different ones.
The hash of every image is recorded: only fingerprints of the same images are compared.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset
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
    """

    source: str
    total: int | None
    batch: int | None
    rows: Callable[["ImageStream"], Iterator[Tensor]]
    skipped: list[str] = field(default_factory=list)

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
    images: Any, *, num: int | None = None, batch: int | None = None, seed: int = 0, skip_bad: bool = False
) -> ImageStream:
    """Return the images of a folder, a dataset, a loader or a tensor as one stream.

    Args:
        images: A folder, or a string that `open_dataset` takes; a dataset (a `Dataset`, or any object with a length
            and items that are images or have one first or under "image"); a tensor (n, ...); or any iterable of
            batches (tensors, or tuples or dicts of them) such as a `DataLoader`, or a list of images (3, H, W).
        num: Largest number of images: of a folder or dataset a random choice in random order, else the first.
        batch: Images in a batch; by default 64, or the batches of an iterable.
        seed: Seed of the choice.
        skip_bad: Skip unreadable images, and list them, instead of stopping at the first.

    Raises:
        DataError: There are fewer than four images, or `num` or `batch` is below four.
    """
    if (num is not None and num < FEWEST) or (batch is not None and batch < FEWEST):
        limits = ", ".join(f"{name} {value}" for name, value in (("num", num), ("batch", batch)) if value is not None)
        raise DataError(f"expected at least {FEWEST} images, in all and in a batch, found {limits}")
    if isinstance(images, str | Path):
        return _of_dataset(open_dataset(images), str(images), num, batch or 64, seed, skip_bad)
    if isinstance(images, Tensor):
        total = len(images) if num is None else min(num, len(images))
        return ImageStream("a tensor", total, batch or 64, lambda _: iter(images[:total]))
    if hasattr(images, "__getitem__") and hasattr(images, "__len__") and not isinstance(images, list | tuple | dict):
        return _of_dataset(images, type(images).__name__, num, batch or 64, seed, skip_bad)
    if isinstance(images, list | tuple) and images and getattr(images[0], "ndim", 0) == 3:
        return ImageStream("a list of images", len(images[:num]), batch or 64, lambda _: iter(images[:num]))
    if not isinstance(images, Iterable):
        raise DataError(f"expected a folder, dataset, tensor or batches of images, found {type(images).__name__}")
    return ImageStream(type(images).__name__, num, batch, lambda stream: _of_batches(images, num, stream))


def _of_dataset(dataset: Any, source: str, num: int | None, batch: int, seed: int, skip_bad: bool) -> ImageStream:
    """Return the stream of a dataset with a length."""
    indices = sample_indices(len(dataset), num, seed)

    def read(index: int) -> Tensor | DataError:
        try:
            image: Tensor = dataset.image(index) if hasattr(dataset, "image") else _to_tensor(dataset[index])
            return image
        except DataError as error:
            return error

    def rows(stream: ImageStream) -> Iterator[Tensor]:
        for image in prefetch(read, indices):
            if isinstance(image, Tensor):
                yield image
            elif skip_bad:
                stream.skipped.append(str(image))
            else:
                raise image

    return ImageStream(source, len(indices), batch, rows)


def _of_batches(batches: Iterable[Any], num: int | None, stream: ImageStream) -> Iterator[Tensor]:
    """Yield the rows of each batch; the first batch sets the size of the stream's batches unless one is set."""
    count = 0
    for item in batches:
        rows = _first_tensor(item)
        if stream.batch is None:
            stream.batch = max(FEWEST, len(rows))
        for row in rows:
            if count == num:
                return
            count += 1
            yield row


def _first_tensor(item: Any) -> Any:
    """Return the images of a batch or sample: itself, its first part, or its "image"."""
    if isinstance(item, dict):
        for name in ("image", "images", "pixel_values"):
            if name in item:
                return item[name]
        raise DataError(f"expected 'image', 'images' or 'pixel_values' in a dict, found {', '.join(map(str, item))}")
    return item[0] if isinstance(item, tuple | list) else item


def _to_tensor(sample: Any) -> Tensor:
    """Return the image of a sample as a tensor; 8-bit images are divided by 255."""
    image = _first_tensor(sample)
    pixels: Tensor = image if isinstance(image, Tensor) else F.to_image(image)
    return pixels.float() / 255.0 if pixels.dtype == torch.uint8 else pixels


def list_hash(hashes: Iterable[str]) -> str:
    """Return one hash of a list of images, from the hashes of their contents, in order."""
    return blake2b("".join(hashes).encode(), digest_size=16).hexdigest()


def image_hash(image: Tensor) -> str:
    """Return 32 hexadecimal digits over dtype, shape and values of an image as read."""
    digest = sha256(f"{image.dtype} {tuple(image.shape)}".encode())
    digest.update(image.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
