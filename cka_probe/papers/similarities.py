"""Every model's fingerprint once, and all the comparisons that follow from them, each a few milliseconds."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cka_probe.comparison.compare import compare_fingerprints, fingerprint
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.errors import OutputError
from cka_probe.models.backbone import Backbone
from cka_probe.models.layers import LayerMap
from cka_probe.models.load import load
from cka_probe.papers.study import Study


@dataclass(frozen=True)
class Images:
    """What networks are compared over.

    Attributes:
        source: As `open_dataset` takes it.
        num: How many.
        device: "auto", "cpu", "cuda" or "mps".
    """

    source: str
    num: int
    device: str = "auto"


@dataclass(frozen=True)
class ComparisonSpec:
    """One way of comparing two models.

    Attributes:
        layers: Of both.
        features: That their fingerprints are of.
        estimator: "unbiased" or "biased".
    """

    layers: LayerMap
    features: str = "flatten"
    estimator: str = "unbiased"


def write_fingerprints(
    study: Study,
    seed: int,
    models: Mapping[str, Callable[[], Backbone]],
    images: Images,
    *,
    features: Iterable[str] = ("flatten",),
    layers: Callable[[LayerMap], LayerMap] = lambda layers: layers,
) -> None:
    """Write the fingerprints of models that have none yet.

    Args:
        study: Where to.
        seed: Of the run.
        models: How to load each, by name.
        images: What they are shown.
        features: A fingerprint of each.
        layers: Takes the natural layers of an encoder and returns those of its fingerprint.
    """
    for name, make in models.items():
        missing = [kind for kind in features if not study.fingerprint(seed, name, kind).exists()]
        if not missing:
            continue
        backbone = make()
        for kind in missing:
            made = fingerprint(
                backbone,
                images.source,
                layers=layers(backbone.layers),
                num=images.num,
                features=kind,
                device=images.device,
            )
            made.save(study.fingerprint(seed, name, kind))


def write_similarities(
    study: Study, seed: int, pairs: Iterable[tuple[str, str]], ways: Mapping[str, ComparisonSpec]
) -> Iterator[Path]:
    """Write how alike pairs of models are, in each way, where it is not there yet; yield the files.

    Args:
        study: Where the fingerprints are, and where to.
        seed: Of the run.
        pairs: Names of models, (rows, columns).
        ways: By name, as the files are called.
    """
    for x, y in pairs:
        for name, way in ways.items():
            path = study.similarity(seed, x, y, name)
            if not path.exists():
                files = (study.fingerprint(seed, model, way.features) for model in (x, y))
                sides = [Fingerprint.load(file).subset(way.layers) for file in files]
                compare_fingerprints(*sides, estimator=way.estimator).save(path)
            yield path


def checkpoints(study: Study, seed: int, stages: Iterable[str]) -> dict[str, Callable[[], Backbone]]:
    """Return how to load the checkpoint of each stage.

    Raises:
        OutputError: One is not there.
    """
    models = {}
    for stage in stages:
        path = study.checkpoint(seed, stage)
        if not path.exists():
            raise OutputError(f"expected {path}, found nothing; the run did not finish")
        models[stage] = lambda path=path: load(path)
    return models
