"""Contrastive pre-training as in MoCo v2: two views of one image are similar, views of different images are not.

The encoder, the mean over positions, two linear layers with a ReLU between them, and normalisation to length 1 turn one
view into a *query* q. A second encoder, whose weights follow the first's slowly, turns the other view into a *key* k.
The keys of earlier steps wait in a queue of length K; a query has to find its own key among them (InfoNCE, temperature
T):

    L = -log(e^(q.k / T) / (e^(q.k / T) + sum_j e^(q.k_j / T))),    w_k <- m w_k + (1 - m) w_q    before each loss

The momentum encoder begins as a copy of the encoder, has batch norms of its own and no gradient. It, the queue and its
position belong to the head's state, so that an interrupted run continues exactly.

He, Fan, Wu, Xie & Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020; Chen, Fan,
Girshick & He, "Improved Baselines with Momentum Contrastive Learning", 2020. Differences from their code:

- Batch norm reveals which views were in one batch, from which a query could find its key. They shuffle the keys among
  GPUs; here each process computes its batch in `splits` parts, queries in order, keys in a random order.
- Steps in parts (`accumulate` p) update the momentum encoder and the queue p times: take the p-th root of `momentum`.
- The queue begins with random directions, as theirs, so some negatives of the first steps are not of images. A queue
  longer than the data contains earlier keys of an image among its negatives: small studies need a short one.
- As published, all keys of a batch are newer than those of the queue, so a query only has to tell new from old. A
  ResNet-18 on 96 images of streets (batch 16, 120 steps, queue 64, momentum 0.99) learned just that: at step 40, 15 of
  16 queries found their key, and held-out images were retrieved at chance level to the last step. With `among`, the
  other keys of the batch are negatives too, which leaves only the image as a cue: 3.20 nats on 32 held-out images after
  150 such steps, where chance is 3.47. It is not part of MoCo v2, and small studies need it.
- A blur is as wide in an image of 224 pixels as theirs, and narrower in smaller ones.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, distributed, nn
from torchvision.transforms.v2 import functional as images

from cka_probe.errors import RecipeError
from cka_probe.images.sample import Sample
from cka_probe.lab.tasks.decoders import maps
from cka_probe.lab.tasks.task import check_options
from cka_probe.lab.transforms import color_jittered, uniform
from cka_probe.lab.transforms.augment import random_view, resize_or_crop
from cka_probe.models.backbone import Backbone

COLOURED, GREY, BLURRED = 0.8, 0.2, 0.5
"""Probabilities that a view is colour-jittered, turned grey, blurred."""

SHARPEST, DULLEST, OF = 0.1, 2.0, 224
"""Least and greatest standard deviation of a blur, in pixels of a view whose shorter side has `OF` pixels."""


class MomentumHead(nn.Module):
    """Projection, momentum copies of encoder and projection, and the queue of keys.

    Args:
        backbone: The initial encoder, to be copied.
        channels: Of its last feature map.
        dim: Of queries and keys.
        length: Of the queue.

    Attributes:
        queue: (length, dim) float32, rows of length 1.
        oldest: () int64, the row to be replaced next.
    """

    def __init__(self, backbone: Backbone, channels: int, dim: int, length: int):
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, dim))
        self.key_encoder: Backbone = deepcopy(backbone).requires_grad_(False)
        self.key_projection = deepcopy(self.projection).requires_grad_(False)
        self.queue: Tensor
        self.oldest: Tensor
        self.register_buffer("queue", F.normalize(torch.randn(length, dim), dim=1))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))

    def queries(self, backbone: Backbone, images: Tensor) -> Tensor:
        """Return the queries of images (n, 3, h, w), (n, dim) float32 of length 1."""
        return _directions(self.projection, backbone, images)

    def keys(self, images: Tensor) -> Tensor:
        """Return the keys of images (n, 3, h, w), (n, dim) float32 of length 1, without gradient."""
        with torch.no_grad():
            return _directions(self.key_projection, self.key_encoder, images)

    @torch.no_grad()
    def follow(self, backbone: Backbone, momentum: float) -> None:
        """Update the momentum copies, w_k <- m w_k + (1 - m) w_q, except the statistics of batch norms."""
        for copy, model in ((self.key_encoder, backbone), (self.key_projection, self.projection)):
            for slow, fast in zip(copy.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest rows of the queue by the keys of all processes, in their order.

        Args:
            keys: (n, dim) float32, of this process; another may have more.

        Raises:
            RecipeError: There are more keys than rows.
        """
        if distributed.is_available() and distributed.is_initialized():
            count = torch.tensor(len(keys), device=keys.device)
            counts = [torch.empty_like(count) for _ in range(distributed.get_world_size())]
            distributed.all_gather(counts, count)
            most = max(int(count) for count in counts)
            parts = [keys.new_empty(most, keys.shape[1]) for _ in counts]
            distributed.all_gather(parts, F.pad(keys, (0, 0, 0, most - len(keys))))  # of one shape in all processes
            keys = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        length = len(self.queue)
        if len(keys) > length:
            raise RecipeError(
                f"contrastive: expected a `queue` of a batch or more, found {length} for {len(keys)} keys; set "
                f"options.queue={4 * len(keys)}"
            )
        rows = (self.oldest + torch.arange(len(keys), device=keys.device)) % length
        self.queue[rows] = keys
        self.oldest.copy_((self.oldest + len(keys)) % length)


