"""Masked image modelling as in SimMIM: hide cells of an image and predict their pixels.

A grid of `cell`-pixel squares covers the image; of its N cells ceil(ratio N) are hidden, drawn for every image. In a
Swin the tokens of a hidden cell are replaced, after the patch embedding, by one learned token. The decoder is linear;
the loss is the absolute error of the hidden pixels in the units of the encoder's input.

A ResNet has no patch embedding: there the hidden pixels take one learned colour. Its convolutions cross the borders of
cells from the first layer on, and the decoder predicts all 32 x 32 pixels below a position of the last map from that
position alone, whatever the cell. Inputs need not be square: training views are boxes of about the input's aspect
ratio, evaluation shows the largest central box of that ratio.

Xie et al., "SimMIM: a Simple Framework for Masked Image Modeling", CVPR 2022. Its cells are as large as the tokens of
the last stage, 32 pixels; at 64 pixels these are only four cells, so small recipes take 8 or 16, which changes the
difficulty of the task.

Its published Swin-v2 models have `normalise_target`, a stage's `drop_path = 0.1` and, by an oversight of its code,
`undecayed = []`; those of Swin-v1-L the plain image and no drop path. Where no random box fits a long image, the box is
at a random position here, not in the middle, and the warm-up begins at its first step's share, not at a fixed rate.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from cka_probe.errors import RecipeError
from cka_probe.images.sample import Sample
from cka_probe.lab.losses import masked_l1, normalised_locally
from cka_probe.lab.tasks.decoders import PixelDecoder, maps
from cka_probe.lab.tasks.task import check_options
from cka_probe.lab.transforms.augment import random_view
from cka_probe.models.backbone import Backbone, Preprocessing


class MaskedHead(nn.Module):
    """The learned substitute for hidden input, and the decoder.

    Attributes:
        hidden: (C,) token after the patch embedding, or (3,) colour in normalised units.
    """

    def __init__(self, hidden: int, channels: int, stride: int):
        super().__init__()
        self.hidden = nn.Parameter(nn.init.trunc_normal_(torch.empty(hidden), std=0.02))
        self.decoder = PixelDecoder(channels, stride)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return the reconstruction, (n, 3, H, W) float32, in the target's units."""
        return self.decoder(feature_map).float()


