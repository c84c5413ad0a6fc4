"""Top-1 and top-5 accuracy of a classifier, and how the classes of a dataset are matched with its outputs.

An image is correct at k if fewer than k outputs come before that of its class: are larger, or as large and of a lower
number. All outputs of the network compete, also those of classes that the dataset lacks. An image is resized so that it
just covers the network's input and cropped to its centre, as in `compare`; protocols that crop more (timm's `crop_pct`)
have other numbers.

Class k of a dataset is not output k of a network unless something says so. In this order:

1. a list of the network's classes, one name or WordNet id a line, in the order of its outputs (`--classes`);
2. WordNet ids as the names of the dataset's classes, for a network with as many outputs as an ImageNet has classes;
3. the names that the network records, or ImageNet's names if it has 1000 outputs, if they include every class;
4. the order of the dataset's classes, if it has as many as the network has outputs and the network records no other
   names; the result says that it is assumed. Names that are numbers of another order (0, 1, 10, 2) are refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cka_probe.attribution.networks import Network
from cka_probe.attribution.targets import tensor_in
from cka_probe.errors import CheckpointError, DataError
from cka_probe.images.conversion import stack_images, to_batch, to_example
from cka_probe.images.sample import Sample
from cka_probe.lab.evaluation.image_run import ImageRun
from cka_probe.lab.evaluation.protocol import ClassProtocol
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.models.checkpoint import versions
from cka_probe.models.recording import model_errors

WORDNET = re.compile(r"n\d{8}")
"""A WordNet id of a noun."""
PLACEHOLDER = re.compile(r"(label|class)?[ _]?\d+", re.IGNORECASE)
"""A name that a library gives a class without one."""
IMAGENETS = {
    1000: "imagenet-1k",
    11221: "imagenet-21k-miil",
    11821: "imagenet-12k",
    21841: "imagenet-22k",
    21842: "imagenet-22k-ms",
    21843: "imagenet-21k-goog",
}
"""timm's names of the ImageNets by their number of classes."""
IN_ORDER = "assumed: output k is the k-th class by name, as there are as many"


@dataclass(frozen=True)
class ClassMap:
    """Which output of a network each class of a dataset is.

    Attributes:
        outputs: By the name of the class.
        rule: How they were matched, in words.
    """

    outputs: Mapping[str, int]
    rule: str


def map_classes(
    names: Sequence[str], count: int, recorded: Sequence[str] = (), file: str | Path | None = None
) -> ClassMap:
    """Return which output of a network each class of a dataset is; see the rules of this module.

    Args:
        names: The classes of the dataset, in order.
        count: The number of the network's outputs.
        recorded: The names of the network's classes, if it records them.
        file: A text file with the network's classes.

    Raises:
        DataError: The classes cannot be matched.

    >>> map_classes(["n01443537", "n01440764"], 1000).outputs
    {'n01443537': 1, 'n01440764': 0}
    >>> map_classes(["cat", "dog"], 2).rule
    'assumed: output k is the k-th class by name, as there are as many'
    """
    if file is not None:
        return ClassMap(_matched(names, _read_classes(file, count), str(file)), f"names in {file}")
    if count in IMAGENETS and all(WORDNET.fullmatch(name) for name in names):
        from timm.data import ImageNetInfo

        info = ImageNetInfo(IMAGENETS[count])
        return ClassMap(_matched(names, info.label_names(), IMAGENETS[count]), f"WordNet ids of {IMAGENETS[count]}")
    numbers = _numbers_by_name(recorded)
    if recorded and len(recorded) == count and any(name in numbers for name in map(_plain, names)):
        return ClassMap(_matched(names, recorded, "the network's classes"), "names of the network's classes")
    named = len(recorded) == count and not all(PLACEHOLDER.fullmatch(name) for name in recorded)
    if len(names) == count and not named:
        if all(name.isdecimal() for name in names) and sorted(names, key=int) != list(names):
            raise DataError(
                f"expected names of classes, found numbers, whose order by name ({_some(names)}) is not that of their "
                "values; give --classes FILE with them, one a line, in the order of the network's outputs"
            )
        return ClassMap({name: number for number, name in enumerate(names)}, IN_ORDER)
    others = f", {_some(recorded)}" if named and count not in IMAGENETS else ""
    raise DataError(
        f"expected {count} classes, one for each output of the network, or names that say which output each is "
        f"(WordNet ids, names of ImageNet's classes{others}), found {len(names)} "
        f"({_some(names)}); give --classes FILE with "
        "the names of the network's classes, one a line"
    )


