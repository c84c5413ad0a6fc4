"""What holds for all cells of a comparison together: bands, and the nulls of the largest cell and of the mean.

The entries, in a result's `family`:

    low, high                    95 % band of CKA, (rows, columns): it holds all cells at once
    row_low, row_high            in each row, the band of the cells of this row, (rows, columns)
    diagonal_low, diagonal_high  that of the cells (i, i), (layers,)
    p_values                     one-sided, corrected for the number of cells by the null of the largest, same shape
    max, mean                    of the largest cell and of the mean over cells: `value`, the 95 % quantile `tau` of
                                 what permuted images reach, and `p_value`
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from cka_probe.documents import expect

if TYPE_CHECKING:
    from cka_probe.similarity import Cells

STATISTICS = ("max", "mean")


def family_of(cells: "Cells") -> dict[str, Any]:
    """Return the entries: bands of CKA from Grams, and nulls if there are permutations."""
    import torch

    from cka_probe.similarity import family_null, familywise_p_values

    family: dict[str, Any] = {}
    if cells.errors is not None:
        every = torch.ones_like(cells.values, dtype=torch.bool)
        family["low"], family["high"] = (end.numpy() for end in cells.errors.band(every))
        family["row_low"], family["row_high"] = (end.numpy() for end in cells.errors.row_bands())
        if len(set(cells.values.shape)) == 1:
            ends = cells.errors.band(torch.eye(len(cells.values), dtype=torch.bool))
            family["diagonal_low"], family["diagonal_high"] = (end.diagonal().numpy() for end in ends)
    if cells.permuted is not None and len(cells.permuted):
        family["p_values"] = familywise_p_values(cells.values, cells.permuted).numpy()
        family |= {name: asdict(family_null(cells.values, cells.permuted, name)) for name in STATISTICS}
    return family


def read_family(document: Mapping[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the entries from a file; (rows, columns) is the `shape` of the result."""
    family: dict[str, Any] = {}
    for name, entry in document.items():
        if name in STATISTICS:
            keys = ("value", "tau", "p_value")
            family[name] = {key: np.nan if entry[key] is None else float(entry[key]) for key in keys}
            continue
        family[name] = np.array(entry, dtype=np.float64)
        expected = shape[:1] if name.startswith("diagonal") else shape
        expect(family[name].shape == expected, f"{name} of {' x '.join(map(str, expected))} layers")
    return family


def family_table(family: Mapping[str, Any], calibrated: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of a table with one row per cell."""
    titles = {"low": "band_low", "high": "band_high", "row_low": "row_band_low", "row_high": "row_band_high"}
    titles |= {"p_values": "p_family"}
    columns = {title: np.ravel(family[name]) for name, title in titles.items() if name in family}
    return columns | ({"calibrated": calibrated.ravel()} if family else {})


def family_facts(family: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the entries as names and texts for a terminal or a page."""
    facts = []
    bands = {"": "all cells", "row_": "cells of a row", "diagonal_": "the diagonal"}
    for names, title in (((f"{part}low", f"{part}high"), title) for part, title in bands.items()):
        low, high = (np.asarray(family.get(name, np.nan), dtype=np.float64) for name in names)
        if np.isfinite(high - low).any():
            facts.append((title, f"±{np.nanmedian(high - low) / 2:.3f} (95 % band of all at once, median)"))
    for name, title in (("max", "largest cell"), ("mean", "mean of all cells")):
        null = family.get(name, {})
        if np.isfinite(null.get("tau", np.nan)):
            text = f"{null['value']:.3f}, by chance up to {null['tau']:.3f} (95 %), p = {null['p_value']:.3g}"
            facts.append((title, text))
    return tuple(facts)
