"""Every checkpoint's fingerprint once, and all the comparisons that follow from them.

A figure of the paper compares a pre-trained network with itself (and shows its first row) or with its fine-tuned
successor (and shows the diagonal). Fingerprints make each of these a few milliseconds, so every one is done in five
ways, of which the paper shows one without saying which:

    paper    unbiased, whole activations, each network fed as it was trained, the nine layers of Table 4
    biased   the same with the biased estimator, which independent features inflate
    pooled   the same over features averaged within each image
    stream   unbiased, with the residual stream in place of norm1 at the same depths: with one kind of layer throughout
    shared   as `paper`, the fine-tuned network fed as the pre-trained one; where the two were fed otherwise
"""

from collections.abc import Callable
from pathlib import Path

from cka_probe.comparison.compare import compare
from cka_probe.models.backbone import Backbone
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.papers.similarities import ComparisonSpec, Images, write_fingerprints
from cka_probe.papers.study import Study

RANDOM = "random"
"""The stage that no checkpoint is of: the network as it was initialised."""


def ways(nine: LayerMap) -> dict[str, ComparisonSpec]:
    """Return the ways that follow from fingerprints, for the layers of the paper."""
    return {
        "paper": ComparisonSpec(nine),
        "biased": ComparisonSpec(nine, estimator="biased"),
        "stream": ComparisonSpec(stream(nine)),
        "pooled": ComparisonSpec(nine, features="gap"),
    }


def stream(nine: LayerMap) -> LayerMap:
    """Return the layers with the output of its block in place of each norm1: the residual stream at that depth.

    >>> stream(LayerMap.of(["layers.1.downsample.norm", "layers.2.blocks.3.norm1"])).modules
    ('layers.1.downsample.norm', 'layers.2.blocks.3')
    """
    return LayerMap(
        tuple(Layer(layer.name.removesuffix(".norm1"), layer.module.removesuffix(".norm1")) for layer in nine)
    )


def fingerprints(study: Study, seed: int, models: dict[str, Callable[[], Backbone]], images: Images) -> None:
    """Write the fingerprints that all ways need, of checkpoints that have none yet; arguments as there."""
    write_fingerprints(
        study, seed, models, images, features=("flatten", "gap"), layers=lambda nine: nine.union(stream(nine))
    )


def fed_alike(
    study: Study, seed: int, pair: tuple[str, str], models: dict[str, Callable[[], Backbone]], images: Images
) -> Path:
    """Write how alike two checkpoints are when the second is fed as the first, and return the file."""
    path = study.similarity(seed, *pair, "shared")
    if not path.exists():
        compare(
            *(models[stage]() for stage in pair),
            images.source,
            num=images.num,
            preprocess="shared",
            device=images.device,
        ).save(path)
    return path
