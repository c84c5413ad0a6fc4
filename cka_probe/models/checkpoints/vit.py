"""A ViT that the user names (`vit_large`), from a file of MAE, DPT (MiDaS), timm or transformers, to be trained.

Without a name a ViT is the model of timm that its tensors fit, of one input size. By name it takes inputs of any size,
and a stage can start from it. Its positions are those of the file, learnt at the size that their number shows.
"""

from collections import Counter

import torch
from torch import Tensor

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import VIT
from cka_probe.models.backbone import NORMALISATIONS, Backbone, Origin
from cka_probe.models.catalogue import NoInitialisation
from cka_probe.models.checkpoints.fitting import Arch
from cka_probe.models.checkpoints.huggingface import is_transformers_config, read_preprocessing
from cka_probe.models.checkpoints.naming import Tensors, choose_prefix, to_timm, under
from cka_probe.models.checkpoints.reading import Contents
from cka_probe.models.checkpoints.recognising import as_float32, dropped_note, groups_outside, normalisation_of

ANCHORS = {
    "timm": "blocks.0.attn.qkv.weight",
    "transformers vit": "encoder.layer.0.attention.attention.query.weight",
}
"""By naming, a tensor that every ViT has."""

PARTS = {"blocks", "patch_embed", "pos_embed", "cls_token", "norm", "dist_token", "reg_token", "norm_pre"}
"""First parts of names in an encoder of timm; all others, as heads and MAE's decoder, are dropped."""

Stated = tuple[tuple[float, ...], tuple[float, ...], str]
"""Mean, standard deviation, and where they come from."""


def load_vit(contents: Contents, request: Arch, reference: str, stated: Stated | None) -> Backbone:
    """Return the ViT in the contents of a file.

    Args:
        contents: The contents of the file, with one encoder.
        request: A name in `VIT`, and perhaps an input size; by default that of the positions.
        reference: The user's name of the file.
        stated: The normalisation that its `config.json` states.

    Raises:
        CheckpointError: There is no ViT of this name, or none of this size.
    """
    path, architecture = contents.path, VIT[request.name]
    tensors, notes = _encoder(contents)
    side = architecture.token * _positions_side(contents, tensors)
    size = side if request.size is None else request.size
    if any(pixels % architecture.token for pixels in (size if isinstance(size, tuple) else (size,))):
        raise CheckpointError(f"{path}: expected an input size of multiples of {architecture.token}, found {size}")
    options = {"size": size, "trained_size": side}
    with torch.random.fork_rng(devices=[]), NoInitialisation():
        model = architecture.build(**options)
    _check_shapes(contents, request.name, tensors, model.state_dict())
    model.load_state_dict(tensors)
    backbone = Backbone(model, size=size, layers=architecture.layers)
    mean, std, note = stated or _normalisation(contents, backbone)
    origin = Origin(reference, request.name, options, (*notes, note))
    return Backbone(model, size=size, mean=mean, std=std, layers=architecture.layers, origin=origin).eval()


def _check_shapes(contents: Contents, name: str, tensors: Tensors, state: Tensors) -> None:
    """Raise unless a file has exactly the tensors of a model."""
    here, there = ({key: tuple(tensor.shape) for key, tensor in group.items()} for group in (tensors, state))
    if differences := sorted(key for key in {*here, *there} if here.get(key) != there.get(key)):
        first = differences[0]
        raise CheckpointError(
            f"{contents.path}: expected {name}, whose {first} is {there.get(first, 'missing')}, found "
            f"{here.get(first, 'none')}, and {len(differences) - 1} more differences; name another architecture"
        )


def _encoder(contents: Contents) -> tuple[Tensors, tuple[str, ...]]:
    """Return the tensors of the one ViT in a file by timm's names, float32, and notes on what else is there."""
    prefixes = {
        name.removesuffix(anchor): naming
        for naming, anchor in ANCHORS.items()
        for name in contents.tensors
        if name == anchor or name.endswith(f".{anchor}")
    }
    if not prefixes:
        raise CheckpointError(
            f"{contents.path}: expected a ViT in the names of timm or transformers, found no "
            f"{' or '.join(ANCHORS.values())}; omit the architecture"
        )
    prefix = choose_prefix(contents.path, prefixes, dict(contents.tensors))
    renamed, _ = to_timm(contents.path, prefixes[prefix], under(prefix, contents.tensors))
    tensors: dict[str, Tensor] = {name: tensor for name, tensor in renamed.items() if name.split(".")[0] in PARTS}
    dropped = Counter(groups_outside(prefix, contents.tensors))
    dropped.update(name.split(".")[0] for name in renamed if name not in tensors)
    tensors, notes = as_float32(tensors)
    return tensors, (*notes, *dropped_note(dropped))


def _positions_side(contents: Contents, tensors: Tensors) -> int:
    """Return the side of the grid of positions, in tokens."""
    shape = tuple(tensors["pos_embed"].shape) if "pos_embed" in tensors else ()
    side = round((shape[1] - 1) ** 0.5) if len(shape) == 3 else 0
    if not side or side**2 + 1 != shape[1]:
        raise CheckpointError(
            f"{contents.path}: expected positions of a class token and of a square of patches, found "
            f"{shape or 'none'}; omit the architecture"
        )
    return side


def _normalisation(contents: Contents, backbone: Backbone) -> Stated:
    """Return the normalisation of a folder of transformers, of a project that the names show, or timm's for a ViT."""
    if is_transformers_config(contents.config):
        mean, std, _, note = read_preprocessing(contents.path.parent, contents.config, backbone.model)
        return tuple(mean), tuple(std), note
    if evidence := normalisation_of(contents.tensors):
        title, name = evidence
        return *NORMALISATIONS[name], f"input normalised as for {title}"
    return *NORMALISATIONS["half"], "the file does not say how images are normalised: as timm's ViT, mean and std 0.5"
