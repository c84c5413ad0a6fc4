"""The model definitions of timm and torchvision, looked up by the names and shapes of a file's tensors.

To build all 1 450 definitions takes minutes. `signatures.csv` therefore lists twelve tensors of each, its probes, as
checksums of name and shape. A definition whose probes are all in a file is a candidate; it is built on the meta device,
which takes a tenth of a second and no memory, and compared tensor by tensor. Definitions of a newer timm that the table
does not list are named with `--arch`.

Some definitions have the same tensors. Those that also have the same modules with the same settings compute the same
and differ at most in the size or normalisation of their inputs (`vit_base_patch16_224`, `deit_base_patch16_224`).
Others compute different things (`efficientnet_b0` and `tf_efficientnet_b0` pad differently), which no shape shows.

    python -m cka_probe.models.catalogue        writes the table for the installed libraries
"""

import csv
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import timm
import torch
import torchvision
from torch import Size, nn
from torch.overrides import TorchFunctionMode

from cka_probe.errors import CheckpointError

TABLE = Path(__file__).with_name("signatures.csv")
PROBES = 12

POSITIONS = re.compile(r"(.*\.)?(pos_embed\w*|position_embeddings?|pos_embedding|positional_embedding)(\.weight)?")
"""Names of position embeddings, whose shape depends on the size of the input."""

COUNTER = "num_batches_tracked"
"""A step counter of batch norm that nothing depends on; older files of torchvision lack it."""

LIBRARIES = ("timm", "torchvision")

IMAGENET_CLASSES = 1000

NOT_COMPUTED = {"training", "init_values", "num_classes", "img_size", "grid_size", "num_patches", "input_size"} | {
    "strict_img_size",
    "input_resolution",
    "seq_len",
    "feat_shape",
    "ref_feat_shape",
    "drop_prob",
    "p",
}
"""Attributes of modules that do not change what is computed from given weights and input in evaluation mode."""


@dataclass(frozen=True)
class Definition:
    """A model of a library.

    Attributes:
        library: `timm` or `torchvision`.
        name: Its name there, without a training tag.
    """

    library: str
    name: str

    def build(self, size: tuple[int, int] | None = None) -> Any:
        """Return the model with random weights: of timm without its classifier, of torchvision whole.

        Args:
            size: Height and width of the input, for models that depend on it; by default the definition's.

        Raises:
            CheckpointError: The model cannot have this size.
        """
        options: dict[str, Any]
        if self.library == "torchvision":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of its initialisation
                options = {"image_size": size[0]} if size and self.name.startswith("vit_") else {}
                return torchvision.models.get_model(self.name, weights=None, **options)
        options = {} if size is None else {"img_size": size}
        try:
            return timm.create_model(self.name, pretrained=False, num_classes=0, **options)
        except Exception as error:  # each family of timm checks sizes in its own way
            if "img_size" in str(error) and isinstance(error, TypeError):  # a convolutional network takes any size
                return timm.create_model(self.name, pretrained=False, num_classes=0)
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise CheckpointError(
                f"expected an input size that {self.name} can take, found {size and 'x'.join(map(str, size))} "
                f"({reason}); choose another"
            ) from error

    def skeleton(self, size: tuple[int, int] | None = None) -> nn.Module:
        """Return the model on the meta device, without memory for its weights; cached."""
        return _skeleton(self, size)

    @property
    def classifiers(self) -> tuple[str, ...]:
        """The paths of its last layers, which put out one number per class; two in a distilled model of timm."""
        if self.library == "timm":
            names = self.config.get("classifier") or ()
            return (names,) if isinstance(names, str) else tuple(names)
        layers = [
            name
            for name, module in self.skeleton().named_modules()
            if getattr(module, "out_features", getattr(module, "out_channels", 0)) == IMAGENET_CLASSES
        ]
        return tuple(layers[-1:])

    @property
    def hidden_head(self) -> str:
        """The child of a torchvision model that has layers with weights before its last, `classifier` of VGG; or ""."""
        if self.library == "timm" or len(self.classifiers) != 1:
            return ""
        head, last = self.classifiers[0].split(".")[0], f"{self.classifiers[0]}."
        names = [name for name in shapes_of(self.skeleton()) if name.startswith(f"{head}.")]
        return head if any(not name.startswith(last) for name in names) else ""

    @property
    def ends_linearly(self) -> bool:
        """Whether its logits are one linear layer after its pooling: not those of SqueezeNet or of a distilled DeiT."""
        if self.library == "timm" or len(self.classifiers) != 1:
            return len(self.classifiers) == 1
        return isinstance(self.skeleton().get_submodule(self.classifiers[0]), nn.Linear)

    def detach_classifier(self, model: Any) -> int:
        """Replace the classifier of a model by the identity, and return the channels of the features it takes."""
        if self.library == "timm":  # built without one
            channels: int = getattr(model, "head_hidden_size", model.num_features)
            return channels
        (name,) = self.classifiers
        layer: Any = model.get_submodule(name)
        model.set_submodule(name, nn.Identity())
        channels = layer.weight.shape[1]
        return channels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its input."""
        if self.library == "timm":
            height, width = self.config["input_size"][1:]
            return height, width
        side = torchvision.models.get_model_weights(self.name)["DEFAULT"].transforms().crop_size[0]
        return side, side

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of its grid of patches; (1, 1) if it has none."""
        model: Any = self.skeleton()
        if self.library == "torchvision":
            side = model.image_size // model.patch_size if hasattr(model, "patch_size") else 1
            return side, side
        height, width = getattr(getattr(model, "patch_embed", None), "grid_size", None) or (1, 1)
        return height, width

    @property
    def config(self) -> dict[str, Any]:
        """What timm declares of a model: `mean`, `std`, `input_size`, `classifier` …; torchvision's are ImageNet's."""
        declared: dict[str, Any] = getattr(self.skeleton(), "pretrained_cfg", {})
        return declared


