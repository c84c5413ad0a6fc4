"""How well the maps of several checkpoints follow the outlines of classes: a row for each picture and checkpoint.

What is kept is each picture's own numbers (`alignment`), so that means, their intervals and paired differences follow
without another forward pass. All checkpoints have the same pictures, and what is drawn again for an interval is
pictures, always whole (`resampling`), so that two checkpoints are compared in pairs. A picture of which nothing can be
said (no boundary, a map that is zero everywhere) is NaN with its reason: it is in no mean, and in no pair.

| column | what |
|---|---|
| `correlation`, `ap` | of the map's steepness with the label boundaries; average precision |
| `correlation_signed`, `ap_signed` | the same of the map before its ReLU, which leaves some maps zero |
| `chance` | share of boundary pixels: the average precision of a random ranking; a random correlation is 0 |
| `correlation_picture`, `ap_picture` | the same of the picture's grey value: what an edge detector gets |
| `correlation_edges`, `ap_edges` | the same of a map that lights up at the picture's edges |
| `score`, `zero` | the target's value; whether the map is nowhere positive (1) or not (0) |
| `predicted` | the class of a classifier, else "" |
| `undefined` | why `correlation` and `ap` are NaN, or "" |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.attribution.alignment import ZERO
from cka_probe.documents import check_suffix, read_document, write_document
from cka_probe.errors import DataError
from cka_probe.resampling import RESAMPLES, bootstrap_interval
from cka_probe.writing import replacing

FORMAT = "ckaprobe-attributions/1"
MADE_BY = ("attributions", "a gradcam.json of `ckaprobe gradcam`", "run the command again")

KINDS = ("correlation", "ap")
SIGNED = "signed"
MEASURES = (*KINDS, *(f"{kind}_{SIGNED}" for kind in KINDS))
"""What is compared between checkpoints, and with its controls."""
CONTROLS = {"picture": "the picture itself", "edges": "the picture's edges"}
"""Maps that have understood nothing, by the ending of their columns."""
NUMBERS = (
    *MEASURES,
    "chance",
    *(f"{kind}_{control}" for control in CONTROLS for kind in KINDS),
    "boundary",
    "counted",
    "score",
    "zero",
)
"""Columns of numbers; `boundary` and `counted` are pixels."""
WORDS = ("predicted", "undefined")
COLUMNS = ("checkpoint", "picture", *NUMBERS, *WORDS)
MEANT = NUMBERS[: NUMBERS.index("boundary")]
"""Columns that have a mean with an interval."""
UNLABELLED = "the data have no labels"


@dataclass(frozen=True, eq=False, repr=False)
class Attributions:
    """Grad-CAM of several checkpoints over the same pictures.

    Attributes:
        table: One row for each checkpoint and picture, in this order; columns `COLUMNS`.
        models: By checkpoint, as it is called here: `reference`, `hash`, `task`, `architecture`, `size`, `layer`,
            `layer_size`, `view` …
        data: `source`, `hash` of the list of pictures, `num` of pictures, `labels` (bool).
        settings: `layer` and `target` as asked, `tolerance` (pixels of the labels), `resamples`, `seed` …
        versions: Packages that made it.

    Raises:
        DataError: A column is missing, or the checkpoints have not the same pictures.
    """

    table: pd.DataFrame
    models: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def __post_init__(self):
        if tuple(self.table.columns) != COLUMNS:
            raise DataError(f"expected columns {', '.join(COLUMNS)}, found {', '.join(self.table.columns)}; name them")
        own = {name: list(rows["picture"]) for name, rows in self.table.groupby("checkpoint", sort=False)}
        pictures = next(iter(own.values()), [])
        if list(own) != list(self.models) or not pictures or any(names != pictures for names in own.values()):
            raise DataError(
                f"expected rows of the same pictures for each of {', '.join(self.models) or 'no checkpoint'}, found "
                f"{', '.join(f'{len(names)} of {name}' for name, names in own.items()) or 'none'}; run all on one list"
            )

    def __repr__(self) -> str:
        return f"<Attributions of {len(self.models)} checkpoints over {len(self.pictures)} pictures>\n{self.summary()}"

    @property
    def pictures(self) -> tuple[str, ...]:
        """Return the names of the pictures."""
        return tuple(self.table["picture"].iloc[: len(self.table) // len(self.models)])

    def of(self, checkpoint: str) -> pd.DataFrame:
        """Return the rows of a checkpoint, by picture."""
        return self.table[self.table["checkpoint"] == checkpoint].set_index("picture").drop(columns="checkpoint")

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row for each checkpoint and measure: checkpoint, measure, value, low, high, num.

        `value` is the mean over the `num` pictures that have one; NaN where none has, as everywhere without labels.

        Raises:
            DataError: `level` is not between 0 and 1.
        """
        rows = []
        for name in self.models:
            means = self._means(self.of(name)[list(MEANT)].to_numpy(np.float64), level)
            named = zip(MEANT, means, strict=True)
            rows += [{"checkpoint": name, "measure": measure} | mean for measure, mean in named]
        return pd.DataFrame(rows)

    def differences(self, level: float = 0.95) -> pd.DataFrame:
        """Return how much more one map follows boundaries than another of the same picture, with paired intervals.

        First each checkpoint less its own controls ("chance", and those in `CONTROLS`), then every checkpoint less
        every later one. Between checkpoints of different input size it is of the same pictures, but not of the same
        pixels: their chance levels differ.

        Returns:
            first, second, kind ("control" or "checkpoint"), measure, value, low, high, num (pictures in pairs).

        Raises:
            DataError: `level` is not between 0 and 1.
        """
        pairs = [
            (name, words, "control", measure, self.of(name)[measure] - self.of(name)[column])
            for name in self.models
            for words, column, measure in _against()
        ]
        pairs += [
            (first, second, "checkpoint", measure, self.of(first)[measure] - self.of(second)[measure])
            for first, second in combinations(self.models, 2)
            for measure in MEASURES
        ]
        means = self._means(np.stack([pair[-1].to_numpy(np.float64) for pair in pairs], -1), level)
        names = ("first", "second", "kind", "measure")
        return pd.DataFrame(
            [dict(zip(names, pair[:-1], strict=True)) | mean for pair, mean in zip(pairs, means, strict=True)]
        )

    def summary(self) -> str:
        """Return what was attributed, and how well maps follow boundaries, as text for a terminal."""
        lines = [f"{name}  {_described(model)}" for name, model in self.models.items()]
        lines += [f"target {self.settings['target']}, {len(self.pictures)} pictures from {self.data['source']}", ""]
        if not self.data["labels"]:
            return "\n".join([*lines, *self.left_out(), f"No alignment with label boundaries: {UNLABELLED}."])
        lines += [
            "Average precision of a map's steepness for label boundaries at the network's size, tolerance",
            f"{self.settings['tolerance']:g} px; mean over pictures with its 95 % interval. Chance is the share of",
            "boundary pixels. The picture's grey value and its edges are controls: they have understood nothing.",
            "Correlations are in the files.",
            "",
            _wide(self.intervals()).to_string(),
            "",
            "The first less the second, in pairs (less the controls: in the files):",
            "",
            _long(self.differences()).to_string(index=False),
        ]
        return "\n".join([*lines, "", *self.left_out()]).rstrip()

    def left_out(self) -> list[str]:
        """Return what is in no mean, a line for each checkpoint and reason."""
        lines = []
        for name in self.models:
            why = self.of(name)["undefined"]
            zero = int(self.of(name)["zero"].sum())
            unseen = ", and in no mean" * bool(self.data["labels"])
            lines += [f"{name}: {zero} of {len(why)} maps are zero everywhere{unseen}"] if zero else []
            reasons = why[~why.isin(["", UNLABELLED, ZERO])].value_counts(sort=False)
            lines += [f"{name}: {count} of {len(why)} in no mean, {words}" for words, count in reasons.items()]
        return lines

    def save(self, path: str | Path) -> Path:
        """Write everything as JSON, or the table as CSV, as the suffix says.

        Args:
            path: `*.json` (everything; `Attributions.load` reads it) or `*.csv` (one row a checkpoint and picture).

        Returns:
            The path written.

        Raises:
            DataError: Another suffix.
            OutputError: It cannot be written there.
        """
        path = check_suffix(path, MADE_BY[0])
        if path.suffix == ".json":
            return write_document(path, self._as_json())
        with replacing(path) as beside:
            self.table.to_csv(beside, index=False, lineterminator="\n")
        return path

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

    def _as_json(self) -> dict[str, Any]:
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

    def _means(self, values: np.ndarray, level: float) -> list[dict[str, float]]:
        """Return value, low, high, num of each column of (pictures, columns)."""
        resamples, seed = self.settings.get("resamples", RESAMPLES), self.settings.get("seed", 0)
        low, high = bootstrap_interval(values, level, resamples, seed)
        there = np.isfinite(values)
        num = there.sum(0)
        mean = np.where(num > 0, np.where(there, values, 0).sum(0) / num.clip(min=1), np.nan)
        columns = zip(mean, low, high, num, strict=True)
        return [dict(zip(("value", "low", "high", "num"), column, strict=True)) for column in columns]


