"""How many images are enough? One pass over 600 of them, then comparisons of ever smaller parts of it.

    python reports/how_many/how_many.py runs/first_road ../shared/data/caltech101 reports/how_many

Three pairs of layers of two checkpoints (masked pre-training, and depth fine-tuning after it): much alike, less alike,
and unrelated, which is a layer of y that has seen the images in another order. For each number of images, 24 draws
from the 600 without replacement; in each the unbiased CKA with its interval, and the biased one. Writes how_many.csv
(a row for each draw) and how_many.png.
"""

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch

import cka_probe
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.models.layers import LayerMap

IMAGES, DRAWS, BATCH = 600, 24, 64
NUMBERS = (16, 32, 64, 128, 256, 512)
PAIRS = {"much alike": (8, 8, False), "less alike": (2, 8, False), "unrelated": (8, 8, True)}


def part(whole: Fingerprint, layer: int, chosen: torch.Tensor, hashes: torch.Tensor) -> Fingerprint:
    """Return the fingerprint of one layer over some of the images, in batches of 64, centred again."""
    batches = []
    for places in chosen.split(BATCH):
        gram = whole.grams[0][layer][places][:, places]
        batches.append((gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean())[None])
    one = whole.subset(LayerMap((whole.layers[layer],)))
    return replace(one, grams=tuple(batches), images=tuple(whole.images[place] for place in hashes))


def rows(x: Fingerprint, y: Fingerprint):
    """Yield a row for each pair, number of images and draw."""
    generator = torch.Generator().manual_seed(0)
    for number in NUMBERS:
        for draw in range(DRAWS):
            chosen = torch.randperm(IMAGES, generator=generator)[:number]
            other = torch.randperm(IMAGES, generator=generator)[:number]
            for pair, (layer_x, layer_y, shuffled) in PAIRS.items():
                sides = (
                    part(x, layer_x, chosen, chosen),
                    part(y, layer_y, other if shuffled else chosen, chosen),
                )
                both = {
                    name: cka_probe.compare_fingerprints(*sides, estimator=name, permutations=0)
                    for name in ("unbiased", "biased")
                }
                unbiased = both["unbiased"]
                values = {name: result.values.item() for name, result in both.items()}
                ends = {"low": unbiased.low.item(), "high": unbiased.high.item()}
                yield {"pair": pair, "images": number, "draw": draw, **values, **ends}


def draw_figure(frame: pd.DataFrame, path: Path) -> None:
    """Draw every draw as a point, the mean half-width of the interval as a band, both estimators."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 7, "axes.linewidth": 0.6})
    figure, panels = plt.subplots(1, len(PAIRS), figsize=(7.2, 2.3), sharey=True, layout="constrained")
    for panel, (pair, table) in zip(panels, frame.groupby("pair", sort=False), strict=True):
        groups = table.groupby("images")
        mean, half = groups["unbiased"].mean(), groups.apply(lambda rows: (rows["high"] - rows["low"]).mean() / 2)
        panel.fill_between(mean.index, mean - half, mean + half, color="#0b559f", alpha=0.2, linewidth=0)
        for name, colour, shift in (("unbiased", "#0b559f", 0.96), ("biased", "#d55e00", 1.04)):
            panel.plot(table["images"] * shift, table[name], ".", color=colour, markersize=2, alpha=0.6)
            panel.plot(groups[name].mean(), color=colour, linewidth=1, label=name)
        panel.set_xscale("log", base=2)
        panel.set_xticks(NUMBERS, [str(number) for number in NUMBERS])
        panel.set(title=pair, xlabel="images")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="CKA", ylim=(-0.22, 1.02))
    panels[-1].legend(frameon=False, title="band: mean 95 % interval\nof the unbiased", title_fontsize=6)
    figure.savefig(path, dpi=200, metadata={"Software": None})


def main(run: Path, images: str, out: Path) -> None:
    """Fingerprint both checkpoints once; compare parts; write the table and the figure."""
    sides = [
        cka_probe.fingerprint(run / f"{stage}.safetensors", images, num=IMAGES, batch=IMAGES)
        for stage in ("masked", "depth")
    ]
    frame = pd.DataFrame(rows(*sides))
    frame.round(4).to_csv(out / "how_many.csv", index=False)
    draw_figure(frame, out / "how_many.png")
    frame["half"] = (frame["high"] - frame["low"]) / 2
    columns = {
        "unbiased": ("unbiased", "mean"),
        "spread": ("unbiased", lambda v: 1.96 * np.std(v, ddof=1)),
        "half-width": ("half", "mean"),
        "biased": ("biased", "mean"),
    }
    print(frame.groupby(["pair", "images"], sort=False).agg(**columns).round(3).to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
