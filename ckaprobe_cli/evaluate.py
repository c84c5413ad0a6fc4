"""`ckaprobe evaluate`: score a model that predicts depth, objects, the class of each pixel, or that of the image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ckaprobe_cli.bars import progress_bar
from ckaprobe_cli.commands import is_main
from ckaprobe_cli.options import (
    FIGURES,
    IMAGES,
    MODELS,
    NUM,
    OUTPUT,
    RUN,
    Arch,
    Base,
    Device,
    Encoder,
    Force,
    Out,
    Quiet,
    Size,
    Style,
    Venue,
    option,
    with_encoder,
)
from ckaprobe_cli.results_folder import results_folder

if TYPE_CHECKING:
    from cka_probe.lab.evaluation.label_scores import LabelScores
    from cka_probe.lab.evaluation.scores import Scores
    from cka_probe.plotting.predictions import DepthPanel

FOLDER = "predictions"


def evaluate(
    ctx: typer.Context,
    checkpoint: Annotated[
        str,
        typer.Argument(help="A classifier, or a checkpoint of `ckaprobe train` of depth, labels or objects."),
    ],
    data: Annotated[
        str,
        option(
            "A folder with a folder of images for each class, or a dataset with depth, labels or objects: "
            "nyuv2:DIR:test, kitti_semantics:DIR, coco_instances:DIR:val (see README).",
            IMAGES,
        ),
    ],
    out: Out,
    classes: Annotated[
        str | None,
        option(
            "File with the classes of a classifier, one name or WordNet id a line, in the order of its outputs.", MODELS
        ),
    ] = None,
    size: Size = None,
    arch: Arch = None,
    encoder: Encoder = None,
    base: Base = None,
    scaling: Annotated[
        str | None,
        option("Scaling of predicted depth: none, median or affine.  [default: as the task needs]", "Scores"),
    ] = None,
    crop: Annotated[
        str | None,
        option(
            "Score depth within a box: none, eigen (NYUv2, KITTI) or garg.  [default: usual for the dataset]", "Scores"
        ),
    ] = None,
    cap: Annotated[
        tuple[float, float] | None,
        option("Least and greatest depth scored, m.  [default: usual for the dataset]", "Scores"),
    ] = None,
    crops: Annotated[
        int | None,
        option(
            "Windows along the longer side; 0: the whole image, resized.  [default: 2; for a teacher 0]",
            "Scores",
            min=0,
        ),
    ] = None,
    flip_test: Annotated[
        bool | None,
        option(
            "Average with the prediction of the mirrored image.  [default: for depth]",
            "Scores",
            "--flip-test/--no-flip-test",
        ),
    ] = None,
    feathered: Annotated[
        bool, option("Blend windows where they overlap: no seams, unlike published protocols.", "Scores", "--feathered")
    ] = False,
    canny: Annotated[
        tuple[float, float] | None,
        option("Canny thresholds of predicted depth edges (iBims-1).  [default: 0.1 0.2]", "Scores"),
    ] = None,
    resolution: Annotated[
        str | None,
        option("Score labels at this resolution: image, or network (as the paper).  [default: image]", "Scores"),
    ] = None,
    num: Annotated[int | None, option("Number of images, chosen by the seed.  [default: all]", IMAGES, *NUM)] = None,
    batch: Annotated[int | None, option("Images in a batch.", RUN)] = None,
    seed: Annotated[int, option("Seed of the bootstrap and of the choice of images.", IMAGES)] = 0,
    keep: Annotated[bool, option(f"Save every prediction in {FOLDER}/.", OUTPUT, "--keep")] = False,
    draw: Annotated[
        int, option("Number of images to draw, from the best to the worst; saves predictions.", FIGURES, min=0)
    ] = 0,
    style: Style = "paper",
    venue: Venue = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Score what a model predicts: classes, depth, labels or objects.

    A classifier has its top-1 and top-5 accuracy. Classes are matched with its outputs by name or WordNet id, and the
    result says how. On iBims-1, the boundaries and planes of depth are scored too.

    Writes scores.json and scores.csv (one row per image), and with --draw the figure depth or labels as PNG and PDF.
    Prints the scores with 95 % intervals and the paths written.

    \b
    Example:
      ckaprobe evaluate resnet50.pth --data imagenet/val --out scores
      ckaprobe evaluate depth.safetensors --data nyuv2:data/nyuv2:test --out scores
    """
    from cka_probe.lab.evaluation.evaluate import evaluate as score
    from cka_probe.plotting.style import check_style

    check_style(style, venue)
    folder = out / FOLDER if keep or draw else None
    with results_folder(ctx, out, "scores.json", force=force):
        with progress_bar("images", quiet or not is_main()) as progress:
            scores = score(
                with_encoder(checkpoint, encoder),
                data,
                batch=batch,
                device=device,
                keep=folder,
                progress=progress,
                seed=seed,
                num=num,
                scaling=scaling,
                crop=crop,
                cap=cap,
                crops=crops,
                flip_test=flip_test,
                feathered=feathered or None,
                canny=canny,
                resolution=resolution,
                classes=classes,
                arch=arch,
                base=base,
                size=size,
            )
        if not is_main():
            return
        typer.echo(scores.summary())
        paths = [scores.save(out / "scores.json"), scores.save(out / "scores.csv")]
        paths += [folder] if folder else []
        if draw and folder:
            drawn = cast("Scores | LabelScores", scores)  # those of a detector have no folder
            paths += _draw(drawn, data, folder, draw, style, venue)
        typer.echo("\n".join(map(str, paths)))


def _draw(
    scores: "Scores | LabelScores", data: str, folder: Path, num: int, style: str, venue: str | None
) -> list[Path]:
    """Draw predictions next to the ground truth; return the paths."""
    from cka_probe.lab.evaluation.label_scores import LabelScores
    from cka_probe.lab.evaluation.predictions import label_rows, representative_images
    from cka_probe.plotting import save
    from cka_probe.plotting.image_grid import DPI

    names, model = representative_images(scores, num), {scores.model["stage"]: folder}
    if isinstance(scores, LabelScores):
        labels, paths = label_rows(data, model, names), [folder.with_name("labels.png"), folder.with_name("labels.pdf")]
        return save(labels, paths, style=style, venue=venue, dpi=DPI)
    paths = [folder.with_name("depth.png"), folder.with_name("depth.pdf")]
    return save(_depth_panel(scores, data, folder, names), paths, style=style, venue=venue, dpi=DPI)


def _depth_panel(scores: "Scores", data: str, folder: Path, names: list[str]) -> "DepthPanel":
    """Return a panel of depth, errors and, where the dataset has them, edges of some images."""
    from cka_probe.lab.evaluation.predictions import depth_rows
    from cka_probe.lab.evaluation.protocol import DepthProtocol
    from cka_probe.plotting.predictions import TRUTH, DepthPanel

    rows = depth_rows(data, {scores.model["stage"]: folder}, names, DepthProtocol.from_recorded(scores.settings))
    parts = ("depth", "error", "edges") if TRUTH in (rows[0].edges or {}) else ("depth", "error")
    return DepthPanel(rows, parts)
