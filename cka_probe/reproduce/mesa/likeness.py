"""Every checkpoint's fingerprint once, and all the comparisons that follow from them.

A figure of the paper compares a pre-trained network with itself (and shows its first row) or with its fine-tuned
successor (and shows the diagonal). Fingerprints make each of these a few milliseconds, so every one is done in five
ways, of which the paper shows one without saying which:

    paper    unbiased, whole activations, each network fed as it was trained, the nine layers of Table 4
    biased   the same with the biased estimator, which independent features inflate
    pooled   the same over features averaged within each picture
    stream   unbiased, with the residual stream in place of norm1 at the same depths: with one kind of layer throughout
    shared   as `paper`, the fine-tuned network fed as the pre-trained one; where the two were fed otherwise
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cka_probe.compare import compare, compare_fingerprints, fingerprint
from cka_probe.errors import OutputError
from cka_probe.fingerprint import Fingerprint
from cka_probe.models.backbone import Backbone
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.models.load import load
from cka_probe.reproduce.study import Study

FEATURES = {"paper": "flatten", "biased": "flatten", "stream": "flatten", "pooled": "gap"}
"""The features that each way of comparing needs."""

RANDOM = "random"
"""The stage that no checkpoint is of: the network as it was initialised."""


@dataclass(frozen=True)
class Pictures:
    """What networks are compared over.

    Attributes:
        source: As `open_dataset` takes it.
        num: How many.
        device: "auto", "cpu", "cuda" or "mps".
    """

    source: str
    num: int
    device: str = "auto"


def stream(nine: LayerMap) -> LayerMap:
    """Return the layers with the output of its block in place of each norm1: the residual stream at that depth.

    >>> stream(LayerMap.of(["layers.1.downsample.norm", "layers.2.blocks.3.norm1"])).modules
    ('layers.1.downsample.norm', 'layers.2.blocks.3')
    """
    return LayerMap(
        tuple(Layer(layer.name.removesuffix(".norm1"), layer.module.removesuffix(".norm1")) for layer in nine)
    )


def fingerprints(study: Study, seed: int, models: dict[str, Callable[[], Backbone]], pictures: Pictures) -> None:
    """Write the fingerprints of checkpoints that have none yet.

    Args:
        study: Where to.
        seed: Of the run.
        models: How to load each, by stage.
        pictures: What they are shown.
    """
    for stage, make in models.items():
        missing = [kind for kind in sorted(set(FEATURES.values())) if not study.fingerprint(seed, stage, kind).exists()]
        if not missing:
            continue
        backbone = make()
        for features in missing:
            made = fingerprint(
                backbone,
                pictures.source,
                layers=backbone.layers.union(stream(backbone.layers)),
                num=pictures.num,
                features=features,
                device=pictures.device,
            )
            made.save(study.fingerprint(seed, stage, features))


def similarities(study: Study, seed: int, pairs: list[tuple[str, str]], nine: LayerMap) -> Iterator[Path]:
    """Write how alike pairs of checkpoints are, in every way that fingerprints allow; yield the files.

    Args:
        study: Where the fingerprints are, and where to.
        seed: Of the run.
        pairs: Stages, (rows, columns).
        nine: The layers of the paper.
    """
    for x, y in pairs:
        for variant, features in FEATURES.items():
            path = study.similarity(seed, x, y, variant)
            if not path.exists():
                layers = stream(nine) if variant == "stream" else nine
                sides = [Fingerprint.load(study.fingerprint(seed, stage, features)).subset(layers) for stage in (x, y)]
                estimator = "biased" if variant == "biased" else "unbiased"
                compare_fingerprints(*sides, estimator=estimator).save(path)
            yield path


def fed_alike(
    study: Study, seed: int, pair: tuple[str, str], models: dict[str, Callable[[], Backbone]], pictures: Pictures
) -> Path:
    """Write how alike two checkpoints are when the second is fed as the first, and return the file."""
    path = study.similarity(seed, *pair, "shared")
    if not path.exists():
        compare(
            *(models[stage]() for stage in pair),
            pictures.source,
            num=pictures.num,
            preprocess="shared",
            device=pictures.device,
        ).save(path)
    return path


def checkpoints(study: Study, seed: int, stages: list[str]) -> dict[str, Callable[[], Backbone]]:
    """Return how to load the checkpoint of each stage.

    Raises:
        OutputError: One is not there.
    """
    for stage in stages:
        if not study.checkpoint(seed, stage).exists():
            raise OutputError(f"expected {study.checkpoint(seed, stage)}, found nothing; the run did not finish")
    return {stage: lambda stage=stage: load(study.checkpoint(seed, stage)) for stage in stages}
