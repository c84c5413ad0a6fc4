"""The three workloads: two models of one architecture, the layers compared, and images made from a seed.

No data set is needed. Images have the 1/f amplitude spectrum of images (Field 1987), or are white noise,
on which most similarities are near zero and every rounding error shows. Weights are random; every 1-D parameter
is moved away from its constant, so that no norm is an identity, a zero or a copy of its neighbour.
"""

from dataclasses import dataclass, replace

import timm
import torch
from torch import Tensor, nn

from cka_probe import Backbone, fingerprint

TEN = ("maxpool", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)), "global_pool")
"""Of a ResNet-18: its nine default layers, the pooled stem and all eight blocks, and the pooled features."""


@dataclass(frozen=True)
class Workload:
    """What every tool is given.

    Attributes:
        title: For the table.
        models: x and y, in evaluation mode; the same objects for every tool.
        layers: Dotted paths, of both models.
        spec: The same layers as `compare` takes them.
        executed: The same paths in the order in which they run.
        images: Batches (n, 3, size, size) float32 in [0, 1].
        inputs: The same batches normalised, as a user's own loader would give them to a bare model.
        size: Input pixels along each side.
    """

    title: str
    models: tuple[nn.Module, nn.Module]
    layers: tuple[str, ...]
    spec: list[str] | str | None
    executed: tuple[str, ...]
    images: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    size: int

    def first(self, batches: int) -> "Workload":
        """Return the workload with its first few batches only."""
        return replace(self, images=self.images[:batches], inputs=self.inputs[:batches])


@dataclass(frozen=True)
class Recipe:
    """How a workload is made.

    Attributes:
        title: For the table; the number of layers is put in.
        model: A timm name.
        options: Of `timm.create_model`.
        layers: As `compare` takes them; `None` for the nine natural ones.
        batches: How many.
        batch: Images in each.
        size: Pixels along each side.
    """

    title: str
    model: str
    options: dict
    layers: tuple[str, ...] | str | None
    batches: int
    batch: int
    size: int


RECIPES = {
    "resnet10": Recipe("ResNet-18 x {} layers", "resnet18", {"zero_init_last": False}, TEN, 8, 32, 96),
    "resnet61": Recipe("ResNet-18 x all {} leaf modules", "resnet18", {"zero_init_last": False}, "*", 8, 32, 96),
    "swin9": Recipe("Swin-v2-tiny x {} layers", "swinv2_tiny_window8_256", {}, None, 4, 8, 256),
}


def make_workload(name: str | Recipe, *, images: str, seed: int, quick: bool = False) -> Workload:
    """Return the workload of a recipe.

    Args:
        name: In `RECIPES`, or a recipe.
        images: `1/f` or `noise`.
        seed: Of both models and of the images.
        quick: Two batches of eight instead, to try things out.
    """
    recipe = RECIPES[name] if isinstance(name, str) else name
    batches, batch = (2, 8) if quick else (recipe.batches, recipe.batch)
    models = tuple(make_model(recipe, seed + side) for side in (0, 1))
    shown = make_images(images, batches, batch, recipe.size, seed)
    # ImageNet's mean and std, by the same operations as a backbone of ours
    backbone = Backbone(models[0], size=recipe.size)
    normalise = backbone.preprocessing.normalise
    spec = list(recipe.layers) if isinstance(recipe.layers, tuple) else recipe.layers
    layers = fingerprint(backbone, shown[0][:4], layers=spec).layers
    inputs = tuple(normalise(images).contiguous() for images in shown)
    executed = _executed(models[0], layers.modules, inputs[0][:4])
    return Workload(
        recipe.title.format(len(layers)), models, layers.modules, spec, executed, shown, inputs, recipe.size
    )


def make_model(recipe: Recipe, seed: int) -> nn.Module:
    """Return a random model in which every 1-D parameter has been moved."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = timm.create_model(recipe.model, pretrained=False, **recipe.options)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                # around 1 also where timm starts at 0 (the norms of Swin-v2), which would leave the block dead
                centre = 1.0 if name.endswith("weight") else 0.0
                parameter.copy_(centre + 0.1 * torch.randn_like(parameter))
    return model.eval()


def make_images(kind: str, batches: int, batch: int, size: int, seed: int) -> tuple[Tensor, ...]:
    """Return batches of images (batch, 3, size, size) float32 in [0, 1].

    Args:
        kind: `1/f`, or `noise` for a flat spectrum.
        batches: How many.
        batch: Images in each.
        size: Pixels along each side.
        seed: Same seed, same images.
    """
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(batches * batch, 3, size, size, generator=generator)
    rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None, :]
    frequency = (rows.square() + columns.square()).sqrt().clamp_min(1.0 / size)
    amplitude = 1.0 / frequency if kind == "1/f" else torch.ones_like(frequency)
    coloured = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(size, size))
    images = (0.5 + 0.2 * coloured / coloured.std()).clamp(0, 1)
    return tuple(part.contiguous() for part in images.split(batch))


def _executed(model: nn.Module, layers: tuple[str, ...], images: Tensor) -> tuple[str, ...]:
    """Return the layers in the order in which they run."""
    order: list[str] = []
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: order.append(name)) for name in layers
    ]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return tuple(order)
