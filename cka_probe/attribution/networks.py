"""The networks that Grad-CAM explains: encoder and head, how they run, how their layers are named, what they are shown.

The layer `first` has the sharpest maps: it is the first ReLU of a convolutional network, before any pooling. It is
found from the order in which modules run, not by name, since it is `relu` in torchvision, `act1` in timm and
`features.1` in VGG. A Swin transformer has no such ReLU; its first map is the patch embedding.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cka_probe.errors import CheckpointError, DataError, LayerError
from cka_probe.images.sample import Sample
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import Checkpoint, Trained, file_hash, load_trained, read_header
from cka_probe.models.load import load, weights_hash, wrap
from cka_probe.models.recording import evaluating, trace_shapes
from cka_probe.models.selection import select_layers
from cka_probe.registry import suggestion

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Mish)
POOLING = (nn.MaxPool2d, nn.AvgPool2d)
EMBEDDINGS = ("patch_embed", "patch_embeddings", "conv_proj")
"""What timm, the original code and transformers, and torchvision call a patch embedding."""


def first_layer(root: nn.Module, images: Tensor, run: Callable[[Tensor], Any]) -> str:
    """Return the address of the first ReLU before the pooling, else of the patch embedding, else of the first ReLU.

    Args:
        root: Addresses are relative to it.
        images: (n, 3, H, W), run once.
        run: What runs it.

    Raises:
        LayerError: There is neither, or its like.
    """
    modules = dict(root.named_modules())
    ran = trace_shapes(root, images, run=run)
    order = list(ran)  # of execution
    active = [n for n in order if isinstance(modules[n], ACTIVATIONS) and len(ran[n]) == 1 and len(ran[n][0]) == 4]
    pooled = next((place for place, name in enumerate(order) if isinstance(modules[name], POOLING)), -1)
    if active and order.index(active[0]) < pooled:
        return active[0]
    embedding = next((name for name in order if name.rpartition(".")[2] in EMBEDDINGS), None)
    if embedding is not None or active:
        return embedding or active[0]
    raise LayerError(
        "the network has no ReLU that runs once and no patch embedding to take for the first layer; name "
        "one (`ckaprobe layers` lists them)"
    )


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
    if path.is_file():
        header = read_header(path)
        if header is not None and header.task:
            return load_trained(path)
    return load(reference)


WHOLE = ("segmentation", "monodepth", "lidar", "flow", "inpainting", "teacher")
"""Tasks whose images are squeezed whole to the network's size, or cut out unscaled where they were trained so."""
BACKWARD = 2
"""How many times the memory of a forward pass is counted where gradients are taken."""


@dataclass(frozen=True)
class EvaluationModel:
    """A network on its device.

    Attributes:
        reference: What it was called.
        network: As `grad_cam` takes it.
        header: What stands at the beginning of a checkpoint with a head, else `None`.
        device: Where it is.
    """

    reference: str
    network: Trained | Backbone
    header: Checkpoint | None
    device: torch.device

    @classmethod
    def loaded(cls, reference: str | Path, device: torch.device) -> "EvaluationModel":
        """Load a checkpoint with its head, or what else a reference means.

        Raises:
            CheckpointError: It cannot be loaded.
        """
        path, header = Path(reference), None
        if path.is_file():
            header = read_header(path)
        header = header if header is not None and header.task else None
        network: Trained | Backbone = load(reference) if header is None else load_trained(path)
        parts = [network.backbone, network.head] if isinstance(network, Trained) else [network]
        for part in parts:
            part.to(device)
        return cls(str(reference), network, header, device)

    @property
    def task(self) -> str:
        """The name of its task, or ""."""
        return self.header.task if self.header else ""

    @property
    def backbone(self) -> Backbone:
        """The encoder."""
        return self.network.backbone if isinstance(self.network, Trained) else self.network

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of its input, pixels; `None`: it takes what comes."""
        return self.backbone.preprocessing.size

    @property
    def squeezed(self) -> bool:
        """Whether it sees images as tasks in `WHOLE` do."""
        return self.task in WHOLE

    def view(self, sample: Sample) -> Sample:
        """Return what the network sees of a sample, with all its fields.

        Raises:
            DataError: The image is smaller than a box that is cut out unscaled.
        """
        if self.size is None:
            return sample
        from cka_probe.lab.tasks.augment import (  # the lab knows how it trained its networks
            crop_and_flip,
            resize_or_crop,
        )
        from cka_probe.lab.transforms import largest

        if self.squeezed:
            return resize_or_crop(sample, self.size, None, crop=self._unscaled)
        height, width = sample["image"].shape[-2:]
        return crop_and_flip(sample, largest(height, width, self.size, 0.5, 0.5), self.size)

    def batch(self, usual: Callable[[torch.device, int, tuple[int, int]], int]) -> int:
        """Return how many images are shown at once."""
        return usual(self.device, BACKWARD, self.size) if self.size else 1

    def described(self) -> dict[str, Any]:
        """Return what a result says of the model."""
        views = "stored" if self.size is None else "middle" if not self.squeezed else "whole"
        description: dict[str, Any] = {
            "reference": self.reference,
            "architecture": self.backbone.origin.architecture,
            "task": self.task,
        }
        description |= {"view": "box" if self._unscaled else views, "notes": list(self.backbone.origin.notes)}
        if self.header is None:
            return description | {"hash": weights_hash(self.backbone.model), "stage": "", "seed": None}
        return description | {"hash": file_hash(self.reference), "stage": self.header.stage, "seed": self.header.seed}

    @property
    def _unscaled(self) -> bool:
        """Whether it was trained on unscaled boxes."""
        return self.squeezed and isinstance(self.network, Trained) and bool(getattr(self.network.task, "crop", False))
