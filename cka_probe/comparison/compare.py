"""Compare two models over images: fingerprints of both, and from these a `SimilarityMatrix`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, combinations
from pathlib import Path
from typing import Any

import torch

from cka_probe import registry
from cka_probe.comparison.family import family_of
from cka_probe.comparison.fingerprint import Fingerprint, pairing_of
from cka_probe.comparison.groups import Copies, duplicates, name_copies, units_of, with_groups, without_copies
from cka_probe.comparison.moments import ALL, compare_moments
from cka_probe.comparison.results import MATRICES, Axis, SimilarityMatrix
from cka_probe.comparison.sides import (
    UNSET,
    Entry,
    Images,
    Model,
    Options,
    Unset,
    extract_pair,
    extract_sides,
    fingerprints_and_models,
    pair_entries,
)
from cka_probe.errors import DataError
from cka_probe.models.checkpoint import versions
from cka_probe.models.selection import LayerSpec
from cka_probe.progress import ProgressSpec
from cka_probe.similarity import (
    ESTIMATORS,
    Cells,
    Measure,
    centre_batches,
    choose_measure,
    cka_cells,
    group_cells,
    measured_cells,
)
from cka_probe.similarity.cka import DOUBLY_UNBIASED, RANGE
from cka_probe.similarity.feature_sampling import sampled_cells
from cka_probe.similarity.features import tokens_per_image

MeasureSpec = str | Measure | Callable[[torch.Tensor, torch.Tensor], Any]
"""A name in `MEASURES`, a `Measure`, or a function of two centred Grams; see `choose_measure`."""
APPROXIMATED = "Pearson type III"
"""How the null of one batch of all images is approximated."""
TOO_FEW = "its HSIC with itself is not positive: too few images for what it varies"
TOO_FEW_FEATURES = "its HSIC with itself is not positive: too few images or sampled features for what it varies"
TOO_LARGE = "its HSIC with itself is too large for float64; scale its features"
TOO_SMALL = "its HSIC with itself is too small for float64; scale its features"


def compare(
    x: Model,
    y: Model,
    images: Any = None,
    *,
    images_y: Any = None,
    pair: str | None = None,
    layers: LayerSpec = None,
    layers_y: LayerSpec = None,
    arch: str | None = None,
    arch_y: str | None = None,
    base: str | Path | None = None,
    measure: MeasureSpec = "cka",
    estimator: str = "unbiased",
    permutations: int = 200,
    progress: ProgressSpec = None,
    num: int | Unset | None = UNSET,
    batch: int | str | Unset | None = UNSET,
    seed: int | Unset = UNSET,
    features: str | Unset = UNSET,
    precision: str | Unset = UNSET,
    preprocess: str | Unset = UNSET,
    size: int | str | Sequence[int] | Unset | None = UNSET,
    normalised: bool | Unset = UNSET,
    device: str = "auto",
    skip_bad: bool = False,
    workers: int | None = None,
    forward_batch: int | None = None,
    memory: int | str | None = None,
    decode_size: int | Unset | None = UNSET,
    num_features: int | Unset | None = UNSET,
) -> SimilarityMatrix:
    """Return the similarity of every layer of x with every layer of y over the same images; by default linear CKA.

    A model that is both x and y runs once. A fingerprint needs no forward pass, and its `num`, `batch`, `seed`,
    `features`, `precision`, `preprocess`, `size`, `normalised`, `decode_size` and `num_features` are used for the other
    side as well.

    Args:
        x: The rows: a module, a fingerprint, a reference (a checkpoint, `random:resnet18`, …), or features: an array
            (n, p) or (n, ...), several by name, or a file of them. Features are paired by row, all rows by default.
        y: The columns.
        images: A folder, dataset, `DataLoader`, tensor, array or any iterable of images or batches, read once for
            both; see `stream_images`. Not needed if both sides are fingerprints or features.
        images_y: Other images for y, paired with those of x: image i of y belongs to image i of x, such as its noisy
            copy; `num` and `seed` choose pairs. By default y sees the images of x.
        pair: How images of x and y are paired: `name` (path without suffix) or `order`. By default by name if both are
            folders or datasets with names, which have to agree, else by order. For two fingerprints of other images,
            `order` pairs them.
        layers: Layers of both sides, see `select_layers`; by default the default layers of each.
        layers_y: Layers of y, where they differ.
        arch: Architecture of the files of both sides, as in `load`; by default identified by their tensors.
        arch_y: Architecture of y, where it differs; "auto" to identify it.
        base: File or folder of the model that LoRA adapters among x and y were trained on.
        measure: A name in `similarity.MEASURES` (`cka`, `rsa`, `mutual_knn`, `procrustes`, …), or a function of two
            centred Grams (n, n) that returns a number. All but CKA depend on how many images are in a batch.
        estimator: Estimator of CKA, `unbiased` (Song et al. 2012), `biased` (Gretton et al. 2005) or, with
            `num_features`, `doubly_unbiased` (Chun et al. 2025): the CKA of infinitely many features of the same kind.
        permutations: Number of permutations for the null; 0 for none.
        progress: True for a bar on stderr, or a function called as `progress(images_done, total_or_none)`.
        num: Largest number of images, None for all; by default 512.
        batch: Images in a batch; by default 64, or the batches of an iterable. `all` for one batch of all images,
            of CKA: from sums over images if features are pooled (`gap`) or matrices, so that an image adds about 150
            bytes to the memory, else from Grams in a temporary file (in `TMPDIR`, if that is set). Its null is an
            approximation (`similarity.moments`), and so are intervals from sums of more than 4,096 images.
        seed: Seed of the choice of images and of the permutations; by default 0.
        features: `flatten` (default), `gap`, `tokens` or `tokens:7`.
        precision: `float32` (default), `tf32` (of GPUs of CUDA) or `bfloat16`.
        preprocess: `own` (default; each model has its own size, mean and std) or `shared` (both have those of x).
        size: Input size of both models in pixels, one number, (height, width) or "HEIGHTxWIDTH", in place of their own;
            a model of a fixed size refuses others.
        normalised: The images are normalised floats of the models' input size: both models get them as they are.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        skip_bad: Skip unreadable images, which the result lists, instead of stopping at the first.
        workers: Number of threads that read, resize and hash images; by default as many as there are cores, at most
            16; 0 for none. The result is the same.
        forward_batch: Images in a forward pass; by default those of a batch. Fewer need less memory, more are faster
            where `batch` is small; values differ by rounding at most. On a GPU of CUDA, a trial decides by default how
            many of a batch fit. Where memory does not suffice, it is halved.
        memory: In place of `forward_batch`, on a GPU of CUDA: the most memory that a forward pass may take, a number of
            bytes or such as "20GB".
        decode_size: Decode JPEGs of a folder at 1/2, 1/4 or 1/8 of their size, where both sides keep at least so many
            pixels: faster and in less memory for large photographs, and slightly different images. At least twice the
            input size of the models; by default at full size.
        num_features: Most features of a layer; of wider layers a random sample, for which CKA, its interval and its
            null are corrected. At least 16; by default all. See `similarity.feature_sampling`.

    Returns:
        Values with 95 % intervals, the null, and a record of models, images and settings.

    Raises:
        CkaProbeError: One line: what was expected, what was found, what to do.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    >>> compare(net, net, torch.randn(16, 6), layers=["0", "2"]).values.shape
    (2, 2)
    """
    method = choose_measure(measure, estimator)
    everything = batch == ALL
    if isinstance(batch, str):
        if not everything:
            raise DataError(f"expected a number of images or 'all' for batch, found {batch!r}")
        batch = UNSET
    options = Options(
        num, batch, seed, features, precision, preprocess, size, normalised, base, device, skip_bad, workers,
        forward_batch, progress, decode_size=decode_size, memory=memory, num_features=num_features,
    )  # fmt: skip
    selection = (layers, layers_y), (arch, arch_y)
    check_sampling([x, y], num_features, method, estimator, everything)
    if everything:
        return compare_all_images(
            x,
            y,
            Images(images, images_y, pair),
            *selection,
            options,
            measure=method,
            estimator=estimator,
            permutations=permutations,
        )
    first, second = extract_pair(x, y, Images(images, images_y, pair), *selection, options)
    result = compare_fingerprints(
        first,
        second,
        pair=pair if images_y is None else None,
        measure=method,
        estimator=estimator,
        permutations=permutations,
    )
    if images is None or images_y is not None:
        return result
    return name_copies({"": result}, images, first)[""]


def compare_all_images(
    x: Model,
    y: Model,
    images: Images,
    layers: tuple[LayerSpec, LayerSpec],
    archs: tuple[str | None, str | None],
    options: Options,
    *,
    measure: MeasureSpec = "cka",
    estimator: str = "unbiased",
    permutations: int = 200,
    folder: Path | None = None,
) -> SimilarityMatrix:
    """Return CKA over all images as one batch; arguments as in `extract_pair` and `compare`.

    Flattened features and their Grams are written to unnamed files in `folder`, by default the system's for temporary
    files.
    """
    method = choose_measure(measure, estimator)
    entries = pair_entries(x, y, images, layers, archs)
    (first, second), cells = compare_moments(entries, images, options, method, estimator, permutations, folder)
    result = matrix_of(first, second, cells, pairing_of(first, second), method, estimator, permutations)
    result = with_groups(result, duplicates(first, second))
    null = {"permutations": None, "null": APPROXIMATED} if permutations else {}
    return replace(result, settings={**result.settings, "batch": ALL, **null})


def fingerprints(
    x: Model,
    y: Model,
    images: Any = None,
    *,
    images_y: Any = None,
    pair: str | None = None,
    layers: LayerSpec = None,
    layers_y: LayerSpec = None,
    arch: str | None = None,
    arch_y: str | None = None,
    base: str | Path | None = None,
    progress: ProgressSpec = None,
    num: int | Unset | None = UNSET,
    batch: int | Unset | None = UNSET,
    seed: int | Unset = UNSET,
    features: str | Unset = UNSET,
    precision: str | Unset = UNSET,
    preprocess: str | Unset = UNSET,
    size: int | str | Sequence[int] | Unset | None = UNSET,
    normalised: bool | Unset = UNSET,
    device: str = "auto",
    skip_bad: bool = False,
    workers: int | None = None,
    forward_batch: int | None = None,
    memory: int | str | None = None,
    decode_size: int | Unset | None = UNSET,
    num_features: int | Unset | None = UNSET,
) -> tuple[Fingerprint, Fingerprint]:
    """Return the fingerprints that `compare` compares, from one pass over the images; arguments as in `compare`.

    Saved fingerprints can later be compared by another measure or with a third model, and two comparisons of them can
    be subtracted image by image.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    >>> x, y = fingerprints(net, net, torch.randn(16, 6), layers=["0"], layers_y=["2"])
    >>> x.layers.names, y.layers.names
    (('0',), ('2',))
    """
    options = Options(
        num, batch, seed, features, precision, preprocess, size, normalised, base, device, skip_bad, workers,
        forward_batch, progress, decode_size=decode_size, memory=memory, num_features=num_features,
    )  # fmt: skip
    return extract_pair(x, y, Images(images, images_y, pair), (layers, layers_y), (arch, arch_y), options)


def fingerprint(
    model: Model,
    images: Any = None,
    *,
    layers: LayerSpec = None,
    arch: str | None = None,
    base: str | Path | None = None,
    progress: ProgressSpec = None,
    num: int | Unset | None = UNSET,
    batch: int | Unset | None = UNSET,
    seed: int | Unset = UNSET,
    features: str | Unset = UNSET,
    precision: str | Unset = UNSET,
    preprocess: str | Unset = UNSET,
    size: int | str | Sequence[int] | Unset | None = UNSET,
    normalised: bool | Unset = UNSET,
    device: str = "auto",
    skip_bad: bool = False,
    workers: int | None = None,
    forward_batch: int | None = None,
    memory: int | str | None = None,
    decode_size: int | Unset | None = UNSET,
    num_features: int | Unset | None = UNSET,
    shard: str | None = None,
) -> Fingerprint:
    """Return the fingerprint of one model over images; arguments as in `compare`.

    With a `shard`, such as `3/16`, it is of every 16th batch, the third first. Only all shards together, joined by
    `comparison.shards.join_shards`, can be compared.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU())
    >>> fingerprint(net, torch.randn(8, 6), layers="*").layers.names
    ('0', '1')
    """
    options = Options(
        num, batch, seed, features, precision, preprocess, size, normalised, base, device, skip_bad, workers,
        forward_batch, progress, shard, decode_size, memory, num_features,
    )  # fmt: skip
    return extract_sides([Entry(model, layers, arch)], Images(images), options)[0]


def compare_fingerprints(
    x: Fingerprint,
    y: Fingerprint,
    *,
    pair: str | None = None,
    measure: MeasureSpec = "cka",
    estimator: str = "unbiased",
    permutations: int = 200,
    groups: Sequence[Any] | None = None,
    merge_duplicates: bool = False,
) -> SimilarityMatrix:
    """Return the similarity of two fingerprints, without a model, an image or a forward pass.

    Args:
        x: The rows.
        y: The columns; a fingerprint of the same images in the same batches, or one that was made as a pair with x.
        pair: `order` to pair the images of any two fingerprints by their order.
        measure: As in `compare`.
        estimator: Estimator of CKA, `unbiased`, `biased` or, of sampled features, `doubly_unbiased`.
        permutations: Number of permutations for the null; 0 for none.
        groups: Of each image, the video, scene or class that it shares with others, for CKA: any labels.
        merge_duplicates: Use one image of each group of copies, see `comparison.groups`.

    Raises:
        FingerprintError: They are of different images, batches or features.
        DataError: The groups are not those of the images, or the measure is not CKA.

    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    >>> print_ = fingerprint(net, torch.randn(8, 6), layers="0,1")
    >>> compare_fingerprints(print_, print_, permutations=0).values.diagonal().round(6)
    array([1., 1.])
    """
    pairing = pairing_of(x, y, pair, sampled=True)
    method = choose_measure(measure, estimator)
    check_sampling([], x.settings.num_features, method, estimator)
    if x.settings.num_features is not None:
        return _compare_samples(x, y, pairing, method, estimator, permutations, groups, merge_duplicates)
    hsic = registry.get(ESTIMATORS, estimator, "estimator")
    units = None if groups is None else units_of(groups, x, method, estimator)
    copies = duplicates(x, y)
    if merge_duplicates and copies:
        x, y = without_copies(x, y, units)
    options: dict[str, Any] = {
        "permutations": permutations,
        "seed": x.settings.seed,
        "per_image": tokens_per_image(x.settings.features),
    }
    if units is not None:
        cells = group_cells(x.defined_grams, y.defined_grams, units, permutations=permutations, seed=x.settings.seed)
    elif method.sums:
        cells = cka_cells(x.defined_grams, y.defined_grams, hsic, **options)
    else:
        cells = measured_cells(x.defined_grams, y.defined_grams, method, **options)
    result = matrix_of(x, y, cells, pairing, method, estimator, permutations)
    return with_groups(result, copies, merge_duplicates, units)


def check_sampling(
    models: Sequence[Model],
    num_features: int | Unset | None,
    measure: Measure,
    estimator: str,
    everything: bool = False,
) -> None:
    """Raise `DataError` unless the measure is one of a sample of features, if features are sampled.

    Args:
        models: If the number of features is not set, models or fingerprints that set it; all of none.
        num_features: Number of features at most.
        measure: The measure.
        estimator: Its estimator.
        everything: Whether all images are to be one batch of sums.
    """
    if num_features is UNSET and (estimator != DOUBLY_UNBIASED or fingerprints_and_models(models)[0]):
        return
    if num_features in (None, UNSET):
        if estimator == DOUBLY_UNBIASED:
            raise DataError(
                "expected the number of features to sample (--num-features) for doubly_unbiased, found none; give it, "
                "such as 1024"
            )
        return
    if not measure.sums or estimator == "biased":
        raise DataError(
            f"expected unbiased or doubly_unbiased cka of sampled features (--num-features), found {estimator} "
            f"{measure.name}; omit one of them"
        )
    if everything:
        raise DataError("expected batches of a number of images for --num-features, found all; give --batch a number")


def _compare_samples(
    x: Fingerprint,
    y: Fingerprint,
    pairing: str,
    method: Measure,
    estimator: str,
    permutations: int,
    groups: Sequence[Any] | None,
    merge_duplicates: bool,
) -> SimilarityMatrix:
    """Return CKA from samples of features; arguments as in `compare_fingerprints`."""
    if groups is not None or merge_duplicates:
        raise DataError("expected all features for groups and merge_duplicates, found a sample; omit num_features")
    samples, population = (x.defined_sample, y.defined_sample), estimator == DOUBLY_UNBIASED
    options: dict[str, Any] = {"permutations": permutations, "seed": x.settings.seed}
    if all(sample.is_complete for sample in samples) and not population:
        cells = cka_cells(x.defined_grams, y.defined_grams, ESTIMATORS[estimator], per_image=1, **options)
    else:
        apart = torch.zeros(len(x.layers), len(y.layers), dtype=torch.bool)  # indices are drawn by seed and size
        shared = None if x.settings.seed == y.settings.seed else apart
        cells = sampled_cells(*samples, population=population, shared=shared, **options)
    result = matrix_of(x, y, cells, pairing, method, estimator, permutations)
    return with_groups(result, duplicates(x, y))


def compare_all(
    prints: Sequence[Fingerprint],
    *,
    measure: MeasureSpec = "cka",
    estimator: str = "unbiased",
    permutations: int = 200,
) -> Iterator[tuple[tuple[int, int], SimilarityMatrix]]:
    """Yield the indices and the similarity of every two of several fingerprints, as `compare_fingerprints` gives it.

    For CKA, each y is compared with all x before it in one product, and each of its permutations is made once.

    Raises:
        FingerprintError: Two of them are of different images, batches or features.

    >>> from torch import nn
    >>> models = [nn.Sequential(nn.Linear(6, width)) for width in (3, 4, 5)]
    >>> prints = [fingerprint(model, torch.ones(8, 6).cumsum(0), layers="*") for model in models]
    >>> [pair for pair, _ in compare_all(prints)]
    [(0, 2), (1, 2), (0, 1)]
    """
    method = choose_measure(measure, estimator)
    together = method.sums and len({print_.settings.seed for print_ in prints}) == 1
    if not together:
        compared = partial(compare_fingerprints, measure=method, estimator=estimator, permutations=permutations)
        for i, j in combinations(range(len(prints)), 2):
            yield (i, j), compared(prints[i], prints[j])
        return
    pairings = {(i, j): pairing_of(prints[i], prints[j]) for i, j in combinations(range(len(prints)), 2)}
    hsic = registry.get(ESTIMATORS, estimator, "estimator")
    per_image = tokens_per_image(prints[0].settings.features)
    to_cells = partial(
        cka_cells, permutations=permutations, seed=prints[0].settings.seed, per_image=per_image, centred=True
    )
    grams = zip(*(print_.defined_grams for print_ in prints), strict=True)
    stacks = [centre_batches([torch.cat(batch)], hsic)[0] for batch in grams]
    ends, copies = list(accumulate(len(print_.layers) for print_ in prints)), Copies(prints)
    for j in reversed(range(1, len(prints))):  # the largest products first: later ones fit into their memory
        x, y = ([stack[part] for stack in stacks] for part in (slice(ends[j - 1]), slice(ends[j - 1], ends[j])))
        cells = to_cells(x, y, hsic)
        for i in range(j):
            part = cells.of_rows(slice(ends[i] - len(prints[i].layers), ends[i]))
            result = matrix_of(prints[i], prints[j], part, pairings[i, j], method, estimator, permutations)
            yield (i, j), with_groups(result, copies.between(i, j))


def matrix_of(
    x: Fingerprint,
    y: Fingerprint,
    cells: Cells,
    pairing: str,
    method: Measure,
    estimator: str,
    permutations: int | None,
) -> SimilarityMatrix:
    """Return the similarity of two fingerprints from its cells."""
    _, self_x, self_y = cells.terms.sums()
    return SimilarityMatrix(
        **{name: getattr(cells, name).numpy() for name in MATRICES},
        rows=_axes(x, self_x, method),
        columns=_axes(y, self_y, method),
        terms={name: getattr(cells.terms, name).numpy() for name in ("xy", "xx", "yy", "weights")},
        num_examples=len(x.images),
        x=x.side,
        y=y.side,
        images={
            "source": x.source,
            "hash": x.images_hash,
            "skipped": list(dict.fromkeys((*x.skipped, *y.skipped)) if pairing else x.skipped),
            **({"source_y": y.source, "hash_y": y.images_hash, "pairing": pairing} if pairing else {}),
        },
        settings={
            "measure": method.name,
            "title": method.title,
            "range": method.span(cells.values),
            "estimator": estimator if method.sums else None,
            "permutations": permutations,
            **x.settings.recorded(),
            "precision_y": y.settings.precision,
        },
        versions=versions(),
        family=family_of(cells),
    )


def _axes(side: Fingerprint, self_similarity: torch.Tensor, method: Measure) -> tuple[Axis, ...]:
    """Return the layers of one side for a result.

    A layer whose similarity with itself is not positive is undefined, for CKA by default for too few images.
    """
    shapes = side.shapes or [()] * len(side.layers)
    return tuple(
        Axis(layer.name, layer.module, rms, undefined or _self_reason(side, value, rms, method), shape)
        for layer, rms, undefined, value, shape in zip(
            side.layers, side.rms, side.undefined_reasons, self_similarity.tolist(), shapes, strict=True
        )
    )


def _self_reason(side: Fingerprint, self_similarity: float, rms: float, method: Measure) -> str:
    """Return why a layer is undefined by its similarity with itself, or ""."""
    if not method.sums:
        return "" if self_similarity > 0 else side.reason(method.undefined)
    if not self_similarity < RANGE[1]:
        return side.reason(TOO_LARGE)
    if rms < RANGE[0] ** 0.25 or 0 < self_similarity <= RANGE[0]:  # the HSIC is of the order of rms^4, or has become 0
        return side.reason(TOO_SMALL)
    return "" if self_similarity > 0 else side.reason(TOO_FEW_FEATURES if side.sample else TOO_FEW)
