"""How well the maps of several checkpoints follow the outlines of classes: a row for each image and checkpoint.

The table holds each image's own numbers (`alignment`), so means, their intervals and paired differences need no
further forward pass. All checkpoints have the same images, and intervals resample whole images (`resampling`), so
checkpoints are compared in pairs. An image without a value (no boundary, a map that is zero everywhere) is NaN with
its reason; it enters no mean and no pair.

| column | what |
|---|---|
| `correlation`, `ap` | of the map's steepness with the label boundaries; average precision |
| `correlation_signed`, `ap_signed` | the same of the map before its ReLU, which leaves some maps zero |
| `chance` | share of boundary pixels: the average precision of a random ranking; a random correlation is 0 |
| `ceiling` | average precision of the true labels at the layer's pixels: that of a perfect map |
| `correlation_image`, `ap_image` | the same of the image's grey value: that of an edge detector |
| `correlation_edges`, `ap_edges` | the same of a map that lights up at the image's edges |
| `score`, `zero` | the target's value; whether the map is nowhere positive (1) or not (0) |
| `predicted` | the class of a classifier, else "" |
| `undefined` | why `correlation` and `ap` are NaN, or "" |
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.attribution.alignment import ZERO
from cka_probe.documents import Document, read_document
from cka_probe.errors import DataError
from cka_probe.similarity.resampling import RESAMPLES, bootstrap_interval

KINDS = ("correlation", "ap")
SIGNED = "signed"
MEASURES = (*KINDS, *(f"{kind}_{SIGNED}" for kind in KINDS))
"""What is compared between checkpoints, and with its controls."""
CONTROLS = {"image": "the image itself", "edges": "the image's edges"}
"""Maps that have understood nothing, by the ending of their columns."""
CHANCE = "chance"
NUMBERS = (
    *MEASURES,
    "chance",
    "ceiling",
    *(f"{kind}_{control}" for control in CONTROLS for kind in KINDS),
    "boundary",
    "counted",
    "score",
    "zero",
)
"""Columns of numbers; `boundary` and `counted` are pixels."""
WORDS = ("predicted", "undefined")
COLUMNS = ("checkpoint", "image", *NUMBERS, *WORDS)
MEANT = (*NUMBERS[: NUMBERS.index("boundary")], "zero")
"""Columns that have a mean with an interval."""
UNLABELLED = "the data have no labels"
PLAIN = {
    "ap": "average precision",
    "chance": "chance",
    "ceiling": "true labels",
    "zero": "share of maps zero everywhere",
}
ENDINGS = {SIGNED: "before ReLU"} | CONTROLS


def describe_column(measure: str) -> str:
    """Return what a measure is called where people read it.

    >>> describe_column("ap_signed"), describe_column("correlation_edges")
    ('average precision, before ReLU', "correlation, the image's edges")
    """
    kind, _, ending = measure.partition("_")
    return PLAIN.get(kind, kind) + (f", {ENDINGS[ending]}" if ending else "")


def distinct_names(references: Sequence[str]) -> list[str]:
    """Return a short name for each reference: a file's stem, or with several the parts of the paths that differ.

    Args:
        references: Paths, or what else `load` takes; each once.

    >>> distinct_names(["runs/mesa/mp.safetensors"]), distinct_names(["a/mp.safetensors", "a/sp.safetensors"])
    (['mp'], ['mp', 'sp'])
    >>> distinct_names(["t/none/3/segment.safetensors", "t/video/3/segment.safetensors"])
    ['none', 'video']
    """
    parts = [list(PureWindowsPath(reference).parts) for reference in references]  # takes / and \\ alike
    parts = [[*own[:-1], own[-1].removesuffix(".safetensors")] if own else own for own in parts]
    if len(set(map(tuple, parts))) < len(parts):
        return list(references)
    while len(parts) > 1 and all(len(own) > 1 for own in parts) and len({own[-1] for own in parts}) == 1:
        parts = [own[:-1] for own in parts]
    last = [own[-1] if own else reference for own, reference in zip(parts, references, strict=True)]
    if len(set(last)) == len(last):
        return last
    while all(len(own) > 1 for own in parts) and len({own[0] for own in parts}) == 1:
        parts = [own[1:] for own in parts]
    return ["/".join(own) for own in parts]


SEEN = {
    "whole": "the whole image",
    "middle": "the middle of an image",
    "stored": "images at the size they have",
    "box": "the middle of an image, as its weights were trained",
}
"""What a network sees of an image, by `view`."""
ROOM = 0.1
"""Lead of true labels over chance below which a layer is too coarse to say anything of boundaries."""


def described(model: Mapping[str, Any]) -> str:
    """Return what a checkpoint is, in half a line."""
    size, layer_size = (_pixels(model[name]) for name in ("size", "layer_size"))
    task = f", task {model['task']}" if model["task"] else ""
    return f"{model['reference']} ({model['architecture']}{task}), {size} px; layer {model['layer']}, {layer_size}"


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """Return average precisions as words, a checkpoint a row."""
    columns = {"ap": "map", f"ap_{SIGNED}": "before ReLU", "chance": "chance", "ceiling": "true labels"}
    columns |= {f"ap_{control}": words for control, words in CONTROLS.items()}
    shown = rows[rows["measure"].isin(columns)]
    texts = {(row.checkpoint, row.measure): _text(row) for row in shown.itertuples()}
    names = list(dict.fromkeys(shown["checkpoint"]))
    return pd.DataFrame({words: [texts[name, column] for name in names] for column, words in columns.items()}, names)


def long(rows: pd.DataFrame) -> pd.DataFrame:
    """Return differences of average precision as words."""
    shown = rows[rows["measure"].isin(["ap", f"ap_{SIGNED}"]) & ~rows["second"].isin(CONTROLS.values())]
    what = shown["measure"].map({"ap": "map", f"ap_{SIGNED}": "before ReLU"})
    parts = {"first": shown["first"], "second": shown["second"], "of": what}
    return pd.DataFrame(parts | {"difference": [_text(row) for row in shown.itertuples()], "images": shown["num"]})


def verdicts(differences: pd.DataFrame) -> list[str]:
    """Return, a sentence for each checkpoint, whether maps find boundaries better than chance and than controls.

    Args:
        differences: Of `Attributions.differences`.
    """
    rows = differences[(differences["kind"] == "control") & (differences["measure"] == "ap")]
    said = {}
    for name, own in rows[rows["num"] > 0].groupby("first", sort=False):
        said[name] = ", ".join(f"{_than(row)} {row.second} ({_signed(row)})" for row in own.itertuples())
    return [f"Maps of {name} find label boundaries {words}." for name, words in said.items()]


def unlike(models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what makes average precisions of these checkpoints differ, whatever they have learnt."""
    said = []
    seen = _by(models, lambda model: f"{SEEN.get(model['view'], model['view'])} at {_pixels(model['size'])} pixels")
    if len(seen) > 1:
        what = "; ".join(f"{', '.join(names)}: {view}" for view, names in seen.items())
        said.append(f"Not of the same pixels ({what}): chance differs, and with it average precision.")
    maps = _by(models, lambda model: _pixels(model["layer_size"]))
    if len(maps) > 1:
        what = "; ".join(f"{', '.join(names)}: {size}" for size, names in maps.items())
        said.append(f"Maps of different size ({what}): a finer one can follow boundaries more closely.")
    return said