def _read_classes(file: str | Path, count: int) -> list[str]:
    """Return the lines of a file of class names."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}: expected a text file with a class a line, found none ({error}); correct it"
        ) from error
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) != count:
        raise DataError(
            f"{file}: expected {count} lines, one for each output of the network, found {len(lines)}; complete it"
        )
    return lines


def _matched(names: Sequence[str], classes: Sequence[str], source: str) -> dict[str, int]:
    """Return the number of each name among classes.

    Raises:
        DataError: A name is not one of them, or that of several.
    """
    numbers = _numbers_by_name(classes)
    matches = {name: numbers.get(_plain(name), []) for name in names}
    missing = [name for name in names if not matches[name]]
    if missing:
        raise DataError(
            f"expected every class of the images in {source}, found {len(missing)} of {len(names)} that are not there "
            f"({_some(missing)}); rename them, or give --classes FILE"
        )
    for name, match in matches.items():
        if len(match) > 1:
            raise DataError(
                f"expected one class of {source} for {name!r}, found {len(match)} ({', '.join(map(str, match))}); name "
                "it by its WordNet id, or give --classes FILE with distinct names"
            )
    numbered: dict[int, str] = {}
    for name, (number,) in matches.items():
        if (other := numbered.setdefault(number, name)) != name:
            raise DataError(
                f"expected a class of {source} for each name, found one for {other!r} and {name!r}; rename one"
            )
    return {name: match[0] for name, match in matches.items()}


def _numbers_by_name(classes: Sequence[str]) -> dict[str, list[int]]:
    """Return the numbers of classes by name: a whole line, a synonym between commas, or a WordNet id at its start."""
    numbers: dict[str, list[int]] = {}
    for number, line in enumerate(classes):
        first, _, rest = line.strip().partition(" ")
        words = {first, rest, *rest.split(",")} if WORDNET.fullmatch(first) else {line, *line.split(",")}
        for name in {_plain(word) for word in words} - {""}:
            numbers.setdefault(name, []).append(number)
    return numbers


def _some(names: Sequence[str]) -> str:
    """Return the first names, for a message."""
    return ", ".join(names[:3]) + " …" * (len(names) > 3)


def _plain(name: str) -> str:
    """Return a name of a class for comparison: without case, and with spaces for underscores."""
    return " ".join(name.replace("_", " ").lower().split())


def rank_of(logits: Tensor, categories: Tensor) -> Tensor:
    """Return how many outputs come before that of the true class, (n,) int64.

    Args:
        logits: (n, K).
        categories: (n,) int64.

    >>> rank_of(torch.tensor([[2.0, 3.0, 2.0], [1.0, 1.0, 1.0]]), torch.tensor([2, 0]))
    tensor([2, 0])
    """
    values = logits.gather(1, categories[:, None])
    before = (logits == values) & (torch.arange(logits.shape[1], device=logits.device) < categories[:, None])
    return ((logits > values) | before).sum(1)


def num_outputs(network: Network, device: torch.device) -> int:
    """Return how many classes a network tells apart, from a trial run on a grey image.

    Raises:
        DataError: It does not put out logits (n, K).
    """
    preprocessing = network.backbone.preprocessing
    image = torch.full((1, preprocessing.channels or 3, *(preprocessing.size or (224, 224))), 0.5, device=device)
    with torch.inference_mode(), network.evaluating():
        return _logits(network, image).shape[1]


def score_classes(run: ImageRun, network: Network, protocol: ClassProtocol) -> Scores:
    """Return the scores of a classifier, on its device.

    Args:
        run: The images, each with a `category`.
        network: The classifier.
        protocol: How it is scored.

    Raises:
        CheckpointError: Logits are not finite.
        DataError: The classes cannot be matched.
    """
    vocabulary = getattr(run.dataset, "classes", None)
    if vocabulary is None:
        raise DataError(
            f"expected a dataset with names of its classes, found {run.source} without; give imagenet:FOLDER"
        )
    count = num_outputs(network, run.device)
    classes = map_classes(vocabulary.names, count, network.class_names, protocol.classes)
    outputs = torch.tensor([classes.outputs[name] for name in vocabulary.names])

    def predict(batch: list[Sample]) -> Tensor:
        examples = [network.backbone.preprocessing.fit(to_example(sample["image"])) for sample in batch]
        images = to_batch(stack_images(examples)).to(run.device, network.backbone.dtype or torch.float32)
        with network.evaluating():
            logits = _logits(network, images)
            return (logits + _logits(network, images.flip(-1))) / 2 if protocol.flip_test else logits

    def score(name: str, sample: Sample, logits: Tensor) -> dict[str, float]:
        if not logits.isfinite().all():
            raise CheckpointError(f"{name}: expected finite logits, found NaN or infinity; check the weights")
        category = outputs[sample["category"]].to(logits.device)[None]
        rank = int(rank_of(logits[None], category))
        return {
            "top1": float(rank < 1),
            **({"top5": float(rank < 5)} if count > 5 else {}),
            "cross_entropy": float(cross_entropy(logits[None].double(), category)),
            "category": float(category),
            "predicted": float(logits.argmax()),
        }

    rows = run.results(frozenset({"image", "category"}), score, predict)
    settings = protocol.recorded() | {"outputs": count, "matching": classes.rule}
    data = run.describe() | {"classes": dict(classes.outputs)}
    model, size = network.describe(), network.size
    model |= {"task": model["task"] or "classification", "size": list(size) if size else None}
    return Scores(pd.DataFrame(rows, index=run.names), model, data, settings, versions())


def _logits(network: Network, images: Tensor) -> Tensor:
    """Return the logits (n, K) of images, float32."""
    with model_errors(network.root):
        output = network.predict(images)
    logits = tensor_in(output, ("logits", "out")).float()
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise DataError(
            f"{network.reference}: expected a classifier with logits (n, classes), found {tuple(logits.shape)}; give a "
            "classifier, or a checkpoint of `ckaprobe train` that predicts depth or labels"
        )
    return logits
