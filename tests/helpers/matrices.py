"""Results with terms that give their values, for pages: any size, any layer without a value, any name."""

import numpy as np

from cka_probe.comparison.results import Axis, Side, SimilarityMatrix


def result_of(rows=9, columns=9, *, batches=2, undefined=(), estimator="unbiased", seed=0, name="layer"):
    """Return a result whose values are the ratio of the sums of its terms."""
    draw = np.random.default_rng(seed)
    row, column = np.indices((rows, columns))
    alike = 0.95 * np.exp(-6 * (row / rows - column / columns) ** 2) + 0.02 * draw.standard_normal((rows, columns))
    xx, yy = draw.uniform(0.5, 2, (batches, rows)), draw.uniform(0.5, 2, (batches, columns))
    xy = alike * np.sqrt(xx[:, :, None] * yy[:, None, :]) * (1 + 0.05 * draw.standard_normal((batches, rows, columns)))
    xx[:, list(undefined)] = 0.0
    weights = np.arange(batches) + 32.0
    sums = [np.tensordot(weights, term, axes=1) for term in (xy, xx, yy)]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = sums[0] / np.sqrt(sums[1][:, None] * sums[2])
    values[list(undefined)] = np.nan
    margin = 0.05 * draw.uniform(0.5, 1, values.shape)
    there = np.where(np.isnan(values), np.nan, 1.0)
    return SimilarityMatrix(
        values=values,
        low=values - margin,
        high=values + margin,
        null=0.05 * there,
        p_values=np.where(values > 0.05, 1 / 201, 0.25) * there,
        rows=_axes(rows, name, undefined),
        columns=_axes(columns, name, ()),
        terms={"xy": xy, "xx": xx, "yy": yy, "weights": weights},
        num_examples=int(weights.sum()),
        x=Side("runs/first.safetensors", "tiny", "aa", {}),
        y=Side("runs/second.safetensors", "tiny", "bb", {}),
        images={"source": "rooms", "hash": "cc", "skipped": []},
        settings={"measure": "cka", "estimator": estimator, "permutations": 200, "batch": 32},
        versions={"cka-probe": "0.1.0"},
    )


def _axes(count, name, undefined):
    return tuple(
        Axis(
            f"{name}{index // 12}.{index % 12}",
            f"backbone.{name}{index // 12}.{index % 12}",
            0.5 + index,
            "does not vary" if index in undefined else "",
            (8, 16, 16),
        )
        for index in range(count)
    )
