"""Held maps as the panel of Figure 6: images across, networks down."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cka_probe import registry
from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.saved_map import SavedMap
from cka_probe.errors import DataError
from cka_probe.images.classes import Classes, numbered
from cka_probe.images.sample import IGNORE
from cka_probe.plotting.cam_panel import CamPanel
from cka_probe.plotting.cam_rows import CamColumn

FOOTNOTE = (
    "AP: average precision of the map's steepness for label boundaries within {tolerance:g} px, in brackets that of "
    "chance. A map says where, not how much."
)
SIGNED_NOTE = "Before the ReLU, orange speaks for what is scored and purple against it."


def panel_of(
    result: Attributions,
    held: Mapping[str, Sequence[SavedMap]],
    vocabulary: Classes | None = None,
    classes: Sequence[str] = (),
    *,
    signed: bool = False,
) -> CamPanel:
    """Return the panel of the maps that are held.

    Args:
        result: What they are of.
        held: By checkpoint, of the same images.
        vocabulary: Names and colours of labels; by default their numbers.
        classes: Names of classes whose own maps are shown too, of the target `segmentation`.
        signed: Whether maps are shown before their ReLU too.

    Raises:
        DataError: No maps are held, or there are none of single classes; networks predict different kinds of things;
            `signed` is asked of maps without a gradient.
        UnknownNameError: There is no such class.
    """
    if signed and result.settings["target"] == "none":
        raise DataError(
            "expected a target with a gradient for maps before their ReLU, found none, which takes no gradient, so "
            "nothing in its maps speaks for or against; leave --signed out"
        )
    kinds = {_kind(one.prediction) for maps in held.values() for one in maps}
    if len(kinds) != 1:
        raise DataError(f"expected maps of networks that predict one kind of thing, found {len(kinds)}; hold some maps")
    predicts, first = kinds.pop(), next(iter(held.values()))
    vocabulary = _vocabulary(vocabulary, held) if predicts == "labels" else Classes(())
    numbers = {name: number for number, name in enumerate(vocabulary.names)}
    wanted = {name: registry.get(numbers, name, "class") for name in classes}
    columns = tuple(
        _column({name: maps[place] for name, maps in held.items()}, result, predicts, wanted)
        for place in range(len(first))
    )
    if signed:
        own = [{name: maps[place].before_relu() for name, maps in held.items()} for place in range(len(first))]
        columns = tuple(replace(column, signed=maps) for column, maps in zip(columns, own, strict=True))
    note = FOOTNOTE.format(tolerance=result.settings["tolerance"]) if result.data["labels"] else ""
    note = " ".join([note] * bool(note) + [SIGNED_NOTE] * signed)
    return CamPanel(
        columns, predicts, vocabulary.names, np.array(vocabulary.colours).reshape(-1, 3), tuple(wanted), note
    )


def _column(maps: Mapping[str, SavedMap], result: Attributions, predicts: str, wanted: Mapping[str, int]) -> CamColumn:
    """Return one image with the maps of all networks."""
    first = next(iter(maps.values()))
    return CamColumn(
        first.name,
        first.image,
        maps={name: one.shown for name, one in maps.items()},
        truth=first.truth if _kind(first.truth) == predicts else None,
        predictions={name: one.prediction for name, one in maps.items()} if predicts else {},
        class_maps={
            name: {word: one.of_class(number) for word, number in wanted.items()} for name, one in maps.items()
        },
        notes={name: _note(result, name, first.name) for name in maps},
    )


def _note(result: Attributions, checkpoint: str, image: str) -> str:
    """Return how well a map follows boundaries, or ""."""
    row = result.of(checkpoint).loc[image]
    return f"AP {row['ap']:.2f} ({row['chance']:.2f})" if np.isfinite(row["ap"]) else ""


def _kind(value: np.ndarray | str | None) -> str:
    """Return what kind of thing a prediction is, as `CamPanel.predicts` has it."""
    if value is None or isinstance(value, str):
        return "" if value is None else "category"
    return "labels" if value.dtype.kind in "iu" else "depth"


def _vocabulary(classes: Classes | None, held: Mapping[str, Sequence[SavedMap]]) -> Classes:
    """Return the classes, or as many numbered ones as are drawn where fewer are known."""
    drawn = [value for maps in held.values() for one in maps for value in (one.prediction, one.truth)]
    most = max((int(v[v != IGNORE].max(initial=0)) for v in drawn if _kind(v) == "labels"), default=0)
    return classes if classes is not None and len(classes) > most else numbered(most + 1)
