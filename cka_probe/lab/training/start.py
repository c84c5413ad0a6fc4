"""The backbone and head that a stage starts from: random weights, an earlier stage, a file, or a folder of Monodepth2.

A foreign file provides the encoder. Monodepth2's folder (`weights_19`) provides its decoder too, like a stage of
`monodepth`, so that segmentation can continue from the published weights.

Two more properties of a stage's encoder are set here. Stochastic depth (Huang et al., "Deep Networks with Stochastic
Depth", ECCV 2016) skips residual branches at random in training,

    y = x + b f(x) / (1 - p),    b = 1 with probability 1 - p, else 0, drawn per image and branch

where p rises linearly from 0 at the first block to the stage's `drop_path` at the last. Freezing an encoder means that
its parameters get no gradient, and that its batch norms neither update their statistics nor normalise by those of the
batch. The released code of Depth-to-Semantic only does the second and calls it freezing, so both are available.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from cka_probe import registry
from cka_probe.errors import RecipeError
from cka_probe.lab.tasks.disparity import DEPTH_FILE, read_monodepth2_decoder
from cka_probe.lab.training.recipe import Recipe, Stage, both_sides
from cka_probe.lab.training.sampling import seed_of
from cka_probe.models.architectures import ARCHITECTURES, Architecture
from cka_probe.models.backbone import NORMALISATIONS, Backbone, Origin
from cka_probe.models.checkpoint import file_hash, is_ckaprobe_checkpoint, read_checkpoint
from cka_probe.models.checkpoints import load_file
from cka_probe.models.checkpoints.reading import WEIGHTS_FILES, weights_file

RANDOM = "random"

T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """The weights that a stage starts from.

    Attributes:
        backbone: Of the stage's size, in training mode.
        head_state: Weights of the head to continue from; may be empty.
        parent: SHA-256 of the file or of the files of a folder; "" for random weights.
        prefixes: Of the names in `head_state` that the head of another task shares; () for a head of the same task.
    """

    backbone: Backbone
    head_state: dict[str, Tensor]
    parent: str
    prefixes: tuple[str, ...] = ()


def reference(recipe: Recipe, stage: Stage) -> str:
    """Return where a stage starts: `RANDOM`, the name of an earlier stage, or a path.

    Raises:
        RecipeError: It is none of these.
    """
    names = [other.name for other in recipe.stages]
    earlier = names[: names.index(stage.name)]
    start = stage.start or (earlier[-1] if earlier else RANDOM)
    folder = any((Path(start) / name).is_file() for name in WEIGHTS_FILES)
    if start == RANDOM or start in earlier or Path(start).is_file() or folder:
        return start
    raise RecipeError(
        f"stages.{stage.name}.start: expected {', '.join([RANDOM, *earlier])} or a file (of Monodepth2 the folder with "
        f"encoder.pth, of transformers that with model.safetensors), found {start!r}"
    )


def begin(recipe: Recipe, stage: Stage, folder: Path) -> Start:
    """Return the weights that a stage starts from, with the backbone at the stage's size.

    Args:
        recipe: Determines architecture and seed.
        stage: The stage to begin.
        folder: Of the checkpoints of earlier stages.
    """
    start = reference(recipe, stage)
    if start == RANDOM:
        return Start(adapted(random_backbone(recipe, stage.size), stage), {}, "")
    path = Path(start) if start not in {other.name for other in recipe.stages} else folder / f"{start}.safetensors"
    backbone, head_state, prefixes = _read(path, recipe.architecture, stage)
    if backbone.origin.architecture != recipe.architecture:
        raise RecipeError(
            f"stages.{stage.name}.start: expected weights of {recipe.architecture}, found "
            f"{backbone.origin.architecture} in {path}; set architecture={backbone.origin.architecture}"
        )
    return Start(adapted(backbone, stage), head_state, _hash(path), prefixes)


def random_backbone(recipe: Recipe, size: int | tuple[int, int]) -> Backbone:
    """Return the recipe's architecture as its seed initialises it."""
    architecture = registry.get(ARCHITECTURES, recipe.architecture, "architecture")
    options = {"size": _side(architecture, both_sides(size))} | recipe.options
    try:
        model = seeded(lambda: architecture.build(**options), recipe.seed, "backbone")
    except TypeError as error:
        raise RecipeError(f"recipe.options: {recipe.architecture} does not take {recipe.options}: {error}") from error
    origin = Origin(f"{RANDOM}:{recipe.architecture}", recipe.architecture, options)
    return Backbone(model, size=both_sides(size), layers=architecture.layers, origin=origin)


def _side(architecture: Architecture, shape: tuple[int, int]) -> int:
    """Return the side to build an architecture for: the longer one.

    Raises:
        RecipeError: The input is not a square, and its windows need one; or its tokens do not tile it.
    """
    if any(side % architecture.token for side in shape):
        raise RecipeError(
            f"expected an input of multiples of {architecture.token} pixels for {architecture.name}, found "
            f"{shape[1]}x{shape[0]}; set size to one, such as {16 * architecture.token}"
        )
    if shape[0] != shape[1] and not architecture.any_shape:
        raise RecipeError(
            f"expected a square input for {architecture.name}, found {shape[1]}x{shape[0]}; give one side, or a ResNet"
        )
    return max(shape)