@dataclass(frozen=True)
class Masked:
    """Reconstruct hidden cells.

    Attributes:
        size: Height and width of the network's input, pixels.
        cell: Side of a cell, pixels.
        ratio: Share of hidden cells.
        scale: Least and most share of an image's area that a training view shows.
        normalise_target: Whether to normalise the target by its local mean and standard deviation, as SimMIM's Swin-v2
            models do.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image"})

    size: tuple[int, int]
    cell: int = 32
    ratio: float = 0.6
    scale: tuple[float, float] = (0.67, 1.0)
    normalise_target: bool = False

    def __post_init__(self):
        divides = self.cell >= 1 and not any(side % self.cell for side in self.size)
        checks = [
            (f"`cell` to divide the size {self.size}", self.cell, divides),
            ("`ratio` in (0, 1]", self.ratio, 0 < self.ratio <= 1),
            ("`scale` = [least, most] in (0, 1]", list(self.scale), 0 < self.scale[0] <= self.scale[1] <= 1),
        ]
        check_options("masked", checks)

    def head(self, backbone: Backbone) -> nn.Module:
        """Return the token or colour, and the decoder."""
        channels, stride = maps(backbone)[-1]
        embedding = getattr(backbone.model, "patch_embed", None)
        if embedding is None:
            return MaskedHead(3, channels, stride)
        if self.cell % embedding.patch_size[0]:
            raise RecipeError(
                f"masked: expected `cell` to be a multiple of the {embedding.patch_size[0]} pixels of a token, found "
                f"{self.cell}; 32 is SimMIM's"
            )
        return MaskedHead(embedding.proj.out_channels, channels, stride)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `mask` (1, h / cell, w / cell) bool, True = hidden."""
        view = {"image": sample["image"]}
        if train:
            view = random_view(view, self.size, generator, self.scale, ratio=self.size[1] / self.size[0])
        else:
            view["image"] = Preprocessing(self.size).fit(view["image"])
        return view | {"mask": self.draw_mask(generator)}

    def draw_mask(self, generator: Generator) -> Tensor:
        """Return which cells are hidden, (1, h / cell, w / cell) bool: ceil(ratio N) of N."""
        grid = [side // self.cell for side in self.size]
        order = torch.randperm(math.prod(grid), generator=generator)
        return (order < math.ceil(self.ratio * math.prod(grid))).view(1, *grid)

    def loss(self, backbone: Backbone, head: MaskedHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the reconstruction loss in units of the normalised image, and no parts."""
        loss = masked_l1(self.target(backbone, batch), self.reconstruct(backbone, head, batch), self.pixels(batch))
        return loss, {}

    def evaluate(self, backbone: Backbone, head: MaskedHead, batch: Sample) -> dict[str, Tensor]:
        """Return per image the loss and, as a baseline, that of the mean colour of the visible pixels."""
        target, hidden = self.target(backbone, batch), self.pixels(batch)
        reconstruction = self.reconstruct(backbone, head, batch)
        visible = (~hidden).expand_as(target)
        mean = (target * visible).sum((-2, -1), keepdim=True) / visible.sum((-2, -1), keepdim=True).clamp(min=1)
        return {
            "reconstruction": _per_image(target, reconstruction, hidden),
            "mean_colour": _per_image(target, mean.expand_as(target), hidden),
        }

    def target(self, backbone: Backbone, batch: Sample) -> Tensor:
        """Return the target of the reconstruction, (n, 3, h, w) float32."""
        images = backbone.preprocessing.normalise(batch["image"])
        return normalised_locally(images) if self.normalise_target else images

    def pixels(self, batch: Sample) -> Tensor:
        """Return the mask at pixels, (n, 1, h, w) bool."""
        return _enlarged(batch["mask"], self.size)

    def reconstruct(self, backbone: Backbone, head: MaskedHead, batch: Sample) -> Tensor:
        """Return the images as reconstructed by the model, (n, 3, h, w) float32, in the target's units."""
        images = batch["image"]
        if hasattr(backbone.model, "patch_embed"):
            with _tokens_hidden(backbone.model.get_submodule("patch_embed"), head.hidden, batch["mask"]):
                return head(backbone.features(images))
        mean, std = (
            images.new_tensor(v).view(3, 1, 1) for v in (backbone.preprocessing.mean, backbone.preprocessing.std)
        )
        colour = mean + std * head.hidden.view(3, 1, 1)
        return head(backbone.features(torch.where(self.pixels(batch), colour, images)))


@contextmanager
def _tokens_hidden(patch_embedding: nn.Module, token: Tensor, mask: Tensor) -> Iterator[None]:
    """Replace the tokens of hidden cells by `token` inside the context."""

    def hide(_module: nn.Module, _inputs: tuple, tokens: Tensor) -> Tensor:  # (n, h, w, C)
        hidden = _enlarged(mask, tokens.shape[1:3]).permute(0, 2, 3, 1)
        return torch.where(hidden, token.to(tokens.dtype), tokens)

    handle = patch_embedding.register_forward_hook(hide)
    try:
        yield
    finally:
        handle.remove()


def _enlarged(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Return a mask of cells (n, 1, gh, gw) at the resolution of a finer grid (n, 1, h, w)."""
    height, width = (fine // coarse for fine, coarse in zip(size, mask.shape[-2:], strict=True))
    return mask.repeat_interleave(height, -2).repeat_interleave(width, -1)


def _per_image(target: Tensor, reconstruction: Tensor, hidden: Tensor) -> Tensor:
    """Return the loss of each image, (n,)."""
    return torch.stack(
        [masked_l1(*(field[None] for field in fields)) for fields in zip(target, reconstruction, hidden, strict=True)]
    )
