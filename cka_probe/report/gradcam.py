"""The page of `ckaprobe gradcam`: each checkpoint's maps, and how well they follow the boundaries of classes."""

from pathlib import Path

from cka_probe.attribution.attributions import FORMAT, MEASURES, UNLABELLED, Attributions, describe_column, verdicts
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
    provenance_of,
)

CAPTIONS = {"gradcam": "Images, ground truth, and each checkpoint's map and prediction."}
FEW = 30  # images


def read(folder: Path) -> Page:
    """Return the page of attributions.

    Raises:
        DataError: The file has another format.
    """
    attributions = Attributions.load(folder / "gradcam.json")
    data, settings = attributions.data, attributions.settings
    hashes = [(f"{name}, hash", str(model["hash"])) for name, model in attributions.models.items() if "hash" in model]
    hashes.append(("images, hash", str(data.get("hash", "not recorded"))))
    images = attributions.table.replace("", None).dropna(axis="columns", how="all")
    return Page(
        title=f"Grad-CAM of {', '.join(attributions.models)}",
        blocks=(
            *figures_in(folder, "Maps", CAPTIONS),
            *(_alignment(attributions) if data["labels"] else ()),
            Heading("What was attributed"),
            Facts(_facts(attributions)),
            Heading("Each image"),
            TableBlock(images, "A row for each checkpoint and image.", "images"),
            *provenance_of(command_of(folder, "gradcam.json"), hashes, settings, attributions.versions, FORMAT),
        ),
        subtitle=f"Target {settings['target']}, over {len(attributions.images)} images from {data['source']}.",
        warnings=_warnings(attributions),
        label="Grad-CAM",
    )


def _alignment(attributions: Attributions) -> tuple[Block, ...]:
    """Return how well maps follow boundaries, with paired differences, and controls that know nothing of classes."""
    differences = attributions.differences()
    sentences = verdicts(differences)
    intervals = attributions.intervals().rename(columns={"num": "images"})
    is_measure = intervals["measure"].isin(MEASURES)
    main, controls, differences = (
        table.assign(measure=table["measure"].map(describe_column))
        for table in (
            intervals[is_measure],
            intervals[~is_measure],
            differences.rename(columns={"value": "first less second", "num": "images"}),
        )
    )
    return (
        Heading("Do maps follow the boundaries of classes?"),
        Text(" ".join([*sentences, "In brackets: difference of average precision, 95 %."]) if sentences else ""),
        TableBlock(main, "Of the map's steepness with the label boundaries; mean over images, 95 %.", "alignment"),
        TableBlock(differences, "Paired differences on the same images, with their intervals.", "differences"),
        TableBlock(controls, "Chance, and maps that do not depend on the network.", "controls"),
    )


def _facts(attributions: Attributions) -> tuple[tuple[str, str], ...]:
    pairs = [
        (f"{name}, {key.replace('_', ' ')}", format_value(value))
        for name, model in attributions.models.items()
        for key, value in model.items()
        if key != "hash" and value not in ("", None)
    ]
    return (*pairs, ("images", f"{len(attributions.images)} from {attributions.data['source']}"))


def _warnings(attributions: Attributions) -> tuple[str, ...]:
    warnings = list(attributions.warnings())
    count = len(attributions.images)
    for name in attributions.models:
        empty = int(attributions.of(name)["zero"].sum())
        warnings += [f"{empty} of {count} maps of {name} are nowhere positive."] if empty else []
    if not attributions.data["labels"]:
        return (*warnings, f"The alignment of maps and boundaries is unknown: {UNLABELLED}.")
    table = attributions.table
    undefined = table.loc[table["undefined"] != "", ["checkpoint", "undefined"]].value_counts(sort=False)
    for (name, reason), number in undefined.to_dict().items():
        warnings.append(f"Excluded from every mean: {number} of {name}, {reason}.")
    if count < FEW:
        warnings.append(f"{count} images are few: bootstrap intervals of so few are too narrow.")
    return tuple(warnings)
