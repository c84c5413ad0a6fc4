"""A model's fingerprint: the centred Grams of its layers over one fixed list of images.

It has all that CKA and other similarities of Grams need of a model: a file of about a megabyte that can be compared
with any other fingerprint of the same images, without weights, data or a forward pass. The file is a safetensors file,
and reading it executes nothing. Its tensors are the upper triangles of the Grams of each batch, float64; its header
has, as JSON, the layers, the hashes of model and images, and the settings.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from html import escape
from math import isqrt
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cka_probe import registry
from cka_probe.comparison.results import ROWS, Side
from cka_probe.errors import DataError, FingerprintError
from cka_probe.files import atomic_write, read_metadata
from cka_probe.images.pairing import ORDER, PAIRINGS
from cka_probe.images.stream import list_hash
from cka_probe.models.checkpoint import versions
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.similarity.feature_sampling import FeatureSample
from cka_probe.similarity.features import choose_features, tokens_per_image

FORMAT = "ckaprobe-fingerprint/1"
LARGEST = 1e150
"""The squares of larger products of activations overflow in sums; those of float32 are smaller by far."""
SAMPLE = "sample."
"""Start of the names of tensors of sampled features."""
NOT_FINITE = "it puts out NaN or infinite values"
ZERO = "it is exactly 0 for every image (as norm1 of a Swin-v2 is before training)"
CONSTANT = "it is the same for every image"
CONSTANT_BATCH = "it is the same for every image of a batch"
FEWEST_FEATURES = 16
"""Least number of features in a sample."""
ROUNDING = 1e-6
"""Relative difference of numbers that are equal up to float32 rounding."""


TF32 = "tf32"
PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, TF32: None, "bfloat16": torch.bfloat16}
"""Dtype under autocast of a forward pass of each precision."""
RUNNING = ("device", "skip_bad", "workers", "forward_batch", "memory")
"""Settings that results do not depend on."""
PREPROCESSING = dict.fromkeys(("own", "shared"))


@dataclass(frozen=True)
class Settings:
    """How images are chosen and models are run; part of every fingerprint and result.

    Attributes:
        num: Largest number of images.
        batch: Images in a batch; `None` for 64, or the batches of an iterable.
        seed: Seed of the choice of images and of the permutations.
        features: `flatten`, `gap`, `tokens` or `tokens:7`.
        precision: Of the forward pass: `float32`, `tf32` (float32 with products in TF32), or `bfloat16` (autocast).
        preprocess: `own` (each model its own size, mean and std) or `shared` (both those of x).
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        skip_bad: Skip unreadable images.
        workers: Number of threads that read images; `None` for as many as there are cores, at most 16.
        forward_batch: Images in a forward pass; `None` for those of a batch, on a GPU of CUDA as many as fit.
        memory: Most bytes of a GPU that a forward pass may take; `None` for what is free.
        size: Input (height, width) of every model; `None` for that of each.
        normalised: Images are given to the models as they are, without resizing or normalisation.
        decode_size: Least side in pixels to which JPEGs are reduced as they are decoded; `None` for full size.
        num_features: Largest number of features of a layer, a random sample; `None` for all of them.

    Raises:
        UnknownNameError: There is no such way to take features, precision or preprocessing.
        DataError: There is to be no image in a forward pass, both of `forward_batch` and `memory` are given, or a
            sample of features has fewer than `FEWEST_FEATURES` or is of tokens.
    """

    num: int | None = 512
    batch: int | None = None
    seed: int = 0
    features: str = "flatten"
    precision: str = "float32"
    preprocess: str = "own"
    device: str = "auto"
    skip_bad: bool = False
    workers: int | None = None
    forward_batch: int | None = None
    memory: int | None = None
    size: tuple[int, int] | None = None
    normalised: bool = False
    decode_size: int | None = None
    num_features: int | None = None

    def __post_init__(self) -> None:
        choose_features(self.features)
        registry.get(PRECISIONS, self.precision, "precision")
        registry.get(PREPROCESSING, self.preprocess, "preprocess")
        if self.forward_batch is not None and self.forward_batch < 1:
            raise DataError(f"expected at least 1 image in a forward pass, found {self.forward_batch}; give more")
        if self.forward_batch is not None and self.memory is not None:
            raise DataError("expected --forward-batch or --memory, which sets it, found both; omit one")
        if self.num_features is not None and self.num_features < FEWEST_FEATURES:
            raise DataError(f"expected --num-features of at least {FEWEST_FEATURES}, found {self.num_features}")
        if self.num_features is not None and tokens_per_image(self.features) > 1:
            raise DataError(f"expected features flatten or gap with --num-features, found {self.features}; omit one")

    def recorded(self) -> dict[str, Any]:
        """Return the settings that results depend on: all but those in `RUNNING`."""
        return {name: value for name, value in asdict(self).items() if name not in RUNNING}


@dataclass(frozen=True)
class Partner:
    """The images that the other model of a comparison saw, where they are not those of the fingerprint.

    Attributes:
        images: Hash of the list of images; image i belongs to image i of the fingerprint.
        source: Where they came from.
        pairing: `name` or `order`: how images were paired.
    """

    images: str
    source: str
    pairing: str


@dataclass(frozen=True)
class Shard:
    """What a fingerprint of some of the batches has in addition, so that all shards make up the whole one.

    Attributes:
        index: Number of the shard, from 1: it has the batches `index`, `index + count`, … of all.
        count: Number of shards.
        squares: Per batch and layer, the sum over images of the squared `rms`.
        not_finite: Modules with an output that was not finite.
        constant: Root mean square of a module's output in each batch in which it did not vary.
        images: Of each stream of images, their number, those in a batch, and samples of an iterable.
    """

    index: int
    count: int
    squares: tuple[tuple[float, ...], ...]
    not_finite: tuple[str, ...]
    constant: dict[str, list[float]]
    images: list[Any]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, repr=False)
class Fingerprint:
    """Centred Grams of one model's layers, batch by batch.

    Attributes:
        grams: Per batch, (layers, m, m) float64, `H K H`; m is the number of images in the batch, or of their tokens.
        layers: The layers, in order.
        rms: Per layer, root mean square of the activation minus its feature means.
        undefined: Per layer, why it has no similarity, or "".
        side: The model.
        images: Hash of each image, in order.
        source: Where the images came from.
        settings: How the images were chosen and the model was run.
        skipped: Unreadable images that were skipped.
        versions: Versions of the packages that computed it.
        shapes: Per layer, the shape of its activation for one image; empty in older files.
        partner: The images that were paired with these, or None.
        shard: Which part of the batches these are; None for all.
        sample: The features of which the Grams are, if these are only a sample of the layers'.
    """

    grams: tuple[Tensor, ...]
    layers: LayerMap
    rms: tuple[float, ...]
    undefined: tuple[str, ...]
    side: Side
    images: tuple[str, ...]
    source: str
    settings: Settings
    skipped: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=versions)
    shapes: tuple[tuple[int, ...], ...] = ()
    partner: Partner | None = None
    shard: Shard | None = None
    sample: FeatureSample | None = None

    def __repr__(self) -> str:
        return f"<Fingerprint of {self.side.reference}: {len(self.layers)} layers, {len(self.images)} images>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the model and its layers."""
        columns = {"module": self.layers.modules, "rms": self.rms, "undefined": self.undefined}
        table = pd.DataFrame(columns, index=pd.Index(self.layers.names, name="layer"))
        return f"<pre>{escape(repr(self))}</pre>{table.to_html(border=0, float_format='{:.3g}'.format)}"

    @cached_property
    def images_hash(self) -> str:
        """One hash of the list of images."""
        return list_hash(self.images)

    @cached_property
    def undefined_reasons(self) -> tuple[str, ...]:
        """Per layer, `undefined`, or that it does not vary in some batch, which older files do not record."""
        constant = torch.zeros(len(self.layers), dtype=torch.bool)
        for stack in self.grams:
            constant |= stack.diagonal(dim1=1, dim2=2).sum(dim=1) == 0
        return tuple(
            self.reason(reason or (CONSTANT_BATCH if still else ""))
            for reason, still in zip(self.undefined, constant.tolist(), strict=True)
        )

    def reason(self, text: str) -> str:
        """Return why a layer is undefined, in terms of rows where the examples are rows of features."""
        return text.replace("images", "rows").replace("image", "row") if self.source == ROWS else text

    @property
    def defined_grams(self) -> list[Tensor]:
        """The Grams, all NaN for a layer that is undefined, be it in one batch only: no measure gives it a number."""
        undefined = torch.tensor([bool(reason) for reason in self.undefined_reasons])[:, None, None]
        return [torch.where(undefined, torch.nan, stack) for stack in self.grams] if undefined.any() else [*self.grams]

    @property
    def defined_sample(self) -> FeatureSample:
        """The sampled features, all NaN for a layer that is undefined, as in `defined_grams`.

        Raises:
            FingerprintError: Features were not sampled.
        """
        if self.sample is None:
            raise FingerprintError(
                f"expected a fingerprint with a sample of features, found {self.side.reference} without; recompute it "
                "with --num-features"
            )
        undefined = [bool(reason) for reason in self.undefined_reasons]
        values = (
            tuple(layer * torch.nan if none else layer for layer, none in zip(batch, undefined, strict=True))
            for batch in self.sample.values
        )
        return FeatureSample(tuple(values), self.sample.totals)

    def subset(self, layers: LayerMap) -> "Fingerprint":
        """Return the fingerprint of some of the layers, in their order and by their names."""
        index = {module: position for position, module in enumerate(self.layers.modules)}
        rows = [index[module] for module in layers.modules]
        every = rows == list(range(len(self.layers)))  # large Grams are not copied
        return replace(
            self,
            grams=self.grams if every else tuple(stack[rows] for stack in self.grams),
            layers=layers,
            rms=tuple(self.rms[row] for row in rows),
            undefined=tuple(self.undefined[row] for row in rows),
            shapes=tuple(self.shapes[row] for row in rows) if self.shapes else (),
            sample=self.sample and self.sample.of(rows),
            shard=self.shard
            and replace(self.shard, squares=tuple(tuple(batch[row] for row in rows) for batch in self.shard.squares)),
        )

    def save(self, path: str | Path) -> Path:
        """Write the fingerprint to a file, with the same bytes for the same fingerprint."""
        tensors = {}
        for number, stack in enumerate(self.grams):
            tensors[f"grams.{number:05d}"] = _packed(stack)
        for number, batch in enumerate(self.sample.values if self.sample else ()):
            tensors[f"{SAMPLE}{number:05d}"] = torch.cat(batch, dim=1)
        settings = asdict(self.settings) | {"device": "auto", "workers": None}
        del settings["forward_batch"], settings["memory"]
        header = {
            "format": FORMAT,
            "layers": [{"name": layer.name, "module": layer.module} for layer in self.layers],
            "rms": [rms if rms == rms else None for rms in self.rms],
            "undefined": self.undefined,
            "side": asdict(self.side),
            "images": self.images,
            "source": self.source,
            "settings": settings,
            "skipped": self.skipped,
            "versions": self.versions,
            "shapes": self.shapes,
            **({"partner": asdict(self.partner)} if self.partner else {}),
            **({"sample": {"totals": self.sample.totals, "counts": self.sample.counts}} if self.sample else {}),
            **({"shard": _plain(asdict(self.shard))} if self.shard else {}),
        }
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, metadata={"ckaprobe": json.dumps(header, allow_nan=False)})
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, *, shard: bool = False) -> "Fingerprint":
        """Read a fingerprint written by `save`.

        Args:
            path: The file.
            shard: The file is to be a shard; by default it is to be a whole fingerprint.

        Raises:
            FingerprintError: The file is not a fingerprint, or of a format that this version does not read.
        """
        header = read_metadata(path) if is_fingerprint(path) else None
        if header is None or header.pop("format") != FORMAT or "rms" not in header:
            raise FingerprintError(
                f"{path}: expected a file of `ckaprobe fingerprint` (format {FORMAT!r}); recompute it"
            )
        try:
            if ("shard" in header) != shard:
                number = f"shard {header['shard']['index']} of {header['shard']['count']}" if "shard" in header else ""
                raise FingerprintError(
                    f"{path}: expected a shard (ckaprobe fingerprint --shard), found a whole fingerprint; omit it"
                    if shard
                    else f"{path}: expected a whole fingerprint, found {number}; join all shards with ckaprobe join"
                )
            header["layers"] = LayerMap(tuple(Layer(**layer) for layer in header["layers"]))
            header["rms"] = tuple(float("nan") if rms is None else float(rms) for rms in header["rms"])
            header["side"] = Side.from_json(header["side"])
            size = header["settings"].get("size")
            header["settings"] = Settings(**header["settings"] | {"size": tuple(size) if size else None})
            kinds = get_type_hints(Settings) | {"size": tuple | None}
            if wrong := [
                name for name, kind in kinds.items() if not isinstance(getattr(header["settings"], name), kind)
            ]:
                raise ValueError(f"the header has a setting {wrong[0]} of another kind")
            header["shapes"] = tuple(tuple(map(int, shape)) for shape in header.get("shapes", ()))
            header["partner"] = Partner(**header["partner"]) if "partner" in header else None
            header["shard"] = _read_shard(header["shard"], len(header["layers"])) if "shard" in header else None
            header["sample"] = _read_sample(path, **header["sample"]) if "sample" in header else None
            for name in ("undefined", "images", "skipped"):
                header[name] = tuple(header[name])
            shapes = header["shapes"] or header["rms"]  # older files have none
            if not len(header["layers"]) == len(header["rms"]) == len(header["undefined"]) == len(shapes):
                raise ValueError("the header has different numbers of layers, scales and reasons")
            texts = [header["source"], *header["images"], *header["skipped"], *header["undefined"]]
            texts += [text for layer in header["layers"] for text in (layer.name, layer.module)]
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("the header has names of images or layers that are no text")
            result = cls(grams=_read_grams(path, len(header["layers"])), **header)
            defined = [not reason and result.shard is None for reason in result.undefined]
            if not all((stack[defined].abs() < LARGEST).all() for stack in result.grams):
                raise ValueError("a layer with products of activations that none has")
            return result
        except (SafetensorError, ArithmeticError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise FingerprintError(
                f"{path}: expected a whole fingerprint, found a damaged one ({type(error).__name__}: "
                f"{str(error)[:100]}); copy it again, or recompute it"
            ) from error


def is_fingerprint(path: str | Path) -> bool:
    """Return whether a file is a fingerprint, of any version of the format."""
    try:
        header = read_metadata(path)
    except (SafetensorError, ValueError):
        return False
    return isinstance(header, dict) and str(header.get("format")).startswith("ckaprobe-fingerprint/")


def _plain(shard: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a shard for JSON, which has no NaN."""
    return shard | {"squares": [[None if value != value else value for value in batch] for batch in shard["squares"]]}


def _read_shard(fields: dict[str, Any], layers: int) -> Shard:
    """Return what a shard has in addition, from JSON.

    Raises:
        ValueError, TypeError, AttributeError: It is not that of so many layers.
    """
    squares = tuple(
        tuple(math.nan if value is None else float(value) for value in batch) for batch in fields["squares"]
    )
    constant = {name: list(map(float, values)) for name, values in fields["constant"].items()}
    shard = Shard(**fields | {"squares": squares, "constant": constant, "not_finite": tuple(fields["not_finite"])})
    if not (type(shard.index) is type(shard.count) is int and 1 <= shard.index <= shard.count):
        raise ValueError(f"shard {shard}")
    if not squares or any(len(batch) != layers for batch in squares):
        raise ValueError(f"a shard without a sum for each of {layers} layers")
    if not all(isinstance(name, str) for name in shard.not_finite):
        raise ValueError("names of layers that are no text")
    return shard


def _read_grams(path: str | Path, layers: int) -> tuple[Tensor, ...]:
    """Return the Grams of each batch; shapes are checked before memory is asked for.

    Raises:
        ValueError: A tensor does not hold the upper triangles of one Gram per layer.
    """
    with safe_open(path, framework="pt") as file:
        names = sorted(name for name in file.keys() if not name.startswith(SAMPLE))  # noqa: SIM118
        for name in names:
            shape, dtype = file.get_slice(name).get_shape(), file.get_slice(name).get_dtype()
            if len(shape) != 2 or shape[0] != layers or layers == 0 or dtype != "F64" or not _side_of(shape[1]):
                raise ValueError(f"{name} is {dtype} of shape {tuple(shape)} for {layers} layers")
        return tuple(_unpacked(file.get_tensor(name)) for name in names)


def _read_sample(path: str | Path, totals: Sequence[int], counts: Sequence[int]) -> FeatureSample:
    """Return the sampled features.

    Raises:
        ValueError: A tensor does not hold so many features of each layer.
    """
    batches = []
    with safe_open(path, framework="pt") as file:
        for name in sorted(name for name in file.keys() if name.startswith(SAMPLE)):  # noqa: SIM118
            part = file.get_slice(name)
            if len(part.get_shape()) != 2 or part.get_shape()[1] != sum(counts) or part.get_dtype() != "F32":
                raise ValueError(f"{name} is {part.get_dtype()} of shape {tuple(part.get_shape())}")
            batches.append(file.get_tensor(name).split(list(counts), dim=1))
    return FeatureSample(tuple(batches), tuple(map(int, totals)))


def _side_of(length: int) -> int:
    """Return n of an upper triangle of n (n + 1) / 2 values, 0 if there is none.

    >>> _side_of(6), _side_of(7)
    (3, 0)
    """
    n = (isqrt(8 * length + 1) - 1) // 2
    return n if n * (n + 1) // 2 == length else 0


def _packed(stack: Tensor) -> Tensor:
    """Return the upper triangles, (layers, n (n + 1) / 2), of (layers, n, n)."""
    return torch.cat([stack[:, row, row:] for row in range(stack.shape[-1])], dim=1)


def _unpacked(packed: Tensor) -> Tensor:
    """Return (layers, n, n) from upper triangles (layers, n (n + 1) / 2)."""
    n = _side_of(packed.shape[1])
    stack, start = torch.empty(len(packed), n, n, dtype=packed.dtype), 0
    for row in range(n):
        stack[:, row, row:] = stack[:, row:, row] = packed[:, start : start + n - row]
        start += n - row
    return stack


def pairing_of(x: Fingerprint, y: Fingerprint, pair: str | None = None, *, sampled: bool = False) -> str:
    """Return how the images of two fingerprints are paired: "" if they are the same, else "name" or "order".

    Args:
        x: A fingerprint.
        y: Another one, of the same images, or made as a pair with x (or with a fingerprint of the images of x).
        pair: "order" to pair the images of any two fingerprints by their order.
        sampled: They may be of samples of features, which is corrected for.

    Raises:
        UnknownNameError: There is no such pairing.
        FingerprintError: They are of different features or batches, of samples of features, or of images that were not
            paired.
    """
    for side in (x, y):
        if side.shard:
            raise FingerprintError(
                f"expected whole fingerprints, found shard {side.shard} of {side.side.reference}; join all shards"
            )
    if x.settings.features != y.settings.features:
        raise FingerprintError(
            f"x was made with --features {x.settings.features}, y with {y.settings.features}; recompute one of them"
        )
    if x.settings.num_features != y.settings.num_features:
        numbers = (side.settings.num_features for side in (x, y))
        made = [f"with --num-features {number}" if number else "of all features" for number in numbers]
        raise FingerprintError(f"x was made {made[0]}, y {made[1]}; recompute one of them")
    if x.sample and not sampled:
        raise FingerprintError(
            f"expected fingerprints of all features, found samples (--num-features {x.settings.num_features}), which "
            "only compare and compare_fingerprints of two models correct for; recompute both without"
        )
    if x.settings.decode_size != y.settings.decode_size:
        decode_sizes = (side.settings.decode_size for side in (x, y))
        made = [f"with --decode-size {size}" if size else "without --decode-size" for size in decode_sizes]
        raise FingerprintError(f"x was made {made[0]}, y {made[1]}; recompute one of them")
    if pair is not None:
        registry.get(PAIRINGS, pair, "pairing")
    partners = [
        side.partner for side, other in ((x, y), (y, x)) if side.partner and side.partner.images == other.images_hash
    ]
    if x.images == y.images:
        pairing = ""
    elif partners:
        pairing = partners[0].pairing
    elif pair == ORDER and len(x.images) == len(y.images):
        pairing = ORDER
    else:
        raise FingerprintError(_different_images(x, y))
    sizes = [[stack.shape[-1] for stack in side.grams] for side in (x, y)]
    if sizes[0] != sizes[1]:
        raise FingerprintError(
            f"the fingerprints are of different batches, of {sizes[0][0]} and of {sizes[1][0]}; "
            "recompute one of them with the other's --batch"
        )
    return pairing


def _different_images(x: Fingerprint, y: Fingerprint) -> str:
    """Return the message for fingerprints of images that were not paired."""
    same = len(set(x.images) & set(y.images))
    counts = f"{len(x.images)} from {x.source} and {len(y.images)} from {y.source}, {same} in common"
    if len(x.images) != len(y.images):
        advice = "recompute one of them with the other's --data, --num and --seed"
    elif same == len(x.images):
        counts, advice = f"{counts}, in another order", "recompute one of them with the other's --seed"
    else:
        advice = (
            "recompute one of them with the other's --data, --num and --seed, or compare them with --pair order if "
            "image i of one belongs to image i of the other"
        )
    return f"the fingerprints are of different images: {counts}; {advice}"


def undefined_reason(not_finite: bool, sizes: Sequence[float], batches: int) -> str:
    """Return why a layer has no similarity, or "": it was not finite, or constant, in some batch.

    Args:
        not_finite: Whether its output was not finite in some batch.
        sizes: Root mean square of its output in each batch in which it did not vary.
        batches: Number of batches.
    """
    if not_finite:
        return NOT_FINITE
    if not sizes:
        return ""
    if len(sizes) < batches or max(sizes) - min(sizes) > ROUNDING * max(sizes):
        return CONSTANT_BATCH
    return ZERO if max(sizes) == 0 else CONSTANT
