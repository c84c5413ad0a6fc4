"""Images that are not independent: copies of each other, and groups such as the frames of a video.

**Copies.** Images with the same hash are exact copies. Two images of a batch are nearly copies if their distance is at
most `NEAR` of the median distance in every layer of both models; layers that vary in few directions (effective
dimension `(tr K)^2 / |K|^2` below `DIRECTIONS`) do not count, since in these many images are near each other.

**Groups.** A group is left out as a whole for intervals, and exchanged with another one of its size for the null.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.images.prefetch import prefetch
from cka_probe.images.stream import image_hash, image_source
from cka_probe.similarity.features import tokens_per_image
from cka_probe.similarity.gram import double_centre
from cka_probe.similarity.jackknife import Units
from cka_probe.similarity.measures import Measure

NEAR = 0.1
"""Distance of near copies, as a share of the median distance."""
DIRECTIONS = 8.0
COPIES = ("exact", "near")
"""Kinds of copies."""
FEWEST = 4
"""Least number of images in a batch."""


class Copies:
    """The copies among the images of several fingerprints; what each tells of near copies is computed once.

    Args:
        prints: Fingerprints of the same images, or of others in pairs.
    """

    def __init__(self, prints: Sequence[Fingerprint]):
        self.prints = prints
        self._exact: dict[tuple[tuple[str, ...], ...], list[list[int]]] = {}
        self._near: dict[tuple[int, frozenset[int]], list[Tensor | None]] = {}

    def between(self, i: int, j: int) -> dict[str, list[list[int]]]:
        """Return the groups of copies of two models; see `duplicates`."""
        images = self.prints[i].images, self.prints[j].images
        if images not in self._exact:
            self._exact[images] = _exact_copies(*images)
        exact = self._exact[images]
        copies = frozenset(number for numbers in exact for number in numbers[1:])
        for index in (i, j):
            if (index, copies) not in self._near:
                self._near[index, copies] = _near_pairs(self.prints[index], copies)
        near, start = [], 0
        for stack, *sides in zip(self.prints[i].grams, self._near[i, copies], self._near[j, copies], strict=True):
            known = [pairs for pairs in sides if pairs is not None]
            near += _joined(torch.stack(known).all(dim=0), start) if known else []
            start += stack.shape[-1]
        return {name: groups for name, groups in zip(COPIES, (exact, near), strict=True) if groups}


def duplicates(x: Fingerprint, y: Fingerprint) -> dict[str, list[list[int]]]:
    """Return groups of images that are copies, by number: `exact` and `near`, of which no two are exact copies.

    Args:
        x: One side.
        y: The other, of the same images or of others in pairs; a copy is one of both.
    """
    return Copies([x, y]).between(0, 1)


def _exact_copies(x: Sequence[str], y: Sequence[str]) -> list[list[int]]:
    """Return groups of images with the same hashes on both sides."""
    positions: dict[tuple[str, str], list[int]] = {}
    for number, hashes in enumerate(zip(x, y, strict=True)):
        positions.setdefault(hashes, []).append(number)
    return [numbers for numbers in positions.values() if len(numbers) > 1]


def _near_pairs(side: Fingerprint, copies: Set[int]) -> list[Tensor | None]:
    """Return per batch which images i < j are near each other in every layer that counts, (n, n) bool.

    None where no layer counts. Images in `copies` are near no other.
    """
    batches: list[Tensor | None] = []
    start, images = 0, tokens_per_image(side.settings.features) == 1
    for stack in side.grams:
        n = stack.shape[-1]
        rest = torch.tensor([start + number not in copies for number in range(n)])
        near = (rest[:, None] & rest).triu(1)
        counting = [gram for gram in stack if gram.trace().square() >= DIRECTIONS * gram.square().sum() > 0]
        if images and counting and int(rest.sum()) >= FEWEST:
            pairs = near.clone()
            for gram in counting:
                lengths = gram.diagonal()
                distances = lengths[:, None] + lengths - 2 * gram
                near &= distances <= NEAR**2 * distances[pairs].median()
            batches.append(near)
        else:
            batches.append(None)
        start += n
    return batches


def _joined(near: Tensor, start: int) -> list[list[int]]:
    """Return groups of images, numbered from `start` on, that are joined by pairs i < j, (n, n) bool."""
    group: dict[int, list[int]] = {}
    for i, j in near.nonzero().tolist():
        first, second = group.setdefault(i, [i]), group.setdefault(j, [j])
        if first is not second:
            first += second
            group |= dict.fromkeys(second, first)
    return [sorted(start + i for i in numbers) for number, numbers in group.items() if min(numbers) == number]


def without_copies(x: Fingerprint, y: Fingerprint, units: Units | None = None) -> tuple[Fingerprint, Fingerprint]:
    """Return both sides with one image of each group of copies.

    Raises:
        DataError: Fewer than four images are left in a batch, or there are groups of images (`units`) as well.
    """
    if units is not None:
        raise DataError("expected groups or merge_duplicates, found both; give copies the same group")
    copies = omitted_copies(x, y)
    return (_without(x, copies), _without(y, copies)) if copies else (x, y)


def omitted_copies(x: Fingerprint, y: Fingerprint) -> set[int]:
    """Return the numbers of the images that `without_copies` omits."""
    return {number for groups in duplicates(x, y).values() for numbers in groups for number in numbers[1:]}


def _without(side: Fingerprint, images: set[int]) -> Fingerprint:
    """Return a fingerprint without some images; the Grams of the others are centred again."""
    per_image, grams, start = tokens_per_image(side.settings.features), [], 0
    for stack in side.grams:
        count = stack.shape[-1] // per_image
        rest = torch.tensor([number for number in range(count) if start + number not in images], dtype=torch.int64)
        if len(rest) < FEWEST:
            raise DataError(
                f"expected at least {FEWEST} images in a batch without copies, found {len(rest)}; use a larger --batch"
            )
        rows = (rest[:, None] * per_image + torch.arange(per_image)).flatten()
        grams.append(double_centre(stack[:, rows[:, None], rows]))
        start += count
    hashes = tuple(value for number, value in enumerate(side.images) if number not in images)
    return replace(side, grams=tuple(grams), images=hashes)


def units_of(groups: Sequence[Any], side: Fingerprint, measure: Measure, estimator: str) -> Units:
    """Return groups as units of intervals and null.

    Args:
        groups: The group of each image, in the order of the images: any labels.
        side: A fingerprint of the images.
        measure: Has to be CKA.
        estimator: Has to be the unbiased one.

    Raises:
        DataError: The measure or estimator is another, there are more or fewer labels than images, or fewer than four
            groups in a batch.
    """
    if not measure.sums or estimator != "unbiased":
        raise DataError(f"expected unbiased cka for groups, found {estimator} {measure.name}; omit the groups")
    if len(groups) != len(side.images):
        raise DataError(f"expected the group of each of {len(side.images)} images, found {len(groups)} groups")
    numbers: dict[Any, int] = {}
    labels = torch.tensor([numbers.setdefault(label, len(numbers)) for label in groups])
    per_image = tokens_per_image(side.settings.features)
    sizes = [stack.shape[-1] // per_image for stack in side.grams]
    fewest = min(len(part.unique()) for part in labels.split(sizes))
    if fewest < FEWEST:
        raise DataError(
            f"expected at least {FEWEST} groups of images in each batch, found {fewest}; use a larger --batch, or "
            "smaller groups"
        )
    return Units(tuple(part.repeat_interleave(per_image) for part in labels.split(sizes)), per_image)


def image_names(
    data: Any, *, num: int | None, seed: int, hashes: Sequence[str] | None = None, decode_size: int | None = None
) -> list[str] | None:
    """Return the name of each image of a comparison, in its order; None where images have no names.

    Arguments and errors as in `group_labels`.
    """
    source = image_source(data, decode_size=decode_size)
    if source.describe is None:
        return None
    indices = source.indices(num, seed)
    if hashes is None:
        return [source.describe(index) for index in indices]
    stream = source.stream(indices, num=num, batch=None, skip_bad=True)
    names: list[str] = []
    for index, digest in zip(indices, prefetch(_hash, stream.rows(stream)), strict=True):
        if len(names) < len(hashes) and digest == hashes[len(names)]:
            names.append(source.describe(index))
    if len(names) < len(hashes):
        raise DataError(
            f"{source.name}: expected the {len(hashes)} images that were compared, in their order, found another in "
            f"place of number {len(names) + 1}; give these images, as they were"
        )
    return names


def _hash(read: Callable[[], Tensor | DataError]) -> str:
    """Return the hash of an image, "" of one that is unreadable."""
    image = read()
    return image_hash(image) if isinstance(image, Tensor) else ""


def group_labels(
    groups: str,
    data: str,
    *,
    num: int | None,
    seed: int,
    hashes: Sequence[str] | None = None,
    decode_size: int | None = None,
) -> list[str]:
    """Return the group of each image of a comparison, in its order.

    Args:
        groups: A CSV file with the columns `name` (as in the folder or dataset, with or without suffix) and `group`; or
            `folder`, for the folder of each image.
        data: The images.
        num: Largest number of images, as in the comparison.
        seed: Seed of their choice.
        hashes: Of the compared images: those of `data` are read, and the ones that have these hashes are named. By
            default none is read, and each that was chosen was compared.
        decode_size: As in the comparison.

    Raises:
        DataError: The images have no names or are not those of the hashes, the file cannot be read, or an image has no
            group.
    """
    names = image_names(data, num=num, seed=seed, hashes=hashes, decode_size=decode_size)
    if names is None:
        raise DataError(
            f"expected images with names for groups, found {image_source(data).name}; give groups in Python"
        )
    paths = [PurePosixPath(name) for name in names]
    if groups == "folder":
        return [str(path.parent) for path in paths]
    try:
        table = pd.read_csv(groups, dtype=str).set_index("name")["group"].dropna()
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{groups}: expected a CSV file with the columns name and group, found: {error}") from error
    labels = table.to_dict()
    missing = [path for path in paths if not {str(path), str(path.with_suffix(""))} & labels.keys()]
    if missing:
        raise DataError(f"{groups}: expected the group of each image, found none of {missing[0]}; add a row for it")
    return [labels.get(str(path), labels.get(str(path.with_suffix("")))) for path in paths]


def with_groups(
    result: SimilarityMatrix, copies: Mapping[str, Any], merged: bool = False, units: Units | None = None
) -> SimilarityMatrix:
    """Return a result that tells of copies and groups among its images.

    Args:
        result: The result.
        copies: From `duplicates`, by number before any were left out.
        merged: Whether one of each group of copies was used.
        units: Groups of images, if there are any.
    """
    images: dict[str, Any] = {"copies": {**copies, "merged": merged}} if copies else {}
    if units is not None:
        images["groups"] = len(units.sizes)
    return replace(result, images={**result.images, **images}) if images else result


def name_copies(results: Mapping[Any, SimilarityMatrix], data: Any, side: Fingerprint) -> dict[Any, SimilarityMatrix]:
    """Return comparisons of the same images that name those that are copies, if they have names.

    Args:
        results: By any key.
        data: The images.
        side: A fingerprint of them.
    """
    names, settings = None, side.settings
    if any("copies" in result.images for result in results.values()):
        with suppress(DataError):  # no longer the images that were compared: copies keep their numbers
            names = image_names(
                data, num=settings.num, seed=settings.seed, hashes=side.images, decode_size=settings.decode_size
            )
    if names is None:
        return dict(results)
    named = {}
    for key, result in results.items():
        copies = result.images.get("copies", {})
        numbers = sorted({number for kind in COPIES for group in copies.get(kind, ()) for number in group})
        of_copies = {"copies": copies | {"names": {str(number): names[number] for number in numbers}}} if copies else {}
        named[key] = replace(result, images={**result.images, **of_copies})
    return named
