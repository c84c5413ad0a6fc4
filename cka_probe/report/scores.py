"""The page of `ckaprobe evaluate`: how well a checkpoint predicts depth or labels, with intervals over images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cka_probe.errors import DataError
from cka_probe.report.blocks import (
    Block,
    Facts,
    Page,
    Paragraph,
    Section,
    TableBlock,
    figures_in,
    folder_name,
    format_value,
    model_name,
    settings_pairs,
)
from cka_probe.report.commands import evaluate_command

if TYPE_CHECKING:
    from cka_probe.lab.evaluation.label_scores import LabelScores
    from cka_probe.lab.evaluation.scores import Measure, Scores

CLASS = "iou/"
"""Prefix of the measures of single classes."""
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
    from cka_probe.lab.evaluation.label_scores import FORMAT as LABEL_FORMAT
    from cka_probe.lab.evaluation.label_scores import LabelScores, describe_label_measure
    from cka_probe.lab.evaluation.scores import COUNTS, FORMAT, describe_measure

    scores = _load(folder / "scores.json")
    intervals, command = scores.intervals(), evaluate_command(scores, folder_name(folder))
    sections: list[Section] = []
    facts = _facts(scores)
    if isinstance(scores, LabelScores):
        describe, table, measure, file_format = describe_label_measure, scores.table(), "miou", LABEL_FORMAT
        sections.append(Section("Classes", (_classes(intervals, scores),)))
        subset = ", ".join(scores.classes[number] for number in scores.subset)
        facts += [("classes of miou_subset", subset)] if subset else []
        warnings = _label_warnings(scores, intervals)
    else:
        describe, table, measure, file_format = describe_measure, scores.table, "abs_rel", FORMAT
        warnings = _depth_warnings(scores)
    figures = figures_in(folder, CAPTIONS)
    sections = ([Section("Images", figures)] if figures else []) + sections
    sections.insert(0, Section("Scores", (_overall(intervals, describe),), intro=_summary(intervals, measure)))
    columns = [name for name in table.columns if not name.startswith(CLASS) and name not in COUNTS]
    ranking = _ranking(table[columns], measure, describe(measure).better)
    sections += [Section("Worst and best images", (ranking,)), Section("What was scored", (Facts(tuple(facts)),))]
    if not command:
        text = "The dataset was given in memory, so no command reproduces this result."
        sections.append(Section("How to reproduce it", (Paragraph(text),)))
    few = f"{len(table)} images are few: bootstrap intervals of so few are too narrow."
    over = "Intervals are over images: the variation between trainings of the same network is not in them."
    return Page(
        title=f"Scores of {model_name(str(scores.model['reference']))}",
        subtitle=f"{scores.model['architecture']}, task {scores.model['task']}, over {len(table)} images from "
        f"{scores.data['source']}.",
        sections=tuple(sections),
        warnings=(*((few,) if len(table) < FEW else ()), over, *warnings),
        provenance=(*_hashes(scores), *settings_pairs(scores.settings, scores.versions, file_format)),
        command=command,
        label="Scores",
    )


def _load(path: Path) -> "Scores | LabelScores":
    """Return scores of either format."""
    from cka_probe.lab.evaluation import label_scores, scores

    try:
        file_format = json.loads(path.read_text("utf-8")).get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"expected a scores.json of `ckaprobe evaluate` at {path}, found: {error}") from error
    if file_format == scores.FORMAT:
        return scores.Scores.load(path)
    if file_format == label_scores.FORMAT:
        return label_scores.LabelScores.load(path)
    raise DataError(
        f"{path}: expected scores of format {scores.FORMAT!r} or {label_scores.FORMAT!r}, found {file_format!r}; "
        "run the evaluation again"
    )


def _summary(intervals: pd.DataFrame, measure: str) -> str:
    """Return the main score with its interval."""
    row = intervals.loc[measure]
    if pd.isna(row["value"]):
        return f"`{measure}` has no value."
    return f"`{measure}` is {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}], 95 % over images."


def _overall(intervals: pd.DataFrame, describe: "Callable[[str], Measure]") -> TableBlock:
    """Return every measure with its interval, except those of single classes."""
    rows = intervals[~intervals.index.str.startswith(CLASS)]
    measures = [describe(name) for name in rows.index]
    frame = rows.rename_axis("measure").reset_index().rename(columns={"num": "images"})
    frame["unit"] = [measure.unit for measure in measures]
    frame["better"] = [measure.better for measure in measures]
    frame["meaning"] = [measure.meaning for measure in measures]
    return TableBlock(frame, "Means with 95 % intervals, bootstrapped over images.", "scores")


def _classes(intervals: pd.DataFrame, scores: "LabelScores") -> TableBlock:
    """Return the IoU and the number of labelled pixels of each class."""
    rows = intervals[intervals.index.str.startswith(CLASS)]
    frame = rows.reset_index(drop=True).rename(columns={"value": "IoU", "num": "images"})
    frame.insert(0, "class", list(scores.classes))
    frame["labelled pixels"] = scores.confusion.sum(axis=(0, 2))
    caption = "A class without true or predicted pixels has no IoU and is excluded from every mean."
    return TableBlock(frame, caption, "classes")


def _ranking(table: pd.DataFrame, measure: str, better: str) -> Block:
    """Return the worst and the best predicted images."""
    ranked = table.dropna(axis="columns", how="all").dropna(subset=[measure])
    ranked = ranked.sort_values(measure, kind="stable", ascending=better == "higher")
    if ranked.empty:
        return Paragraph(f"No image has a value of `{measure}`.")
    count = len(ranked)
    ranked.insert(0, "rank", range(1, count + 1))
    frame = ranked.rename_axis("image").reset_index()
    frame.insert(0, "rank", frame.pop("rank"))
    if count > 2 * EXTREMES:
        frame = pd.concat([frame[:EXTREMES], frame[-EXTREMES:]])
    return TableBlock(frame, f"By `{measure}`, from the worst (1) to the best ({count}).", "worst_and_best")


def _facts(scores: "Scores | LabelScores") -> list[tuple[str, str]]:
    pairs = [(str(name), format_value(value)) for name, value in scores.model.items() if "hash" not in name]
    return [*pairs, ("data", str(scores.data["source"]))]


def _label_warnings(scores: "LabelScores", intervals: pd.DataFrame) -> list[str]:
    absent = [name for name in scores.classes if pd.isna(intervals.loc[CLASS + name, "value"])]
    return [f"Excluded from every mean, without true or predicted pixels: {', '.join(absent)}."] if absent else []


def _depth_warnings(scores: "Scores") -> list[str]:
    warnings = []
    if "floored" in scores.table and (floored := int(scores.table["floored"].sum())):
        warnings.append(f"{floored} valid pixels were predicted below {scores.settings['floor']} m, and raised to it.")
    if scores.settings.get("scaling") in ("median", "affine"):
        warnings.append(
            "Each prediction was aligned to the scale of its ground truth: these are not errors in metres as predicted."
        )
    return warnings


def _hashes(scores: "Scores | LabelScores") -> list[tuple[str, str]]:
    models = [
        (f"model, {name.replace('_', ' ')}", str(value)) for name, value in scores.model.items() if "hash" in name
    ]
    return [*models, ("images, hash", str(scores.data.get("hash", "not recorded")))]
