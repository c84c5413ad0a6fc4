"""`ckaprobe gradcam`: Grad-CAM maps of checkpoints, and how well they follow label boundaries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckaprobe_cli.bars import progress_bar
from ckaprobe_cli.commands import is_main
from ckaprobe_cli.options import (
    FIGURES,
    IMAGES,
    MODELS,
    NUM,
    OUTPUT,
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
    from cka_probe.attribution.saved_maps import SavedMap

FOLDER = "maps"


def gradcam(
    ctx: typer.Context,
    checkpoints: Annotated[
        list[str],
        typer.Argument(help="Classifiers (FILE#ENCODER for one of several), or checkpoints of `ckaprobe train`."),
    ],
    data: Annotated[str, option("Images: a folder, or kitti_semantics:DIR:test, with labels (see README).", IMAGES)],
    out: Out,
    layer: Annotated[
        str,
        option(
            "first (the first ReLU before pooling), last (the last map before the score), an index, a module name "
            "or head.NAME; auto is last for a class, else first.",
            "Maps",
        ),
    ] = "auto",
    target: Annotated[
        str,
        option(
            "segmentation, class, or either with :CLASS (a number or a name), depth, or none (no gradient); auto "
            "is class for a classifier, else segmentation.",
            "Maps",
        ),
    ] = "auto",
    size: Size = None,
    arch: Arch = None,
    encoder: Encoder = None,
    base: Base = None,
    names: Annotated[
        str | None, option("Names of the checkpoints, separated by commas.  [default: from paths]", MODELS)
    ] = None,
    num: Annotated[int, option("Number of images, chosen by the seed; 0: all.", IMAGES, *NUM, min=0)] = 8,
    seed: Annotated[int, option("Seed of the choice of images and of the bootstrap.", IMAGES)] = 0,
    tolerance: Annotated[
        float, option("Distance that still counts as on a label boundary, in input pixels.", "Maps")
    ] = 1.0,
    log_softmax: Annotated[bool, option("Use log-softmax instead of logits.", "Maps", "--log-softmax")] = False,
    draw: Annotated[int, option("Number of images to draw, evenly spaced.", FIGURES, min=0)] = 4,
    classes: Annotated[str | None, option("Also draw the maps of these classes: car,road.", FIGURES)] = None,
    signed: Annotated[bool, option("Also draw the maps before their ReLU.", FIGURES, "--signed")] = False,
    overlay: Annotated[
        bool, option("Draw maps over their images in grey, or alone.", FIGURES, "--overlay/--no-overlay")
    ] = True,
    keep: Annotated[bool, option(f"Save all maps in {FOLDER}/, one .npz per checkpoint.", OUTPUT, "--keep")] = False,
    style: Style = "paper",
    venue: Venue = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Draw Grad-CAM maps of checkpoints on the same images.

    Where the images have labels, count how well the maps follow their boundaries.

    Writes gradcam.json and gradcam.csv (one row per checkpoint and image), gradcam.png and gradcam.pdf; prints the
    summary and the paths.

    \b
    Example:
      ckaprobe gradcam classifier.pth --data images --out maps
    """
    from cka_probe.attribution.attribute import attribute, evenly_spaced
    from cka_probe.attribution.saved_maps import panel_of
    from cka_probe.images.datasets import open_dataset
    from cka_probe.plotting import save
    from cka_probe.plotting.image_grid import DPI
    from cka_probe.plotting.style import check_style

    check_style(style, venue)
    named = _by_name([with_encoder(checkpoint, encoder) for checkpoint in checkpoints], names)
    dataset = open_dataset(data)
    with results_folder(ctx, out, "gradcam.json", force=force):
        with progress_bar("images", quiet or not is_main()) as progress:
            result, saved = attribute(
                named,
                data,
                layer,
                target,
                num=num or None,
                seed=seed,
                tolerance=tolerance,
                log_softmax=log_softmax,
                arch=arch,
                base=base,
                size=size,
                device=device,
                keep=-1 if keep else draw,
                progress=progress,
            )
        if not is_main():
            return
        typer.echo(result.summary())
        paths = [result.save(out / "gradcam.json"), result.save(out / "gradcam.csv")]
        paths += _save(saved, out / FOLDER) if keep else []
        if draw:
            drawn = {name: [maps[i] for i in sorted(evenly_spaced(len(maps), draw))] for name, maps in saved.items()}
            class_names = [name.strip() for name in classes.split(",")] if classes else []
            vocabulary = getattr(dataset, "classes", None)
            panel = panel_of(result, drawn, vocabulary, class_names, signed=signed, overlay=overlay)
            paths += save(panel, [out / "gradcam.png", out / "gradcam.pdf"], style=style, venue=venue, dpi=DPI)
        typer.echo("\n".join(map(str, paths)))


def _by_name(checkpoints: list[str], names: str | None) -> dict[str, str]:
    """Return checkpoints by name."""
    from cka_probe.comparison.names import distinct_names
    from cka_probe.errors import DataError

    split = distinct_names(checkpoints) if names is None else [name.strip() for name in names.split(",")]
    if len(set(split)) != len(checkpoints) or len(split) != len(checkpoints) or not all(split):
        raise DataError(
            f"expected {len(checkpoints)} different names, one for each checkpoint, found {', '.join(split)}; give "
            "them with --names and commas, and each checkpoint once"
        )
    return dict(zip(split, checkpoints, strict=True))


def _save(saved: dict[str, list["SavedMap"]], folder: Path) -> list[Path]:
    """Write the maps of each checkpoint; return the paths."""
    from cka_probe.attribution.saved_maps import save_maps
    from cka_probe.lab.evaluation.predictions import check_names, prediction_path

    check_names(list(saved))
    return [save_maps(maps, prediction_path(folder, name, ".npz")) for name, maps in saved.items()]