@dataclass(frozen=True)
class Contrastive:
    """Find the other view of an image among those of others.

    Attributes:
        size: Height and width of the network's input, pixels.
        dim: Of queries and keys.
        queue: Number of keys of earlier steps that serve as negatives.
        temperature: Divisor of the similarities.
        momentum: Share of the momentum encoder that a step keeps.
        scale: Least and most share of an image's area that a view shows.
        splits: Number of parts of a process's batch that batch norms normalise separately.
        among: Whether the keys of the other images of the batch are negatives too.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image"})

    size: tuple[int, int]
    dim: int = 128
    queue: int = 65536
    temperature: float = 0.2
    momentum: float = 0.999
    scale: tuple[float, float] = (0.2, 1.0)
    splits: int = 2
    among: bool = False

    def __post_init__(self):
        checks = [
            ("`dim` of 2 or more", self.dim, self.dim >= 2),
            ("`queue` of 1 or more", self.queue, self.queue >= 1),
            ("`temperature` above 0", self.temperature, self.temperature > 0),
            ("`momentum` in [0, 1)", self.momentum, 0 <= self.momentum < 1),
            ("`scale` = [least, most] in (0, 1]", list(self.scale), 0 < self.scale[0] <= self.scale[1] <= 1),
            ("`splits` of 1 or more", self.splits, self.splits >= 1),
        ]
        check_options("contrastive", checks)

    @property
    def least_images(self) -> int:
        """Images at a time that its loss needs: one for each part."""
        return self.splits

    def head(self, backbone: Backbone) -> nn.Module:
        """Return projection, momentum encoder and queue."""
        return MomentumHead(backbone, maps(backbone)[-1][0], self.dim, self.queue)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return two views, `image` and `other` (3, h, w) float32 in [0, 1], and `order` () float32.

        In evaluation `image` is the whole image. Images are sorted by `order` where keys are shuffled.
        """
        image = {"image": sample["image"]}
        first = self._view(image, generator) if train else resize_or_crop(image, self.size, None)["image"]
        second = self._view(image, generator)
        return {"image": first, "other": second, "order": torch.rand((), generator=generator)}

    def _view(self, sample: Sample, generator: Generator) -> Tensor:
        """Return an augmented view of an image, (3, h, w)."""
        view = random_view(sample, self.size, generator, self.scale, ratio=self.size[1] / self.size[0])
        jitter = 0.4 * (uniform(generator) < COLOURED)
        view = color_jittered(view, generator, brightness=jitter, contrast=jitter, saturation=jitter, hue=jitter / 4)
        image = view["image"]
        if uniform(generator) < GREY:
            image = images.rgb_to_grayscale_image(image, num_output_channels=3)
        deviation = uniform(generator, SHARPEST, DULLEST) * min(self.size) / OF
        if uniform(generator) < BLURRED:
            image = images.gaussian_blur_image(image, [2 * math.ceil(3 * deviation) + 1] * 2, [deviation] * 2)
        return image.clamp(0.0, 1.0)

    def loss(self, backbone: Backbone, head: MomentumHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return InfoNCE in nats, mean over the batch, and the share of queries whose nearest key is their own.

        In training mode the momentum encoder is updated before, and the keys enter the queue after.

        Raises:
            RecipeError: The batch has fewer images than `splits`, or more than the queue is long.
        """
        if len(batch["image"]) < self.splits:
            raise RecipeError(
                f"contrastive: expected at least {self.splits} images at a time, `splits` being as many, found "
                f"{len(batch['image'])}; set a larger batch or options.splits=1"
            )
        if head.training:
            head.follow(backbone, self.momentum)
        parts = batch["image"].tensor_split(self.splits)
        queries = torch.cat([head.queries(backbone, part) for part in parts])
        keys = self._shuffled_keys(head, batch)
        # autograd needs the negatives of this step, and `enqueue` overwrites them
        logits = info_nce_logits(queries, keys, head.queue.clone(), self.temperature, self.among)
        if head.training:
            head.enqueue(keys)
        first = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        return F.cross_entropy(logits, first), {"correct": (logits.argmax(1) == 0).float().mean()}

    def _shuffled_keys(self, head: MomentumHead, batch: Sample) -> Tensor:
        """Return the keys in the images' order, computed in parts of a random order."""
        order = batch["order"].argsort(stable=True)
        keys = torch.cat([head.keys(batch["other"][part]) for part in order.tensor_split(self.splits)])
        return keys[order.argsort()]

    def evaluate(self, backbone: Backbone, head: MomentumHead, batch: Sample) -> dict[str, Tensor]:
        """Return whether each query's nearest key of this batch is its own, 0 or 1, and the loss.

        Queries are of whole images, keys of views. The queue is not used: the loss is the cross-entropy among the keys
        of the batch, in nats. The values at chance level are 1 / n and log n.
        """
        queries, keys = head.queries(backbone, batch["image"]), head.keys(batch["other"])
        logits = _similarities(queries, keys) / self.temperature
        targets = torch.arange(len(logits), device=logits.device)
        chance = logits.new_full((len(logits),), 1 / len(logits))
        return {
            "retrieved": (logits.argmax(1) == targets).float(),
            "retrieved_chance": chance,
            "cross_entropy": F.cross_entropy(logits, targets, reduction="none"),
            "cross_entropy_chance": -chance.log(),
        }


def info_nce_logits(
    queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float, among: bool = False
) -> Tensor:
    """Return similarities over temperature: to a query's own key first, then to the negatives.

    Args:
        queries: (n, d) of length 1.
        keys: (n, d) of length 1; row i is that of query i.
        negatives: (K, d) of length 1.
        temperature: More than 0.
        among: Whether the keys of the other queries are negatives too.

    Returns:
        (n, 1 + K), or (n, 1 + K + n) with `among`, -inf for a query and its own key.
    """
    logits = [(queries * keys).sum(1, keepdim=True), _similarities(queries, negatives)]
    if among:
        diagonal = torch.eye(len(keys), dtype=torch.bool, device=keys.device)
        logits.append(_similarities(queries, keys).masked_fill(diagonal, -math.inf))
    return torch.cat(logits, 1) / temperature


def _similarities(queries: Tensor, keys: Tensor) -> Tensor:
    """Return inner products, (n, m), in float32 even under autocast."""
    with torch.autocast(queries.device.type, enabled=False):
        return queries @ keys.T


def _directions(projection: nn.Module, backbone: Backbone, images: Tensor) -> Tensor:
    """Return the normalised projection of the last feature map's mean over positions, float32."""
    return F.normalize(projection(backbone.features(images).mean((-2, -1))).float(), dim=1)