def _against() -> list[tuple[str, str, str]]:
    """Return (words, column, measure) of what each checkpoint is held against."""
    own = [
        (words, f"{measure.removesuffix(f'_{SIGNED}')}_{control}", measure)
        for control, words in CONTROLS.items()
        for measure in MEASURES
    ]
    return [("chance", "chance", "ap"), ("chance", "chance", f"ap_{SIGNED}"), *own]


def _described(model: Mapping[str, Any]) -> str:
    """Return what a checkpoint is, in half a line."""
    size, layer_size = (" x ".join(map(str, reversed(model[name]))) for name in ("size", "layer_size"))
    task = f", task {model['task']}" if model["task"] else ""
    return f"{model['reference']} ({model['architecture']}{task}), {size} px; layer {model['layer']}, {layer_size}"


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """Return average precisions as words, a checkpoint a row."""
    columns = {"ap": "map", f"ap_{SIGNED}": "before ReLU", "chance": "chance"}
    columns |= {f"ap_{control}": words for control, words in CONTROLS.items()}
    shown = rows[rows["measure"].isin(columns)]
    texts = {(row.checkpoint, row.measure): _text(row) for row in shown.itertuples()}
    names = list(dict.fromkeys(shown["checkpoint"]))
    return pd.DataFrame({words: [texts[name, column] for name in names] for column, words in columns.items()}, names)


def _long(rows: pd.DataFrame) -> pd.DataFrame:
    """Return differences of average precision as words."""
    shown = rows[rows["measure"].isin(["ap", f"ap_{SIGNED}"]) & ~rows["second"].isin(CONTROLS.values())]
    what = shown["measure"].map({"ap": "map", f"ap_{SIGNED}": "before ReLU"})
    parts = {"first": shown["first"], "second": shown["second"], "of": what}
    return pd.DataFrame(parts | {"difference": [_text(row) for row in shown.itertuples()], "pictures": shown["num"]})


def _text(row: Any) -> str:
    """Return a value with its interval."""
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" if np.isfinite(row.value) else "-"
