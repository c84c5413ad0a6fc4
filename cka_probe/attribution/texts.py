"""What `Attributions` say, as text for a terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.attribution.columns import CONTROLS, SIGNED

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
