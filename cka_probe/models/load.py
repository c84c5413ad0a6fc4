"""Load a model by its reference: a path, `hf://org/name`, `timm:NAME`, `random:NAME[:SEED]`, or `module:function`."""

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Origin, input_channels
from cka_probe.models.catalogue import POSITIONS, Definition
from cka_probe.models.checkpoints import load_file
from cka_probe.models.checkpoints.adapters import is_adapter
from cka_probe.models.checkpoints.encoders import split_reference
from cka_probe.models.checkpoints.fitting import check_architecture
from cka_probe.models.checkpoints.reading import read_contents, weights_file
from cka_probe.models.default_layers import default_layers
from cka_probe.models.hub import SCHEME, cached_folder, repository_of, snapshot
from cka_probe.registry import REFERENCE


def load(
    reference: str | Path, *, arch: str | None = None, encoder: str | None = None, base: str | Path | None = None
) -> Backbone:
    """Return the backbone of a reference, in evaluation mode on the CPU.

    Args:
        reference: A checkpoint file or folder; `hf://org/name` or `hf://org/name@revision`, a repository of the
            Hugging Face Hub; `timm:NAME`, with the weights that timm publishes; `random:NAME` or `random:NAME:SEED`,
            randomly initialised (by default with seed 0); or `package.module:function`, a function without arguments
            that returns a module or a `Backbone`.
        arch: Architecture of a file whose tensors fit several, or another input size: see `load_file`.
        encoder: Encoder in a file with several, as in `FILE#teacher`; by default the one that its authors evaluate.
        base: File or folder of the model that a LoRA adapter was trained on.

    Raises:
        CheckpointError: It cannot be loaded, or does not fit.
        UnknownNameError: There is no such architecture.

    >>> backbone = load("random:resnet18")
    >>> backbone.preprocessing.size, backbone.layers.names[:3]
    ((224, 224), ('maxpool', 'layer1.0', 'layer1.1'))
    """
    reference = str(reference)
    kind, colon, rest = reference.partition(":")
    if kind == "random" and colon:
        backbone = random_backbone(rest)
    elif kind == "timm" and colon:
        backbone = _published_by_timm(rest)
    elif reference.startswith(SCHEME):
        backbone = load_file(snapshot(reference.removeprefix(SCHEME)), arch=arch, encoder=encoder, base=base)
        backbone.origin = replace(backbone.origin, reference=reference)
    elif not Path(reference).exists() and REFERENCE.fullmatch(reference):
        backbone = _call(reference)
    else:
        backbone = load_file(cached_folder(Path(reference)), arch=arch, encoder=encoder, base=base)
        backbone.origin = replace(backbone.origin, reference=reference)
    backbone.loaded = True
    return backbone.eval()


def random_backbone(name: str) -> Backbone:
    """Return a randomly initialised backbone in evaluation mode.

    Args:
        name: A name in `ARCHITECTURES`, of timm or of torchvision, with `:SEED` after it for another seed than 0.
    """
    name, _, seed = name.partition(":")
    if not re.fullmatch(r"\d*", seed):
        raise CheckpointError(f"expected random:NAME or random:NAME:SEED with a whole number, found seed {seed!r}")
    check_architecture(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed or 0))
        if name in ARCHITECTURES:
            architecture = ARCHITECTURES[name]
            size = architecture.size
            backbone = Backbone(architecture.build(size=size), size=size, layers=architecture.layers)
            options = {"size": size}
        elif timm.is_model(name):
            backbone, options = wrap(timm.create_model(name, pretrained=False)), {}
        else:
            definition = Definition("torchvision", name)
            model = definition.build()
            backbone, options = Backbone(model, size=definition.size, layers=default_layers(model)), {}
    backbone.origin = Origin(f"random:{name}:{seed or 0}", name, options)
    return backbone.eval()


def _published_by_timm(name: str) -> Backbone:
    """Return a timm model with the weights that timm publishes."""
    check_architecture(name)
    repository = repository_of(name)
    if repository is None:
        raise CheckpointError(
            f"timm:{name}: expected a model of timm with published weights, found none of that name; give a file, or "
            f"random:{name} for the architecture alone"
        )
    backbone = load_file(snapshot(repository), arch=name)
    backbone.origin = replace(backbone.origin, reference=f"timm:{name}")
    return backbone


