"""The network that is asked: encoder and head, what runs them, and how their layers are called."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cka_probe.attribution.first_layer import first_layer
from cka_probe.errors import CheckpointError, DataError, LayerError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import read_header
from cka_probe.models.checkpoints.reading import is_safetensors
from cka_probe.models.load import load, wrap
from cka_probe.models.recording import evaluating
from cka_probe.models.selection import select_layers
from cka_probe.models.trained import Trained, load_trained
from cka_probe.registry import suggestion

HEAD = "head."


@dataclass(frozen=True)
class Network:
    """Something with layers that makes a prediction of images.

    Attributes:
        backbone: The encoder, or the whole network where it has no head of ours.
        head: What a task of ours put on it, or `None`.
        predict: Takes images (n, 3, H, W) float32 in [0, 1].
        lacks: Why it has no prediction to explain, or "".
    """

    backbone: Backbone
    head: nn.Module | None
    predict: Callable[[Tensor], Any]
    lacks: str = ""

    @property
    def root(self) -> nn.Module:
        """What layers are addressed relative to: the encoder's parts as they are called in it, and the head as `head`.

        An encoder of timm has a part called `head` too, which a task leaves out; beside a head of ours it is not there.
        """
        if self.head is None:
            return self.backbone.model
        return nn.ModuleDict({**dict(self.backbone.model.named_children()), "head": self.head})

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put encoder and head in evaluation mode; afterwards every module has its own mode back."""
        with evaluating(self.backbone), nullcontext() if self.head is None else evaluating(self.head):
            yield

    def place(self, layer: str | int, images: Tensor) -> tuple[str, nn.Module, str]:
        """Return the layer that is asked for: its address under `root`, its part of the network, and its address there.

        Args:
            layer: `first`, an index into the encoder's map, a name in the paper's, a dotted path in the encoder, or
                one in the head with `head.` before it.
            images: Some, to find the first layer with.

        Raises:
            LayerError: There is none of this name, or several.
        """
        if layer == "first":
            layer = f"module:{first_layer(self.root, images[:1], self.predict)}"
        inner = str(layer).removeprefix("module:").removeprefix(HEAD)
        if self.head is not None and str(layer).removeprefix("module:").startswith(HEAD):
            names = [name for name, _ in self.head.named_modules() if name]
            if inner in names:
                return HEAD + inner, self.head, inner
            hint = suggestion(inner, names) or f"it has {', '.join(names[:4])} …"
            raise LayerError(f"no layer {inner!r} in the head, {type(self.head).__name__}; {hint.strip()}")
        found = select_layers(self.backbone.model, [layer], self.backbone.layers)
        if len(found) != 1:
            raise LayerError(f"expected one layer, found {len(found)} that {layer!r} means; name one of them")
        return found[0].module, self.backbone.model, found[0].module

    def prepare_inputs(self, images: Tensor) -> Tensor:
        """Return images on the network's device, or say why it cannot be fed them.

        Raises:
            DataError: They are no images, or not of the network's size.
        """
        if images.dim() != 4 or images.shape[1] != 3 or not images.is_floating_point() or len(images) == 0:
            raise DataError(
                f"expected images (n, 3, H, W) float in [0, 1], found {images.dtype} {tuple(images.shape)}; "
                "put a single image into a batch with [None]"
            )
        architecture, size = ARCHITECTURES.get(self.backbone.origin.architecture), self.backbone.preprocessing.size
        given = tuple(images.shape[-2:])
        if architecture is not None and not architecture.any_shape and size not in (None, given):
            raise DataError(
                f"expected images of {size[1]}x{size[0]} pixels, which is what this {architecture.name} takes, found "
                f"{given[1]}x{given[0]}; scale them first"
            )
        weight = next((p for p in self.backbone.parameters() if p.is_floating_point()), torch.empty(0))
        return images.to(device=weight.device, dtype=weight.dtype)


def network_of(model: str | Path | Trained | nn.Module) -> Network:
    """Return the network that is meant.

    Args:
        model: A checkpoint of `ckaprobe train`, with its head; any other reference that `load` takes; what
            `load_trained` or `load` returned; or a module. What timm says of a module's input is heeded, any other is
            fed images as they are: put a `Backbone` with size, mean and std around it.

    Raises:
        CheckpointError: It cannot be loaded.
    """
    if isinstance(model, str | Path):
        model = _loaded(model)
    if isinstance(model, Trained):
        predict = getattr(model.task, "predict", None)
        if predict is None:
            task = type(model.task).__name__.lower()
            return Network(model.backbone, None, model.backbone, f"its task, {task}, predicts nothing of one image")
        return Network(model.backbone, model.head, lambda images: predict(model.backbone, model.head, images))
    if not isinstance(model, nn.Module):
        raise CheckpointError(f"expected a checkpoint, a reference or a torch.nn.Module, found {type(model).__name__}")
    backbone = wrap(model)
    headless = getattr(backbone.model, "num_classes", None) == 0  # as timm says it
    return Network(backbone, None, backbone, "it is an encoder without a head" if headless else "")


def _loaded(reference: str | Path) -> Trained | Backbone:
    """Return encoder and head of a checkpoint that has both, else what `load` makes of a reference."""
    path = Path(reference)
    if path.is_file() and is_safetensors(path):
        header = read_header(path)
        if header is not None and header.task:
            return load_trained(path)
    return load(reference)
