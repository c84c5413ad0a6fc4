"""The networks that Grad-CAM explains: encoder and head, how they are run, and how their layers are named."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cka_probe.attribution.layer_search import first_layer, last_layer
from cka_probe.attribution.targets import Scored, no_such_class
from cka_probe.errors import CheckpointError, DataError, LayerError, ModelError
from cka_probe.images.conversion import images_of, is_image_list, stack_images, to_batch, to_examples
from cka_probe.images.sample import Sample
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Preprocessing, as_size
from cka_probe.models.checkpoint import (
    Checkpoint,
    Trained,
    file_hash,
    is_ckaprobe_checkpoint,
    load_trained,
    read_header,
)
from cka_probe.models.layouts import is_convolutional
from cka_probe.models.load import load, weights_hash, wrap
from cka_probe.models.recording import EXAMPLES, Place, evaluating, probe
from cka_probe.models.selection import select_layers
from cka_probe.registry import suggestion

HEAD = "head."
FOUND_BY_RUNNING = ("auto", "first", "last")
WHOLE_IMAGE_TASKS = ("segmentation", "monodepth", "lidar", "flow", "inpainting", "teacher")
"""Tasks trained on whole images squeezed to the network's size, or on unscaled boxes if their option `crop` is set."""


@dataclass(frozen=True)
class Network:
    """A network that makes a prediction from images.

    Attributes:
        backbone: The encoder, or the whole network if it has no separate head.
        head: The head that a task added, or `None`.
        no_prediction: Why there is no prediction to explain, or "".
        task: The task of a checkpoint of `ckaprobe train`, or `None`.
        header: The header of that checkpoint, or `None`.
        reference: The reference that it was loaded from, or "".
    """

    backbone: Backbone
    head: nn.Module | None = None
    no_prediction: str = ""
    task: Any = None
    header: Checkpoint | None = None
    reference: str = ""
    _places: list[Mapping[str, Place]] = field(default_factory=list)

    def predict(self, images: Tensor) -> Any:
        """Return what the head predicts, the logits, or what the module returns, for images (n, C, H, W) in [0, 1]."""
        if self.head is not None:
            return self.task.predict(self.backbone, self.head, images)
        output = self.backbone.run(self.backbone.preprocessing.normalise(images))
        return output if self.backbone.classifier is None else self.backbone.classifier(output)

    def with_preprocessing(self, preprocessing: Preprocessing) -> "Network":
        """Return the same network with other preprocessing, of another input size say."""
        backbone = copy(self.backbone)
        backbone.preprocessing = preprocessing
        return replace(self, backbone=backbone)

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
    def view(self) -> str:
        """What it sees of an image, a key of `attributions.VIEWS`."""
        if self.size is None:
            return "stored"
        if self.header is None or self.header.task not in WHOLE_IMAGE_TASKS:
            return "middle"
        return "box" if getattr(self.task, "crop", False) else "whole"

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
        model, layer = self.backbone.model, self.head or self.backbone.classifier
        if layer is not None:
            return getattr(layer, "out_features", None)
        if type(model).__module__.startswith("torchvision.models."):
            linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
            return linear[-1].out_features if linear else None
        if "For" in type(model).__name__:  # of transformers, with a head
            return getattr(getattr(model, "config", None), "num_labels", None)
        return getattr(model, "num_classes", None) or None

    @property
    def class_names(self) -> Sequence[str]:
        """The names of its classes as transformers records them, or ImageNet's if it has 1000; else ()."""
        recorded = getattr(getattr(self.backbone.model, "config", None), "id2label", None) or {}
        names = tuple(recorded[number] for number in sorted(recorded))
        if names and not names[0].startswith("LABEL_"):
            return names
        return imagenet_names() if self.head is None and self.num_classes == 1000 else ()

    @property
    def default_target(self) -> str:
        """`class` for what is known to classify whole images, else `segmentation`."""
        kind = type(self.backbone.model)
        of_library = kind.__module__.startswith(("timm.", "torchvision.models.")) and kind.__module__.count(".") == 2
        whole = self.head is None and (of_library or kind.__name__.endswith("ForImageClassification"))
        return "class" if whole or isinstance(self.head or self.backbone.classifier, nn.Linear) else "segmentation"

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
            layer = f"module:{last_layer(self.backbone.model, images[:1], self.predict, score, self.places(images))}"
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

    def places(self, images: Tensor) -> Mapping[str, Place]:
        """Return where activations are in the outputs of layers: a transformer may put its tokens first, (L, n, C)."""
        if not self._places:
            examples = images[:1].expand(max(EXAMPLES), *images.shape[1:])
            self._places.append({})
            if not is_convolutional(self.root):
                with suppress(ModelError):  # a model for a batch of another size: its first axis is the examples
                    self._places[0] = probe(self.root, examples, run=self.predict).places
        return self._places[0]

    def prepare_inputs(self, images: Any, *, fit: bool = False, normalised: bool = False) -> Tensor:
        """Return images as a batch (n, C, H, W) on the network's device and in its precision.

        Args:
            images: As `grad_cam` takes them.
            fit: Resize and crop them to the network's size, as images of a list always are.
            normalised: They are floats as the network takes them.

        Raises:
            DataError: They are no images, not in [0, 1], or not of a size that the network takes.
        """
        preprocessing, examples = self.backbone.preprocessing, to_examples(images, normalised)
        for example in examples:
            if example.dim() != 3 or not (example.is_floating_point() or example.dtype == torch.uint8):
                raise DataError(
                    f"expected images (n, {preprocessing.channels or 3}, H, W) in [0, 1] or uint8, found "
                    f"{example.dtype} {tuple(example.shape)} for one image; put a single image into a batch with [None]"
                )
        if not normalised:
            fit = fit or is_image_list(images) or not hasattr(images_of(images), "ndim")
            resizing = preprocessing if fit else replace(preprocessing, size=None)
            examples = [resizing.fit(example) for example in examples]
        batch = stack_images(examples) if normalised else to_batch(stack_images(examples))
        architecture, (height, width) = ARCHITECTURES.get(self.backbone.origin.architecture), batch.shape[-2:]
        if architecture is not None and not architecture.any_shape and self.size not in (None, (height, width)):
            raise DataError(
                f"expected images of {self.size[1]}x{self.size[0]} pixels, the input size of this {architecture.name}, "
                f"found {width}x{height}; resize them first, or give size"
            )
        weight = next((p for p in self.backbone.parameters() if p.is_floating_point()), torch.empty(0))
        return batch.to(device=weight.device, dtype=weight.dtype)

    def prepare_sample(self, sample: Sample) -> Sample:
        """Return a sample, all its fields alike, resized or cropped as in the training of the network.

        Raises:
            DataError: The image is smaller than a box that is cropped unscaled.
        """
        if self.size is None:
            return sample
        from cka_probe.lab.transforms import largest
        from cka_probe.lab.transforms.augment import crop_and_flip, resize_or_crop

        if self.view in ("whole", "box"):
            return resize_or_crop(sample, self.size, None, crop=self.view == "box")
        height, width = sample["image"].shape[-2:]
        return crop_and_flip(sample, largest(height, width, self.size, 0.5, 0.5), self.size)

    def describe(self) -> dict[str, Any]:
        """Return what a result records about the network."""
        header = self.header
        whole = self.backbone.model if self.backbone.classifier is None else self.backbone
        return {
            "reference": self.reference or self.backbone.origin.reference,
            "architecture": self.backbone.origin.architecture,
            "task": header.task if header else "",
            "view": self.view,
            "notes": list(self.backbone.origin.notes),
            "hash": file_hash(self.reference) if header else weights_hash(whole),
            "stage": header.stage if header else "",
            "seed": header.seed if header else None,
        }


