"""Depth of the paper's arms beside the truth, on images in and out of distribution (as its Figures 3, 4, 6 and 7).

The images are those at the sixths of the list of what was scored: they are not chosen by how they look.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cka_probe.errors import DataError
from cka_probe.images.datasets import Dataset, open_dataset
from cka_probe.lab.evaluation.boundaries import predicted_edges
from cka_probe.lab.evaluation.predictions import read_prediction
from cka_probe.papers.drawn import Drawn, files_of
from cka_probe.papers.mesa.arms import ROOMS
from cka_probe.papers.mesa.evidence import PLACES, Evidence
from cka_probe.plotting.depth_panel import DepthPanel, DepthRow, save_depth_panel

SHOWN = (1 / 6, 1 / 2, 5 / 6)
"""Where in the list of images those shown are."""


def draw_depths(evidence: Evidence, folder: Path) -> list[Drawn]:
    """Draw what the first seed's fine-tuned networks predict: depth and error, and out of distribution edges.

    Args:
        evidence: The study.
        folder: For the files.

    Returns:
        A figure for each place; without files where predictions were not kept or their images are gone.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    return [_draw(evidence, place, folder) for place in PLACES]


def _draw(evidence: Evidence, place: str, folder: Path) -> Drawn:
    seed, stem = evidence.seeds[0], f"depth_{place}"
    caption = (
        f"Depth {PLACES[place]}: image, truth, and each network fine-tuned (as the paper's Figures 3, 4, 6 and 7). "
        f"Seed {seed}; the images stand at the sixths of the list."
    )
    kept = {arm.name: evidence.predictions(seed, arm.tuned, place) for arm in ROOMS}
    missing = [name for name, where in kept.items() if where is None]
    kept = {name: where for name, where in kept.items() if where is not None}
    scored = [found for arm in ROOMS if arm.name in kept and (found := evidence.scores(seed, arm.tuned, place))]
    if not scored:
        return Drawn(stem, caption, (), missing)
    names = list(scored[0].table.index)
    try:
        dataset = open_dataset(scored[0].data["source"])
    except DataError:
        return Drawn(stem, f"{caption} Not drawn: the images are no longer where they were.", (), missing)
    rows = depth_rows(dataset, [names[int(len(names) * part)] for part in SHOWN], kept)
    parts = ("depth", "edges") if all(row.edges for row in rows) else ("depth", "error")
    return Drawn(stem, caption, save_depth_panel(DepthPanel(rows, parts), files_of(folder / stem)), missing)


def depth_rows(dataset: Dataset, names: Sequence[str], kept: dict[str, Path]) -> list[DepthRow]:
    """Return images with their truth and what was predicted of them.

    Args:
        dataset: What was scored.
        names: Of the images.
        kept: Folder of predictions by the name of the arm.

    Returns:
        With edges where the dataset has true ones.

    Raises:
        DataError: An image or a prediction is not there.
    """
    index = {dataset.describe(place): place for place in range(len(dataset))}
    rows = []
    for name in dict.fromkeys(names):
        if name not in index:
            raise DataError(f"expected the image {name!r} that was scored, found none of that name; score again")
        sample = dataset[index[name]]
        predictions = {arm: read_prediction(folder, name) for arm, folder in kept.items()}
        edges = None
        if "edges" in sample:
            edges = {"truth": sample["edges"][0].numpy()}
            edges |= {arm: predicted_edges(depth) for arm, depth in predictions.items()}
        image = np.rint(sample["image"].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        rows.append(DepthRow(name, image, sample["depth"][0].numpy(), predictions, edges))
    return rows
