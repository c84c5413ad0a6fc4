"""A folder of `ckaprobe evaluate`: how well a checkpoint predicts depth or labels, with intervals over images."""

import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd

from cka_probe.errors import DataError
from cka_probe.report.commands import evaluate_command
from cka_probe.report.page import Facts, Section, TableItem, Text
from cka_probe.report.part import Part, called, figures_in, in_words, own_name, settings_pairs

if TYPE_CHECKING:
    from cka_probe.lab.evaluation.label_scores import LabelScores
    from cka_probe.lab.evaluation.scores import Scores


EXPECTED = "scores.json of `ckaprobe evaluate`"
SCORES = "scores.json"
CAPTIONS = {
    "depth": "Image, truth, prediction and error, from the best predicted image to the worst.",
    "labels": "Image, truth, prediction and what is wrong, from the best predicted image to the worst.",
}
ENDS = 5
"""Images that the table of the worst and the best has of each."""
FEW = 30


def of_depth() -> ModuleType:
    """Return the lab's module of depth scores, loaded when a folder holds some."""
    from cka_probe.lab.evaluation import scores

    return scores


def of_labels() -> ModuleType:
    """Return the lab's module of label scores."""
    from cka_probe.lab.evaluation import label_scores

    return label_scores


def is_here(folder: Path) -> bool:
    """Return whether the folder holds scores."""
    return (folder / SCORES).is_file()


def read(folder: Path) -> Part:
    """Return what scores say.

    Raises:
        DataError: They are of no format of ours.
    """
    scores = _load(folder / SCORES)
    has_labels = isinstance(scores, of_labels().LabelScores)
    intervals = scores.intervals()
    model, data = scores.model, scores.data
    lead = "miou" if has_labels else "abs_rel"
    images = figures_in(folder, CAPTIONS)
    command = evaluate_command(scores, own_name(folder))
    sections = [Section("Scores", (_overall(intervals, has_labels),), intro=_lead(intervals, lead))]
    sections += [Section("Images", images)] if images else []
    sections += [Section("Classes", (_classes(intervals, scores),))] if has_labels else []
    sections.append(Section("Worst and best images", _ends(scores, lead)))
    sections.append(Section("What was scored", (Facts(_facts(scores)),)))
    if not command:
        said = "The dataset was given in memory, so that no command makes this again."
        sections.append(Section("How to make it again", (Text((said,)),)))
    return Part(
        label="Scores",
        title=f"Scores of {called(str(model['reference']))}",
        subtitle=f"{model['architecture']}, task {model['task']}, over {len(_table(scores))} images from "
        f"{data['source']}.",
        sections=tuple(sections),
        cautions=_cautions(scores, intervals),
        provenance=_provenance(scores),
        command=command,
    )


def _load(path: Path) -> "Scores | LabelScores":
    """Return scores of either format."""
    try:
        found = json.loads(path.read_text("utf-8")).get("format")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"expected a scores.json of `ckaprobe evaluate` at {path}, found: {error}") from error
    formats = {of_depth().FORMAT: of_depth().Scores, of_labels().FORMAT: of_labels().LabelScores}
    if found not in formats:
        known = " or ".join(map(repr, formats))
        raise DataError(f"{path}: expected scores of format {known}, found {found!r}; run the evaluation again")
    return formats[found].load(path)


def _table(scores: "Scores | LabelScores") -> pd.DataFrame:
    """Return the scores of each image, its name the index."""
    return scores.table() if isinstance(scores, of_labels().LabelScores) else scores.table


def _lead(intervals: pd.DataFrame, measure: str) -> str:
    """Return the number that is read first."""
    row = intervals.loc[measure]
    if pd.isna(row["value"]):
        return f"`{measure}` has no value."
    return f"`{measure}` is {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}], 95 % over images."


def _overall(intervals: pd.DataFrame, has_labels: bool) -> TableItem:
    """Return every measure but those of single classes, with its interval."""
    describe = of_labels().describe_label_measure if has_labels else of_depth().describe_measure
    shown = intervals[~intervals.index.str.startswith(of_labels().CLASS)]
    measures = [describe(name) for name in shown.index]
    frame = shown.rename_axis("measure").reset_index().rename(columns={"num": "images"})
    frame["unit"] = [measure.unit for measure in measures]
    frame["better"] = [measure.better for measure in measures]
    frame["what it is"] = [measure.meaning for measure in measures]
    return TableItem(frame, "Means with 95 % intervals, bootstrapped over images.", "scores")


