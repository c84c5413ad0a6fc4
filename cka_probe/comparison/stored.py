"""CKA over all images as one batch of flattened features, from Grams on disk.

The features of each batch are appended to a temporary file, `WIDTH` features after another. At the end, each Gram is
computed from blocks of them in float64, of features minus their means, a few rows at a time, and written to a second
file, which is read a few rows at a time as well. Neither file has a name, so the system removes it however the process
ends. The values and intervals are those of a batch of Grams in memory; the null is that of `similarity.moments`.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryFile, gettempdir

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import CkaProbeWarning, DataError, OutputError
from cka_probe.similarity import Cells, centre_batches, cka, hsic_terms, jackknife_interval
from cka_probe.similarity.cka import Estimator
from cka_probe.similarity.gram import rounding_share
from cka_probe.similarity.moments import null_of_moments, sampled_spectrum

WIDTH = 1024
"""Features that are read together."""
ROWS_BYTES, STEP = 2**29, 512
"""Bytes of the rows of a Gram that are computed together, and how many of them are multiplied together: a Gram is
symmetric, and only its upper triangle is computed."""


class StoredSide:
    """The features of the layers of one model, in a file.

    Args:
        folder: Where the file is.
        files: Closes it.

    Attributes:
        count: Number of images.
        size: (layers,) root mean square of the first image's features: the scale of the activation.
        rms: (layers,) root mean square, over images and features, of the features minus their means.
        finite: (layers,) whether all features were finite numbers.
    """

    def __init__(self, folder: Path, files: ExitStack):
        self.folder, self.count = folder, 0
        self.file = files.enter_context(TemporaryFile(dir=folder))  # noqa: SIM115
        self.batches: list[tuple[int, list[int]]] = []

    def add(self, features: Sequence[Tensor]) -> None:
        """Append a batch, (n, p) of each layer."""
        if not self.count:
            self.widths, self.dtypes = [layer.shape[1] for layer in features], [layer.dtype for layer in features]
            self.rounding = torch.tensor([rounding_share(dtype) for dtype in self.dtypes], dtype=torch.float64)
            self.sums = [torch.zeros(width, dtype=torch.float64) for width in self.widths]
            self.size = torch.stack([layer[0].double().square().mean().sqrt() for layer in features])
        if [layer.shape[1] for layer in features] != self.widths:
            raise DataError(
                f"expected layers of {', '.join(map(str, self.widths))} features for every image, found "
                f"{', '.join(str(layer.shape[1]) for layer in features)}; give images of one size, or --features gap"
            )
        offsets = []
        for layer, sums in zip(features, self.sums, strict=True):
            offsets.append(self.file.tell())
            sums += layer.sum(dim=0, dtype=torch.float64)
            for columns in layer.split(WIDTH, dim=1):
                self.file.write(columns.contiguous().view(torch.uint8).numpy().data)
        self.batches.append((len(features[0]), offsets))
        self.count += len(features[0])

    def columns(self, layer: int, start: int, stop: int, first: int = 0) -> Tensor:
        """Return some features of the images from `first` on, minus their means, (count - first, stop - start) float64.

        Args:
            layer: Index of the layer.
            start: First feature, a multiple of `WIDTH`.
            stop: The one after the last.
            first: First image.
        """
        dtype, width, row = self.dtypes[layer], stop - start, 0
        values = torch.empty(self.count, width, dtype=torch.float64)
        for num, offsets in self.batches:
            if row + num > first:
                data = bytearray(num * width * dtype.itemsize)
                self.file.seek(offsets[layer] + num * start * dtype.itemsize)
                self.file.readinto(data)
                values[row : row + num] = torch.frombuffer(data, dtype=dtype).view(num, width)
            row += num
        return values[first:].sub_(self.sums[layer][start:stop] / self.count)

    def grams(self, progress: Callable[[float], None]) -> Tensor:
        """Return the centred Grams of all layers, (layers, n, n) float64, in a file; zeros if a layer does not vary.

        Args:
            progress: Called with the share that is done.
        """
        n, layers = self.count, len(self.widths)
        with TemporaryFile(dir=self.folder) as file:
            _reserve(file.fileno(), layers * n * n * 8)
            stack = torch.from_numpy(np.memmap(file, np.float64, "r+", shape=(layers, n, n)))
        for layer in range(layers):
            for share in self._compute(layer, stack[layer]):
                progress((layer + share) / layers)
        diagonals = stack.diagonal(dim1=1, dim2=2)
        variance = diagonals.mean(dim=1) / torch.tensor(self.widths)
        self.finite, self.rms = variance.isfinite(), variance.clamp_min(0).sqrt()
        for matrix, varies in zip(stack, self.varies.tolist(), strict=True):
            if not varies:
                matrix.zero_()
        return stack

    @property
    def varies(self) -> Tensor:
        """(layers,) whether the layer differs between images by more than rounding; False where it is not finite."""
        varies: Tensor = self.rms > self.rounding * self.size
        return varies

    def _compute(self, layer: int, matrix: Tensor) -> Iterator[float]:
        """Write the Gram of a layer, (n, n), and yield the share that is done."""
        n, width = self.count, self.widths[layer]
        step = max(STEP, ROWS_BYTES // (8 * n))
        for start in range(0, n, step):
            rows = torch.zeros(min(step, n - start), n - start, dtype=torch.float64)
            for column in range(0, width, WIDTH):
                values = self.columns(layer, column, min(column + WIDTH, width), start)
                for row in range(0, len(rows), STEP):
                    rows[row : row + STEP, row:].addmm_(values[row : min(row + STEP, len(rows))], values[row:].mT)
            for row in range(0, len(rows), STEP):
                part = rows[row : row + STEP, row:]
                matrix[start + row : start + row + len(part), start + row :] = part
                matrix[start + row :, start + row : start + row + len(part)] = part.mT
            yield 1 - (max(0, n - start - step) / n) ** 2


class StoredFeatures:
    """The features of both sides of a comparison, in files.

    Args:
        total: Number of images, for the space that they will take.
        seed: Seed of the sample of images for the null.
        files: Closes the files.
        folder: Where they are; by default the system's folder of temporary files.
    """

    def __init__(self, *, total: int, seed: int, files: ExitStack, folder: Path | None = None):
        self.total, self.seed, self.files, self.folder = total, seed, files, folder or Path(gettempdir())
        self.x = self.y = StoredSide(self.folder, files)

    def add(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> None:
        """Add a batch; arguments as in `similarity.moments.Moments.add`.

        Raises:
            OutputError: The disk has too little space.
        """
        if not self.x.count:
            self.y = self.x if _are_same(x, y) else StoredSide(self.folder, self.files)
            self._check_space(space_of(x, y, self.total))
        with self._output_errors("features"):
            self.x.add(x)
            if self.y is not self.x:
                self.y.add(y)

    def _check_space(self, space: int) -> None:
        """Warn of the space that will be taken, and raise `OutputError` if there is less."""
        free = disk_usage(self.folder).free
        needs = f"{space / 2**30:.3g} GiB of disk in {self.folder} for features and Grams of {self.total} images"
        if space > free:
            raise OutputError(
                f"expected {needs}, found {free / 2**30:.3g} GiB free; free some, choose another folder, or use fewer "
                "--layers, a smaller --num or --features gap"
            )
        warnings.warn(f"taking {needs} until the end of the run", CkaProbeWarning, stacklevel=2)

    @contextmanager
    def _output_errors(self, contents: str) -> Iterator[None]:
        """Turn an error of the disk into one line."""
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"cannot write {contents} to {self.folder}: {error}; free some space, or choose another folder"
            ) from error

    def cells(
        self, estimator: Estimator, *, null: bool = True, progress: Callable[[float], None] | None = None
    ) -> Cells:
        """Return CKA of every layer of x with every layer of y.

        Args:
            estimator: Estimator of HSIC.
            null: Whether to compute the null; if not, it is NaN.
            progress: Called with the share of Grams that are done.
        """
        report = progress or (lambda _share: None)
        with self._output_errors("Grams"):
            x = self.x.grams(lambda share: report(share / 2))
            y = x if self.y is self.x else self.y.grams(lambda share: report((1 + share) / 2))
        report(1.0)
        stacks = centre_batches([x], estimator), centre_batches([y], estimator)
        terms = hsic_terms(*stacks, estimator)
        values = cka(terms)
        low, high = jackknife_interval(*stacks, terms, estimator)
        quantile, p_values = (torch.full_like(values, torch.nan) for _ in range(2))
        if null:
            squares = (term[0] * estimator.divisor(self.x.count) for term in (terms.xx, terms.yy))
            spectrum_x, spectrum_y = (
                sampled_spectrum(stack, square, self.seed) for (stack,), square in zip(stacks, squares, strict=True)
            )
            quantile, p_values = null_of_moments(values, spectrum_x, spectrum_y, self.x.count)
        return Cells(values, low, high, quantile, p_values, terms)


def space_of(x: Sequence[Tensor], y: Sequence[Tensor], total: int) -> int:
    """Return the bytes of the files of so many images, features and Grams, from layers of some of them, (n, p) each."""
    return sum(total * layer[0].nbytes + 8 * total**2 for layer in (x if _are_same(x, y) else (*x, *y)))


def _are_same(x: Sequence[Tensor], y: Sequence[Tensor]) -> bool:
    """Return whether both sides have the same layers of the same model, which are stored once."""
    return len(x) == len(y) and all(a is b for a, b in zip(x, y, strict=True))


def _reserve(descriptor: int, size: int) -> None:
    """Give a file a size, with the space for it where the system can: without space, writing ends the process."""
    if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
