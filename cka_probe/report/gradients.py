"""A folder of `ckaprobe gradcam`: where each checkpoint looks, and how well that follows the outlines of classes."""

from pathlib import Path

from cka_probe.attribution.attributions import FORMAT, MEASURES, UNLABELLED, Attributions
from cka_probe.attribution.columns import in_plain_words
from cka_probe.attribution.texts import verdicts
from cka_probe.report.commands import gradcam_command
from cka_probe.report.page import Facts, Item, Section, TableItem, Text
from cka_probe.report.part import Part, figures_in, in_words, own_name, settings_pairs

EXPECTED = "gradcam.json of `ckaprobe gradcam`"
GRADCAM = "gradcam.json"
CAPTIONS = {"gradcam": "Images, their truth, and for each checkpoint its map and what it predicts."}
FEW = 30


def is_here(folder: Path) -> bool:
    """Return whether the folder holds attributions."""
    return (folder / GRADCAM).is_file()


def read(folder: Path) -> Part:
    """Return what attributions say.

    Raises:
        DataError: They are of no format of ours.
    """
    found = Attributions.load(folder / GRADCAM)
    drawn = figures_in(folder, CAPTIONS)
    names = ", ".join(found.models)
    maps: tuple[Item, ...] = drawn or (Text(("No figure of the maps lies beside the numbers.",)),)
    sections = [Section("Maps", maps)]
    if found.data["labels"]:
        sections.append(Section("Do maps follow the outlines of classes?", _aligned(found), intro=_lead(found)))
    sections.append(Section("What was attributed", _about(found)))
    sections.append(Section("Each image", (_each(found),)))
    return Part(
        label="Grad-CAM",
        title=f"Grad-CAM of {names}",
        subtitle=f"Target {found.settings['target']}, over {len(found.images)} images from {found.data['source']}.",
        sections=tuple(sections),
        cautions=_cautions(found),
        provenance=_provenance(found),
        command=gradcam_command(found, own_name(folder)),
    )


def _lead(found: Attributions) -> str:
    """Return what is read first: whether maps are above chance, and above controls that have understood nothing."""
    said = verdicts(found.differences())
    return " ".join([*said, "In brackets: difference of average precision, 95 %."]) if said else ""


def _aligned(found: Attributions) -> tuple[Item, ...]:
    """Return how well maps follow boundaries, and the differences in pairs."""
    intervals = found.intervals().rename(columns={"num": "images"})
    main = intervals[intervals["measure"].isin(MEASURES)]
    others = intervals[~intervals["measure"].isin(MEASURES)]
    differences = found.differences().rename(columns={"value": "first less second", "num": "images"})
    main, others, differences = (
        table.assign(measure=table["measure"].map(in_plain_words)) for table in (main, others, differences)
    )
    return (
        TableItem(main, "Of the map's steepness with the label boundaries; mean over images, 95 %.", "alignment"),
        TableItem(differences, "Differences in pairs: of the same images, with paired intervals.", "differences"),
        TableItem(others, "Chance, and what maps have that understood nothing.", "controls"),
    )


def _about(found: Attributions) -> tuple[Item, ...]:
    pairs = [
        (f"{name}, {key.replace('_', ' ')}", in_words(value))
        for name, model in found.models.items()
        for key, value in model.items()
        if key != "hash" and value not in ("", None)
    ]
    pairs.append(("images", f"{len(found.images)} from {found.data['source']}"))
    return (Facts(tuple(pairs)),)


def _each(found: Attributions) -> TableItem:
    """Return every image's numbers, without columns in which nothing is said."""
    frame = found.table.replace("", None).dropna(axis="columns", how="all")
    return TableItem(frame, "A row for each checkpoint and image.", "images")


def _cautions(found: Attributions) -> tuple[str, ...]:
    said = found.cautions()
    for name in found.models:
        empty = int(found.of(name)["zero"].sum())
        said += [f"{empty} of {len(found.images)} maps of {name} are nowhere positive."] if empty else []
    if not found.data["labels"]:
        return (*said, f"How well maps follow boundaries is not known: {UNLABELLED}.")
    without = found.table.loc[found.table["undefined"] != "", ["checkpoint", "undefined"]].value_counts(sort=False)
    said += [f"In no mean: {count} of {name}, {why}." for (name, why), count in without.items()]
    if len(found.images) < FEW:
        said.append(f"{len(found.images)} images are few: the bootstrap's intervals are too narrow for so few.")
    return tuple(said)


def _provenance(found: Attributions) -> tuple[tuple[str, str], ...]:
    hashes = [(f"{name}, hash", str(model["hash"])) for name, model in found.models.items() if "hash" in model]
    hashes.append(("images, hash", str(found.data.get("hash", "not recorded"))))
    return (*hashes, *settings_pairs(found.settings, found.versions, FORMAT))
