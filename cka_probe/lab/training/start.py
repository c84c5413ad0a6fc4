"""The backbone and head that a stage starts from: random weights, an earlier stage, a file, or a folder of Monodepth2.

A foreign file provides the encoder. Monodepth2's folder (`weights_19`) provides its decoder too, as a stage of
`monodepth` would have, so that segmentation can continue from the published weights.

Two more properties of a stage's encoder are set here. Stochastic depth (Huang et al., "Deep Networks with Stochastic
Depth", ECCV 2016) skips residual branches at random in training,

    y = x + b f(x) / (1 - p),    b = 1 with probability 1 - p, else 0, drawn per image and branch

where p rises linearly from 0 at the first block to the stage's `drop_path` at the last. Freezing an encoder is two
things: its parameters get no gradient, and its batch norms neither update their statistics nor normalise by those of
the batch. The released code of Depth-to-Semantic does the second alone and calls it freezing, so both are available.
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
        head_state: The weights of a head that this task can go on with, where the file has one.
        parent: SHA-256 of the file, of a folder's files together, "" for chance.
        carried: Beginnings of the names in `head_state` that another task's head has as well; () for its own task's,
            which has them all.
    """

    backbone: Backbone
    head_state: dict[str, Tensor]
    parent: str
    carried: tuple[str, ...] = ()


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
        recipe: For architecture and seed.
        stage: The one to begin.
        folder: Where the checkpoints of earlier stages are.
    """
    start = reference(recipe, stage)
    if start == RANDOM:
        return Start(_fitted(random_backbone(recipe, stage.size), stage), {}, "")
    path = Path(start) if start not in {other.name for other in recipe.stages} else folder / f"{start}.safetensors"
    backbone, head_state, carried = _read(path, recipe.architecture, stage)
    if backbone.origin.architecture != recipe.architecture:
        raise RecipeError(
            f"stages.{stage.name}.start: expected weights of {recipe.architecture}, found "
            f"{backbone.origin.architecture} in {path}; set architecture={backbone.origin.architecture}"
        )
    return Start(_fitted(backbone, stage), head_state, _hash(path), carried)


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
    """Return the side an architecture is built for: the longer one, where it takes any.

    Raises:
        RecipeError: The sides differ, and its windows ask for a square; or its tokens do not tile it.
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

    A Swin's windows grow with its input; its position bias is a function of coordinates that were divided by
    the windows it was trained with, which therefore are written into its options.
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
    return Backbone(
        model,
        size=shape,
        mean=backbone.preprocessing.mean,
        std=backbone.preprocessing.std,
        layers=backbone.layers,
        origin=replace(backbone.origin, options=options),
    )


def normalised(backbone: Backbone, name: str) -> Backbone:
    """Return the backbone with a normalisation of `NORMALISATIONS`; "" does not change it."""
    if name:
        mean, std = NORMALISATIONS[name]
        backbone.preprocessing = replace(backbone.preprocessing, mean=mean, std=std)
    return backbone


def fill(head: nn.Module, state: dict[str, Tensor], carried: tuple[str, ...] = ()) -> None:
    """Load the weights that a head starts from.

    Args:
        head: Of the stage.
        state: Of a head that it goes on with; parts that it lacks are left out, parts of its own must all be there.
        carried: Beginnings of the names of what is taken over; what begins otherwise is new, with () nothing is.

    Raises:
        RecipeError: They do not fit.
    """
    if not state:
        return
    own = head.state_dict()
    try:
        anew = {name: value for name, value in own.items() if carried and not name.startswith(carried)}
        head.load_state_dict(anew | {name: value for name, value in state.items() if name in own})
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise RecipeError(
            f"expected the head of the stage before to fit, found: {first}; say reset_head=true, or give both stages "
            "the same options"
        ) from error


def _fitted(backbone: Backbone, stage: Stage) -> Backbone:
    """Return a backbone of a stage's size and normalisation, with its stochastic depth."""
    backbone = normalised(resized(backbone, stage.size, stage.output_stride), stage.normalisation)
    drop_paths(backbone.model, stage.drop_path)
    return backbone


def _read(path: Path, architecture: str, stage: Stage) -> tuple[Backbone, dict[str, Tensor], tuple[str, ...]]:
    """Return the backbone in a file, ours or not, and the weights of a head that the stage's task can go on with."""
    if ours := is_ckaprobe_checkpoint(weights_file(path)):
        backbone, head_state, header = read_checkpoint(path)
        origin = header.task
    else:
        backbone, origin = load_file(path, arch=architecture), "monodepth"
        head_state = read_monodepth2_decoder(path) if (path / DEPTH_FILE).is_file() else {}
    task = stage.build_task()  # what it goes on with may follow from its options
    if stage.reset_head or origin not in {stage.task, *getattr(task, "continues", ())}:
        return backbone, {}, ()
    own = ours and origin == stage.task  # and so the head is there as a whole
    carried = () if own else getattr(task, "carries", ())
    kept = {name: value for name, value in head_state.items() if not carried or name.startswith(carried)}
    return backbone, kept, carried


def _hash(path: Path) -> str:
    """Return the hash of a file, or of those of a folder that are read."""
    if path.is_file():
        return file_hash(path)
    read = [weights_file(path), path / DEPTH_FILE]
    return sha256("\n".join(file_hash(file) for file in read if file.is_file()).encode()).hexdigest()


PLACES = (("drop_path1", "drop_path2"), ("drop_path",))
"""Where timm's blocks have a place for it: those of Swin-v2 after each of two branches, those of ResNet after one."""


def drop_paths(model: nn.Module, rate: float) -> None:
    """Let an encoder leave branches out while it trains; at rate 0 nothing is touched.

    Args:
        model: A Swin-v2 or ResNet of timm.
        rate: Probability at the last block, in [0, 1).

    Raises:
        RecipeError: The encoder's blocks have no place for it.
    """
    if rate == 0:
        return
    blocks = [(block, places) for block in model.modules() for places in PLACES if hasattr(block, places[-1])]
    if not blocks:
        raise RecipeError(
            f"drop_path: expected an encoder of blocks that it can leave out, found {type(model).__name__}; set "
            "drop_path=0, or train a Swin or a ResNet"
        )
    for number, (block, places) in enumerate(blocks):
        for place in places:
            setattr(block, place, DropPath(rate * number / max(len(blocks) - 1, 1)))


def frozen(backbone: Backbone, freeze: str) -> Backbone:
    """Return the backbone with that of it frozen which `freeze`, in `FREEZES`, says.

    A frozen encoder is in evaluation mode, and stays so: nothing in training calls `train` on it.
    """
    if freeze:
        backbone.eval()
    if freeze == "encoder":
        backbone.requires_grad_(False)
    return backbone