def _classes(intervals: pd.DataFrame, scores: "LabelScores") -> TableItem:
    """Return the IoU of each class, and how many labelled pixels it has."""
    rows = intervals[intervals.index.str.startswith(of_labels().CLASS)]
    pixels = scores.confusion.sum(axis=(0, 2))
    frame = rows.reset_index(drop=True).rename(columns={"value": "IoU", "num": "images"})
    frame.insert(0, "class", list(scores.classes))
    frame["labelled pixels"] = pixels
    return TableItem(frame, "A class without a pixel, true or predicted, has no IoU and is in no mean.", "classes")


def _ends(scores: "Scores | LabelScores", measure: str) -> tuple[TableItem | Text, ...]:
    """Return the images that were predicted worst and best."""
    has_labels = isinstance(scores, of_labels().LabelScores)
    describe = of_labels().describe_label_measure if has_labels else of_depth().describe_measure
    table = _table(scores)
    shown = [name for name in table.columns if not name.startswith(of_labels().CLASS) and name not in of_depth().COUNTS]
    ranked = table[shown].dropna(axis="columns", how="all").dropna(subset=[measure])
    ranked = ranked.sort_values(measure, kind="stable", ascending=describe(measure).better == "higher")
    if ranked.empty:
        return (Text((f"No image has a value of `{measure}`.",)),)
    chosen = ranked if len(ranked) <= 2 * ENDS else pd.concat([ranked[:ENDS], ranked[-ENDS:]])
    frame = chosen.rename_axis("image").reset_index()
    frame.insert(0, "place", [*range(1, len(ranked) + 1)] if len(chosen) == len(ranked) else _places(len(ranked)))
    caption = f"By `{measure}`, from the worst (1) to the best ({len(ranked)})."
    return (TableItem(frame, caption, "worst_and_best"),)


def _places(count: int) -> list[int]:
    return [*range(1, ENDS + 1), *range(count - ENDS + 1, count + 1)]


def _facts(scores: "Scores | LabelScores") -> tuple[tuple[str, str], ...]:
    pairs = [(str(name), in_words(value)) for name, value in scores.model.items() if "hash" not in name]
    pairs.append(("data", str(scores.data["source"])))
    if isinstance(scores, of_labels().LabelScores) and scores.subset:
        pairs.append(("miou_subset is over", ", ".join(scores.classes[number] for number in scores.subset)))
    return tuple(pairs)


def _cautions(scores: "Scores | LabelScores", intervals: pd.DataFrame) -> tuple[str, ...]:
    count, said = len(_table(scores)), []
    if count < FEW:
        said.append(f"{count} images are few: the bootstrap's intervals are too narrow for so small a number.")
    said.append("Intervals are over images: what another training of the same network would give is not in them.")
    if isinstance(scores, of_labels().LabelScores):
        absent = [name for name in scores.classes if pd.isna(intervals.loc[of_labels().CLASS + name, "value"])]
        if absent:
            said.append(f"In no mean, as no pixel is or is called so: {', '.join(absent)}.")
    elif "floored" in scores.table and (floored := int(scores.table["floored"].sum())):
        said.append(f"{floored} valid pixels were predicted below {scores.settings['floor']} m, and raised to it.")
    if not isinstance(scores, of_labels().LabelScores) and scores.settings.get("scaling") in ("median", "affine"):
        said.append(
            "Each prediction was brought to the scale of its truth: these are no errors in metres as predicted."
        )
    return tuple(said)


def _provenance(scores: "Scores | LabelScores") -> tuple[tuple[str, str], ...]:
    hashes = [
        (f"model, {name.replace('_', ' ')}", str(value)) for name, value in scores.model.items() if "hash" in name
    ]
    hashes.append(("images, hash", str(scores.data.get("hash", "not recorded"))))
    file_format = of_labels().FORMAT if isinstance(scores, of_labels().LabelScores) else of_depth().FORMAT
    return (*hashes, *settings_pairs(scores.settings, scores.versions, file_format))