def seeded(build: Callable[[], T], *parts: int | str) -> T:
    """Return `build()`, called with torch's generator seeded from these parts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(*parts))
        return build()


def resized(backbone: Backbone, size: int | tuple[int, int], output_stride: int = 0) -> Backbone:
    """Return a backbone for another input size, or another stride of its last map, with the same weights.

    A Swin's windows grow with its input; its position bias is a function of coordinates relative to the windows of its
    pre-training, which are therefore written into its options.
    """
    shape, now = both_sides(size), backbone.origin.options.get("output_stride", 32)
    if backbone.preprocessing.size == shape and (output_stride or now) == now:
        return backbone
    architecture = registry.get(ARCHITECTURES, backbone.origin.architecture, "architecture")
    options = backbone.origin.options | {"size": _side(architecture, shape)}
    if output_stride and not architecture.dilates:
        raise RecipeError(f"expected a ResNet to set output_stride of, found {architecture.name}; leave it out")
    if (output_stride or now) != 32:
        options["output_stride"] = output_stride or now
    else:
        options.pop("output_stride", None)
    if "window" in options:
        options["window"] = options["window"] * options["size"] // (backbone.preprocessing.size or shape)[0]
    if hasattr(backbone.model, "layers") and not any(options.get("pretrained_windows", ())):
        options["pretrained_windows"] = tuple(
            stage.blocks[0].window_size[0] for stage in cast(Any, backbone.model.layers)
        )
    model = seeded(lambda: architecture.build(**options), 0)
    model.load_state_dict(backbone.model.state_dict())
    origin = replace(backbone.origin, options=options)
    mean, std = backbone.preprocessing.mean, backbone.preprocessing.std
    return Backbone(model, size=shape, mean=mean, std=std, layers=backbone.layers, origin=origin)


def normalised(backbone: Backbone, name: str) -> Backbone:
    """Return the backbone with a normalisation of `NORMALISATIONS`; "" does not change it."""
    if name:
        mean, std = NORMALISATIONS[name]
        backbone.preprocessing = replace(backbone.preprocessing, mean=mean, std=std)
    return backbone


def fill(head: nn.Module, state: dict[str, Tensor], prefixes: tuple[str, ...] = ()) -> None:
    """Load the weights that a head continues from.

    Args:
        head: Of the stage.
        state: Of the head to continue from; weights that `head` lacks are ignored.
        prefixes: Of the names that have to be in `state`, all others keep their initial weights; () needs all names.

    Raises:
        RecipeError: They do not fit.
    """
    if not state:
        return
    initial = head.state_dict()
    try:
        new = {name: value for name, value in initial.items() if prefixes and not name.startswith(prefixes)}
        head.load_state_dict(new | {name: value for name, value in state.items() if name in initial})
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise RecipeError(
            f"expected the head of the previous stage to fit, found: {first}; set reset_head=true, or give both stages "
            "the same options"
        ) from error


def adapted(backbone: Backbone, stage: Stage) -> Backbone:
    """Return a backbone with the size, normalisation and stochastic depth of a stage."""
    backbone = normalised(resized(backbone, stage.size, stage.output_stride), stage.normalisation)
    drop_paths(backbone.model, stage.drop_path)
    checkpoint_blocks(backbone.model, stage.checkpointing)
    backbone.classifier = None  # a stage trains its own head
    return backbone


def _read(path: Path, architecture: str, stage: Stage) -> tuple[Backbone, dict[str, Tensor], tuple[str, ...]]:
    """Return the backbone in a file, the head's weights that the stage's task can continue from, and their prefixes."""
    native = is_ckaprobe_checkpoint(weights_file(path))
    if native:
        backbone, head_state, header = read_checkpoint(path)
        origin = header.task
    else:
        backbone, origin = load_file(path, arch=architecture), "monodepth"
        head_state = read_monodepth2_decoder(path) if (path / DEPTH_FILE).is_file() else {}
    task = stage.build_task()  # `continues` may depend on its options
    if stage.reset_head or origin not in {stage.task, *getattr(task, "continues", ())}:
        return backbone, {}, ()
    prefixes = () if native and origin == stage.task else getattr(task, "carries", ())
    if prefixes:
        head_state = {name: value for name, value in head_state.items() if name.startswith(prefixes)}
    return backbone, head_state, prefixes


def _hash(path: Path) -> str:
    """Return the hash of a file, or of those of a folder that are read."""
    if path.is_file():
        return file_hash(path)
    read = [weights_file(path), path / DEPTH_FILE]
    return sha256("\n".join(file_hash(file) for file in read if file.is_file()).encode()).hexdigest()


def checkpoint_blocks(model: nn.Module, enable: bool) -> None:
    """Let a Swin or vision transformer of timm compute its blocks again in the backward pass, or not.

    Raises:
        RecipeError: It has batch norms, whose statistics would count each batch twice.
    """
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if enable and (norms or not hasattr(model, "set_grad_checkpointing")):
        raise RecipeError(
            f"checkpointing: expected a transformer of timm, found {type(model).__name__}; set checkpointing=false and "
            "accumulate higher"
        )
    if hasattr(model, "set_grad_checkpointing"):
        cast(Any, model).set_grad_checkpointing(enable)


DROP_PATHS = (("drop_path1", "drop_path2"), ("drop_path",))
"""Stochastic depth in timm's blocks: those of Swin-v2 have one after each of two branches, those of ResNet one."""


def drop_paths(model: nn.Module, rate: float) -> None:
    """Set the stochastic depth of a Swin-v2 or ResNet of timm to `rate`, in [0, 1), at its last block, unless it is 0.

    Raises:
        RecipeError: The encoder has other blocks.
    """
    if rate == 0:
        return
    blocks = [(block, names) for block in model.modules() for names in DROP_PATHS if hasattr(block, names[-1])]
    if not blocks:
        raise RecipeError(
            f"drop_path: expected an encoder of residual blocks, found {type(model).__name__}; set drop_path=0, or "
            "train a Swin or a ResNet"
        )
    for number, (block, names) in enumerate(blocks):
        for name in names:
            setattr(block, name, DropPath(rate * number / max(len(blocks) - 1, 1)))
