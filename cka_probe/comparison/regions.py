"""Compare two models over parts of images: the pixels of a class, or those near the borders between classes.

The feature of an image is, for each channel c of a layer, the mean over the positions p of the layer, weighted by the
share w of the region in the area of each,

    f_c = sum_p w_p a_pc / sum_p w_p

so that an image remains one example, and intervals and nulls are those of pooled features. Without a region, all w are
1 and this is global average pooling. All regions have the same images, those in which each region is visible to both
models, so that differences between regions are paired.

Regions are names or numbers of classes, or of any labels

    border      pixels with another class within a distance of 2 % of the shorter side, at least one pixel
    interior    all other pixels of a class
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cka_probe.comparison.compare import MeasureSpec, compare_fingerprints
from cka_probe.comparison.differences import difference
from cka_probe.comparison.features import features_as_backbone
from cka_probe.comparison.fingerprint import Fingerprint, Settings
from cka_probe.comparison.model_run import ModelRun
from cka_probe.comparison.results import DifferenceMatrix, Side, SimilarityMatrix
from cka_probe.comparison.sides import Images, Options, extract_pair
from cka_probe.errors import DataError, LayerError, prefixed_errors
from cka_probe.images.classes import Classes
from cka_probe.images.conversion import eight_bits, stack_images
from cka_probe.images.datasets import Dataset, open_with_field, read_samples, sample_indices
from cka_probe.images.sample import IGNORE, Sample
from cka_probe.images.stream import BATCH, FEWEST, image_hash
from cka_probe.models.devices import pick_device
from cka_probe.models.layers import Layer, LayerMap, call_name, split_call
from cka_probe.models.layouts import infer_layout
from cka_probe.models.load import load, weights_hash, wrap
from cka_probe.models.recording import Probe, evaluating
from cka_probe.models.selection import LayerSpec, omission, select_layers
from cka_probe.progress import Progress, ProgressSpec, reporting
from cka_probe.registry import suggestion

BORDER, INTERIOR = "border", "interior"
REACH = 0.02
"""The distance from a border, in shorter sides of the image."""


@dataclass(frozen=True)
class RegionComparison:
    """Two models compared over regions of the same images.

    Attributes:
        sides: By region, the fingerprints of x and y.
        results: By region, their similarity.
        differences: Of each region but the first, its similarity minus that of the first.
    """

    sides: Mapping[str, tuple[Fingerprint, Fingerprint]]
    results: Mapping[str, SimilarityMatrix]
    differences: Mapping[str, DifferenceMatrix]

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each region and each two layers; what concerns a difference begins with `difference`."""
        frames = {region: result.to_frame() for region, result in self.results.items()}
        for region, result in self.differences.items():
            columns = result.to_frame()[["value", "low", "high", "p_value"]].add_prefix("difference_")
            frames[region] = pd.concat([frames[region], columns], axis=1)
        return pd.concat(frames, names=["region"]).reset_index(level="region").reset_index(drop=True)


def compare_regions(
    x: nn.Module | str | Path,
    y: nn.Module | str | Path,
    data: str | Path | Dataset,
    regions: Sequence[str],
    *,
    layers: LayerSpec = None,
    layers_y: LayerSpec = None,
    arch: str | None = None,
    arch_y: str | None = None,
    num: int | None = 512,
    batch: int = BATCH,
    seed: int = 0,
    size: int | Sequence[int] | None = None,
    device: str = "auto",
    measure: MeasureSpec = "cka",
    estimator: str = "unbiased",
    permutations: int = 200,
    progress: ProgressSpec = None,
) -> RegionComparison:
    """Compare two models over regions of images.

    Args:
        x: As in `compare`; no fingerprint.
        y: As x.
        data: A dataset with `labels`, or what `open_dataset` takes for one.
        regions: `border`, `interior`, or names or numbers of classes; differences are from the first.
        layers: Layers of both, which need positions; as in `compare`.
        layers_y: Layers of y, where they differ.
        arch: Architecture of files.
        arch_y: Architecture of y, where it differs.
        num: Largest number of images, a random choice.
        batch: Images in a forward pass and in a batch of Grams.
        seed: Seed of the choice of images and of the permutations.
        size: Input size of the models.
        device: Where models run.
        measure: As in `compare`.
        estimator: As in `compare`.
        permutations: As in `compare`.
        progress: True for a bar, or a function.

    Raises:
        DataError: The data have no labels or no such class, or fewer than four images have every region.
        LayerError: A layer has no positions.
    """
    dataset, source = open_with_field(data, "labels", "nyuv2:PATH or cityscapes:PATH")
    classes = getattr(dataset, "classes", None)
    masks = {region.name: region for region in (_region(name, classes, source) for name in regions)}
    if not masks:
        raise DataError(f"expected regions, found none; give classes, {BORDER} or {INTERIOR}")
    options = Options(num=num, batch=batch, seed=seed, features="gap", size=size, device=device)
    runs = [
        _model_run(model, spec, name, options.settings())
        for model, spec, name in ((x, layers, arch), (y, layers_y or layers, arch_y or arch))
    ]
    indices = sample_indices(len(dataset), num, seed)
    with reporting(progress) as report:
        samples = read_samples(dataset, indices, frozenset({"image", "labels"}))
        hashes: list[str] = []
        tables = _features(runs, _fitted(samples, runs, masks, hashes, len(indices), report), batch)
    count = len(hashes)
    if count < FEWEST:
        raise DataError(
            f"{source}: expected at least {FEWEST} images with {' and '.join(masks)}, found {count} of {len(indices)}; "
            "give more images (--num), or other regions"
        )
    sides = {
        region: _fingerprints(
            runs, [table[region] for table in tables], hashes, source, f"{region}: {count} of {len(indices)} images"
        )
        for region in masks
    }
    results = {
        region: compare_fingerprints(*pair, measure=measure, estimator=estimator, permutations=permutations)
        for region, pair in sides.items()
    }
    first, *others = sides
    differences = {
        region: difference(sides[region], sides[first], measure=measure, estimator=estimator) for region in others
    }
    return RegionComparison(sides, results, differences)


