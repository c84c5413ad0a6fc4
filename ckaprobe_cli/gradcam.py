"""`ckaprobe gradcam`: Grad-CAM maps of checkpoints, and how well they follow label boundaries."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckaprobe_cli.bars import progress_bar
from ckaprobe_cli.options import Device, Out, Style, Venue

if TYPE_CHECKING:
    from cka_probe.attribution.saved_maps import SavedMap

KEPT = "maps"


def gradcam(
    checkpoints: Annotated[list[str], typer.Argument(help="Checkpoints of `ckaprobe train` with their heads.")],
    data: Annotated[str, typer.Option(help="Images: a folder, or kitti_semantics:DIR:test, with labels (see README).")],
    out: Out,
    layer: Annotated[
        str, typer.Option(help="first (the first ReLU before pooling), an index, a module name, or head.NAME.")
    ] = "first",
    target: Annotated[
        str, typer.Option(help="segmentation, segmentation:CLASS, class, class:CLASS, depth, or none (no gradient).")
    ] = "segmentation",
    names: Annotated[
        str | None,
        typer.Option(help="Names of the checkpoints, separated by commas.  [default: from paths]", show_default=False),
    ] = None,
    num: Annotated[int, typer.Option(help="Number of images, chosen by the seed; 0: all.", min=0)] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images and of the bootstrap.")] = 0,
    tolerance: Annotated[
        float, typer.Option(help="Distance that still counts as on a label boundary, in input pixels.")
    ] = 1.0,
    log_softmax: Annotated[bool, typer.Option("--log-softmax", help="Use log-softmax instead of logits.")] = False,
    draw: Annotated[int, typer.Option(help="Number of images to draw, evenly spaced.", min=0)] = 4,
    classes: Annotated[
        str | None,
        typer.Option(help="Also draw the maps of these classes: car,road.", show_default=False),
    ] = None,
    signed: Annotated[bool, typer.Option("--signed", help="Also draw the maps before their ReLU.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help=f"Save all maps in {KEPT}/, one .npz per checkpoint.")] = False,
    style: Style = "paper",
    venue: Venue = None,
    device: Device = "auto",
) -> None:
    """Draw Grad-CAM maps of checkpoints on the same images, and count how well they follow label boundaries.

    Writes gradcam.json and gradcam.csv (one row per checkpoint and image), gradcam.png and gradcam.pdf; prints the
    summary and the paths.
    """
    from cka_probe.attribution.over_images import Rules, attribute, evenly_spaced
    from cka_probe.attribution.saved_maps import panel_of
    from cka_probe.files import check_writable
    from cka_probe.images.datasets import open_dataset
    from cka_probe.plotting.cam_panel import save_cam_panel
    from cka_probe.plotting.style import check_style

    check_writable(out)
    check_style(style, venue)
    called = _called(checkpoints, names)
    rules = Rules(num or None, seed, tolerance, log_softmax=log_softmax)
    dataset = open_dataset(data)
    hold = -1 if keep else draw
    with progress_bar("images") as progress:
        result, held = attribute(called, data, layer, target, rules=rules, device=device, hold=hold, progress=progress)
    typer.echo(result.summary())
    paths = [result.save(out / "gradcam.json"), result.save(out / "gradcam.csv")]
    paths += _kept(held, out / KEPT) if keep else []
    if draw:
        some = {name: [maps[place] for place in sorted(evenly_spaced(len(maps), draw))] for name, maps in held.items()}
        wanted = [name.strip() for name in classes.split(",")] if classes else []
        panel = panel_of(result, some, getattr(dataset, "classes", None), wanted, signed=signed)
        paths += save_cam_panel(panel, [out / "gradcam.png", out / "gradcam.pdf"], style=style, venue=venue)
    for path in paths:
        typer.echo(path)


def _called(checkpoints: list[str], names: str | None) -> dict[str, str]:
    """Return checkpoints by what they are called."""
    from cka_probe.attribution.attributions import distinct_names
    from cka_probe.errors import DataError

    called = distinct_names(checkpoints) if names is None else [name.strip() for name in names.split(",")]
    if len(set(called)) != len(checkpoints) or len(called) != len(checkpoints) or not all(called):
        raise DataError(
            f"expected {len(checkpoints)} different names, one for each checkpoint, found {', '.join(called)}; give "
            "them with --names and commas, and each checkpoint once"
        )
    return dict(zip(called, checkpoints, strict=True))


def _kept(held: dict[str, list["SavedMap"]], folder: Path) -> list[Path]:
    """Write the maps of each checkpoint; return the paths."""
    from cka_probe.attribution.saved_maps import save_maps
    from cka_probe.lab.evaluation.predictions import check_names, prediction_path

    check_names(list(held))
    return [save_maps(maps, prediction_path(folder, name, ".npz")) for name, maps in held.items()]
