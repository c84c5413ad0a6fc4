"""The contract of a task: the fields it reads of a sample, its head, its loss and its scores.

A task is a frozen dataclass whose fields, after `size`, are the options a recipe may set. It holds no weights, and
draws all random numbers from the generator it is given, so that the same sample, position and seed give the same input
on any machine and in any number of processes.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from torch import Generator, Tensor, nn

from cka_probe.errors import DataError, RecipeError
from cka_probe.images.sample import IGNORE, Sample
from cka_probe.models.backbone import Backbone

NO_OBJECT = -1
"""The class of what fills up the objects of an image in a batch."""


class Task(Protocol):
    """The contract; `Masked` and `Depth` are examples.

    A task may also have these attributes, which may depend on its options:

    - `continues`: names of the tasks whose head its own can continue from (the depth and pose networks of geometric
      pre-training, say). By default only its own.
    - `carries`: prefixes of the names of the weights that it takes over from such a head ("decoder."); the others are
      new. By default it takes over the whole head.
    - `published`: a method that returns weights of other authors by their names in its head, which a new head begins
      with; by default they are random.
    - `least_images`: number of images at a time that its loss needs, by default 1.

    Where a score is not a mean over images but, like mIoU, a ratio of sums over all of them, the task has a method

        summary(sums: dict[str, Tensor]) -> dict[str, float]

    which computes scores from those values of `evaluate` that have more than one axis, summed over all images.
    """

    @property
    def needs(self) -> frozenset[str]:
        """Fields of a sample that it reads."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input, pixels."""
        ...

    def __init__(self, size: tuple[int, int], **options: object): ...

    def head(self, backbone: Backbone) -> nn.Module:
        """Return the module to train on top of this backbone, initialised from torch's generator."""
        ...

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return a sample at the network's size, augmented if `train`, with all draws from `generator`."""
        ...

    def loss(self, backbone: Backbone, head: Any, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a scalar, and its named parts, detached scalars that become columns of the log."""
        ...

    def evaluate(self, backbone: Backbone, head: Any, batch: Sample) -> dict[str, Tensor]:
        """Return named scores per image, (n,) each, NaN where undefined; or (n, ...), to be summed for `summary`."""
        ...


def published_weights(task: Task) -> dict[str, Tensor]:
    """Return the weights that a new head of a task begins with in place of random ones, by name."""
    return task.published() if hasattr(task, "published") else {}


def least_images(task: Task) -> int:
    """Return the number of images at a time that the loss of a task needs."""
    return getattr(task, "least_images", 1)


def check_sides(task: str, size: tuple[int, int]) -> None:
    """Raise `RecipeError`, in the name of a task, unless `SkipDecoder` can read inputs of (height, width) pixels."""
    if any(side < 64 or side % 32 for side in size):
        raise RecipeError(f"{task}: expected sides that are multiples of 32, at least 64, found {size[0]} x {size[1]}")


def check_labels(task: str, labels: Tensor, classes: int) -> None:
    """Raise `DataError`, in the name of a task, unless all labels are 0 to classes - 1, or 255 = ignore."""
    wrong = labels[(labels != IGNORE) & ((labels < 0) | (labels >= classes))]
    if len(wrong):
        raise DataError(
            f"{task}: expected labels from 0 to {classes - 1}, or {IGNORE}, found {int(wrong[0])}; set the stage's "
            "options.classes to the number of classes of its data"
        )


def check_options(task: str, checks: Iterable[tuple[str, object, object]]) -> None:
    """Check the options of a task.

    Args:
        task: Named in messages.
        checks: What is expected, what was found, and whether (truthy) the one is the other.

    Raises:
        RecipeError: An expectation does not hold.
    """
    for expected, found, holds in checks:
        if not holds:
            raise RecipeError(f"{task}: expected {expected}, found {found}")
