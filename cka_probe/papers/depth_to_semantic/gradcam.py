"""Grad-CAM of the networks of Table 1, as the paper's Figure 6 shows them: written once a seed, after its first trial.

Maps are of the score of the segmentation at the first ReLU, before any pooling. All test images have their numbers;
of a few, evenly spread over the list and so not chosen by how they look, the maps are kept for the figure.
"""

from collections.abc import Sequence

from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.over_images import Rules, attribute
from cka_probe.attribution.saved_map import save_held
from cka_probe.papers.depth_to_semantic.cases import MAIN, Case
from cka_probe.papers.depth_to_semantic.study_paths import SEGMENT, StudyPaths

FIGURE6 = tuple(Case(arm) for arm in MAIN.split())
"""The networks that are shown."""

DRAWN = 4
"""Images of the figure."""

TOLERANCE = 1.0
"""Pixels of the network's input: the layer has every second pixel, and cannot place an outline better."""


def write_gradcam(study: StudyPaths, seed: int, cases: Sequence[Case], test: str, device: str) -> None:
    """Write maps and numbers of the networks that are there, unless they are those that were written.

    Args:
        study: Where to.
        seed: Of the run.
        cases: All that were run.
        test: Held-out images with labels, as `open_dataset` takes them.
        device: "auto", "cpu", "cuda" or "mps".
    """
    weights = {}
    for case in FIGURE6:
        rate = study.rate(seed, case) if case in cases else None
        path = None if rate is None else study.tuned(seed, case, rate, 0) / f"{SEGMENT}.safetensors"
        if path is not None and path.exists() and (path.parent / "scores.json").exists():
            weights[case.name] = path
    there = study.gradcam(seed)
    if not weights or (there.exists() and list(Attributions.load(there).models) == list(weights)):
        return
    rules = Rules(num=None, tolerance=TOLERANCE)
    result, held = attribute(weights, test, rules=rules, device=device, hold=DRAWN)
    for name, maps in held.items():
        save_held(maps, study.maps(seed, name))
    result.save(there.with_suffix(".csv"))
    result.save(there)  # last: it says that the others are there
