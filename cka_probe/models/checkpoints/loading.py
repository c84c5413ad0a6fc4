"""A backbone out of a file: read, recognise, rename, fit, build.

Every parameter of the architecture must be in the file with its shape, and nothing that looks like the encoder may
be left over; what stands beside the encoder (decoders, heads, optimisers) is dropped and named in the notes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Origin
from cka_probe.models.checkpoint import is_ckaprobe_checkpoint, read_checkpoint
from cka_probe.models.checkpoints.fitting import COUNTER, check_fit, load_with_timm, parse_arch, shapes_of, the_one
from cka_probe.models.checkpoints.naming import Grid, at_size, grid_of
from cka_probe.models.checkpoints.reading import Contents, read_contents
from cka_probe.models.checkpoints.recognising import (
    Encoder,
    depths_of,
    dropped_note,
    folder_to_file,
    recognise,
    with_config_beside,
)

Size = tuple[int, int]


def load_file(path: str | Path, *, arch: str | None = None) -> Backbone:
    """Return the backbone in a file of weights, in evaluation mode on the CPU.

    Args:
        path: A file of ours, of SimMIM, Swin-v2, MIM-Depth, SC-Depth, Monodepth2 (or its folder), torchvision,
            timm, MoCo, DINO, DINOv2, Depth Anything or transformers (or its folder).
        arch: `NAME`, `NAME@SIZE` or `NAME@HEIGHTxWIDTH`, with a name in `ARCHITECTURES` or timm's; where it is
            not given, the shapes tell.

    Raises:
        CheckpointError: It cannot be read, or does not fit.
        UnknownNameError: No such architecture.
    """
    file = folder_to_file(path)
    name, size = parse_arch(file, arch)
    if is_ckaprobe_checkpoint(file):
        return _ours(file, name, size)
    contents = with_config_beside(read_contents(file))
    if name is not None and not (name in ARCHITECTURES or twin_of(name)):
        return load_with_timm(contents, name, size, str(path))
    encoder = recognise(contents)
    what = depths_of(encoder.tensors)
    if name is None:
        chosen = the_one(file, encoder.tensors, what)
    else:
        chosen = name if name in ARCHITECTURES else str(twin_of(name))
        check_fit(file, encoder.tensors, chosen, what)
    options, notes = options_of(contents, encoder, chosen, None if name in ARCHITECTURES else name, size)
    notes = (*encoder.notes, *notes, *dropped_note(encoder.dropped))
    return _built(encoder, chosen, options, Origin(str(path), chosen, options, notes))


def options_of(
    contents: Contents, encoder: Encoder, name: str, timm_name: str | None = None, size: Size | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what to build an architecture with, so that it computes what the file's model did.

    Args:
        contents: Of the file.
        encoder: In it.
        name: The architecture, in `ARCHITECTURES`.
        timm_name: The timm model it was asked for as, if it was.
        size: Height and width asked for, if any.

    Returns:
        The options of its `build`, and what had to be assumed.
    """
    if name.startswith("swinv2"):
        return _swin_options(contents, encoder, name, timm_name, size)
    options, notes = _input_size(contents.path, encoder, name, size)
    if encoder.about.output_stride != 32:
        options["output_stride"] = encoder.about.output_stride
    return options, notes


def _built(encoder: Encoder, name: str, options: dict[str, Any], origin: Origin) -> Backbone:
    """Build an architecture and fill it with an encoder that fits."""
    with torch.random.fork_rng(devices=[]):
        model = ARCHITECTURES[name].build(**options)
    model.load_state_dict({**_counters(model), **encoder.tensors})
    kind = encoder.about
    layers = ARCHITECTURES[name].layers
    return Backbone(model, size=options["size"], mean=kind.mean, std=kind.std, layers=layers, origin=origin).eval()


