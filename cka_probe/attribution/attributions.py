"""How well the maps of several checkpoints follow label boundaries: one row for each checkpoint and image.

The table holds each image's own numbers (`alignment`), so means, intervals and paired differences need no further
forward pass. All checkpoints have the same images, and the bootstrap draws whole images (`resampling`), so checkpoints
are compared in pairs. An image without a value (no boundary, a map that is zero everywhere) is NaN with a reason; it
enters no mean and no pair.

| column | meaning |
|---|---|
| `correlation`, `ap` | of the map's steepness with the label boundaries; average precision |
| `correlation_signed`, `ap_signed` | the same for the map before its ReLU, of a segmentation the sum of its classes |
| `chance` | share of boundary pixels: the average precision of a random ranking; a random correlation is 0 |
| `ceiling` | average precision of the true labels at the layer's resolution: that of a perfect map |
| `correlation_image`, `ap_image` | the same for the image's grey value: that of an edge detector |
| `correlation_edges`, `ap_edges` | the same for a map that lights up at the image's edges |
| `boundary`, `counted` | pixels on a boundary; pixels for which that is known |
| `score`, `zero` | the target's value; whether the map is nowhere positive (1) or not (0) |
| `predicted` | the class of a classifier, else "" |
| `undefined` | why `correlation` and `ap` are NaN, or "" |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.attribution.alignment import ZERO
from cka_probe.documents import Document, checked_document, read_document
from cka_probe.errors import DataError
from cka_probe.similarity.resampling import RESAMPLES, bootstrap_interval

FORMAT = "ckaprobe-attributions/1"
MADE_BY = ("attributions", "a gradcam.json of `ckaprobe gradcam`", "run the command again")

SIGNED, CHANCE = "signed", "chance"
CONTROLS = {"image": "the image itself", "edges": "the image's edges"}
"""Maps that do not depend on a network, by the suffix of their columns."""
MEASURES = ("correlation", "ap", "correlation_signed", "ap_signed")
"""The measures that are compared between checkpoints and with the controls."""
AVERAGED = (*MEASURES, CHANCE, "ceiling", "correlation_image", "ap_image", "correlation_edges", "ap_edges", "zero")
"""The columns that have a mean with an interval."""
NUMBERS = (*AVERAGED[:-1], "boundary", "counted", "score", "zero")
COLUMNS = ("checkpoint", "image", *NUMBERS, "predicted", "undefined")
UNLABELLED = "the data have no labels"
NAMES = {
    "ap": "average precision",
    "ceiling": "true labels",
    "zero": "share of maps zero everywhere",
    SIGNED: "before ReLU",
    **CONTROLS,
}
"""Columns and suffixes of columns in words, where these differ."""
VIEWS = {
    "whole": "the whole image",
    "middle": "the middle of an image",
    "stored": "images at their stored size",
    "box": "the middle of an image, as in training",
}
"""What a network sees of an image, by `view`."""
MIN_HEADROOM = 0.1
"""Lead of true labels over chance below which a layer is too coarse to follow boundaries."""


def describe_column(column: str) -> str:
    """Return a column in words.

    >>> describe_column("ap_signed"), describe_column("correlation_edges")
    ('average precision, before ReLU', "correlation, the image's edges")
    """
    return ", ".join(NAMES.get(part, part) for part in column.split("_"))


def verdicts(differences: pd.DataFrame) -> list[str]:
    """Return a sentence for each checkpoint: whether its maps find boundaries better than chance and the controls.

    Args:
        differences: The result of `Attributions.differences`.
    """
    rows = differences[(differences["kind"] == "control") & (differences["measure"] == "ap")]
    sentences = []
    for name, group in rows[rows["num"] > 0].groupby("first", sort=False):
        comparisons = ", ".join(
            f"{'better than' if row.low > 0 else 'worse than' if row.high < 0 else 'not surely different from'} "
            f"{row.second} ({row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}])"
            for row in group.itertuples()
        )
        sentences.append(f"Maps of {name} find label boundaries {comparisons}.")
    return sentences


@dataclass(frozen=True, eq=False, repr=False)
class Attributions(Document):
    """Grad-CAM of several checkpoints over the same images.

    Attributes:
        table: One row for each checkpoint and image, in this order; columns `COLUMNS`.
        models: By the name of the checkpoint: `reference`, `hash`, `task`, `architecture`, `size`, `layer`,
            `layer_size`, `view` …
        data: `source`, `hash` of the list of images, `num` of images, `labels` (bool).
        settings: `layer` and `target` as given, `tolerance` (pixels of the labels), `resamples`, `seed` …
        versions: Versions of the packages that made it.

    Raises:
        DataError: A column is missing, or the checkpoints do not have the same images.
    """

    noun: ClassVar[str] = "attributions"
    table: pd.DataFrame
    models: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def __post_init__(self):
        if tuple(self.table.columns) != COLUMNS:
            raise DataError(f"expected columns {', '.join(COLUMNS)}, found {', '.join(self.table.columns)}")
        if reserved := sorted({CHANCE, *CONTROLS.values()} & self.models.keys()):
            raise DataError(f"expected other names of checkpoints than {', '.join(reserved)}, which are controls")
        images = {name: list(rows["image"]) for name, rows in self.table.groupby("checkpoint", sort=False)}
        first = next(iter(images.values()), [])
        if list(images) != list(self.models) or not first or any(names != first for names in images.values()):
            raise DataError(
                f"expected rows of the same images for each of {', '.join(self.models) or 'no checkpoint'}, found "
                f"{', '.join(f'{len(names)} of {name}' for name, names in images.items()) or 'none'}; run all on one "
                "list of images"
            )

    def __repr__(self) -> str:
        return f"<Attributions of {len(self.models)} checkpoints over {len(self.images)} images>\n{self.summary()}"

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the images."""
        return tuple(self.table["image"].iloc[: len(self.table) // len(self.models)])

    def of(self, checkpoint: str) -> pd.DataFrame:
        """Return the rows of a checkpoint, by image."""
        return self.table[self.table["checkpoint"] == checkpoint].set_index("image").drop(columns="checkpoint")

    def mean(self, checkpoint: str, measure: str) -> dict[str, float]:
        """Return value, low, high and num of a measure of a checkpoint, as in `intervals`.

        Raises:
            UnknownNameError: There is no such checkpoint or measure.
        """
        registry.get(self.models, checkpoint, "checkpoint")
        registry.get(dict.fromkeys(AVERAGED), measure, "measure")
        return self._mean(self.of(checkpoint)[measure])

    def intervals(self) -> pd.DataFrame:
        """Return one row for each checkpoint and measure: checkpoint, measure, value, low, high, num.

        `value` is the mean over the `num` images that have one, with its 95 % interval; NaN if none has, as always
        without labels.
        """
        return pd.DataFrame(
            {"checkpoint": name, "measure": measure} | self._mean(rows[measure])
            for name, rows in ((name, self.of(name)) for name in self.models)
            for measure in AVERAGED
        )

    def difference(self, first: str, second: str, measure: str = "ap") -> dict[str, float]:
        """Return value, low, high and num of the paired difference of a measure, first less second.

        Args:
            first: A checkpoint.
            second: Another, or "chance" (of an average precision), or a control of the first, in `CONTROLS.values()`.
            measure: In `MEASURES`.

        Raises:
            UnknownNameError: There is no such checkpoint or measure.
        """
        registry.get(self.models, first, "checkpoint")
        registry.get(dict.fromkeys(MEASURES), measure, "measure")
        kind, rows = measure.removesuffix(f"_{SIGNED}"), self.of(first)
        columns = {words: f"{kind}_{control}" for control, words in CONTROLS.items()} | {CHANCE: CHANCE}
        if second in columns:
            return self._mean(rows[measure] - rows[columns[second]])
        registry.get(self.models, second, "checkpoint")
        return self._mean(rows[measure] - self.of(second)[measure])

    def differences(self) -> pd.DataFrame:
        """Return how much better one map follows boundaries than another of the same image, with paired intervals.

        First each checkpoint less chance and its own controls, then every checkpoint less every later one. Checkpoints
        of different input size are compared on the same images, but not on the same pixels: their chance levels differ.

        Returns:
            first, second, kind ("control" or "checkpoint"), measure, value, low, high, num (pairs of images).
        """
        pairs = [(name, other, "control") for name in self.models for other in (CHANCE, *CONTROLS.values())]
        pairs += [(first, second, "checkpoint") for first, second in combinations(self.models, 2)]
        return pd.DataFrame(
            {"first": first, "second": second, "kind": kind, "measure": measure}
            | self.difference(first, second, measure)
            for first, second, kind in pairs
            for measure in MEASURES
            if second != CHANCE or measure.startswith("ap")  # the correlation of chance is 0
        )

    def summary(self) -> str:
        """Return what was attributed, and how well maps follow boundaries, as text for a terminal."""
        lines = [f"{name}  {_describe_model(model)}" for name, model in self.models.items()]
        lines += [f"target {self.settings['target']}, {len(self.images)} images from {self.data['source']}", ""]
        if not self.data["labels"]:
            return "\n".join([*lines, *self.exclusions(), f"No alignment with label boundaries: {UNLABELLED}."])
        differences = self.differences()
        lines += [
            "Average precision of a map's steepness for label boundaries at the network's size, tolerance",
            f"{self.settings['tolerance']:g} px; mean over images with its 95 % interval. Chance is the share of",
            "boundary pixels; true labels, at the layer's resolution, are a perfect map. The image's grey value and",
            "its edges are controls that do not depend on the network. Correlations are in the files.",
            "",
            _means_in_words(self.intervals()).to_string(),
            "",
            "Paired differences, first less second (those from the controls are in the files):",
            "",
            _differences_in_words(differences).to_string(index=False),
            "",
            *verdicts(differences),
        ]
        return "\n".join([*lines, "", *self.warnings(), *self.exclusions()]).rstrip()

    def warnings(self) -> list[str]:
        """Return, as sentences, what limits the comparison of these numbers."""
        return [*_differing_views(self.models), *_coarse_layers(self)] if self.data["labels"] else []

    def exclusions(self) -> list[str]:
        """Return the images that are in no mean, a line for each checkpoint and reason."""
        lines = []
        for name in self.models:
            rows = self.of(name)
            reasons, zero = rows["undefined"], int(rows["zero"].sum())
            suffix = ", and in no mean (chance is over all images, differences over the rest)"
            suffix *= bool(self.data["labels"])
            lines += [f"{name}: {zero} of {len(rows)} maps are zero everywhere{suffix}"] if zero else []
            counts = reasons[~reasons.isin(["", UNLABELLED, ZERO])].value_counts(sort=False)
            lines += [f"{name}: {count} of {len(rows)} in no mean, {reason}" for reason, count in counts.items()]
        return lines

    def to_frame(self) -> pd.DataFrame:
        """Return `table`, which `save` writes as CSV."""
        return self.table

    @classmethod
    def load(cls, path: str | Path) -> "Attributions":
        """Read the JSON that `save` wrote.

        Raises:
            DataError: The file does not exist, or does not hold attributions of this format.
        """
        keys = {"models", "data", "settings", "versions", "intervals", "differences", "table"}
        document = read_document(path, FORMAT, keys, MADE_BY)
        del document["intervals"], document["differences"]  # for readers without this package
        table = document.pop("table")
        if not isinstance(table, dict) or set(table) != set(COLUMNS):
            raise DataError(f"{path}: expected a table of {', '.join(COLUMNS)}; {MADE_BY[-1]}")
        with checked_document(path, MADE_BY):
            columns = {
                name: np.array(table[name], dtype=np.float64) if name in NUMBERS else list(map(str, table[name]))
                for name in COLUMNS
            }
            return cls(table=pd.DataFrame(columns), **document)

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON."""
        return {
            "format": FORMAT,
            "models": self.models,
            "data": self.data,
            "settings": self.settings,
            "versions": self.versions,
            "intervals": self.intervals().to_dict(orient="records"),
            "differences": self.differences().to_dict(orient="records"),
            "table": {name: self.table[name].tolist() for name in COLUMNS},
        }

    def _mean(self, column: pd.Series) -> dict[str, float]:
        """Return value, low, high and num of a column, one number per image."""
        values = column.to_numpy(np.float64)
        resamples, seed = self.settings.get("resamples", RESAMPLES), self.settings.get("seed", 0)
        low, high = bootstrap_interval(values[:, None], resamples=resamples, seed=seed)
        finite = values[np.isfinite(values)]
        value = float(finite.mean()) if finite.size else np.nan
        return {"value": value, "low": float(low[0]), "high": float(high[0]), "num": finite.size}


def _describe_model(model: Mapping[str, Any]) -> str:
    """Return half a line about a checkpoint."""
    size, layer_size = (_pixels(model[name]) for name in ("size", "layer_size"))
    task = f", task {model['task']}" if model["task"] else ""
    return f"{model['reference']} ({model['architecture']}{task}), {size} px; layer {model['layer']}, {layer_size}"


def _means_in_words(intervals: pd.DataFrame) -> pd.DataFrame:
    """Return average precisions as text, one row per checkpoint."""
    columns = {"ap": "map", f"ap_{SIGNED}": "before ReLU", CHANCE: "chance", "ceiling": "true labels"}
    columns |= {f"ap_{control}": words for control, words in CONTROLS.items()}
    rows = intervals[intervals["measure"].isin(columns)]
    texts = rows.assign(text=[_in_brackets(row) for row in rows.itertuples()])
    frame = texts.pivot(index="checkpoint", columns="measure", values="text").rename_axis(index=None, columns=None)
    return frame.loc[list(dict.fromkeys(rows["checkpoint"])), list(columns)].rename(columns=columns)


def _differences_in_words(differences: pd.DataFrame) -> pd.DataFrame:
    """Return differences of average precision as text."""
    names = {"ap": "map", f"ap_{SIGNED}": "before ReLU"}
    rows = differences[differences["measure"].isin(names) & ~differences["second"].isin(CONTROLS.values())]
    texts = [_in_brackets(row) for row in rows.itertuples()]
    columns = {"first": rows["first"], "second": rows["second"], "of": rows["measure"].map(names)}
    return pd.DataFrame(columns | {"difference": texts, "images": rows["num"]})


def _in_brackets(row: Any) -> str:
    """Return a value with its interval."""
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" if np.isfinite(row.value) else "-"


def _differing_views(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return why the average precisions of these checkpoints differ, whatever they have learnt."""

    def groups(describe: Callable[[Mapping[str, Any]], str]) -> str:
        """Return the checkpoints by description, or "" if all have the same."""
        names: dict[str, list[str]] = {}
        for name, model in models.items():
            names.setdefault(describe(model), []).append(name)
        return "; ".join(f"{', '.join(group)}: {text}" for text, group in names.items()) * (len(names) > 1)

    sentences = []
    if views := groups(lambda model: f"{VIEWS.get(model['view'], model['view'])} at {_pixels(model['size'])} pixels"):
        sentences.append(f"Not of the same pixels ({views}): chance differs, and with it average precision.")
    if sizes := groups(lambda model: _pixels(model["layer_size"])):
        sentences.append(f"Maps of different size ({sizes}): a finer map can follow boundaries more closely.")
    return sentences


def _coarse_layers(result: Attributions) -> list[str]:
    """Return the checkpoints whose layer is so coarse that not even true labels follow boundaries there."""
    sentences = []
    for name, model in result.models.items():
        best, chance = (result.mean(name, measure)["value"] for measure in ("ceiling", CHANCE))
        if best - chance < MIN_HEADROOM:
            sentences.append(
                f"The layer of {name} is too coarse to follow boundaries: at its {_pixels(model['layer_size'])} pixels "
                f"the true labels have an average precision of {best:.3f}, chance {chance:.3f}."
            )
    return sentences


def _pixels(size: Sequence[int]) -> str:
    """Return width x height of (height, width)."""
    return " x ".join(map(str, reversed(size)))
