"""The networks that Grad-CAM explains: encoder and head, how they are run, and how their layers are named.

Two layers are found from the order in which modules run, not by name.

- `first` has the sharpest maps: it is the first ReLU of a convolutional network, before any pooling: `relu` in
  torchvision, `act1` in timm and `features.1` in VGG. A transformer has no such ReLU; its first map is the patch
  embedding.
- `last` is nearest to the score: it is the last feature map, of more than one position, that the score depends on. For
  convolutional networks and Swin transformers it is the map that is pooled. In a vision transformer that is read at
  its class token, patches no longer affect the score after the last attention, so it is the norm before it:
  `blocks.11.norm1` in timm.

`auto` is `last` for the score of a class, as usual for classifiers, and for a callable; for others it is `first`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cka_probe.attribution.targets import PREDICTIONS, Scored, no_such_class, tensor_in
from cka_probe.errors import CheckpointError, DataError, LayerError
from cka_probe.images.conversion import to_batch
from cka_probe.images.sample import Sample
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import Checkpoint, Trained, file_hash, load_trained, read_header
from cka_probe.models.layouts import infer_layout
from cka_probe.models.load import load, weights_hash, wrap
from cka_probe.models.recording import activation_of, evaluating, trace_calls
from cka_probe.models.selection import select_layers
from cka_probe.registry import suggestion

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Mish)
POOLING = (nn.MaxPool2d, nn.AvgPool2d)
EMBEDDINGS = ("patch_embed", "patch_embeddings", "conv_proj")
"""Names of the patch embedding in timm and the original code, in transformers, and in torchvision."""
HEAD = "head."
FOUND_BY_RUNNING = ("auto", "first", "last")
PASSED = (*POOLING, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout, nn.Dropout2d, nn.Identity)
"""Modules that `last` passes over: they pool a feature map or leave it as it is."""
WHOLE_IMAGE_TASKS = ("segmentation", "monodepth", "lidar", "flow", "inpainting", "teacher")
"""Tasks trained on whole images squeezed to the network's size, or on unscaled boxes if their option `crop` is set."""


