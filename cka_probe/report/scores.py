"""The page of `ckaprobe evaluate`: how well a checkpoint predicts depth or labels, with intervals over images."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cka_probe.errors import DataError
from cka_probe.files import read_json
from cka_probe.report.blocks import (
    Block,
    Facts,
    Heading,
    Page,
    TableBlock,
    Text,
    command_of,
    figures_in,
    format_value,
    model_name,
    provenance_of,
)

if TYPE_CHECKING:
    from cka_probe.lab.evaluation.detection_scores import DetectionScores
    from cka_probe.lab.evaluation.label_scores import LabelScores
    from cka_probe.lab.evaluation.scores import Measure, Scores

CLASSES = ("iou/", "ap/")
"""Prefixes of the measures of single classes, of labels and of objects."""
CAPTIONS = {
    "depth": "Image, ground truth, prediction and error, from the best predicted image to the worst.",
    "labels": "Image, ground truth, prediction and errors, from the best predicted image to the worst.",
}
EXTREMES = 5  # rows of the worst and of the best images
FEW = 30  # images


def read(folder: Path) -> Page:
    """Return the page of scores.

    Raises:
        DataError: The file has another format.
    """
    from cka_probe.lab.evaluation.detection_scores import DetectionScores, describe_detection_measure
    from cka_probe.lab.evaluation.label_scores import LabelScores, describe_label_measure
    from cka_probe.lab.evaluation.scores import describe_measure

    scores, file_format = _load(folder / "scores.json")
    intervals, command = scores.intervals(), command_of(folder, "scores.json")
    facts = [(name, format_value(value)) for name, value in scores.model.items() if "hash" not in name]
    facts.append(("data", str(scores.data["source"])))
    describe: Callable[[str], Measure]
    classes: tuple[Block, ...] = ()
    if isinstance(scores, LabelScores):
        describe, table, measure = describe_label_measure, scores.table(), "miou"
        classes = (Heading("Classes"), _classes(intervals, scores))
        absent = [name for name in scores.classes if pd.isna(intervals.loc[CLASSES[0] + name, "value"])]
        warnings = (
            [f"Excluded from every mean, without true or predicted pixels: {', '.join(absent)}."] if absent else []
        )
        subset = ", ".join(scores.classes[number] for number in scores.subset)
        facts += [("classes of miou_subset", subset)] if subset else []
    elif isinstance(scores, DetectionScores):
        describe, table, measure, warnings = describe_detection_measure, scores.table(), "map", []
        classes = (Heading("Classes"), _precisions(intervals, scores))
    else:
        describe, table, measure = describe_measure, scores.table, "top1" if "top1" in scores.table else "abs_rel"
        warnings = _warnings(scores)
    ranked = {"top1": "cross_entropy", "map": "right50"}.get(measure, measure)
    few = f"{len(table)} images are few: bootstrap intervals of so few are too narrow."
    over = "Intervals are over images: the variation between trainings of the same network is not in them."
    hashes = [(f"model, {name.replace('_', ' ')}", str(scores.model[name])) for name in scores.model if "hash" in name]
    hashes.append(("images, hash", str(scores.data.get("hash", "not recorded"))))
    return Page(
        title=f"Scores of {model_name(str(scores.model['reference']))}",
        blocks=(
            Heading("Scores"),
            *_overall(intervals, measure, describe),
            *figures_in(folder, "Images", CAPTIONS),
            *classes,
            Heading("Worst and best images"),
            _ranking(table, ranked, "higher" if ranked == "right50" else describe(ranked).better),
            Heading("What was scored"),
            Facts(tuple(facts)),
            *provenance_of(command, hashes, scores.settings, scores.versions, file_format),
        ),
        subtitle=f"{scores.model['architecture']}, task {scores.model['task']}, over {len(table)} images from "
        f"{scores.data['source']}.",
        warnings=(*((few,) if len(table) < FEW else ()), over, *warnings),
        label="Scores",
    )


def _load(path: Path) -> "tuple[Scores | LabelScores | DetectionScores, str]":
    """Return scores and their format."""
    from cka_probe.lab.evaluation import detection_scores, label_scores, scores

    try:
        file_format = read_json(path).get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"expected a scores.json of `ckaprobe evaluate` at {path}, found: {error}") from error
    loaders: dict[str, Callable[[Path], Scores | LabelScores | DetectionScores]] = {
        scores.FORMAT: scores.Scores.load,
        label_scores.FORMAT: label_scores.LabelScores.load,
        detection_scores.FORMAT: detection_scores.DetectionScores.load,
    }
    if not isinstance(file_format, str) or file_format not in loaders:
        raise DataError(
            f"{path}: expected scores of format {' or '.join(map(repr, loaders))}, found {file_format!r}; run the "
            "evaluation again"
        )
    return loaders[file_format](path), file_format


def _overall(intervals: pd.DataFrame, measure: str, describe: "Callable[[str], Measure]") -> tuple[Block, ...]:
    """Return the main score in a sentence, and every measure with its interval, except those of single classes."""
    value, low, high = intervals.loc[measure, ["value", "low", "high"]]
    interval = f"`{measure}` is {value:.3f} [{low:.3f}, {high:.3f}], 95 % over images."
    rows = intervals[~intervals.index.str.startswith(CLASSES)]
    frame = rows.rename_axis("measure").reset_index().rename(columns={"num": "images"})
    for name in ("unit", "better", "meaning"):
        frame[name] = [getattr(describe(row), name) for row in rows.index]
    return (
        Text(f"`{measure}` has no value." if pd.isna(value) else interval),
        TableBlock(frame, "Means with 95 % intervals over images.", "scores"),
    )


def _classes(intervals: pd.DataFrame, scores: "LabelScores") -> TableBlock:
    """Return the IoU and the number of labelled pixels of each class."""
    rows = intervals[intervals.index.str.startswith(CLASSES)]
    frame = rows.reset_index(drop=True).rename(columns={"value": "IoU", "num": "images"})
    frame.insert(0, "class", list(scores.classes))
    frame["labelled pixels"] = scores.confusion.sum(axis=(0, 2))
    caption = "A class without true or predicted pixels has no IoU and is excluded from every mean."
    return TableBlock(frame, caption, "classes")


def _precisions(intervals: pd.DataFrame, scores: "DetectionScores") -> TableBlock:
    """Return the AP and the number of objects of each class."""
    rows = intervals[intervals.index.str.startswith(CLASSES)]
    frame = rows.reset_index(drop=True).rename(columns={"value": "AP"}).drop(columns="num")
    frame.insert(0, "class", list(scores.classes))
    frame["objects"] = scores.objects.sum(0)
    return TableBlock(frame, "A class without an object has no AP and is excluded from every mean.", "classes")


def _ranking(table: pd.DataFrame, measure: str, better: str) -> Block:
    """Return the worst and the best predicted images, with the measures of whole images."""
    from cka_probe.lab.evaluation.scores import COUNTS

    columns = [name for name in table if not name.startswith(CLASSES) and name not in COUNTS]
    ranked = table[columns].dropna(axis="columns", how="all").dropna(subset=[measure])
    ranked = ranked.sort_values(measure, kind="stable", ascending=better == "higher")
    if ranked.empty:
        return Text(f"No image has a value of `{measure}`.")
    frame = ranked.rename_axis("image").reset_index()
    frame.insert(0, "rank", range(1, len(ranked) + 1))
    if len(ranked) > 2 * EXTREMES:
        frame = pd.concat([frame[:EXTREMES], frame[-EXTREMES:]])
    return TableBlock(frame, f"By `{measure}`, from the worst (1) to the best ({len(ranked)}).", "worst_and_best")


def _warnings(scores: "Scores") -> list[str]:
    warnings = []
    if "floored" in scores.table and (floored := int(scores.table["floored"].sum())):
        warnings.append(f"{floored} valid pixels were predicted below {scores.settings['floor']} m, and raised to it.")
    if str(scores.settings.get("matching", "")).startswith("assumed"):
        warnings.append("That output k is the k-th class by name was assumed, as there are as many; nothing says so.")
    if scores.settings.get("scaling") in ("median", "affine"):
        warnings.append(
            "Each prediction was aligned to the scale of its ground truth: these are not errors in metres as predicted."
        )
    return warnings