@dataclass(frozen=True)
class _Region:
    """What part of an image is a region: the pixels of a class, or near or far from borders where `number` is None."""

    name: str
    number: int | None = None

    def mask(self, labels: Tensor) -> Tensor:
        """Return (1, H, W) float32, 1 in the region, of labels (H, W)."""
        if self.number is not None:
            return (labels == self.number).float()[None]
        valid = labels != IGNORE
        reach = max(1, round(REACH * min(labels.shape)))
        numbers = labels.float()[None]
        highest, lowest = (
            sign * F.max_pool2d((sign * numbers).masked_fill(~valid, -torch.inf), 2 * reach + 1, 1, reach)
            for sign in (1, -1)
        )
        return (((highest != lowest) == (self.name == BORDER)) & valid).float()


def _region(name: str, classes: Classes | None, source: str) -> _Region:
    """Return the region of a name or number."""
    names = classes.names if classes else ()
    if name in (BORDER, INTERIOR):
        return _Region(name)
    if name in names:
        return _Region(name, names.index(name))
    if name.isdecimal() and int(name) < (len(names) or IGNORE):
        return _Region(names[int(name)] if names else name, int(name))
    expected = ", ".join((BORDER, INTERIOR, *names))
    raise DataError(
        f"no region {name!r} in {source}; {suggestion(name, (BORDER, INTERIOR, *names))}There are: {expected}"
    )


def _model_run(model: nn.Module | str | Path, layers: LayerSpec, arch: str | None, settings: Settings) -> ModelRun:
    """Return a model on its device, to be run on fitted images."""
    if not isinstance(model, nn.Module | str | Path):
        raise DataError(
            f"expected a model or its reference, found {type(model).__name__}; regions need its activations"
        )
    backbone = wrap(model) if isinstance(model, nn.Module) else load(model, arch=arch)
    if backbone.loaded:
        backbone.to(pick_device(settings.device))
    with prefixed_errors(backbone.origin.reference):
        selected = select_layers(backbone.model, layers, backbone.layers)
    size = settings.size
    preprocessing = backbone.preprocessing if size is None else backbone.preprocessing_at(size)
    return ModelRun(backbone, selected, preprocessing, settings)


_Fitted = list[tuple[Tensor, dict[str, Tensor]]]
"""Of each model, an image (C, h, w) as it sees it, and the mask (1, h, w) of each region."""


def _fitted(
    samples: Iterator[Sample],
    runs: Sequence[ModelRun],
    masks: Mapping[str, _Region],
    hashes: list[str],
    total: int,
    report: Progress,
) -> Iterator[_Fitted]:
    """Yield the images in which every region is visible to both models, as these see them, and add their hashes."""
    for done, sample in enumerate(samples):
        images, pixels = [], eight_bits(sample["image"])
        for run in runs:
            fit = run.preprocessing.fit
            parts = {name: fit(region.mask(sample["labels"]))[:1] for name, region in masks.items()}
            images.append((fit(pixels), parts))
        if all(mask.sum() > 0 for _, parts in images for mask in parts.values()):
            hashes.append(image_hash(pixels))
            yield images
        report(done + 1, total)


