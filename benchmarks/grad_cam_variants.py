"""Compare ways of making one Grad-CAM map of a segmentation: shares of maps that are zero, and average precision.

    python benchmarks/grad_cam_variants.py runs/semantic/seed0/tuned/*/*/trial0/segment.safetensors \
        --data "kitti_semantics:runs/semantic/data/kitti_labels?split=val&validation=90"

With the map before the ReLU of each predicted class k, L_k = sum_c alpha_c^k A_c, of its logits or their log-softmax:

| variant | map |
|---|---|
| ReLU of each class | sum_k ReLU(L_k), that of `ckaprobe gradcam` |
| ReLU of the sum | ReLU(sum_k L_k) |
| no ReLU | sum_k L_k |
| absolute value | abs(sum_k L_k) |
| largest class | ReLU(L_k) of the class with the most pixels |
"""

import argparse
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cka_probe.attribution.alignment import Boundaries, alignment, find_boundaries
from cka_probe.attribution.grad_cam import Maps, grad_cam
from cka_probe.attribution.networks import network_of
from cka_probe.images.datasets import open_dataset, read_samples

FIELDS = frozenset({"image", "labels"})
TOLERANCE = 1.0
"""Pixels, as in the study of Depth-to-Semantic."""


def variants(maps: Maps) -> Mapping[str, Tensor]:
    """Return the maps (n, h, w) of each variant."""
    if maps.per_class is None or maps.predictions is None:
        raise ValueError("expected maps of a segmentation, found others")
    largest = maps.predictions.flatten(1).mode(1).values
    return {
        "ReLU of each class": maps.positive,
        "ReLU of the sum": maps.signed.clamp_min(0),
        "no ReLU": maps.signed,
        "absolute value": maps.signed.abs(),
        "largest class": maps.per_class[torch.arange(len(largest)), largest].clamp_min(0),
    }


def row(maps: Tensor, boundaries: list[Boundaries], size: tuple[int, int]) -> dict[str, float]:
    """Return the numbers of one variant: means over images, of average precision over those that have one."""
    large = interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0].double().numpy()
    precisions = [alignment(one, boundary).ap for one, boundary in zip(large, boundaries, strict=True)]
    return {
        "zero everywhere": float((maps == 0).flatten(1).all(1).float().mean()),
        "positive pixels": float((maps > 0).float().mean()),
        "average precision": float(np.nanmean(precisions)) if np.isfinite(precisions).any() else np.nan,
        "chance": float(np.mean([boundary.share for boundary in boundaries])),
    }


def main() -> None:
    """Print a table for each checkpoint, and of several their means and standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--data", required=True, help="labelled images")
    parser.add_argument("--num", type=int, default=90, help="how many of them, from the first on")
    options = parser.parse_args()
    dataset = open_dataset(options.data)
    indices = range(min(options.num, len(dataset)))
    tables = []
    for checkpoint in options.checkpoints:
        network = network_of(checkpoint)
        samples = [network.prepare_sample(sample) for sample in read_samples(dataset, indices, FIELDS)]
        images = torch.stack([sample["image"] for sample in samples])
        boundaries = [find_boundaries(sample["labels"].numpy(), TOLERANCE) for sample in samples]
        rows = {
            (score, name): row(maps, boundaries, (images.shape[-2], images.shape[-1]))
            for score, log_softmax in (("logits", False), ("log-softmax", True))
            for name, maps in variants(grad_cam(network, images, "first", log_softmax=log_softmax)).items()
        }
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["score", "variant"])
        print(f"{checkpoint}, {len(images)} images\n{table.to_string(float_format='%.3f')}\n", flush=True)
        tables.append(table)
    if len(tables) > 1:
        over = pd.concat(tables).groupby(level=[0, 1], sort=False)
        print(f"mean of {len(tables)}\n{over.mean().to_string(float_format='%.3f')}\n")
        print(f"standard deviation of {len(tables)}\n{over.std().to_string(float_format='%.3f')}")


if __name__ == "__main__":
    main()
