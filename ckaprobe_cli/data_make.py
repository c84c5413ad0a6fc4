"""`ckaprobe data make`: procedural scenes with every ground truth, laid out as a real data set is."""

from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.bars import progress_bar


def make(
    kind: Annotated[str, typer.Argument(help="rooms, streets or objects.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.", show_default=False)],
    num: Annotated[int, typer.Option(help="How many scenes.")] = 240,
    frames: Annotated[int, typer.Option(help="Images of each, as its camera moves.")] = 2,
    size: Annotated[str, typer.Option(help="Of the images: WIDTHxHEIGHT.")] = "128x96",
    seed: Annotated[int, typer.Option(help="Another seed, other scenes; the same seed, the same bytes.")] = 0,
    layout: Annotated[
        str | None,
        typer.Option(
            help="nyuv2, nyuv2_mat, sc_depth, ibims1, lsun (rooms); kitti, kitti_odometry, kitti_semantics, "
            "cityscapes (streets); imagenet (objects).  [default: nyuv2, kitti, imagenet]",
            show_default=False,
        ),
    ] = None,
    test: Annotated[float, typer.Option(help="Share of the scenes held out from training.")] = 0.25,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    noise: Annotated[float, typer.Option(help="Noise of depth and image; 1 is a Kinect's.")] = 0.0,
    holes: Annotated[float, typer.Option(help="Depth that is missing; 1 is a Kinect's.")] = 0.0,
    lidar: Annotated[int, typer.Option(help="Depth only where a scanner of so many rows hits; 64 is KITTI's.")] = 0,
    jpeg: Annotated[int, typer.Option(help="Images through a JPEG of this quality; 0: not.")] = 0,
    style: Annotated[str, typer.Option(help="How rooms look: day, evening, hall.")] = "day",
) -> None:
    """Make scenes with every ground truth, laid out as a real data set is; prints the folder.

    Open it with the reader of that data set: nyuv2:DIR, kitti:DIR, imagenet:DIR. Interrupted, the same command goes
    on where it was; started several times at once, the runs share the work.
    """
    from cka_probe.lab.scenes import Sensor, Settings, make_scenes, parse_size

    settings = Settings(
        kind, num, frames, parse_size(size), seed, test, layout or "", Sensor(noise, holes, lidar, jpeg), style
    )  # fmt: skip
    with progress_bar("scenes") as progress:
        made = make_scenes(folder, settings, workers=workers, progress=progress)
    typer.echo(made)