@dataclass(frozen=True)
class Network:
    """A network that makes a prediction from images.

    Attributes:
        backbone: The encoder, or the whole network if it has no separate head.
        head: The head that a task added, or `None`.
        predict: Takes images (n, 3, H, W) float32 in [0, 1].
        no_prediction: Why there is no prediction to explain, or "".
        task: The task of a checkpoint of `ckaprobe train`, or `None`.
        header: The header of that checkpoint, or `None`.
        reference: The reference that it was loaded from, or "".
    """

    backbone: Backbone
    head: nn.Module | None
    predict: Callable[[Tensor], Any]
    no_prediction: str = ""
    task: Any = None
    header: Checkpoint | None = None
    reference: str = ""

    @property
    def root(self) -> nn.Module:
        """The module that layers are relative to: the parts of the encoder under their names, and the head as `head`.

        A task removes the part of a timm encoder that is called `head`, so the two never collide.
        """
        if self.head is None:
            return self.backbone.model
        return nn.ModuleDict({**dict(self.backbone.model.named_children()), "head": self.head})

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of its input in pixels; `None` if any size will do."""
        return self.backbone.preprocessing.size

    @property
    def crops(self) -> bool:
        """Whether it was trained on unscaled boxes."""
        return self._sees_whole_images and bool(getattr(self.task, "crop", False))

    @property
    def _sees_whole_images(self) -> bool:
        return self.header is not None and self.header.task in WHOLE_IMAGE_TASKS

    def to(self, device: torch.device) -> None:
        """Move encoder and head to a device."""
        self.backbone.to(device)
        if self.head is not None:
            self.head.to(device)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put encoder and head in evaluation mode; afterwards restore the mode of every module."""
        with evaluating(self.backbone), nullcontext() if self.head is None else evaluating(self.head):
            yield

    @property
    def num_classes(self) -> int | None:
        """The number of classes that it tells apart in an image; `None` if that is not known."""
        layer = self.head or self.backbone.classifier
        count = getattr(layer, "out_features", None) if layer else getattr(self.backbone.model, "num_classes", None)
        return count or None

    @property
    def class_names(self) -> Sequence[str]:
        """The names of its classes as transformers records them, or ImageNet's if it has 1000; else ()."""
        recorded = getattr(getattr(self.backbone.model, "config", None), "id2label", None) or {}
        names = tuple(recorded[number] for number in sorted(recorded))
        if names and not names[0].startswith("LABEL_"):
            return names
        return imagenet_names() if self.head is None and self.num_classes == 1000 else ()

    def check_target(self, target: str | Callable[[Any], Tensor]) -> None:
        """Check, before anything runs, that the network makes a prediction and has the class of a target.

        Raises:
            DataError: There is no prediction to explain.
            UnknownNameError: There is no such class.
        """
        if callable(target) or target == "none":
            return
        if self.no_prediction:
            raise DataError(f"nothing to explain: {self.no_prediction}; give a network with a head, or the target none")
        kind, _, word = target.partition(":")
        if kind == "class" and word and self.num_classes and int(word) >= self.num_classes:
            raise no_such_class(int(word), self.num_classes)

    def find_layer(
        self, layer: str | int, images: Tensor | None = None, score: Callable[[Any], Scored] | None = None
    ) -> tuple[str, nn.Module, str]:
        """Return the path of a layer under `root`, the part of the network it belongs to, and its path there.

        Args:
            layer: `first`, `last`, an index into the encoder's default layers, a name in the paper's map, a dotted path
                in the encoder, or one in the head with `head.` before it.
            images: At least one image, to find the first or last layer with.
            score: What the last layer has to affect, from the network's output.

        Raises:
            LayerError: No layer has this name, or several do.
        """
        if layer == "first" and images is not None:
            layer = f"module:{first_layer(self.root, images[:1], self.predict)}"
        if layer == "last" and images is not None:
            if score is None:
                raise LayerError(
                    "expected a target for the layer last, which is the last one that affects a score, "
                    "found none; name a layer"
                )
            layer = f"module:{last_layer(self.backbone.model, images[:1], self.predict, score)}"
        path = str(layer).removeprefix("module:")
        if self.head is not None and path.startswith(HEAD):
            inner, names = path.removeprefix(HEAD), [name for name, _ in self.head.named_modules() if name]
            if inner in names:
                return path, self.head, inner
            hint = suggestion(inner, names) or f"it has {', '.join(names[:4])} …"
            raise LayerError(f"no layer {inner!r} in the head, {type(self.head).__name__}; {hint.strip()}")
        layers = select_layers(self.backbone.model, [layer], self.backbone.layers)
        if len(layers) != 1:
            raise LayerError(f"expected one layer, found {len(layers)} for {layer!r}; name one of them")
        return layers[0].module, self.backbone.model, layers[0].module

    def prepare_inputs(self, images: Tensor) -> Tensor:
        """Return images on the network's device and in its precision.

        Raises:
            DataError: They are not a batch of images in [0, 1], or not of the network's size.
        """
        channels = self.backbone.preprocessing.channels or 3
        if images.dim() != 4 or images.shape[1] != channels or len(images) == 0:
            raise DataError(
                f"expected images (n, {channels}, H, W) in [0, 1] or uint8, found "
                f"{images.dtype} {tuple(images.shape)}; "
                "put a single image into a batch with [None]"
            )
        architecture, (height, width) = ARCHITECTURES.get(self.backbone.origin.architecture), images.shape[-2:]
        if architecture is not None and not architecture.any_shape and self.size not in (None, (height, width)):
            raise DataError(
                f"expected images of {self.size[1]}x{self.size[0]} pixels, the input size of this {architecture.name}, "
                f"found {width}x{height}; resize them first"
            )
        weight = next((p for p in self.backbone.parameters() if p.is_floating_point()), torch.empty(0))
        return to_batch(images).to(device=weight.device, dtype=weight.dtype)

    def prepare_sample(self, sample: Sample) -> Sample:
        """Return a sample, all its fields alike, resized or cropped as in the training of the network.

        Raises:
            DataError: The image is smaller than a box that is cropped unscaled.
        """
        if self.size is None:
            return sample
        from cka_probe.lab.transforms import largest
        from cka_probe.lab.transforms.augment import crop_and_flip, resize_or_crop

        if self._sees_whole_images:
            return resize_or_crop(sample, self.size, None, crop=self.crops)
        height, width = sample["image"].shape[-2:]
        return crop_and_flip(sample, largest(height, width, self.size, 0.5, 0.5), self.size)

    def describe(self) -> dict[str, Any]:
        """Return what a result records about the network."""
        view = "whole" if self._sees_whole_images else "middle"
        header = self.header
        whole = self.backbone.model if self.backbone.classifier is None else self.backbone
        return {
            "reference": self.reference,
            "architecture": self.backbone.origin.architecture,
            "task": header.task if header else "",
            "view": "stored" if self.size is None else "box" if self.crops else view,
            "notes": list(self.backbone.origin.notes),
            "hash": file_hash(self.reference) if header else weights_hash(whole),
            "stage": header.stage if header else "",
            "seed": header.seed if header else None,
        }


