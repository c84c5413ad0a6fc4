"""Compare two models over all images as one batch, from one pass.

Pooled features are added to the sums of `similarity.moments` and freed; flattened ones go to disk, with Grams
(`comparison.stored`). Apart from that, the hashes of all images are kept, so that each image adds about 150 bytes to
the memory.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from cka_probe import registry
from cka_probe.comparison.features import are_pooled
from cka_probe.comparison.fingerprint import CONSTANT, NOT_FINITE, ZERO, Fingerprint, Settings
from cka_probe.comparison.ranks import current_ranks
from cka_probe.comparison.sides import Entry, Images, Options, extract_sides
from cka_probe.comparison.stored import StoredFeatures, StoredSide
from cka_probe.errors import DataError
from cka_probe.images.stream import ImageStream
from cka_probe.models.backbone import Backbone
from cka_probe.progress import reporting
from cka_probe.similarity import ESTIMATORS, Cells, Measure
from cka_probe.similarity.moments import Moments, SideMoments

ALL = "all"
"""`batch` for one batch of all images."""
FEWEST = 5
"""Least number of images for the approximation of the null; of 4, p-values were too small."""


class AllImages:
    """Takes the features of all images: as sums, or in files where they are flattened.

    Args:
        files: Closes temporary files.
        folder: Folder for them; by default that of the system.
    """

    def __init__(self, files: ExitStack, folder: Path | None = None):
        self.files, self.folder = files, folder

    def start(self, sides: Sequence[Backbone | Fingerprint], settings: Settings, stream: ImageStream | None) -> None:
        """Choose where features go.

        Raises:
            DataError: Features are tokens; or they are flattened, and the number of images is not known or the run has
                several processes.
            FingerprintError: A side is a fingerprint.
        """
        if are_pooled(sides, settings.features):
            self.features: Moments | StoredFeatures = Moments(seed=settings.seed)
            return
        total, processes = stream.total if stream else None, current_ranks().count
        if total is None or processes > 1:
            expected, found = (
                ("images whose number is known (a folder, dataset or tensor), or num", "neither")
                if total is None
                else ("one process", f"{processes}; set --batch to the number of images for one batch of Grams")
            )
            raise DataError(f"expected {expected}, for one batch of all images with flattened features, found {found}")
        self.features = StoredFeatures(total=total, seed=settings.seed, files=self.files, folder=self.folder)

    def add(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> None:
        """Add a batch."""
        self.features.add(x, y)


def compare_moments(
    entries: Sequence[Entry],
    images: Images,
    options: Options,
    measure: Measure,
    estimator: str,
    permutations: int,
    folder: Path | None,
) -> tuple[list[Fingerprint], Cells]:
    """Return both models, without Grams, and their similarity over all images as one batch.

    Args:
        entries: x and y.
        images: Their images.
        options: All other arguments; `batch` is how many images are read together.
        measure: CKA.
        estimator: Estimator of HSIC.
        permutations: 0 for no null.
        folder: Folder for temporary files; by default that of the system.

    Raises:
        DataError: The measure is another, or as in `AllImages.start`.
        FingerprintError: A side is a fingerprint.
        OutputError: The folder has too little space.
    """
    if not measure.sums:
        raise DataError(
            f"expected the measure cka for one batch of all images, found {measure.name}, which needs Grams; "
            "set --batch to the number of images"
        )
    hsic = registry.get(ESTIMATORS, estimator, "estimator")
    with ExitStack() as files:
        sink, report = AllImages(files, folder), files.enter_context(reporting(options.progress))

        def report_images(done: int, total: int | None) -> None:
            report(done, total and total * (1 + isinstance(sink.features, StoredFeatures)))

        prints = extract_sides(entries, images, replace(options, progress=report_images), sink)
        features = sink.features
        if permutations and features.x.count < FEWEST:
            raise DataError(
                f"expected at least {FEWEST} images for the null of one batch of all images, found {features.x.count}; "
                f"set --batch {features.x.count}, or --permutations 0 for none"
            )
        if isinstance(features, StoredFeatures):  # Grams are half of the progress
            n = features.total
            cells = features.cells(
                hsic, null=permutations > 0, progress=lambda share: report(int(n + share * n), 2 * n)
            )
        else:
            cells = features.cells(hsic, null=permutations > 0)
    return [_described(print_, side) for print_, side in zip(prints, (features.x, features.y), strict=True)], cells


def _described(print_: Fingerprint, side: SideMoments | StoredSide) -> Fingerprint:
    """Return a model with what its features say of its layers."""
    layers = zip(side.finite.tolist(), side.varies.tolist(), side.size.tolist(), strict=True)
    undefined = tuple(
        NOT_FINITE if not finite else "" if varies else CONSTANT if size else ZERO for finite, varies, size in layers
    )
    return replace(print_, rms=tuple(side.rms.tolist()), undefined=undefined)
