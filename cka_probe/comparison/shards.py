"""Join the shards of a fingerprint, which separate jobs wrote, to the fingerprint that one job would have written."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import torch

from cka_probe.comparison.fingerprint import Fingerprint, Shard, undefined_reason
from cka_probe.errors import FingerprintError
from cka_probe.similarity.features import tokens_per_image


def join_shards(shards: Sequence[Fingerprint | str | Path]) -> Fingerprint:
    """Return the whole fingerprint from all its shards, equal to the one that is computed at once.

    Args:
        shards: Fingerprints made with `shard`, or their files, in any order.

    Raises:
        FingerprintError: One is missing or given twice, is a whole fingerprint, or is of another model, images or
            settings.

    >>> from cka_probe import fingerprint
    >>> model, rows = torch.nn.Sequential(torch.nn.Linear(6, 5)), torch.randn(24, 6)
    >>> parts = [fingerprint(model, rows, batch=8, layers="0", shard=shard) for shard in ("1/2", "2/2")]
    >>> join_shards(parts)
    <Fingerprint of Sequential: 1 layers, 24 images>
    """
    prints = [shard if isinstance(shard, Fingerprint) else Fingerprint.load(shard, shard=True) for shard in shards]
    by_index = {_shard(print_).index: print_ for print_ in prints}
    _check_complete(prints)
    prints = [by_index[index] for index in sorted(by_index)]
    for print_ in prints[1:]:
        _check_same(prints[0], print_)
    parts = [_shard(print_) for print_ in prints]
    grams = _in_turn(print_.grams for print_ in prints)
    images = [*chain.from_iterable(_in_turn(map(_images_of_batches, prints)))]
    squares = torch.tensor(_in_turn(part.squares for part in parts), dtype=torch.float64)
    total = sum(squares, torch.zeros_like(squares[0]))  # one batch after another, as `extract` sums
    modules = prints[0].layers.modules
    samples = [print_.sample for print_ in prints if print_.sample]
    return replace(
        prints[0],
        grams=tuple(grams),
        sample=replace(samples[0], values=tuple(_in_turn(sample.values for sample in samples))) if samples else None,
        images=tuple(images),
        rms=tuple((total / len(images)).sqrt().tolist()),
        undefined=tuple(
            undefined_reason(
                any(module in part.not_finite for part in parts),
                [size for part in parts for size in part.constant.get(module, [])],
                len(grams),
            )
            for module in modules
        ),
        shard=None,
    )


def _shard(print_: Fingerprint) -> Shard:
    if print_.shard is None:
        raise FingerprintError(f"expected shards, found a whole fingerprint of {print_.side.reference}; omit it")
    return print_.shard


def _check_complete(prints: Sequence[Fingerprint]) -> None:
    """Raise `FingerprintError` unless each shard is there once."""
    names = Counter(map(str, map(_shard, prints)))
    counts = {_shard(print_).count for print_ in prints}
    if len(counts) != 1:
        found = ", ".join(sorted(names)) or "none"
        raise FingerprintError(f"expected all shards of one fingerprint, found {found}; give those of one run")
    count = counts.pop()
    if twice := [name for name, number in names.items() if number > 1]:
        raise FingerprintError(f"expected each of {count} shards once, found {twice[0]} more than once; omit it")
    if missing := count - len(names):
        numbers = (f"{index + 1}/{count}" for index in range(count))
        first = [*islice((name for name in numbers if name not in names), 3)]
        raise FingerprintError(
            f"expected all {count} shards, found {len(prints)}, without {', '.join(first)}"
            f"{f' and {missing - 3} more' if missing > 3 else ''}; compute them with --shard {first[0]}"
        )


def _check_same(first: Fingerprint, other: Fingerprint) -> None:
    """Raise `FingerprintError` if two shards are of different models, images or settings."""
    images = [(print_.source, print_.skipped, _shard(print_).images) for print_ in (first, other)]
    pairs: dict[str, tuple[Any, Any]] = {
        "models": (replace(first.side, warnings=()), replace(other.side, warnings=())),  # some are of the first images
        "layers": (first.layers, other.layers),
        "shapes of layers": (first.shapes, other.shapes),
        "settings": (first.settings.recorded(), other.settings.recorded()),
        "images": (images[0], images[1]),
        "package versions": (first.versions, other.versions),
    }
    for name, (expected, found) in pairs.items():
        if expected != found:
            raise FingerprintError(
                f"expected shards of one fingerprint, found shards {_shard(first)} and {_shard(other)} of different "
                f"{name}; recompute one of them with the same command"
            )


def _images_of_batches(print_: Fingerprint) -> list[tuple[str, ...]]:
    """Return the hashes of the images of each batch."""
    sizes = [stack.shape[-1] // tokens_per_image(print_.settings.features) for stack in print_.grams]
    if sum(sizes) != len(print_.images):
        raise FingerprintError(
            f"expected a shard of {sum(sizes)} images, found {len(print_.images)}; copy it again, or recompute it"
        )
    hashes = iter(print_.images)
    return [tuple(next(hashes) for _ in range(size)) for size in sizes]


def _in_turn(shards: Iterable[Iterable[Any]]) -> list[Any]:
    """Return the first of each shard, then the second of each, …

    >>> _in_turn(["ad", "be", "c"])
    ['a', 'b', 'c', 'd', 'e']
    """
    return [item for items in zip_longest(*shards) for item in items if item is not None]