def network_of(model: str | Path | Trained | nn.Module | Network, device: torch.device | None = None) -> Network:
    """Return a network to explain.

    Args:
        model: A checkpoint of `ckaprobe train`, loaded with its head; any other reference that `load` takes; the
            result of `load_trained` or `load`; or a module. A module of timm is fed as timm declares, any other gets
            the images as they are: wrap it into a `Backbone` with size, mean and std.
        device: The device to move it to; by default it stays where it is.

    Raises:
        CheckpointError: The model cannot be loaded.
    """
    if isinstance(model, Network):
        return model
    header, reference = None, ""
    if isinstance(model, str | Path):
        path, reference = Path(model), str(model)
        header = read_header(path) if path.is_file() else None
        header = header if header is not None and header.task else None
        model = load(model) if header is None else load_trained(path)
    if not isinstance(model, Trained | nn.Module):
        raise CheckpointError(f"expected a checkpoint, a reference or a torch.nn.Module, found {type(model).__name__}")
    if isinstance(model, Trained):
        network = _network_of_task(model, header, reference)
    else:
        backbone = wrap(model)
        classifies = backbone.classifier is not None
        headless = not classifies and getattr(backbone.model, "num_classes", None) == 0  # as in timm
        reason = "it is an encoder without a head" if headless else ""
        predict = backbone.logits if classifies else backbone
        network = Network(backbone, None, predict, reason, reference=reference)
    if device is not None:
        network.to(device)
    return network


def _network_of_task(trained: Trained, header: Checkpoint | None, reference: str) -> Network:
    """Return encoder, head and the prediction of a task; the encoder alone if the task predicts nothing."""
    backbone, head, task = trained.backbone, trained.head, trained.task
    if not hasattr(task, "predict"):
        reason = f"its task, {type(task).__name__.lower()}, predicts nothing from one image"
        return Network(backbone, None, backbone, reason, task, header, reference)
    return Network(backbone, head, lambda images: task.predict(backbone, head, images), "", task, header, reference)


def first_layer(root: nn.Module, images: Tensor, run: Callable[[Tensor], Any]) -> str:
    """Return the path of the first ReLU before the pooling, else of the patch embedding, else of the first ReLU.

    Args:
        root: Paths are relative to it.
        images: (n, 3, H, W), for one forward pass.
        run: Runs the forward pass.

    Raises:
        LayerError: The network has none of them.
    """
    modules, calls = dict(root.named_modules()), trace_calls(root, images, run=run)
    order = list(calls)  # of execution
    active = [
        name
        for name in order
        if isinstance(modules[name], ACTIVATIONS) and len(calls[name]) == 1 and len(calls[name][0].shape) == 4
    ]
    pooling = next((index for index, name in enumerate(order) if isinstance(modules[name], POOLING)), -1)
    if active and order.index(active[0]) < pooling:
        return active[0]
    embedding = next((name for name in order if name.rpartition(".")[2] in EMBEDDINGS), None)
    if embedding is not None or active:
        return embedding or active[0]
    raise LayerError(
        "the network has no ReLU that runs once and no patch embedding to use as first layer; name a layer "
        "(`ckaprobe layers` lists them)"
    )