def _call(reference: str) -> Backbone:
    """Return the model of a user's function, `package.module:function`; importing it runs its module."""
    module, name = reference.split(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"no file {reference!r}, and no function of that name either: {error}; expected a checkpoint, timm:NAME, "
            "random:NAME or package.module:function"
        ) from error
    model = function()
    if not isinstance(model, nn.Module):
        raise CheckpointError(f"{reference} returned {type(model).__name__}; expected a torch.nn.Module or a Backbone")
    backbone = wrap(model)
    backbone.origin = Origin(reference, backbone.origin.architecture, backbone.origin.options, backbone.origin.notes)
    return backbone


def wrap(model: nn.Module) -> Backbone:
    """Return a module as a backbone, with the input that the module declares.

    Size, mean and standard deviation are those of a module of timm or open_clip; of others with position embeddings the
    size that these are made for. Else images keep their size, and RGB in [0, 1] is not normalised. If the module was
    trained on other inputs, pass a `Backbone` with size, mean and std instead. What `DataParallel` and
    `DistributedDataParallel` contain is taken out of them.
    """
    while isinstance(model, DataParallel | DistributedDataParallel):
        model = model.module
    if isinstance(model, Backbone):
        return model
    name, tower = type(model).__name__, getattr(model, "visual", model)
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    mean = config.get("mean") or getattr(tower, "image_mean", None)
    std = config.get("std") or getattr(tower, "image_std", None)
    has_positions = any(POSITIONS.fullmatch(name) for name, _ in model.named_parameters())
    size = built_size(model) if config or has_positions else None
    size = size or (tuple(config["input_size"][-2:]) if config else None)
    origin = Origin(config.get("architecture") or name, name)
    if not mean or not std:
        shape = "as it came" if size is None else f"of {size[0]}x{size[1]}"
        note = f"nothing known of its normalisation: fed RGB in [0, 1] {shape}, not normalised"
        origin, mean, std = replace(origin, notes=(note,)), (0.0,), (1.0,)
    elif input_channels(model) == 1:  # timm keeps the three of the original model
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    return Backbone(model, size=size, mean=mean, std=std, layers=default_layers(model), origin=origin)


def built_size(model: nn.Module) -> tuple[int, int] | None:
    """Return the (height, width) that a module was built for, `None` if no part of it has an `img_size`.

    >>> built_size(timm.create_model("test_vit", img_size=96))
    (96, 96)
    """
    for module in model.modules():
        size = getattr(module, "img_size", None) or getattr(module, "image_size", None)
        if isinstance(size, int | tuple | list):
            height, width = (size, size) if isinstance(size, int) else size
            return height, width
    return None


def is_adapter_reference(reference: str | Path) -> bool:
    """Return whether a reference is that of a LoRA adapter, with its `adapter_config.json` next to its weights."""
    name, _ = split_reference(reference)
    path = snapshot(name.removeprefix(SCHEME)) if name.startswith(SCHEME) else cached_folder(Path(name))
    folder = path if path.is_dir() else path.parent
    if not path.exists() or not (folder / "adapter_config.json").is_file():
        return False
    return is_adapter(read_contents(weights_file(path)))


def weights_hash(model: nn.Module) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and values of all parameters and buffers.

    State that is no dense tensor counts as well: sparse, quantised and sharded tensors, packed parameters, and what
    `get_extra_state` returns.
    """
    digest = sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized:
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(_bytes_of(value))
        else:
            digest.update(f"{name}\n".encode())
            _update(digest, value)
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> Any:
    """Return the values of a dense tensor as an array of bytes; of a sharded one all of them, of a meta tensor none."""
    full: Any = getattr(tensor, "full_tensor", None)
    tensor = tensor if full is None else full()
    if tensor.is_meta:
        return b"meta"
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def _update(digest: Any, value: Any) -> None:
    """Add a value of a state dict to a hash: the parts of a container or tensor one after another."""
    if isinstance(value, Mapping):
        for key in value:
            digest.update(f"{key}\n".encode())
            _update(digest, value[key])
    elif isinstance(value, list | tuple):
        for part in value:
            _update(digest, part)
    elif not isinstance(value, Tensor):
        plain = isinstance(value, bool | int | float | str | bytes | torch.dtype | None)
        digest.update(f"{value!r}\n".encode() if plain else f"{type(value).__qualname__}\n".encode())
    elif value.is_quantized:
        digest.update(f"{value.dtype} {tuple(value.shape)} {value.qscheme()}\n".encode())
        digest.update(_bytes_of(value.int_repr()))
        digest.update(_bytes_of(value.dequantize()))
    elif value.layout != torch.strided:
        digest.update(f"{value.dtype} {tuple(value.shape)} {value.layout}\n".encode())
        digest.update(_bytes_of(value.to_dense()))
    else:
        digest.update(f"{value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(_bytes_of(value))