def _counters(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the step counters of batch norms, which a file may lack."""
    return {name: value for name, value in model.state_dict().items() if name.endswith(COUNTER)}


def _ours(file: Path, name: str | None, size: Size | None) -> Backbone:
    """Return the backbone of a checkpoint of ours, which says itself what it is."""
    try:
        backbone = read_checkpoint(file)[0]
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{file}: expected a checkpoint whose weights fit its header, found others "
            f"({type(error).__name__}: {str(error).splitlines()[-1].strip()}); copy it again, or train it again"
        ) from error
    found = backbone.origin.architecture
    if size is not None or name not in (None, found):
        raise CheckpointError(
            f"{file}: expected no --arch, for this checkpoint says itself that it is {found} of "
            f"{backbone.origin.options['size']} px; leave --arch out"
        )
    return backbone


def _swin_options(
    contents: Contents, encoder: Encoder, name: str, timm_name: str | None, size: Size | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what to build a Swin-v2 with, and what was assumed."""
    path = contents.path
    if size is not None and size[0] != size[1]:
        raise CheckpointError(f"{path}: expected one number for the size of a Swin-v2, found {size[0]}x{size[1]}")
    told = timm_name or contents.values.get("beside.architecture")
    grid = grid_of(path, encoder.buffers, contents.values, ARCHITECTURES[name].size)
    named = grid_of_timm(told) if isinstance(told, str) and twin_of(told) == name else None
    if named and not encoder.buffers:
        grid = named
    elif named and timm_name and named.windows != grid.windows:
        raise CheckpointError(
            f"{path}: expected the windows {named.windows} of {timm_name}, found {grid.windows} for {grid.size} px in "
            f"the file; --arch {name} takes those, --arch {name}@SIZE takes them to another size"
        )
    if size is not None:
        grid = at_size(path, grid, size[0])
    options: dict[str, Any] = {"size": grid.size}
    if grid.window != grid.size // 16:  # else the window may follow when the backbone is taken to another size
        options["window"] = grid.window
    if any(grid.pretrained_windows):
        options["pretrained_windows"] = grid.pretrained_windows
    if encoder.about.norm_eps is not None:
        options["norm_eps"] = encoder.about.norm_eps
    return options, grid.notes


def _input_size(path: Path, encoder: Encoder, name: str, size: Size | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the input size of a ResNet or DINOv2: what was asked for, else what Monodepth2 wrote, else the usual one.

    Raises:
        CheckpointError: DINOv2's tokens do not tile it.
    """
    token = ARCHITECTURES[name].token
    if size is not None:
        if any(side % token for side in size):
            raise CheckpointError(
                f"{path}: expected an input size that is a multiple of {token}, found {size[0]}x{size[1]}; {name} "
                f"has tokens of {token} px"
            )
        return {"size": size[0] if size[0] == size[1] else size}, ()
    if encoder.size is not None:
        return {"size": encoder.size}, ()
    usual = ARCHITECTURES[name].size
    return {"size": usual}, (f"the file does not say its input size: {usual} px; --arch {name}@SIZE for another",)


def twin_of(name: str) -> str | None:
    """Return the architecture of ours whose tensors are those of a timm model, if there is one.

    >>> twin_of("swinv2_base_window12to16_192to256")
    'swinv2_base'
    """
    name = name.split(".")[0]
    if not timm.is_model(name) or not name.startswith(("swinv2_", "resnet", "vit_")):
        return None
    shapes = shapes_of(name)
    return next((ours for ours in ARCHITECTURES if shapes_of(ours) == shapes), None)


def grid_of_timm(name: str) -> Grid | None:
    """Return input size and windows of a Swin-v2 of timm's, `None` for another model."""
    with torch.device("meta"):
        model: Any = timm.create_model(name.split(".")[0], pretrained=False, num_classes=0)
    if not hasattr(model, "layers"):
        return None
    blocks = [stage.blocks[0] for stage in model.layers]
    grid = Grid(
        model.patch_embed.img_size[0],
        blocks[0].window_size[0],
        tuple(block.attn.pretrained_window_size[0] for block in blocks),
    )
    return replace(grid, pretrained_windows=(0, 0, 0, 0)) if grid.pretrained_windows == grid.windows else grid
