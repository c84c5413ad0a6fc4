"""Do Grad-CAM maps follow the outlines of classes? The paper's Figure 6, with the numbers that belong to it.

An image of maps shows what one wants to see in it, so beside the figure stands how well each map's steepness finds the
boundaries of the labels (`attribution.alignment`), what chance finds, and what the image's own edges find: a map that
only copies edges is as good as these. Maps are compared in pairs of the same test image.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.panels import panel_of
from cka_probe.attribution.saved_map import load_held
from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES
from cka_probe.papers.cells import undefined
from cka_probe.papers.depth_to_semantic.cases import ARMS, Case
from cka_probe.papers.depth_to_semantic.evidence import Evidence, Run
from cka_probe.papers.depth_to_semantic.gradcam import FIGURE6
from cka_probe.papers.depth_to_semantic.questions import Question, find
from cka_probe.papers.drawn import Drawn, files_of
from cka_probe.papers.estimate import Estimate
from cka_probe.papers.texts import shown
from cka_probe.plotting.cam_panel import save_cam_panel

STEM = "figure6"

MEASURES = {
    "ap": "map",
    "ap_signed": "before the ReLU",
    "chance": "chance",
    "ceiling": "true labels",
    "ap_image": "the image",
    "ap_edges": "its edges",
    "zero": "maps that are zero",
}
"""Columns of the table: average precisions for label boundaries, in percent, and how many maps are zero everywhere."""

CORRELATIONS = {"correlation": "map, correlation", "correlation_signed": "before the ReLU, correlation"}
"""More of them, as they are."""

NOTHING = "no test image has a map that is not zero"


def of_map(case: Case, measure: str) -> Question:
    """Return the question how much of a measure the maps of a case have, mean over images."""
    return _asked(lambda result: result.mean(case.name, measure), measure, case)


def follows(better: Case, worse: Case, measure: str = "ap") -> Question:
    """Return the question how much more of a measure the maps of one case have than those of another, in pairs."""
    return _asked(lambda result: result.difference(better.name, worse.name, measure), measure, better, worse)


def beats(case: Case, control: str) -> Question:
    """Return the question how much better a map finds boundaries than "chance", or one of the controls, in pairs."""

    return _asked(lambda result: result.difference(case.name, control), "ap", case)


def alignment_rows(evidence: Evidence) -> pd.DataFrame:
    """Return one row for each case of Figure 6 and measure, as `summaries.case_rows` does; the paper has no numbers."""
    rows = []
    for case in FIGURE6:
        for name, words in (MEASURES | CORRELATIONS).items():
            better = "" if name in ("chance", "ceiling", "zero", "ap_image", "ap_edges") else "higher"
            rows.append(
                {"arm": ARMS[case.arm], "case": case.name, "measure": words, "unit": "%" if name in MEASURES else ""}
                | {"better": better}
                | shown(find(evidence, of_map(case, name)))
                | {"paper": float("nan"), "source": ""}
            )
    return pd.DataFrame(rows)


def draw_alignment(evidence: Evidence, folder: Path) -> Drawn:
    """Draw the maps of the first seed's first trial; without files if none were made.

    Raises:
        DataError: A file is broken or of another study.
        OutputError: The folder cannot be written to.
    """
    seed = evidence.seeds[0]
    result = evidence.gradcam(seed)
    caption = (
        "As Figure 6: Grad-CAM of the segmentation at the first ReLU before pooling, as it is and before its ReLU, and "
        f"what is predicted, after everything was fine-tuned. Seed {seed}, trial 0; the test images are evenly "
        "spread over the list."
    )
    cases = [case for case in FIGURE6 if result is not None and case.name in result.models]
    missing = [ARMS[case.arm] for case in FIGURE6 if case not in cases]
    if not cases:
        return Drawn(STEM, caption, (), missing)
    held = {ARMS[case.arm]: load_held(evidence.places.maps(seed, case.name)) for case in cases}
    panel = panel_of(_named(result, cases), held, CITYSCAPES, signed=True)
    return Drawn(STEM, caption, save_cam_panel(panel, files_of(folder / STEM)), missing)


def said_of_maps(evidence: Evidence) -> list[str]:
    """Return what the table of maps counts, as lines of a page."""
    result = evidence.gradcam(evidence.seeds[0])
    if result is None:
        return ["Not run.", ""]
    return [
        f"How well the steepness of a map finds the boundaries of the labels, of {len(result.images)} test images "
        f"at the network's size, with a tolerance of {result.settings['tolerance']:g} pixel: average precision in "
        "percent, mean over images. Chance is the share of boundary pixels. The image's grey value and the size of "
        "its gradient, brought to the layer's resolution as maps are, have understood nothing: a map below them "
        "follows outlines less than an edge detector does. The true labels, at that resolution, are a map that knows "
        "everything. A map that is zero everywhere has no number and is in no "
        "mean; two networks are compared on the images where both have one.",
        "",
    ]


def _asked(row: Callable[[Attributions], dict[str, float]], measure: str, *cases: Case) -> Question:
    """Return a question about the maps of some cases: a row with value, low, high, num."""

    def answer(evidence: Evidence, run: Run, _interval: bool) -> Estimate | None:
        result = evidence.gradcam(run.seed)
        if result is None or any(case.name not in result.models for case in cases):
            return None
        found, times = row(result), 1.0 if measure.startswith("correlation") else 100.0
        if not found["num"]:
            return undefined(NOTHING)
        return Estimate(*(times * float(found[end]) for end in ("value", "low", "high")))

    return Question(answer, of_seed=True)


def _named(result: Attributions, cases: list[Case]) -> Attributions:
    """Return the result with its checkpoints called as arms are in tables."""
    names = {case.name: ARMS[case.arm] for case in cases}
    if unknown := [name for name in result.models if name not in names]:
        raise DataError(
            f"expected maps of the cases of Figure 6, found {', '.join(unknown)}; delete the seed's gradcam"
        )
    models = {names[name]: model for name, model in result.models.items()}
    return replace(result, table=result.table.replace({"checkpoint": names}), models=models)
