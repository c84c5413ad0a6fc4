"""What a task is: what it needs of a sample, a head, a loss, and how well it went.

A task is a frozen dataclass whose fields, after `size`, are the options a recipe may set. It holds no weights
and draws no number that is not drawn from the generator it is given, so that the same sample, position and
seed give the same input on any machine and in any number of processes.
"""

from typing import Protocol

from torch import Generator, Tensor, nn

from cka_probe.images.sample import Sample
from cka_probe.models.backbone import Backbone


class Task(Protocol):
    """The contract; `Masked` and `Depth` are examples of it.

    A task may also have, as attributes that may follow from its options,

    - `continues`, names of tasks whose head its own goes on with (the depth and pose networks of geometric
      pre-training, say); without it only its own task is gone on with;
    - `carries`, beginnings of the names of the weights that it takes over from such a head ("decoder."); what begins
      otherwise is new. Without it the whole head is taken over.

    and, where a score is no mean over images (a ratio of sums over all of them, such as mIoU), a method

        summary(sums: dict[str, Tensor]) -> dict[str, float]

    that makes scores of those values of `evaluate` that have more than one axis, summed over all images.

    Attributes:
        needs: Fields of a sample it reads.
        size: Input height and width of the network in pixels.
    """

    needs: frozenset[str]
    size: tuple[int, int]

    def __init__(self, size: tuple[int, int], **options: object): ...

    def head(self, backbone: Backbone) -> nn.Module:
        """Return what is trained on top of this backbone, initialised from torch's generator."""
        ...

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return a sample of network size, augmented if `train`; every draw comes from `generator`."""
        ...

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the scalar to descend and its named parts, detached scalars worth a column of the log."""
        ...

    def evaluate(self, backbone: Backbone, head: nn.Module, batch: Sample) -> dict[str, Tensor]:
        """Return named values per image, (n,) each, NaN where an image says nothing; or (n, ...), to be summed."""
        ...
