"""`ckaprobe evaluate`: score a checkpoint that predicts depth, or the class of each pixel."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckaprobe_cli.bars import progress_bar
from ckaprobe_cli.options import Device, Out, Style, Venue

if TYPE_CHECKING:
    from cka_probe.lab.evaluation.label_scores import LabelScores
    from cka_probe.lab.evaluation.scores import Scores
    from cka_probe.plotting.depth_panel import DepthPanel

KEPT = "predictions"


def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of `ckaprobe train` that predicts depth or labels.")],
    on: Annotated[
        str, typer.Option(help="A dataset with depth or labels: nyuv2:DIR:test, kitti_semantics:DIR (see README).")
    ],
    out: Out,
    scaling: Annotated[
        str | None,
        typer.Option(
            help="Scaling of predicted depth: none, median or affine.  [default: as the task needs]", show_default=False
        ),
    ] = None,
    eigen_crop: Annotated[
        bool | None,
        typer.Option(
            "--eigen-crop/--no-crop", help="Score depth within Eigen's crop.  [default: usual for the dataset]"
        ),
    ] = None,
    cap: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Least and greatest depth scored, m.  [default: usual for the dataset]", show_default=False),
    ] = None,
    crops: Annotated[
        int | None,
        typer.Option(
            help="Windows along the longer side; 0: the whole image, resized.  [default: 2; for a teacher 0]",
            min=0,
            show_default=False,
        ),
    ] = None,
    flip_test: Annotated[
        bool | None,
        typer.Option(
            "--flip-test/--no-flip-test",
            help="Average with the prediction of the mirrored image.  [default: for depth]",
        ),
    ] = None,
    feathered: Annotated[
        bool,
        typer.Option("--feathered", help="Blend windows where they overlap: no seams, unlike published protocols."),
    ] = False,
    canny: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Canny thresholds of predicted depth edges (iBims-1).  [default: 0.1 0.2]", show_default=False
        ),
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(
            help="Score labels at this resolution: image, or network (as the paper).  [default: image]",
            show_default=False,
        ),
    ] = None,
    num: Annotated[
        int | None, typer.Option(help="Number of images, chosen by the seed.  [default: all]", show_default=False)
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Images in a batch.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and of the choice of images.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help=f"Save every prediction in {KEPT}/.")] = False,
    draw: Annotated[
        int, typer.Option(help="Draw so many images, from the best predicted to the worst; saves predictions.", min=0)
    ] = 0,
    style: Style = "paper",
    venue: Venue = None,
    device: Device = "auto",
) -> None:
    """Score a checkpoint on a dataset: depth (on iBims-1 also its boundaries and planes) or labels.

    Writes scores.json and scores.csv (one row per image), and with --draw the figure depth or labels as PNG and PDF.
    Prints the scores with 95 % intervals and the paths written.
    """
    from cka_probe.files import check_writable
    from cka_probe.lab.evaluation.evaluate import evaluate as score
    from cka_probe.plotting.style import check_style

    check_writable(out)
    check_style(style, venue)
    kept = out / KEPT if keep or draw else None
    with progress_bar("images") as progress:
        scores = score(
            checkpoint,
            on,
            batch=batch,
            device=device,
            keep=kept,
            progress=progress,
            seed=seed,
            num=num,
            scaling=scaling,
            eigen_crop=eigen_crop,
            cap=cap,
            crops=crops,
            flip_test=flip_test,
            feathered=feathered or None,
            canny=canny,
            resolution=resolution,
        )
    typer.echo(scores.summary())
    paths = [scores.save(out / "scores.json"), scores.save(out / "scores.csv")]
    paths += [kept] if kept else []
    if draw and kept:
        paths += _draw(scores, on, kept, draw, style, venue)
    for path in paths:
        typer.echo(path)


def _draw(scores: "Scores | LabelScores", on: str, kept: Path, num: int, style: str, venue: str | None) -> list[Path]:
    """Draw predictions next to the ground truth; return the paths."""
    from cka_probe.lab.evaluation.label_scores import LabelScores
    from cka_probe.lab.evaluation.predictions import label_rows, representative_images
    from cka_probe.plotting import save
    from cka_probe.plotting.image_grid import DPI

    names, model = representative_images(scores, num), {scores.model["stage"]: kept}
    if isinstance(scores, LabelScores):
        labels = label_rows(on, model, names)
        return save(labels, _paths(kept, "labels"), style=style, venue=venue, dpi=DPI)
    depth = _depth_panel(scores, on, kept, names)
    return save(depth, _paths(kept, "depth"), style=style, venue=venue, dpi=DPI)


def _paths(kept: Path, name: str) -> list[Path]:
    """Return the files of a figure next to the predictions."""
    return [kept.parent / f"{name}.{suffix}" for suffix in ("png", "pdf")]


def _depth_panel(scores: "Scores", on: str, kept: Path, names: list[str]) -> "DepthPanel":
    """Return a panel of depth, errors and, where the dataset has them, edges of some images."""
    from cka_probe.lab.evaluation.predictions import depth_rows
    from cka_probe.lab.evaluation.protocol import DepthProtocol
    from cka_probe.plotting.depth_panel import TRUTH, DepthPanel

    rows = depth_rows(on, {scores.model["stage"]: kept}, names, DepthProtocol.from_recorded(scores.settings))
    parts = ("depth", "error", "edges") if TRUTH in (rows[0].edges or {}) else ("depth", "error")
    return DepthPanel(rows, parts)