def network_of(
    model: str | Path | Trained | nn.Module | Network,
    *,
    arch: str | None = None,
    encoder: str | None = None,
    base: str | Path | None = None,
    size: int | str | Sequence[int] | None = None,
) -> Network:
    """Return a network to explain.

    Args:
        model: A checkpoint of `ckaprobe train`, loaded with its head; any other reference that `load` takes; the
            result of `load_trained` or `load`; or a module. A module of timm is fed as timm declares, any other gets
            the images as they are: wrap it into a `Backbone` with size, mean and std.
        arch: As in `load`, for a reference.
        encoder: As in `load`.
        base: As in `load`.
        size: Input size in place of its own, as in `compare`.

    Raises:
        CheckpointError: The model cannot be loaded.
        DataError: The network does not take images of this size.
    """
    if size is not None:
        network = network_of(model, arch=arch, encoder=encoder, base=base)
        return network.with_preprocessing(network.backbone.preprocessing_at(as_size(size)))
    if isinstance(model, Network):
        return model
    header, reference = None, ""
    if isinstance(model, str | Path):
        path, reference = Path(model), str(model)
        header = read_header(path) if path.is_file() and is_ckaprobe_checkpoint(path) else None
        header = header if header is not None and header.task and (arch, encoder, base) == (None,) * 3 else None
        model = load(model, arch=arch, encoder=encoder, base=base) if header is None else load_trained(path)
    if isinstance(model, Trained):
        if not hasattr(model.task, "predict"):
            reason = f"its task, {type(model.task).__name__.lower()}, predicts nothing from one image"
            return Network(model.backbone, None, reason, model.task, header, reference)
        return Network(model.backbone, model.head, "", model.task, header, reference)
    if not isinstance(model, nn.Module):
        raise CheckpointError(f"expected a checkpoint, a reference or a torch.nn.Module, found {type(model).__name__}")
    backbone = wrap(model)
    reason = "it is an encoder without a head" if _lacks_head(backbone) else ""
    return Network(backbone, None, reason, reference=reference)


def _lacks_head(backbone: Backbone) -> bool:
    """Return whether a network puts out features: of timm without classes, of torchvision without its last layer."""
    model = backbone.model
    if backbone.classifier is not None:
        return False
    if not type(model).__module__.startswith("torchvision.models."):
        return getattr(model, "num_classes", None) == 0
    heads = [getattr(model, name) for name in ("fc", "classifier", "head", "heads") if hasattr(model, name)]
    return any(isinstance(module, nn.Identity) for head in heads for module in head.modules())


@cache
def imagenet_names() -> tuple[str, ...]:
    """Return the names of the 1000 classes of ImageNet, each with its synonyms after commas."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_descriptions())