_Table = dict[str, dict[str, Tensor]]
"""Features (n, C) of one model, by region and by module."""


def _features(runs: Sequence[ModelRun], images: Iterator[_Fitted], batch: int) -> list[_Table]:
    """Return the features of each model."""
    rows: list[dict[str, dict[str, list[Tensor]]]] = [{} for _ in runs]
    for group in _groups(images, batch):
        for run, table, column in zip(runs, rows, zip(*group, strict=True), strict=True):
            stack = stack_images([image for image, _ in column])
            masks = {name: torch.stack([parts[name] for _, parts in column]) for name in column[0][1]}
            with evaluating(run.backbone.model), prefixed_errors(run.backbone.origin.reference):
                if not run.probed:
                    outputs = run.probe([stack], keep=False)
                    run.choose_layers(outputs)
                    _choose_positions(run, outputs, stack.shape)
                run.run_once(stack, partial(_add_means, run, table, masks, stack.shape))
    return [
        {region: {module: torch.cat(parts) for module, parts in modules.items()} for region, modules in table.items()}
        for table in rows
    ]


def _choose_positions(run: ModelRun, outputs: Probe, shape: tuple[int, ...]) -> None:
    """Keep the layers that have positions; of a glob and of the default layers, others are left out with a warning.

    Raises:
        LayerError: A layer that was named has none, or no layer has.
    """
    kept: list[Layer] = []
    omitted: dict[str, list[str]] = {}
    for layer in run.layers:
        path, call = split_call(layer.module)
        place = outputs.places[call_name(path, call or 1)]
        lengths = list(outputs.calls[path][(call or 1) - 1].shapes[place.tensor or 0])
        try:
            infer_layout((lengths.pop(place.axis), *lengths), (shape[-2], shape[-1]), path, run.backbone.model)
        except LayerError:
            if not layer.pattern or (layer is run.layers[-1] and not kept):
                raise
            omitted.setdefault(layer.pattern, []).append(layer.name)
        else:
            kept.append(layer)
    run.layers = LayerMap(tuple(kept), run.layers.rule)
    run.warnings += tuple(omission(pattern, "no positions in the image", names) for pattern, names in omitted.items())


def _groups(images: Iterator[_Fitted], batch: int) -> Iterator[list[_Fitted]]:
    """Yield up to `batch` images in a row whose sizes are equal for each model."""
    group: list[_Fitted] = []
    for image in images:
        if group and (
            len(group) == batch or any(a.shape != b.shape for (a, _), (b, _) in zip(group[0], image, strict=True))
        ):
            yield group
            group = []
        group.append(image)
    if group:
        yield group


def _add_means(
    run: ModelRun,
    table: dict[str, dict[str, list[Tensor]]],
    masks: Mapping[str, Tensor],
    shape: tuple[int, ...],
    module: str,
    activation: Tensor,
) -> None:
    """Add the means of an activation over each region to the features of a module."""
    pixels = (shape[-2], shape[-1])
    layout = infer_layout(tuple(activation.shape), pixels, split_call(module)[0], run.backbone.model)
    positions = layout.feature_map(activation).float()
    for region, mask in masks.items():
        weights = F.adaptive_avg_pool2d(mask.to(positions.device), (positions.shape[2], positions.shape[3]))
        means = (positions * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3))
        table.setdefault(region, {}).setdefault(module, []).append(means.cpu())


def _fingerprints(
    runs: Sequence[ModelRun], tables: Sequence[dict[str, Tensor]], hashes: Sequence[str], source: str, note: str
) -> tuple[Fingerprint, Fingerprint]:
    """Return the fingerprints of features of one region, with the models, layers and images that gave them."""
    settings = runs[0].settings
    rows = np.argsort(sample_indices(len(hashes), None, settings.seed))  # so that rows in random order are as they were
    x, y = (
        features_as_backbone({layer.module: table[layer.module][rows] for layer in run.layers})
        for run, table in zip(runs, tables, strict=True)
    )
    nothing, options = (None, None), Options(num=None, batch=settings.batch, seed=settings.seed)
    sides = extract_pair(x, y, Images(None), nothing, nothing, options)
    first, second = (
        replace(
            side,
            layers=run.layers,
            images=tuple(hashes),
            source=source,
            settings=settings,
            side=Side(
                reference=run.backbone.origin.reference,
                architecture=run.backbone.origin.architecture,
                hash=weights_hash(run.backbone.model),
                preprocessing=run.preprocessing.record,
                notes=(*run.backbone.origin.notes, note),
                warnings=run.warnings,
            ),
        )
        for side, run in zip(sides, runs, strict=True)
    )
    return first, second
