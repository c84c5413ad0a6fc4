"""Why one cell has its value: the images that raise and lower it, its leading components, and what explains it as well.

Everything is computed from two fingerprints, without images or a forward pass. `similarity.influence` has the formulas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from torch import Tensor

from cka_probe import registry
from cka_probe.comparison.compare import compare_fingerprints
from cka_probe.comparison.fingerprint import Fingerprint, pairing_of
from cka_probe.comparison.groups import duplicates
from cka_probe.comparison.results import Side
from cka_probe.documents import Document, plain
from cka_probe.errors import DataError
from cka_probe.models.selection import select_by_name
from cka_probe.similarity import ESTIMATORS
from cka_probe.similarity.features import tokens_per_image
from cka_probe.similarity.influence import cka_without, component_shares, losses, outliers, partial_cka

FORMAT = "ckaprobe-explanation/2"
COUNTS = (1, 2, 4, 8, 16, 32)
"""Numbers of most influential images that are left out, at most a quarter of all."""
COMPONENTS = (1, 2, 5, 10)
"""Numbers of leading components."""
SHOWN = 5
"""Images that are named that raise a cell most, and that lower it most."""
THUMBNAILS = 96
"""Images that a page can show."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Document):
    """What one value of CKA is made of.

    Attributes:
        x: The model of the rows.
        y: The model of the columns.
        layers: The layer of x and that of y.
        value: CKA.
        low: Lower end of its 95 % interval.
        high: Upper end.
        influences: (images,) float64: what CKA loses without the image; negative for an image that lowers it.
        curve: For a number of most influential images, by absolute influence, CKA without them, computed exactly.
        components: For a number of leading components, their share in the variance of x, of y, and in the biased CKA.
        outliers: Numbers of images far from the others, in x or in y.
        copies: Groups of images that are copies, `exact` or `near`, over all layers of both models; see
            `comparison.groups.duplicates`.
        partial: CKA without what both share with the similarity of the input images; None if that is not given.
        untrained: CKA of the layer of the untrained x with that of y, and its interval; None if that is not given.
        images: Hash of each image.
        settings: Of the comparison.
        names: Name of each image; empty if they are not known.
    """

    noun: ClassVar[str] = "explanations"
    x: Side
    y: Side
    layers: tuple[str, str]
    value: float
    low: float
    high: float
    influences: np.ndarray
    curve: tuple[tuple[int, float], ...]
    components: tuple[tuple[int, float, float, float], ...]
    outliers: tuple[int, ...]
    copies: Mapping[str, list[list[int]]]
    partial: float | None
    untrained: tuple[float, float, float] | None
    images: tuple[str, ...]
    settings: dict[str, Any]
    names: tuple[str, ...] = ()

    @property
    def ranking(self) -> np.ndarray:
        """The numbers of all images, the largest absolute influence first."""
        return ranking_of(self.influences)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per image, the most influential first: image, name, hash, influence, outlier, copy.

        The column `name` is there if names are known.
        """
        copies = {image for groups in self.copies.values() for group in groups for image in group}
        return pd.DataFrame(
            [
                {
                    "image": int(image),
                    **({"name": self.names[image]} if self.names else {}),
                    "hash": self.images[image],
                    "influence": self.influences[image],
                    "outlier": int(image) in self.outliers,
                    "copy": int(image) in copies,
                }
                for image in self.ranking
            ]
        )

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON."""
        document: dict[str, Any] = plain({"format": FORMAT} | vars(self))
        return document

    def summary(self) -> str:
        """Return what a terminal shows: images by name, or counted from 0 in the order of the comparison."""
        order = np.argsort(-self.influences, kind="stable")
        ends = {"raise": order[:SHOWN], "lower": order[::-1][:SHOWN]}
        lines = [f"{self.layers[0]} of x and {self.layers[1]} of y: CKA {_interval(self.value, self.low, self.high)}"]
        for word, images in ends.items():
            named = ", ".join(f"{self._named(image)} ({self.influences[image]:+.4f})" for image in images)
            lines.append(f"images that {word} it most: {named}")
        curve = ", ".join(f"{value:.3f} (k = {count})" for count, value in self.curve) or "too few images"
        lines.append(f"without the k most influential of {len(self.images)} images: {curve}")
        lines += [
            f"leading components, {count}: {x:.0%} of the variance of x, {y:.0%} of that of y, "
            f"{cell:.0%} of the biased CKA"
            for count, x, y, cell in self.components
        ]
        lines.append(f"outliers: {_listed([self._named(image) for image in self.outliers])}")
        for kind, title in (("exact", "exact copies"), ("near", "near copies")):
            groups = [" and ".join(map(self._named, group)) for group in self.copies.get(kind, [])]
            lines.append(f"{title}: {_listed(groups)}")
        if self.partial is not None:
            lines.append(f"without the similarity of the input images: {self.partial:.3f}")
        if self.untrained is not None:
            lines.append(f"of the untrained x with y: {_interval(*self.untrained)}")
        return "\n".join([*lines, ""])

    def _named(self, image: int) -> str:
        return self.names[image] if self.names else str(image)


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _listed(items: Sequence[Any], most: int = 20) -> str:
    """Return items in words, the first of many."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more if items else "none"


def ranking_of(influence: np.ndarray) -> np.ndarray:
    """Return the numbers of all images, the largest absolute influence first.

    >>> ranking_of(np.array([0.1, -0.3, 0.2]))
    array([1, 2, 0])
    """
    return np.argsort(-np.abs(influence), kind="stable")


def influential_images(x: Fingerprint, y: Fingerprint, estimator: str = "unbiased") -> list[int]:
    """Return the numbers of images that raise or lower some cell most, ascending.

    At most `THUMBNAILS`, those of most cells; none of tokens, for which it would be much work.

    Args:
        x: The rows.
        y: The columns, of the same or of paired images.
        estimator: Estimator of CKA.
    """
    if tokens_per_image(x.settings.features) > 1:
        return []
    lost = losses(x.defined_grams, y.defined_grams, registry.get(ESTIMATORS, estimator, "estimator"))
    order = lost.flatten(1).T.numpy()
    order = np.argsort(-order[np.isfinite(order).all(axis=1)], axis=1, kind="stable")
    images, cells = np.unique(np.concatenate([order[:, :SHOWN], order[:, -SHOWN:]], axis=1), return_counts=True)
    return sorted(int(image) for image in images[np.argsort(-cells, kind="stable")][:THUMBNAILS])


def curve_of(
    x: Sequence[Tensor], y: Sequence[Tensor], influence: np.ndarray, estimator: str, per_image: int = 1
) -> tuple[tuple[int, float], ...]:
    """Return CKA of two layers without the most influential images, for each number in `COUNTS` of at most a quarter.

    Args:
        x: Per batch, (1, n, n) float64 centred Grams as in a fingerprint.
        y: Per batch, (1, n, n) float64.
        influence: (images,) float64.
        estimator: Estimator of HSIC.
        per_image: Examples per image.
    """
    order, hsic = ranking_of(influence), registry.get(ESTIMATORS, estimator, "estimator")
    counts = [count for count in COUNTS if count <= len(order) // 4]
    values = [float(cka_without(x, y, order[:count].tolist(), hsic, per_image)) for count in counts]
    return tuple((count, value) for count, value in zip(counts, values, strict=True) if np.isfinite(value))


def explain(
    x: Fingerprint,
    y: Fingerprint,
    layer_x: str,
    layer_y: str | None = None,
    *,
    pair: str | None = None,
    estimator: str = "unbiased",
    inputs: Fingerprint | None = None,
    untrained: Fingerprint | None = None,
    names: Sequence[str] | None = None,
) -> Explanation:
    """Return why the CKA of two layers has its value.

    Args:
        x: The model of the rows.
        y: The model of the columns, of the same or of paired images.
        layer_x: Name or index of a layer of x.
        layer_y: Name or index of a layer of y; by default the same as of x.
        pair: As in `compare_fingerprints`.
        estimator: Estimator of CKA.
        inputs: Fingerprint of the input images as they are, whose first layer is partialled out.
        untrained: Fingerprint of x before training, with the layer of x.
        names: Of the images, in their order.

    Raises:
        DataError: The cell is undefined, two fingerprints are of other images, or there is not a name for each image.
        LayerError: There is no such layer, or several.

    >>> import torch
    >>> from cka_probe import fingerprint
    >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU())
    >>> prints = fingerprint(net, torch.randn(32, 6), layers="*")
    >>> explain(prints, prints, "0", "1").influences.shape
    (32,)
    """
    pairing_of(x, y, pair)
    if names is not None and len(names) != len(x.images):
        raise DataError(
            f"expected the name of each of {len(x.images)} images, found {len(names)}; give the same images"
        )
    copies = duplicates(x, y)
    x, y = _one_layer(x, layer_x, "x"), _one_layer(y, layer_x if layer_y is None else layer_y, "y")
    result = compare_fingerprints(x, y, pair=pair, estimator=estimator, permutations=0)
    value, low, high = (float(matrix[0, 0]) for matrix in (result.values, result.low, result.high))
    if not np.isfinite(value):
        reasons = "; ".join(axis.undefined for axis in (*result.rows, *result.columns) if axis.undefined)
        raise DataError(f"expected two layers with a similarity, found {reasons}; choose another cell")
    hsic, per_image = registry.get(ESTIMATORS, estimator, "estimator"), tokens_per_image(x.settings.features)
    influence = losses(x.grams, y.grams, hsic, per_image)[:, 0, 0].numpy()
    grams = [[stack[0] for stack in side.grams] for side in (x, y)]
    shares = component_shares(grams[0], grams[1], COMPONENTS).T.tolist()
    far = {image for side in grams for image in outliers(side, per_image)}
    return Explanation(
        x=x.side,
        y=y.side,
        layers=(x.layers.names[0], y.layers.names[0]),
        value=value,
        low=low,
        high=high,
        influences=influence,
        curve=curve_of(x.grams, y.grams, influence, estimator, per_image),
        components=tuple((count, *row) for count, row in zip(COMPONENTS, shares, strict=True)),
        outliers=tuple(sorted(far)),
        copies=copies,
        partial=None if inputs is None else _partial(value, x, y, inputs, estimator),
        untrained=None if untrained is None else _untrained(untrained, y, layer_x, estimator),
        images=x.images,
        settings=dict(result.settings),
        names=tuple(names or ()),
    )


def _one_layer(side: Fingerprint, layer: str, name: str) -> Fingerprint:
    """Return the fingerprint of one layer."""
    layers = select_by_name(side.layers, layer, f"the fingerprint of {name}")
    if len(layers) != 1:
        raise DataError(f"expected one layer of {name}, found {len(layers)} that are {layer}; name one")
    return side.subset(layers)


def _partial(value: float, x: Fingerprint, y: Fingerprint, inputs: Fingerprint, estimator: str) -> float:
    """Return CKA without what both sides share with the first layer of the input images."""
    z = inputs.subset(select_by_name(inputs.layers, [inputs.layers.modules[0]]))
    xz, yz = (float(compare_fingerprints(side, z, estimator=estimator, permutations=0).values[0, 0]) for side in (x, y))
    return partial_cka(value, xz, yz)


def _untrained(untrained: Fingerprint, y: Fingerprint, layer: str, estimator: str) -> tuple[float, float, float]:
    """Return CKA of the untrained model's layer with that of y, and its interval."""
    twin = _one_layer(untrained, layer, "the untrained model")
    result = compare_fingerprints(twin, y, estimator=estimator, permutations=0)
    return float(result.values[0, 0]), float(result.low[0, 0]), float(result.high[0, 0])