INITIALISERS = {"uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_", "copy_"}
INITIALISERS |= {"kaiming_uniform_", "kaiming_normal_"}


class NoInitialisation(TorchFunctionMode):
    """Skips what initialises parameters, which takes most of the time of building a model.

    They have arbitrary values until weights are loaded. Buffers that a model computes for itself are computed.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in INITIALISERS:
            target = args[0] if args else kwargs["tensor"]
            if target.is_meta or isinstance(target, nn.Parameter):
                return target
        return func(*args, **kwargs or {})


@lru_cache(maxsize=64)
def _skeleton(definition: Definition, size: tuple[int, int] | None) -> nn.Module:
    try:
        with torch.device("meta"), NoInitialisation():
            model: nn.Module = definition.build(size)
    except NotImplementedError:  # RegNet of torchvision reads values while it is initialised
        with torch.random.fork_rng(devices=[]):
            model = definition.build(size)
    return model


def shapes_of(model: nn.Module) -> dict[str, Size]:
    """Return the shape of every tensor of a model that its computation depends on."""
    parameters = {name for name, _ in model.named_parameters()}
    return {
        name: tensor.shape
        for name, tensor in model.state_dict().items()
        if name in parameters or name.endswith(("running_mean", "running_var"))
    }


def computation(model: nn.Module) -> list[tuple[Any, ...]]:
    """Return what a model computes apart from its weights: class and settings of every module, in order.

    Two models with equal lists and equal tensors compute the same. Dropout and the size of the input do not count.
    """
    return [
        (name, type(module).__qualname__, *sorted(_settings(module)))
        for name, module in model.named_modules()
        if not isinstance(module, nn.Dropout)
    ]


def _settings(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the plain attributes of a module, and the names of functions among them."""
    for name, value in vars(module).items():
        if name.startswith("_") or name in NOT_COMPUTED:
            continue
        if isinstance(value, bool | int | float | str | tuple | list | None):
            yield name, repr(value)
        elif callable(value) and not isinstance(value, nn.Module):
            yield name, getattr(value, "__qualname__", type(value).__qualname__)


@dataclass(frozen=True)
class Signature:
    """What the table says of a definition.

    Attributes:
        definition: The definition.
        anchor: Name of its first weight, from which the prefix in a file is found.
        stem: Shape of its first convolution, as in `768x3x16x16`.
        probes: Checksums of name and shape of some of its tensors.
    """

    definition: Definition
    anchor: str
    stem: str
    probes: frozenset[int]


def checksum(name: str, shape: Iterable[int]) -> int:
    """Return the CRC-32 of a tensor's name and shape."""
    return crc32(f"{name} {'x'.join(map(str, shape))}".encode())


