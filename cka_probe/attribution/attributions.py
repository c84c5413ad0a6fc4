"""How well the maps of several checkpoints follow the outlines of classes: a row for each image and checkpoint.

What is kept is each image's own numbers (`alignment`), so that means, their intervals and paired differences follow
without another forward pass. All checkpoints have the same images, and what is drawn again for an interval is
images, always whole (`resampling`), so that two checkpoints are compared in pairs. An image of which nothing can be
said (no boundary, a map that is zero everywhere) is NaN with its reason: it is in no mean, and in no pair.

The columns are those of `columns`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.attribution.alignment import ZERO
from cka_probe.attribution.columns import (
    CHANCE,
    COLUMNS,
    CONTROLS,
    MEANT,
    MEASURES,
    NUMBERS,
    SIGNED,
    UNLABELLED,
)
from cka_probe.attribution.texts import described, long, too_coarse, unlike, verdicts, wide
from cka_probe.documents import Document, read_document
from cka_probe.errors import DataError
from cka_probe.similarity.resampling import RESAMPLES, bootstrap_interval

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
