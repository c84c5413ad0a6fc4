"""What `Attributions` say, as text for a terminal."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.attribution.columns import CONTROLS, SIGNED


def described(model: Mapping[str, Any]) -> str:
    """Return what a checkpoint is, in half a line."""
    size, layer_size = (" x ".join(map(str, reversed(model[name]))) for name in ("size", "layer_size"))
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
    return pd.DataFrame(parts | {"difference": [_text(row) for row in shown.itertuples()], "pictures": shown["num"]})


def _text(row: Any) -> str:
    """Return a value with its interval."""
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" if np.isfinite(row.value) else "-"