@cache
def signatures() -> tuple[Signature, ...]:
    """Return the table of signatures."""
    with open(TABLE, encoding="ascii", newline="") as file:
        return tuple(
            Signature(
                Definition(row["library"], row["name"]),
                row["anchor"],
                row["stem"],
                frozenset(int(probe, 16) for probe in row["probes"].split()),
            )
            for row in csv.DictReader(file)
        )


def candidates(shapes: Mapping[str, Size]) -> dict[str, list[Definition]]:
    """Return the definitions whose probes are in a file, by the prefix of their tensors ("" or ending in a dot)."""
    definitions: dict[str, list[Definition]] = {}
    by_anchor: dict[str, list[Signature]] = {}
    for signature in signatures():
        by_anchor.setdefault(signature.anchor, []).append(signature)
    anchors, sums = _anchors_by_prefix(shapes)
    for anchor, group in by_anchor.items():
        for prefix in anchors.get(anchor, ()):
            fitting = [signature.definition for signature in group if signature.probes <= sums[prefix]]
            definitions[prefix] = definitions.get(prefix, []) + fitting
    return {prefix: fitting for prefix, fitting in definitions.items() if fitting}


def _anchors_by_prefix(shapes: Mapping[str, Size]) -> tuple[dict[str, list[str]], dict[str, set[int]]]:
    """Return the prefixes that precede each anchor in a file, and the checksums of the tensors under each prefix.

    Every name is looked at once: a file may have hundreds of thousands.
    """
    names = {signature.anchor for signature in signatures()}
    anchors: dict[str, list[str]] = {}
    for name in shapes:
        for start in _part_starts(name):
            if name[start:] in names:
                anchors.setdefault(name[start:], []).append(name[:start])
    sums: dict[str, set[int]] = {prefix: set() for prefixes in anchors.values() for prefix in prefixes}
    for name, shape in shapes.items():
        for start in _part_starts(name):
            if name[:start] in sums:
                sums[name[:start]].add(checksum(name[start:], shape))
    return anchors, sums


def _part_starts(name: str) -> list[int]:
    """Return where the parts of a dotted name start."""
    return [0, *(index + 1 for index, letter in enumerate(name) if letter == ".")]


def nearest_definition(shapes: Mapping[str, Size]) -> tuple[str, Definition] | None:
    """Return the prefix and definition with most probes in a file, `None` if none has half of its probes there."""
    best: tuple[int, str, Definition] | None = None
    numbers: dict[int, list[int]] = {}  # of the signatures with a probe
    for number, signature in enumerate(signatures()):
        for probe in signature.probes:
            numbers.setdefault(probe, []).append(number)
    for prefix, sums in sorted(_anchors_by_prefix(shapes)[1].items()):
        counts = Counter(number for probe in sums & numbers.keys() for number in numbers[probe])
        for number, count in sorted(counts.items()):
            signature = signatures()[number]
            if 2 * count >= len(signature.probes) and (best is None or count > best[0]):
                best = count, prefix, signature.definition
    return None if best is None else best[1:]


def _signature_rows() -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the rows of the table for the installed libraries."""
    names = {"timm": timm.list_models(), "torchvision": torchvision.models.list_models(module=torchvision.models)}
    for library in LIBRARIES:
        for name in names[library]:
            model = Definition(library, name).skeleton()
            heads = ("fc.", "classifier.", "head.", "heads.", "AuxLogits.", "aux")  # depend on the number of classes
            shapes = {
                key: shape
                for key, shape in shapes_of(model).items()
                if not POSITIONS.fullmatch(key) and not (library == "torchvision" and key.startswith(heads))
            }
            kinds = {re.sub(r"\d+", "", key): key for key in shapes}  # the last tensor of each kind
            keys = [next(iter(shapes)), *kinds.values()]
            probes = dict.fromkeys(keys[round(i * (len(keys) - 1) / (PROBES - 1))] for i in range(PROBES))
            stem = next((shape for shape in shapes.values() if len(shape) == 4), ())
            sums = " ".join(f"{checksum(key, shapes[key]):08x}" for key in probes)
            yield library, name, keys[0], "x".join(map(str, stem)), sums


if __name__ == "__main__":
    with open(TABLE, "w", encoding="ascii", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(("library", "name", "anchor", "stem", "probes"))
        writer.writerows(_signature_rows())
