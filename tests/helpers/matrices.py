"""Results of comparisons of any size: with terms that give their values, or with values that differ in every cell."""

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
        settings={"measure": "cka", "estimator": estimator, "features": "flatten", "permutations": 200, "batch": 32},
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


NINE = [
    "layers.0.downsample.norm",
    "layers.1.downsample.norm",
    *(f"layers.2.blocks.{block}.norm1" for block in (3, 6, 9, 12, 15)),
    "layers.2.downsample.norm",
    "norm3",
]
TEN = ["maxpool", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)), "fc"]
MANY = [f"layers.{block // 20}.blocks.{block % 20}.norm1" for block in range(61)]
LONG = [f"module.backbone.encoder.transformer.layers.{layer}.attention.self.output_projection" for layer in range(9)]
LONG_FILE = "checkpoint_epoch_0100_swin_v2_large_simmim_window_30_nyu.pth.tar"


def made(rows, columns, *, undefined=(), shift=0.0, x="checkpoints/pretrained.pth", y="fine$tuned$.ckpt"):
    """A result whose value at (i, j) falls with |i - j| and with depth, different in every cell."""
    i, j = np.indices((len(rows), len(columns)))
    values = 0.96 - 0.8 * np.abs(i / len(rows) - j / len(columns)) - 0.01 * i / len(rows) - shift
    values[list(undefined)] = np.nan
    null = np.where(np.isnan(values), np.nan, 0.07 + 0.01 * np.cos(i))
    return SimilarityMatrix(
        values=values,
        low=values - 0.03,
        high=values + 0.03,
        null=null,
        p_values=np.full(values.shape, 0.01),
        rows=tuple(Axis(name, name, 1.0, "does not vary" if k in undefined else "") for k, name in enumerate(rows)),
        columns=tuple(Axis(name, name, 1.0) for name in columns),
        terms={},
        num_examples=64,
        x=Side(x, "swinv2_micro", "0", {}),
        y=Side(y, "swinv2_micro", "1", {}),
        images={"hash": "2", "source": "scenes", "skipped": []},
        settings={"measure": "cka", "estimator": "unbiased", "features": "flatten"},
        versions={},
    )


CASES = {
    "nine": made(NINE, NINE),
    "undefined": made(NINE, NINE, undefined=(2, 8)),
    "nothing defined": made(NINE, NINE, undefined=range(9)),
    "negative": made(NINE, NINE, shift=1.2),
    "many": made(MANY, MANY, undefined=(7,)),
    "rectangle": made(NINE, TEN),
    "strip": made(NINE, MANY),
    "column": made(MANY, TEN, undefined=(7,)),
    "twelve": made(MANY[:12], MANY[:12]),
    "one": made(["fc"], ["fc"]),
    "long names": made(LONG, LONG, x=f"first/{LONG_FILE}", y=f"second/{LONG_FILE}"),
    "long names of both": made(LONG, LONG[::-1], x=f"first/{LONG_FILE}", y=f"second/{LONG_FILE}"),
}