def last_layer(encoder: nn.Module, images: Tensor, run: Callable[[Tensor], Any], score: Callable[[Any], Scored]) -> str:
    """Return the path of the last feature map that a score depends on.

    Among tokens only the outputs of norms and of modules with children count: not the keys and values of an attention.
    What is a dense prediction itself is not a feature map.

    Args:
        encoder: Paths are relative to it.
        images: (n, 3, H, W), for one forward and backward pass.
        run: Runs the forward pass.
        score: From the output of `run` to scores.

    Raises:
        LayerError: There is none.
    """
    outputs = _feature_maps(encoder, images)
    with torch.inference_mode(False), torch.enable_grad(), evaluating(encoder), outputs as maps:
        output = run(images.detach().clone().requires_grad_().clone())
        scored = score(output)
    dense = scored.predictions is not None and scored.predictions.dim() > 1
    prediction = id(tensor_in(output, PREDICTIONS)) if dense else None
    tensors = [tensor for tensor, _ in maps.values()]
    gradients = torch.autograd.grad([row.sum() for row in scored.rows], tensors, allow_unused=True) if tensors else ()
    size, versions = (images.shape[-2], images.shape[-1]), {name: (id(t), v) for name, (t, v) in maps.items()}
    for (name, tensor), gradient in reversed([*zip(zip(maps, tensors, strict=True), gradients, strict=True)]):
        if gradient is not None and id(tensor) != prediction and _has_positions(tensor, gradient, size, name, encoder):
            same = [other for other, version in versions.items() if version == versions[name]]
            blocks = [other for other in same if not isinstance(encoder.get_submodule(other), ACTIVATIONS)]
            return (blocks or same)[0]  # the innermost of those that return this very map
    raise LayerError(
        "the network has no feature map that the score depends on, so there is no last layer; name a layer (`ckaprobe "
        "layers` lists them)"
    )


@contextmanager
def _feature_maps(encoder: nn.Module, images: Tensor) -> Iterator[dict[str, tuple[Tensor, int]]]:
    """Yield a dict that a forward pass fills with feature maps and their versions, in the order of execution."""
    maps: dict[str, tuple[Tensor, int]] = {}
    runs: Counter[str] = Counter()

    def hook_for(name: str, module: nn.Module) -> Callable[..., None]:
        composed = bool([*module.children()]) or "Norm" in type(module).__name__
        maps_anew = composed or isinstance(module, ACTIVATIONS) or bool([*module.parameters(recurse=False)])

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            runs[name] += 1
            maps.pop(name, None)
            with suppress(LayerError):  # no activation of the images
                tensor = activation_of(name, output, len(images))
                counts = {3: composed, 4: maps_anew}.get(tensor.dim(), False)
                if counts and tensor.requires_grad and runs[name] == 1:
                    maps[name] = tensor, tensor._version

        return hook

    with ExitStack() as hooks:
        for name, module in encoder.named_modules():
            if name and not isinstance(module, PASSED):
                hooks.callback(module.register_forward_hook(hook_for(name, module)).remove)
        yield maps


def _has_positions(tensor: Tensor, gradient: Tensor, size: tuple[int, int], name: str, encoder: nn.Module) -> bool:
    """Return whether a tensor is a feature map of the image's proportions, and its gradient is not 0 there."""
    try:
        inside = infer_layout(tuple(tensor.shape), size, name, encoder).feature_map(gradient)
    except LayerError:
        return False
    height, width = inside.shape[-2:]
    proportional = abs(height * size[1] - width * size[0]) < max(size)
    return height * width > 1 and proportional and bool(inside.any())


@cache
def imagenet_names() -> tuple[str, ...]:
    """Return the names of the 1000 classes of ImageNet, each with its synonyms after commas."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_descriptions())
