"""What the main arms segment, beside the truth, on test images.

The images are those at the sixths of the list of what was scored: they are not chosen by how they look.
"""

from pathlib import Path

from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.evaluation.showing import label_rows
from cka_probe.papers.depth_to_semantic.cases import ARMS, Case
from cka_probe.papers.depth_to_semantic.evidence import Evidence, Run
from cka_probe.papers.drawn import Drawn, files_of
from cka_probe.plotting.label_panel import save_label_panel

SHOWN = (1 / 6, 1 / 2, 5 / 6)
"""Where in the list of images those shown are."""

PANELS = {
    "segments": ("KITTI's streets", [Case(arm) for arm in ("none", "classification", "video", "lidar")]),
    "segments_rooms": ("rooms", [Case(arm, data="rooms") for arm in ("none", "classification", "rooms_depth")]),
}
"""What is shown, and the cases, by stem."""


def draw_segments(evidence: Evidence, folder: Path) -> list[Drawn]:
    """Draw what the first trial of the first seed predicts of test images.

    Args:
        evidence: The study.
        folder: For the files.

    Returns:
        A figure for each of `PANELS`; without files where predictions were not kept or their images are gone.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    return [_draw(evidence, stem, folder) for stem in PANELS]


def _draw(evidence: Evidence, stem: str, folder: Path) -> Drawn:
    (words, cases), run = PANELS[stem], Run(evidence.seeds[0], 0)
    caption = (
        f"Test images of {words}: image, truth, and what each arm predicts after everything was fine-tuned. Seed "
        f"{run.seed}, trial 0; the images stand at the sixths of the list."
    )
    places = {case: evidence.predictions(case, run) for case in cases}
    kept = {ARMS[case.arm]: place for case, place in places.items() if place is not None}
    missing = [ARMS[case.arm] for case, place in places.items() if place is None]
    if not kept:
        return Drawn(stem, caption, (), missing)
    scores = next(found for case in cases if places[case] and (found := evidence.scores(case, run)) is not None)
    try:
        dataset = open_dataset(scores.data["source"])
    except DataError:
        return Drawn(stem, f"{caption} Not drawn: the images are no longer where they were.", (), missing)
    names = list(dict.fromkeys(scores.images[int(len(scores.images) * part)] for part in SHOWN))
    panel = label_rows(dataset, kept, names, ("labels",))
    return Drawn(stem, caption, save_label_panel(panel, files_of(folder / stem)), missing)
