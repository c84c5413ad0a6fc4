"""A model by its reference: a path, `timm:NAME`, `random:NAME[:SEED]`, or `package.module:function`."""

import os
import re
import sys
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import timm
import torch
from torch import nn

from cka_probe.errors import CheckpointError, UnknownNameError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Origin
from cka_probe.models.checkpoints import load_file
from cka_probe.models.selection import default_layers
from cka_probe.registry import suggestion

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def load(reference: str | Path, *, arch: str | None = None) -> Backbone:
    """Return the backbone that a reference means, in evaluation mode on the CPU.

    Args:
        reference: A checkpoint file or folder; `timm:NAME`, with timm's published weights; `random:NAME` or
            `random:NAME:SEED`, freshly initialised (seed 0 if none is given); or `package.module:function`, a
            function of yours without arguments that returns a module or a `Backbone`.
        arch: For a file whose architecture cannot be told from its weights.

    Raises:
        CheckpointError: It cannot be loaded, or does not fit.
        UnknownNameError: No such architecture.
    """
    backbone = _found(str(reference), arch).eval()
    backbone.loaded = True
    return backbone


def _found(reference: str, arch: str | None) -> Backbone:
    """Return what a reference of whichever kind means."""
    kind, colon, rest = reference.partition(":")
    if kind == "random" and colon:
        return random_backbone(rest)
    if kind == "timm" and colon:
        return _published(rest)
    if not Path(reference).exists() and FUNCTION.fullmatch(reference):
        return _made_by(reference)
    return load_file(reference, arch=arch)


def random_backbone(name: str) -> Backbone:
    """Return a freshly initialised backbone.

    Args:
        name: A name in `ARCHITECTURES` or any timm model's, and `:SEED` after it for another seed than 0.
    """
    name, _, seed = name.partition(":")
    if not re.fullmatch(r"\d*", seed):
        raise CheckpointError(f"expected random:NAME or random:NAME:SEED with a whole number, found seed {seed!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed or 0))
        if name in ARCHITECTURES:
            architecture = ARCHITECTURES[name]
            options = {"size": architecture.size}
            model = architecture.build(**options)
            layers = architecture.layers
            backbone = Backbone(model, size=architecture.size, layers=layers, origin=Origin("", name, options))
        else:
            check_timm(name)
            backbone = wrap(timm.create_model(name, pretrained=False))
    backbone.origin = Origin(f"random:{name}:{seed or 0}", name, backbone.origin.options)
    return backbone.eval()


def check_timm(name: str) -> None:
    """Raise `UnknownNameError` unless timm or we have an architecture of this name."""
    if not timm.is_model(name.split(".")[0]):
        names = [*ARCHITECTURES, *timm.list_models()]
        raise UnknownNameError(
            f"no architecture {name!r}; {suggestion(name, names)}There are {', '.join(ARCHITECTURES)} and every model "
            "of timm (timm.list_models())"
        )


def _published(name: str) -> Backbone:
    """Return a timm model with the weights timm publishes for it."""
    check_timm(name)
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # hubs fail in as many ways as there are networks
        raise CheckpointError(
            f"timm's weights of {name!r} could not be had: {str(error).splitlines()[0]}; give a file, or "
            f"random:{name} for the architecture alone"
        ) from error
    backbone = wrap(model)
    backbone.origin = Origin(f"timm:{name}", name)
    return backbone.eval()


def _made_by(reference: str) -> Backbone:
    """Return what a user's own function makes; importing it runs it, as the user asked."""
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
    backbone = model if isinstance(model, Backbone) else wrap(model)
    backbone.origin = Origin(reference, backbone.origin.architecture, backbone.origin.options, backbone.origin.notes)
    return backbone.eval()


def wrap(model: nn.Module) -> Backbone:
    """Return a backbone around a module, with timm's word about its input where there is one.

    A module that says nothing of its input gets images as they are: of their own size, RGB in [0, 1], not
    normalised. Make a `Backbone` with size, mean and std where that is not what it was trained on.
    """
    if isinstance(model, Backbone):
        return model
    said = getattr(model, "pretrained_cfg", None)
    if not said:
        notes = ("nothing known of its input: fed RGB in [0, 1] as it came, not normalised",)
        origin = Origin(type(model).__name__, type(model).__name__, notes=notes)
        return Backbone(model, mean=(0.0,) * 3, std=(1.0,) * 3, layers=default_layers(model), origin=origin)
    return Backbone(
        model,
        size=tuple(said["input_size"][-2:]),
        mean=said["mean"],
        std=said["std"],
        layers=default_layers(model),
        origin=Origin(said.get("architecture") or type(model).__name__, type(model).__name__),
    )


def weights_hash(model: nn.Module) -> str:
    """Return the SHA-256 over names, dtypes, shapes and values of all parameters and buffers."""
    digest = sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
