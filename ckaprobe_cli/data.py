"""`ckaprobe data`: make, check and label data sets."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ckaprobe_cli.bars import progress_bar
from ckaprobe_cli.commands import Command
from ckaprobe_cli.options import Device, Quiet

data = typer.Typer(help="Make, check and label data sets.", no_args_is_help=True, rich_markup_mode=None)


@data.command(cls=Command)
def make(
    kind: Annotated[str, typer.Argument(help="rooms, streets or objects.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to.")],
    num: Annotated[int, typer.Option("--num", "--num-scenes", help="Number of scenes.")] = 240,
    frames: Annotated[int, typer.Option(help="Number of frames of each scene, as the camera moves.")] = 2,
    size: Annotated[str, typer.Option(help="Image size: WIDTHxHEIGHT.")] = "128x96",
    seed: Annotated[int, typer.Option(help="Seed of the scenes; the same seed gives the same bytes.")] = 0,
    layout: Annotated[
        str | None,
        typer.Option(
            help="nyuv2, nyuv2_mat, sc_depth, ibims1, lsun (rooms); kitti, kitti_odometry, kitti_semantics, "
            "cityscapes (streets); imagenet (objects).  [default: nyuv2, kitti, imagenet]"
        ),
    ] = None,
    test: Annotated[float, typer.Option(help="Share of the scenes held out for testing.")] = 0.25,
    workers: Annotated[int, typer.Option(help="Number of processes.")] = 1,
    noise: Annotated[float, typer.Option(help="Noise of depth and image; 1: as with a Kinect.")] = 0.0,
    holes: Annotated[float, typer.Option(help="Missing depth; 1: as with a Kinect.")] = 0.0,
    lidar: Annotated[int, typer.Option(help="Rows of a lidar, for sparse depth; 0: dense depth; 64: as in KITTI.")] = 0,
    jpeg: Annotated[int, typer.Option(help="Quality of JPEG compression of the images; 0: none.")] = 0,
    style: Annotated[str, typer.Option(help="Style of rooms: day, evening or hall.")] = "day",
    quiet: Quiet = False,
) -> None:
    """Generate scenes with complete ground truth in the layout of a real data set; prints the folder.

    Read it as that data set: nyuv2:DIR, kitti:DIR, imagenet:DIR. The same command resumes an interrupted run; several
    at once share the work.

    \b
    Example:
      ckaprobe data make rooms data/rooms --num 100
    """
    from cka_probe.lab.scenes import Sensor, Settings, make_scenes, parse_size

    settings = Settings(
        kind, num, frames, parse_size(size), seed, test, layout or "", Sensor(noise, holes, lidar, jpeg), style
    )  # fmt: skip
    with progress_bar("scenes", quiet) as progress:
        typer.echo(make_scenes(folder, settings, workers=workers, progress=progress))


@data.command(cls=Command)
def check(
    spec: Annotated[str, typer.Argument(help="A data set: a folder, or nyuv2:PATH:test (see README).")],
    out: Annotated[
        Path | None,
        typer.Option(help="Contact sheet to draw: *.png, *.pdf or *.svg.  [default: contact_sheet_SPEC.png]"),
    ] = None,
    num: Annotated[
        int | None,
        typer.Option("--num", "--num-frames", help="Number of frames to read, evenly spaced.  [default: all]"),
    ] = None,
    sheet: Annotated[
        int | None,
        typer.Option(help="Samples on the contact sheet; 0: no sheet.  [default: six rows]"),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the statistics to this file.")] = None,
    quiet: Quiet = False,
) -> None:
    """Read a data set, print its statistics, and draw samples; exit code 2 if a frame is broken.

    \b
    Example:
      ckaprobe data check nyuv2:data/rooms --num 20
    """
    from cka_probe.files import check_writable
    from cka_probe.images.datasets import open_dataset
    from cka_probe.lab.datasets.check import check_dataset
    from cka_probe.plotting import check_format

    out = out or Path(f"contact_sheet_{re.sub(r'[^A-Za-z0-9.-]+', '_', spec).strip('_')}.png")
    if sheet != 0:
        check_format(out)
    for path in filter(None, (out if sheet != 0 else None, json)):
        check_writable(path.parent)  # before hours of reading
    dataset = open_dataset(spec)
    with progress_bar("frames", quiet) as progress:
        check = check_dataset(dataset, num=num, progress=progress)
    typer.echo(check.table())
    if json is not None:
        typer.echo(check.save(json))
    if sheet != 0:
        for path in _draw(dataset, spec, out, sheet):
            typer.echo(path)
    check.refuse_problems()


def _draw(dataset: Any, spec: str, out: Path, count: int | None) -> list[Path]:
    """Draw the contact sheet and return its path; none if nothing on it could be read."""
    from cka_probe.images.classes import numbered
    from cka_probe.lab.datasets.check import evenly_spaced, read_valid_fields
    from cka_probe.lab.datasets.map_statistics import class_names
    from cka_probe.plotting import save
    from cka_probe.plotting.contact_sheet import DPI, ContactSheet, SampleTile, fitting

    def tile(index: int) -> SampleTile:
        return SampleTile(dataset.describe(index), read_valid_fields(dataset, index)[0])

    chosen = evenly_spaced(len(dataset), fitting(tile(0)) if count is None else count)
    tiles = [tile(index) for index in chosen]
    if not any(tile.fields for tile in tiles):
        return []
    names = class_names(dataset, "labels")
    classes = numbered(255) if names is None else dataset.classes
    sheet = ContactSheet(
        title=f"{Path(spec).name}: {len(chosen)} of {len(dataset)} frames",
        tiles=tiles,
        names=classes.names,
        colours=classes.colours,
        categories=class_names(dataset, "category") or (),
    )
    return save(sheet, [out], dpi=DPI)


@data.command(cls=Command)
def pseudo_depth(
    source: Annotated[
        str,
        typer.Argument(
            help="A teacher checkpoint of `ckaprobe train`, LeReS's res101.pth, or transformers:NAME_OR_PATH."
        ),
    ],
    data: Annotated[str, typer.Argument(help="scdepth:DIR")],
    gives: Annotated[
        str | None,
        typer.Option(help="What a model of transformers predicts, if it does not say: depth or disparity."),
    ] = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pseudo-depth of another source.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write pseudo-depth of every image for training, in the format of LeReS; prints the folders.

    The same command resumes an interrupted run. Train the teacher on other scenes than these.

    \b
    Example:
      ckaprobe data pseudo-depth teacher.safetensors scdepth:data/nyu
    """
    from cka_probe.lab.pseudo_depth import write_pseudo_depth

    with progress_bar("images", quiet) as progress:
        folders = write_pseudo_depth(
            source, data, gives=gives or "", device=device, overwrite=overwrite, progress=progress
        )
    typer.echo("\n".join(map(str, folders)))
