"""How many images a comparison needs: how its intervals and its bias shrink with their number.

The half-width of an interval falls with the root of the number of images, so from n images to the half-width h it takes
`n (h_n / h)^2`. Whether this holds is shown by the same comparison over some of the batches. The bias of the unbiased
estimate falls with 1 / n; it is about the mean over both halves of the batches less the value of all. The bias of the
biased estimate depends on the size of the batches alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cka_probe.comparison.compare import compare_fingerprints
from cka_probe.comparison.fingerprint import Fingerprint, pairing_of
from cka_probe.documents import Document, plain
from cka_probe.errors import DataError
from cka_probe.similarity import ESTIMATORS, cka_cells
from cka_probe.similarity.features import tokens_per_image

FORMAT = "ckaprobe-advice/1"
TARGETS = (0.05, 0.02, 0.01)
"""Half-widths for which numbers of images are given."""
FIRST, STEP = 128, 64
"""Images of the first round of `extract_until`, and the number that those of later rounds are multiples of."""
MOST_GROUPS = 4
"""Groups of batches of one size that are averaged."""


@dataclass(frozen=True, eq=False, repr=False)
class Advice(Document):
    """How intervals and bias of a comparison shrink with the number of images.

    Attributes:
        models: References of x and y.
        batch: Images in a batch.
        sizes: Numbers of images, ascending; the last is all.
        median: Of each size, the median half-width over the cells.
        widest: Of each size, the largest half-width.
        cell: Layers of x and y with the widest interval of all images.
        bias: Median and largest absolute bias of the unbiased estimate of all images; NaN for a single batch.
        biased: Median and largest difference of the biased to the unbiased estimate.
    """

    noun: ClassVar[str] = "advice"
    models: tuple[str, str]
    batch: int
    sizes: tuple[int, ...]
    median: tuple[float, ...]
    widest: tuple[float, ...]
    cell: tuple[str, str]
    bias: tuple[float, float]
    biased: tuple[float, float]

    def needed(self, half_width: float, *, everywhere: bool = True) -> int:
        """Return about how many images give a half-width: in every cell, or in half of them."""
        return int(np.ceil(self.sizes[-1] * ((self.widest if everywhere else self.median)[-1] / half_width) ** 2))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per number of images: images, median, widest."""
        return pd.DataFrame({"images": self.sizes, "median": self.median, "widest": self.widest})

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON."""
        document: dict[str, Any] = plain({"format": FORMAT} | vars(self))
        return document

    def summary(self) -> str:
        """Return the advice in words."""
        count = self.sizes[-1]
        lines = [
            f"{count} images give intervals of ± {self.median[-1]:.3f} in the median cell and ± {self.widest[-1]:.3f} "
            f"in the widest ({self.cell[0]} of x, {self.cell[1]} of y).",
        ]
        for target in TARGETS:
            median, every = self.needed(target, everywhere=False), self.needed(target)
            lines.append(f"± {target:g} takes about {median} images in the median cell, {every} in every cell.")
        if len(self.sizes) > 1:
            table = ", ".join(f"{half:.3f} ({size})" for size, half in zip(self.sizes, self.median, strict=True))
            lines.append(f"Half-widths of the median cell over fewer images: {table}.")
            lines.append(
                f"The unbiased estimate of {count} images is off by about {self.bias[0]:.4f} in the median cell and by "
                f"at most {self.bias[1]:.4f}; twice the images halve this."
            )
        lines.append(
            f"The biased estimate in batches of {self.batch} differs by {self.biased[0]:.3f} in the median cell and by "
            f"at most {self.biased[1]:.3f}; more images do not change this, larger batches do."
        )
        return "\n".join([*lines, ""])


def advise(x: Fingerprint, y: Fingerprint, *, pair: str | None = None) -> Advice:
    """Return how many images the CKA of two fingerprints needs.

    Args:
        x: The rows.
        y: The columns; of the same or of paired images.
        pair: As in `compare_fingerprints`.

    Raises:
        FingerprintError: They are of different images, batches or features.
        DataError: No cell has an interval.

    >>> import torch
    >>> from cka_probe import fingerprint
    >>> nets = [torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU()) for _ in range(2)]
    >>> images = torch.randn(64, 6)
    >>> prints = [fingerprint(net, images, layers="*", batch=16) for net in nets]
    >>> advise(*prints).sizes
    (16, 32, 64)
    """
    pairing_of(x, y, pair)
    per_image = tokens_per_image(x.settings.features)
    grams = x.defined_grams, y.defined_grams
    counts = [stack.shape[-1] // per_image for stack in grams[0]]

    def values_and_halves(batches: slice, estimator: str = "unbiased") -> tuple[np.ndarray, np.ndarray]:
        cells = cka_cells(
            grams[0][batches], grams[1][batches], ESTIMATORS[estimator], permutations=0, seed=0, per_image=per_image
        )
        return cells.values.numpy(), ((cells.high - cells.low) / 2).numpy()

    whole, halves = values_and_halves(slice(None))
    if not np.isfinite(halves).any():
        raise DataError("expected a comparison with intervals, found none; see the warnings of ckaprobe compare")
    numbers, rows = sorted({2**k for k in range(len(counts).bit_length()) if 2**k < len(counts)}), []
    for number in numbers:
        starts = range(0, len(counts) - number + 1, number)[:MOST_GROUPS]
        parts = [values_and_halves(slice(start, start + number))[1] for start in starts]
        rows.append((sum(counts[:number]), *_ends(np.mean(parts, axis=0))))
    rows.append((sum(counts), *_ends(halves)))
    sizes, median, widest = zip(*rows, strict=True)
    middle = len(counts) // 2
    parts = [values_and_halves(part)[0] for part in (slice(middle), slice(middle, 2 * middle))] if middle else []
    row, column = np.unravel_index(np.nanargmax(halves), halves.shape)
    return Advice(
        models=(x.side.reference, y.side.reference),
        batch=counts[0],
        sizes=sizes,
        median=median,
        widest=widest,
        cell=(x.layers.names[int(row)], y.layers.names[int(column)]),
        bias=_ends(np.abs(np.mean(parts, axis=0) - whole)) if parts else (np.nan, np.nan),
        biased=_ends(np.abs(values_and_halves(slice(None), "biased")[0] - whole)),
    )


def extract_until(
    half_width: float,
    extract: Callable[[int], tuple[Fingerprint, Fingerprint]],
    *,
    most: int | None = None,
    **method: Any,
) -> tuple[tuple[Fingerprint, Fingerprint], float]:
    """Return fingerprints of as many images as it takes until every interval is narrow enough, and the widest one.

    The number of images grows by the root law, at least twofold and at most eightfold, so all rounds together take at
    most twice the time of the last. The last is the same as if its number had been given. As the intervals decide when
    to stop, they are slightly too narrow.

    Args:
        half_width: Largest half-width of a 95 % interval.
        extract: Returns the fingerprints of x and y of a number of images, or of all if there are fewer.
        most: Largest number of images; by default all.
        method: Measure and estimator, as in `compare_fingerprints`.

    Raises:
        DataError: `half_width` is not positive, or no cell has an interval.
    """
    if not half_width > 0:
        raise DataError(f"expected a half-width above 0, such as 0.01, found {half_width:g}")
    count = min(FIRST, most or FIRST)
    while True:
        sides = extract(count)
        result = compare_fingerprints(*sides, **method | {"permutations": 0})
        halves = (result.high - result.low) / 2
        if not np.isfinite(halves).any():
            raise DataError(f"expected a comparison with intervals, found none with {len(sides[0].images)} images")
        widest = float(np.nanmax(halves))
        if widest <= half_width or len(sides[0].images) < count or count == most:
            return sides, widest
        needed = 1.1 * count * (widest / half_width) ** 2
        count = int(np.ceil(min(max(needed, 2 * count), 8 * count) / STEP)) * STEP
        count = min(count, most or count)


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Return the median and the largest of the values that are defined."""
    return float(np.nanmedian(values)), float(np.nanmax(values))