def too_coarse(means: pd.DataFrame, models: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the checkpoints whose layer is so coarse that not even true labels would follow boundaries there.

    Args:
        means: Of `Attributions.intervals`.
        models: Of `Attributions`.
    """
    table = means.set_index(["checkpoint", "measure"])["value"]
    said = []
    for name, model in models.items():
        best, chance = table[name, "ceiling"], table[name, "chance"]
        if best - chance < ROOM:
            said.append(
                f"The layer of {name} is too coarse to follow boundaries: at its {_pixels(model['layer_size'])} pixels "
                f"true labels themselves have an average precision of {best:.3f}, chance {chance:.3f}."
            )
    return said


def _by(models: Mapping[str, Mapping[str, Any]], key: Callable[[Mapping[str, Any]], str]) -> dict[str, list[str]]:
    """Return names of checkpoints by what `key` says of them."""
    found: dict[str, list[str]] = {}
    for name, model in models.items():
        found.setdefault(key(model), []).append(name)
    return found


def _pixels(size: Sequence[int]) -> str:
    """Return width x height of (height, width)."""
    return " x ".join(map(str, reversed(size)))


def _than(row: Any) -> str:
    """Return whether a difference is surely of one sign, in words."""
    return "better than" if row.low > 0 else "worse than" if row.high < 0 else "not surely otherwise than"


def _signed(row: Any) -> str:
    """Return a difference with its interval."""
    return f"{row.value:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"


def _text(row: Any) -> str:
    """Return a value with its interval."""
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" if np.isfinite(row.value) else "-"


FORMAT = "ckaprobe-attributions/1"
MADE_BY = ("attributions", "a gradcam.json of `ckaprobe gradcam`", "run the command again")


@dataclass(frozen=True, eq=False, repr=False)
class Attributions(Document):
    """Grad-CAM of several checkpoints over the same images.

    Attributes:
        table: One row for each checkpoint and image, in this order; columns `COLUMNS`.
        models: By checkpoint, as it is called here: `reference`, `hash`, `task`, `architecture`, `size`, `layer`,
            `layer_size`, `view` …
        data: `source`, `hash` of the list of images, `num` of images, `labels` (bool).
        settings: `layer` and `target` as asked, `tolerance` (pixels of the labels), `resamples`, `seed` …
        versions: Packages that made it.

    Raises:
        DataError: A column is missing, or the checkpoints have not the same images.
    """

    noun: ClassVar[str] = "attributions"
    table: pd.DataFrame
    models: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def __post_init__(self):
        if tuple(self.table.columns) != COLUMNS:
            raise DataError(f"expected columns {', '.join(COLUMNS)}, found {', '.join(self.table.columns)}; name them")
        if taken := sorted({CHANCE, *CONTROLS.values()} & self.models.keys()):
            raise DataError(
                f"expected other names of checkpoints than {', '.join(taken)}, which are controls; name them"
            )
        own = {name: list(rows["image"]) for name, rows in self.table.groupby("checkpoint", sort=False)}
        images = next(iter(own.values()), [])
        if list(own) != list(self.models) or not images or any(names != images for names in own.values()):
            raise DataError(
                f"expected rows of the same images for each of {', '.join(self.models) or 'no checkpoint'}, found "
                f"{', '.join(f'{len(names)} of {name}' for name, names in own.items()) or 'none'}; run all on one list"
            )

    def __repr__(self) -> str:
        return f"<Attributions of {len(self.models)} checkpoints over {len(self.images)} images>\n{self.summary()}"

    @property
    def images(self) -> tuple[str, ...]:
        """Return the names of the images."""
        return tuple(self.table["image"].iloc[: len(self.table) // len(self.models)])

    def of(self, checkpoint: str) -> pd.DataFrame:
        """Return the rows of a checkpoint, by image."""
        return self.table[self.table["checkpoint"] == checkpoint].set_index("image").drop(columns="checkpoint")

    def mean(self, checkpoint: str, measure: str, level: float = 0.95) -> dict[str, float]:
        """Return value, low, high and num of a measure of a checkpoint, as in `intervals`.

        Raises:
            DataError: `level` is not between 0 and 1.
            UnknownNameError: There is no such checkpoint or measure.
        """
        registry.get(self.models, checkpoint, "checkpoint")
        registry.get(dict.fromkeys(MEANT), measure, "measure")
        return self._means([self.of(checkpoint)[measure]], level)[0]

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row for each checkpoint and measure: checkpoint, measure, value, low, high, num.

        `value` is the mean over the `num` images that have one; NaN where none has, as everywhere without labels.

        Raises:
            DataError: `level` is not between 0 and 1.
        """
        names = [{"checkpoint": name, "measure": measure} for name in self.models for measure in MEANT]
        means = self._means([self.of(name)[measure] for name in self.models for measure in MEANT], level)
        return pd.DataFrame([name | mean for name, mean in zip(names, means, strict=True)])

    def difference(self, first: str, second: str, measure: str = "ap", level: float = 0.95) -> dict[str, float]:
        """Return value, low, high and num of how much more of a measure a checkpoint has than another, in pairs.

        Args:
            first: A checkpoint.
            second: Another, or "chance" (of an average precision), or a control of the first, in `CONTROLS.values()`.
            measure: In `MEASURES`.
            level: Of the interval.

        Raises:
            DataError: `level` is not between 0 and 1.
            UnknownNameError: There is no such checkpoint or measure.
        """
        return self._means([self._paired(first, second, measure)], level)[0]

    def differences(self, level: float = 0.95) -> pd.DataFrame:
        """Return how much more one map follows boundaries than another of the same image, with paired intervals.

        First each checkpoint less chance and its own controls, then every checkpoint less every later one. Between
        checkpoints of different input size it is of the same images, but not of the same pixels: their chance levels
        differ.

        Returns:
            first, second, kind ("control" or "checkpoint"), measure, value, low, high, num (images in pairs).

        Raises:
            DataError: `level` is not between 0 and 1.
        """
        controls = [(name, other, "control") for name in self.models for other in (CHANCE, *CONTROLS.values())]
        pairs = controls + [(*both, "checkpoint") for both in combinations(self.models, 2)]
        asked = [
            (*pair, measure)
            for pair in pairs
            for measure in MEASURES
            if pair[1] != CHANCE or measure.startswith("ap")  # of a correlation it is 0
        ]
        means = self._means([self._paired(first, second, m) for first, second, _, m in asked], level)
        names = ("first", "second", "kind", "measure")
        return pd.DataFrame([dict(zip(names, row, strict=True)) | mean for row, mean in zip(asked, means, strict=True)])

    def summary(self) -> str:
        """Return what was attributed, and how well maps follow boundaries, as text for a terminal."""
        lines = [f"{name}  {described(model)}" for name, model in self.models.items()]
        lines += [f"target {self.settings['target']}, {len(self.images)} images from {self.data['source']}", ""]
        if not self.data["labels"]:
            return "\n".join([*lines, *self.left_out(), f"No alignment with label boundaries: {UNLABELLED}."])
        differences = self.differences()
        lines += [
            "Average precision of a map's steepness for label boundaries at the network's size, tolerance",
            f"{self.settings['tolerance']:g} px; mean over images with its 95 % interval. Chance is the share of",
            "boundary pixels; true labels, at the layer's pixels, are a map that knows everything. The image's grey",
            "value and its edges are controls, which know nothing. Correlations are in the files.",
            "",
            wide(self.intervals()).to_string(),
            "",
            "The first less the second, in pairs (less the controls: in the files):",
            "",
            long(differences).to_string(index=False),
            "",
            *verdicts(differences),
        ]
        return "\n".join([*lines, "", *self.cautions(), *self.left_out()]).rstrip()

    def cautions(self) -> list[str]:
        """Return, as sentences, what stands between the numbers and what one would like to read from them."""
        if not self.data["labels"]:
            return []
        return [*unlike(self.models), *too_coarse(self.intervals(), self.models)]

    def left_out(self) -> list[str]:
        """Return what is in no mean, a line for each checkpoint and reason."""
        lines = []
        for name in self.models:
            why = self.of(name)["undefined"]
            zero = int(self.of(name)["zero"].sum())
            unseen = ", and in no mean (chance is of all images, differences of those left)"
            unseen *= bool(self.data["labels"])
            lines += [f"{name}: {zero} of {len(why)} maps are zero everywhere{unseen}"] if zero else []
            reasons = why[~why.isin(["", UNLABELLED, ZERO])].value_counts(sort=False)
            lines += [f"{name}: {count} of {len(why)} in no mean, {words}" for words, count in reasons.items()]
        return lines

    def to_frame(self) -> pd.DataFrame:
        """Return `table`, one row per checkpoint and image."""
        return self.table

    @classmethod
    def load(cls, path: str | Path) -> "Attributions":
        """Read the JSON that `save` wrote.

        Raises:
            DataError: The file is not there, or does not hold attributions of this format.
        """
        keys = {"models", "data", "settings", "versions", "intervals", "differences", "table"}
        document = read_document(path, FORMAT, keys, MADE_BY)
        table = document.pop("table")
        for follows in ("intervals", "differences"):  # for readers without this package
            del document[follows]
        if not isinstance(table, dict) or set(table) != set(COLUMNS):
            raise DataError(f"{path}: expected a table of {', '.join(COLUMNS)}; {MADE_BY[-1]}")
        columns = {
            name: np.array(table[name], dtype=np.float64) if name in NUMBERS else table[name] for name in COLUMNS
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

    def _paired(self, first: str, second: str, measure: str) -> pd.Series:
        """Return a measure of a checkpoint less that of another or of a control, by image."""
        registry.get(self.models, first, "checkpoint")
        registry.get(dict.fromkeys(MEASURES), measure, "measure")
        kind = measure.removesuffix(f"_{SIGNED}")
        columns = {words: f"{kind}_{control}" for control, words in CONTROLS.items()} | {CHANCE: CHANCE}
        if second in columns:
            return self.of(first)[measure] - self.of(first)[columns[second]]
        registry.get(self.models, second, "checkpoint")
        return self.of(first)[measure] - self.of(second)[measure]

    def _means(self, columns: Sequence[pd.Series], level: float) -> list[dict[str, float]]:
        """Return value, low, high, num of each column, (images,) each."""
        resamples, seed = self.settings.get("resamples", RESAMPLES), self.settings.get("seed", 0)
        rows = []
        for column in columns:  # one by one, so that a number does not depend on those beside it, not even by rounding
            own = column.to_numpy(np.float64)
            low, high = bootstrap_interval(own[:, None], level, resamples, seed)
            there = own[np.isfinite(own)]
            value = float(there.mean()) if there.size else np.nan
            rows.append({"value": value, "low": float(low[0]), "high": float(high[0]), "num": there.size})
        return rows
